# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import (
    SOURCE,
    TARGET,
    Journal,
    Record,
    RecordFailed,
    all_records,
    journal_path,
    machine_id,
    read_record,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Step

FACTS = {"workload": "redis", "pid": 42}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "lib" / "handoffs"


@pytest.fixture
def journal(folder: Path) -> Journal:
    made = Journal("redis-1", SOURCE, folder)
    made.begin(FACTS)
    return made


def record(folder: Path, side: str = SOURCE) -> Record:
    return record_of(folder, "redis-1", side)


def record_of(folder: Path, handoff: str, side: str = TARGET) -> Record:
    found = read_record(handoff, side, folder)
    assert found is not None
    return found


def test_what_was_recorded_is_read_again(journal: Journal, folder: Path) -> None:
    before = time.time()
    journal.record(Step.FREEZING)
    journal.record(Step.COMMITTED)
    found = record(folder)
    assert (found.handoff, found.side) == ("redis-1", SOURCE)
    assert found.facts == {**FACTS, "machine": machine_id(), "journal": journal.identity}
    assert [step for step, _time in found.steps] == [Step.ARMED, Step.FREEZING, Step.COMMITTED]
    assert found.step is Step.COMMITTED
    assert before <= found.steps[-1][1] <= time.time()


def test_nobody_else_can_read_it(journal: Journal, folder: Path) -> None:
    assert journal.path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_no_journal_is_no_record(folder: Path) -> None:
    assert read_record("redis-1", SOURCE, folder) is None
    assert all_records(folder) == []


def test_a_handoff_has_one_life(journal: Journal, folder: Path) -> None:
    journal.record(Step.BACK)
    with pytest.raises(CriuError, match=r"The handoff redis-1\.source was begun here before") as caught:
        Journal("redis-1", SOURCE, folder).begin({"workload": "other"})
    assert "handoff_settle" in caught.value.remedy
    assert record(folder).step is Step.BACK
    assert FACTS.items() <= record(folder).facts.items()
    assert record(folder).facts["journal"] == journal.identity


def test_the_two_sides_have_journals_of_their_own(journal: Journal, folder: Path) -> None:
    Journal("redis-1", TARGET, folder).begin({})
    journal.record(Step.FREEZING)
    assert record(folder, TARGET).step is Step.ARMED


@pytest.mark.parametrize("name", ["", "..", ".x", "-x", "a/b", "../a", "a\0", "a\n", "ä", "x" * 50])
def test_a_name_that_is_no_file_s_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(CriuError, match="cannot be the name of a handoff"):
        journal_path(name, SOURCE, folder)
    with pytest.raises(CriuError, match="cannot be the name of a handoff"):
        Journal(name, SOURCE, folder)


@pytest.mark.parametrize("name", ["a", "redis-20260101T020000-ab12", "A.b_c@d-1", "x" * 49])
def test_names_with_dots_are_told_apart_from_their_sides(folder: Path, name: str) -> None:
    Journal(name, TARGET, folder).begin({})
    (found,) = all_records(folder)
    assert (found.handoff, found.side) == (name, TARGET)


@pytest.mark.parametrize("torn", [b'{"step": "comm', b'{"step": "done", "time": 1.0}', b'{"facts": "' + b"x" * 999])
def test_a_line_that_was_torn_off_does_not_count_and_the_next_one_takes_its_place(
    journal: Journal, folder: Path, torn: bytes
) -> None:
    journal.record(Step.FREEZING)
    with journal.path.open("ab") as stream:
        stream.write(torn)
    assert record(folder).step is Step.FREEZING
    journal.record(Step.BACK)
    assert [step for step, _time in record(folder).steps] == [Step.ARMED, Step.FREEZING, Step.BACK]


@pytest.mark.parametrize("content", [b"", b'{"step": "ar'])
def test_a_journal_whose_first_line_is_not_there_has_no_step(folder: Path, content: bytes) -> None:
    folder.mkdir(parents=True)
    journal_path("redis-1", SOURCE, folder).write_bytes(content)
    assert record(folder).step is None
    assert not record(folder).is_settled
    assert [found.step for found in all_records(folder)] == [None]


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"[]",
        b'{"step": "armed"}',
        b'{"step": "sleeping", "time": 1}',
        b'{"step": "armed", "time": "x"}',
        b'{"step": "armed", "time": 1' + b"0" * 400 + b"}",
        b'{"step": "armed", "time": NaN}',
        b'{"step": "armed", "time": 1, "facts": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b"\xff\xfe",
        b"",
    ],
)
def test_a_damaged_line_is_never_passed_over(journal: Journal, folder: Path, line: bytes) -> None:
    with journal.path.open("ab") as stream:
        stream.write(line + b"\n")
    journal.record(Step.BACK)
    with pytest.raises(CriuError, match="is damaged") as caught:
        record(folder)
    assert "workload_info" in caught.value.remedy


def test_a_damaged_journal_does_not_hide_the_others(journal: Journal, folder: Path) -> None:
    journal.record(Step.BACK)
    broken = Journal("broken", TARGET, folder)
    broken.begin({"workload": "web"})
    with broken.path.open("ab") as stream:
        stream.write(b"nonsense\n")
    broken.record(Step.CLEARED)
    found = {record.handoff: record for record in all_records(folder)}
    assert (found["redis-1"].is_settled, found["redis-1"].damage) == (True, None)
    assert found["broken"].facts["workload"] == "web"
    assert found["broken"].step is Step.ARMED
    assert not found["broken"].is_settled
    assert "broken.target.jsonl is damaged: line 2 is b'nonsense'" in str(found["broken"].damage)
    with pytest.raises(CriuError, match="line 2"):
        read_record("broken", TARGET, folder)


def test_what_is_no_file_in_the_place_of_a_journal_keeps_nobody_waiting(journal: Journal, folder: Path) -> None:
    os.mkfifo(folder / "pipe.source.jsonl")
    (folder / "zero.source.jsonl").symlink_to("/dev/zero")
    (folder / "holes.source.jsonl").touch()
    os.truncate(folder / "holes.source.jsonl", 1 << 40)
    assert {record.handoff for record in all_records(folder) if record.damage} == {"pipe", "zero", "holes"}
    Journal("next", SOURCE, folder).begin({})


def test_a_step_is_on_disk_before_record_returns(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Any] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        events.append((path.name, path.read_text().splitlines()[-1][-60:] if path.is_file() else ""))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    journal.record(Step.COMMITTED)
    ((name, line),) = events
    assert name == "redis-1.source.jsonl"
    assert '"step": "committed"' in line


def test_the_file_s_name_is_on_disk_when_it_is_begun(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    Journal("redis-1", SOURCE, folder).begin(FACTS)
    assert synced == [str(folder / "redis-1.source.jsonl"), str(folder)]


def test_what_cannot_be_synced_is_not_recorded(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(
        RecordFailed, match=r"'committed' could not be recorded .* Input/output error\. It may be"
    ) as caught:
        journal.record(Step.COMMITTED)
    assert caught.value.may_be_there


@pytest.mark.parametrize("broken", ["open", "pread", "ftruncate"])
def test_what_fails_before_it_is_written_is_surely_not_there(
    journal: Journal, folder: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any, **_more: Any) -> Any:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(os, broken, fail)
        with pytest.raises(RecordFailed, match=r"Read-only file system\. See") as caught:
            journal.record(Step.COMMITTED)
    assert not caught.value.may_be_there
    assert record(folder).step is Step.ARMED


def test_a_journal_that_is_gone_is_not_begun_again(journal: Journal, folder: Path) -> None:
    journal.path.unlink()
    with pytest.raises(RecordFailed, match="No such file") as caught:
        journal.record(Step.COMMITTED)
    assert not caught.value.may_be_there
    assert read_record("redis-1", SOURCE, folder) is None


def test_each_journal_has_an_identity_and_tells_whether_the_images_were_complete(folder: Path) -> None:
    one, other = Journal("one", TARGET, folder), Journal("other", TARGET, folder)
    for each in (one, other):
        each.begin({})
        each.record(Step.RECEIVING)
    assert one.identity != other.identity
    assert record_of(folder, "one").identity == {"machine": machine_id(), "journal": one.identity, "complete": False}
    one.record(Step.COMPLETE)
    one.record(Step.RUN)
    assert record_of(folder, "one").identity["complete"]
    assert not record_of(folder, "other").identity["complete"]


def test_what_is_known_later_is_recorded_with_its_step(journal: Journal, folder: Path) -> None:
    journal.record(Step.FREEZING, {"peer": {"machine": "m"}})
    journal.record(Step.COMMITTED, {"peer": {"machine": "n"}})
    assert record(folder).facts["peer"] == {"machine": "n"}


def test_a_step_for_which_there_is_no_room_is_not_recorded(
    journal: Journal, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite, room = os.pwrite, [10]

    def write(descriptor: int, data: bytes, offset: int) -> int:
        if not room:
            raise OSError(28, "No space left on device")
        return pwrite(descriptor, data[: room.pop()], offset)

    monkeypatch.setattr(os, "pwrite", write)
    with pytest.raises(RecordFailed, match="No space") as caught:
        journal.record(Step.COMMITTED)
    assert not caught.value.may_be_there
    assert record(folder).step is Step.ARMED
    room += [10, 1000]
    journal.record(Step.BACK)
    assert record(folder).step is Step.BACK


def test_all_records_come_with_the_oldest_first(folder: Path) -> None:
    for name in ("z", "a", "m"):
        Journal(name, SOURCE, folder).begin({})
        time.sleep(0.002)
    assert [found.handoff for found in all_records(folder)] == ["z", "a", "m"]


@pytest.mark.parametrize(
    ("side", "steps", "settled"),
    [
        *((SOURCE, [step], True) for step in (Step.DONE, Step.BACK)),
        *((SOURCE, [step], False) for step in (Step.FREEZING, Step.COMMITTED)),
        (SOURCE, [], False),
        *((TARGET, [step], True) for step in (Step.CLEARED, Step.RUNNING)),
        *((TARGET, [step], False) for step in (Step.RECEIVING, Step.COMPLETE, Step.RUN, Step.DROPPED, Step.REFUSED)),
        (TARGET, [Step.RUNNING, Step.RUN], False),
    ],
)
def test_only_what_is_settled_is_forgotten_and_only_when_it_is_old(
    folder: Path, side: str, steps: list[Step], settled: bool
) -> None:
    for name in ("old", "new"):
        journal = Journal(name, side, folder)
        journal.begin({})
        for step in steps:
            journal.record(step)
    month = 31 * 24 * 3600
    os.utime(journal_path("old", side, folder), (time.time() - month, time.time() - month))
    os.utime(journal_path("new", side, folder), (time.time() - month / 2, time.time() - month / 2))
    assert {found.is_settled for found in all_records(folder)} == {settled}
    Journal("next", SOURCE, folder).begin({})
    assert journal_path("old", side, folder).exists() != settled
    assert journal_path("new", side, folder).exists()


def test_an_old_journal_that_is_damaged_stays_and_keeps_nobody_from_beginning(folder: Path) -> None:
    folder.mkdir(parents=True)
    path = journal_path("old", SOURCE, folder)
    path.write_text("nonsense\n")
    os.utime(path, (1, 1))
    Journal("next", SOURCE, folder).begin({})
    assert path.exists()
    assert read_record("next", SOURCE, folder) is not None
