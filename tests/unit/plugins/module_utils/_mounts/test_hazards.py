# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hazards are found from a plan and the target's mountinfo, with the severity that is wanted."""

from __future__ import annotations

from typing import Any, Sequence

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._mounts.hazards import (
    SEVERITIES,
    find_hazards,
    with_severities,
)
from ansible_collections.fleet.criu.plugins.module_utils._mounts.plan import Entry, Gap, Mount
from ansible_collections.fleet.criu.plugins.module_utils._mounts.sources import HostMounts
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import parse

TARGET = HostMounts(
    parse(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "2 1 8:2 / /ro ro - ext4 /dev/sda2 rw\n"
        "3 1 8:3 / /safe rw,nosuid,nodev - ext4 /dev/sda3 rw\n"
        "4 1 8:4 / /shared rw shared:7 - ext4 /dev/sda4 rw\n"
    )
)


def entry(mountpoint: str, path: str, data: str = "present", **fields: Any) -> Entry:
    values: dict[str, Any] = {
        "mount_id": 1,
        "mountpoint": mountpoint,
        "kind": "external",
        "type": "directory",
        "fstype": "ext4",
        "host_path": mountpoint,
        "root": mountpoint,
        "major": 9,
        "minor": 1,
        "mount_options": ("rw",),
        **fields,
    }
    return Entry(Mount(**values), mountpoint, path, "a rule", data)


def codes(*entries: Entry) -> list[tuple[str, str]]:
    return [(gap.code, gap.mountpoint) for gap in find_hazards(entries, TARGET)]


def test_a_plain_mount_is_no_hazard() -> None:
    assert codes(entry("/data", "/srv/data")) == []


def test_a_path_on_a_read_only_mount_could_be_written_after_a_restore() -> None:
    assert codes(entry("/data", "/ro/data")) == [("lost_read_only", "/data")]


def test_a_mount_that_is_read_only_in_the_workload_too_loses_nothing() -> None:
    assert codes(entry("/data", "/ro/data", mount_options=("ro",))) == []


def test_other_flags_of_the_target_are_lost_too() -> None:
    (gap,) = find_hazards([entry("/data", "/safe/data")], TARGET)
    assert (gap.code, "nosuid, nodev" in gap.reason) == ("lost_flags", True)


def test_sharing_with_the_host_turns_internal() -> None:
    assert codes(entry("/data", "/srv", shared=3, shared_with_host=True)) == [("sharing_turns_internal", "/data")]


@pytest.mark.parametrize(("path", "found"), [("/srv", [("slave_without_master", "/data")]), ("/shared/data", [])])
def test_a_slave_needs_a_path_that_is_shared_or_slave(path: str, found: list[tuple[str, str]]) -> None:
    assert codes(entry("/data", path, master=3)) == found


def test_the_root_may_be_a_slave_as_well() -> None:
    assert codes(entry("/", "/srv", kind="root", master=3)) == [("slave_without_master", "/")]


def test_one_path_for_two_different_mounts() -> None:
    found = codes(entry("/a", "/srv"), entry("/b", "/srv"))
    assert found == [("one_path_for_two_keys", "/a"), ("one_path_for_two_keys", "/b")]


def test_one_path_for_the_same_folder_at_two_places_is_right() -> None:
    assert codes(entry("/a", "/srv", root="/x"), entry("/b", "/srv", root="/x")) == []


def test_two_folders_that_the_target_has_as_one() -> None:
    target = HostMounts(parse("1 0 8:1 / / rw - ext4 a rw\n2 1 8:1 /srv/one /other rw - ext4 a rw"))
    gaps = find_hazards([entry("/a", "/srv/one/x"), entry("/b", "/other/x"), entry("/c", "/other")], target)
    assert [(gap.code, gap.mountpoint) for gap in gaps] == [
        ("one_path_for_two_keys", "/a"),
        ("one_path_for_two_keys", "/b"),
    ]
    assert "/other/x and /srv/one/x would be mounted at /a and /b" in gaps[0].reason


@pytest.mark.parametrize(
    ("root", "path", "is_split"),
    [
        ("/x", "/srv", False),
        ("/x", "/srv2", True),
        ("/x", "/bind", False),  # one folder of the target at two paths
        ("/x/y/z", "/srv/y/z", False),
        ("/x/y/z", "/bind/y/z", False),
        ("/x/y/z", "/srv/z", True),
        ("/x/y/z", "/srv/disk/z", True),
        ("/x/disk", "/srv/disk", True),  # to the workload, nothing is mounted in /srv
        ("/xy", "/srv2", False),
    ],
)
def test_one_folder_must_not_become_two(root: str, path: str, is_split: bool) -> None:
    host = (
        "1 0 8:1 / / rw - ext4 a rw\n2 1 8:1 /srv /bind rw - ext4 a rw\n3 1 8:2 / /srv/disk rw - ext4 b rw\n"
        "4 1 8:1 / /mnt rw - ext4 a rw"
    )
    outer, inner = entry("/a", "/srv", root="/x"), entry("/b", path, root=root)
    gaps = [gap for gap in find_hazards([outer, inner], HostMounts(parse(host))) if gap.code == "folder_split"]
    places = (["/a", "/b"] if root == "/x" else ["/b"]) if is_split else []
    assert [gap.mountpoint for gap in gaps] == places
    if is_split:
        assert gaps[-1].severity == "error"
        assert f"at the source, and would be another one at the target ({path}, while that is /srv" in gaps[-1].reason
        assert gaps[-1].remedy == f"Choose /srv{root[2:]} for it."


@pytest.mark.parametrize(
    "fields", [{"fstype": "sysfs"}, {"fstype": "devtmpfs"}, {"type": "other"}, {"major": 0, "minor": 0}, {"minor": 2}]
)
def test_what_is_the_same_everywhere_is_not_split(fields: dict[str, Any]) -> None:
    outer, inner = (entry(name, f"/srv{name}", root="/x", **fields) for name in ("/a", "/b"))
    other = outer if "minor" not in fields or "major" in fields else entry("/a", "/srv/a", root="/x")
    assert "folder_split" not in [code for code, _mountpoint in codes(other, inner)]


def test_a_sharing_group_on_two_superblocks() -> None:
    found = codes(entry("/a", "/srv", shared=3), entry("/b", "/ro/b", shared=3, mount_options=("ro",)))
    assert found == [("sharing_group_split", "/a"), ("sharing_group_split", "/b")]


# One file system, seen at several places of the target.
GROUPS = HostMounts(
    parse(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "2 1 8:2 / /whole rw shared:7 - ext4 /dev/sdb rw\n"
        "3 1 8:2 /x /x rw shared:8 - ext4 /dev/sdb rw\n"
        "4 1 8:2 / /peer rw shared:7 - ext4 /dev/sdb rw\n"
        "5 1 8:2 / /other rw shared:9 - ext4 /dev/sdb rw\n"
        "6 1 8:2 /y /y rw shared:7 - ext4 /dev/sdb rw\n"
        "7 1 8:3 / /third rw shared:11 - ext4 /dev/sdc rw\n"
    )
)


def split(*given: Entry, inside: Sequence[Mount] = ()) -> list[str]:
    """The mountpoints that are told to come apart."""
    mounts = [*(each.mount for each in given), *inside]
    gaps = find_hazards(list(given), GROUPS, mounts)
    return sorted({gap.mountpoint for gap in gaps if gap.code == "sharing_group_split"})


@pytest.mark.parametrize(
    ("one", "other", "is_split"),
    [
        ("/whole/a", "/whole/b", False),
        ("/whole/a", "/peer/b", False),  # a peer that shows as much
        ("/whole/a", "/x/b", True),
        ("/x/a", "/x/b", False),
        ("/whole/a", "/other/b", True),  # what is mounted there later comes to one of them alone
        ("/whole/a", "/y/b", True),  # a peer that shows less
        ("/whole/a", "/third/b", True),
    ],
)
def test_slaves_of_one_mount_need_one_mount_of_the_target(one: str, other: str, is_split: bool) -> None:
    given = entry("/a", one, root="/srv/a", master=3), entry("/b", other, root="/srv/b", master=3)
    assert split(*given) == (["/a", "/b"] if is_split else [])
    assert split(*given[::-1]) == (["/a", "/b"] if is_split else [])


def test_slaves_that_share_among_each_other_need_one_mount_too() -> None:
    given = entry("/a", "/whole/a", root="/srv", master=3), entry("/b", "/x/b", root="/srv/b", master=3, shared=9)
    assert split(*given) == ["/a", "/b"]


def test_slaves_of_different_mounts_need_no_common_one() -> None:
    assert split(entry("/a", "/whole/a", master=3), entry("/b", "/x/b", master=4)) == []


@pytest.mark.parametrize("sharing", [{"master": 3}, {"shared": 3}])
@pytest.mark.parametrize(
    ("inner", "is_split"),
    [("/whole/a/in", False), ("/whole/a/deep/er", False), ("/whole/b", True), ("/whole/a", False)],
)
def test_what_lies_inside_another_of_its_group_must_do_so_at_the_target(
    sharing: dict[str, int], inner: str, is_split: bool
) -> None:
    given = entry("/a", "/whole/a", root="/srv/a", **sharing), entry("/b", inner, root="/srv/a/in", **sharing)
    assert split(*given) == (["/a", "/b"] if is_split else [])


def test_the_remedy_is_the_path_at_which_it_works() -> None:
    given = [entry("/a", "/whole/a", root="/srv/a", shared=3), entry("/b", "/whole/b", root="/srv/a/in", shared=3)]
    gaps = [gap for gap in find_hazards(given, GROUPS) if gap.code == "sharing_group_split"]
    assert {gap.remedy for gap in gaps} == {
        "Write in criu_mount_rules of the target: {mountpoint: '/b', source: /whole/a/in}"
    }


@pytest.mark.parametrize(("other", "is_split"), [("/whole/a", False), ("/peer/a", False), ("/whole/a/b", True)])
def test_one_folder_in_two_places_of_a_group_stays_one(other: str, is_split: bool) -> None:
    given = entry("/a", "/whole/a", root="/srv", shared=3), entry("/b", other, root="/srv", shared=3)
    assert split(*given) == (["/a", "/b"] if is_split else [])


def test_shared_mounts_of_which_none_holds_the_other_cannot_be_restored() -> None:
    given = entry("/a", "/whole/a", root="/srv/a", shared=3), entry("/b", "/whole/b", root="/srv/b", shared=3)
    assert split(*given) == ["/a", "/b"]
    holder = entry("/c", "/whole", root="/srv", shared=3)
    assert split(*given, holder) == []


def test_a_slave_of_a_mount_inside_must_lie_in_it() -> None:
    master = entry("/a", "/whole/a", root="/srv/a", shared=3)
    assert split(master, entry("/b", "/whole/a/b", root="/srv/a/b", master=3)) == []
    assert split(master, entry("/b", "/whole/b", root="/srv/a/b", master=3)) == ["/a", "/b"]


def test_the_root_and_what_is_bound_from_inside_it_go_together() -> None:
    root = entry("/", "/whole/r", kind="root", root="/srv/r", master=3)
    bind = entry("/b", "", kind="internal", root="/srv/r/b", master=3).mount
    own = entry("/t", "", kind="internal", root="/", fstype="tmpfs", minor=9, shared=5).mount
    assert split(root, inside=[bind, own, own]) == []
    assert split(root, entry("/a", "/x/a", root="/srv/a", master=3), inside=[own]) == ["/", "/a"]


def test_a_slave_inside_a_slave_root_must_not_be_the_last_of_those_from_outside() -> None:
    root = entry("/", "/whole/r", kind="root", root="/srv/r", master=3)
    bind = entry("/b", "", kind="internal", root="/srv/r/b", master=3).mount
    outer = entry("/a", "/whole/a", root="/srv/a", master=3)

    def told(*mounts: Mount) -> set[str]:
        gaps = find_hazards([root, outer], GROUPS, mounts)
        return {gap.mountpoint for gap in gaps if gap.code == "sharing_group_split"}

    assert told(root.mount, outer.mount, bind) == {"/a", "/b"}
    assert told(root.mount, bind, outer.mount) == set()
    assert told(root.mount, outer.mount) == set()


def test_one_superblock_on_two() -> None:
    found = codes(entry("/a", "/srv"), entry("/b", "/shared/b"))
    assert found == [("superblock_split", "/a"), ("superblock_split", "/b")]


def test_a_severity_is_the_default_unless_another_is_wanted() -> None:
    gaps = [Gap("lost_flags", "/a", "", ""), Gap("lost_read_only", "/b", "", ""), Gap("no_rule", "/c", "", "")]
    assert [gap.severity for gap in with_severities(gaps, {})] == ["warning", "error", "error"]
    changed = with_severities(gaps, {"lost_flags": "ignore", "lost_read_only": "warning"})
    assert [(gap.code, gap.severity) for gap in changed] == [("lost_read_only", "warning"), ("no_rule", "error")]


@pytest.mark.parametrize("wanted", [{"no_rule": "ignore"}, {"lost_flags": "fatal"}, {"unheard_of": "error"}])
def test_a_severity_that_cannot_be_set_is_refused(wanted: dict[str, str]) -> None:
    with pytest.raises(CriuError, match="cannot set"):
        with_severities([], wanted)


def test_every_severity_is_one() -> None:
    assert set(SEVERITIES.values()) <= {"error", "warning"}
