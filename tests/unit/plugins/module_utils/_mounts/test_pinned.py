# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._mounts.pinned import Pinned
from ansible_collections.fleet.criu.plugins.module_utils._trusted import Untrusted


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of somebody else, with a folder and a file."""
    path = tmp_path / "home"
    (path / "data").mkdir(parents=True)
    (path / "file").touch()
    path.chmod(0o777)
    return path


@pytest.fixture
def pinned() -> Iterator[Pinned]:
    made = Pinned()
    yield made
    made.close()


@pytest.mark.parametrize("name", ["data", "file"])
def test_what_was_opened_is_what_counts(pinned: Pinned, home: Path, tmp_path: Path, name: str) -> None:
    path = str(home / name)
    pinned.add([path, path])
    assert pinned.is_at(path, path)
    assert not pinned.is_at(path, str(tmp_path))
    assert not pinned.is_at(path, str(tmp_path / "nowhere"))
    home.rename(tmp_path / "aside")
    home.mkdir()
    (home / "data").mkdir()
    (home / "file").touch()
    assert not pinned.is_at(path, path)
    assert pinned.is_at(path, str(tmp_path / "aside" / name))


def test_a_file_may_be_replaced_in_its_folder_but_not_by_a_symlink(pinned: Pinned, home: Path, tmp_path: Path) -> None:
    path = str(home / "file")
    pinned.add([path])
    (home / "new").touch()
    (home / "new").rename(home / "file")
    assert pinned.is_at(path, path)
    (home / "file").unlink()
    (tmp_path / "victim").touch()
    (home / "file").symlink_to(tmp_path / "victim")
    assert not pinned.is_at(path, path)


def test_a_folder_stays_open_under_one_number(pinned: Pinned, home: Path) -> None:
    assert pinned.folder(str(home / "data")) == pinned.folder(str(home / "data"))
    with pytest.raises(CriuError, match="is no folder"):
        pinned.folder(str(home / "file"))


def test_what_cannot_be_opened_is_named(pinned: Pinned, home: Path, tmp_path: Path) -> None:
    with pytest.raises(CriuError, match="nothing cannot be opened here: No such file"):
        pinned.add([str(home / "nothing")])
    (home / "link").symlink_to(tmp_path)
    with pytest.raises(Untrusted):
        pinned.add([str(home / "link")])


def test_in_the_end_nothing_is_open(home: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    pinned = Pinned()
    pinned.add([str(home / "data"), str(home / "file")])
    pinned.close()
    assert len(os.listdir("/proc/self/fd")) == before
