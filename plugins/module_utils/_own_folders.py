# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folders in which the collection keeps its records on a host: without them nothing may begin.

A handoff that cannot write its journal any more would have to hold the workload, and a dump without a record of
generations could come to life twice.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import sync_folder
from ansible_collections.fleet.criu.plugins.module_utils._trusted import Untrusted, make_folder

OWN_FOLDERS: Sequence[Path] = tuple(
    map(Path, ("/var/lib/fleet.criu", "/var/lib/fleet.criu/handoffs", "/run/fleet.criu", "/var/log/fleet.criu"))
)

# Each handoff writes a few KB in each; the rest is for the logs of CRIU and for others who write meanwhile.
_ROOM_BYTES = 8 << 20
_ROOM_FILES = 64
_PIECE = bytes(64 << 10)


def folder_problems(folders: Sequence[Path] | None = None) -> list[str]:
    """Why nothing could be kept in these folders, by default in all; empty if nothing is seen. Changes nothing."""
    found: dict[Path, str] = {}
    for folder in OWN_FOLDERS if folders is None else folders:
        problem = _problem(folder)
        # What is said of a folder need not be said of those in it.
        if problem is not None and folder.parent not in found:
            found[folder] = problem
    return [f"{folder} {problem}" for folder, problem in found.items()]


def require_folders(is_dry: bool = False) -> None:
    """See that a file can be written durably in each of the folders, by writing one unless it `is_dry`.

    Raises CriuError, naming every folder where it cannot.
    """
    problems = folder_problems()
    if not problems and not is_dry:
        problems = [problem for problem in map(_try, OWN_FOLDERS) if problem is not None]
    if problems:
        raise CriuError(
            f"This host cannot keep records, without which a workload could be lost or doubled: {'; '.join(problems)}.",
            "Nothing was begun. Make room there, or make it writable (df, df -i, findmnt -T FOLDER), and try again.",
            {"folder_problems": problems},
        )


def _problem(folder: Path) -> str | None:
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        status = os.statvfs(there)
    except OSError as error:
        return f"cannot be reached: {error.strerror}"
    if not there.is_dir():
        return f"cannot be made: {there} is no folder" if there != folder else "is no folder"
    if status.f_flag & os.ST_RDONLY:
        return "is on a file system that is mounted read-only"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"cannot be written: {there} forbids it"
    # Root may use what is reserved for it.
    free = status.f_bfree * status.f_frsize
    if free < _ROOM_BYTES:
        return f"has {free >> 10} KiB free, and {_ROOM_BYTES >> 10} KiB are needed"
    # A file system that makes inodes as it needs them tells none.
    if status.f_files and status.f_ffree < _ROOM_FILES:
        return f"has room for {status.f_ffree} more files, and {_ROOM_FILES} are needed (inodes)"
    return None


def _try(folder: Path) -> str | None:
    try:
        make_folder(folder)
        descriptor, path = tempfile.mkstemp(dir=str(folder), prefix=".try.")
        try:
            os.write(descriptor, _PIECE)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            os.unlink(path)
        sync_folder(folder)
    except Untrusted as error:
        # Logs, for which the last one is, have another place then.
        return None if folder == OWN_FOLDERS[-1] else error.message
    except OSError as error:
        return f"{folder} cannot be written: {error.strerror}"
    return None
