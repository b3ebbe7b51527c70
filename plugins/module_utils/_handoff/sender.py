# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent on the source: turns what happens into events of `states.SOURCE` and carries its actions out.

`main` runs in a process of its own that outlives the module (agent.py). Nothing here decides what is safe: states.py
does, and this file must do what it says in the order in which it says it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._criu.cgroup_mount import Noted, note, put_back
from ansible_collections.fleet.criu.plugins.module_utils._criu.command import DUMP_LOG, Options
from ansible_collections.fleet.criu.plugins.module_utils._criu.dump import SKIP, DumpRequest, criu_dump, plan_dump
from ansible_collections.fleet.criu.plugins.module_utils._criu.feature import find_criu
from ansible_collections.fleet.criu.plugins.module_utils._criu.folder import prepare_folder, remove_folder, remove_log
from ansible_collections.fleet.criu.plugins.module_utils._criu.generation import Generations
from ansible_collections.fleet.criu.plugins.module_utils._criu.log import failure
from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import checksums_of
from ansible_collections.fleet.criu.plugins.module_utils._criu.network_lock import (
    INVENTORY,
    note_namespace,
    note_run_id,
    remove_noted,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.places import Places
from ansible_collections.fleet.criu.plugins.module_utils._criu.stage import POST_DUMP, Stages
from ansible_collections.fleet.criu.plugins.module_utils._engine.stand_in import READY
from ansible_collections.fleet.criu.plugins.module_utils._engine.transfer import Leaving
from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError, WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json
from ansible_collections.fleet.criu.plugins.module_utils._handoff import certificate, files
from ansible_collections.fleet.criu.plugins.module_utils._handoff.admission import connect
from ansible_collections.fleet.criu.plugins.module_utils._handoff.agent import Report
from ansible_collections.fleet.criu.plugins.module_utils._handoff.begin import beginning
from ansible_collections.fleet.criu.plugins.module_utils._handoff.certificate import destroy, make_identity
from ansible_collections.fleet.criu.plugins.module_utils._handoff.channel import Channel, LinkLost
from ansible_collections.fleet.criu.plugins.module_utils._handoff.compression import Compressor, require
from ansible_collections.fleet.criu.plugins.module_utils._handoff.holding import asked_to_send
from ansible_collections.fleet.criu.plugins.module_utils._handoff.images import Capture, FolderCapture
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import SOURCE
from ansible_collections.fleet.criu.plugins.module_utils._handoff.limit import Limit
from ansible_collections.fleet.criu.plugins.module_utils._handoff.loop import Loop
from ansible_collections.fleet.criu.plugins.module_utils._handoff.machine import SOURCE_TABLE
from ansible_collections.fleet.criu.plugins.module_utils._handoff.messages import VERSION, Message
from ansible_collections.fleet.criu.plugins.module_utils._handoff.owner import forget_failure, unit_left_by
from ansible_collections.fleet.criu.plugins.module_utils._handoff.request import (
    MADE_IMAGES,
    REQUEST,
    SHARED,
    SendRequest,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.rsync import Copy, Numbered
from ansible_collections.fleet.criu.plugins.module_utils._handoff.same_files import Differing
from ansible_collections.fleet.criu.plugins.module_utils._handoff.side import Side, carry_out
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Action, Event, Source, Step
from ansible_collections.fleet.criu.plugins.module_utils._mounts.contents import Contents
from ansible_collections.fleet.criu.plugins.module_utils._mounts.pinned import Pinned
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity, Proc, lives, memory_bytes, signal_tree
from ansible_collections.fleet.criu.plugins.module_utils._runner import (
    Command,
    Completed,
    Runner,
    SubprocessRunner,
    prepare_process,
)
from ansible_collections.fleet.criu.plugins.module_utils._trusted import remove_file

_CONNECT_SECONDS = 15.0
_PREPARE_SECONDS = 120.0
# The target may have to write back all that was copied.
_NOTE_SECONDS = 3600.0
_PIPES_SECONDS = 30.0
_END_SECONDS = 10.0
_WORDS_SECONDS = 2.0
_BYE_SECONDS = 5.0
_TURN_SECONDS = 0.2
_FOLDER_TURN_SECONDS = 0.005
# CRIU writes all the time while it dumps.
_STALLED_SECONDS = 30.0

_STOPPED = frozenset("tT")
_AT_REST = frozenset({Source.DONE, Source.BACK, Source.DOUBT})


def main(folder: str) -> int:
    """Do what the request in the folder says; the result is in the report. Gives the exit status."""
    place = Path(folder)
    request = SendRequest(**read_json(place / REQUEST))
    report = Report(place)
    prepare_process()
    runner, proc = SubprocessRunner(is_prepared=True), Proc()
    outcome = carry_out(
        place, report, request.workload, SOURCE, lambda: Sender(request, place, report, runner, proc), "back"
    )
    return 0 if outcome == "moved" else 1


class Sender(Side[SendRequest]):
    """One handoff, seen from the source."""

    name = SOURCE

    def __init__(self, request: SendRequest, folder: Path, report: Report, runner: Runner, proc: Proc) -> None:
        super().__init__(request, folder, report, runner, proc, Source.LIVE, SOURCE_TABLE)
        self._pinned = Pinned()
        self._target_timings: Mapping[str, Any] = {}
        self._copies: list[dict[str, Any]] = []
        self._images: Channel | None = None
        self._capture: Capture | FolderCapture | None = None
        self._leaving: Leaving | None = None
        self._image_folder = self._log_folder = Path(request.images) if request.images else folder / "dump"
        self._compressor: Compressor | None = None
        self._files: files.Sender | None = None
        self._spares: list[tuple[str, Numbered]] = []
        self._numbers = itertools.count(1)
        self._contents: Mapping[str, int] = {}
        self._copy_name = secrets.token_hex(16)
        self._peer: Mapping[str, Any] = {}
        self._identity_of_tls: certificate.Identity | None = None
        self._frozen_for_good = False
        self._asked = False
        # How much CRIU had written, and when that changed last.
        self._written: tuple[int, float] | None = None
        self._has_all_images = False
        self._has_all_files = False
        self._sends_files = False
        self._has_made_images = False
        self._target_pid: int | None = None
        self._target_is_tidy = False
        self._noted: Noted | None = None
        self._put_back: list[str] = []
        self._put_back_there: list[str] = []
        self._actions = {
            Action.DUMP: lambda: None,  # `run` starts it, because it lasts
            Action.SEND_IMAGES: self._send_images,
            Action.KEEP_FROZEN: self._keep_frozen,
            Action.SEND_RUN: self._send_run,
            Action.GIVE_UP: self._give_up,
            Action.RUN_ON: self._run_on,
            Action.SEND_ABORT: self._send_abort,
            Action.SEND_GONE: self._send_gone,
        }

    def run(self) -> None:
        """The whole handoff. Returns when the source is at rest; ends the process if it is in doubt."""
        request = self._request
        self._identity = Identity(request.pid, request.start_time)
        if not lives(self._identity, self._proc):
            raise WorkloadNotFound(
                f"The workload {request.workload} does not run here as process {request.pid}.",
                "Look for it again with workload_info, and pass its pid and start_time.",
            )
        self._require_running()
        self._plan()
        with beginning(asked_to_send(request, self._proc), self._proc, self._runner):
            self._journal.begin(self._facts())
        waits = {stage: lambda pid: None for stage in (POST_DUMP, READY)}
        with Loop(self._stop, self._too_late) as loop, Stages(waits, self._folder / "stages") as stages:
            self._loop, self._stages = loop, stages
            try:
                self._prepare()
                self._happen(Event.FREEZE)
            except Exception as error:  # whatever it is, the target must hear that the workload runs on
                self._fail(error)
            if self._state is Source.FREEZING:
                self._dump()
            while self._state not in _AT_REST:
                self._turn()
            if self._state is Source.DOUBT:
                self._leave_in_doubt()
            self._end()

    def result(self) -> dict[str, Any]:
        """What became of it, in plain JSON types."""
        moved = self._state is Source.DONE
        reason = self._reason
        return {
            "outcome": {Source.DONE: "moved", Source.BACK: "back"}.get(self._state, "doubt"),
            "pid": self._target_pid,
            "generation": self._manifest.generation,
            "image_bytes": self._image_bytes(),
            "copies": self._copies,
            "hooks": self._hook_results,
            "tidy": self._target_is_tidy,
            "put_back": [
                *(f"{self._request.source}: {line}" for line in self._put_back),
                *(f"{self._request.target}: {line}" for line in self._put_back_there),
            ],
            "frozen_seconds": round(self._timings.seconds("frozen"), 6) if moved else None,
            "timings": {"source": self._timings.as_dict(), "target": dict(self._target_timings)},
            "reason": reason.message if reason is not None and not moved else "",
            "remedy": reason.remedy if reason is not None and not moved else "",
            "facts": reason.facts if reason is not None and not moved else {},
        }

    # What happens becomes an event.

    @property
    def _state(self) -> Source:
        state = self._driver.state
        if not isinstance(state, Source):
            raise AssertionError
        return state

    def _facts_of(self, step: Step) -> Mapping[str, Any]:
        # Whose word we take when we are asked what became of it.
        return {"peer": self._peer} if step in (Step.FREEZING, Step.COMMITTED) else {}

    def _fail(self, error: Exception) -> None:
        if isinstance(error, LinkLost) and self._state is Source.FREEZING and self._has_heard_why():
            return
        super()._fail(error)

    def _turn(self) -> None:
        try:
            # Nobody wakes us when CRIU writes to a file.
            self._loop.turn(self._advance())
            self._show_progress()
        except Exception as error:  # CRIU must not be left alone with the workload
            self._fail(error)
        if self._state is Source.DOUBT:
            self._leave_in_doubt()

    def _advance(self) -> float:
        # Gives how many seconds there is nothing to do.
        if self._state is not Source.FREEZING or not isinstance(self._capture, FolderCapture):
            return _TURN_SECONDS
        return 0.0 if self._capture.advance() else _FOLDER_TURN_SECONDS

    def _silence(self) -> str:
        return f"The target {self._request.target} did not answer in time ({self._state.name.lower()})."

    def _take(self, message: Message) -> None:
        if message.kind == "ready":
            self._ready()
        elif message.kind == "running":
            self._timings.end("frozen")
            self._target_pid = message.fields["pid"]
            self._target_timings = message.fields["timings"]
            self._happen(Event.RUNNING)
        elif message.kind == "failed":
            self._target_failed(message)
        elif message.kind == "bye":
            self._good_bye(message)
            self._loop.forget(self._control)

    def _target_failed(self, message: Message) -> None:
        self._note(self._failure_in(message))
        self._happen(Event.FAILED)

    def _failure_in(self, message: Message) -> CriuError:
        fields = message.fields
        return CriuError(f"{self._request.target}: {fields['reason']}", fields["remedy"], fields["facts"])

    def _has_heard_why(self) -> bool:
        message = self._last_words()
        if message is None or message.kind != "failed":
            return False
        self._target_failed(message)
        return True

    def _last_words(self) -> Message | None:
        # Images and copies have connections of their own. If the target ended one, it has said why in the first one.
        if self._control is None:
            return None
        try:
            return self._control.receive(_WORDS_SECONDS)
        except CriuError:
            return None

    def _ready(self) -> None:
        if self._state not in (Source.HELD, Source.CONFIRMING):
            return  # it comes too late, and the hooks are for a workload that is about to run there
        self._timings.end("restore")
        try:
            self._run_hooks("before_run")
        except CriuError as error:
            self._fail(error)
            return
        self._happen(Event.READY)

    # Before the freeze.

    def _require_running(self) -> None:
        # A handoff whose journal is lost may hold it: moved once more it would be a second copy, or stopped for ever.
        stat = self._proc.stat(self._request.pid)
        if stat is not None and stat.state in _STOPPED:
            raise CriuError(
                f"The workload {self._request.workload} (process {self._request.pid}) is stopped (state {stat.state}).",
                "Find out who has stopped it. If nothing else of it runs anywhere, let it run on (kill -CONT).",
                {"pid": self._request.pid, "state": stat.state},
            )

    def _plan(self) -> None:
        request = self._request
        self._options = Options.from_dict(request.options)
        self._criu = find_criu(self._runner, request.criu_path)
        if request.engine:
            self._leaving = Leaving(request.engine, request.pid, self._runner, self._proc)
            self._log_folder = self._leaving.log_folder(self._image_folder)
        self._dump_request = DumpRequest(
            request.workload,
            request.pid,
            self._image_folder,
            request.start_time,
            request.dump_map,
            self._options,
            own_mountpoints=self._leaving.own_mountpoints if self._leaving is not None else frozenset(),
        )
        self._manifest = plan_dump(self._dump_request, self._identity, self._criu, self._proc, self._runner)
        self._unit = unit_left_by(request.pid, self._proc, self._runner) if self._leaving is None else None

    def _facts(self) -> dict[str, Any]:
        request = self._request
        return {
            "workload": request.workload,
            "pid": request.pid,
            "start_time": request.start_time,
            "boot_id": self._proc.boot_id(),
            "source": request.source,
            "target": request.target,
            "folder": str(self._folder),
            "agent": os.getpid(),
            "pid_file": request.pid_file,
            "root": self._manifest.root,
            "engine": dict(request.engine),
            # Whose they are when we are dead: on shared storage the target's, once it runs.
            "images": str(self._image_folder) if request.engine else None,
            "transport": request.transport,
        }

    def _prepare(self) -> None:
        request = self._request
        with self._timings.of("connect"):
            self._control, welcome = self._connect("control")
            # A workload that is frozen waits as long as we do.
            self._control.watch_closely()
            self._ticket = welcome.fields["ticket"]
            self._peer = {name: welcome.fields[name] for name in ("machine", "journal")}
            generations = Generations()
            generation = generations.begin(request.workload, welcome.fields["generation"])
            # The workload lives, so what was dumped of it before is overtaken.
            generations.spend(request.workload, generation - 1)
            self._manifest = replace(self._manifest, generation=generation)
            tree = self._proc.tree(request.pid)
            self._memory = [memory_bytes(self._proc, [pid]) for pid in tree]
            manifest = self._manifest.as_dict()
            prepare = {
                "memory": self._memory,
                "manifest": manifest,
                "compression": request.compression,
                "engine": self._leaving.configuration() if self._leaving is not None else {},
            }
            self._ask(Message("prepare", prepare))
        self._run_hooks("connected")
        self._to_copy = [self._opened_copy(entry) for entry in request.copies]
        self._contents = Contents().generations(request.workload)
        Contents().claim([copy.path for copy in self._to_copy], request.workload)
        self._files = files.Sender(self._folder, self._connect_for_copy, self._runner, self._compare)
        with self._timings.of("live_copy"):
            self._report.progress(phase="copying", bytes=0, forced=True)
            self._copy_live(self._to_copy)
        self._run_hooks("copied")
        if self._leaving is not None:
            self._prepare_engine(self._leaving)
        self._files.prepare(self._to_copy)
        # The target closes its port before the freeze.
        self._spares = [(copy.module, self._connect_for_copy(copy.module)) for copy in self._to_copy]
        if request.transport != SHARED:
            require(request.compression)
            self._images, _welcome = self._connect("images")
        self._run_hooks("before_freeze")
        self._noted = note(self._proc)
        if self._manifest.options["network_lock"] != SKIP:
            note_namespace(self._folder, request.pid, self._proc)
        paths = [copy.path for copy in self._to_copy]
        Contents().begin(paths, request.workload, self._manifest.generation, request.handoff, arrives=False)
        self._ask(Message("freezing"))
        self._loop.watch(self._control, self._heard, self._control.has_pending)
        if self._stages is None:
            raise AssertionError
        self._loop.watch(self._stages, self._stage_asked)
        if self._images is not None:
            self._compressor = Compressor(request.compression, Limit(request.bandwidth_limit, self._images.send_bytes))
            self._capture = self._make_capture(self._compressor)
        else:
            self._make_image_folder()
        # Whatever stands against it is to be said before the freeze.
        self._command = self._dump_command()

    def _opened_copy(self, entry: Mapping[str, Any]) -> Copy:
        path, file_name = entry["path"], entry.get("file_name")
        folder = path if file_name is None else os.path.dirname(path)
        return Copy(path, entry["folder"], file_name, self._pinned.folder(folder))

    def _make_image_folder(self) -> None:
        if self._has_made_images:
            return
        prepare_folder(self._image_folder, sum(self._memory))
        (self._folder / MADE_IMAGES).touch(mode=0o600)
        self._has_made_images = True

    def _copy_live(self, copies: list[Copy]) -> None:
        if self._files is None:
            raise AssertionError
        if not copies:
            return
        limit = self._request.bandwidth_limit
        try:
            self._copies += self._files.copy(copies, True, limit)
            self._require_copied(self._files)
            self._ask(Message("note", {"copy": self._copy_name}), _NOTE_SECONDS)
            # It may have taken its time.
            self._files.catch_up(copies, limit)
            self._require_copied(self._files)
        except CommandFailed as error:
            raise self._with_the_target_s_words(error) from error

    def _require_copied(self, sender: files.Sender) -> None:
        self._ask(Message("copied", {"connections": sender.take_numbers()}))

    def _with_the_target_s_words(self, error: CommandFailed) -> CriuError:
        # What goes wrong there, rsync may have said there alone.
        numbers = error.facts.get("connections")
        if self._control is None or not numbers:
            return error
        try:
            self._control.send(Message("copied", {"connections": numbers}))
            answer = self._control.receive(_WORDS_SECONDS)
        except CriuError:
            return error
        reason = answer.fields.get("reason")
        if reason is None:
            return error
        return CriuError(f"{error.message} {self._request.target} says: {reason}", error.remedy, error.facts)

    def _connect_for_copy(self, folder: str) -> Numbered:
        """A connection for one more copy into this folder: a spare one, or from before the freeze a new one."""
        for spare in list(self._spares):
            # Several copies may want one at the same time.
            with contextlib.suppress(ValueError):
                if spare[0] == folder:
                    self._spares.remove(spare)
                    return spare[1]
        number = next(self._numbers)
        return Numbered(self._connect("copy", folder, number)[0], number)

    def _compare(self, copy: Copy, before: str) -> Differing:
        fields = {
            "folder": copy.module,
            "file_name": copy.file_name or "",
            "copy": before,
            "generation": self._contents.get(copy.path, 0),
        }
        return Differing(**self._ask(Message("compare", fields), _NOTE_SECONDS).fields["files"])

    def _prepare_engine(self, leaving: Leaving) -> None:
        with self._timings.of("engine"):
            self._report.progress(phase="preparing the engine", bytes=0, forced=True)
            self._make_image_folder()  # on shared storage the target puts something there now
            self._ask(Message("engine"))
            copies = leaving.copies()
            further = [Copy(copy.path, copy.name) for copy in copies]
            # So that the workload may come back to what it leaves here.
            Contents().claim([copy.path for copy in copies], self._request.workload)
            self._copy_live([each for each, copy in zip(further, copies) if not copy.is_late])
            self._to_copy += further

    def _make_capture(self, compressor: Compressor) -> Capture | FolderCapture:
        if self._leaving is None:
            return Capture(self._image_folder, self._loop.selector, compressor.write)
        self._make_image_folder()
        return FolderCapture(self._image_folder, compressor.write)

    def _connect(self, purpose: str, folder: str = "", number: int | None = None) -> tuple[Channel, Message]:
        request = self._request
        hello = {
            "version": VERSION,
            "handoff": request.handoff,
            "purpose": purpose,
            "ticket": "" if purpose == "control" else self._ticket,
            "number": next(self._numbers) if number is None else number,
            "folder": folder,
        }
        if self._identity_of_tls is None:
            self._identity_of_tls = make_identity(self._folder / "identity", request.handoff, self._runner)
        return connect(
            request.address,
            request.port,
            self._identity_of_tls,
            request.certificate,
            Message("hello", hello),
            _CONNECT_SECONDS,
        )

    def _ask(self, message: Message, seconds: float = _PREPARE_SECONDS) -> Message:
        if self._control is None:
            raise AssertionError
        self._control.send(message)
        answer = self._control.receive(seconds)
        if answer.kind == "failed":
            raise self._failure_in(answer)
        return answer

    # Frozen.

    def _dump(self) -> None:
        request = self._request
        remove_log(self._log_folder / DUMP_LOG)
        self._report.progress(phase="dumping", bytes=0, forced=True)
        if self._leaving is None:
            self._begin_freeze()
        self._criu_runs = True
        try:
            completed = self._runner(self._command, self._dump_turn)
        except CriuError as error:
            self._note(error)
            completed = Completed(1)
        self._criu_runs = False
        self._timings.end("let_go")
        if self._state in (Source.FREEZING, Source.HELD, Source.CONFIRMING):
            if self._reason is None:
                places = Places(self._manifest.mounts, self._manifest.mount_map)
                what = f"The dump of {request.workload} (pid {request.pid})"
                self._reason = failure(what, completed, self._log_folder / DUMP_LOG, places)
            self._happen(Event.CRIU_ENDED)
        elif self._state is Source.DONE and lives(self._identity, self._proc):
            signal_tree(self._identity, signal.SIGKILL, self._proc)

    def _begin_freeze(self) -> None:
        self._timings.begin("frozen")
        self._timings.begin("dump")
        self._written = (0, time.monotonic())

    def _dump_turn(self) -> None:
        self._turn()
        if self._written is not None and not self._asked:
            self._end_if_stalled(*self._written)

    def _end_if_stalled(self, earlier: int, since: float) -> None:
        # CRIU limits the time that it takes to stop the tasks, not what comes then. It may wait for ever, for one when
        # another user of the host connects to its abstract socket before the code that it has put into a task.
        written = self._written_bytes()
        if written != earlier:
            self._written = (written, time.monotonic())
        elif time.monotonic() - since > _STALLED_SECONDS:
            self._written = None
            tracer = int(self._proc.status(self._request.pid).get("TracerPid", "0"))
            if tracer:  # an engine's CRIU does not end with the engine
                with contextlib.suppress(ProcessLookupError):
                    os.kill(tracer, signal.SIGKILL)
            raise CriuError(
                f"CRIU wrote nothing for {_STALLED_SECONDS:.0f} s while it dumped {self._request.workload}, "
                "and was ended.",
                "Look for users who connect to sockets of others (@/crtools-… in /proc/net/unix), then start it again.",
            )

    def _written_bytes(self) -> int:
        if self._capture is not None:
            return self._capture.sent_bytes
        return sum(path.stat().st_blocks for path in self._image_folder.iterdir())

    def _dump_command(self) -> Command:
        if self._stages is None:
            raise AssertionError
        options = Options.from_dict(self._manifest.options)
        if self._leaving is not None:
            return self._leaving.command(self._image_folder, options, self._criu, self._stages, waits=True)
        argv = criu_dump(self._dump_request, self._manifest, self._criu, options, self._stages).argv
        return Command([*argv, *(["--stream"] if self._capture is not None else [])])

    def _stage_asked(self, _descriptor: int) -> None:
        if self._stages is None:
            raise AssertionError
        asked = self._stages.asked()
        if asked is None:
            return
        if asked[0] == READY:
            self._engine_waits(self._stages)
            return
        self._asked = True
        self._timings.end("dump")
        if self._state is Source.BACK:
            self._stages.answer(POST_DUMP, False)
            return
        try:
            self._run_hooks("held")
        except CriuError as error:
            self._fail(error)
            return
        self._happen(Event.DUMPED)

    def _engine_waits(self, stages: Stages) -> None:
        # Now that it has come to CRIU, the freeze begins.
        self._begin_freeze()
        stages.answer(READY, self._state is Source.FREEZING)

    def _send_images(self) -> None:
        self._timings.begin("transfer")
        self._send_files()
        if self._capture is not None and self._compressor is not None:
            self._capture.finish(_PIPES_SECONDS)
            self._compressor.finish()
            if self._images is None:
                raise AssertionError
            self._images.finish()
        self._has_all_images = True
        self._complete()

    def _send_files(self) -> None:
        if self._files is None or self._sends_files:
            return
        self._sends_files = True
        copies, sender = self._to_copy, self._files
        if not copies:
            self._has_all_files = True
            return
        self._timings.begin("files")
        self._loop.in_background(lambda: sender.copy(copies, live=False), self._files_sent)

    def _files_sent(self, copies: Any, error: Exception | None) -> None:
        self._timings.end("files")
        if error is not None:
            if isinstance(error, CommandFailed) and self._state in (Source.FREEZING, Source.HELD):
                error = self._with_the_target_s_words(error)
            self._fail(error)
            return
        self._copies = [*self._copies, *copies]
        self._has_all_files = True
        self._complete()

    def _complete(self) -> None:
        if not (self._has_all_images and self._has_all_files) or self._state is not Source.HELD:
            return
        if self._control is None:
            raise AssertionError
        checksums = self._capture.checksums if self._capture else checksums_of(self._image_folder)
        self._sent = sum(sums[0] for sums in checksums.values())
        try:
            copied = self._files.take_numbers() if self._files is not None else []
            times = self._files.folder_times if self._files is not None else {}
            fields = {"checksums": checksums, "folder_times": times, "connections": copied}
            self._control.send(Message("complete", fields))
        except LinkLost as error:
            self._fail(error)
            return
        self._timings.end("transfer")
        self._timings.begin("restore")
        self._note_network_lock()
        self._report.progress(phase="restoring", bytes=self._image_bytes(), forced=True)
        self._loop.set_deadline(self._request.restore_seconds)
        self._happen(Event.SENT)

    def _note_network_lock(self) -> None:
        # While the target restores. No move may fail because of it.
        if self._manifest.options["network_lock"] != SKIP:
            inventory = self._image_folder / INVENTORY
            with contextlib.suppress(OSError):
                note_run_id(self._folder, self._capture.inventory if self._capture else inventory.read_bytes())

    def _keep_frozen(self) -> None:
        if self._stages is None:
            raise AssertionError
        # A pending stop takes effect if CRIU, which traces the tasks, is gone; while it is there it changes nothing.
        self._frozen_for_good = True
        signal_tree(self._identity, signal.SIGSTOP, self._proc)
        self._stages.hold()
        stat = self._proc.stat(self._request.pid)
        if stat is None or stat.state != "t" or not self._criu_runs:
            # CRIU died before this, so the workload has run on since the dump.
            raise CriuError("CRIU let the workload go before the target was told to run.", "Start the handoff again.")

    def _send_run(self) -> None:
        if self._control is None:
            raise AssertionError
        self._loop.set_deadline(self._request.run_seconds)
        self._control.send(Message("run"))

    def _give_up(self) -> None:
        if self._stages is None:
            raise AssertionError
        self._timings.begin("let_go")
        if self._criu_runs:
            self._stages.answer(POST_DUMP, True)
        else:
            signal_tree(self._identity, signal.SIGKILL, self._proc)

    def _run_on(self) -> None:
        if self._stages is None:
            raise AssertionError
        if self._frozen_for_good:
            # A pending SIGCONT takes a pending SIGSTOP away (signal(7)).
            signal_tree(self._identity, signal.SIGCONT, self._proc)
            (self._stages.folder / "hold").unlink(missing_ok=True)
            self._frozen_for_good = False
        if self._capture is not None:
            self._capture.close()  # CRIU cannot write any more, and undoes its dump
            self._capture = None
        if self._asked and self._criu_runs:
            self._stages.answer(POST_DUMP, False)
        self._loop.set_deadline(None)

    def _send_abort(self) -> None:
        if self._control is not None:
            with contextlib.suppress(LinkLost):  # then the target hears of it by handoff_settle
                self._control.send(Message("abort", {"reason": self._reason.message if self._reason else ""}))

    def _send_gone(self) -> None:
        if self._control is None:
            raise AssertionError
        with contextlib.suppress(LinkLost):  # it runs there, and that is all that counts
            self._control.send(Message("gone"))
            self._control.finish()

    # The end.

    def _leave_in_doubt(self) -> None:
        # CRIU waits in its post-dump stage, and goes on waiting when we are gone.
        self._report.finish(self.result())
        destroy(self._folder / "identity")
        os._exit(1)

    def _end(self) -> None:
        if self._state is Source.DONE:
            self._tidy_up_after_the_workload()
        elif self._has_made_images:
            remove_folder(self._image_folder, self._proc)
        if self._leaving is not None and self._state is not Source.DONE:
            self._leaving.run_on(self._image_folder)
        if self._files is not None:
            self._files.close()
            self._conclude_copies(self._files)
        for _folder, spare in self._spares:
            spare.close()
        if self._noted is not None:
            self._put_back += put_back(self._noted, self._proc, self._runner)
        self._run_hooks("after_run" if self._state is Source.DONE else "rolled_back")
        # Not before the hooks, which may have taken the address of the workload away.
        runs_on = self._request.pid if self._state is Source.BACK and lives(self._identity, self._proc) else None
        self._put_back += remove_noted(self._folder, self._proc, self._runner, runs_on)
        if self._state is Source.DONE:
            self._hear_good_bye()
        for channel in (self._control, self._images):
            if channel is not None:
                channel.close()

    def _conclude_copies(self, sender: files.Sender) -> None:
        moved = self._state is Source.DONE
        try:
            Contents().conclude(self._request.handoff, moved)
            if moved:
                sender.remember(self._copy_name)
        except (OSError, CriuError) as error:  # then more is compared or asked for the next time
            self._note(error)

    def _hear_good_bye(self) -> None:
        # Whoever asks us can then spare the target the question whether something is left there.
        if self._control is None or self._target_is_tidy:
            return
        try:
            message = self._control.receive(_BYE_SECONDS)
            if message.kind == "bye":
                self._good_bye(message)
        except CriuError as error:
            self._report.log(f"{type(error).__name__}: {error}")

    def _good_bye(self, message: Message) -> None:
        self._target_is_tidy = True
        self._put_back_there = message.fields["put_back"].splitlines()

    def _tidy_up_after_the_workload(self) -> None:
        if self._stages is None:
            raise AssertionError
        until = time.monotonic() + _END_SECONDS
        while lives(self._identity, self._proc) and time.monotonic() < until:
            time.sleep(0.005)
        try:
            for left in (self._request.pid_file, self._stages.folder / "hold"):
                if left is not None:
                    remove_file(Path(left))
            Generations().spend(self._request.workload, self._manifest.generation)
            self._tidy_up_after_the_engine()
            if self._unit is not None:
                forget_failure(self._unit, self._runner)
        except (OSError, CriuError) as error:  # it has moved all the same
            self._note(error)

    def _tidy_up_after_the_engine(self) -> None:
        if self._leaving is None:
            return
        self._leaving.remove()
        if self._capture is not None:  # what was sent is of no use here any more
            remove_folder(self._image_folder, self._proc)

    def _place(self) -> Mapping[str, Any]:
        return {"pid": self._request.pid, "port": self._request.port}

    def _image_bytes(self) -> int:
        if self._capture is not None:
            self._sent = self._capture.sent_bytes
        return getattr(self, "_sent", 0)

    def _show_progress(self) -> None:
        if self._state is Source.FREEZING and self._capture is not None:
            if self._capture.has_begun and not self._options.link_remap:
                # The files of frozen tasks change no more.
                self._send_files()
            self._report.progress(phase="sending", bytes=self._capture.sent_bytes, total=sum(self._memory))
