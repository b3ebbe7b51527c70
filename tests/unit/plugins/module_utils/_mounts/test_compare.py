# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._mounts.compare import differences


def mount(mountpoint: str, kind: str, fstype: str, root: str, *options: str) -> dict[str, Any]:
    return {
        "mountpoint": mountpoint,
        "kind": kind,
        "fstype": fstype,
        "root": root,
        "mount_options": list(options),
        "shared": None,
        "master": None,
    }


ROOT = mount("/", "root", "ext4", "/srv/box", "rw", "relatime")
DATA = mount("/data", "external", "ext4", "/d", "rw", "nosuid")
PROC = mount("/proc", "internal", "proc", "/", "rw")
BEFORE = [ROOT, DATA, PROC]
PATHS = {"/": "/srv/new", "/data": "/mnt/data"}


def compare(*live: dict[str, Any], elsewhere: str = "") -> list[str]:
    """The differences, when all but the mountpoint `elsewhere` is at its path."""
    return differences(BEFORE, live, PATHS, lambda path, mountpoint: mountpoint != elsewhere)


def test_the_same_mounts_are_no_difference() -> None:
    assert compare(ROOT, DATA, PROC) == []
    assert compare(PROC, DATA, ROOT) == []


def test_what_is_asked_for_each_mount_is_its_path_at_its_mountpoint() -> None:
    asked = []
    differences(BEFORE, BEFORE, PATHS, lambda path, mountpoint: bool(asked.append((path, mountpoint))) or True)
    assert asked == [("/srv/new", "/"), ("/mnt/data", "/data")]


def test_a_mount_that_is_gone_or_new_is_named() -> None:
    assert compare(ROOT, PROC) == ["/data was mounted 1 times, and is now 0 times"]
    new = {**PROC, "mountpoint": "/new"}
    assert compare(ROOT, DATA, PROC, new) == ["/new was mounted 0 times, and is now 1 times"]
    assert compare(ROOT, DATA, DATA, PROC) == ["/data was mounted 1 times, and is now 2 times"]


@pytest.mark.parametrize("option", ["ro", "nosuid", "nodev", "noexec"])
def test_options_that_change_what_a_workload_may_do_are_compared(option: str) -> None:
    with_it, without_it = ({**PROC, "mount_options": options} for options in (["rw", option], ["rw"]))
    assert differences([with_it], [without_it], {}, lambda *_arguments: True) == [
        f"/proc is no longer mounted {option}"
    ]
    assert differences([without_it], [with_it], {}, lambda *_arguments: True) == [f"/proc is now mounted {option}"]


@pytest.mark.parametrize("option", ["relatime", "noatime", "rw"])
def test_other_options_are_each_host_s_own_choice(option: str) -> None:
    assert compare({**ROOT, "mount_options": [option]}, DATA, PROC) == []


@pytest.mark.parametrize(("tag", "word"), [("shared", "shared"), ("master", "a slave")])
def test_propagation_is_compared_and_the_numbers_of_peer_groups_are_not(tag: str, word: str) -> None:
    assert compare(ROOT, {**DATA, tag: 7}, PROC) == [f"/data is now {word}"]
    before = [{**DATA, tag: 7}]
    assert differences(before, [{**DATA, tag: 9}], PATHS, lambda *_arguments: True) == []
    assert differences(before, [DATA], PATHS, lambda *_arguments: True) == [f"/data is no longer {word}"]


def test_the_root_or_an_external_mount_from_elsewhere_is_named_with_the_path_that_was_meant() -> None:
    assert compare(ROOT, DATA, PROC, elsewhere="/data") == ["/data is not /mnt/data of this host"]
    assert compare(ROOT, DATA, PROC, elsewhere="/") == ["/ is not /srv/new of this host"]
    assert compare(ROOT, DATA, PROC, elsewhere="/proc") == []


def test_an_internal_mount_keeps_its_file_system_type() -> None:
    assert compare(ROOT, DATA, {**PROC, "fstype": "ext4"}) == ["/proc was a proc and is now a ext4"]


def test_the_root_and_external_mounts_may_be_of_another_file_system_at_the_target() -> None:
    assert compare({**ROOT, "fstype": "xfs"}, {**DATA, "fstype": "nfs4"}, PROC) == []


def test_a_bind_inside_the_root_follows_the_root_s_file_system_type() -> None:
    root = {**PROC, "mountpoint": "/", "kind": "root", "fstype": "ext4", "root": "/srv/box", "major": 8, "minor": 1}
    bind = {**root, "mountpoint": "/b", "kind": "internal", "root": "/srv/box/b"}
    live = [{**root, "fstype": "xfs"}, {**bind, "fstype": "xfs"}]
    assert differences([root, bind], live, {}, lambda *_arguments: True) == []
    elsewhere = {**bind, "minor": 2}
    assert differences([root, elsewhere], live, {}, lambda *_arguments: True) != []


@pytest.mark.parametrize(
    "changes",
    [
        {"mount_options": ["ro", "nosuid", "noexec"]},
        {"fstype": "tmpfs"},
        {"shared": 7},
        {"root": "/elsewhere"},
    ],
)
def test_how_an_engine_makes_its_own_mounts_is_its_own_affair(changes: dict[str, Any]) -> None:
    owned = {**PROC, "kind": "engine"}
    assert (
        differences([ROOT, DATA, owned], [ROOT, DATA, {**PROC, **changes}], PATHS, lambda path, mountpoint: True) == []
    )


def test_a_mount_of_an_engine_that_is_gone_or_new_is_named_all_the_same() -> None:
    owned = {**PROC, "kind": "engine"}
    found = differences([ROOT, DATA, owned], [ROOT, DATA], PATHS, lambda path, mountpoint: True)
    assert found == ["/proc was mounted 1 times, and is now 0 times"]
    found = differences([ROOT, DATA, owned], [ROOT, DATA, PROC, PROC], PATHS, lambda path, mountpoint: True)
    assert found == ["/proc was mounted 1 times, and is now 2 times"]


def test_a_root_that_the_engine_makes_is_not_looked_for_anywhere() -> None:
    owned = {**ROOT, "kind": "engine"}
    live = [{**ROOT, "fstype": "overlay", "mount_options": ["rw", "nodev"]}, DATA, PROC]
    assert (
        differences([owned, DATA, PROC], live, {"/data": "/mnt/data"}, lambda path, mountpoint: path == "/mnt/data")
        == []
    )


def test_every_difference_is_reported_once() -> None:
    found = compare({**ROOT, "mount_options": ["ro"]}, {**DATA, "mount_options": ["rw"]}, elsewhere="/data")
    assert found == [
        "/proc was mounted 1 times, and is now 0 times",
        "/ is now mounted ro",
        "/data is no longer mounted nosuid",
        "/data is not /mnt/data of this host",
    ]
    twice = differences([DATA, DATA], [DATA, DATA], PATHS, lambda *_arguments: False)
    assert twice == ["/data is not /mnt/data of this host"]
