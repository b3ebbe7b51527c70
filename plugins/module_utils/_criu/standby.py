# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CRIU that was started before the freeze, and restores as soon as it is told to.

To start CRIU takes 5 ms, and to have it run an action script 1 ms for each of six stages: too much for a workload that
waits. So CRIU is started as `criu swrk` (what its library libcriu does) and told by messages. They come from a process
of its own, this module's `main`, which answers for us at the stages that nobody asks about, and at the others does
what the action script of stage.py does, with the same files. That it outlives us is why it is there: once CRIU was
told to go on, our death must not stop it.

It also takes the memory that the workload is going to need, before the freeze, and gives it back when it is needed. So
the kernel throws out what it only keeps for speed, and a hypervisor finds the pages, while the workload still runs. It
must not give them back sooner: a guest tells its hypervisor of free pages within two seconds (virtio's free page
reporting), and the hypervisor takes them, to be found once more in the freeze.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Callable

from ansible_collections.fleet.criu.plugins.module_utils._criu.restorer import find_restoring
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
_PIECE = 16 << 20
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


class Room:
    """So many bytes of memory, held for somebody else by a thread that calls `hold`.

    If the kernel runs short of memory meanwhile, it is to end us and nobody else.
    """

    def __init__(self, size: int) -> None:
        # Without enough of it CRIU may still find what it needs: memory that is zero is in no image.
        self._size = size if size <= _available_bytes() else 0
        self._is_needed = threading.Event()
        self.pieces: list[mmap.mmap] = []

    def hold(self, when_held: Callable[[], object]) -> None:
        """Take the memory, say so, and keep it until `give_back`, which may come while it is being taken."""
        killed_first = _set_killed_first("1000")
        with suppress(OSError):  # there is less than was said
            while len(self.pieces) < self._size // _PIECE and not self._is_needed.is_set():
                self.pieces.append(_taken_piece())
        when_held()
        self._is_needed.wait()
        while self.pieces:
            self.pieces.pop().close()
        _set_killed_first(killed_first)

    def give_back(self) -> None:
        """Let the other thread give it back, beside whoever takes it now."""
        self._is_needed.set()


def _taken_piece() -> mmap.mmap:
    piece = mmap.mmap(-1, _PIECE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # They are given back at once, where 1 GiB of small ones takes 0.07 s, and CRIU would begin with others.
    with suppress(OSError):  # a kernel without huge pages
        piece.madvise(mmap.MADV_HUGEPAGE)
    for offset in range(0, _PIECE, mmap.PAGESIZE):
        piece[offset] = 1
    return piece


def _set_killed_first(value: str) -> str:
    # proc(5), oom_score_adj; gives what it was. CRIU runs already, and keeps what it has.
    with suppress(OSError):
        path = Path("/proc/self/oom_score_adj")
        before = path.read_text("ascii")
        if value:
            path.write_text(value, "ascii")
        return before
    return ""


def _available_bytes() -> int:
    # proc(5), /proc/meminfo; without what others may want meanwhile.
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 * 3 // 4
    return 0


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
