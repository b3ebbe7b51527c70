# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.generation import RECORD, Generations
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lib" / "generations.json"


def test_the_record_is_where_a_host_keeps_its_state() -> None:
    assert Path("/var/lib/fleet.criu/generations.json") == RECORD


def test_nothing_is_known_at_first_and_asking_makes_no_record(path: Path) -> None:
    generations = Generations(path)
    assert (generations.current("redis"), generations.spent("redis")) == (0, 0)
    assert not generations.is_spent("redis", 1)
    assert not path.parent.exists()


def test_a_new_generation_is_greater_than_all_before_and_kept(path: Path) -> None:
    assert Generations(path).begin("redis") == 1
    assert Generations(path).begin("redis") == 2
    assert Generations(path).current("redis") == 2


@pytest.mark.parametrize(("known", "at_least", "expected"), [(0, 5, 6), (5, 5, 6), (7, 5, 8), (2, -3, 3)])
def test_a_new_generation_is_greater_than_what_others_know(
    path: Path, known: int, at_least: int, expected: int
) -> None:
    generations = Generations(path)
    generations.learn("redis", known)
    assert generations.begin("redis", at_least) == expected


def test_the_highest_generation_seen_is_kept(path: Path) -> None:
    for number in (3, 5, 4):
        Generations(path).learn("redis", number)
    assert Generations(path).current("redis") == 5
    assert Generations(path).spent("redis") == 0


def test_a_spent_generation_is_spent_with_all_before_and_none_after(path: Path) -> None:
    Generations(path).spend("redis", 3)
    assert [Generations(path).is_spent("redis", number) for number in (1, 2, 3, 4)] == [True, True, True, False]


def test_generation_0_is_never_spent(path: Path) -> None:
    Generations(path).spend("redis", 3)
    assert not Generations(path).is_spent("redis", 0)


def test_what_is_spent_is_known(path: Path) -> None:
    Generations(path).spend("redis", 3)
    assert Generations(path).begin("redis") == 4


def test_spending_an_earlier_one_takes_nothing_back(path: Path) -> None:
    generations = Generations(path)
    assert [generations.spend("redis", number) for number in (3, 1, 4, 4)] == [0, 3, 3, 4]
    assert generations.spent("redis") == 4


def test_beginning_and_learning_spend_nothing(path: Path) -> None:
    generations = Generations(path)
    generations.begin("redis", 4)
    generations.learn("redis", 9)
    assert generations.spent("redis") == 0


def test_what_was_spent_in_vain_is_given_back(path: Path) -> None:
    generations = Generations(path)
    generations.spend("redis", 2)
    generations.give_back("redis", 5, generations.spend("redis", 5))
    assert (generations.spent("redis"), generations.current("redis")) == (2, 5)


def test_nothing_is_given_back_that_others_have_spent_meanwhile(path: Path) -> None:
    generations = Generations(path)
    before = generations.spend("redis", 5)
    generations.spend("redis", 6)
    generations.give_back("redis", 5, before)
    assert generations.spent("redis") == 6


def test_each_workload_has_generations_of_its_own(path: Path) -> None:
    generations = Generations(path)
    generations.begin("redis", 6)
    generations.spend("postgres", 2)
    assert (generations.current("redis"), generations.spent("redis")) == (7, 0)
    assert (generations.current("postgres"), generations.spent("postgres")) == (2, 2)


def test_nothing_new_writes_nothing(path: Path) -> None:
    generations = Generations(path)
    generations.spend("redis", 3)
    before = path.stat().st_ino
    generations.spend("redis", 3)
    generations.learn("redis", 2)
    generations.give_back("redis", 2, 1)
    assert path.stat().st_ino == before


def test_folder_and_record_are_for_their_owner_alone(path: Path) -> None:
    Generations(path).begin("redis")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_many_who_begin_at_the_same_time_get_a_number_each(path: Path) -> None:
    begun: list[int] = []

    def begin() -> None:
        begun.extend(Generations(path).begin("redis") for _turn in range(10))

    threads = [threading.Thread(target=begin) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(begun) == list(range(1, 41))


def test_file_folder_and_the_folder_above_are_synced_to_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[str] = set()
    sync = os.fsync

    def watch(descriptor: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    Generations(path).begin("redis")
    assert {str(path.parent), str(path.parent.parent)} < synced
    assert len(synced) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"redis": 3}',
        '{"redis": {}}',
        '{"redis": {"generation": 1}}',
        '{"redis": {"generation": 1, "spent": 0, "more": 1}}',
        '{"redis": {"generation": "1", "spent": 0}}',
        '{"redis": {"generation": true, "spent": 0}}',
        '{"redis": {"generation": 1, "spent": 2}}',
        '{"redis": {"generation": 1, "spent": -1}}',
        '{"postgres": {"generation": 1.5, "spent": 1}}',
    ],
)
def test_a_damaged_record_is_an_error_and_stays_as_it_is(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    generations = Generations(path)
    for ask in (
        lambda: generations.current("redis"),
        lambda: generations.is_spent("redis", 1),
        lambda: generations.begin("redis"),
        lambda: generations.learn("redis", 1),
        lambda: generations.spend("redis", 1),
    ):
        with pytest.raises(CriuError, match="cannot be read") as caught:
            ask()
        assert str(path) in caught.value.message
        assert caught.value.remedy.startswith("Bring it back from a backup")
        assert caught.value.facts == {"record": str(path)}
    assert path.read_text() == text


def test_a_record_that_is_no_text_is_an_error(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CriuError, match="cannot be read"):
        Generations(path).current("redis")


def test_a_record_that_cannot_be_opened_is_an_error(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(CriuError, match="cannot be read"):
        Generations(path).current("redis")


def test_a_record_that_cannot_be_written_is_an_error(path: Path) -> None:
    path.parent.write_text("no folder")
    with pytest.raises(CriuError, match="cannot be written") as caught:
        Generations(path).begin("redis")
    assert caught.value.remedy.startswith("Make room there")
