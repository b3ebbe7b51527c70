# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
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


def test_what_ran_here_is_replaced_only_after_it_was_handed_over(path: Path) -> None:
    record = Contents(path)
    record.begin(["/srv/a"], "redis", 3, "h3", arrives=True)
    assert "whether the handoff h3" in (record.problem("/srv/a", "redis") or "")
    assert record.problem("/srv/a", "redis", 0, "h3") is None, "it is this handoff that asks"
    record.conclude("h3", moved=True)
    assert "since generation 3" in (record.problem("/srv/a", "redis", 9) or "")
    assert record.generations("redis") == {"/srv/a": 3}
    assert record.generations("postgres") == {}
    record.begin(["/srv/a"], "redis", 4, "h4", arrives=False)
    record.conclude("h4", moved=True)
    assert record.problem("/srv/a", "redis") is None
    assert record.problem("/srv/a", "redis", 4) is None
    assert "generation 4, which is newer than what would come (generation 3)" in (
        record.problem("/srv/a", "redis", 3) or ""
    )


def test_a_handoff_that_was_given_up_changes_nothing_at_the_target_and_shows_who_runs_at_the_source(path: Path) -> None:
    record = Contents(path)
    record.claim(["/srv/a", "/srv/b"], "redis")
    before = path.read_bytes()
    record.begin(["/srv/a"], "redis", 7, "h7", arrives=True)
    record.conclude("h6", moved=True)
    assert record.problem("/srv/a", "redis") is not None
    record.conclude("h7", moved=False)
    assert path.read_bytes() == before
    record.begin(["/srv/b"], "redis", 8, "h8", arrives=False)
    record.conclude("h8", moved=False)
    assert "was never handed over" in (record.problem("/srv/b", "redis", 8) or "")
    record.conclude("", moved=True)
    assert record.problem("/srv/a", "redis", 0) is None


def test_a_claim_of_the_same_workload_takes_nothing_away_from_what_is_known(path: Path) -> None:
    record = Contents(path)
    record.begin(["/srv/a"], "redis", 3, "h3", arrives=True)
    record.conclude("h3", moved=True)
    record.claim(["/srv/a"], "redis")
    assert record.problem("/srv/a", "redis") is not None
    record.claim(["/srv/a"], "postgres")
    assert record.problem("/srv/a", "postgres") is None
    assert "did not come from a move of this workload" in (record.problem("/srv/a", "redis") or "")


def test_a_record_of_the_first_release_is_read(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"/srv/a": "redis"}')
    record = Contents(path)
    assert record.belongs_to("/srv/a", "redis")
    assert record.problem("/srv/a", "redis", 0) is None
    record.claim(["/srv/b"], "redis")
    assert record.belongs_to("/srv/a", "redis")


GOOD = {"workload": "redis", "state": "here", "generation": 1, "handoff": "", "next_generation": 0, "arrives": False}


@pytest.mark.parametrize(
    "wrong",
    [
        1,
        None,
        [],
        {},
        {"workload": "redis"},
        *({**GOOD, "generation": number} for number in (-1, True, 1.0, "1", None)),
        *({**GOOD, name: 1} for name in ("workload", "state", "handoff", "arrives")),
        {**GOOD, "state": "anything"},
        {**GOOD, "more": 1},
    ],
)
def test_what_is_not_understood_is_not_known_and_never_a_permission(path: Path, wrong: object) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({"/srv/a": wrong, "/srv/b": GOOD}))
    record = Contents(path)
    assert "did not come from a move" in (record.problem("/srv/a", "redis", 9) or "")
    assert record.generations("redis") == {"/srv/b": 1}


def test_a_record_that_cannot_be_read_is_an_error(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(CriuError, match="cannot be read"):
        Contents(path).problem("/srv/a", "redis")


def test_folder_and_record_are_for_their_owner_alone(path: Path) -> None:
    Contents(path).claim(["/srv/a"], "redis")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
