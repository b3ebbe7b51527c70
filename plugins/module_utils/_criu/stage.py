# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answering CRIU's action scripts: at a named stage CRIU waits until we say whether it may go on.

At `post-dump` all images are written and the tasks still exist; at `post-restore` all is restored and nothing runs yet
(criu(8), --action-script). A refusal makes CRIU undo its work. So does our own death: the script waits for the end of
a FIFO that the kernel closes for us then, and finds no answer. Once `hold` was called it goes on waiting instead, for
an answer that somebody else may give later (`answer_stage`).
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Callable, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command
from ansible_collections.fleet.criu.plugins.module_utils._trusted import make_folder

POST_DUMP = "post-dump"
POST_RESTORE = "post-restore"

_WAIT = 0.02
_HOLD_WAIT = 0.1
RUN_FOLDER = Path("/run/fleet.criu/stages")
_EXECUTABLE_FOLDER = Path("/var/lib/fleet.criu")

# CRIU runs the script at every stage, most of them while the workload is frozen, so it has nothing but builtins: one
# more program takes longer than all of it, and an interpreter ten times as long. Opening a FIFO for both directions
# never blocks (fifo(7)); the one named alive is at its end as soon as nobody has it open for writing, which is when we
# have answered or died.
_SCRIPT = """#!/bin/sh
stage=$CRTOOLS_SCRIPT_ACTION
case $stage in {stages}) ;; *) exit 0 ;; esac
cd {folder} || exit 1
echo "$stage ${{CRTOOLS_INIT_PID-0}}" 1<>request
exec 3<>"alive.$stage" 4<"alive.$stage" 3>&-
read -r nothing <&4
while [ -e hold ] && [ ! -e "answer.$stage" ]; do sleep 0.1; done
read -r answer <"answer.$stage" && exit "$answer"
exit 1
"""

Answer = Callable[[int], None]
# What dumps or restores a workload, with these options, and asks at these stages.
MakeCommand = Callable[[Options, "Stages"], Command]


class Stages:
    """A context in which `script` may be given to CRIU as its action script.

    `answers` has for each stage a function that gets the pid of the workload's init and raises to refuse; what it
    raised is kept in `refusal`. `serve` must be called repeatedly while CRIU runs. Who wants to answer later than at
    once uses `asked` and `answer` instead. With a `folder`, what the script needs is kept there and stays.
    """

    def __init__(self, answers: Mapping[str, Answer], folder: Path | None = None) -> None:
        self._answers = answers
        self._given_folder = folder
        self.refusal: Exception | None = None

    def __enter__(self) -> Stages:
        self.folder = make_folder(self._given_folder or _new_folder(RUN_FOLDER))
        self._requests = _open_fifo(self.folder / "request")
        self._alive = {stage: _open_fifo(self.folder / f"alive.{stage}") for stage in self._answers}
        self._unread = b""
        # Many a host mounts /run noexec, and CRIU executes the script itself.
        self._elsewhere = _new_folder(_EXECUTABLE_FOLDER) if _is_noexec(self.folder) else None
        script = (self._elsewhere or self.folder) / "action"
        script.write_text(_SCRIPT.format(stages="|".join(self._answers), folder=shlex.quote(str(self.folder))), "utf-8")
        script.chmod(0o700)
        self.script = str(script)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in (self._requests, *self._alive.values()):
            os.close(descriptor)
        for folder in (self.folder if self._given_folder is None else None, self._elsewhere):
            if folder is not None:
                shutil.rmtree(str(folder), ignore_errors=True)

    def fileno(self) -> int:
        """Readable when a script may have asked."""
        return self._requests

    def asked(self) -> tuple[str, int] | None:
        """The stage at which CRIU waits, and the pid of the workload's init; None if no script has asked. Never waits.

        CRIU comes to each stage once.
        """
        with contextlib.suppress(BlockingIOError):
            self._unread += os.read(self._requests, 4096)
        line, newline, rest = self._unread.partition(b"\n")
        if not newline:
            return None
        self._unread = rest
        stage, _space, pid = line.decode("ascii", "replace").partition(" ")
        if stage not in self._answers:
            return None
        if not pid.isdecimal():
            self.refusal = ValueError(f"CRIU gave {pid!r} as the pid at stage {stage}")
            self.answer(stage, False)
            return None
        return stage, int(pid)

    def answer(self, stage: str, go_on: bool) -> None:
        """Let CRIU go on, or make it undo its work.

        Raises OSError if it cannot be told; then it undoes its work too, as if we had died.
        """
        try:
            answer_stage(self.folder, stage, go_on)
        finally:
            alive = self._alive.pop(stage, None)
            if alive is not None:
                os.close(alive)

    def hold(self) -> None:
        """From now on our death is no refusal: CRIU waits until there is an answer."""
        (self.folder / "hold").touch(mode=0o600)

    def serve(self) -> None:
        """Answer one waiting script, or return after a moment if there is none."""
        readable, _writable, _failed = select.select([self._requests], [], [], _WAIT)
        asked = self.asked() if readable else None
        if asked is not None:
            stage, pid = asked
            self.answer(stage, self._ask(stage, pid))

    def _ask(self, stage: str, pid: int) -> bool:
        try:
            self._answers[stage](pid)
        except Exception as error:  # whatever it is, CRIU must be told to undo its work
            self.refusal = error
            return False
        return True


def _is_noexec(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_NOEXEC)


def _new_folder(parent: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix="stages.", dir=str(make_folder(parent))))


def _open_fifo(path: Path) -> int:
    if not path.exists():
        os.mkfifo(str(path), 0o600)
    return os.open(str(path), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def answer_stage(folder: Path, stage: str, go_on: bool) -> None:
    """Answer for a process that died after it had called `hold`."""
    draft = folder / f"answer.{stage}.new"
    draft.write_text("0\n" if go_on else "1\n", "ascii")
    os.replace(draft, folder / f"answer.{stage}")


def wait_for_answer(folder: Path, stage: str, pid: int) -> bool:
    """Do in this process what the action script does: ask, wait for the answer or the end of who could give it."""
    requests = _open_fifo(folder / "request")
    os.write(requests, f"{stage} {pid}\n".encode("ascii"))
    os.close(requests)
    keeper = _open_fifo(folder / f"alive.{stage}")
    alive = os.open(str(folder / f"alive.{stage}"), os.O_RDONLY | os.O_CLOEXEC)
    os.close(keeper)
    os.read(alive, 1)
    os.close(alive)
    while (folder / "hold").exists() and given_answer(folder, stage) is None:
        time.sleep(_HOLD_WAIT)
    return given_answer(folder, stage) is True


def given_answer(folder: Path, stage: str) -> bool | None:
    """Whether CRIU was told to go on at this stage; None if it was told nothing."""
    try:
        return (folder / f"answer.{stage}").read_text("ascii").strip() == "0"
    except OSError:
        return None
