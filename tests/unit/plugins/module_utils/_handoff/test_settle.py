# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every row of the settlement, with real journals and stages; docs/handoff.md has the table."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu import restorer
from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import digests, manifest_of, write_manifest
from ansible_collections.fleet.criu.plugins.module_utils._engine import registry
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import locked
from ansible_collections.fleet.criu.plugins.module_utils._handoff import settle as subject
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import Journal
from ansible_collections.fleet.criu.plugins.module_utils._handoff.settle import Settled
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Outcome, Step
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity
from ansible_collections.fleet.criu.tests.unit import playing_engine
from ansible_collections.fleet.criu.tests.unit.fake_engine import FakeEngine
from ansible_collections.fleet.criu.tests.unit.fakes import BOOT_ID
from ansible_collections.fleet.criu.tests.unit.plugins.module_utils._handoff.pair import (
    CHILD,
    HANDOFF,
    PID,
    RESTORED,
    RESTORED_START,
    SOURCE,
    START,
    TARGET,
    Pair,
)
from ansible_collections.fleet.criu.tests.unit.streaming_criu import TEMPLATE, remove, set_state

GENERATION = 4
MANIFEST = {
    "workload": {"name": "redis", "pid": PID, "start_time": START},
    "host": "node1",
    "boot_id": "x",
    "kernel": "6",
    "architecture": "x",
    "criu_version": "4",
    "created": "",
    "root": "/",
    "mount_map": [],
    "mounts": [],
    "options": {},
    "generation": GENERATION,
    "format": 1,
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_PATIENCE", 0.1)
    monkeypatch.setattr(subject, "_LOCK_SECONDS", 0.1)


class Left:
    """What an agent that died has left on one host."""

    def __init__(self, pair: Pair, side: str) -> None:
        self.pair = pair
        self.side = side
        self.host = pair.hosts[side]
        self.stages = self.host.runtime / "stages"
        self.stages.mkdir()
        self.pid_file = self.host.folder / "redis.pid"
        self.pid_file.write_text("1\n")
        self.answers_seen: list[str] = []

    def journal(self, *steps: str, **facts: Any) -> None:
        journal = Journal(HANDOFF, self.side, self.host.here / "lib" / "handoffs")
        given = {
            "workload": "redis",
            "pid": PID,
            "start_time": START,
            "boot_id": BOOT_ID,
            "folder": str(self.host.runtime),
            # At the source only an engine has CRIU write them into a folder.
            "images": str(self.pair.images) if self.side == TARGET else None,
            "transport": "direct",
            "root": str(self.host.box),
            "restore_map": [],
            "options": {},
            "pid_file": str(self.pid_file),
            "unit": None,
            "criu_path": str(self.host.criu),
        }
        journal.begin({**given, **facts})
        for step in steps:
            journal.record(Step(step))

    def states(self) -> list[str]:
        return [self.host.state(pid) for pid in ((PID, CHILD) if self.side == SOURCE else (RESTORED,))]

    def set_states(self, state: str) -> None:
        for pid in (PID, CHILD):
            process = self.host.proc.folder / str(pid)
            if not state:
                remove(process)
                continue
            set_state(process, state)
            if state == "T":
                (process / "stop").touch()

    def restore(self, runs: bool) -> None:
        process = self.host.proc.folder / str(RESTORED)
        (self.host.criu.parent / TEMPLATE).rename(process)
        if runs:
            (process / "syscall").write_text("running\n")
        (self.host.runtime / "restored.json").write_text(json.dumps({"pid": RESTORED, "start_time": RESTORED_START}))

    def put_images(self, manifest: bool = True) -> None:
        self.pair.images.mkdir()
        (self.pair.images / "pages-1.img").write_text("memory")
        if manifest:
            (self.pair.images / "manifest.json").write_text(json.dumps(MANIFEST))

    def tell(self, stage: str, answer: str) -> None:
        (self.stages / f"answer.{stage}").write_text(f"{answer}\n")

    def told(self, stage: str) -> str | None:
        path = self.stages / f"answer.{stage}"
        return path.read_text().strip() if path.exists() else None

    def settle(self, peer: Outcome, check_only: bool = False) -> Settled:
        return self.pair.settle(self.side, peer, check_only)


@pytest.fixture
def source(pair: Pair) -> Left:
    return Left(pair, SOURCE)


@pytest.fixture
def target(pair: Pair) -> Left:
    return Left(pair, TARGET)


UNKNOWN, RAN, NOT_RUN, IN_DOUBT = Outcome.UNKNOWN, Outcome.RAN, Outcome.NOT_RUN, Outcome.IN_DOUBT
NO_RECORD = Outcome.NO_RECORD
FREEZING, COMMITTED = ["freezing"], ["freezing", "committed"]
TARGETS = (UNKNOWN, RAN, NOT_RUN, IN_DOUBT, NO_RECORD)
TELL_NOTHING = (UNKNOWN, IN_DOUBT, NO_RECORD)

SOURCE_ROWS = [
    # steps after armed, state of the tasks, the target's outcome; our outcome, what is recorded, the state then
    *(([], "S", peer, Outcome.BACK, ["back"], "S") for peer in (UNKNOWN, NOT_RUN)),
    *((FREEZING, "S", peer, Outcome.BACK, ["back"], "S") for peer in TARGETS),
    # Frozen for good, so it was about to commit, or its journal was rolled back.
    (FREEZING, "T", NOT_RUN, Outcome.BACK, ["back"], "S"),
    (FREEZING, "T", RAN, Outcome.GONE, ["done"], ""),
    *((FREEZING, "T", peer, Outcome.HELD, [], "T") for peer in TELL_NOTHING),
    *((FREEZING, "", peer, Outcome.ENDED, [], "") for peer in (RAN, *TELL_NOTHING)),
    (FREEZING, "", NOT_RUN, Outcome.ENDED, ["back"], ""),
    *((COMMITTED, "T", peer, Outcome.HELD, [], "T") for peer in TELL_NOTHING),
    (COMMITTED, "T", NOT_RUN, Outcome.BACK, ["back"], "S"),
    (COMMITTED, "T", RAN, Outcome.GONE, ["done"], ""),
    (COMMITTED, "", RAN, Outcome.GONE, ["done"], ""),
    *((COMMITTED, "", peer, Outcome.GONE, [], "") for peer in (NOT_RUN, *TELL_NOTHING)),
    *(([*COMMITTED, "done"], "T", peer, Outcome.GONE, [], "") for peer in TARGETS),
    *(([*COMMITTED, "done"], "", peer, Outcome.GONE, [], "") for peer in TARGETS),
    # What can be read of `back` may not be on disk.
    *(([*COMMITTED, "back"], "T", peer, Outcome.BACK, ["back"], "S") for peer in (NOT_RUN, *TELL_NOTHING)),
    ([*COMMITTED, "back"], "T", RAN, Outcome.GONE, ["done"], ""),
    *(([*FREEZING, "back"], "S", peer, Outcome.BACK, [], "S") for peer in TARGETS),
    *(([*FREEZING, "back"], "", peer, Outcome.ENDED, [], "") for peer in TARGETS),
]


@pytest.mark.parametrize(("steps", "state", "peer", "outcome", "recorded", "then"), SOURCE_ROWS)
def test_what_becomes_of_a_source(
    source: Left, steps: list[str], state: str, peer: Outcome, outcome: Outcome, recorded: list[str], then: str
) -> None:
    source.journal(*steps)
    source.set_states(state)
    hold = source.stages / "hold"
    if "committed" in steps or state == "T":
        hold.touch()
    expected_changed = bool(recorded) or state != then
    looked = source.settle(peer, check_only=True)
    assert (looked.outcome, looked.changed) == (outcome, expected_changed)
    assert (source.states(), source.host.steps()) == ([state] * 2, ["armed", *steps]), "a look changes nothing"
    settled = source.settle(peer)
    assert (settled.outcome, settled.changed) == (outcome, expected_changed)
    assert source.host.steps() == ["armed", *steps, *recorded]
    assert source.states() == [then] * 2
    assert settled.pid == (PID if then else None)
    assert settled.record is not None
    assert not (source.host.runtime / "identity").exists()
    if then == "T":
        assert hold.exists()
    if state == "T":
        assert source.told("post-dump") == {"S": "1", "": "0", "T": None}[then]
    again = source.settle(peer)
    assert (again.outcome, again.changed, source.states()) == (
        outcome,
        False,
        [then] * 2,
    )


def test_a_held_workload_that_is_let_go_is_held_no_longer(source: Left) -> None:
    source.journal(*COMMITTED)
    source.set_states("T")
    (source.stages / "hold").touch()
    source.settle(NOT_RUN)
    assert not (source.stages / "hold").exists()
    assert source.told("post-dump") == "1"
    assert source.pid_file.exists()


def test_a_workload_that_is_given_up_has_no_pid_file(source: Left) -> None:
    source.journal(*COMMITTED)
    source.set_states("T")
    (source.stages / "hold").touch()
    source.settle(RAN)
    assert not (source.stages / "hold").exists()
    assert source.told("post-dump") == "0"
    assert not source.pid_file.exists()


def test_another_process_with_its_pid_is_left_alone(source: Left) -> None:
    source.journal(*COMMITTED, start_time=START - 1)
    assert source.settle(RAN).outcome is Outcome.GONE
    assert source.states() == ["S", "S"]


def test_after_a_boot_no_process_is_the_workload(source: Left) -> None:
    source.journal(*FREEZING, boot_id="another")
    settled = source.settle(UNKNOWN)
    assert (settled.outcome, settled.pid) == (Outcome.ENDED, None)
    assert source.states() == ["S", "S"]


def test_a_workload_that_somebody_else_stops_is_said_to_be_stopped(source: Left) -> None:
    source.journal(*FREEZING)
    source.set_states("t")
    with pytest.raises(CriuError, match="was told to run on, but is still stopped") as caught:
        source.settle(NOT_RUN)
    assert "TracerPid" in caught.value.remedy
    assert source.host.steps()[-1] == "back"


@pytest.mark.parametrize("side", [SOURCE, TARGET])
@pytest.mark.parametrize("content", [None, "", '{"step": "arm'])
def test_who_has_no_record_says_nothing(pair: Pair, side: str, content: str | None) -> None:
    host = pair.hosts[side]
    if content is not None:
        path = host.here / "lib" / "handoffs" / f"{HANDOFF}.{side}.jsonl"
        path.parent.mkdir()
        path.write_text(content)
    assert pair.settle(side) == Settled(NO_RECORD, False, None)


@pytest.mark.parametrize(
    ("state", "start_time", "outcome"),
    [
        ("S", START, Outcome.BACK),
        ("R", START, Outcome.BACK),
        ("T", START, NO_RECORD),
        ("t", START, NO_RECORD),
        ("S", START + 1, NO_RECORD),
    ],
)
def test_a_source_without_a_record_may_be_shown_what_runs(
    source: Left, state: str, start_time: int, outcome: Outcome
) -> None:
    source.set_states(state)
    settled = source.pair.settle(SOURCE, UNKNOWN, copy=Identity(PID, start_time))
    assert (settled.outcome, settled.changed) == (outcome, False)
    assert source.states() == [state] * 2


JOURNAL = {"machine": "m", "journal": "j"}


@pytest.mark.parametrize("steps", [FREEZING, COMMITTED])
@pytest.mark.parametrize(
    ("noted", "journal", "is_believed"),
    [
        (JOURNAL, {**JOURNAL, "complete": True}, True),
        (JOURNAL, {**JOURNAL, "complete": False}, False),
        (JOURNAL, {**JOURNAL, "machine": "another", "complete": True}, False),
        (JOURNAL, {**JOURNAL, "journal": "another", "complete": True}, False),
        (JOURNAL, {"complete": True}, False),
        (JOURNAL, {}, False),
        # A journal that was rolled back to before the note.
        (None, {**JOURNAL, "complete": True}, True),
        (None, {**JOURNAL, "complete": False}, False),
    ],
)
def test_only_the_journal_that_was_spoken_with_says_that_nothing_ran(
    source: Left, steps: list[str], noted: Any, journal: Any, is_believed: bool
) -> None:
    source.journal(*steps, **({"peer": noted} if noted else {}))
    source.set_states("T")
    (source.stages / "hold").touch()
    settled = source.pair.settle(SOURCE, NOT_RUN, journal=journal)
    assert settled.outcome is (Outcome.BACK if is_believed else Outcome.HELD)
    assert source.states() == ["S" if is_believed else "T"] * 2


def test_a_target_that_ran_is_not_believed_by_a_source_that_has_not_committed(source: Left) -> None:
    source.journal(*FREEZING, peer=JOURNAL)
    source.set_states("T")
    settled = source.pair.settle(SOURCE, RAN, journal={**JOURNAL, "complete": True})
    assert (settled.outcome, source.states()) == (Outcome.HELD, ["T", "T"])


def test_a_workload_runs_on_though_its_folder_is_gone(source: Left) -> None:
    source.journal(*COMMITTED)
    source.set_states("T")
    shutil.rmtree(source.host.runtime)
    assert source.settle(NOT_RUN).outcome is Outcome.BACK
    assert source.states() == ["S", "S"]


def test_two_settlements_at_a_time_wait_for_each_other(source: Left) -> None:
    source.journal(*COMMITTED)
    source.set_states("T")
    with locked(source.host.runtime / "settle.lock"), pytest.raises(CriuError, match=r"settle\.lock"):
        source.settle(NOT_RUN)
    assert (source.states(), source.host.steps()[-1]) == (["T", "T"], "committed")


# The target

BACK, GONE, HELD, ENDED = Outcome.BACK, Outcome.GONE, Outcome.HELD, Outcome.ENDED
COMPLETE = ["receiving", "complete"]
RUN = [*COMPLETE, "run"]
NOTHING, FROZEN, RUNS = "nothing", "frozen", "runs"

TARGET_ROWS = [
    # steps after armed, our copy, told, manifest, the source's outcome; our outcome, what is recorded, images then
    *(([], NOTHING, False, False, peer, NOT_RUN, ["cleared"], False) for peer in (UNKNOWN, BACK)),
    *((["receiving"], NOTHING, False, False, peer, NOT_RUN, ["cleared"], False) for peer in (UNKNOWN, BACK, ENDED)),
    *((COMPLETE, NOTHING, False, True, peer, NOT_RUN, ["refused"], True) for peer in (UNKNOWN, HELD, ENDED)),
    *((COMPLETE, FROZEN, False, True, peer, NOT_RUN, ["refused"], True) for peer in (UNKNOWN, HELD, ENDED)),
    *((COMPLETE, FROZEN, False, True, peer, NOT_RUN, ["cleared"], False) for peer in (BACK,)),
    (COMPLETE, NOTHING, False, False, GONE, NOT_RUN, ["refused"], True),
    *(([*COMPLETE, "dropped"], NOTHING, False, True, peer, NOT_RUN, ["refused"], True) for peer in (UNKNOWN, HELD)),
    ([*COMPLETE, "dropped"], NOTHING, False, True, BACK, NOT_RUN, ["cleared"], False),
    *(([*COMPLETE, "refused"], NOTHING, False, True, peer, NOT_RUN, [], True) for peer in (UNKNOWN, HELD, ENDED)),
    ([*COMPLETE, "refused"], FROZEN, True, True, UNKNOWN, NOT_RUN, ["refused"], True),
    ([*COMPLETE, "refused"], NOTHING, True, True, BACK, NOT_RUN, ["cleared"], False),
    *((RUN, NOTHING, True, True, peer, IN_DOUBT, [], True) for peer in (UNKNOWN, HELD, GONE, ENDED)),
    *((RUN, NOTHING, False, True, peer, NOT_RUN, ["refused"], True) for peer in (UNKNOWN, HELD, ENDED)),
    *((RUN, FROZEN, told, True, UNKNOWN, NOT_RUN, ["refused"], True) for told in (False, True)),
    *((RUN, RUNS, True, True, peer, RAN, ["running"], True) for peer in (UNKNOWN, HELD)),
    (RUN, RUNS, True, True, GONE, RAN, ["running"], False),
    *(([*RUN, "running"], copy, True, True, UNKNOWN, RAN, [], True) for copy in (RUNS, NOTHING)),
    *(([*RUN, "running"], copy, True, True, GONE, RAN, [], False) for copy in (RUNS, NOTHING)),
    *((["receiving", "cleared"], NOTHING, False, False, peer, NOT_RUN, [], True) for peer in (UNKNOWN, BACK, GONE)),
]


@pytest.mark.parametrize(("steps", "copy", "told", "manifest", "peer", "outcome", "recorded", "images"), TARGET_ROWS)
def test_what_becomes_of_a_target(
    target: Left,
    steps: list[str],
    copy: str,
    told: bool,
    manifest: bool,
    peer: Outcome,
    outcome: Outcome,
    recorded: list[str],
    images: bool,
) -> None:
    target.journal(*steps)
    target.put_images(manifest)
    if copy != NOTHING:
        target.restore(copy == RUNS)
    if told:
        target.tell("post-restore", "0")
    before = target.states()
    looked = target.settle(peer, check_only=True)
    assert looked.outcome is outcome
    assert (target.states(), target.host.steps()) == (before, ["armed", *steps]), "a look changes nothing"
    assert (target.pair.images / "pages-1.img").exists()
    settled = target.settle(peer)
    assert (settled.outcome, settled.changed) == (outcome, bool(recorded) or not images)
    assert looked.changed == settled.changed
    assert target.host.steps() == ["armed", *steps, *recorded]
    assert target.states() == (["S"] if copy == RUNS else [""])
    assert settled.pid == (RESTORED if copy == RUNS else None)
    assert (target.pair.images / "pages-1.img").exists() == images
    assert target.host.generations().is_spent("redis", GENERATION) == (outcome is RAN)
    assert not (target.host.runtime / "identity").exists()
    if outcome is NOT_RUN and recorded:
        assert not target.pid_file.exists()
    again = target.settle(peer)
    assert (again.outcome, target.states()) == (outcome, settled_states(copy))


def settled_states(copy: str) -> list[str]:
    return ["S"] if copy == RUNS else [""]


LOST_ROWS = [
    # steps after armed, what lives and how it is found; our outcome
    (RUN, "", IN_DOUBT),
    (RUN, "pid file", IN_DOUBT),
    (RUN, "image set", IN_DOUBT),
    (RUN, "root", IN_DOUBT),
    (COMPLETE, "", NOT_RUN),
    (COMPLETE, "pid file", IN_DOUBT),
    ([*COMPLETE, "refused"], "root", IN_DOUBT),
    ([*COMPLETE, "dropped"], "image set", IN_DOUBT),
    (["receiving"], "pid file", IN_DOUBT),
    ([*RUN, "running"], "pid file", RAN),
]


@pytest.mark.parametrize(("steps", "found_by", "outcome"), LOST_ROWS)
def test_an_emptied_run_folder_is_no_proof_that_nothing_ran(
    target: Left, steps: list[str], found_by: str, outcome: Outcome
) -> None:
    target.journal(*steps)
    shutil.rmtree(target.host.runtime)
    target.pair.images.mkdir()
    if found_by:
        (target.host.criu.parent / TEMPLATE).rename(target.host.proc.folder / str(RESTORED))
        (target.host.proc.folder / str(RESTORED) / "syscall").write_text("running\n")
    if found_by == "image set":
        record = {"pid": RESTORED, "start_time": RESTORED_START, "boot_id": BOOT_ID}
        (target.pair.images / "restored.json").write_text(json.dumps(record))
    if found_by == "pid file":
        target.pid_file.write_text(f"{RESTORED}\n")
        # A pid file is written after its process has started.
        os.utime(target.pid_file, (4e9, 4e9))
    if found_by == "root":
        (target.host.proc.folder / str(RESTORED) / "status").write_text(f"NSpid:\t{RESTORED}\t1\n")
    for _time in range(2):
        settled = target.settle(UNKNOWN)
        assert settled.outcome is outcome
        if found_by:
            assert target.states() == ["S"], "it is killed"
            assert settled.pid == RESTORED


def test_a_complete_image_set_is_kept_though_the_journal_has_forgotten_it(target: Left) -> None:
    target.journal("receiving")
    target.put_images()
    settled = target.settle(UNKNOWN)
    assert (settled.outcome, settled.changed) == (NO_RECORD, False)
    assert (target.pair.images / "pages-1.img").exists()


def test_after_a_boot_nobody_knows_whether_a_copy_has_run(target: Left) -> None:
    target.journal(*RUN, boot_id="another")
    target.put_images()
    target.restore(runs=True)
    settled = target.settle(GONE)
    assert (settled.outcome, settled.pid) == (IN_DOUBT, None)
    assert target.states() == ["S"], "another process with that pid"


# Reviving what lives nowhere else


@pytest.fixture
def revived(target: Left, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def check(request: Any, *_arguments: Any, check_only: bool) -> Any:
        assert check_only
        return SimpleNamespace(pid=None, manifest="the manifest")

    def revive(request: Any, manifest: Any, unit: Any, _proc: Any, _runner: Any) -> Any:
        calls.append((request, manifest, unit, target.told("post-restore"), target.host.steps()[-1]))
        process = target.host.proc.folder / str(RESTORED)
        (target.host.criu.parent / TEMPLATE).rename(process)
        (process / "syscall").write_text("running\n")
        return SimpleNamespace(pid=RESTORED)

    monkeypatch.setattr(subject, "restore_workload", check)
    monkeypatch.setattr(subject, "revive", revive)
    monkeypatch.setattr(subject, "unit_problem", lambda name, runner: None)
    monkeypatch.setattr(subject, "unit_for", lambda workload, unit, runner: unit)
    return calls


@pytest.mark.parametrize("steps", [COMPLETE, [*COMPLETE, "dropped"], [*COMPLETE, "refused"], RUN])
def test_images_that_are_all_there_is_come_to_life(target: Left, revived: list[Any], steps: list[str]) -> None:
    target.journal(*steps, unit="my.service", options={"shell_job": True})
    target.put_images()
    assert target.settle(GONE, check_only=True).outcome is RAN
    assert revived == []
    settled = target.settle(GONE)
    assert (settled.outcome, settled.changed, settled.pid) == (RAN, True, RESTORED)
    ((request, manifest, unit, told, step),) = revived
    assert (request.images, request.root) == (target.pair.images, str(target.host.box))
    assert (request.options, request.pid_file) == ({"shell_job": True}, target.pid_file)
    assert (manifest, unit) == ("the manifest", "my.service")
    assert (told, step) == ("0", "run"), "whoever comes after a crash must know that it may have run"
    assert target.host.steps()[-2:] == ["run", "running"]
    assert not target.pair.images.exists()
    assert target.host.generations().is_spent("redis", GENERATION)
    again = target.settle(GONE)
    assert (again.outcome, again.pid, len(revived)) == (RAN, RESTORED, 1)


def test_a_copy_that_came_to_life_is_known_by_its_process(target: Left, revived: list[Any]) -> None:
    target.journal(*COMPLETE)
    target.put_images()
    target.settle(GONE)
    found = json.loads((target.host.runtime / "restored.json").read_text())
    assert found == {"pid": RESTORED, "start_time": RESTORED_START}


@pytest.mark.usefixtures("revived")
def test_what_could_not_be_revived_can_be_tried_again(target: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    target.journal(*COMPLETE)
    target.put_images()
    with monkeypatch.context() as patch:

        def fail(*_arguments: Any) -> Any:
            raise CriuError("It failed.", "See the log.")

        patch.setattr(subject, "revive", fail)
        with pytest.raises(CriuError, match=r"It failed\."):
            target.settle(GONE)
    assert target.told("post-restore") is None, "it is certain that it did not run"
    assert (target.pair.images / "manifest.json").exists()
    assert target.settle(GONE).outcome is RAN


# A workload that an engine owns


WANTED = {"name": "fake", "container": "redis", "sources": {"/data": "/mnt/data"}}


class Owned:
    """The engine on one host. `book` says what was done to its containers."""

    def __init__(self, left: Left) -> None:
        self.engine = FakeEngine(left.host, left.host.proc)
        self.images = left.pair.images

    def put(self, state: str, pid: int = 0) -> None:
        playing_engine.put(self.engine.folder, "redis", state, pid)
        if self.images.is_dir():
            # What the receiver has written before the engine has begun.
            (self.images / "engine.json").write_text(json.dumps({"engine": "fake", "secret": "s3cret"}))

    def book(self) -> list[str]:
        path = self.engine.folder / playing_engine.BOOK
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def _engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "ENGINES", {"fake": FakeEngine})


@pytest.mark.usefixtures("_engines")
def test_a_source_that_is_given_up_is_removed_from_its_engine(source: Left) -> None:
    source.journal(*COMMITTED, engine=WANTED)
    source.set_states("T")
    owned = Owned(source)
    owned.put("running", PID)
    assert source.settle(RAN, check_only=True).outcome is Outcome.GONE
    assert owned.book() == []
    assert source.settle(RAN).outcome is Outcome.GONE
    assert owned.book() == ["remove redis"]
    assert source.states() == ["", ""]


@pytest.mark.usefixtures("_engines")
@pytest.mark.parametrize(
    ("steps", "peer", "book"),
    [(FREEZING, NOT_RUN, ["forget"]), (COMMITTED, NOT_RUN, ["forget"]), (COMMITTED, UNKNOWN, [])],
)
def test_a_source_that_is_not_given_up_stays_with_its_engine(
    source: Left, steps: list[str], peer: Outcome, book: list[str]
) -> None:
    source.journal(*steps, engine=WANTED)
    source.set_states("T")
    owned = Owned(source)
    owned.put("running", PID)
    source.settle(peer, check_only=True)
    assert owned.book() == []
    source.settle(peer)
    assert owned.book() == book


@pytest.mark.usefixtures("_engines")
@pytest.mark.parametrize(
    ("peer", "transport", "is_left"),
    [
        (NOT_RUN, "direct", False),
        (NOT_RUN, "shared", False),
        (RAN, "direct", False),
        (RAN, "shared", True),
        (UNKNOWN, "direct", True),
        (UNKNOWN, "shared", True),
    ],
)
def test_images_that_an_engine_has_written_at_the_source_go_unless_they_are_the_target_s(
    source: Left, peer: Outcome, transport: str, is_left: bool
) -> None:
    source.journal(*COMMITTED, engine=WANTED, images=str(source.pair.images), transport=transport)
    source.set_states("T")
    source.put_images(manifest=False)
    Owned(source).put("running", PID)
    (source.host.runtime / "made_images").touch()
    source.settle(peer)
    assert source.pair.images.exists() == is_left


@pytest.mark.usefixtures("_engines")
@pytest.mark.parametrize(
    ("steps", "peer"),
    [(["receiving"], UNKNOWN), (COMPLETE, UNKNOWN), (COMPLETE, BACK), ([*COMPLETE, "dropped"], BACK), (RUN, HELD)],
)
def test_what_an_engine_has_made_for_a_copy_that_never_ran_is_removed(
    target: Left, steps: list[str], peer: Outcome
) -> None:
    target.journal(*steps, engine=WANTED)
    target.put_images(manifest="complete" in steps)
    owned = Owned(target)
    owned.put("created")
    assert target.settle(peer, check_only=True).outcome is NOT_RUN
    assert owned.book() == []
    assert target.settle(peer).outcome is NOT_RUN
    assert owned.book() == ["remove redis"]
    target.settle(peer)
    assert owned.book() == ["remove redis"], "a second time there is nothing"


@pytest.mark.usefixtures("_engines")
@pytest.mark.parametrize(("pid", "book"), [(RESTORED, ["remove redis"]), (RESTORED + 1, [])])
def test_a_container_that_runs_is_removed_only_if_it_is_the_copy_of_this_handoff(
    target: Left, pid: int, book: list[str]
) -> None:
    target.journal(*COMPLETE, engine=WANTED)
    target.put_images()
    target.restore(runs=False)
    owned = Owned(target)
    owned.put("running", pid)
    assert target.settle(BACK).outcome is NOT_RUN
    assert owned.book() == book


@pytest.mark.usefixtures("_engines")
@pytest.mark.parametrize("peer", [UNKNOWN, HELD, GONE])
def test_a_copy_that_runs_stays_with_its_engine(target: Left, peer: Outcome) -> None:
    target.journal(*RUN, engine=WANTED)
    target.put_images()
    target.restore(runs=True)
    target.tell("post-restore", "0")
    owned = Owned(target)
    owned.put("running", RESTORED)
    assert target.settle(peer).outcome is RAN
    assert owned.book() == []
    assert target.states() == ["S"]


@pytest.mark.usefixtures("_engines")
def test_images_that_are_all_there_is_come_to_life_by_the_engine(target: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(subject, "revive", None)
    monkeypatch.setattr(subject, "_PATIENCE", 5.0)
    target.journal(*COMPLETE, engine=WANTED, restore_map=[{"key": "k", "path": str(target.host.data)}])
    target.put_images(manifest=False)
    mounts = [
        {"mountpoint": mountpoint, "kind": kind, "type": "directory", "mount_options": ["rw"], "fstype": "ext4"}
        | {"root": "/x", "shared": None, "master": None}
        for mountpoint, kind in (("/", "root"), ("/data", "external"), ("/proc", "engine"))
    ]
    given = {**MANIFEST, "mounts": mounts, "mount_map": [{"mountpoint": "/data", "key": "k"}]}
    images = target.pair.images
    manifest = replace(manifest_of(given), files=digests(images))
    write_manifest(images, manifest)
    owned = Owned(target)
    owned.put("created")
    settled = target.settle(GONE)
    assert (settled.outcome, settled.pid) == (RAN, RESTORED), "CRIU did not wait for an answer that nobody gives"
    assert owned.book() == ["remove redis", "restore", "restore calls CRIU", "restore ends 0"]
    arrival = json.loads((owned.engine.folder / "arrival").read_text())
    assert arrival == {
        "sources": WANTED["sources"],
        "root": str(target.host.box),
        "configuration": {"engine": "fake", "secret": "s3cret"},
    }
    assert target.host.steps()[-2:] == ["run", "running"]
    assert target.host.generations().is_spent("redis", GENERATION)
    again = target.settle(GONE)
    assert (again.outcome, again.pid, len(owned.book())) == (RAN, RESTORED, 4)


# An agent or a CRIU that is still there


@pytest.fixture
def criu(target: Left) -> int:
    pid = RESTORED + 1
    command = ["/usr/sbin/criu", "restore", "--restore-detached", "--images-dir", str(target.pair.images)]
    target.host.proc.add(pid, command, own_namespaces=())
    return pid


def test_a_criu_that_hangs_is_killed_before_anything_is_decided(target: Left, criu: int) -> None:
    target.journal(*COMPLETE)
    target.put_images()
    assert target.settle(UNKNOWN).outcome is NOT_RUN
    assert target.host.state(criu) == ""


def test_a_look_kills_nobody(target: Left, criu: int) -> None:
    target.journal(*COMPLETE)
    target.put_images()
    target.settle(UNKNOWN, check_only=True)
    assert target.host.state(criu) == "S"


def test_if_criu_ends_in_the_last_moment_nobody_is_killed(target: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    target.journal(*COMPLETE)
    target.put_images()
    seen = iter([RESTORED + 1])
    monkeypatch.setattr(subject, "_PATIENCE", -1.0)
    monkeypatch.setattr(subject, "find_restoring", lambda images, proc: next(seen, None))
    assert target.settle(UNKNOWN).outcome is NOT_RUN


def test_what_a_criu_that_died_has_half_restored_is_killed_at_once(
    target: Left, criu: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_PATIENCE", 0.0)
    monkeypatch.setattr(subject, "find_restoring", lambda images, proc: None)
    monkeypatch.setattr(restorer, "find_half_restored", lambda images, proc: [criu])
    target.journal(*COMPLETE)
    target.put_images()
    target.settle(UNKNOWN, check_only=True)
    assert target.host.state(criu) == "S"
    assert target.settle(UNKNOWN).outcome is NOT_RUN
    assert target.host.state(criu) == ""


@pytest.mark.parametrize("other", [["criu", "dump"], ["criu", "restore", "--images-dir", "/elsewhere"], ["vi"]])
def test_another_criu_is_left_alone(target: Left, other: list[str]) -> None:
    target.host.proc.add(RESTORED + 1, other)
    target.journal(*COMPLETE)
    target.put_images()
    target.settle(UNKNOWN)
    assert target.host.state(RESTORED + 1) == "S"


@pytest.mark.parametrize("in_time", [False, True])
def test_an_agent_at_work_may_end_and_is_stopped_if_it_does_not(
    source: Left, monkeypatch: pytest.MonkeyPatch, in_time: bool
) -> None:
    source.journal(*COMMITTED)
    source.set_states("T")
    (source.stages / "hold").touch()
    events: list[str] = []
    alive = [True]

    def follow(folder: Path, seconds: float) -> Any:
        events.append(f"follow {folder == source.host.runtime} {seconds}")
        alive[0] = not in_time
        Journal(HANDOFF, SOURCE, source.host.here / "lib" / "handoffs").record(Step.DONE)

    def stop(folder: Path, seconds: float) -> str:
        events.append(f"stop {seconds}")
        return "terminated"

    monkeypatch.setattr(subject, "is_alive", lambda folder: alive[0])
    monkeypatch.setattr(subject, "follow", follow)
    monkeypatch.setattr(subject, "ask_to_stop", stop)
    assert source.settle(UNKNOWN, check_only=True).outcome is HELD
    assert events == [], "a look disturbs nobody"
    settled = source.settle(UNKNOWN)
    assert settled.outcome is GONE, "it has recorded more since"
    assert source.states() == ["", ""]
    assert events == ["follow True 0.1", *([] if in_time else ["stop 5.0"])]
