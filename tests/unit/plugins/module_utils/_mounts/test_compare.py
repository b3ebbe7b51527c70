# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random
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


def row(mount_id: int, parent_id: int, mountpoint: str, fstype: str = "tmpfs", **fields: Any) -> dict[str, Any]:
    made = mount(mountpoint, "internal", fstype, "/", "rw")
    return {**made, "mount_id": mount_id, "parent_id": parent_id, **fields}


TOP = {**row(1, 0, "/", "ext4"), "kind": "root", "root": "/srv/box"}


def itself(table: list[dict[str, Any]]) -> list[str]:
    return differences(table, table, {}, lambda *_arguments: True)


def turned(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same mounts with other IDs and in another order."""
    return [{**each, "mount_id": 900 - each["mount_id"], "parent_id": 900 - each["parent_id"]} for each in table[::-1]]


def test_unlike_mounts_stacked_at_one_mountpoint_are_no_difference() -> None:
    stacked = [TOP, row(2, 1, "/sys", "sysfs", mount_options=["ro"]), row(3, 2, "/sys"), row(4, 3, "/sys", "proc")]
    assert itself(stacked) == []
    assert differences(stacked, turned(stacked), {}, lambda *_arguments: True) == []


def test_stacked_mounts_in_another_order_are_named() -> None:
    stacked = [TOP, row(2, 1, "/sys", "sysfs"), row(3, 2, "/sys")]
    swapped = [TOP, row(2, 1, "/sys"), row(3, 2, "/sys", "sysfs")]
    assert differences(stacked, swapped, {}, lambda *_arguments: True) == [
        "/sys was a sysfs and is now a tmpfs",
        "/sys was a tmpfs and is now a sysfs",
    ]


def test_a_mount_that_is_seen_where_it_was_covered_is_named() -> None:
    covered = [TOP, row(2, 1, "/a/b"), row(3, 1, "/a")]
    seen = [TOP, row(2, 3, "/a/b"), row(3, 1, "/a")]
    asked = differences(covered, seen, {}, lambda *_arguments: True)
    assert asked == ["/a/b is now mounted in the mount at /a instead of that at /"]
    assert differences(seen, covered, {}, lambda *_arguments: True) != []
    assert itself(covered) == itself(seen) == []


def test_a_mount_in_another_one_of_a_stack_is_named_and_what_is_in_it_is_not() -> None:
    stack = [TOP, row(2, 1, "/a"), row(3, 2, "/a")]
    lower = [*stack, row(4, 2, "/a/b"), row(5, 4, "/a/b/c")]
    upper = [*stack, row(4, 3, "/a/b"), row(5, 4, "/a/b/c")]
    assert differences(lower, upper, {}, lambda *_arguments: True) == ["/a/b is now mounted in another mount at /a"]


@pytest.mark.parametrize("parent", [1, 3])
def test_only_what_is_seen_is_asked_for_its_path(parent: int) -> None:
    external = row(2, parent, "/a/b", "ext4", kind="external")
    table = [TOP, external, row(3, 1, "/a")]
    found = differences(table, table, {"/": "/srv/new", "/a/b": "/mnt/b"}, lambda path, mountpoint: mountpoint == "/")
    assert found == ([] if parent == 1 else ["/a/b is not /mnt/b of this host"])


def test_an_external_mount_under_another_at_its_own_mountpoint_is_covered() -> None:
    table = [TOP, row(2, 1, "/a", "ext4", kind="external"), row(3, 2, "/a")]
    assert differences(table, table, {"/a": "/mnt/a"}, lambda *_arguments: False) == []


def test_a_table_whose_parents_lead_round_in_a_circle_is_compared_all_the_same() -> None:
    circle = [row(1, 2, "/a"), row(2, 1, "/b"), row(3, 3, "/c")]
    assert itself(circle) == []
    external = [{**each, "kind": "external"} for each in circle]
    differences(external, external, {"/a": "/x", "/b": "/y"}, lambda *_arguments: True)


def random_table(dice: random.Random) -> list[dict[str, Any]]:
    """A tree of mounts in which many are stacked or covered."""
    table = [TOP]
    for number in range(2, dice.randint(3, 14)):
        parent = dice.choice(table)
        folder = parent["mountpoint"].rstrip("/")
        table.append(
            row(
                number,
                parent["mount_id"],
                dice.choice([parent["mountpoint"], f"{folder}/a", f"{folder}/b", f"{folder}/a/b"]),
                dice.choice(["tmpfs", "sysfs", "proc"]),
                kind=dice.choice(["internal", "internal", "external", "engine"]),
                mount_options=[dice.choice(["rw", "ro"]), *(["nosuid"] if dice.random() < 0.3 else [])],
                shared=dice.choice([None, 7]),
                master=dice.choice([None, 8]),
            )
        )
    return table


def shuffled(table: list[dict[str, Any]], dice: random.Random) -> list[dict[str, Any]]:
    identities = [each["mount_id"] for each in table]
    given = dict(zip(identities, dice.sample(range(100, 1000), len(identities))))
    renamed = [
        {**each, "mount_id": given[each["mount_id"]], "parent_id": given.get(each["parent_id"], 5)} for each in table
    ]
    return dice.sample(renamed, len(renamed))


def test_no_stacking_order_or_numbering_is_a_difference() -> None:
    for seed in range(500):
        dice = random.Random(seed)
        table = random_table(dice)
        assert differences(table, shuffled(table, dice), {}, lambda *_arguments: True) == [], seed


def test_each_single_change_is_found_in_whatever_is_stacked() -> None:
    for seed in range(300):
        dice = random.Random(seed)
        # What an engine or the target has a say in may change.
        table = [TOP, *({**each, "kind": "internal"} for each in random_table(dice)[1:])]
        victim = dice.choice(table[1:])
        options = victim["mount_options"]
        changes: list[dict[str, Any]] = [
            {"fstype": "mqueue"},
            {"mount_options": ["ro" if "rw" in options else "rw", *options[1:]]},
            {"mount_options": [*options, "noexec"]},
            {"shared": 9 if victim["shared"] is None else None},
            {"master": 9 if victim["master"] is None else None},
        ]
        tables = [[{**each, **change} if each is victim else each for each in table] for change in changes]
        for changed in [*tables, [each for each in table if each is not victim], [*table, {**victim, "mount_id": 99}]]:
            assert differences(table, shuffled(changed, dice), {}, lambda *_arguments: True) != [], (seed, changed)
