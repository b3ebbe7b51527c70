# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rule says may be made is made so, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import BadRule, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._mounts.checks import check_plan
from ansible_collections.fleet.criu.plugins.module_utils._mounts.creation import Creation, create
from ansible_collections.fleet.criu.plugins.module_utils._mounts.plan import Mount, make_plan
from ansible_collections.fleet.criu.plugins.module_utils._mounts.rules import parse_rules

ME = {"owner": str(os.getuid()), "group": str(os.getgid())}


@pytest.mark.parametrize(("kind", "mode"), [("directory", "0750"), ("file", "640")])
def test_it_is_made_with_its_mode_and_owner(tmp_path: Path, kind: str, mode: str) -> None:
    path = tmp_path / "made"
    create(str(path), Creation(kind, mode, **ME))
    assert path.is_dir() == (kind == "directory")
    assert path.stat().st_mode & 0o7777 == int(mode, 8)
    assert path.stat().st_uid == os.getuid()


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "made").write_text("contents")
    (tmp_path / "made").chmod(0o600)
    create(str(tmp_path / "made"), Creation("file", "0644", **ME))
    assert (tmp_path / "made").read_text() == "contents"
    assert (tmp_path / "made").stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize(
    ("path", "owner"), [("missing/made", str(os.getuid())), ("made", "nobody-that-there-could-be")]
)
def test_what_cannot_be_made_is_said(tmp_path: Path, path: str, owner: str) -> None:
    with pytest.raises(CriuError, match="cannot be made here"):
        create(str(tmp_path / path), Creation("directory", "0750", owner, ME["group"]))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("directory", "has 'type', 'mode'"),
        ({"type": "directory", "mode": "0750", "size": "1"}, "has 'type', 'mode'"),
        ({"mode": "0750"}, "must be directory or file"),
        ({"type": "socket", "mode": "0750"}, "must be directory or file"),
        ({"type": "directory"}, "octal digits"),
        ({"type": "directory", "mode": 488}, "octal digits"),
        ({"type": "directory", "mode": "u=rwx"}, "octal digits"),
    ],
)
def test_a_creation_that_leaves_something_to_be_guessed_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(BadRule, match=reason):
        parse_rules([{"mountpoint": "/data", "source": "/srv/data", "create": value}])


def gaps(path: Path, kind: str, data: str = "present") -> list[str]:
    mounts = [
        Mount(1, "/", "root", "directory", "ext4", str(path.parent)),
        Mount(2, "/data", "external", "directory", "ext4", "/srv/data"),
    ]
    rules = parse_rules(
        [
            {"mountpoint": "/", "source": str(path.parent)},
            {"mountpoint": "/data", "source": str(path), "create": {"type": kind, "mode": "0750"}},
        ]
    )
    plan = make_plan(mounts, rules, False, {"/data": data})
    found = [*plan.gaps, *check_plan(plan, mounts, lambda _path: True)]
    return [gap.code for gap in found if gap.mountpoint == "/data" and gap.code != "missing_mountpoint"]


def test_a_missing_path_is_no_gap_if_it_may_be_made(tmp_path: Path) -> None:
    assert gaps(tmp_path / "made", "directory") == []
    assert gaps(tmp_path / "made", "file") == ["wrong_type"]
    assert gaps(tmp_path / "no" / "made", "directory") == ["missing_parent"]


def test_a_copy_makes_what_it_needs_itself(tmp_path: Path) -> None:
    assert gaps(tmp_path / "made", "directory", "sync") == []
    assert gaps(tmp_path / "no" / "made", "directory", "sync") == ["missing_parent"]


@pytest.mark.parametrize("type_", ["directory", "file"])
def test_nothing_is_made_where_a_symlink_of_others_leads(tmp_path: Path, type_: str) -> None:
    home, victim = tmp_path / "home", tmp_path / "victim"
    home.mkdir()
    home.chmod(0o777)
    victim.mkdir()
    (home / "link").symlink_to(victim)
    with pytest.raises(CriuError, match="it is a symlink"):
        create(str(home / "link" / "made"), Creation(type_, "0777", str(os.geteuid()), str(os.getegid())))
    assert os.listdir(victim) == []


def test_whoever_renames_meanwhile_gets_no_mode_of_another_folder_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, victim = tmp_path / "home", tmp_path / "victim"
    home.mkdir()
    home.chmod(0o777)
    victim.mkdir(mode=0o750)
    (victim / "file").touch()
    mkdir = os.mkdir

    def replaced(name: str, mode: int, dir_fd: int) -> None:
        mkdir(name, mode, dir_fd=dir_fd)
        (home / "made").rmdir()
        replacement(home / "made")

    def link(path: Path) -> None:
        path.symlink_to(victim)

    def other(path: Path) -> None:
        victim.rename(path)

    monkeypatch.setattr(os, "mkdir", replaced)
    for replacement in (link, other):
        with pytest.raises(CriuError, match="cannot be made here"):
            create(str(home / "made"), Creation("directory", "0777", str(os.geteuid()), str(os.getegid())))
        if replacement is link:
            (home / "made").unlink()
            assert victim.stat().st_mode & 0o777 == 0o750
    assert (home / "made").stat().st_mode & 0o777 == 0o750
