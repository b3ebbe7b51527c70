# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import os
import socket
from pathlib import Path
from typing import Callable

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._mounts.checks import check_plan, path_type
from ansible_collections.fleet.criu.plugins.module_utils._mounts.hazards import with_severities
from ansible_collections.fleet.criu.plugins.module_utils._mounts.plan import Entry, Gap, Mount, Plan

KINDS = {"/": "root"}


class Target:
    """A target with a root folder, and a plan for it that is made mount by mount."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mounts: list[Mount] = []
        self.entries: list[Entry] = []
        self.root = folder / "box"
        self.root.mkdir()
        self.map("/", self.root)

    def map(self, mountpoint: str, path: Path, kind: str = "directory", data: str = "present") -> None:
        mount = Mount(len(self.mounts), mountpoint, KINDS.get(mountpoint, "external"), kind, "ext4", "/src")
        self.mounts.append(mount)
        self.entries.append(Entry(mount, mountpoint, str(path), f"mountpoint: {mountpoint}", data))

    def internal(self, mountpoint: str) -> None:
        self.mounts.append(Mount(len(self.mounts), mountpoint, "internal", "directory", "tmpfs", None))

    def gaps(self, may_replace: Callable[[str], bool] = lambda path: False) -> list[Gap]:
        return check_plan(Plan(self.entries), self.mounts, may_replace)

    def codes(self) -> list[tuple[str, str]]:
        return [(gap.code, gap.mountpoint) for gap in self.gaps()]


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def test_the_type_of_a_path_is_that_of_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(tmp_path, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{folder}/socket")
        os.close(folder)
    names = ["", "file", "link", "dangling", "pipe", "socket", "nothing"]
    types = [path_type(str(tmp_path / name)) for name in names]
    assert types == ["directory", "file", "file", None, "other", "other", None]


def test_a_plan_that_fits_has_no_gap(target: Target, data: Path) -> None:
    (target.root / "data").mkdir()
    (target.root / "conf").touch()
    (target.folder / "conf").touch()
    target.map("/data", data)
    target.map("/conf", target.folder / "conf", "file")
    assert target.gaps() == []


def test_a_symlink_is_a_gap_that_says_where_it_leads(target: Target, data: Path) -> None:
    (target.root / "data").mkdir()
    (target.folder / "link").symlink_to(data)
    target.map("/data", target.folder / "link")
    (gap,) = target.gaps()
    assert (gap.code, gap.mountpoint) == ("symlink", "/data")
    assert gap.remedy == f"Write {data.resolve()} instead (rule mountpoint: /data)."


def test_a_symlink_in_the_middle_of_a_path_is_none(target: Target, data: Path) -> None:
    (target.root / "data").mkdir()
    (data / "sub").mkdir()
    (target.folder / "link").symlink_to(data)
    target.map("/data", target.folder / "link" / "sub")
    assert target.gaps() == []


def test_a_missing_path_is_a_gap(target: Target) -> None:
    (target.root / "data").mkdir()
    target.map("/data", target.folder / "missing")
    (gap,) = target.gaps()
    assert (gap.code, gap.mountpoint) == ("missing_path", "/data")
    assert gap.reason == f"{target.folder}/missing does not exist"
    assert "data: sync" in gap.remedy


@pytest.mark.parametrize(("expected", "found"), [("directory", "file"), ("file", "directory"), ("other", "file")])
def test_a_path_of_another_type_is_a_gap(target: Target, expected: str, found: str) -> None:
    path = target.folder / "path"
    path.mkdir() if found == "directory" else path.touch()
    inside = target.root / "data"
    inside.mkdir() if expected == "directory" else inside.touch()
    target.map("/data", path, expected)
    wrong = [gap for gap in target.gaps() if gap.code == "wrong_type"]
    assert [gap.reason for gap in wrong] == [f"{path} is a {found}, but the workload has a {expected} mounted here"]


def test_the_root_must_be_a_folder_whatever_the_mount_says(target: Target) -> None:
    target.root.rmdir()
    target.root.touch()
    assert target.codes() == [("wrong_type", "/")]


def test_a_root_that_is_a_folder_is_good_whatever_the_mount_says(target: Target) -> None:
    target.entries.clear()
    target.mounts.clear()
    target.map("/", target.root, "other")
    assert target.gaps() == []


def test_what_is_to_be_copied_may_be_missing_if_its_folder_is_there(target: Target) -> None:
    (target.root / "data").mkdir()
    target.map("/data", target.folder / "new", data="sync")
    assert target.gaps() == []


def test_what_is_to_be_copied_needs_its_folder(target: Target) -> None:
    (target.root / "data").mkdir()
    target.map("/data", target.folder / "no" / "new", data="sync")
    (gap,) = target.gaps()
    assert (gap.code, gap.mountpoint) == ("missing_parent", "/data")
    assert f"the folder {target.folder}/no does not exist" in gap.reason


def test_what_comes_with_another_copy_needs_nothing(target: Target, data: Path) -> None:
    for mountpoint, path in (("/missing", data / "not/there"), ("/data", data)):
        target.map(mountpoint, path, data="sync")
        (target.root / mountpoint[1:]).mkdir()
        target.entries[-1] = dataclasses.replace(target.entries[-1], copied_with="/data")
    (data / "contents").touch()
    assert target.codes() == []


def test_a_file_is_no_folder_for_what_is_to_be_copied(target: Target) -> None:
    (target.root / "data").mkdir()
    (target.folder / "file").touch()
    target.map("/data", target.folder / "file" / "new", data="sync")
    assert target.codes() == [("missing_parent", "/data")]


def test_contents_that_a_copy_would_replace_are_a_gap(target: Target, data: Path) -> None:
    (target.root / "data").mkdir()
    (data / ".somebody").touch()
    target.map("/data", data, data="sync")
    (gap,) = target.gaps()
    assert (gap.code, gap.mountpoint) == ("foreign_contents", "/data")
    assert "replace_contents: true" in gap.remedy


def test_contents_that_may_be_replaced_are_none(target: Target, data: Path) -> None:
    (target.root / "data").mkdir()
    (data / "ours").touch()
    target.map("/data", data, data="sync")
    asked: list[str] = []
    assert target.gaps(lambda path: bool(asked.append(path)) or True) == []
    assert asked == [str(data)]


def test_an_empty_folder_may_be_filled(target: Target, data: Path) -> None:
    (target.root / "data").mkdir()
    target.map("/data", data, data="sync")
    assert target.gaps() == []


def test_a_file_counts_as_contents_even_if_empty(target: Target) -> None:
    (target.root / "conf").touch()
    (target.folder / "conf").touch()
    target.map("/conf", target.folder / "conf", "file", data="sync")
    assert target.codes() == [("foreign_contents", "/conf")]


@pytest.mark.parametrize("how", ["present", "shared"])
def test_contents_that_stay_are_nobody_s_concern(target: Target, data: Path, how: str) -> None:
    (target.root / "data").mkdir()
    (data / "file").touch()
    target.map("/data", data, data=how)
    assert target.gaps() == []


def test_a_mountpoint_must_exist_below_the_root(target: Target, data: Path) -> None:
    target.map("/a/data", data)
    (gap,) = target.gaps()
    assert (gap.code, gap.mountpoint) == ("missing_mountpoint", "/a/data")
    assert gap.remedy == f"Create an empty directory {target.root}/a/data."


def test_the_mountpoint_of_an_internal_mount_must_exist_too(target: Target) -> None:
    target.internal("/proc")
    assert target.codes() == [("missing_mountpoint", "/proc")]
    (target.root / "proc").mkdir()
    assert target.codes() == []


def test_a_mountpoint_must_exist_in_the_external_mount_above_it(target: Target, data: Path) -> None:
    (target.root / "data" / "sub").mkdir(parents=True)
    target.map("/data", data)
    target.map("/data/sub", target.root)
    (gap,) = target.gaps()
    assert (gap.code, gap.mountpoint) == ("missing_mountpoint", "/data/sub")
    assert f"{data}/sub on the target" in gap.reason
    (data / "sub").mkdir()
    assert target.gaps() == []


def test_the_mount_above_is_found_at_component_boundaries(target: Target, data: Path) -> None:
    (target.root / "data").mkdir()
    (target.root / "data2").mkdir()
    target.map("/data", data)
    target.map("/data2", data)
    assert target.gaps() == []


def test_a_mountpoint_in_an_internal_mount_comes_back_with_it(target: Target, data: Path) -> None:
    (target.root / "run").mkdir()
    target.internal("/run")
    target.map("/run/data", data)
    assert target.gaps() == []


def test_a_mountpoint_comes_with_the_copy_of_what_it_is_in(target: Target, data: Path) -> None:
    target.entries.clear()
    target.mounts.clear()
    target.map("/", target.root, data="sync")
    target.map("/data", data)
    assert target.gaps() == []


@pytest.mark.parametrize(("kind", "found"), [("file", "directory"), ("directory", "file")])
def test_a_mountpoint_must_be_of_the_mount_s_type(target: Target, kind: str, found: str) -> None:
    source = target.folder / "source"
    source.touch() if kind == "file" else source.mkdir()
    inside = target.root / "x"
    inside.touch() if found == "file" else inside.mkdir()
    target.map("/x", source, kind)
    (gap,) = target.gaps()
    assert gap.code == "missing_mountpoint"
    assert f"must be a {kind} without symlinks" in gap.reason


def test_a_mountpoint_behind_a_symlink_is_a_gap(target: Target, data: Path) -> None:
    (target.root / "real" / "data").mkdir(parents=True)
    (target.root / "link").symlink_to("real")
    target.map("/link/data", data)
    assert target.codes() == [("missing_mountpoint", "/link/data")]


def test_a_symlink_above_the_root_does_not_matter(tmp_path: Path, data: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "way").symlink_to("store")
    target = Target(tmp_path / "way")
    (target.root / "data").mkdir()
    target.map("/data", data)
    assert target.gaps() == []


def test_the_mountpoint_of_a_device_or_socket_is_a_file(target: Target) -> None:
    os.mkfifo(target.folder / "pipe")
    (target.root / "pipe").touch()
    target.map("/pipe", target.folder / "pipe", "other")
    assert target.gaps() == []


def test_all_gaps_are_reported_at_once(target: Target, data: Path) -> None:
    (data / "file").touch()
    target.map("/a", target.folder / "missing")
    target.map("/b", data, "file")
    target.map("/c", data, data="sync")
    assert target.codes() == [
        ("missing_path", "/a"),
        ("wrong_type", "/b"),
        ("foreign_contents", "/c"),
        ("missing_mountpoint", "/a"),
        ("missing_mountpoint", "/b"),
        ("missing_mountpoint", "/c"),
    ]


@pytest.mark.parametrize("data_kind", ["present", "sync"])
def test_a_path_below_a_folder_that_others_may_write_is_told(target: Target, tmp_path: Path, data_kind: str) -> None:
    home = tmp_path / "home"
    (home / "data").mkdir(parents=True)
    (target.root / "data").mkdir()
    target.map("/data", home / "data", data=data_kind)
    assert target.codes() == []
    home.chmod(0o1777)
    (gap,) = target.gaps()
    assert (gap.code, gap.mountpoint) == ("others_may_alter", "/data")
    assert f"it is below {home}, which may be written by others than root (mode 1777" in gap.reason
    assert [found.severity for found in with_severities([gap], {})] == ["warning"]
    home.chmod(0o755)
    (home / "data").chmod(0o777)  # what its own user does in it is the workload's affair
    assert target.codes() == []
