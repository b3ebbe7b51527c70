# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A broken handoff, brought to its end on one host: what is true is found out, `states` decides, this carries it out.

Settle the target first, then the source with the target's outcome, then the target again with the source's. Each of it
may be done again at any time, and by several at once: on a host one waits for the other.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.cgroup_mount import put_back_for_the_dead
from ansible_collections.fleet.criu.plugins.module_utils._criu.feature import find_criu
from ansible_collections.fleet.criu.plugins.module_utils._criu.folder import remove_folder
from ansible_collections.fleet.criu.plugins.module_utils._criu.generation import Generations
from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import MANIFEST, RESTORED, read_manifest
from ansible_collections.fleet.criu.plugins.module_utils._criu.network_lock import remove_noted
from ansible_collections.fleet.criu.plugins.module_utils._criu.restore import Restored, RestoreRequest, restore_workload
from ansible_collections.fleet.criu.plugins.module_utils._criu.restorer import (
    find_restoring,
    kill_half_restored,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.stage import (
    POST_DUMP,
    POST_RESTORE,
    answer_stage,
    given_answer,
)
from ansible_collections.fleet.criu.plugins.module_utils._engine.transfer import (
    ENGINE,
    Arriving,
    forget_checkpoint,
    remove_leftovers,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import locked, write_json
from ansible_collections.fleet.criu.plugins.module_utils._handoff.agent import ask_to_stop, follow, is_alive
from ansible_collections.fleet.criu.plugins.module_utils._handoff.certificate import destroy
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import (
    SOURCE,
    Journal,
    Record,
    read_record,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.living import RESTORED as RESTORED_COPY
from ansible_collections.fleet.criu.plugins.module_utils._handoff.living import (
    has_marks,
    noted_copy,
    state_of,
    suspects,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.machine import carry_out
from ansible_collections.fleet.criu.plugins.module_utils._handoff.owner import unit_name, unit_problem
from ansible_collections.fleet.criu.plugins.module_utils._handoff.request import MADE_IMAGES, SHARED
from ansible_collections.fleet.criu.plugins.module_utils._handoff.reviver import revive, unit_for
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import (
    Action,
    Copy,
    Outcome,
    Settlement,
    Step,
    settle_source,
    settle_target,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.tidying import tidy
from ansible_collections.fleet.criu.plugins.module_utils._mounts.contents import Contents
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity, Proc, lives, signal_tree
from ansible_collections.fleet.criu.plugins.module_utils._runner import Runner
from ansible_collections.fleet.criu.plugins.module_utils._trusted import make_folder, remove_file

_STOP_SECONDS = 5.0
_PATIENCE = 15.0
_LOCK_SECONDS = 120.0
_STOPPED = frozenset("tT")
# Whether the workload has moved.
_CERTAIN = {
    **dict.fromkeys((Outcome.RAN, Outcome.GONE), True),
    **dict.fromkeys((Outcome.NOT_RUN, Outcome.BACK, Outcome.ENDED), False),
}


@dataclass(frozen=True)
class Settled:
    """What is certain of this side now. `pid` is the copy that runs here, or may be it, if one does.

    `put_back` says for people what CRIU had changed or left behind on this host and is as it was now.
    """

    outcome: Outcome
    changed: bool
    record: Record | None
    pid: int | None = None
    put_back: Sequence[str] = ()


@dataclass(frozen=True)
class Peer:
    """What is known of the other side: its outcome, and from which journal that is.

    Without a `journal` (`Record.identity`) the outcome is a person's word. `copy` is for a source whose own journal is
    lost: the process that is believed to be the workload.
    """

    outcome: Outcome = Outcome.UNKNOWN
    journal: Mapping[str, Any] | None = None
    copy: Identity | None = None


def settle(
    handoff: str,
    side: str,
    peer: Peer,
    seconds: float,
    proc: Proc,
    runner: Runner,
    check_only: bool = False,
) -> Settled:
    """Bring this side of a handoff to its end, as far as `peer`, the other side, lets it be known.

    An agent that is still at work gets `seconds` to end by itself and is asked to stop then. Raises CriuError; nothing
    is certain then.
    """
    record = read_record(handoff, side)
    if record is None or record.step is None:  # it is lost, or the host died before anything was begun
        return _without_record(side, peer, proc)
    if check_only:
        return _settle(record, peer, seconds, proc, runner, check_only)
    with locked(Path(record.facts["folder"]) / "settle.lock", _LOCK_SECONDS):
        return _settle(record, peer, seconds, proc, runner, check_only)


def _without_record(side: str, peer: Peer, proc: Proc) -> Settled:
    # The journal is lost, or another machine has taken the host's place, or nothing was begun here.
    copy = Copy.NONE
    if side == SOURCE and peer.copy is not None and lives(peer.copy, proc):
        stat = proc.stat(peer.copy.pid)
        copy = Copy.FROZEN if stat is None or stat.state in _STOPPED else Copy.RUNNING
    decision = settle_source(None, copy, peer.outcome) if side == SOURCE else Settlement(Outcome.NO_RECORD)
    pid = peer.copy.pid if peer.copy is not None and copy is not Copy.NONE else None
    return Settled(decision.outcome, False, None, pid)


def _settle(record: Record, peer: Peer, seconds: float, proc: Proc, runner: Runner, check_only: bool) -> Settled:
    handoff, side = record.handoff, record.side
    if not check_only:
        _end_agent(Path(record.facts["folder"]), seconds)
        record = read_record(handoff, side) or record
    place: _Place = _SourcePlace(record, proc, runner) if side == SOURCE else _TargetPlace(record, proc, runner)
    if not check_only:
        place.wait_for_criu()
    decision = place.decide(peer)
    if not check_only:
        carry_out(decision, lambda action: place.carry_out(action, decision.outcome))
        place.end(decision.outcome)
        if decision.outcome in _CERTAIN:
            Contents().conclude(record.handoff, _CERTAIN[decision.outcome])
        destroy(place.folder / "identity")
    said = [] if check_only else put_back_for_the_dead(proc, runner)
    if not check_only and decision.outcome in (Outcome.BACK, Outcome.GONE):
        said += remove_noted(place.folder, proc, runner, place.running_pid())
    settled = Settled(decision.outcome, bool(decision.actions), read_record(handoff, side), place.running_pid(), said)
    if not check_only:
        tidy(place.folder)
    return settled


def _end_agent(folder: Path, seconds: float) -> None:
    if is_alive(folder):
        follow(folder, seconds)
    if is_alive(folder):
        ask_to_stop(folder, _STOP_SECONDS)


class _Place:
    # What both sides have in common: a journal, a runtime folder, and the copy of the workload.

    def __init__(self, record: Record, proc: Proc, runner: Runner) -> None:
        self.record = record
        self.folder = Path(record.facts["folder"])
        self.proc = proc
        self.runner = runner
        self.workload = str(record.facts["workload"])
        self.is_same_boot = record.facts.get("boot_id") == proc.boot_id()
        self.actions: dict[Action, Callable[[], None]] = {}
        self.engine: dict[str, Any] = record.facts.get("engine") or {}

    def remove_container(self) -> None:
        """Remove what the engine of the workload, if it has one, still has of it here."""
        if self.engine:
            identity = self.identity()
            remove_leftovers(self.engine, identity.pid if identity is not None else None, self.runner, self.proc)

    def wait_for_criu(self) -> None:
        """Now that the agent is dead: wait until CRIU has done what it does then."""

    def decide(self, peer: Peer) -> Settlement:
        raise NotImplementedError

    def end(self, outcome: Outcome) -> None:
        """What the outcome means beyond the workload itself."""

    def carry_out(self, action: Action, outcome: Outcome) -> None:
        """Do an action on the way to this outcome."""
        if action is Action.REMOVE_IMAGES:
            self.end(outcome)
        if isinstance(action.value, Step):
            Journal(self.record.handoff, self.record.side).record(action.value)
        else:
            self.actions[action]()

    def identity(self) -> Identity | None:
        raise NotImplementedError

    def running_pid(self) -> int | None:
        identity = self.identity()
        return identity.pid if identity is not None and lives(identity, self.proc) else None

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        until = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True


class _SourcePlace(_Place):
    def __init__(self, record: Record, proc: Proc, runner: Runner) -> None:
        super().__init__(record, proc, runner)
        self.actions = {Action.RUN_ON: self._run_on, Action.GIVE_UP: self._give_up}

    def decide(self, peer: Peer) -> Settlement:
        step, copy = self.record.step, self._copy()
        if peer.journal is None and peer.outcome is Outcome.RAN and copy is Copy.FROZEN and step is not Step.DONE:
            step = Step.COMMITTED  # a person has said so, whatever became of the record
        return settle_source(step, copy, self._believed(peer, copy))

    def _believed(self, peer: Peer, copy: Copy) -> Outcome:
        # What is frozen for good has heard `ready`. Whoever has not come to `complete`, or is not whom we have spoken
        # with, is another machine or has lost its journal.
        if peer.journal is None or peer.outcome is Outcome.UNKNOWN or copy is not Copy.FROZEN:
            return peer.outcome
        noted = self.record.facts.get("peer") or {}
        is_same = all(noted.get(name) == peer.journal.get(name) for name in noted)
        return peer.outcome if is_same and peer.journal.get("complete") else Outcome.NO_RECORD

    def end(self, outcome: Outcome) -> None:
        if not self.engine or outcome not in (Outcome.BACK, Outcome.GONE):
            return
        images = Path(self.record.facts.get("images") or "")
        is_the_target_s = outcome is Outcome.GONE and self.record.facts.get("transport") == SHARED
        if (self.folder / MADE_IMAGES).exists() and not is_the_target_s:
            remove_folder(images, self.proc)
        if outcome is Outcome.BACK:
            forget_checkpoint(self.engine, images, self.runner, self.proc)

    def identity(self) -> Identity | None:
        if not self.is_same_boot:
            return None
        return Identity(self.record.facts["pid"], self.record.facts["start_time"])

    def _copy(self) -> Copy:
        # Without `hold`, CRIU lets the tasks run on when its agent is dead: a moment later they do.
        self.wait_until(lambda: self._is_held() or not self._is_stopped())
        identity = self.identity()
        if identity is None or not lives(identity, self.proc):
            return Copy.NONE
        return Copy.FROZEN if self._is_stopped() else Copy.RUNNING

    def _is_held(self) -> bool:
        return (self.folder / "stages" / "hold").exists() and self._is_stopped()

    def _is_stopped(self) -> bool:
        identity = self.identity()
        stat = self.proc.stat(identity.pid) if identity is not None else None
        return stat is not None and stat.state in _STOPPED

    def _run_on(self) -> None:
        signal_tree(self.identity(), signal.SIGCONT, self.proc)
        if (self.folder / "stages").is_dir():
            self._answer(False)
        else:
            self._end_tracer()
        if not self.wait_until(lambda: not self._is_stopped()):
            raise CriuError(
                f"{self.workload} (pid {self.record.facts['pid']}) was told to run on, but is still stopped.",
                "See which process traces it: grep TracerPid /proc/PID/status.",
            )

    def _give_up(self) -> None:
        self._answer(True)
        identity = self.identity()
        if identity is None:
            raise AssertionError
        time.sleep(0.2)
        if lives(identity, self.proc):
            signal_tree(identity, signal.SIGKILL, self.proc)
        self.wait_until(lambda: not lives(identity, self.proc))
        self.remove_container()
        pid_file = self.record.facts.get("pid_file")
        if pid_file:
            remove_file(Path(pid_file))

    def _end_tracer(self) -> None:
        # CRIU waits for an answer that it can no longer be given; the kernel lets go what it traces.
        tracer = int(self.proc.status(int(self.record.facts["pid"])).get("TracerPid", "0"))
        if tracer and "criu" in self.proc.status(tracer).get("Name", ""):
            with contextlib.suppress(ProcessLookupError):
                os.kill(tracer, signal.SIGKILL)

    def _answer(self, go_on: bool) -> None:
        stages = self.folder / "stages"
        if stages.is_dir():
            answer_stage(stages, POST_DUMP, go_on)
            (stages / "hold").unlink(missing_ok=True)


class _TargetPlace(_Place):
    def __init__(self, record: Record, proc: Proc, runner: Runner) -> None:
        super().__init__(record, proc, runner)
        self.images = Path(record.facts["images"])
        self.keeps_images = False
        self.actions = {
            Action.KILL: self._kill,
            Action.REMOVE_IMAGES: self._remove_images,
            Action.RESTORE: self._restore,
            Action.LET_GO: lambda: None,  # _restore does both
        }

    def decide(self, peer: Peer) -> Settlement:
        # What was told is kept in memory alone: after a boot, or if the folder was emptied, nobody knows.
        is_known = self.is_same_boot and has_marks(self.folder)
        told = not is_known or given_answer(self.folder / "stages", POST_RESTORE) is True
        has_images = (self.images / MANIFEST).exists()
        return settle_target(self.record.step, self._copy(), told, has_images, peer.outcome)

    def end(self, outcome: Outcome) -> None:
        self.keeps_images = outcome is Outcome.RAN and bool(self.record.facts.get("keep_images"))
        if outcome is Outcome.RAN and (self.images / MANIFEST).exists():
            Generations().spend(self.workload, read_manifest(self.images).generation)

    def identity(self) -> Identity | None:
        return noted_copy(self.folder) if self.is_same_boot else None

    def running_pid(self) -> int | None:
        pid = super().running_pid()
        if pid is not None or not self._is_unproved():
            return pid
        return next((identity.pid for identity in suspects(self.record.facts, self.proc, self.runner)), None)

    def wait_for_criu(self) -> None:
        # It is about to let its copy go or to kill it; only then is there something to see.
        if not self.wait_until(lambda: find_restoring(self.images, self.proc) is None):
            pid = find_restoring(self.images, self.proc)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                self.wait_until(lambda: find_restoring(self.images, self.proc) is None)
        kill_half_restored(self.images, self.proc)

    def _copy(self) -> Copy:
        if not self._is_unproved():
            return state_of(self.identity(), self.proc)
        found = suspects(self.record.facts, self.proc, self.runner)
        return Copy.SUSPECT if any(state_of(each, self.proc) is Copy.RUNNING for each in found) else Copy.NONE

    def _is_unproved(self) -> bool:
        # A receiver makes the folder for its marks before anybody can speak with it.
        return self.is_same_boot and not has_marks(self.folder) and self.record.step is not Step.ARMED

    def _kill(self) -> None:
        identity = self.identity()
        signal_tree(identity, signal.SIGKILL, self.proc)
        if identity is not None:
            self.wait_until(lambda: not lives(identity, self.proc))
        if (self.images / ENGINE).exists():  # else the engine has not begun, and what it has is not ours
            self.remove_container()
        pid_file = self.record.facts.get("pid_file")
        if pid_file:
            remove_file(Path(pid_file))
        (self.images / RESTORED).unlink(missing_ok=True)

    def _remove_images(self) -> None:
        if not self.keeps_images:
            remove_folder(self.images, self.proc)

    def _restore(self) -> None:
        facts = self.record.facts
        request = RestoreRequest(
            self.images,
            facts["root"],
            facts["restore_map"],
            facts["options"],
            Path(facts["pid_file"]) if facts.get("pid_file") else None,
            facts.get("criu_path"),
        )
        # From here on it counts as told. If the folder is gone, it is made anew, so that it can be known again.
        stages = make_folder(self.folder / "stages")
        answer_stage(stages, POST_RESTORE, True)
        try:
            restored = restore_workload(request, self.proc, self.runner, Generations(), check_only=True)
            if restored.pid is None and self.engine:
                restored = self._restore_container(request)
            elif restored.pid is None:
                unit = self._free_unit()
                restored = revive(request, restored.manifest, unit, self.proc, self.runner)
        except CriuError:
            (stages / f"answer.{POST_RESTORE}").unlink(missing_ok=True)  # it did not run
            raise
        stat = self.proc.stat(restored.pid or 0)
        if stat is not None:
            write_json(self.folder / RESTORED_COPY, {"pid": stat.pid, "start_time": stat.start_time})

    def _restore_container(self, request: RestoreRequest) -> Restored:
        arriving = Arriving(self.workload, self.engine, self.runner, self.proc)
        criu = find_criu(self.runner, request.criu_path)
        return restore_workload(
            replace(request, is_verified=True),
            self.proc,
            self.runner,
            Generations(),
            make_command=arriving.maker(self.images, request.root, criu),
        )

    def _free_unit(self) -> str | None:
        # That of the agent that died goes in a moment.
        name = unit_name(self.workload, self.record.facts.get("unit"))
        self.wait_until(lambda: unit_problem(name, self.runner) is None)
        return unit_for(self.workload, name, self.runner)
