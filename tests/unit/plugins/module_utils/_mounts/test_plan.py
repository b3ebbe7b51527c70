# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, Sequence

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._mounts.plan import Gap, Mount, Plan, make_plan
from ansible_collections.fleet.criu.plugins.module_utils._mounts.rules import Rule, parse_rules

ROOT = Mount(1, "/", "root", "directory", "ext4", "/srv/box", "/srv/box")
DATA = Mount(2, "/data", "external", "directory", "ext4", "/srv/data", "/srv/data")
CONF = Mount(3, "/etc/app.conf", "external", "file", "ext4", "/etc/app.conf", "/etc/app.conf")
PROC = Mount(4, "/proc", "internal", "directory", "proc", None)

HOME = {"mountpoint": "/", "source": "/new/box"}


def plan(
    mounts: Sequence[Mount],
    *rules: Mapping[str, Any],
    keep: bool = False,
    data: Mapping[str, str] | None = None,
) -> Plan:
    return make_plan(mounts, parse_rules(rules), keep, data)


def codes(found: Plan) -> list[tuple[str, str]]:
    return [(gap.code, gap.mountpoint) for gap in found.gaps]


def changed(mount: Mount, **fields: Any) -> Mount:
    return Mount(**{**vars(mount), **fields})


def only_gap(found: Plan) -> Gap:
    assert len(found.gaps) == 1, found.gaps
    return found.gaps[0]


def test_a_plan_has_the_root_and_a_key_and_path_for_each_external_mount() -> None:
    found = plan([ROOT, DATA, PROC, CONF], HOME, {"prefix": "/srv", "replace": "/ssd"}, {"prefix": "/", "keep": True})
    assert found.gaps == []
    assert found.root == "/new/box"
    assert found.dump_map == [
        {"mountpoint": "/data", "key": "/data"},
        {"mountpoint": "/etc/app.conf", "key": "/etc/app.conf"},
    ]
    assert found.restore_map == [
        {"key": "/data", "path": "/ssd/data"},
        {"key": "/etc/app.conf", "path": "/etc/app.conf"},
    ]
    assert [entry.rule for entry in found.entries] == ["mountpoint: /", "prefix: /srv", "prefix: /"]


HOST = changed(ROOT, host_path="/", root="/machines/one")


@pytest.mark.parametrize(
    ("rules", "keep", "data"),
    [
        ([], False, None),
        ([], True, {"/": "present", "/nowhere": "sync"}),
        ([{"prefix": "/", "keep": True}], False, None),
        ([{"mountpoint": "/", "source": "/"}], False, None),
        ([HOME], False, {"/": "sync"}),
    ],
)
def test_the_host_s_own_root_is_the_one_gap(rules: Any, keep: bool, data: Any) -> None:
    found = plan([HOST, DATA, CONF, PROC, changed(DATA, deleted=True)], *rules, keep=keep, data=data)
    gap = only_gap(found)
    assert (gap.code, gap.mountpoint) == ("host_root", "/")
    assert "the host's own root" in gap.reason
    assert "RootDirectory=" in gap.remedy
    assert (found.entries, found.root, found.unused_rules) == ((), None, ())


def test_a_copy_of_the_host_s_system_may_be_in_a_folder_of_the_target() -> None:
    found = plan([HOST, DATA], HOME, keep=True)
    assert (found.gaps, found.root) == ([], "/new/box")
    assert codes(plan([changed(DATA, host_path="/"), ROOT], HOME, keep=True)) == []


def test_an_entry_in_plain_types_has_all_that_a_person_wants_to_see() -> None:
    found = plan([DATA], {"mountpoint": "/data", "source": "/ssd", "key": "k"}, data={"/data": "shared"})
    assert [entry.as_dict() for entry in found.entries] == [
        {
            "mountpoint": "/data",
            "kind": "external",
            "type": "directory",
            "fstype": "ext4",
            "host_path": "/srv/data",
            "key": "k",
            "path": "/ssd",
            "rule": "mountpoint: /data",
            "data": "shared",
            "device": None,
            "create": None,
            "copied_with": None,
        }
    ]


@pytest.mark.parametrize("fstype", ["sysfs", "devtmpfs", "cgroup2", "autofs"])
def test_what_is_the_kernel_s_is_not_copied(fstype: str) -> None:
    kernel = changed(DATA, fstype=fstype)
    gap = only_gap(plan([kernel], keep=True, data={"/data": "sync"}))
    assert (gap.code, gap.mountpoint) == ("not_copyable", "/data")
    assert f"a {fstype} is the kernel's own" in gap.reason
    assert plan([kernel], keep=True).gaps == []


WHOLE = Mount(7, "/disk", "external", "directory", "ext4", "/mnt/disk", root="/", major=8, minor=17)


def test_a_whole_file_system_may_be_mounted_anew_from_a_device() -> None:
    found = plan([WHOLE], {"mountpoint": "/disk", "device": "/dev/vdb", "key": "disk"})
    assert found.gaps == []
    assert found.dump_map == [{"mountpoint": "/disk", "key": "disk", "device": "8/17"}]
    assert found.restore_map == [{"key": "disk", "path": "/dev/vdb", "device": True}]


PART = dataclasses.replace(WHOLE, mount_id=8, mountpoint="/part", host_path="/mnt/disk/a", root="/a")
ANEW = {"mountpoint": "/disk", "device": "/dev/vdb"}


@pytest.mark.parametrize(
    "further",
    [
        {},
        {"rules": [{"mountpoint": "/part", "device": "/dev/vdb"}]},
        {"rules": [{"prefix": "/mnt", "replace": "/ssd"}]},
        {"keep": True},
        {"data": {"/part": "present"}},
    ],
)
def test_what_else_is_mounted_of_a_file_system_that_is_mounted_anew_comes_with_it(further: dict[str, Any]) -> None:
    again = dataclasses.replace(WHOLE, mount_id=9, mountpoint="/again")
    for mounts in ([WHOLE, PART, again], [PART, WHOLE, again]):
        found = plan(mounts, ANEW, *further.get("rules", ()), keep="keep" in further, data=further.get("data"))
        assert found.gaps == []
        assert found.dump_map == [{"mountpoint": "/disk", "key": "/disk", "device": "8/17"}]
        assert "mountpoint: /part" not in found.unused_rules


def test_a_rule_for_the_mountpoint_goes_before_the_device() -> None:
    found = plan([WHOLE, PART], ANEW, {"mountpoint": "/part", "source": "/mnt/vdb/a"})
    assert found.gaps == []
    assert found.dump_map[1] == {"mountpoint": "/part", "key": "/part"}
    root = dataclasses.replace(PART, mountpoint="/", kind="root")
    assert plan([WHOLE, root], ANEW, {"prefix": "/mnt", "replace": "/ssd"}).root == "/ssd/disk/a"


def test_what_comes_with_a_device_can_still_be_wrong() -> None:
    other = {"mountpoint": "/part", "device": "/dev/vdc"}
    assert codes(plan([WHOLE, PART], ANEW, other)) == [("contradicting_rules", "/part")]
    assert codes(plan([WHOLE, changed(PART, deleted=True)], ANEW)) == [("deleted_root", "/part")]
    assert codes(plan([WHOLE, PART], ANEW, data={"/part": "sync"})) == [("unknown_data", "/part")]
    assert codes(plan([WHOLE, changed(PART, minor=18)], ANEW)) == [("no_rule", "/part")]


@pytest.mark.parametrize(
    ("fields", "data"),
    [({"root": "/part"}, "present"), ({"major": 0}, "present"), ({}, "sync"), ({"kind": "root"}, "present")],
)
def test_what_is_no_whole_file_system_of_a_device_is_not(fields: dict[str, Any], data: str) -> None:
    mount = dataclasses.replace(WHOLE, **fields)
    found = plan([mount], {"mountpoint": "/disk", "device": "/dev/vdb"}, data={"/disk": data})
    assert "not_a_device" in [gap.code for gap in found.gaps]


def test_the_key_of_a_rule_is_used_on_both_sides_and_an_empty_one_is_none() -> None:
    found = plan([DATA], {"mountpoint": "/data", "source": "/ssd", "key": "storage"})
    assert found.dump_map == [{"mountpoint": "/data", "key": "storage"}]
    assert found.restore_map == [{"key": "storage", "path": "/ssd"}]
    assert plan([DATA], {"mountpoint": "/data", "source": "/ssd", "key": ""}).restore_map[0]["key"] == "/data"


def test_the_root_has_no_key() -> None:
    found = plan([ROOT], {**HOME, "key": "ignored"})
    assert (found.dump_map, found.restore_map, found.gaps) == ([], [], [])


def test_a_plan_without_root_has_none() -> None:
    assert plan([DATA], keep=True).root is None


@pytest.mark.parametrize("mount", [ROOT, DATA, CONF])
def test_a_mount_that_no_rule_covers_is_a_gap_that_says_what_to_write(mount: Mount) -> None:
    gap = only_gap(plan([mount], {"prefix": "/elsewhere", "keep": True}))
    assert (gap.code, gap.mountpoint) == ("no_rule", mount.mountpoint)
    assert str(mount.host_path) in gap.reason
    assert gap.remedy == (
        f"Write in criu_mount_rules of the target: {{mountpoint: '{mount.mountpoint}', source: PATH}}"
    )


def test_the_reason_names_what_has_no_rule() -> None:
    assert "the workload's root (/srv/box)" in only_gap(plan([ROOT])).reason
    assert "its ext4 file (/etc/app.conf)" in only_gap(plan([CONF])).reason
    assert (
        "its tmpfs directory (/sub)"
        in only_gap(plan([Mount(5, "/t", "external", "directory", "tmpfs", None, "/sub")])).reason
    )


def test_internal_mounts_need_no_rule() -> None:
    assert plan([PROC]) == Plan([], [], [])


def test_keep_paths_covers_what_no_rule_covers() -> None:
    found = plan([ROOT, DATA], HOME, keep=True)
    assert (found.root, found.restore_map, found.gaps) == ("/new/box", [{"key": "/data", "path": "/srv/data"}], [])
    assert found.entries[1].rule == "select: keep_paths"
    assert found.unused_rules == []


def test_a_mount_that_the_engine_knows_nothing_of_is_a_gap() -> None:
    gap = only_gap(plan([changed(DATA, configured=False)], {"mountpoint": "/data", "source": "/ssd"}))
    assert (gap.code, gap.mountpoint) == ("not_configured", "/data")
    assert "not by the container's configuration" in gap.reason
    assert "start the container with it as a bind of its own" in gap.remedy


def test_what_the_engine_makes_again_is_in_no_plan() -> None:
    owned = changed(DATA, kind="engine")
    found = plan([ROOT, owned, changed(PROC, kind="engine")], HOME)
    assert (found.gaps, found.dump_map, found.restore_map) == ([], [], [])
    assert [entry.mount.mountpoint for entry in found.entries] == ["/"]


@pytest.mark.parametrize("rule", [{"mountpoint": "/data", "keep": True}, None])
def test_a_path_that_should_be_kept_but_cannot_be_seen_is_a_gap(rule: Mapping[str, Any] | None) -> None:
    gap = only_gap(plan([changed(DATA, host_path=None)], *([rule] if rule else []), keep=rule is None))
    assert (gap.code, gap.mountpoint) == ("no_host_path", "/data")
    assert "cannot be seen anywhere on the source host" in gap.reason
    assert "mountpoint: '/data'" in gap.remedy


def test_a_mount_that_cannot_be_seen_may_be_given_a_source_but_not_be_copied() -> None:
    hidden, rule = changed(DATA, host_path=None), {"mountpoint": "/data", "source": "/ssd"}
    assert plan([hidden], rule).gaps == []
    gap = only_gap(plan([hidden], rule, data={"/data": "sync"}))
    assert gap.code == "no_host_path"
    assert "should be copied" in gap.reason
    assert only_gap(plan([hidden], keep=True, data={"/data": "sync"})).code == "no_host_path"


def test_contradicting_rules_are_a_gap_that_names_both_paths() -> None:
    found = plan([DATA], {"mountpoint": "/data", "source": "/a"}, {"mountpoint": "/data", "source": "/b"})
    gap = only_gap(found)
    assert (gap.code, gap.mountpoint) == ("contradicting_rules", "/data")
    assert gap.reason.endswith("/a and /b")


@pytest.mark.parametrize("key", ["CRIU:mine", "a\nb"])
def test_a_key_that_criu_takes_as_its_own_or_cannot_carry_is_a_gap(key: str) -> None:
    gap = only_gap(plan([DATA], {"mountpoint": "/data", "source": "/a", "key": key}))
    assert (gap.code, gap.mountpoint) == ("bad_key", "/data")


@pytest.mark.parametrize("key", ["criu", "a:b", "[x]", "]:", "#", "é", "with space", "xCRIU:"])
def test_any_other_key_is_good(key: str) -> None:
    assert plan([DATA], {"mountpoint": "/data", "source": "/a", "key": key}).gaps == []


def test_a_mountpoint_that_criu_cannot_be_told_of_is_a_gap() -> None:
    gap = only_gap(plan([changed(DATA, mountpoint="/a\nb")], {"prefix": "/srv", "keep": True, "key": "good"}))
    assert gap.code == "unusable_mountpoint"
    assert "newline" in gap.reason


def test_a_mountpoint_with_a_newline_has_no_usable_key_either() -> None:
    found = plan([changed(DATA, mountpoint="/a\nb")], {"prefix": "/srv", "keep": True})
    assert codes(found) == [("unusable_mountpoint", "/a\nb"), ("bad_key", "/a\nb")]


def test_a_deleted_root_is_a_gap() -> None:
    gap = only_gap(plan([changed(CONF, deleted=True)], keep=True))
    assert (gap.code, gap.mountpoint) == ("deleted_root", "/etc/app.conf")
    assert "(/etc/app.conf) has been replaced or removed" in gap.reason


def test_one_key_for_two_mountpoints_is_a_gap_for_each() -> None:
    found = plan(
        [DATA, CONF],
        {"mountpoint": "/data", "source": "/a", "key": "same"},
        {"mountpoint": "/etc/app.conf", "source": "/b", "key": "same"},
    )
    assert codes(found) == [("key_clash", "/data"), ("key_clash", "/etc/app.conf")]
    assert "the key same would stand for 2 mounts: /data, /etc/app.conf" in found.gaps[0].reason


def test_a_key_that_is_another_s_mountpoint_clashes() -> None:
    found = plan([DATA, CONF], {"mountpoint": "/etc/app.conf", "source": "/b", "key": "/data"}, keep=True)
    assert codes(found) == [("key_clash", "/data"), ("key_clash", "/etc/app.conf")]


def test_external_mounts_stacked_at_one_mountpoint_are_a_gap() -> None:
    gap = only_gap(plan([DATA, changed(DATA, mount_id=9, host_path="/srv/over")], keep=True))
    assert (gap.code, gap.mountpoint) == ("key_clash", "/data")
    assert "2 mounts are stacked" in gap.reason


@pytest.mark.parametrize("over_first", [False, True])
def test_an_internal_mount_stacked_with_an_external_one_is_a_gap(over_first: bool) -> None:
    over = changed(PROC, mountpoint="/data", fstype="tmpfs")
    mounts = [over, DATA] if over_first else [DATA, over]
    gap = only_gap(plan(mounts, keep=True))
    assert (gap.code, gap.mountpoint) == ("key_clash", "/data")


def test_data_for_a_mountpoint_without_external_mount_is_a_gap() -> None:
    found = plan([DATA, PROC], keep=True, data={"/data": "sync", "/proc": "sync", "/dat": "shared"})
    assert codes(found) == [("unknown_data", "/proc"), ("unknown_data", "/dat")]
    assert found.entries[0].data == "sync"


def test_data_is_present_unless_said_otherwise() -> None:
    found = plan([ROOT, DATA, CONF], keep=True, data={"/": "sync", "/etc/app.conf": "shared"})
    assert [entry.data for entry in found.entries] == ["sync", "present", "shared"]


def test_what_is_copied_goes_to_a_folder_by_name_and_a_file_into_the_folder_it_is_in() -> None:
    rules = [HOME, {"mountpoint": "/etc/app.conf", "source": "/conf/new.conf"}]
    found = plan([ROOT, DATA, CONF], *rules, keep=True, data={"/": "sync", "/etc/app.conf": "sync"})
    assert found.gaps == []
    assert found.copies == [
        {"path": "/srv/box", "folder": "mount0", "file_name": None},
        {"path": "/etc/app.conf", "folder": "mount2", "file_name": "new.conf"},
    ]
    assert found.folders == {"mount0": "/new/box", "mount2": "/conf"}


def test_without_sync_nothing_is_copied() -> None:
    found = plan([ROOT, DATA], keep=True, data={"/": "shared"})
    assert (found.copies, found.folders) == ([], {})


def test_a_path_inside_one_that_a_copy_makes_equal_is_a_gap() -> None:
    rules = [HOME, {"mountpoint": "/data", "source": "/new/box/inside"}]
    gap = only_gap(plan([ROOT, DATA], *rules, data={"/": "sync"}))
    assert (gap.code, gap.mountpoint) == ("inside_copy", "/data")
    assert "/new/box/inside lies inside /new/box" in gap.reason
    assert plan([ROOT, DATA], *rules).gaps == []
    assert plan([ROOT, DATA], HOME, {"mountpoint": "/data", "source": "/new/box2"}, data={"/": "sync"}).gaps == []


def test_two_copies_to_one_path_are_a_gap_for_each() -> None:
    rules = [HOME, {"mountpoint": "/data", "source": "/new/box"}]
    found = plan([ROOT, DATA], *rules, data={"/": "sync", "/data": "sync"})
    assert sorted(codes(found)) == [("inside_copy", "/"), ("inside_copy", "/data")]


AGAIN = Mount(5, "/data2", "external", "directory", "ext4", "/srv/data", "/srv/data", major=8, minor=1)
ONCE = dataclasses.replace(AGAIN, mount_id=2, mountpoint="/data")
LOGS = dataclasses.replace(AGAIN, mount_id=6, mountpoint="/logs", host_path="/srv/data/a/logs", root="/srv/data/a/logs")
ONE_FILE = dataclasses.replace(LOGS, mountpoint="/file", type="file", host_path="/srv/data/f", root="/srv/data/f")
SSD = {"prefix": "/srv", "replace": "/ssd"}


def copied_with(found: Plan) -> dict[str, tuple[str, str | None]]:
    return {entry.mount.mountpoint: (entry.data, entry.copied_with) for entry in found.entries}


@pytest.mark.parametrize("data", [{"/data": "sync"}, {"/data": "sync", "/data2": "sync", "/logs": "sync"}])
def test_folders_that_lie_at_the_target_as_at_the_source_are_one_copy(data: dict[str, str]) -> None:
    for mounts in ([ONCE, AGAIN, LOGS, ONE_FILE], [ONE_FILE, LOGS, ONCE, AGAIN]):
        found = plan(mounts, SSD, data=data)
        assert found.gaps == []
        assert copied_with(found) == {
            "/data": ("sync", None),
            "/data2": ("sync", "/data"),
            "/logs": ("sync", "/data"),
            "/file": ("sync", "/data"),
        }
        assert [copy["path"] for copy in found.copies] == ["/srv/data"]
        assert list(found.folders.values()) == ["/ssd/data"]
        assert {entry["path"] for entry in found.restore_map} == {"/ssd/data", "/ssd/data/a/logs", "/ssd/data/f"}


def test_a_file_that_is_mounted_twice_is_one_copy() -> None:
    found = plan([ONE_FILE, changed(ONE_FILE, mountpoint="/file2")], SSD, data={"/file2": "sync"})
    assert (found.gaps, len(found.copies)) == ([], 1)


def test_what_is_not_copied_is_not_copied_with_something() -> None:
    found = plan([ONCE, AGAIN], SSD, data={"/data": "shared"})
    assert copied_with(found) == {"/data": ("shared", None), "/data2": ("present", None)}


@pytest.mark.parametrize(
    ("inner", "rule", "data", "remedy"),
    [
        # Another folder, also one of the same name on another file system or one that a mount of the host hides.
        (
            changed(LOGS, root="/srv/other", host_path="/srv/other"),
            "/ssd/data/other",
            "present",
            "outside of /ssd/data",
        ),
        (changed(LOGS, minor=2), "/ssd/data/a/logs", "present", "outside of /ssd/data"),
        (changed(LOGS, host_path="/mnt/logs"), "/ssd/data/a/logs", "present", "covers /srv/data/a/logs on the source"),
        # The same, at another place.
        (LOGS, "/ssd/data/logs", "present", "the folder a/logs in /data: choose /ssd/data/a/logs for it"),
        (AGAIN, "/ssd/data/again", "sync", "the folder of /data: choose /ssd/data for it"),
        (AGAIN, "/ssd/data", "shared", "give both the same data"),
    ],
)
def test_what_lies_in_a_copy_at_the_target_alone_is_a_gap(inner: Mount, rule: str, data: str, remedy: str) -> None:
    rules = [SSD, {"mountpoint": inner.mountpoint, "source": rule}]
    gap = only_gap(plan([ONCE, inner], *rules, data={"/data": "sync", inner.mountpoint: data}))
    assert (gap.code, gap.mountpoint) == ("inside_copy", inner.mountpoint)
    assert remedy in gap.remedy


def test_the_root_has_a_copy_of_its_own() -> None:
    root = changed(LOGS, mountpoint="/", kind="root")
    assert codes(plan([root, ONCE], SSD, data={"/": "sync", "/data": "sync"})) == [("inside_copy", "/")]


def test_rules_that_decide_about_nothing_are_listed() -> None:
    found = plan(
        [DATA],
        {"mountpoint": "/data", "source": "/a"},
        {"mountpoint": "/dta", "source": "/a"},
        {"prefix": "/srv", "keep": True},
        {"select": "x", "keep": True, "mount_ids": []},
    )
    assert found.unused_rules == ["mountpoint: /dta", "prefix: /srv", "select: x"]


def test_a_prefix_used_for_one_of_many_mounts_is_used() -> None:
    assert plan([ROOT, DATA, CONF], HOME, {"prefix": "/srv/data", "keep": True}, keep=True).unused_rules == []


def test_select_rules_are_used_for_the_mounts_they_name() -> None:
    found = make_plan([DATA, CONF], [Rule(select="x", keep=True, mount_ids=frozenset({3}))])
    assert [entry.mount for entry in found.entries] == [CONF]
    assert codes(found) == [("no_rule", "/data")]


def test_all_gaps_are_reported_at_once() -> None:
    mounts = [
        ROOT,
        changed(DATA, mountpoint="/deleted", deleted=True),
        changed(DATA, mountpoint="/hidden", host_path=None),
        changed(DATA, mountpoint="/key"),
        changed(DATA, mountpoint="/two"),
        changed(DATA, mountpoint="/new\nline"),
        changed(DATA, mountpoint="/stacked"),
        changed(DATA, mountpoint="/stacked"),
    ]
    found = plan(
        mounts,
        {"mountpoint": "/hidden", "keep": True},
        {"mountpoint": "/key", "source": "/k", "key": "CRIU:"},
        {"mountpoint": "/two", "source": "/1"},
        {"mountpoint": "/two", "source": "/2"},
        {"mountpoint": "/stacked", "source": "/s"},
        data={"/nowhere": "sync"},
    )
    assert sorted(codes(found)) == [
        ("bad_key", "/key"),
        ("contradicting_rules", "/two"),
        ("deleted_root", "/deleted"),
        ("key_clash", "/stacked"),
        ("no_host_path", "/hidden"),
        ("no_rule", "/"),
        ("no_rule", "/deleted"),
        ("no_rule", "/new\nline"),
        ("unknown_data", "/nowhere"),
        ("unusable_mountpoint", "/new\nline"),
    ]
    assert all(gap.reason and gap.remedy for gap in found.gaps)


def test_a_gap_in_plain_types() -> None:
    assert Gap("c", "/m", "why", "what").as_dict() == {
        "code": "c",
        "mountpoint": "/m",
        "reason": "why",
        "remedy": "what",
        "severity": "error",
    }


def test_a_mount_is_read_from_what_mount_info_returns_and_the_rest_passed_over() -> None:
    given = {**vars(DATA), "reason": "…", "host_paths": []}
    assert Mount.from_dict(given) == DATA
