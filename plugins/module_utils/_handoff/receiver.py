# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent on the target: turns what happens into events of `states.TARGET` and carries its actions out.

Where systemd runs, this process begins as the main one of the workload's unit and hands that over to the workload when
it may run (owner.py). Nothing here decides what is safe: states.py does.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.cgroup_mount import Noted, note, put_back
from ansible_collections.fleet.criu.plugins.module_utils._criu.command import RESTORE_LOG, Options
from ansible_collections.fleet.criu.plugins.module_utils._criu.feature import find_criu
from ansible_collections.fleet.criu.plugins.module_utils._criu.folder import prepare_folder, remove_folder, remove_log
from ansible_collections.fleet.criu.plugins.module_utils._criu.generation import Generations
from ansible_collections.fleet.criu.plugins.module_utils._criu.log import failure
from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import (
    Manifest,
    checksums_of,
    digests,
    digests_from,
    manifest_of,
    write_manifest,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.memory_folder import provide
from ansible_collections.fleet.criu.plugins.module_utils._criu.restore import (
    RestoreRequest,
    bound,
    bound_paths,
    check_mounts,
    check_paths,
    criu_restore,
    places_of,
    record_restored,
    remove_record,
    restore_options,
    root_options,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.restorer import is_in_restorer
from ansible_collections.fleet.criu.plugins.module_utils._criu.rpc import restore_request
from ansible_collections.fleet.criu.plugins.module_utils._criu.sharing import close_folder, shared
from ansible_collections.fleet.criu.plugins.module_utils._criu.stage import POST_RESTORE, Stages
from ansible_collections.fleet.criu.plugins.module_utils._criu.standby import Standby
from ansible_collections.fleet.criu.plugins.module_utils._criu.timers import seconds_of, set_right
from ansible_collections.fleet.criu.plugins.module_utils._engine.stand_in import READY
from ansible_collections.fleet.criu.plugins.module_utils._engine.transfer import ENGINE, Arriving
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json, sync_files, write_json
from ansible_collections.fleet.criu.plugins.module_utils._handoff import file_server
from ansible_collections.fleet.criu.plugins.module_utils._handoff.admission import Listener
from ansible_collections.fleet.criu.plugins.module_utils._handoff.agent import Report
from ansible_collections.fleet.criu.plugins.module_utils._handoff.arrivals import Arrivals
from ansible_collections.fleet.criu.plugins.module_utils._handoff.begin import beginning
from ansible_collections.fleet.criu.plugins.module_utils._handoff.certificate import destroy, make_identity
from ansible_collections.fleet.criu.plugins.module_utils._handoff.channel import Channel, LinkLost
from ansible_collections.fleet.criu.plugins.module_utils._handoff.compression import Decompressor, require
from ansible_collections.fleet.criu.plugins.module_utils._handoff.engine_restore import EngineRestore
from ansible_collections.fleet.criu.plugins.module_utils._handoff.holding import asked_to_receive
from ansible_collections.fleet.criu.plugins.module_utils._handoff.images import Store, read_frames
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import TARGET
from ansible_collections.fleet.criu.plugins.module_utils._handoff.living import RESTORED
from ansible_collections.fleet.criu.plugins.module_utils._handoff.loop import Loop
from ansible_collections.fleet.criu.plugins.module_utils._handoff.machine import TARGET_TABLE
from ansible_collections.fleet.criu.plugins.module_utils._handoff.messages import Message
from ansible_collections.fleet.criu.plugins.module_utils._handoff.owner import Notifier
from ansible_collections.fleet.criu.plugins.module_utils._handoff.request import (
    REQUEST,
    SHARED,
    ReceiveRequest,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.side import Side, carry_out
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Action, Event, Target
from ansible_collections.fleet.criu.plugins.module_utils._mounts.checks import require_replaceable
from ansible_collections.fleet.criu.plugins.module_utils._mounts.contents import Contents
from ansible_collections.fleet.criu.plugins.module_utils._mounts.pinned import Pinned
from ansible_collections.fleet.criu.plugins.module_utils._mounts.private import PrivateMounts
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity, Proc, lives, signal_tree
from ansible_collections.fleet.criu.plugins.module_utils._runner import (
    Completed,
    Runner,
    SubprocessRunner,
    prepare_process,
)
from ansible_collections.fleet.criu.plugins.module_utils._trusted import open_place

_STREAM_SECONDS = 60.0
_END_SECONDS = 10.0
_STANDBY_SECONDS = 60.0
_SILENCE_SECONDS = 3600.0

_AT_REST = frozenset({Target.RUNNING, Target.FAILED, Target.DROPPED, Target.CLEARED})


def main(folder: str) -> int:
    """Do what the request in the folder says; the result is in the report. Gives the exit status."""
    place = Path(folder)
    notifier = Notifier.from_environment(os.environ)
    request = ReceiveRequest(**read_json(place / REQUEST))
    report = Report(place)
    prepare_process()
    runner, proc = SubprocessRunner(is_prepared=True), Proc()

    def begin() -> Receiver:
        # What is mounted in a namespace of our own nobody would find after our death.
        provide(Path(request.images), proc)
        private = None if request.engine else PrivateMounts()
        return Receiver(request, place, report, runner, proc, notifier, private)

    outcome = carry_out(place, report, request.workload, TARGET, begin, "cleared")
    return 0 if outcome == "running" else 1


class Receiver(Side[ReceiveRequest]):
    """One handoff, seen from the target."""

    name = TARGET

    def __init__(
        self,
        request: ReceiveRequest,
        folder: Path,
        report: Report,
        runner: Runner,
        proc: Proc,
        notifier: Notifier,
        private: PrivateMounts | None,
    ) -> None:
        super().__init__(request, folder, report, runner, proc, Target.ARMED, TARGET_TABLE)
        self._notifier = notifier
        self._images = Path(request.images)
        self._pinned = Pinned()
        # Engines are not given other paths than the user's.
        self._private = private
        self._listener: Listener | None = None
        self._stream: Channel | None = None
        self._decompressor: Decompressor | None = None
        self._store: Store | None = None
        self._take_frames: Callable[[], bool] | None = None
        self._port: int | str = ""
        self._standby: Standby | None = None
        self._manifest: Manifest | None = None
        self._checksums: Mapping[str, Any] | None = None
        self._engine: EngineRestore | None = None
        self._configuration: Mapping[str, Any] = {}
        self._root_options: list[str] | None = None
        self._has_all = request.transport == SHARED
        self._has_manifest = False
        self._has_copies = False
        self._writing: threading.Thread | None = None
        self._identity: Identity | None = None
        self._noted: Noted | None = None
        self._put_back: list[str] = []
        self._arrivals = Arrivals(runner, self._pinned)
        self._copy_name = ""
        self._waits_for_copies: tuple[Sequence[int], bool, Callable[[], None]] | None = None
        self._is_gone = False
        self._is_lost = False
        self._actions = {
            Action.RESTORE: lambda: None,  # `run` starts it, because it lasts
            Action.SEND_READY: self._send_ready,
            Action.LET_GO: self._let_go,
            Action.SEND_RUNNING: self._send_running,
            Action.SEND_FAILED: self._send_failed,
            Action.KILL: self._kill,
            Action.REMOVE_IMAGES: self._remove_images,
        }

    def run(self) -> None:
        """The whole handoff. Returns when the target is at rest."""
        request = self._request
        self._criu = find_criu(self._runner, request.criu_path)
        self._restore_request = RestoreRequest(
            self._images,
            request.root,
            request.restore_map,
            request.options,
            Path(request.pid_file) if request.pid_file else None,
            request.criu_path,
        )
        if self._private is not None:
            # What comes into the root is to be seen in it, not covered by what this host has mounted there.
            self._pinned.replace(request.root, open_place(self._private.place(request.root, self._pinned)))
        self._pinned.add(request.folders.values())
        with beginning(asked_to_receive(request), self._proc, self._runner):
            if request.transport != SHARED:
                # Before the journal: once that is begun, the folder and what is in it are ours to remove.
                prepare_folder(self._images)
            self._journal.begin(self._facts())
        identity = make_identity(self._folder / "identity", request.handoff, self._runner)
        waits = {stage: lambda pid: None for stage in (POST_RESTORE, READY)}
        with Loop(self._stop, self._too_late) as loop, Stages(waits, self._folder / "stages") as stages:
            self._loop, self._stages = loop, stages
            try:
                listener = Listener(
                    request.address,
                    request.port,
                    identity,
                    request.certificate,
                    request.handoff,
                    self._welcome,
                    self._report.log,
                )
            except CriuError as error:
                self._fail(error)
                return
            try:
                self._serve(listener)
            finally:
                listener.close()

    def result(self) -> dict[str, Any]:
        """What became of it, in plain JSON types."""
        runs = self._state is Target.RUNNING
        reason = None if runs else self._reason
        return {
            "outcome": self._state.name.lower(),
            "pid": self._identity.pid if runs and self._identity else None,
            "hooks": self._hook_results,
            "timings": self._timings.as_dict(),
            "put_back": self._put_back,
            "reason": reason.message if reason else "",
            "remedy": reason.remedy if reason else "",
            "facts": reason.facts if reason else {},
        }

    def _serve(self, listener: Listener) -> None:
        self._loop.watch(self._stages, self._stage_asked)
        self._loop.set_deadline(self._request.arm_seconds)
        self._port = listener.port
        self._report.progress(phase="armed", port=listener.port, forced=True)
        self._listener = listener
        self._accept(listener)
        while self._state not in _AT_REST:
            self._turn()
            if self._state is Target.RESTORING and not self._criu_runs:
                self._restore()
        self._end()

    # What happens becomes an event.

    @property
    def _state(self) -> Target:
        state = self._driver.state
        if not isinstance(state, Target):
            raise AssertionError
        return state

    def _turn(self) -> None:
        try:
            self._loop.turn(0.2)
        except Exception as error:  # CRIU must not be left alone with the workload
            self._fail(error)

    def _silence(self) -> str:
        return f"The source {self._request.source} did not go on in time ({self._state.name.lower()})."

    def _link_is_lost(self) -> None:
        self._is_lost = True

    def _take(self, message: Message) -> None:
        if message.kind == "run":
            self._run()
        elif message.kind == "abort":
            self._note(CriuError(f"{self._request.source} runs on: {message.fields['reason']}"))
            self._happen(Event.ABORT)
        elif message.kind == "gone":
            self._is_gone = True
            self._happen(Event.GONE)
        elif self._state is Target.RECEIVING:
            self._answer(message)

    def _answer(self, message: Message) -> None:
        if self._control is None:
            raise AssertionError
        try:
            if message.kind == "prepare":
                self._prepare(message.fields)
                self._control.send(Message("prepared"))
            elif message.kind == "engine":
                self._start_engine()
            elif message.kind == "freezing" and self._manifest is not None:
                request = self._request
                generation = self._manifest.generation
                paths = {*request.claims, *(self._engine.folders() if self._engine is not None else {}).values()}
                Contents().begin(paths, request.workload, generation, request.handoff, arrives=True)
                # What is synced is here by now, and the workload still runs.
                check_paths(self._restore_request, self._manifest)
                self._run_hooks("before_freeze")
                self._pinned.add(bound_paths(self._restore_request))
                if self._standby is not None:
                    self._standby.wait(_STANDBY_SECONDS)
                if self._listener is not None:
                    self._listener.stop()  # whoever is not here by now has no business here, and costs time
                self._timings.begin("receive")
                self._control.send(Message("prepared"))
            elif message.kind == "complete":
                self._has_been_completed(message.fields)
            else:
                self._answer_about_files(message)
        except CriuError as error:
            self._fail(error)

    def _answer_about_files(self, message: Message) -> None:
        if message.kind == "compare":
            self._compare(message.fields)
        elif message.kind == "copied":
            self._when_copied(message.fields["connections"], True, self._say_prepared)
        elif message.kind == "note":
            self._copy_name = message.fields["copy"]
            self._loop.in_background(self._arrivals.note, self._files_noted)

    # Receiving.

    def _accept(self, listener: Listener) -> None:
        # Peers come at any time; each is handed over as soon as it was let in.
        def next_peer() -> Any:
            accepted = None
            while accepted is None and self._state not in _AT_REST:
                accepted = listener.accept(1.0)
            return accepted

        def let_in(accepted: Any, error: Exception | None) -> None:
            if error is not None:
                self._fail(error)
            elif accepted is not None:
                self._let_in(*accepted)
                self._loop.in_background(next_peer, let_in)

        self._loop.in_background(next_peer, let_in)

    def _let_in(self, hello: Message, channel: Channel) -> None:
        purpose = hello.fields["purpose"]
        if purpose == "control":
            self._control = channel
            channel.watch_closely()
            self._loop.set_deadline(_SILENCE_SECONDS)
            self._loop.watch(channel, self._heard, channel.has_pending)
            self._happen(Event.HELLO)
        elif purpose == "copy":
            folder, number = str(hello.fields["folder"]), hello.fields["number"]
            modules = self._folders()
            self._loop.in_background(
                lambda: file_server.serve(
                    channel, folder, modules, self._folder / f"copy.{number}", pinned=self._pinned
                ),
                lambda _result, error: self._copied(number, error),
            )
        elif self._stream is None and self._store is not None:
            self._stream = channel
            self._decompressor = Decompressor(
                self._compression, lambda view: channel.receive_into(view, _STREAM_SECONDS)
            )
            self._take_frames = read_frames(self._decompressor, self._store)
            if self._compression == "none":
                self._loop.watch(channel, self._frames, channel.has_pending)
            else:
                self._loop.watch(self._decompressor, self._frames)

    def _folders(self) -> dict[str, str]:
        return {**self._request.folders, **(self._engine.folders() if self._engine is not None else {})}

    def _copied(self, number: int, error: Exception | None) -> None:
        # Whether it was needed the source says; what it has opened ahead of the freeze may end unused.
        if error is not None:
            self._report.log(f"copy {number}: {error}")
        self._arrivals.ended(number, error)
        self._go_on_if_copied()

    def _when_copied(self, numbers: Sequence[int], live: bool, then: Callable[[], None]) -> None:
        self._waits_for_copies = (numbers, live, then)
        self._go_on_if_copied()

    def _go_on_if_copied(self) -> None:
        if self._waits_for_copies is None:
            return
        numbers, live, then = self._waits_for_copies
        try:
            if self._arrivals.have_ended(numbers, live):
                self._waits_for_copies = None
                then()
        except CriuError as error:
            self._waits_for_copies = None
            self._fail(error)

    def _compare(self, fields: Mapping[str, Any]) -> None:
        module, file_name, copy, modules = fields["folder"], fields["file_name"], fields["copy"], self._folders()
        self._require_older(str(Path(modules.get(module, "/")) / file_name), fields["generation"])
        self._loop.in_background(lambda: self._arrivals.compare(module, file_name, copy, modules), self._compared)

    def _require_older(self, path: str, generation: int) -> None:
        request = self._request
        if path in request.claims and not request.replace_contents:
            require_replaceable(path, request.workload, generation, request.handoff)

    def _compared(self, differing: Any, error: Exception | None) -> None:
        self._answer_with(Message("differing", {"files": asdict(differing)}) if error is None else None, error)

    def _files_noted(self, _result: Any, error: Exception | None) -> None:
        self._answer_with(Message("prepared"), error)

    def _say_prepared(self) -> None:
        self._answer_with(Message("prepared"), None)

    def _answer_with(self, message: Message | None, error: Exception | None) -> None:
        if error is not None or message is None or self._control is None:
            self._fail(error or CriuError("There is no answer."))
            return
        try:
            self._control.send(message)
        except LinkLost as lost:
            self._fail(lost)

    def _has_been_completed(self, fields: Mapping[str, Any]) -> None:
        if self._state is not Target.RECEIVING:
            return
        file_server.set_folder_times(fields["folder_times"], self._folders(), self._pinned)
        self._checksums = fields["checksums"]
        # To the source they have ended, so CRIU may begin. rsync's daemon takes up to 20 ms more to end itself.
        self._when_copied(fields["connections"], False, self._have_been_copied)
        self._maybe_received()

    def _have_been_copied(self) -> None:
        self._has_copies = True
        self._maybe_restored()

    def _prepare(self, fields: Mapping[str, Any]) -> None:
        self._manifest = manifest_of(fields["manifest"])
        self._compression = fields["compression"]
        require(self._compression)
        self._noted = note(self._proc)
        if self._request.transport != SHARED:
            self._store = Store(self._images, self._manifest.image_group)
            with self._timings.of("reserve"):
                self._store.reserve(fields["memory"])
        if not self._request.engine:
            self._root_options = root_options(self._request.root, self._manifest.mounts, self._proc)
        self._configuration = fields["engine"]
        is_criu_s = not self._request.engine and not self._criu.is_legacy
        if is_criu_s and self._stages is not None and self._images.is_dir():
            needed = sum(fields["memory"])
            self._standby = Standby(self._criu.path, self._stages.folder, [POST_RESTORE], self._images, needed)

    # The engine, if there is one.

    def _start_engine(self) -> None:
        if self._stages is None or self._manifest is None:
            raise AssertionError
        check_paths(self._restore_request, self._manifest)
        arriving = Arriving(self._request.workload, self._request.engine, self._runner, self._proc)
        self._engine = EngineRestore(
            arriving, self._images, self._loop, self._stages, self._runner, self._proc, self._fail
        )
        options = restore_options(self._restore_request, self._manifest)
        root = self._request.root or None
        command = arriving.command(
            self._configuration, self._images, root, options, self._criu, self._stages, waits=True
        )
        if self._store is not None:
            for name in arriving.engine.placeholders:
                self._store.expect(name)
        # With the images it may be needed once more, if we die.
        write_json(self._images / ENGINE, dict(self._configuration))
        self._engine.begin(command)

    def _engine_waits(self) -> None:
        if self._control is None or self._engine is None:
            raise AssertionError
        self._engine.is_ready = True
        try:
            self._control.send(Message("prepared"))
        except LinkLost as error:
            self._fail(error)

    def _leave_engine(self) -> None:
        if self._engine is None:
            return
        try:
            self._engine.undo()
        except CriuError as error:
            self._note(error)

    def _frames(self, _descriptor: int) -> None:
        if self._take_frames is None:
            raise AssertionError
        if self._stream is None:
            raise AssertionError
        try:
            ended = self._take_frames()
        except Exception as error:
            self._loop.forget(self._stream)
            self._fail(error)
            return
        if ended:
            self._loop.forget(self._stream if self._compression == "none" else self._decompressor)
            self._has_all = True
            self._maybe_received()

    def _maybe_received(self) -> None:
        if not self._has_all or self._checksums is None or self._state is not Target.RECEIVING:
            return
        if self._store is not None:
            self._store.check(self._checksums)
            self._store.close()
        elif not self._has_the_source_s_images(self._checksums):
            raise CriuError(
                f"The images in {self._images} are not those of the source.",
                "Check that both hosts have the same storage there (criu_images).",
            )
        self._timings.end("receive")
        self._happen(Event.RECEIVED)

    def _has_the_source_s_images(self, checksums: Mapping[str, Any]) -> bool:
        given = {name: list(sums) for name, sums in checksums.items()}
        return self._images.is_dir() and checksums_of(self._images) == given

    # Restoring.

    def _restore(self) -> None:
        if self._stages is None:
            raise AssertionError
        if self._manifest is None:
            raise AssertionError
        request = self._restore_request
        sums = digests_from(self._checksums or {})
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")
        manifest = self._manifest = replace(self._manifest, files=sums, created=now)
        # On a disk that has just taken all the images, to sync it may last.
        self._writing = self._loop.in_background(lambda: self._write_down(manifest), self._manifest_written)
        self._criu_runs = True
        self._timings.begin("restore")
        # What the store has put down is shared already, without a moment for it now.
        group = self._manifest.image_group if self._store is None else None
        try:
            with shared(self._images, group):
                completed = self._run_criu(restore_options(request, self._manifest))
        except CriuError as error:
            self._note(error)
            completed = Completed(1)
        self._criu_runs = False
        if self._state is Target.STARTING and self._has_resumed(completed.returncode):
            self._timings.end("resume")
            self._happen(Event.RESUMED)
        elif self._state in (Target.RESTORING, Target.READY, Target.STARTING):
            if self._reason is None:
                places = places_of(request, self._manifest, self._private)
                what = f"The restore of {self._request.workload}"
                self._reason = failure(what, completed, self._images / RESTORE_LOG, places)
            self._happen(Event.CRIU_ENDED)

    def _run_criu(self, options: Options) -> Completed:
        if self._stages is None:
            raise AssertionError
        request = self._restore_request
        remove_log(self._images / RESTORE_LOG)
        if self._engine is not None:
            return self._engine.let_go(self._turn)
        if self._private is not None and self._manifest is not None:
            mounts, mount_map = self._manifest.mounts, self._manifest.mount_map
            request = bound(request, mounts, mount_map, self._private, self._pinned)
            if self._root_options is not None:  # only now, because copies may have gone there
                self._private.set_options(self._request.root, self._root_options)
        asked = restore_request(request.root, request.restore_map, options)
        if asked is not None and self._standby is not None and self._standby.is_ready:
            completed = self._standby.restore(asked, self._turn)
            if completed is not None:
                return completed
        return self._runner(criu_restore(request, self._criu, options, self._stages), self._turn)

    def _has_resumed(self, returncode: int) -> bool:
        if self._identity is None:
            raise AssertionError
        if returncode == 0:
            return True
        return lives(self._identity, self._proc) and not is_in_restorer(self._identity.pid, self._proc)

    def _write_down(self, manifest: Manifest) -> None:
        # If both hosts lose power after `committed`, images on a disk are the workload, and must be there with it.
        sync_files(self._images)
        write_manifest(self._images, manifest)

    def _manifest_written(self, _result: Any, error: Exception | None) -> None:
        if error is not None:
            self._fail(error)
            return
        self._has_manifest = True
        self._maybe_restored()

    def _stage_asked(self, _descriptor: int) -> None:
        if self._stages is None:
            raise AssertionError
        if self._manifest is None:
            raise AssertionError
        asked = self._stages.asked()
        if asked is None:
            return
        stage, pid = asked
        if stage == READY:
            self._engine_waits()
            return
        if self._state is not Target.RESTORING:
            self._stages.answer(POST_RESTORE, False)
            return
        try:
            check_mounts(self._restore_request, self._manifest, pid, self._proc, self._pinned)
            for line in set_right(self._images, pid, seconds_of(self._manifest.created), self._proc):
                self._report.log(line)
            stat = self._proc.stat(pid)
            if stat is None:
                raise CriuError(f"Process {pid} was restored, but is gone.")
            self._identity = Identity(pid, stat.start_time)
            # For handoff_settle, if we die.
            write_json(self._folder / RESTORED, {"pid": pid, "start_time": stat.start_time})
            record_restored(self._restore_request, self._identity, self._proc)
            self._timings.end("restore")
            self._run_hooks("held")
        except CriuError as error:
            self._fail(error)
            return
        self._maybe_restored()

    def _maybe_restored(self) -> None:
        has_all = self._identity is not None and self._has_manifest and self._has_copies
        if has_all and self._state is Target.RESTORING:
            self._happen(Event.RESTORED)

    def _send_ready(self) -> None:
        if self._control is None:
            raise AssertionError
        if self._identity is None:
            raise AssertionError
        fields = {
            "pid": self._identity.pid,
            "start_time": self._identity.start_time,
            "timings": self._timings.as_dict(),
        }
        self._control.send(Message("ready", fields))

    def _run(self) -> None:
        if self._state is not Target.READY:
            return  # it comes too late, and the hooks are for a workload that is about to run
        try:
            self._run_hooks("before_run")
        except CriuError as error:
            self._fail(error)
            return
        self._happen(Event.RUN)

    def _let_go(self) -> None:
        if self._stages is None:
            raise AssertionError
        if self._identity is None:
            raise AssertionError
        self._timings.begin("resume")
        if self._standby is not None and self._standby.has_died:
            return  # who asks for CRIU is dead, so CRIU undoes its work, and that is the next event
        try:
            self._notifier.hand_over(self._identity.pid)
            self._stages.answer(POST_RESTORE, True)
        except (CriuError, OSError) as error:
            self._note(error)
            self._end_criu()

    def _end_criu(self) -> None:
        # It was not told to let the copy go. That it has ended is the next event. It hears of our refusal even if the
        # folder is gone, or full.
        if self._stages is None:
            raise AssertionError
        with contextlib.suppress(OSError):
            self._stages.answer(POST_RESTORE, False)

    def _send_running(self) -> None:
        if self._control is None:
            raise AssertionError
        if self._identity is None:
            raise AssertionError
        self._control.send(Message("running", {"pid": self._identity.pid, "timings": self._timings.as_dict()}))

    def _send_failed(self) -> None:
        if self._control is None:
            return
        reason = self._reason or CriuError("The target failed.")
        fields = {"reason": reason.message, "remedy": reason.remedy, "facts": reason.facts}
        self._control.send(Message("failed", fields))

    def _kill(self) -> None:
        if self._criu_runs:
            # If CRIU waits for us, it kills what it has restored; if not, it hears of it when it comes there.
            self._end_criu()
        if self._identity is None:
            return
        signal_tree(self._identity, signal.SIGKILL, self._proc)
        try:
            remove_record(self._restore_request)
        except (CriuError, OSError) as error:  # what counts is that it is dead
            self._note(error)

    def _remove_images(self) -> None:
        if self._request.keep_images and self._state is Target.RUNNING:
            return
        if self._writing is not None:
            self._writing.join()
        # On shared storage the folder is the source's until it has told us of its images.
        if self._request.transport != SHARED or self._manifest is not None:
            remove_folder(self._images, self._proc)

    def _complete_manifest(self) -> None:
        # Whoever gets the images later gets better digests than there was time for.
        if self._manifest is None:
            raise AssertionError
        try:
            self._manifest = replace(self._manifest, files=digests(self._images))
            write_manifest(self._images, self._manifest)
        except OSError as error:  # it runs all the same
            self._note(error)

    # The end.

    def _end(self) -> None:
        self._loop.set_deadline(_END_SECONDS)
        if self._state is Target.RUNNING:
            self._end_well()
        else:
            while self._state is Target.FAILED and self._loop.has_deadline():
                self._turn()
            self._leave_engine()
            self._undo_what_criu_did()
            if self._state is Target.CLEARED:
                self._remove_images()  # CRIU, which has ended only now, may have written into them since
                self._give_contents_back()
            self._run_hooks("rolled_back")
        for place in (self._control, self._stream, self._standby, self._decompressor):
            if place is not None:
                place.close()

    def _give_contents_back(self) -> None:
        try:
            Contents().conclude(self._request.handoff, moved=False)
        except CriuError as error:  # handoff_settle does it later
            self._note(error)

    def _end_well(self) -> None:
        if self._manifest is None:
            raise AssertionError
        if self._identity is None:
            raise AssertionError
        try:
            Generations().spend(self._request.workload, self._manifest.generation)
            self._notifier.confirm(self._identity.pid)
            Contents().conclude(self._request.handoff, moved=True)
            self._arrivals.remember(self._copy_name)
        except (CriuError, OSError) as error:  # it runs all the same
            self._note(error)
        self._run_hooks("after_run")
        self._loop.set_deadline(_END_SECONDS)
        while not self._is_gone and not self._is_lost and self._loop.has_deadline():
            self._turn()
        self._undo_what_criu_did()
        self._remove_images()
        self._say_good_bye()
        if self._request.keep_images:
            close_folder(self._images)
            self._complete_manifest()

    def _undo_what_criu_did(self) -> None:
        if self._noted is not None:
            self._put_back += put_back(self._noted, self._proc, self._runner)
        for line in self._put_back:
            self._report.log(line)

    def _say_good_bye(self) -> None:
        # Nothing is left here that somebody would have to remove if we died now.
        destroy(self._folder / "identity")
        if self._control is None or self._is_lost:
            return
        try:
            fields = {"timings": self._timings.as_dict(), "put_back": "\n".join(self._put_back)}
            self._control.send(Message("bye", fields))
            self._control.finish()
        except LinkLost as error:
            self._note(error)

    def _welcome(self) -> Mapping[str, Any]:
        return {
            "generation": Generations().current(self._request.workload),
            "criu_version": self._criu.version,
            "machine": self._journal.machine,
            "journal": self._journal.identity,
        }

    def _facts(self) -> dict[str, Any]:
        request = self._request
        return {
            "workload": request.workload,
            "boot_id": self._proc.boot_id(),
            "source": request.source,
            "target": request.target,
            "folder": str(self._folder),
            "agent": os.getpid(),
            "images": request.images,
            "root": request.root,
            "restore_map": [dict(entry) for entry in request.restore_map],
            "pid_file": request.pid_file,
            "unit": request.unit,
            "criu_path": request.criu_path,
            "options": dict(request.options),
            "keep_images": request.keep_images,
            "engine": dict(request.engine),
        }

    def _place(self) -> Mapping[str, Any]:
        return {"pid": self._identity.pid if self._identity else "", "port": self._port}
