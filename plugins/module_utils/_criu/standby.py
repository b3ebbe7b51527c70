# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CRIU that was started before the freeze, and restores as soon as it is told to.

To start CRIU takes 5 ms, and to have it run an action script 1 ms for each of six stages: too much for a workload that
waits. So CRIU is started as `criu swrk` (what its library libcriu does) and told by messages. They come from a process
of its own, this module's `main`, which answers for us at the stages that nobody asks about, and at the others does
what the action script of stage.py does, with the same files. That it outlives us is why it is there: once CRIU was
told to go on, our death must not stop it.

It also takes the memory that the workload is going to need, before the freeze, and gives it back when it is needed:
see room.py.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Callable

from ansible_collections.fleet.criu.plugins.module_utils._criu.restorer import find_restoring
from ansible_collections.fleet.criu.plugins.module_utils._criu.room import Room
from ansible_collections.fleet.criu.plugins.module_utils._criu.rpc import (
    IMAGES_DESCRIPTOR,
    parse_response,
    stage_answer,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.stage import wait_for_answer
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed

_BOOTSTRAP = "; ".join(
    [
        "import json, os, sys",
        "sys.path[:0] = json.loads(sys.argv[1])",
        f"from {__name__} import main",
        # Without tidying up: whoever waits for it has a workload that waits.
        "os._exit(main(*sys.argv[2:]))",
    ]
)
_LONGEST_MESSAGE = 1 << 20
_LOOK_SECONDS = 0.1
_FAILED = 1
# CRIU ended before it came to its first stage. It has made no task by then, so that it may be tried in another way.
_NOTHING_DONE = 3


class Standby:
    """The process and its CRIU.

    `stages_folder` is that of `Stages`, `stages` are those which it answers, the folder `images` must exist, and
    `memory` is what the workload needs, in bytes.
    """

    def __init__(self, criu: str, stages_folder: Path, stages: list[str], images: Path, memory: int = 0) -> None:
        self._images = images
        self._is_asked = False
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", "-c", _BOOTSTRAP, json.dumps(sys.path)),
                *(criu, str(stages_folder), ",".join(stages), str(images), str(memory)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
        )

    def wait(self, seconds: float) -> None:
        """Wait until it is ready or has ended, at most so long."""
        if self._process.stdout is not None:
            select.select([self._process.stdout], [], [], seconds)

    @property
    def is_ready(self) -> bool:
        """Whether it lives, so that it can be asked, or answered."""
        return self._process.poll() is None

    @property
    def has_died(self) -> bool:
        """Whether it was asked and lives no more."""
        return self._is_asked and not self.is_ready

    def restore(self, request: bytes, while_running: Callable[[], None]) -> Completed | None:
        """Do what was asked for (rpc.restore_request), and call `while_running` again and again until CRIU ended.

        Gives None if CRIU has not even begun.
        """
        if self._process.stdin is None:
            raise AssertionError
        try:
            self._process.stdin.write(request)
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # then it has ended
        self._is_asked = True
        # CRIU may still be about to undo its work, if the one between us was killed.
        while self.is_ready or (self._process.returncode < 0 and find_restoring(self._images, Proc()) is not None):
            while_running()
        if self._process.returncode == _NOTHING_DONE:
            return None
        said = self._process.stderr.read() if self._process.stderr is not None else b""
        return Completed(self._process.returncode, "", said.decode("utf-8", "replace"))

    def close(self) -> None:
        """End it, unless CRIU has done its work."""
        if self.is_ready:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def main(criu: str, stages_folder: str, stages: str, images: str, memory: str) -> int:
    """Be that process. The request comes on standard input. Gives 0 if CRIU has done it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    descriptor = os.open(images, os.O_RDONLY | os.O_DIRECTORY)
    os.dup2(descriptor, IMAGES_DESCRIPTOR)
    with ours:
        with theirs:
            try:
                process = subprocess.Popen(
                    # The name says what for, in the list of processes, before CRIU gives itself a better one.
                    [f"criu {images}", "swrk", str(theirs.fileno())],
                    executable=criu,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    pass_fds=[theirs.fileno()],
                )
            except OSError:
                return _NOTHING_DONE
        room = Room(int(memory))
        threading.Thread(target=room.hold, args=[lambda: os.write(sys.stdout.fileno(), b"ready")], daemon=True).start()
        if sys.stdin not in select.select([sys.stdin, ours], [], [])[0]:
            return _NOTHING_DONE  # CRIU has ended
        request = sys.stdin.buffer.read()
        if not request:
            return _NOTHING_DONE  # nobody needs it any more
        room.give_back()
        return _serve(ours, process, request, Path(stages_folder), stages.split(","))


def _serve(
    connection: socket.socket, process: subprocess.Popen[bytes], request: bytes, folder: Path, stages: list[str]
) -> int:
    has_begun = False
    try:
        connection.send(request)
        while True:
            data = _receive(connection, process)
            if not data:  # CRIU was killed
                return _FAILED if has_begun else _NOTHING_DONE
            has_begun = True
            response = parse_response(data)
            if response.stage is None:
                os.write(sys.stderr.fileno(), response.message.encode("utf-8", "surrogateescape"))
                return 0 if response.is_success else _FAILED
            go_on = response.stage not in stages or wait_for_answer(folder, response.stage, response.pid)
            connection.send(stage_answer(go_on))
    except OSError:
        return _FAILED if has_begun else _NOTHING_DONE


def _receive(connection: socket.socket, process: subprocess.Popen[bytes]) -> bytes:
    # When CRIU is dead, what it had begun to restore may still hold its end of the connection.
    while not select.select([connection], [], [], _LOOK_SECONDS)[0]:
        if process.poll() is not None and not select.select([connection], [], [], 0)[0]:
            return b""
    return connection.recv(_LONGEST_MESSAGE)
