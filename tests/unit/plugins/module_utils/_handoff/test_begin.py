# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json, write_json
from ansible_collections.fleet.criu.plugins.module_utils._handoff import begin as subject
from ansible_collections.fleet.criu.plugins.module_utils._handoff import holding
from ansible_collections.fleet.criu.plugins.module_utils._handoff.begin import at_work, beginning
from ansible_collections.fleet.criu.plugins.module_utils._handoff.holding import (
    Asked,
    asked_to_receive,
    asked_to_send,
    holder,
    require_free,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import SOURCE, TARGET, Journal, read_record
from ansible_collections.fleet.criu.plugins.module_utils._handoff.marks import Marks, family
from ansible_collections.fleet.criu.plugins.module_utils._handoff.request import ReceiveRequest, SendRequest
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Step
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.tests.unit.fakes import BOOT_ID, FakeProc, FakeRunner

PID, CHILD, START = 5_000_042, 5_000_043, 5000


@dataclass
class Scene:
    """A host on which the workload `redis` runs, and what can be asked of it."""

    folder: Path
    host: Path
    proc: FakeProc

    def __post_init__(self) -> None:
        self.state("S")

    def state(self, state: str) -> None:
        for pid, parent in ((PID, 1), (CHILD, PID)):
            with contextlib.suppress(FileNotFoundError):
                self.proc.remove(pid)
            if state:
                self.proc.add(pid, ["redis"], parent, state=state, start_time=START)

    def journal(self, side: str, *steps: Step, **facts: Any) -> Journal:
        runtime = self.host / "run" / "handoff" / f"h0.{side}"
        runtime.mkdir(parents=True, exist_ok=True)
        known = {
            "workload": "redis",
            "source": "node1",
            "target": "node2",
            "boot_id": BOOT_ID,
            "folder": str(runtime),
            "agent": 0,
            "images": str(self.folder / "images"),
            "root": str(self.folder / "root"),
            "pid_file": str(self.folder / "redis.pid"),
            "engine": {"name": "runc", "container": "redis"},
        }
        if side == SOURCE:
            known.update(pid=PID, start_time=START, images=None)
        made = Journal("h0", side)
        made.begin({**known, **facts})
        for step in steps:
            made.record(step)
        return made

    def send(self, name: str = "other", **changes: Any) -> Asked:
        request = SendRequest("h1", name, 7, 7, "node1", "node3", "192.0.2.1", 5, "PEM", [])
        return asked_to_send(replace(request, **changes), self.proc)

    def receive(self, name: str = "other", **changes: Any) -> Asked:
        request = ReceiveRequest("h1", name, "node3", "node1", "PEM", "/elsewhere/h1", "/elsewhere/root", [])
        return asked_to_receive(replace(request, **changes))

    def dump(self, name: str = "other", pid: int = 7, **marks: Any) -> Asked:
        return Asked("The dump", Marks(name, family(pid, self.proc), **marks))

    def begin(self, asked: Asked) -> None:
        with beginning(asked, self.proc, FakeRunner()):
            pass


@pytest.fixture
def scene(tmp_path: Path, host: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("images", "root"):
        (tmp_path / name).mkdir()
    return Scene(tmp_path, host, FakeProc(tmp_path / "proc"))


def asked_for(scene: Scene) -> dict[str, tuple[Asked, set[str]]]:
    """All that can be asked, each by one mark alone, and which side's records know a workload by that mark."""
    box, both = {"name": "runc", "container": "redis"}, {SOURCE, TARGET}
    root, images, pid_file = (str(scene.folder / name) for name in ("root", "images", "redis.pid"))
    return {
        "send by name": (scene.send("redis"), both),
        "send by pid": (scene.send(pid=PID, start_time=START), {SOURCE}),
        "send a part": (scene.send(pid=CHILD, start_time=START), {SOURCE}),
        "send a container": (scene.send(engine=box), both),
        "send by pid file": (scene.send(pid_file=pid_file), both),
        "receive by name": (scene.receive("redis"), both),
        "receive a container": (scene.receive(engine={**box, "sources": {}}), both),
        "receive into the root": (scene.receive(root=root), both),
        "receive into the images": (scene.receive(images=images), {TARGET}),
        "receive with the pid file": (scene.receive(pid_file=pid_file), both),
        "dump by name": (scene.dump("redis"), both),
        "dump by pid": (scene.dump(pid=PID), {SOURCE}),
        "dump a container": (scene.dump(container=("runc", "redis")), both),
        "restore by name": (Asked("The restore", Marks("redis")), both),
        "restore the images": (Asked("The restore", Marks("other", images=images)), {TARGET}),
        "restore into the root": (Asked("The restore", Marks("other", root=root)), both),
    }


OPEN = [
    (SOURCE, Step.COMMITTED),
    (TARGET, Step.COMPLETE),
    (TARGET, Step.RUN),
    (TARGET, Step.DROPPED),
    (TARGET, Step.REFUSED),
]


@pytest.mark.parametrize(("side", "step"), OPEN)
def test_nothing_begins_while_a_handoff_is_open(scene: Scene, side: str, step: Step) -> None:
    journal = scene.journal(side, step)
    before = journal.path.read_bytes()
    for name, (asked, sides) in asked_for(scene).items():
        if side not in sides:
            scene.begin(asked)
            continue
        for attempt in (scene.begin, lambda asked: require_free(asked, scene.proc)):
            with pytest.raises(CriuError, match="the handoff h0 ") as caught:
                attempt(asked)
            assert "fleet.criu.settle -e handoff=h0" in caught.value.remedy, name
            assert caught.value.facts["open_handoff"]["step"] == step.value
    assert journal.path.read_bytes() == before


@pytest.mark.parametrize(("side", "last"), [(SOURCE, Step.BACK), (TARGET, Step.RUNNING), (TARGET, Step.CLEARED)])
def test_a_handoff_that_is_over_holds_nobody(scene: Scene, side: str, last: Step) -> None:
    scene.journal(side, last)
    for asked, _sides in asked_for(scene).values():
        scene.begin(asked)


def test_another_workload_is_free(scene: Scene) -> None:
    scene.journal(SOURCE, Step.COMMITTED)
    scene.begin(scene.send())
    scene.begin(scene.receive())
    scene.begin(scene.dump())


@pytest.mark.parametrize("side", [SOURCE, TARGET])
def test_a_handoff_is_not_held_by_itself(scene: Scene, side: str) -> None:
    # Both of its sides may be on one host.
    scene.journal(side, Step.COMMITTED if side == SOURCE else Step.COMPLETE)
    scene.begin(replace(scene.send("redis"), handoff="h0"))
    scene.begin(replace(scene.receive("redis"), handoff="h0"))


def test_after_a_boot_another_process_with_the_pid_is_another(scene: Scene) -> None:
    scene.journal(SOURCE, Step.COMMITTED, boot_id="the boot before")
    scene.begin(scene.dump(pid=PID))
    with pytest.raises(CriuError, match="the name redis"):
        scene.begin(scene.dump("redis"))


def test_another_process_with_the_pid_is_another(scene: Scene) -> None:
    scene.journal(SOURCE, Step.COMMITTED, start_time=START - 1)
    scene.begin(scene.dump(pid=PID))


def test_what_a_target_may_have_let_run_is_known_by_its_pid(scene: Scene) -> None:
    scene.journal(TARGET, Step.RUN)
    write_json(scene.host / "run/handoff/h0.target/restored.json", {"pid": PID, "start_time": START})
    with pytest.raises(CriuError, match=f"the process {PID}"):
        scene.begin(scene.dump("another name", PID))


# What can be ended here


@pytest.mark.parametrize("steps", [(), (Step.FREEZING,)])
def test_a_source_that_died_before_anything_is_brought_to_its_end(scene: Scene, steps: tuple[Step, ...]) -> None:
    scene.journal(SOURCE, *steps)
    scene.begin(scene.dump("redis", PID))
    record = read_record("h0", SOURCE)
    assert record is not None
    assert record.step is Step.BACK


def test_a_source_whose_workload_is_gone_holds_nobody(scene: Scene) -> None:
    scene.journal(SOURCE, Step.FREEZING)
    scene.state("")
    scene.begin(scene.receive("redis"))


def test_a_source_whose_workload_is_stopped_is_left_to_a_person(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_PATIENCE", 0.01)
    journal = scene.journal(SOURCE, Step.FREEZING)
    before = journal.path.read_bytes()
    scene.state("T")
    with pytest.raises(CriuError, match="its workload is stopped"):
        scene.begin(scene.dump("redis", PID))
    assert journal.path.read_bytes() == before


def test_criu_has_a_moment_to_let_the_workload_go(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.journal(SOURCE, Step.FREEZING)
    scene.state("t")
    monkeypatch.setattr(time, "sleep", lambda _seconds: scene.state("S"))
    scene.begin(scene.dump("redis", PID))


@pytest.mark.parametrize("steps", [(), (Step.RECEIVING,)])
def test_a_target_that_died_before_it_had_anything_is_cleared(scene: Scene, steps: tuple[Step, ...]) -> None:
    scene.journal(TARGET, *steps, engine={})
    (scene.host / "run/handoff/h0.target/stages").mkdir(parents=True, exist_ok=True)
    require_free(scene.receive("redis"), scene.proc)
    assert (scene.folder / "images").exists(), "a mere look changes nothing"
    scene.begin(scene.receive("redis"))
    record = read_record("h0", TARGET)
    assert record is not None
    assert record.step is Step.CLEARED
    assert not (scene.folder / "images").exists()


def test_what_turns_out_not_to_be_at_its_end_holds(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    # Something lives, for example, that may be the copy of a target whose notes are gone.
    monkeypatch.setattr(subject, "settle", lambda *_given: None)
    scene.journal(TARGET, Step.RECEIVING, engine={})
    with pytest.raises(CriuError, match="not sure that nothing runs"):
        scene.begin(scene.receive("redis"))


def test_nothing_is_ended_for_one_who_is_refused_anyway(scene: Scene) -> None:
    scene.journal(TARGET, Step.RECEIVING, engine={})
    other = Journal("h2", SOURCE)
    other.begin({"workload": "redis", "boot_id": BOOT_ID})
    other.record(Step.COMMITTED)
    with pytest.raises(CriuError, match="the handoff h2 "):
        scene.begin(scene.dump("redis"))
    record = read_record("h0", TARGET)
    assert record is not None
    assert record.step is Step.RECEIVING


def test_after_back_only_what_we_hold_is_held(scene: Scene) -> None:
    scene.journal(SOURCE, Step.BACK)
    scene.state("T")
    scene.begin(scene.dump("redis", PID))
    stages = scene.host / "run/handoff/h0.source/stages"
    stages.mkdir()
    (stages / "hold").touch()
    with pytest.raises(CriuError, match="still held"):
        scene.begin(scene.dump("redis", PID))


def test_a_copy_that_is_to_be_given_up_is_no_workload(scene: Scene) -> None:
    scene.journal(SOURCE, Step.COMMITTED, Step.DONE)
    with pytest.raises(CriuError, match="to be given up"):
        scene.begin(scene.dump("another name", PID))
    scene.state("")
    scene.begin(scene.receive("redis"))


def test_an_agent_at_work_holds_whatever_its_journal_says(scene: Scene) -> None:
    scene.journal(SOURCE, Step.BACK)
    stat = Proc().stat(os.getpid())
    assert stat is not None
    who = {"pid": stat.pid, "start_time": stat.start_time, "started": True}
    write_json(scene.host / "run/handoff/h0.source/agent.json", who)
    with pytest.raises(CriuError, match="its agent is at work") as caught:
        scene.begin(scene.dump("redis", PID))
    assert caught.value.remedy.startswith("Wait")


def test_an_agent_whose_folder_was_emptied_is_still_known(scene: Scene) -> None:
    folder = scene.host / "run/handoff/h0.source"
    pid = os.fork()
    if not pid:
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)", str(folder)])
    try:
        scene.journal(SOURCE, Step.BACK, agent=pid)
        until = time.monotonic() + 5.0
        while str(folder) not in Proc().command(pid) and time.monotonic() < until:
            time.sleep(0.005)
        with pytest.raises(CriuError, match="its agent is at work"):
            scene.begin(scene.dump("redis", PID))
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


# Journals that cannot be read


def test_a_damaged_journal_holds_the_workloads_it_may_be_of(scene: Scene) -> None:
    journal = scene.journal(SOURCE, Step.BACK)
    journal.path.write_bytes(journal.path.read_bytes() + b"?\n")
    for asked in (scene.dump("redis"), scene.dump("another", PID), scene.receive("redis")):
        with pytest.raises(CriuError, match="is damaged") as caught:
            scene.begin(asked)
        assert str(journal.path) in caught.value.message
    scene.begin(scene.dump("web"))
    journal.path.write_bytes(b"?\n")
    with pytest.raises(CriuError, match="cannot be told of which workload"):
        scene.begin(scene.dump("web"))


# At the same time


def outcomes(count: int, attempt: Callable[[int], None]) -> list[str]:
    """What became of so many attempts in processes of their own, which begin together."""
    ready, go = os.pipe(), os.pipe()
    results = [os.pipe() for _number in range(count)]
    pids = []
    for number in range(count):
        pid = os.fork()
        if not pid:
            said = "won"
            try:
                os.write(ready[1], b"r")
                os.close(go[1])
                os.read(go[0], 1)
                attempt(number)
            except CriuError as error:
                said = error.message
            except BaseException as error:
                said = repr(error)
            os.write(results[number][1], said.encode())
            os._exit(0)
        pids.append(pid)
    seen = 0
    while seen < count:
        seen += len(os.read(ready[0], count))
    os.close(go[1])
    for pid in pids:
        os.waitpid(pid, 0)
    found = [os.read(reader, 1000).decode() for reader, _writer in results]
    for descriptor in (*ready, go[0], *(end for both in results for end in both)):
        os.close(descriptor)
    return found


def test_of_two_that_begin_at_the_same_time_one_wins(scene: Scene) -> None:
    # In both directions, by name and by pid, with a journal and without: whoever is first keeps all others out.
    def attempt(number: int) -> None:
        kinds = [
            scene.send("redis", pid=PID, start_time=START),
            scene.receive("redis"),
            scene.dump("redis", PID),
            scene.dump("another name", PID),
        ]
        asked = replace(kinds[number % 4], handoff=f"r{number}")
        if number % 4 > 1:
            with at_work(asked, scene.proc, FakeRunner()):
                time.sleep(0.5)
            return
        with beginning(asked, scene.proc, FakeRunner()):
            facts = {"workload": "redis", "pid": PID, "start_time": START, "boot_id": BOOT_ID}
            journal = Journal(f"r{number}", (SOURCE, TARGET)[number % 4])
            journal.begin(facts)
            journal.record(Step.COMMITTED if number % 4 == 0 else Step.COMPLETE)

    # Of these a receiver by name and a dump by another name have nothing in common.
    for numbers in ((0, 1), (0, 2), (0, 3), (1, 2), (2, 3)):
        found = outcomes(6, lambda number, numbers=numbers: attempt(numbers[number % 2] + 4 * number))
        assert sorted(said == "won" for said in found) == [False] * 5 + [True], found
        assert all(said == "won" or "cannot begin" in said for said in found), found
        for path in (scene.host / "lib/handoffs").glob("*.jsonl"):
            path.unlink()


def test_what_has_no_journal_holds_as_long_as_its_process_lives(scene: Scene) -> None:
    with at_work(scene.dump("redis", PID), scene.proc, FakeRunner()):
        for asked in (scene.send("redis"), scene.receive("redis"), scene.dump("another", PID), scene.dump("redis")):
            with pytest.raises(CriuError, match="the dump is at work on this host"):
                scene.begin(asked)
            with pytest.raises(CriuError, match="the dump is at work on this host"):
                require_free(asked, scene.proc)
        scene.begin(scene.dump("web"))
    scene.begin(scene.send("redis"))
    assert list(holding.AT_WORK.glob("*")) == []


def test_the_note_of_a_module_that_was_killed_holds_nobody(scene: Scene) -> None:
    with at_work(scene.dump("redis"), scene.proc, FakeRunner()):
        (note,) = holding.AT_WORK.glob("*")
        told = read_json(note)
    write_json(note, {**told, "start_time": told["start_time"] - 1})
    with at_work(scene.dump("redis"), scene.proc, FakeRunner()):
        assert not note.exists()


def test_a_note_that_cannot_be_read_is_no_excuse(scene: Scene) -> None:
    holding.AT_WORK.mkdir(parents=True)
    (holding.AT_WORK / "1-2.json").write_text("{")
    with pytest.raises(CriuError, match=r"1-2\.json, which says what is at work"):
        scene.begin(scene.dump("redis"))


def test_a_restore_whose_module_was_killed_goes_on(scene: Scene) -> None:
    stat = Proc().stat(os.getpid())
    assert stat is not None
    folder = scene.host / "run" / "restore" / "redis-1"
    folder.mkdir(parents=True)
    images = scene.folder / "images"
    write_json(folder / "agent.json", {"pid": stat.pid, "start_time": stat.start_time, "started": True})
    write_json(folder / "request.json", {"images": str(images), "root": "/r", "pid_file": None})
    with pytest.raises(CriuError, match=f"the restore of {images} is at work on this host"):
        scene.begin(Asked("The restore", Marks("x", images=str(images))))
    with pytest.raises(CriuError, match="the root /r"):
        scene.begin(scene.receive(root="/r"))


def copy_of(scene: Scene, images: str = "images") -> Asked:
    return Asked("The restore", Marks("redis", images=str(scene.folder / images)), is_copy=True)


def test_a_copy_of_images_that_a_handoff_gave_up_may_be_asked_for(scene: Scene) -> None:
    scene.journal(TARGET, Step.COMPLETE, Step.REFUSED)
    for refused in (copy_of(scene, "others"), replace(copy_of(scene), is_copy=False), scene.receive("redis")):
        with pytest.raises(CriuError, match="source_as=gone"):
            scene.begin(refused)
    scene.begin(copy_of(scene))
    subject.note_that_it_ran(scene.folder / "others")
    with pytest.raises(CriuError, match="the handoff h0 "):
        scene.begin(scene.receive("redis"))
    subject.note_that_it_ran(scene.folder / "images")
    scene.begin(scene.receive("redis"))


@pytest.mark.parametrize("steps", [(Step.COMPLETE,), (Step.DROPPED,), (Step.RUN,)])
def test_a_handoff_that_may_still_run_its_images_gives_them_to_nobody(scene: Scene, steps: tuple[Step, ...]) -> None:
    journal = scene.journal(TARGET, *steps)
    before = journal.path.read_bytes()
    with pytest.raises(CriuError, match="the handoff h0 "):
        scene.begin(copy_of(scene))
    subject.note_that_it_ran(scene.folder / "images")
    assert journal.path.read_bytes() == before


def test_a_check_keeps_nobody_from_anything(scene: Scene) -> None:
    with at_work(scene.dump("redis"), scene.proc, FakeRunner(), check_only=True):
        scene.begin(scene.dump("redis"))
    scene.journal(SOURCE, Step.COMMITTED)
    with pytest.raises(CriuError, match="the handoff h0 "), at_work(
        scene.dump("redis"), scene.proc, FakeRunner(), check_only=True
    ):
        pass


def test_who_holds_a_workload_is_told(scene: Scene) -> None:
    assert holder(Marks("redis"), scene.proc) is None
    scene.journal(TARGET, Step.RUN)
    told = holder(Marks(pid_file=str(scene.folder / "redis.pid")), scene.proc)
    assert told is not None
    assert (told["name"], told["side"], told["step"], told["other_host"]) == ("h0", "target", "run", "node1")
    assert holder(Marks(unit="criu-web.service"), scene.proc) is None
