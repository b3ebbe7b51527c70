# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import parse
from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import (
    AUTO,
    DEVICE,
    EXTERNAL,
    FATAL,
    INTERNAL,
    NO_PROPER_ROOT,
    ROOT,
    SKIPPED,
    STACKED,
    UNREACHABLE_SHARING,
    UNSUPPORTED,
    Auto,
    Settings,
    Verdict,
    classify,
    predict,
    predict_all,
    root_mount,
)

HOST = """\
21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 0:20 / /proc rw - proc proc rw
23 21 0:21 / /run rw - tmpfs tmpfs rw
24 21 0:60 / /var/lib/merged rw - overlay overlay rw
25 21 0:6 / /dev rw - devtmpfs udev rw
"""
ROOT_LINE = "100 90 8:1 /srv/box / rw - ext4 /dev/sda1 rw"


def verdict(line: str, root: str = ROOT_LINE) -> Verdict:
    return classify(parse(f"{root}\n{line}"), parse(HOST))[1]


def test_the_root_is_the_mount_at_slash() -> None:
    assert [found.kind for found in classify(parse(ROOT_LINE), parse(HOST))] == [ROOT]


def test_of_mounts_stacked_at_slash_the_last_one_is_the_root() -> None:
    rows = parse(f"99 90 0:2 / / rw - rootfs none rw\n{ROOT_LINE}")
    assert root_mount(rows) is rows[1]
    assert [found.kind for found in classify(rows, [])] == [EXTERNAL, ROOT]


def test_without_a_mount_at_slash_there_is_no_root() -> None:
    rows = parse("101 100 8:1 / /data rw - ext4 a rw")
    assert root_mount(rows) is None
    assert classify(rows, [])[0].kind == EXTERNAL


@pytest.mark.parametrize(
    ("line", "kind", "reason"),
    [
        # binds
        ("101 100 8:1 /srv/box/a /b rw - ext4 /dev/sda1 rw", INTERNAL, "inside the workload's root"),
        ("101 100 8:1 /srv/box /b rw - ext4 /dev/sda1 rw", INTERNAL, "inside the workload's root"),
        ("101 100 8:1 /srv/box2/a /b rw - ext4 /dev/sda1 rw", EXTERNAL, "/srv/box2/a lies outside"),
        ("101 100 8:1 /srv /b rw - ext4 /dev/sda1 rw", EXTERNAL, "lies outside"),
        ("101 100 8:1 /other /b rw - ext4 /dev/sda1 rw", EXTERNAL, "on superblock 8:1"),
        ("101 100 8:2 /srv/box/a /b rw - ext4 /dev/sdb1 rw", EXTERNAL, "on superblock 8:2"),
        # whole file systems
        ("101 100 8:2 / /b rw - ext4 /dev/sdb1 rw", EXTERNAL, "a whole ext4"),
        ("101 100 0:50 / /b rw - nfs4 nas:/b rw", EXTERNAL, "a whole nfs4"),
        ("101 100 0:51 / /b rw - fuse.sshfs a:/b rw", EXTERNAL, "a whole fuse.sshfs"),
        # the workload's own and the host's
        ("101 100 0:52 / /tmp rw - tmpfs tmpfs rw", INTERNAL, "of the workload's own"),
        ("101 100 0:21 / /run rw - tmpfs tmpfs rw", EXTERNAL, "private copy"),
        ("101 100 0:61 / /m rw - overlay overlay rw", INTERNAL, "of the workload's own"),
        ("101 100 0:60 / /m rw - overlay overlay rw", EXTERNAL, "private copy"),
        ("101 100 0:62 / /m rw - autofs systemd-1 rw", INTERNAL, "of the workload's own"),
        ("101 100 0:21 /lock /run/lock rw - tmpfs tmpfs rw", EXTERNAL, "/lock lies outside"),
        # the kernel's, whoever has them mounted
        ("101 100 0:20 / /proc rw - proc proc rw", INTERNAL, "CRIU mounts proc anew"),
        ("101 100 0:53 / /proc rw - proc proc rw", INTERNAL, "CRIU mounts proc anew"),
        ("101 100 0:54 / /sys rw - sysfs sysfs rw", INTERNAL, "CRIU mounts sysfs anew"),
        ("101 100 0:6 / /dev rw - devtmpfs udev rw", INTERNAL, "CRIU mounts devtmpfs anew"),
        ("101 100 0:6 /null /dev/null rw - devtmpfs udev rw", EXTERNAL, "/null lies outside"),
        ("101 100 0:20 /sys /proc/sys ro - proc proc rw", EXTERNAL, "/sys lies outside"),
    ],
)
def test_a_mount_is_judged_as_criu_does_with_the_reason(line: str, kind: str, reason: str) -> None:
    found = verdict(line)
    assert found.kind == kind
    assert reason in found.reason


@pytest.mark.parametrize(
    "fstype", ["binfmt_misc", "devpts", "pstore", "mqueue", "securityfs", "fusectl", "debugfs", "cgroup", "cgroup2"]
)
def test_file_systems_of_the_kernel_are_mounted_anew(fstype: str) -> None:
    assert verdict(f"101 100 0:20 / /k rw - {fstype} none rw").kind == INTERNAL


def test_a_root_that_is_a_whole_file_system_holds_all_binds_of_it() -> None:
    root = "100 90 0:61 / / rw - overlay overlay rw"
    assert verdict("101 100 0:61 /etc /e rw - overlay overlay rw", root).kind == INTERNAL
    assert verdict("101 100 8:1 /etc /e rw - ext4 a rw", root).kind == EXTERNAL


@pytest.mark.parametrize(
    ("whole", "bind"),
    [
        ("101 100 0:52 / /run rw - tmpfs tmpfs rw", "102 100 0:52 /lock /var/lock rw - tmpfs tmpfs rw"),
        ("101 100 0:53 / /proc rw - proc proc rw", "102 101 0:53 /sys /proc/sys ro - proc proc rw"),
    ],
)
def test_a_bind_from_an_internal_mount_of_the_whole_file_system_is_internal(whole: str, bind: str) -> None:
    rows = parse(f"{ROOT_LINE}\n{whole}\n{bind}")
    assert [found.kind for found in classify(rows, parse(HOST))] == [ROOT, INTERNAL, INTERNAL]


def test_a_whole_file_system_mounted_twice_needs_keys() -> None:
    rows = parse(f"{ROOT_LINE}\n101 100 0:50 / /a rw - nfs4 nas:/ rw\n102 100 0:50 / /b rw - nfs4 nas:/ rw")
    assert [found.kind for found in classify(rows, parse(HOST))] == [ROOT, EXTERNAL, EXTERNAL]


def test_what_criu_would_refuse_without_a_key_needs_one() -> None:
    slave = "101 100 8:1 /srv/box/a /a rw master:7 - ext4 /dev/sda1 rw"
    assert "slave of the host's peer group 7" in verdict(slave).reason
    assert verdict(slave).kind == EXTERNAL


# What CRIU does with settings


def predicted(*lines: str, host: str = HOST, **settings: object) -> list[Verdict]:
    """The verdicts for these mounts beside the root."""
    return predict(parse("\n".join([ROOT_LINE, *lines])), parse(host), Settings(**settings))[1:]  # type: ignore[arg-type]


def kinds(*lines: str, host: str = HOST, **settings: object) -> list[str]:
    return [found.kind for found in predicted(*lines, host=host, **settings)]


DATA = "101 100 8:1 /srv/data /data rw - ext4 /dev/sda1 rw"
NFS = "101 100 0:50 / /n rw - nfs4 nas:/ rw"


def test_without_a_key_what_cannot_be_mounted_stops_the_dump() -> None:
    assert kinds(DATA) == [NO_PROPER_ROOT]
    assert kinds(NFS) == [UNSUPPORTED]
    assert {NO_PROPER_ROOT, UNSUPPORTED, UNREACHABLE_SHARING, STACKED} == FATAL


def test_a_key_makes_the_mount_at_exactly_its_mountpoint_external() -> None:
    (found,) = predicted(DATA, keys={"/data": "k"})
    assert (found.kind, found.reason) == (EXTERNAL, "it has the key k")
    assert kinds(DATA, keys={"/data/": "k", "data": "k", "/dat": "k"}) == [NO_PROPER_ROOT]


def test_a_key_is_for_every_mount_at_its_mountpoint() -> None:
    over = "102 101 0:52 / /data rw - tmpfs tmpfs rw"
    assert kinds(DATA, over, keys={"/data": "k"}) == [EXTERNAL, EXTERNAL]


def test_a_key_covers_what_lies_below_it_on_the_same_superblock() -> None:
    below = "102 100 8:1 /srv/data/sub /sub rw - ext4 /dev/sda1 rw"
    beside = "103 100 8:1 /srv/database /beside rw - ext4 /dev/sda1 rw"
    elsewhere = "104 100 8:2 /srv/data/sub /other rw - ext4 /dev/sdb1 rw"
    found = predicted(DATA, below, beside, elsewhere, keys={"/data": "k"})
    assert [one.kind for one in found] == [EXTERNAL, INTERNAL, NO_PROPER_ROOT, NO_PROPER_ROOT]
    assert "inside the mount /data" in found[1].reason


def test_a_key_covers_another_mount_of_the_whole_file_system() -> None:
    assert kinds(NFS, NFS.replace("101 100", "102 100").replace("/n", "/m"), keys={"/n": "k"}) == [EXTERNAL, INTERNAL]


DISK = "101 100 8:17 / /disk rw - ext4 /dev/sdb rw"
PART = "102 100 8:17 /a /part rw - ext4 /dev/sdb rw"


def test_a_bind_of_a_folder_of_a_file_system_that_is_mounted_anew_is_internal() -> None:
    devices = frozenset(["8:17"])
    assert kinds(DISK, PART, DISK.replace("/disk", "/again"), devices=devices) == [DEVICE, INTERNAL, DEVICE]
    assert predicted(DISK, PART, devices=devices)[1].reason == (
        "its root /a lies inside the mount /disk, on the same superblock"
    )
    assert kinds(PART, devices=devices) == [NO_PROPER_ROOT]
    assert kinds(DISK, PART, devices=devices, keys={"/part": "k"}) == [DEVICE, EXTERNAL]
    assert kinds(DISK, devices=devices, enabled_file_systems=frozenset(["ext4"])) == [INTERNAL]


def test_a_device_is_for_nested_mount_namespaces_too() -> None:
    nested = f"{ROOT_LINE}\n{DISK}".replace("101 100", "201 200").replace("100 90", "200 90")
    tables = [parse(f"{ROOT_LINE}\n{DISK}"), parse(nested)]
    verdicts = predict_all(tables, [], Settings(devices=frozenset(["8:17"])))
    assert verdicts[1][1].kind == DEVICE


def test_a_file_system_may_be_declared_known() -> None:
    assert kinds(NFS, enabled_file_systems=frozenset({"nfs4"})) == [INTERNAL]


def test_a_mount_may_be_skipped() -> None:
    assert kinds(DATA, skipped=frozenset({"/data"})) == [SKIPPED]


def test_two_mounts_at_one_mountpoint_of_one_parent_are_refused() -> None:
    twice = "102 100 0:52 / /data rw - tmpfs tmpfs rw"
    assert kinds(DATA, twice, keys={"/data": "k"}) == [STACKED, STACKED]
    stacked = "102 101 0:52 / /data rw - tmpfs tmpfs rw"
    assert kinds(DATA, stacked) == [NO_PROPER_ROOT, INTERNAL]


@pytest.mark.parametrize(
    ("lines", "keys", "expected"),
    [
        (["101 100 8:1 /srv/box/a /a rw master:7 - ext4 /dev/sda1 rw"], {}, [UNREACHABLE_SHARING]),
        (["101 100 8:1 /srv/box/a /a rw master:7 - ext4 /dev/sda1 rw"], {"/a": "k"}, [EXTERNAL]),
        (
            [
                "101 100 8:1 /srv/box/a /a rw shared:7 - ext4 /dev/sda1 rw",
                "102 100 8:1 /srv/box/a /b rw master:7 - ext4 /dev/sda1 rw",
            ],
            {},
            [INTERNAL, INTERNAL],
        ),
        (
            [
                "101 100 8:1 /srv/data /a rw master:7 - ext4 /dev/sda1 rw",
                "102 100 8:1 /srv/data/sub /b rw master:7 - ext4 /dev/sda1 rw",
                "103 100 8:1 /srv/data/sub /c rw master:8 - ext4 /dev/sda1 rw",
            ],
            {"/a": "k"},
            [EXTERNAL, INTERNAL, UNREACHABLE_SHARING],
        ),
    ],
)
def test_a_slave_needs_its_master_inside_or_a_key_to_take_it_from(
    lines: list[str], keys: dict[str, str], expected: list[str]
) -> None:
    assert kinds(*lines, keys=keys) == expected


def test_a_slave_may_take_its_master_from_the_root() -> None:
    root = ROOT_LINE.replace("rw - ", "rw master:7 - ")
    slave = "101 100 8:1 /srv/box/a /a rw master:7 - ext4 /dev/sda1 rw"
    assert [found.kind for found in predict(parse(f"{root}\n{slave}"), [], Settings())] == [ROOT, INTERNAL]


def test_auto_detection_takes_the_earliest_mount_of_the_host_that_shows_it() -> None:
    host = HOST + "26 21 8:1 /srv /late rw - ext4 /dev/sda1 rw\n"
    (found,) = predicted(DATA, host=host, auto=Auto())
    assert (found.kind, found.path) == (AUTO, "/srv/data")
    assert "writes that into the images" in found.reason


def test_auto_detection_prefers_a_mount_of_the_same_peer_group() -> None:
    host = HOST + "26 21 8:1 /srv /late rw shared:7 - ext4 /dev/sda1 rw\n"
    for tag in ("shared:7", "master:7"):
        (found,) = predicted(DATA.replace(" - ", f" {tag} - "), host=host, auto=Auto(shared=True, masters=True))
        assert (found.kind, found.path) == (AUTO, "/late/data")


@pytest.mark.parametrize(
    ("tag", "auto", "kind"),
    [
        ("shared:7", Auto(), NO_PROPER_ROOT),
        ("shared:7", Auto(masters=True), NO_PROPER_ROOT),
        ("shared:7", Auto(shared=True), AUTO),
        ("master:7", Auto(), UNREACHABLE_SHARING),
        ("master:7", Auto(shared=True), UNREACHABLE_SHARING),
        ("master:7", Auto(masters=True), AUTO),
        ("shared:7 master:8", Auto(shared=True), UNREACHABLE_SHARING),
        ("shared:7 master:8", Auto(shared=True, masters=True), AUTO),
    ],
)
def test_auto_detection_of_shared_and_slave_mounts_needs_its_flags(tag: str, auto: Auto, kind: str) -> None:
    host = HOST + "26 21 8:1 /srv /seven rw shared:7 - ext4 /dev/sda1 rw\n"
    host += "27 21 8:1 /srv /eight rw shared:8 - ext4 /dev/sda1 rw\n"
    assert kinds(DATA.replace(" - ", f" {tag} - "), host=host, auto=auto) == [kind]


def test_auto_detection_leaves_a_slave_whose_master_the_host_s_mount_lacks() -> None:
    slave = DATA.replace(" - ", " master:9 - ")
    assert kinds(slave, auto=Auto(masters=True)) == [UNREACHABLE_SHARING]
    # A slave of the same master will do (resolve_external_mounts in CRIU's mount.c).
    host = "".join(line.replace(" - ", " master:9 - ") + "\n" for line in HOST.splitlines())
    assert kinds(slave, host=host, auto=Auto(masters=True)) == [AUTO]


def test_of_several_peers_auto_detection_takes_the_last_line() -> None:
    host = HOST + "".join(
        f"{number} 21 8:1 /srv /peer{number} rw shared:7 - ext4 /dev/sda1 rw\n" for number in (26, 27)
    )
    (found,) = predicted(DATA.replace(" - ", " shared:7 - "), host=host, auto=Auto(shared=True))
    assert found.path == "/peer27/data"


def test_the_same_device_under_another_name_is_another_superblock() -> None:
    renamed = DATA.replace("/dev/sda1", "/dev/disk/by-label/data")
    assert kinds(renamed, auto=Auto()) == [NO_PROPER_ROOT]
    assert kinds(renamed, keys={"/data": "k"}) == [EXTERNAL]
    inside = "102 100 8:1 /srv/box/etc /other rw - ext4 /dev/{} rw"
    assert kinds(inside.format("sda1")) == [INTERNAL]
    assert kinds(inside.format("mapper/sda1")) == [NO_PROPER_ROOT]
    # What has a key is not asked for its name.
    below = DATA.replace("/data", "/data/below").replace("/dev/sda1", "/dev/disk/by-label/data").replace("101 ", "103 ")
    assert kinds(DATA, below, keys={"/data": "k"}) == [EXTERNAL, INTERNAL]


def test_auto_detection_finds_nothing_on_another_superblock_and_a_key_goes_before_it() -> None:
    assert kinds(DATA.replace("8:1", "8:7"), auto=Auto()) == [NO_PROPER_ROOT]
    assert kinds(DATA, auto=Auto(), keys={"/data": "k"}) == [EXTERNAL]


def test_without_auto_detection_the_host_s_mounts_do_not_matter() -> None:
    assert kinds(DATA, host=HOST) == kinds(DATA, host="")


NESTED = (
    "201 200 8:1 /srv/box / rw - ext4 /dev/sda1 rw\n"
    "202 201 8:1 /srv/data /data rw - ext4 /dev/sda1 rw\n"
    "203 201 8:1 /srv/data/below /more rw - ext4 /dev/sda1 rw\n"
    "204 201 0:77 / /odd rw - ramfs ramfs rw\n"
    "205 201 0:78 / /tmp rw - tmpfs tmpfs rw\n"
)


@pytest.mark.parametrize(("keys", "data"), [({"/data": "data"}, "internal"), ({}, "no_proper_root")])
def test_a_nested_mount_namespace_has_no_keys_but_may_bind_from_mounts_that_have(
    keys: dict[str, str], data: str
) -> None:
    root = parse("101 100 8:1 /srv/box / rw - ext4 /dev/sda1 rw\n102 101 8:1 /srv/data /data rw - ext4 /dev/sda1 rw\n")
    _own, nested = predict_all([root, parse(NESTED)], (), Settings(keys=keys))
    assert [verdict.kind for verdict in nested] == ["root", data, data, "unsupported", "internal"]


def test_a_key_is_not_for_a_nested_mount_at_the_same_place() -> None:
    root = parse("101 100 8:1 /srv/box / rw - ext4 /dev/sda1 rw\n")
    _own, nested = predict_all([root, parse(NESTED)], (), Settings(keys={"/odd": "odd"}))
    assert nested[3].kind == "unsupported"
