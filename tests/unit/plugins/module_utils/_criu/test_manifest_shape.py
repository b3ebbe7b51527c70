# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A manifest whose parts are not what they should be is refused in words."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import (
    MANIFEST,
    Manifest,
    Workload,
    manifest_of,
    read_manifest,
    verify_files,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet

GOOD = Manifest(
    workload=Workload("redis", 42, 5000),
    host="node1",
    boot_id="b",
    kernel="6.12",
    architecture="x86_64",
    criu_version="4.1.1",
    created="",
    root="/srv/root",
    mount_map=[{"mountpoint": "/data", "key": "/data"}],
    mounts=[{"mountpoint": "/data", "kind": "external"}],
    options={},
    files={"a.img": {"sha256": "0", "size": 1}},
).as_dict()


def test_a_good_one_is_read(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps(GOOD))
    assert read_manifest(tmp_path).keys == ["/data"]


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"a.img": 3}},
        {"files": {"a.img": {"size": "1", "sha256": "0"}}},
        {"files": None},
        {"files": [1]},
        {"mount_map": [1]},
        {"mount_map": [{"key": "a"}]},
        {"mounts": None},
        {"workload": 3},
        {"generation": "1"},
        {"generation": -1},
        {"generation": True},
        {"generation": None},
        {"unheard_of": 1},
        {"id_maps": 1},
        {"id_maps": {"gid_map": []}},
        {"id_maps": {"uid_map": [[0, 1]], "gid_map": []}},
        {"id_maps": {"uid_map": [], "gid_map": [[0, -1, 5]]}},
        {"id_maps": {"uid_map": [], "gid_map": [[0, 1 << 32, 5]]}},
        {"id_maps": {"uid_map": [], "gid_map": [[0, True, 5]]}},
        {"id_maps": {"uid_map": [], "gid_map": [["0", 1, 5]]}},
    ],
)
def test_a_malformed_one_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(BadImageSet, match="cannot be read"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("rows", "group"),
    [([[0, 100000, 65536]], 100000), ([[5, 1, 1], [0, 1000, 1]], 1000), ([[1, 7, 1]], None), ([[0, 0, 1]], 0)],
)
def test_the_group_that_is_root_s_in_the_user_namespace(tmp_path: Path, rows: list[list[int]], group: int) -> None:
    maps = {"uid_map": [[0, 9, 1]], "gid_map": rows}
    (tmp_path / MANIFEST).write_text(json.dumps({**GOOD, "id_maps": maps}))
    assert read_manifest(tmp_path).image_group == group


def test_without_a_user_namespace_there_is_no_such_group(tmp_path: Path) -> None:
    for value in (GOOD, {name: value for name, value in GOOD.items() if name != "id_maps"}):
        (tmp_path / MANIFEST).write_text(json.dumps(value))
        assert read_manifest(tmp_path).image_group is None


@pytest.mark.parametrize(
    "change",
    [
        {"root": 1},
        {"host": None},
        {"options": [1]},
        {"leave_running": 1},
        {"workload": {"name": 1, "pid": 1, "start_time": 1}},
        {"workload": {"name": "redis", "pid": "1", "start_time": 1}},
        {"workload": {"name": "redis", "pid": True, "start_time": 1}},
        {"workload": {"name": "redis", "pid": 1, "start_time": 1, "command": "x"}},
        {"mount_map": [{"mountpoint": 1, "key": "a"}]},
        {"mount_map": [{"mountpoint": "/", "key": ["a"]}]},
        {"mounts": [{"mountpoint": [], "kind": "root"}]},
        {"mounts": [{"mountpoint": "/", "kind": "root", "super_options": "rw"}]},
        {"mounts": [{"mountpoint": "/", "kind": "root", "mount_id": "1"}]},
        {"mounts": [{"mountpoint": "/", "kind": "root", "host_paths": [1]}]},
        {"files": {"a.img": {"size": -1}}},
        {"files": {"a.img": {"size": True}}},
        {"files": {"a.img": {"size": 1, "crc32": "1"}}},
        {"files": {"../a.img": {"size": 1}}},
    ],
)
def test_each_value_is_of_its_kind(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(BadImageSet, match=r"manifest\.json cannot be read: "):
        read_manifest(tmp_path)


def test_what_is_no_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / MANIFEST
    os.mkfifo(path)
    with pytest.raises(BadImageSet, match="no ordinary file"):
        read_manifest(tmp_path)
    path.unlink()
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(BadImageSet, match="may have 33554432"):
        read_manifest(tmp_path)
    path.unlink()
    path.write_text("[" * 100_000)
    with pytest.raises(BadImageSet, match="cannot be read"):
        read_manifest(tmp_path)


def test_images_that_are_no_files_or_nearly_all_holes_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.img")
    (tmp_path / "b.img").symlink_to("/dev/zero")
    told = {"sha256": "0", "size": 0}
    manifest = manifest_of({**GOOD, "files": {"a.img": told, "b.img": told}})
    with pytest.raises(BadImageSet, match=r"altered: a\.img, b\.img"):
        verify_files(tmp_path, manifest)
    for name in ("a.img", "b.img"):
        (tmp_path / name).unlink()
    (tmp_path / "c.img").touch()
    os.truncate(tmp_path / "c.img", 1 << 40)
    with pytest.raises(BadImageSet, match=r"altered: c\.img"):
        verify_files(tmp_path, manifest_of({**GOOD, "files": {"c.img": told}}))
    for digest in ({"sha256": "0"}, {"crc32": 0}):
        with pytest.raises(BadImageSet, match="nearly all holes"):
            verify_files(tmp_path, manifest_of({**GOOD, "files": {"c.img": {"size": 1 << 40, **digest}}}))
    verify_files(tmp_path, manifest_of({**GOOD, "files": {"c.img": {"size": 1 << 40}}}))
