# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._mounts.contents import RECORD, Contents


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lib" / "contents.json"


def test_the_record_is_where_a_host_keeps_its_state() -> None:
    assert Path("/var/lib/fleet.criu/contents.json") == RECORD


def test_a_path_belongs_to_the_workload_that_claimed_it_and_no_other(path: Path) -> None:
    Contents(path).claim(["/srv/a", "/srv/b"], "redis")
    found = Contents(path)
    assert found.belongs_to("/srv/a", "redis")
    assert found.belongs_to("/srv/b", "redis")
    assert not found.belongs_to("/srv/a", "postgres")
    assert not found.belongs_to("/srv", "redis")
    assert not found.belongs_to("/srv/a/b", "redis")


def test_a_later_claim_takes_a_path_and_keeps_the_others(path: Path) -> None:
    Contents(path).claim(["/srv/a", "/srv/b"], "redis")
    Contents(path).claim(["/srv/a"], "postgres")
    assert Contents(path).belongs_to("/srv/a", "postgres")
    assert Contents(path).belongs_to("/srv/b", "redis")


def test_a_claim_that_says_nothing_new_writes_nothing(path: Path) -> None:
    Contents(path).claim(["/srv/a"], "redis")
    before = path.stat().st_ino
    Contents(path).claim(["/srv/a"], "redis")
    Contents(path).claim([], "redis")
    assert path.stat().st_ino == before


def test_without_a_record_nothing_belongs_to_anybody_and_asking_makes_none(path: Path) -> None:
    assert not Contents(path).belongs_to("/srv/a", "redis")
    assert not path.parent.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"'])
def test_a_damaged_record_is_none_and_may_be_written_anew(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    assert not Contents(path).belongs_to("/srv/a", "redis")
    Contents(path).claim(["/srv/a"], "redis")
    assert Contents(path).belongs_to("/srv/a", "redis")


def test_folder_and_record_are_for_their_owner_alone(path: Path) -> None:
    Contents(path).claim(["/srv/a"], "redis")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
