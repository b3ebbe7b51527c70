# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils import _own_folders as subject
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._own_folders import folder_problems, require_folders

ROOMY = {"f_flag": 0, "f_bfree": 1 << 20, "f_frsize": 4096, "f_files": 1000, "f_ffree": 1000}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "lib" / "handoffs"
    monkeypatch.setattr(subject, "OWN_FOLDERS", (made,))
    return made


def pretend(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(**{**ROOMY, **changes}))


def test_a_look_changes_nothing(folder: Path) -> None:
    assert folder_problems() == []
    require_folders(is_dry=True)
    assert not folder.parent.exists()


def test_what_is_written_to_see_that_it_can_be_is_gone_afterwards(folder: Path) -> None:
    require_folders()
    assert list(folder.iterdir()) == []
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"f_flag": os.ST_RDONLY}, "is on a file system that is mounted read-only"),
        ({"f_bfree": 0}, "has 0 KiB free, and 8192 KiB are needed"),
        ({"f_bfree": 2047}, "has 8188 KiB free"),
        ({"f_ffree": 63}, "has room for 63 more files"),
    ],
)
@pytest.mark.parametrize("is_dry", [True, False])
def test_a_folder_that_is_full_or_read_only_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str, is_dry: bool
) -> None:
    pretend(monkeypatch, **changes)
    with pytest.raises(CriuError, match="cannot keep records") as caught:
        require_folders(is_dry)
    assert caught.value.facts["folder_problems"][0].startswith(f"{folder} {said}")
    assert not folder.exists()


@pytest.mark.parametrize("changes", [{"f_bfree": 2048}, {"f_files": 0, "f_ffree": 0}, {"f_bavail": 0}])
def test_what_is_enough_is_enough(folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    pretend(monkeypatch, **changes)
    require_folders()


def test_a_file_in_its_place_is_named(folder: Path) -> None:
    folder.parent.parent.mkdir(exist_ok=True)
    folder.parent.touch()
    assert folder_problems() == [f"{folder} cannot be made: {folder.parent} is no folder"]
    folder.parent.unlink()
    folder.parent.mkdir()
    folder.touch()
    assert folder_problems() == [f"{folder} is no folder"]


def test_what_is_said_of_a_folder_is_not_said_of_those_in_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, f_flag=os.ST_RDONLY)
    assert len(folder_problems([folder.parent, folder])) == 1
    assert len(folder_problems([folder, folder.parent / "other"])) == 2


def test_a_folder_that_forbids_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    assert folder_problems() == [f"{folder} cannot be written: {folder.parent.parent} forbids it"]


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_only_what_is_on_disk_counts(folder: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def refuse(*_arguments: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(CriuError, match=f"{folder} cannot be written: Input/output error"):
        require_folders()
    assert list(folder.iterdir()) == []
