# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One rsync, whose other end is a daemon that the target runs on a stream of the handoff's own.

rsync speaks its daemon protocol over a "remote shell" (rsync(1), USING RSYNC-DAEMON FEATURES VIA A REMOTE-SHELL
CONNECTION). Ours is a relay to a socket of this process, which carries the bytes to the stream.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator, Protocol, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import write_atomically
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed, Runner

# Seconds in which a stream may be silent.
IDLE_SECONDS = 600.0
# rsync(1), EXIT VALUES: files vanished while they were read. A tree that is in use may do that.
VANISHED = 24

_START_SECONDS = 30.0
_WAIT = 0.05

# rsync(1), FILTER RULES IN DEPTH: these characters make a pattern of a name.
_WILDCARD = re.compile(r"([*?\[\\])")
_ESCAPED = r"\\\1"

_SENT = re.compile(r"^Total bytes sent: ([0-9,]+)$", re.MULTILINE)
# rsync(1), --itemize-changes: eleven characters, a blank, the name.
_ITEM = re.compile(r"^(\*deleting  |[<>ch.][fdLDS][^ \n]{9}) (.*)$", re.MULTILINE)
_SENT_FILE = re.compile(r"^<f[^ \n]{9} (.*)$", re.MULTILINE)
_VERSION = re.compile(r"^rsync +version ([0-9]+)\.([0-9]+)\.([0-9]+)")
# Since then the other end says what goes wrong there on its own standard error, and this end ends well (rsync(1),
# --stderr). Neither knows the option before.
_HAS_STDERR = (3, 2, 3)
_OCTAL = re.compile(rb"\\#([0-3][0-7]{2})")

# It goes on in a child: in the end rsync waits for what it has started, and looks only every 20 ms whether it is gone.
_RELAY = """import _thread, os, socket, sys
os.chdir(os.path.dirname(sys.argv[1]))
connection = socket.socket(socket.AF_UNIX)
connection.connect(os.path.basename(sys.argv[1]))
if os.fork():
    os._exit(0)
def outward():
    try:
        data = os.read(0, 262144)
        while data:
            connection.sendall(data)
            data = os.read(0, 262144)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass
_thread.start_new_thread(outward, ())
try:
    data = connection.recv(262144)
    while data:
        while data:
            data = data[os.write(1, data):]
        data = connection.recv(262144)
except OSError:
    pass  # rsync says what was cut short
os._exit(0)
"""


class Stream(Protocol):
    """One encrypted connection, for one copy."""

    def pump(self, descriptor: int, timeout: float) -> None:
        """Pass bytes both ways between the connection and a local stream socket until both have ended.

        `timeout` is how long, in seconds, neither may say anything. Raises CriuError if the connection breaks.
        """

    def close(self) -> None:
        """Close the connection. Harmless if it is closed."""


class NumberedStream(Stream, Protocol):
    """One that both ends know by its `number`."""

    number: int


class Numbered:
    """A stream that gets a number."""

    def __init__(self, stream: Stream, number: int) -> None:
        self.number = number
        self.pump = stream.pump
        self.close = stream.close


@dataclass(frozen=True)
class Copy:
    """A folder or file to be made equal in the receiver's `module`; for a file, `file_name` is its name there."""

    path: str
    module: str
    file_name: str | None = None
    # Of the folder, or of that which the file is in, if it is open.
    descriptor: int | None = field(default=None, compare=False)

    @property
    def source(self) -> str:
        """Where this process, and those that inherit the descriptor, find what is at the path."""
        if self.descriptor is None:
            return self.path
        return f"/proc/self/fd/{self.descriptor}/{os.path.basename(self.path) if self.file_name is not None else ''}"


class Sockets:
    """The folder with the relay, and the names for what is made in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> Path:
        """A path that is not in use, without a suffix."""
        with self._lock:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._last == 0:
                write_atomically(self.folder / "relay.py", _RELAY)
            self._last += 1
            return self.folder / f"rsync{os.getpid()}.{self._last}"

    def remote_shell(self, path: Path) -> str:
        """What rsync starts to reach the other end (rsync(1), --rsh). It adds words, which the relay ignores."""
        words = [sys.executable or "python3", "-I", "-S", str(self.folder / "relay.py"), str(path)]
        return " ".join(shlex.quote(word) for word in words)


class Rsync:
    """One rsync with a stream of its own. It is started at once, and moves nothing before `finish`.

    One that waits for names has already talked to the daemon by then; any other waits for the daemon's first word.
    """

    def __init__(
        self,
        copy: Copy,
        options: Sequence[str],
        waits_for_names: bool,
        sockets: Sockets,
        connect: Callable[[str], NumberedStream],
        runner: Runner,
        timeout: float,
    ) -> None:
        self._path = sockets.next()
        self._runner = runner
        self._timeout = timeout
        self._ended = threading.Event()
        self._completed: Completed | CriuError = CommandFailed("rsync was not run.")
        self._broken: CriuError | OSError | None = None
        self._pumping: threading.Thread | None = None
        self._local: socket.socket | None = None
        self._names: int | None = None
        self._stream = connect(copy.module)
        self.number = self._stream.number
        argv = ["rsync", *options, f"--rsh={sockets.remote_shell(self._path)}"]
        argv += [f"--files-from={self._names_path}"] if waits_for_names else []
        argv += ["--", *_source_and_destination(copy)]
        self._inherited = [] if copy.descriptor is None else [copy.descriptor]
        try:
            self._start(argv, waits_for_names)
        except BaseException:
            self.close()
            raise

    def finish(self, names: bytes | None = None) -> Completed:
        """Let it go, with these names if it waits for some, each ended by a zero byte. Raises CriuError."""
        if self._names is not None:
            with contextlib.suppress(BrokenPipeError), os.fdopen(self._names, "wb") as stream:
                self._names = None
                stream.write(names or b"")
        self._pump()
        self._running.join()
        if isinstance(self._completed, CriuError):
            raise self._completed
        if self._completed.returncode != 0 and self._broken is not None:
            words = f"{self._completed.stderr.rstrip()}\n{self._broken}"
            return Completed(self._completed.returncode, self._completed.stdout, words)
        return self._completed

    def close(self) -> None:
        """End it, whatever it does, and wait until rsync has ended. The stream is closed then or soon after."""
        if self._names is not None:
            os.close(self._names)
            self._names = None
        if self._local is not None and not self._ended.is_set():
            with contextlib.suppress(OSError):
                self._local.shutdown(socket.SHUT_RDWR)
        if self._pumping is None:
            self._close_stream()
        if hasattr(self, "_running"):
            self._running.join()
        if self._pumping is None and self._local is not None:
            self._local.close()
        if self._names_path.exists():
            self._names_path.unlink()

    @property
    def _names_path(self) -> Path:
        return self._path.with_suffix(f"{self._path.suffix}.names")

    def _start(self, argv: Sequence[str], waits_for_names: bool) -> None:
        keeper = None
        with _listener(self._path) as listener:
            if waits_for_names:
                os.mkfifo(self._names_path, 0o600)
                # Read and write: rsync can open it although nobody writes yet (fifo(7)).
                keeper = os.open(str(self._names_path), os.O_RDWR | os.O_CLOEXEC)
            try:
                self._running = threading.Thread(target=self._run, args=(argv,), daemon=True)
                self._running.start()
                self._local = self._accept(listener)
                if keeper is not None and self._local is not None:
                    self._names = os.open(str(self._names_path), os.O_WRONLY | os.O_CLOEXEC)
            finally:
                if keeper is not None:
                    os.close(keeper)
        if waits_for_names:
            self._pump()

    def _run(self, argv: Sequence[str]) -> None:
        try:
            self._completed = self._runner(Command(argv, descriptors=self._inherited))
        except CriuError as error:
            self._completed = error
        finally:
            self._ended.set()

    def _accept(self, listener: socket.socket) -> socket.socket | None:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            if select.select([listener], [], [], _WAIT)[0]:
                return listener.accept()[0]
            if self._ended.is_set():
                return None
        raise CommandFailed(f"rsync did not start within {_START_SECONDS} seconds.", "Look at the load of the source.")

    def _pump(self) -> None:
        if self._local is None:
            self._close_stream()
        elif self._pumping is None:
            self._pumping = threading.Thread(target=self._carry, args=(self._local,), daemon=True)
            self._pumping.start()

    def _carry(self, local: socket.socket) -> None:
        try:
            self._stream.pump(local.fileno(), self._timeout)
        except (CriuError, OSError) as error:
            self._broken = error
        finally:
            # The relay ends with its socket, and rsync with the relay.
            local.close()
            self._close_stream()

    def _close_stream(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.close()


def options_for_all(copy: Copy, left_out: Sequence[str]) -> list[str]:
    """The options that make all of it equal, but what is in these places below."""
    return [
        *_options(),
        *(["--delete"] if copy.file_name is None else []),
        *(f"--exclude=/{_WILDCARD.sub(_ESCAPED, path)}/**" for path in left_out),
    ]


def options_for_named() -> list[str]:
    """The options that make equal what is named to it, and remove what is named and gone."""
    return [
        *_options(),
        # Compare the contents even if size and time agree: the time may have been set back. Each file is written anew,
        # which also parts what is one file at the target and no more here.
        "--ignore-times",
        "--no-recursive",
        "--from0",
        "--delete-missing-args",
        "--force",
    ]


def version(runner: Runner) -> tuple[int, ...]:
    """The version of rsync here as three numbers; none if there is no rsync or it does not say so."""
    try:
        found = _VERSION.match(runner(Command(["rsync", "--version"])).stdout)
    except CriuError:
        return ()
    return tuple(map(int, found.groups())) if found is not None else ()


def options_for_words(here: Sequence[int], there: Sequence[int]) -> list[str]:
    """The options by which what goes wrong at the target is said, and counts, here. For the versions of both ends."""
    return ["--stderr=client"] if min(tuple(here), tuple(there)) >= _HAS_STDERR else []


def failure(copy: Copy, completed: Completed, *numbers: int) -> CommandFailed:
    """What to raise for an rsync that did not succeed; `numbers` are those of its connections."""
    said = " | ".join(completed.stderr.strip().splitlines()[-4:])
    return CommandFailed(
        f"Copying {copy.path} to the target failed (rsync exit status {completed.returncode}): {said}",
        "Check that rsync is installed on both hosts and that the target has space.",
        {"path": copy.path, "rc": completed.returncode, "connections": list(numbers)},
    )


def sent_bytes(completed: Completed) -> int:
    """How many bytes it says it has sent."""
    return sum(int(number.replace(",", "")) for number in _SENT.findall(completed.stdout))


def itemized(output: str) -> tuple[frozenset[str], frozenset[str]]:
    """The names that rsync says it has made or changed at the target, and those that it has deleted there."""
    made: set[str] = set()
    deleted: set[str] = set()
    for item, name in _ITEM.findall(output):
        (deleted if item.startswith("*") else made).add(_unescaped(name).rstrip("/"))
    # The root is "./". As a name it would be all that is in it.
    return frozenset(made - {"."}), frozenset(deleted)


def sent_files(output: str) -> frozenset[str]:
    """The names of the files whose contents rsync says it has sent."""
    return frozenset(_unescaped(name) for name in _SENT_FILE.findall(output))


def _options() -> list[str]:
    # Everything a program may notice: modes, owners by number, times, links, ACLs, attributes, holes; times to the
    # nanosecond, because within one second a file may change and keep its size.
    return ["-aHAXS", "--numeric-ids", "--modify-window=-1", "--stats"]


def _source_and_destination(copy: Copy) -> list[str]:
    source = copy.source.rstrip("/") + "/" if copy.file_name is None else copy.source
    return [source, f"handoff::{copy.module}/{copy.file_name or ''}"]


def _unescaped(name: str) -> str:
    # rsync(1), --8-bit-output: without it every byte that is not printable is \#ooo.
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match.group(1), 8)]), os.fsencode(name)))


@contextlib.contextmanager
def _listener(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        folder = os.open(str(path.parent), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # An address has room for 107 bytes only (unix(7)).
            listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)
        try:
            listener.listen(1)
            yield listener
        finally:
            path.unlink()
