# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What inotify and fanotify watch, from /proc/PID/fdinfo: those watches whose path CRIU cannot find by a file handle.

CRIU opens what is watched by its handle (open_by_handle_at(2)). An overlay has no such handles, so it looks for the
inode below paths that it is given (--irmap-scan-path); the same search is done here, as far as it does not last.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Iterator, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import MountRow
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc

_WITHOUT_HANDLES = frozenset({"overlay", "fuse.fuse-overlayfs", "9p", "aufs"})
_MARK = re.compile(r"(?:inotify|fanotify) .*?\bino:([0-9a-f]+) sdev:([0-9a-f]+)")
_MINOR_BITS = 20
_MOST_ENTRIES = 20_000


@dataclass(frozen=True)
class Mark:
    """A watched inode, on the file system that is mounted there."""

    inode: int
    row: MountRow


def watched(lines: Sequence[str], rows: Sequence[MountRow]) -> list[Mark]:
    """The marks in these lines of fdinfo that are on a file system without handles."""
    found = []
    for line in lines:
        match = _MARK.match(line)
        if match is None:
            continue
        inode, device = int(match.group(1), 16), int(match.group(2), 16)
        number = f"{device >> _MINOR_BITS}:{device & ((1 << _MINOR_BITS) - 1)}"
        row = next((row for row in rows if row.device == number), None)
        if row is not None and row.fstype in _WITHOUT_HANDLES:
            found.append(Mark(inode, row))
    return found


def watched_paths(proc: Proc, pid: int, marks: Sequence[Mark]) -> Iterator[tuple[Mark, str]]:
    """Each mark with its path in the workload, or "" if it was not among the first 20,000 entries."""
    for mountpoint in dict.fromkeys(mark.row.mountpoint for mark in marks):
        here = [mark for mark in marks if mark.row.mountpoint == mountpoint]
        paths = _paths(proc.root(pid, mountpoint), mountpoint, {mark.inode for mark in here})
        yield from ((mark, paths.get(mark.inode, "")) for mark in here)


def _paths(folder: str, mountpoint: str, wanted: set[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    pending = [(folder, mountpoint)]
    seen = 0
    while pending and wanted - set(found) and seen < _MOST_ENTRIES:
        here, shown = pending.pop(0)
        try:
            status = os.stat(here, follow_symlinks=False)
            entries = list(os.scandir(here))
        except OSError:
            continue
        if status.st_ino in wanted:
            found.setdefault(status.st_ino, shown)
        for entry in entries:
            seen += 1
            path = f"{shown.rstrip('/')}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                # A mount below has other inodes.
                if os.stat(entry.path, follow_symlinks=False).st_dev == status.st_dev:
                    pending.append((entry.path, path))
            elif entry.inode() in wanted:
                found.setdefault(entry.inode(), path)
    return found
