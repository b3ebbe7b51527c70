# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu import folder as subject
from ansible_collections.fleet.criu.plugins.module_utils._criu.folder import (
    free_bytes,
    prepare_folder,
    remove_images,
    require_empty,
    require_space,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    images = tmp_path / "a" / "b"
    prepare_folder(images)
    assert mode(images) == 0o700


def test_an_empty_folder_is_taken_and_closed_to_others(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    images.chmod(0o755)
    prepare_folder(images)
    assert mode(images) == 0o700


def test_logs_of_an_earlier_attempt_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "dump.log").touch()
    (tmp_path / "restore.log").touch()
    require_empty(tmp_path)
    prepare_folder(tmp_path)


def test_a_folder_that_is_not_there_is_empty_and_is_not_made_by_asking(tmp_path: Path) -> None:
    require_empty(tmp_path / "images")
    assert not (tmp_path / "images").exists()


def test_a_folder_with_anything_else_is_refused_and_named(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.img").touch()
    with pytest.raises(BadImageSet, match=r"it has 0.img, 1.img, 2.img, 3.img, 4.img …\."):
        require_empty(tmp_path)
    with pytest.raises(BadImageSet):
        prepare_folder(tmp_path)


def test_a_file_or_symlink_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "dangling").symlink_to("nothing")
    for name in ("file", "link", "dangling"):
        with pytest.raises(BadImageSet, match="is not a folder"):
            require_empty(tmp_path / name)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadImageSet, match="cannot be made: Not a directory"):
        prepare_folder(tmp_path / "file" / "images")


def test_space_is_that_of_the_file_system_where_the_folder_would_be(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") > 0
    assert free_bytes(Path("relative/not/yet")) > 0


def test_too_little_space_is_told_in_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "free_bytes", lambda path: 3 << 20)
    require_space(tmp_path, 3 << 20)
    with pytest.raises(BadImageSet, match="4 MiB are needed, 3 MiB are free") as caught:
        require_space(tmp_path, 4 << 20)
    assert caught.value.facts == {"needed_bytes": 4 << 20, "free_bytes": 3 << 20}


def test_only_logs_stay_of_an_attempt_that_failed(tmp_path: Path) -> None:
    for name in ("dump.log", "restore.log", "pages-1.img", "manifest.json", "stats-dump", "core"):
        (tmp_path / name).touch()
    remove_images(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dump.log", "restore.log"]
    require_empty(tmp_path)
