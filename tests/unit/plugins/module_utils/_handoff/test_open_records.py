# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.held import Held
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import SOURCE, TARGET, Journal, Record
from ansible_collections.fleet.criu.plugins.module_utils._handoff.marks import Marks, family, marks_of, real_marks
from ansible_collections.fleet.criu.plugins.module_utils._handoff.open_records import (
    Life,
    Standing,
    names_workload,
    read_all,
    standing,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Copy, Step
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity
from ansible_collections.fleet.criu.tests.unit.fakes import BOOT_ID, FakeProc

OVER, ALONE, HOLDS = Standing.OVER, Standing.ALONE, Standing.HOLDS
FACTS = {"workload": "redis", "source": "node1", "target": "node2", "boot_id": BOOT_ID}
PID, START = 42, 5000

# By the last step: without an agent, with no copy, a stopped one and one that runs.
SOURCES = {
    Step.ARMED: (OVER, HOLDS, ALONE),
    Step.FREEZING: (OVER, HOLDS, ALONE),
    Step.COMMITTED: (HOLDS, HOLDS, HOLDS),
    Step.DONE: (OVER, HOLDS, HOLDS),
    Step.BACK: (OVER, HOLDS, OVER),
}
TARGETS = {
    Step.ARMED: ALONE,
    Step.RECEIVING: ALONE,
    Step.COMPLETE: HOLDS,
    Step.RUN: HOLDS,
    Step.RUNNING: OVER,
    Step.DROPPED: HOLDS,
    Step.REFUSED: HOLDS,
    Step.CLEARED: OVER,
}


def record(side: str, *steps: Step, **facts: Any) -> Record:
    return Record(
        "redis-1", side, {**FACTS, **facts}, tuple((step, 1_700_000_000.0 + n) for n, step in enumerate(steps))
    )


@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize(("number", "copy"), list(enumerate((Copy.NONE, Copy.FROZEN, Copy.RUNNING))))
def test_what_a_record_of_the_source_means(step: Step, number: int, copy: Copy) -> None:
    known = SOURCES.get(step)
    assert standing(record(SOURCE, step), Life(False, copy)) is (known[number] if known else HOLDS)
    assert standing(record(SOURCE, step), Life(True, copy)) is HOLDS, "its agent is at work"


@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize("copy", [Copy.NONE, Copy.FROZEN, Copy.RUNNING])
def test_what_a_record_of_the_target_means(step: Step, copy: Copy) -> None:
    assert standing(record(TARGET, step), Life(False, copy)) is TARGETS.get(step, HOLDS)
    runs = step is Step.RUNNING
    assert standing(record(TARGET, step), Life(True, copy)) is (OVER if runs else HOLDS)


def test_a_journal_in_which_nothing_was_begun_means_nothing() -> None:
    assert standing(record(SOURCE), Life(False, Copy.RUNNING)) is OVER


# Whose it is


ASKED = Marks(
    "redis",
    frozenset({Identity(PID, START)}),
    ("podman", "web"),
    "/images/a",
    "/srv/roots/redis",
    "/run/redis.pid",
    "redis.service",
)
ONE_EACH = [
    ({"workload": "redis"}, "the name redis"),
    ({"processes": ASKED.processes}, "the process 42"),
    ({"container": ("podman", "web")}, "the podman container web"),
    ({"images": "/images/a"}, "the image folder /images/a"),
    ({"images": "/images"}, "the image folder /images"),
    ({"images": "/images/a/b"}, "the image folder /images/a/b"),
    ({"root": "/srv/roots/redis"}, "the root /srv/roots/redis"),
    ({"pid_file": "/run/redis.pid"}, "the pid file /run/redis.pid"),
    ({"unit": "redis.service"}, "the unit redis.service"),
]


@pytest.mark.parametrize(("mark", "words"), ONE_EACH)
def test_one_thing_in_common_is_enough(mark: dict[str, Any], words: str) -> None:
    other = replace(Marks("another"), **mark)
    assert other.shared_with(ASKED) == words
    assert ASKED.shared_with(other) is not None


@pytest.mark.parametrize(
    "mark",
    [
        {"workload": "redis2"},
        {"processes": frozenset({Identity(PID, START + 1)})},
        {"container": ("crun", "web")},
        {"images": "/images/ab"},
        {"root": "/srv/roots/redis2"},
        {"pid_file": "/run/redis2.pid"},
        {},
    ],
)
def test_what_only_looks_alike_is_another(mark: dict[str, Any]) -> None:
    assert replace(Marks(), **mark).shared_with(ASKED) is None


@pytest.mark.parametrize("root", ["/", "", None])
def test_the_root_of_the_host_is_nobody_s(root: str | None) -> None:
    assert Marks("a", root=root).shared_with(Marks("b", root=root)) is None


def test_the_marks_of_a_record_are_those_of_its_facts() -> None:
    engine = {"name": "podman", "container": "web"}
    given = record(SOURCE, Step.ARMED, pid=PID, start_time=START, engine=engine, images="/i", pid_file="/p", root="/r")
    assert marks_of(given, BOOT_ID) == Marks(
        "redis", frozenset({Identity(PID, START)}), ("podman", "web"), "/i", "/r", "/p"
    )
    assert marks_of(given, "another boot").processes == frozenset()


def test_a_target_is_known_by_its_unit_and_by_what_it_has_restored() -> None:
    restored = Identity(77, 9000)
    found = marks_of(record(TARGET, Step.RUN), BOOT_ID, restored)
    assert (found.unit, found.processes) == ("criu-redis.service", frozenset({restored}))
    assert marks_of(record(TARGET, Step.RUN, unit="own"), BOOT_ID).unit == "own.service"
    assert marks_of(record(TARGET, Step.RUN), "another boot", restored).processes == frozenset()


def test_a_symlink_is_no_way_around(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    held = marks_of(record(TARGET, Step.DROPPED, images=str(tmp_path / "there")), BOOT_ID)
    assert held.shared_with(real_marks(Marks("other", images=str(tmp_path / "link")))) is not None


def test_a_part_of_a_workload_is_the_workload(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path / "proc")
    for pid, parent in ((42, 1), (43, 42), (44, 43), (50, 1)):
        proc.add(pid, parent=parent, start_time=pid * 10)
    whole = {Identity(42, 420), Identity(43, 430), Identity(44, 440)}
    assert family(43, proc) == whole
    assert family(50, proc) == {Identity(50, 500)}
    assert family(99, proc) == frozenset()


# The journals


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "handoffs"


def test_every_journal_is_found(folder: Path) -> None:
    assert read_all(folder) == []
    for handoff, side in (("b", SOURCE), ("a", TARGET)):
        Journal(handoff, side, folder).begin(FACTS)
    (folder / "begin.lock").touch()
    assert [(found.handoff, found.side, found.damage) for found in read_all(folder)] == [
        ("b", SOURCE, None),
        ("a", TARGET, None),
    ]


@pytest.mark.parametrize(
    ("text", "names_it"),
    [
        (b'{"step": "armed", "time": 1.0, "facts": {"workload": "redis"}}\n{"step": "x"}\n', True),
        (b'{"step": "armed", "time": 1.0, "facts": {"workload": "redis"}}\n\0\0\0\0\n', True),
        (b"\0\0\0\0\n", False),
        (b'{"step": "armed", "time": 1.0, "facts": {}}\n', False),
        (b'{"step": "armed", "time": 1.0, "facts": {"workload": 7}}\n', False),
        (b'{"step": "armed", "time": 1.0, "facts": {"workload": "redis", "pid": "7"}}\n', False),
        (b'{"step": "armed", "time": 1.0, "facts": {"workload": "redis", "engine": [1]}}\n', False),
    ],
)
def test_a_damaged_journal_is_not_passed_over(folder: Path, text: bytes, names_it: bool) -> None:
    folder.mkdir()
    (folder / "redis-1.source.jsonl").write_bytes(text)
    (found,) = read_all(folder)
    assert found.damage
    assert names_workload(found) is names_it


def test_a_journal_that_was_never_begun_is_no_damage(folder: Path) -> None:
    folder.mkdir()
    (folder / "redis-1.source.jsonl").touch()
    (folder / "redis-2.target.jsonl").write_bytes(b'{"step": "arm')
    assert [(found.damage, found.step) for found in read_all(folder)] == [(None, None), (None, None)]


def test_a_file_that_nobody_can_have_written_is_damage(folder: Path) -> None:
    folder.mkdir()
    (folder / "redis.jsonl").touch()
    assert [found.damage is not None for found in read_all(folder)] == [True]


def test_a_folder_that_cannot_be_read_is_an_error(folder: Path) -> None:
    folder.touch()
    with pytest.raises(CriuError, match="cannot be read"):
        read_all(folder)


# What is said


def test_the_error_names_the_handoff_its_state_and_what_ends_it(folder: Path) -> None:
    journal = Journal("redis-1", SOURCE, folder)
    journal.begin({**FACTS, "pid": PID, "start_time": START})
    journal.record(Step.COMMITTED)
    (found,) = read_all(folder)
    error = Held(found, shared="the name redis").error("The dump of redis")
    assert "redis-1 (node1 -> node2) of redis is open on this host, its source" in error.message
    assert "committed" in error.message
    assert "held here until that is known" in error.message
    assert error.remedy.endswith("ansible-playbook fleet.criu.settle -e handoff=redis-1")
    told = error.facts["open_handoff"]
    assert (told["name"], told["side"], told["step"], told["other_host"]) == ("redis-1", "source", "committed", "node2")
    assert told["since"].endswith("Z")


def test_whoever_is_at_work_is_waited_for() -> None:
    held = Held(record(TARGET, Step.COMPLETE), agent=True, shared="the name redis")
    assert held.error("X").remedy.startswith("Wait until it has ended.")
    assert held.as_dict()["at_work"] is True
    assert held.as_dict()["other_host"] == "node1"


def test_a_damaged_journal_is_named_with_what_to_do(folder: Path) -> None:
    folder.mkdir()
    path = folder / "redis-1.source.jsonl"
    path.write_bytes(b"?\n")
    (found,) = read_all(folder)
    error = Held(found, shared="a journal that may be of any workload").error("The dump of web")
    assert str(path) in error.message
    assert "cannot be told of which workload" in error.message
    assert f"move {path} away" in error.remedy
    assert error.facts["journal"] == str(path)


@pytest.mark.parametrize(
    ("side", "step"),
    [
        *((SOURCE, step) for step in SOURCES),
        *((TARGET, step) for step, stands in TARGETS.items() if stands is HOLDS),
    ],
)
def test_each_state_that_holds_has_words(side: str, step: Step) -> None:
    assert "its last step" not in Held(record(side, step)).state
