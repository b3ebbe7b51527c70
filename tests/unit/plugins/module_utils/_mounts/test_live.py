# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import (
    MalformedMountinfo,
    SharedMountNamespace,
    WorkloadNotFound,
)
from ansible_collections.fleet.criu.plugins.module_utils._mounts.live import (
    Owned,
    is_same_file,
    read_mounts,
    require_own_mount_namespace,
    root_folder,
)
from ansible_collections.fleet.criu.tests.unit.fakes import HOST_MOUNTS, FakeProc


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What the workload sees: /data leads to `tmp_path/data`, /conf is a file."""
    folder = tmp_path / "box"
    folder.mkdir()
    (tmp_path / "data").mkdir()
    (folder / "data").symlink_to(tmp_path / "data")
    (folder / "conf").touch()
    return folder


def read(
    tmp_path: Path, root: Path, *lines: str, host: str = HOST_MOUNTS, owned: Owned | None = None
) -> dict[str, dict[str, Any]]:
    proc = FakeProc(tmp_path / "proc", host)
    proc.add(42, root=root, mounts="\n".join([f"100 90 8:1 {root} / rw - ext4 /dev/sda1 rw", *lines]))
    return {mount["mountpoint"]: mount for mount in read_mounts(42, proc, owned=owned)}


def test_each_mount_has_its_row_its_verdict_its_type_and_its_place_on_the_host(tmp_path: Path, root: Path) -> None:
    found = read(tmp_path, root, f"101 100 8:1 {tmp_path}/data /data rw,nosuid shared:5 - ext4 /dev/sda1 rw")
    assert found["/data"] == {
        "mount_id": 101,
        "parent_id": 100,
        "major": 8,
        "minor": 1,
        "root": f"{tmp_path}/data",
        "mountpoint": "/data",
        "mount_options": ["rw", "nosuid"],
        "optional_fields": ["shared:5"],
        "shared": 5,
        "master": None,
        "propagate_from": None,
        "unbindable": False,
        "fstype": "ext4",
        "source": "/dev/sda1",
        "super_options": ["rw"],
        "deleted": False,
        "shared_with_host": False,
        "decodable": True,
        "verdict": "no_proper_root",
        "verdict_reason": f"its root {tmp_path}/data lies outside the workload's root, on superblock 8:1",
        "auto_path": None,
        "kind": "external",
        "reason": f"its root {tmp_path}/data lies outside the workload's root, on superblock 8:1",
        "type": "directory",
        "host_path": f"{tmp_path}/data",
        "host_paths": [
            {
                "path": f"{tmp_path}/data",
                "mount_id": 21,
                "hidden": False,
                "reason": "superblock 8:1 is mounted at / with root /",
            }
        ],
    }
    assert (found["/"]["kind"], found["/"]["host_path"]) == ("root", str(root))


@pytest.mark.parametrize(
    ("tag", "with_host"), [("shared:1 ", True), ("shared:9 ", False), ("master:1 ", False), ("", False)]
)
def test_a_mount_in_a_peer_group_of_the_host_is_shared_with_it(
    tmp_path: Path, root: Path, tag: str, with_host: bool
) -> None:
    found = read(tmp_path, root, f"101 100 8:1 /srv/data /data rw {tag}- ext4 /dev/sda1 rw")
    assert found["/data"]["shared_with_host"] is with_host


def test_a_file_is_told_from_a_directory(tmp_path: Path, root: Path) -> None:
    found = read(tmp_path, root, "101 100 8:1 /etc/conf /conf rw - ext4 /dev/sda1 rw")
    assert (found["/"]["type"], found["/conf"]["type"]) == ("directory", "file")


def test_internal_mounts_are_not_looked_for_on_the_host(tmp_path: Path, root: Path) -> None:
    found = read(tmp_path, root, "101 100 0:20 / /proc rw - proc proc rw")
    assert (found["/proc"]["kind"], found["/proc"]["host_path"], found["/proc"]["host_paths"]) == ("internal", None, [])


def test_a_mount_that_is_only_hidden_on_the_host_has_no_host_path(tmp_path: Path, root: Path) -> None:
    host = HOST_MOUNTS + "24 21 8:9 / /srv rw - ext4 b rw\n25 24 8:8 / /srv rw - ext4 c rw\n"
    found = read(tmp_path, root, "101 100 8:9 /data /data rw - ext4 b rw", host=host)
    assert found["/data"]["host_path"] is None
    assert [(path["path"], path["hidden"]) for path in found["/data"]["host_paths"]] == [("/srv/data", True)]


def test_of_several_host_paths_the_one_with_the_very_same_file_is_best(tmp_path: Path, root: Path) -> None:
    # By mountinfo alone the one through the whole file system would be plainer.
    host = f"{HOST_MOUNTS}24 21 8:9 / /whole rw - ext4 b rw\n25 21 8:9 /data {tmp_path}/data rw - ext4 b rw\n"
    found = read(tmp_path, root, "101 100 8:9 /data /data rw - ext4 b rw", host=host)
    assert [path["path"] for path in found["/data"]["host_paths"]] == [f"{tmp_path}/data", "/whole/data"]
    assert found["/data"]["host_path"] == f"{tmp_path}/data"


def test_undecodable_bytes_are_shown(tmp_path: Path, root: Path) -> None:
    found = read(tmp_path, root, r"101 100 8:1 /\377 /\377 rw - ext4 a rw")
    assert found[r"/\xff"]["host_path"] == r"/\xff"


DATA_AND_TMP = ("101 100 8:1 /srv/data /data rw - ext4 /dev/sda1 rw", "102 100 0:50 / /tmp rw - tmpfs tmpfs rw")


def test_what_an_engine_makes_again_itself_needs_nobody_s_care(tmp_path: Path, root: Path) -> None:
    found = read(tmp_path, root, *DATA_AND_TMP, owned=Owned(frozenset(["/", "/data"]), frozenset()))
    for mountpoint in ("/", "/data"):
        mount = found[mountpoint]
        assert (mount["kind"], mount["verdict"]) == ("engine", "engine")
        assert "the engine makes it again" in mount["reason"]
        assert mount["reason"] == mount["verdict_reason"]
        assert "configured" not in mount
    assert found["/tmp"]["kind"] == "internal"
    assert read(tmp_path / "x", root, *DATA_AND_TMP)["/data"]["kind"] == "external"


@pytest.mark.parametrize(
    ("owned", "configured"),
    [
        (None, None),
        (Owned(), None),
        (Owned(bound=None), None),
        (Owned(bound=frozenset(["/data"])), None),
        (Owned(bound=frozenset(["/other"])), False),
        (Owned(bound=frozenset()), False),
    ],
)
def test_a_mount_that_the_engine_knows_nothing_of_is_marked(
    tmp_path: Path, root: Path, owned: Owned | None, configured: bool | None
) -> None:
    found = read(tmp_path, root, *DATA_AND_TMP, owned=owned)
    assert found["/data"].get("configured") is configured
    assert found["/data"]["kind"] == "external"
    assert "configured" not in found["/tmp"], "what is in the images nobody has to bind"
    assert "configured" not in found["/"]


def test_a_process_without_mounts_is_gone(tmp_path: Path) -> None:
    with pytest.raises(WorkloadNotFound, match="Process 43 has no mounts to read"):
        read_mounts(43, FakeProc(tmp_path / "proc"))


def test_a_table_that_cannot_be_understood_is_no_empty_one(tmp_path: Path, root: Path) -> None:
    with pytest.raises(MalformedMountinfo, match="Line 2 "):
        read(tmp_path, root, "garbage")


def test_two_paths_are_the_same_file_if_they_lead_to_one_inode(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    (tmp_path / "link").symlink_to("a")
    assert is_same_file(str(tmp_path / "a"), str(tmp_path / "link"))
    assert not is_same_file(str(tmp_path / "a"), str(tmp_path / "b"))
    assert not is_same_file(str(tmp_path / "a"), str(tmp_path / "nothing"))


# Mount namespace and root


def test_a_workload_in_the_host_s_mount_namespace_is_refused(proc: FakeProc) -> None:
    proc.add(42, own_namespaces=["pid", "net"])
    with pytest.raises(SharedMountNamespace, match="Process 42 is in the host's own mount namespace"):
        require_own_mount_namespace(42, proc)


def test_a_mount_namespace_of_its_own_is_enough(proc: FakeProc) -> None:
    proc.add(42, own_namespaces=["mnt"])
    require_own_mount_namespace(42, proc)


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        ("100 90 8:1 /srv/box / rw - ext4 /dev/sda1 rw", "/srv/box"),
        (r"100 90 8:1 /srv/\377 / rw - ext4 /dev/sda1 rw", r"/srv/\xff"),
        ("100 90 8:1 /run/box / rw - ext4 /dev/sda1 rw", None),  # the host's /run covers it
        ("100 90 0:21 /box / rw - tmpfs tmpfs rw", "/run/box"),
        ("100 90 0:99 / / rw - overlay overlay rw", None),
        ("100 90 8:1 /srv/box /elsewhere rw - ext4 /dev/sda1 rw", None),
    ],
)
def test_the_root_is_a_folder_of_the_host_if_it_can_be_seen(proc: FakeProc, line: str, folder: str | None) -> None:
    proc.add(42, mounts=line)
    assert root_folder(42, proc) == folder
