# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pid file of a workload, and the process that it means.

Who can alter a pid file could name any process in it. So one that is not root's alone, or lies in a folder that is not,
may name a process of that same user only; systemd holds it alike (systemd.service(5), PIDFile=).
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import AmbiguousWorkload, CriuError, WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._foreign import open_place, read_stream
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity, Proc, clock_ticks, lives, require_living
from ansible_collections.fleet.criu.plugins.module_utils._trusted import open_with_others

# A pid file is written after its process has started; clocks and file systems round, so a little is allowed.
_PID_FILE_SLACK_SECONDS = 2.0
_LONGEST = 4096
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class _PidFile:
    """What was read: the pid, when that was written, and what on the way others than root may alter."""

    path: Path
    pid: int
    written: float
    alterable: Sequence[tuple[str, os.stat_result]]


def process_of(path: Path, proc: Proc) -> Identity:
    """The process that a pid file means.

    Raises WorkloadNotFound if there is no such file or process, AmbiguousWorkload if the process may be another one or
    is not of a user who can alter the file, CriuError if the file cannot be read.
    """
    pid_file = _read(path)
    identity = require_living(pid_file.pid, f"pid_file {path}", proc)
    _check_age(pid_file, identity, proc)
    _check_kind(pid_file, proc)
    for place, status in pid_file.alterable:
        _check_user(pid_file, place, status, proc)
    if not lives(identity, proc):  # what was looked at may have been the next one with its pid
        raise WorkloadNotFound(f"No workload with pid_file {path} runs here: process {identity.pid} has just ended.")
    return identity


def _read(path: Path) -> _PidFile:
    try:
        place, alterable = open_with_others(str(path))
        try:
            with open_place(place) as stream:
                text = read_stream(stream, _LONGEST).decode("ascii", "replace").strip()
                written = os.fstat(stream.fileno()).st_mtime
        finally:
            os.close(place)
    except FileNotFoundError:
        raise WorkloadNotFound(
            f"No workload runs here by the pid file {path}: the file does not exist.",
            "Check the path, and on which host the workload runs.",
        ) from None
    except OSError as error:
        raise CriuError(f"The pid file {path} cannot be read: {error.strerror}.", "Set become: true.") from error
    except ValueError as error:
        raise AmbiguousWorkload(f"The pid file {path} is none: {error}.", "Correct or remove the file.") from error
    if not text.isdecimal() or int(text) == 0:
        raise AmbiguousWorkload(
            f"The pid file {path} does not hold a pid but {text[:40]!r}.", "Correct or remove the file."
        )
    return _PidFile(path, int(text), written, alterable)


def _check_age(pid_file: _PidFile, identity: Identity, proc: Proc) -> None:
    written = pid_file.written - proc.boot_time()
    if identity.start_time > clock_ticks(written + _PID_FILE_SLACK_SECONDS):
        raise AmbiguousWorkload(
            f"Process {identity.pid} started after the pid file {pid_file.path} was written, so it may be another one.",
            f"See what process {identity.pid} is; remove the pid file if it is stale, or touch it if it is right.",
        )


def _check_kind(pid_file: _PidFile, proc: Proc) -> None:
    what = "the host's own init" if pid_file.pid == 1 else "a thread of the kernel"
    if pid_file.pid == 1 or proc.is_kernel_thread(pid_file.pid):
        raise AmbiguousWorkload(
            f"The pid file {pid_file.path} names process {pid_file.pid}, which is {what} and no workload.",
            "See who has written the file; correct or remove it.",
            {"pid": pid_file.pid},
        )


def _check_user(pid_file: _PidFile, place: str, status: os.stat_result, proc: Proc) -> None:
    is_open = bool(status.st_mode & _OTHERS_MAY_WRITE)
    if status.st_uid == 0 and is_open and status.st_mode & stat.S_ISVTX:
        return  # in it nobody can replace what others have made, and whose that is comes next
    what = "may be written by other users" if is_open else f"belongs to {_name(status.st_uid)}"
    users = set(proc.status(pid_file.pid).get("Uid", "").split())
    if status.st_uid == 0 or users != {str(status.st_uid)}:
        shown = " and ".join(_name(int(user)) for user in sorted(users) if user.isdecimal()) or "nobody"
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        raise AmbiguousWorkload(
            f"The pid file {pid_file.path} names process {pid_file.pid}, which runs as {shown}, but {place} {what}: "
            "whoever can alter it could name any process.",
            f"Give {place} to root and let nobody else write it, or name the workload by its unit or command.",
            {"pid": pid_file.pid, "component": place, "owner": status.st_uid, "mode": mode},
        )


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
