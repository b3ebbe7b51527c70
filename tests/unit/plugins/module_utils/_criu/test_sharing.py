# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.sharing import close_folder, shared
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet

GROUP = 100_000


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The groups that files were given to, by name."""
    made: dict[str, int] = {}

    def fchown(descriptor: int, owner: int, group: int) -> None:
        assert owner == -1
        made[os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))] = group

    monkeypatch.setattr(os, "fchown", fchown)
    return made


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir(mode=0o700)
    for name in ("pages-1.img", "inventory.img", "manifest.json", "dump.log"):
        (folder / name).touch(mode=0o600)
    return folder


def modes(images: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in (images, *images.iterdir())}


def test_a_group_may_read_the_images_meanwhile_and_nothing_else(images: Path, given: dict[str, int]) -> None:
    above = images.parent.stat().st_mode
    with shared(images, GROUP):
        assert given == dict.fromkeys(["images", "pages-1.img", "inventory.img"], GROUP)
        assert modes(images) == {
            "images": 0o710,
            "pages-1.img": 0o640,
            "inventory.img": 0o640,
            "manifest.json": 0o600,
            "dump.log": 0o600,
        }
        assert images.parent.stat().st_mode == above
    assert images.stat().st_mode & 0o777 == 0o700
    assert given["images"] == 0


def test_the_folder_is_closed_again_whatever_happens(images: Path, given: dict[str, int]) -> None:
    with pytest.raises(KeyboardInterrupt), shared(images, GROUP):
        raise KeyboardInterrupt
    assert images.stat().st_mode & 0o777 == 0o700
    assert given["images"] == 0


def test_without_a_group_nothing_is_done(images: Path, given: dict[str, int]) -> None:
    before = modes(images)
    with shared(images, None):
        assert modes(images) == before
    assert given == {}
    assert modes(images) == before


def test_a_folder_that_is_gone_needs_no_closing(images: Path) -> None:
    close_folder(images / "missing")


@pytest.mark.usefixtures("given")
def test_a_pipe_keeps_nobody_waiting(images: Path) -> None:
    os.mkfifo(images / "pipe.img", 0o600)
    with shared(images, GROUP):
        assert modes(images)["pipe.img"] == 0o600


@pytest.mark.usefixtures("given")
def test_what_a_link_leads_to_is_given_to_nobody(images: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    (images / "link.img").symlink_to(secret)
    with pytest.raises(BadImageSet, match="cannot be given to group 100000"), shared(images, GROUP):
        raise AssertionError
    assert secret.stat().st_mode & 0o777 == 0o600
    assert images.stat().st_mode & 0o777 == 0o700


def test_a_file_system_without_groups_is_told(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fchown(descriptor: int, owner: int, group: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", fchown)
    with pytest.raises(BadImageSet, match="Operation not permitted"), shared(images, GROUP):
        raise AssertionError
    assert images.stat().st_mode & 0o777 == 0o700
