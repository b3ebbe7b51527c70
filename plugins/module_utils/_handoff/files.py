# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders and files made equal by rsync, inside the handoff's own connection.

rsync speaks its daemon protocol over a "remote shell" (rsync(1), USING RSYNC-DAEMON FEATURES VIA A REMOTE-SHELL
CONNECTION). Ours is a relay to a socket of this process, and the target runs the daemon on the other end of a stream.

The last pass, while the workload is frozen, does not let rsync read both trees again. The live pass notes every entry's
device, inode, change time, size and mode; the last pass compares, and gives rsync the names that differ or are gone.
A program cannot set a change time (inode(7)), so this sees what rsync's comparison of size and modification time does
not. What the live pass could have copied in another state than was noted counts as different (`_trusted`).
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Protocol, Sequence, Tuple

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import write_atomically
from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import is_below, relative
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import parse
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed, Runner

AT_THE_SAME_TIME = 4
IDLE_SECONDS = 600.0

_START_SECONDS = 30.0
_END_SECONDS = 1.0
_WAIT = 0.05

# rsync(1), EXIT VALUES: files vanished while they were read. A tree that is in use may do that.
_VANISHED = 24

# File systems of Linux whose change times are the kernel's own.
_HAS_CHANGE_TIMES = frozenset(("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "xfs"))
# A write to a shared mapping of a file there leaves all its times as they were.
_HIDES_MAPPED_WRITES = frozenset(("ramfs", "tmpfs"))

# Change times are read from a clock that ticks every 1 to 10 ms; some file systems keep whole seconds alone.
_TICK = 20_000_000
_SECOND = 1_000_000_000

# From here on rsync's own comparison is cheaper than to have every listed file compared in full.
_MANY = 1000

# rsync(1), FILTER RULES IN DEPTH: these characters make a pattern of a name.
_WILDCARD = re.compile(r"([*?\[\\])")
_ESCAPED = r"\\\1"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_SENT = re.compile(r"^Total bytes sent: ([0-9,]+)$", re.MULTILINE)
# rsync(1), --itemize-changes: eleven characters, a blank, the name.
_ITEM = re.compile(r"^(\*deleting  |[<>ch.][fdLDS][^ \n]{9}) (.*)$", re.MULTILINE)
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

_CONFIGURATION = """use chroot = yes
munge symlinks = no
uid = 0
gid = 0
read only = no
write only = yes
list = no
reverse lookup = no

"""


class Stream(Protocol):
    """One encrypted connection, for one copy."""

    def pump(self, descriptor: int, timeout: float) -> None:
        """Pass bytes both ways between the connection and a local stream socket until both have ended.

        `timeout` is how long, in seconds, neither may say anything. Raises CriuError if the connection breaks.
        """

    def close(self) -> None:
        """Close the connection. Harmless if it is closed."""


@dataclass(frozen=True)
class Copy:
    """A folder or file to be made equal in the receiver's `module`; for a file, `file_name` is its name there."""

    path: str
    module: str
    file_name: str | None = None


# Device, inode, change time in nanoseconds, size, mode.
_Entry = Tuple[int, int, int, int, int]
_Tree = Mapping[str, _Entry]


@dataclass(frozen=True)
class _Snapshot:
    """What the target holds since a live pass: `names` is all it may have, `entries` what it surely has as noted.

    `left_out` are the places below where the host had something mounted.
    """

    names: frozenset[str]
    entries: _Tree
    left_out: Sequence[str]


class Sender:
    """The source's end. `folder` (0700) is for what rsync needs, `connect` opens a stream to a module of the target.

    `timeout` is how long, in seconds, a stream may be silent.
    """

    def __init__(
        self, folder: Path, connect: Callable[[str], Stream], runner: Runner, timeout: float = IDLE_SECONDS
    ) -> None:
        self._connect = connect
        self._runner = runner
        self._timeout = timeout
        self._sockets = _Sockets(folder)
        self._snapshots: dict[Copy, _Snapshot] = {}
        self._prepared: dict[Copy, _LastPass] = {}
        self._taken: list[_LastPass] = []
        # By module, in nanoseconds: what the target still has to give its folder by `set_folder_times`.
        self.folder_times: dict[str, int] = {}

    def prepare(self, copies: Sequence[Copy]) -> None:
        """Open the connections and start the programs of the last pass. They wait until `copy(…, live=False)`.

        To be called after the last live pass; without it that pass does the same, later. Raises CriuError.
        """
        mountinfo = Proc().mountinfo("self")
        for copy in copies:
            if copy in self._prepared:
                self._prepared.pop(copy).close()
            self._prepared[copy] = self._start(copy, mountinfo)

    def copy(self, copies: Sequence[Copy], live: bool, bandwidth: int | None = None) -> list[dict[str, Any]]:
        """Make each path equal at the target, and remove there what the source no longer has.

        `live` says that the workload runs meanwhile: the copies go one after the other, at most `bandwidth` bytes a
        second if given, and files that vanish are no error. Otherwise nothing may change the paths any more, and
        several go at the same time. Gives path, bytes sent, seconds and started (time.monotonic()) for each. Raises
        CommandFailed, or what `connect` raises.
        """
        if live:
            return [self._timed(copy, lambda copy: self._copy_live(copy, bandwidth)) for copy in copies]
        mountinfo = Proc().mountinfo("self")
        with ThreadPoolExecutor(AT_THE_SAME_TIME) as pool:
            return list(pool.map(lambda copy: self._timed(copy, lambda copy: self._copy_last(copy, mountinfo)), copies))

    def close(self) -> None:
        """End what was prepared, used or not. Harmless if there is nothing."""
        # Not before: to end a program costs time, and the last pass is for a workload that is frozen.
        for last_pass in (*self._prepared.values(), *self._taken):
            last_pass.close()
        self._prepared.clear()
        self._taken.clear()

    def _timed(self, copy: Copy, work: Callable[[Copy], int]) -> dict[str, Any]:
        started = time.monotonic()
        sent = work(copy)
        seconds = round(time.monotonic() - started, 3)
        return {"path": copy.path, "bytes": sent, "seconds": seconds, "started": started}

    def _copy_live(self, copy: Copy, bandwidth: int | None) -> int:
        self._snapshots.pop(copy, None)
        mountinfo = Proc().mountinfo("self")
        left_out = _mounted_below(copy.path, mountinfo)
        options = ["--out-format=%i %n"]
        if bandwidth is not None:
            options.append(f"--bwlimit={max(1, bandwidth // 1024)}")
        began = time.time_ns()
        # A page that is dirty already could be changed later without a new change time.
        os.sync()
        before = _walk(copy.path, left_out) if _can_be_compared(copy, mountinfo) else None
        completed = self._rsync(copy, [*_whole(copy, left_out), *options]).finish()
        if completed.returncode not in (0, _VANISHED):
            raise _failure(copy, completed)
        if before is not None:
            made, deleted = _itemized(completed.stdout)
            trusted = _trusted(before, _walk(copy.path, left_out), began, deleted)
            self._snapshots[copy] = _Snapshot(frozenset(before) | made, trusted, left_out)
        return _sent(completed)

    def _copy_last(self, copy: Copy, mountinfo: str) -> int:
        last_pass = self._take(copy, mountinfo)
        completed = last_pass.finish()
        if completed is None or (completed.returncode != 0 and copy in self._snapshots):
            # Whatever was in the way of the short way, the long one finds out or does without it.
            self._snapshots.pop(copy, None)
            completed = self._start(copy, mountinfo).finish()
        elif last_pass.folder_time is not None:
            self.folder_times[copy.module] = last_pass.folder_time
        self._snapshots.pop(copy, None)
        if completed is None or completed.returncode != 0:
            raise _failure(copy, completed or Completed(1))
        return _sent(completed)

    def _take(self, copy: Copy, mountinfo: str) -> _LastPass:
        last_pass = self._prepared.pop(copy, None)
        if last_pass is not None and last_pass.left_out != _mounted_below(copy.path, mountinfo):
            last_pass.close()
            last_pass = None
        if last_pass is None:
            last_pass = self._start(copy, mountinfo)
        self._taken.append(last_pass)
        return last_pass

    def _start(self, copy: Copy, mountinfo: str) -> _LastPass:
        left_out = _mounted_below(copy.path, mountinfo)
        snapshot = self._snapshots.get(copy)
        if snapshot is not None and snapshot.left_out == left_out:
            names = self._rsync(copy, _listed(), waits_for_names=True)
            # rsync takes the names in a listed folder too; for the root alone they are left out.
            root = self._rsync(copy, [*_listed(), "--exclude=/*"], waits_for_names=True)
            return _ListedPass(copy.path, snapshot, names, root)
        whole = _whole(copy, left_out)
        if _file_system(copy.path, mountinfo) in _HIDES_MAPPED_WRITES:
            whole.append("--checksum")
        return _WholePass(left_out, self._rsync(copy, whole))

    def _rsync(self, copy: Copy, options: Sequence[str], waits_for_names: bool = False) -> _Rsync:
        return _Rsync(copy, options, waits_for_names, self._sockets, self._connect, self._runner, self._timeout)


def serve(stream: Stream, module: str, modules: Mapping[str, str], folder: Path, timeout: float = IDLE_SECONDS) -> None:
    """The target's end of one stream: let the source fill the folder that `modules` has for the name `module`.

    rsync runs in a chroot there and may only write, so that nothing outside can be reached whatever the source says.
    `folder` is for its configuration. Returns when the stream has ended. Raises CriuError if the module is none, if
    rsync cannot be started or fails, if the stream breaks or is silent for `timeout` seconds; what a failure means the
    source decides, which hears of it from its own rsync, and which may also leave a stream that it has prepared.
    """
    configuration = _configuration_file(module, modules, folder)
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as errors:
        with theirs:
            daemon = _start_daemon(configuration, theirs, errors.fileno())
        try:
            stream.pump(ours.fileno(), timeout)
        finally:
            ours.close()
            _end_group(daemon)
        if daemon.returncode != 0:
            errors.seek(0)
            said = " | ".join(os.fsdecode(errors.read()).strip().splitlines()[-4:])
            raise CommandFailed(
                f"rsync into {modules[module]} ended with exit status {daemon.returncode}: {said}",
                "Look at what the source says.",
                {"path": modules[module], "rc": daemon.returncode},
            )


def set_folder_times(times: Mapping[str, int], modules: Mapping[str, str]) -> None:
    """At the target, after the last pass: give the folders of these modules the times (ns) that the source has.

    Raises CriuError for a module that is none.
    """
    for module, nanoseconds in times.items():
        folder = os.open(_path_of(module, modules), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.utime(folder, ns=(os.fstat(folder).st_atime_ns, nanoseconds))
        finally:
            os.close(folder)


class _Sockets:
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


class _Rsync:
    """One rsync with a stream of its own. It is started at once, and moves nothing before `finish`.

    One that waits for names has already talked to the daemon by then; any other waits for the daemon's first word.
    """

    def __init__(
        self,
        copy: Copy,
        options: Sequence[str],
        waits_for_names: bool,
        sockets: _Sockets,
        connect: Callable[[str], Stream],
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
        argv = ["rsync", *options, f"--rsh={sockets.remote_shell(self._path)}"]
        argv += [f"--files-from={self._names_path}"] if waits_for_names else []
        argv += ["--", *_source_and_destination(copy)]
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
            self._completed = self._runner(Command(argv))
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


class _LastPass(Protocol):
    """The last pass of one copy, started. `left_out` are the places below that it does not look into.

    `folder_time` is what the folder itself has to get afterwards, if it has not.
    """

    left_out: Sequence[str]
    folder_time: int | None

    def finish(self) -> Completed | None:
        """Do it. None: this way does not suit what has changed, and nothing was done."""

    def close(self) -> None:
        """Leave it."""


class _WholePass:
    def __init__(self, left_out: Sequence[str], rsync: _Rsync) -> None:
        self.left_out = left_out
        self.folder_time: int | None = None
        self._rsync = rsync

    def finish(self) -> Completed | None:
        return self._rsync.finish()

    def close(self) -> None:
        self._rsync.close()


class _ListedPass:
    def __init__(self, path: str, snapshot: _Snapshot, names: _Rsync, root: _Rsync) -> None:
        self.left_out = snapshot.left_out
        self.folder_time: int | None = None
        self._path = path
        self._snapshot = snapshot
        self._names = names
        self._root = root

    def finish(self) -> Completed | None:
        differing = self._differences()
        if not differing:
            return None if differing is None else Completed(0)
        first = self._names.finish(b"".join(b"/" + os.fsencode(name) + b"\0" for name in differing if name))
        # What is written in a folder gives it a new time, and rsync puts back that of the folders it has listed.
        if first.returncode != 0 or all("/" in name for name in differing):
            return first
        if "" not in differing:
            # One more rsync would take longer than all the rest.
            self.folder_time = os.stat(self._path).st_mtime_ns
            return first
        second = self._root.finish(b"/\0")
        return Completed(second.returncode, f"{first.stdout}{second.stdout}", second.stderr)

    def close(self) -> None:
        self._names.close()
        self._root.close()

    def _differences(self) -> list[str] | None:
        try:
            now = _walk(self._path, self.left_out)
        except OSError:
            return None
        changed = [name for name, entry in now.items() if self._snapshot.entries.get(name) != entry]
        if len(changed) > _MANY and len(changed) > len(now) // 2:
            return None
        return [*changed, *_gone(self._snapshot.names, now)]


def _whole(copy: Copy, left_out: Sequence[str]) -> list[str]:
    return [
        *_options(),
        *(["--delete"] if copy.file_name is None else []),
        *(f"--exclude=/{_WILDCARD.sub(_ESCAPED, path)}/**" for path in left_out),
    ]


def _listed() -> list[str]:
    return [
        *_options(),
        # Compare the contents even if size and time agree: the time may have been set back. This also parts files that
        # were hard links before.
        "--ignore-times",
        "--no-recursive",
        "--from0",
        "--delete-missing-args",
        "--force",
    ]


def _options() -> list[str]:
    # Everything a program may notice: modes, owners by number, times, links, ACLs, attributes, holes; times to the
    # nanosecond, because within one second a file may change and keep its size.
    return ["-aHAXS", "--numeric-ids", "--modify-window=-1", "--stats"]


def _source_and_destination(copy: Copy) -> list[str]:
    source = copy.path.rstrip("/") + "/" if copy.file_name is None else copy.path
    return [source, f"handoff::{copy.module}/{copy.file_name or ''}"]


def _failure(copy: Copy, completed: Completed) -> CommandFailed:
    said = " | ".join(completed.stderr.strip().splitlines()[-4:])
    return CommandFailed(
        f"Copying {copy.path} to the target failed (rsync exit status {completed.returncode}): {said}",
        "Check that rsync is installed on both hosts and that the target has space.",
        {"path": copy.path, "rc": completed.returncode},
    )


def _sent(completed: Completed) -> int:
    return sum(int(number.replace(",", "")) for number in _SENT.findall(completed.stdout))


def _itemized(output: str) -> tuple[frozenset[str], frozenset[str]]:
    """The names that rsync says it has made or changed at the target, and those that it has deleted there."""
    made: set[str] = set()
    deleted: set[str] = set()
    for item, name in _ITEM.findall(output):
        (deleted if item.startswith("*") else made).add(_unescaped(name).rstrip("/"))
    # The root is "./". As a name it would be all that is in it.
    return frozenset(made - {"."}), frozenset(deleted)


def _unescaped(name: str) -> str:
    # rsync(1), --8-bit-output: without it every byte that is not printable is \#ooo.
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match.group(1), 8)]), os.fsencode(name)))


# What the source has


def _walk(path: str, left_out: Sequence[str]) -> dict[str, _Entry]:
    """Every entry by its name below the path, parents first; "" is the folder itself. Raises OSError."""
    hidden = frozenset(left_out)
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = {"": _entry(os.stat(top))}
        folders = [""]
        for folder in folders:
            if folder not in hidden:
                folders.extend(_walk_folder(top, folder, found))
        return found
    finally:
        os.close(top)


def _walk_folder(top: int, folder: str, found: dict[str, _Entry]) -> Iterator[str]:
    try:
        descriptor = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
    except (FileNotFoundError, NotADirectoryError):
        return
    prefix = f"{folder}/" if folder else ""
    try:
        for name in os.listdir(descriptor):
            try:
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except FileNotFoundError:
                continue
            found[prefix + name] = _entry(status)
            if stat.S_ISDIR(status.st_mode):
                yield prefix + name
    finally:
        os.close(descriptor)


def _entry(status: os.stat_result) -> _Entry:
    return status.st_dev, status.st_ino, status.st_ctime_ns, status.st_size, status.st_mode


def _is_folder(entry: _Entry | None) -> bool:
    return entry is not None and stat.S_ISDIR(entry[4])


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _trusted(before: _Tree, after: _Tree, began: int, deleted: frozenset[str]) -> _Tree:
    """Those entries of `before` that will surely show another change time if the target has not got them as noted.

    rsync ran between `before` and `after`; `began` is the time (ns) when what was cached began to be written back.
    Not among them is what was changed so lately that the next change could have the same time, or that a page of it
    could still be dirty; what rsync has deleted, which may be back with its folder; and what is in a folder that was
    perhaps moved away and back, which changes times of that folder and of its parent, but not of what is in it.
    """
    doubtful: set[str] = set()
    trusted = {}
    for name, entry in before.items():
        parent = _parent(name)
        moved = _is_folder(entry) and after.get(name) != entry and after.get(parent) != before[parent]
        if name and (parent in doubtful or moved):
            doubtful.add(name)
        elif name not in deleted and entry[2] < began - (_TICK if entry[2] % _SECOND else 2 * _SECOND):
            trusted[name] = entry
    return trusted


def _gone(names: frozenset[str], now: _Tree) -> list[str]:
    """The topmost of the names that are no more."""
    found = set()
    for name in names - now.keys():
        topmost = name
        while _parent(topmost) not in now:
            topmost = _parent(topmost)
        # A folder that became a file is replaced with all that was in it.
        if _is_folder(now[_parent(topmost)]):
            found.add(topmost)
    return sorted(found)


def _can_be_compared(copy: Copy, mountinfo: str) -> bool:
    return copy.file_name is None and _file_system(copy.path, mountinfo) in _HAS_CHANGE_TIMES


def _file_system(path: str, mountinfo: str) -> str:
    resolved = os.path.realpath(path)
    rows = [row for row in parse(mountinfo) if is_below(resolved, row.mountpoint)]
    # Of two at one place the later one hides the other.
    return max(enumerate(rows), key=lambda pair: (len(pair[1].mountpoint), pair[0]))[1].fstype if rows else ""


def _mounted_below(path: str, mountinfo: str) -> list[str]:
    # A workload that has this folder bound does not see what the host mounts below it (unless that is a mount of its
    # own). --one-file-system would also leave out the subvolumes of btrfs, which it does see.
    resolved = os.path.realpath(path)
    mountpoints = [row.mountpoint for row in parse(mountinfo)]
    return sorted(
        {relative(place, resolved) for place in mountpoints if place != resolved and is_below(place, resolved)}
    )


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


# The target's end


def _path_of(module: str, modules: Mapping[str, str]) -> str:
    if module not in modules or not _NAME.match(module):
        raise CriuError(
            f"The source asks for the folder {module!r}, which is none of this handoff.",
            "Give both ends the same mount map.",
            {"folder": module},
        )
    return modules[module]


def _configuration_file(module: str, modules: Mapping[str, str], folder: Path) -> Path:
    path = _path_of(module, modules)
    if "\n" in path:
        raise CriuError(f"rsync cannot be told of the path {path!r}.", "Use a path without a newline.")
    # The last slash guards blanks and a backslash at the end of the path (rsyncd.conf(5), FILE FORMAT).
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    configuration = folder / f"{module}.conf"
    write_atomically(configuration, f"{_CONFIGURATION}[{module}]\npath = {path.rstrip('/')}/\n")
    return configuration


def _start_daemon(configuration: Path, connection: socket.socket, errors: int) -> subprocess.Popen[bytes]:
    program = shutil.which("rsync")
    if program is None:
        raise CriuError("rsync is not installed here.", "Install the package rsync.")
    return subprocess.Popen(
        [program, "--server", "--daemon", f"--config={configuration}", "."],
        stdin=connection.fileno(),
        stdout=connection.fileno(),
        stderr=errors,
        cwd="/",
        # No more than this: a path with %NAME% in it would take the variable's value (rsyncd.conf(5)).
        env={"LC_ALL": "C"},
        start_new_session=True,
    )


def _end_group(daemon: subprocess.Popen[bytes]) -> None:
    try:
        daemon.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()
