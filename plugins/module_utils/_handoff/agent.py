# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that outlives the Ansible module that starts it.

Each agent has a folder of its own (0700, best on tmpfs) with these files (0600), which are all that module and agent
have in common:

    agent.zip      the code (archive.py)
    agent.json     who the agent is
    agent.log      what it says
    progress.json  how far it is
    result.json    how it ended; written last, and once
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, Callable, Iterator, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import locked, read_json
from ansible_collections.fleet.criu.plugins.module_utils._foreign import read_tail
from ansible_collections.fleet.criu.plugins.module_utils._handoff.owner import has_systemd
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity, Proc, lives
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Runner

ARCHIVE, AGENT, LOG, PROGRESS, RESULT = "agent.zip", "agent.json", "agent.log", "progress.json", "result.json"

_CODE = "ansible_collections.fleet.criu.plugins.module_utils"

# No `$` and no `%`, which systemd would replace. The log comes first, so that it has also what Python itself says.
_BOOTSTRAP = "; ".join(
    [
        "import os, sys",
        "archive, entry, folder, *detach = sys.argv[1:]",
        "os.umask(0o077)",
        "log = os.open(os.path.join(folder, 'agent.log'), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)",
        "detach and os.fork() and os._exit(0)",
        "detach and os.setsid()",
        "os.chdir('/')",
        "os.dup2(log, 1)",
        "os.dup2(log, 2)",
        "os.close(log)",
        "sys.path.insert(0, archive)",
        f"from {_CODE}._handoff.agent import run",
        "sys.exit(run(entry, folder))",
    ]
)

_START_SECONDS = 15.0
_KILL_SECONDS = 5.0
_POLL_SECONDS = 0.01
# Whoever follows has the time, and shares the processor with a workload that waits.
_FOLLOW_SECONDS = 0.05
_PROGRESS_SECONDS = 0.2
_SWITCH_SECONDS = 0.0005
# From <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BUFFERS = 32 << 20
_LOG_TAIL = 2000
_LARGEST_LOG = 1 << 20
_LONGEST_ENTRY = 64 << 10


def start(folder: Path, entry: str, unit: str | None, properties: Sequence[str], runner: Runner) -> None:
    """Start the agent whose code `archive.install` has put there, and return when it is there for sure.

    `entry` names a module with `main(folder: str) -> int`. With a `unit` the agent is the main process of a transient
    service with these properties, where systemd runs; otherwise it has a session of its own and PID 1 as its parent.
    Raises CriuError if one runs already or if it did not start.
    """
    if is_alive(folder):
        raise CriuError(
            f"An agent runs already in {folder}.", "Wait for it, or ask it to stop.", {"folder": str(folder)}
        )
    for name in (AGENT, PROGRESS, RESULT):
        with contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()
    argv = [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, str(folder / ARCHIVE), entry, str(folder)]
    with_systemd = unit is not None and has_systemd()
    command = _service(argv, unit or "", properties) if with_systemd else [*argv, "detach"]
    completed = runner(Command(command))
    if completed.returncode != 0:
        raise CommandFailed(
            f"The agent in {folder} could not be started: {completed.stderr.strip()[-_LOG_TAIL:]}",
            "Correct what the message names, and start again.",
            {"rc": completed.returncode},
        )
    _wait_for_start(folder, unit if with_systemd else None, runner)


def run(entry: str, folder: str) -> int:
    """Be the agent: what the new process does first. Gives its exit status."""
    stat = Proc().stat(os.getpid())
    if stat is None:
        raise AssertionError
    who = {"pid": stat.pid, "start_time": stat.start_time}
    _write(Path(folder) / AGENT, {**who, "started": False})
    # A workload may be frozen while one thread walks a tree and another one has to answer.
    sys.setswitchinterval(_SWITCH_SECONDS)
    _keep_memory()
    main: Callable[[str], int] = importlib.import_module(entry).main
    _write(Path(folder) / AGENT, {**who, "started": True})
    return main(folder)


class Report:
    """The agent's side of its folder. May be used by several threads.

    Nothing that can be decided here hangs on what is written: a folder that is full, or gone, changes nothing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._log_lock = threading.Lock()
        self._log_is_full = False
        self._fields: dict[str, Any] = {}
        self._written: float | None = None

    def progress(self, forced: bool = False, **fields: Any) -> None:
        """Note these fields besides those noted before. They are written at most every 0.2 s unless it is forced."""
        with self._lock:
            self._fields.update(fields)
            now = time.monotonic()
            if forced or self._written is None or now - self._written >= _PROGRESS_SECONDS:
                with contextlib.suppress(OSError):
                    _write(self._folder / PROGRESS, self._fields)
                self._written = now

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result, after all of the progress. The last thing to be done."""
        self.progress(forced=True)
        with contextlib.suppress(OSError):
            _write(self._folder / RESULT, result)

    def log(self, text: str) -> None:
        """Add lines to the log, each with the time in UTC. When it is 1 MiB long it says so, and gets no more."""
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lines = "".join(f"{now} {line}\n" for line in text[:_LONGEST_ENTRY].splitlines())
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        with self._log_lock, contextlib.suppress(OSError):
            descriptor = os.open(self._folder / LOG, flags, 0o600)
            try:
                self._append(descriptor, lines.encode("utf-8", "surrogateescape"), now)
            finally:
                os.close(descriptor)

    def _append(self, descriptor: int, lines: bytes, now: str) -> None:
        if self._log_is_full:
            return
        # It lies in memory, and who writes most into it may be a stranger.
        if os.fstat(descriptor).st_size + len(lines) > _LARGEST_LOG:
            self._log_is_full = True
            lines = f"{now} The log ends here, because it is {_LARGEST_LOG >> 20} MiB long.\n".encode("ascii")
        os.write(descriptor, lines)


def follow(folder: Path, seconds: float) -> dict[str, Any]:
    """Wait for the agent's result, its death, or for so many seconds, whichever comes first.

    Gives `finished`, `result` (None if not finished), `progress` (its last fields), `alive` and `folder`.
    """
    until = time.monotonic() + seconds
    while True:
        # In this order: an agent that is dead now has written before whatever it was going to write.
        alive = is_alive(folder)
        result = _read(folder / RESULT)
        if result is not None or not alive or time.monotonic() >= until:
            progress = _read(folder / PROGRESS) or {}
            return {
                "finished": result is not None,
                "result": result,
                "progress": progress,
                "alive": alive,
                "folder": str(folder),
            }
        time.sleep(_FOLLOW_SECONDS)


def is_alive(folder: Path) -> bool:
    """Whether the agent of this folder runs: this very process, and not another with its pid."""
    identity = _identity(folder)
    return identity is not None and lives(identity, Proc())


def may_be_alive(folder: Path) -> bool:
    """The same, and True if what the folder says of its agent cannot be read."""
    try:
        return is_alive(folder)
    except CriuError:
        return True


def ask_to_stop(folder: Path, seconds: float) -> str:
    """End the agent: SIGTERM, and SIGKILL if it is still there after so many seconds.

    Gives `gone` if it was not running, `terminated` or `killed`. Raises CriuError if not even SIGKILL ended it.
    """
    identity = _identity(folder)
    if identity is None or not _signal(identity, signal.SIGTERM):
        return "gone"
    if _is_gone_within(identity, seconds):
        return "terminated"
    _signal(identity, signal.SIGKILL)
    if _is_gone_within(identity, _KILL_SECONDS):
        return "killed"
    raise CriuError(
        f"The agent {identity.pid} of {folder} was killed, but is still there after {_KILL_SECONDS:g} s.",
        "It waits in the kernel, most likely for a disk or a network file system; see /proc/PID/stack and wchan.",
        {"pid": identity.pid},
    )


@contextlib.contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold a lock that ends with this process at the latest. Raises CriuError if another process has it."""
    with locked(path, 0.0):
        yield


def _keep_memory() -> None:
    # By default glibc gives each larger buffer back to the kernel, which clears it anew for the next one (mallopt(3));
    # a stream of memory takes a fifth longer then.
    with contextlib.suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(parameter, _LARGEST_BUFFERS)


def _service(argv: Sequence[str], unit: str, properties: Sequence[str]) -> list[str]:
    return [
        "systemd-run",
        "--no-block",
        "--quiet",
        "--collect",
        f"--unit={unit}",
        # Otherwise it is the whole command line, in each line of the journal.
        f"--description={unit} (fleet.criu)",
        "--setenv=LC_ALL=C",
        *(f"--property={line}" for line in properties),
        "--",
        # systemd.service(5), COMMAND LINES: a dollar sign names a variable unless it is doubled.
        *(word.replace("$", "$$") for word in argv),
    ]


def _wait_for_start(folder: Path, unit: str | None, runner: Runner) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        who = _read(folder / AGENT)
        if who is not None and not is_alive(folder):
            # It may have started, done its work and ended since we looked.
            who = _read(folder / AGENT)
            if not who["started"]:
                break
        if who is not None and who["started"]:
            return
        time.sleep(_POLL_SECONDS)
    raise CriuError(
        f"The agent in {folder} did not start. {_last_words(folder, unit, runner)}".strip(),
        f"Correct what the message names, and start again. Its log is {folder / LOG}.",
        {"folder": str(folder)},
    )


def _last_words(folder: Path, unit: str | None, runner: Runner) -> str:
    try:
        said = read_tail(folder / LOG, 4 * _LOG_TAIL).decode("utf-8", "replace").strip()[-_LOG_TAIL:]
    except (OSError, ValueError):
        said = ""
    if said or unit is None:
        return said
    return runner(Command(["systemctl", "status", "--no-pager", "--full", "--", unit])).stdout.strip()[-_LOG_TAIL:]


def _identity(folder: Path) -> Identity | None:
    who = _read(folder / AGENT)
    if who is None:
        return None
    try:
        return Identity(int(who["pid"]), int(who["start_time"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder / AGENT, f"it names no process ({error})") from error


def _signal(identity: Identity, number: signal.Signals) -> bool:
    # Says whether there was somebody to send it to. A pidfd (Python 3.9, Linux 5.3) stays with the process it was
    # opened for, so that the look at the start time holds until the signal is sent.
    try:
        with _pidfd(identity.pid) as descriptor:
            if not lives(identity, Proc()):
                return False
            if descriptor is None:
                os.kill(identity.pid, number)
            else:
                signal.pidfd_send_signal(descriptor, number)
            return True
    except ProcessLookupError:
        return False


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int | None]:
    if not hasattr(os, "pidfd_open") or not hasattr(signal, "pidfd_send_signal"):
        yield None
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        # A kernel or a seccomp filter without it.
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_gone_within(identity: Identity, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while lives(identity, Proc()):
        if time.monotonic() >= until:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _read(path: Path) -> Any:
    try:
        value = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(value, dict):
        raise _damaged(path, "it is no JSON object")
    return value


def _damaged(path: Path, why: str) -> CriuError:
    return CriuError(
        f"What the agent has written to {path} cannot be read: {why}.",
        "See its log beside it, and with handoff_settle what became of the handoff.",
        {"path": str(path)},
    )


def _write(path: Path, value: Mapping[str, Any]) -> None:
    # Not synced: after a crash of the host there is no agent whose words could be of use. The journal is durable.
    with replacing(path) as stream:
        stream.write(json.dumps(value, indent=2, sort_keys=True).encode("utf-8") + b"\n")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to be written, which takes its place when that was done. Only its owner may read it."""
    path_new = path.with_name(f".{path.name}")
    descriptor = os.open(path_new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        yield stream
    os.replace(path_new, path)
