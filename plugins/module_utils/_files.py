# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files written so that a reader finds either the old contents or the new, never a part."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any, Iterator

from ansible_collections.fleet.criu.plugins.module_utils import _foreign
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._trusted import make_folder, opened_parent

# Nobody holds one of them for longer than it takes to write a file.
LOCK_SECONDS = 30.0

_LOOK_SECONDS = 0.05
_LOCKS = Path("/proc/locks")
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file by way of a temporary one in its folder, durably: file and folder are synced to disk.

    The folder may be somebody else's (_trusted.py). Raises OSError and Untrusted.
    """
    with opened_parent(path) as folder:
        temporary = f".{path.name}.{os.urandom(8).hex()}"
        descriptor = os.open(temporary, _NEW_FILE, 0o600, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as stream:
                stream.write(text)
                stream.flush()
                os.fchmod(stream.fileno(), mode)
                os.fsync(stream.fileno())
            os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            raise
        _sync(".", folder)


def write_json(path: Path, value: Any, mode: int = 0o600) -> None:
    """Write a value as readable JSON, atomically."""
    write_atomically(path, json.dumps(value, indent=2, sort_keys=True) + "\n", mode)


@contextlib.contextmanager
def locked(path: Path, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Keep all others out who lock the same path meanwhile, and wait for them so long.

    The lock is a file for root alone, with the pid of its holder, and ends with this process at the latest. Raises
    CriuError, with `pid` among its facts if it is known, if another process has it; and as `make_folder` does.
    """
    descriptor = _open_lock(make_folder(path.parent) / path.name)
    try:
        _lock(descriptor, path, seconds)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    # What an earlier version has made, others may open.
    os.fchmod(descriptor, 0o600)
    return descriptor


def _lock(descriptor: int, path: Path, seconds: float) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                raise _held(descriptor, path, seconds) from None
        time.sleep(_LOOK_SECONDS)


def _held(descriptor: int, path: Path, seconds: float) -> CriuError:
    pid = _holder(descriptor)
    since = f" for more than {seconds:g} s" if seconds else ""
    return CriuError(
        f"{path} is locked by {f'process {pid}' if pid is not None else 'another process'}{since}.",
        "Wait until it has ended, or stop it.",
        {"path": str(path), "pid": pid},
    )


def _holder(descriptor: int) -> int | None:
    # Whoever has the lock may be somebody who could not write into the file; the kernel knows (proc(5), /proc/locks).
    status = os.fstat(descriptor)
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with contextlib.suppress(OSError):
        for line in _LOCKS.read_text("ascii").splitlines():
            fields = line.split()
            if fields[1:2] == ["FLOCK"] and fields[5] == file and int(fields[4]) > 0:
                return int(fields[4])
    said = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    return int(said) if said.isdecimal() else None


def sync_files(folder: Path) -> None:
    """Make what the files in a folder hold durable. Costs nothing in memory (tmpfs). Raises OSError."""
    for entry in os.scandir(folder):
        if entry.is_file(follow_symlinks=False):
            descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    _sync(str(folder))


def _sync(folder: str, where: int | None = None) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=where)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises OSError or ValueError."""
    return _foreign.read_json(path)
