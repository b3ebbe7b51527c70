# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders and files made equal by rsync, inside the handoff's own connection: the source's end.

The last pass, while the workload is frozen, does not let rsync read both trees again. The live pass notes every entry's
device, inode, change time, size and mode; the last pass compares, and gives rsync the names that differ or are gone.
What the live pass could have copied in another state than was noted counts as different (`trees.trusted_entries`).
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Protocol, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._handoff.rsync import (
    IDLE_SECONDS,
    VANISHED,
    Copy,
    Rsync,
    Sockets,
    Stream,
    failure,
    itemized,
    options_for_all,
    options_for_named,
    sent_bytes,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.trees import (
    Tree,
    gone,
    has_change_times,
    mounted_below,
    trusted_entries,
    walk,
)
from ansible_collections.fleet.criu.plugins.module_utils._mounts.sources import file_system
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed, Runner

AT_THE_SAME_TIME = 4

# A write to a shared mapping of a file there leaves all its times as they were.
_HIDES_MAPPED_WRITES = frozenset(("ramfs", "tmpfs"))

# From here on rsync's own comparison is cheaper than to have every listed file compared in full.
_MANY = 1000


@dataclass(frozen=True)
class _Snapshot:
    """What the target holds since a live pass: `names` is all it may have, `entries` what it surely has as noted.

    `left_out` are the places below where the host had something mounted.
    """

    names: frozenset[str]
    entries: Tree
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
        self._sockets = Sockets(folder)
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
        left_out = mounted_below(copy.path, mountinfo)
        options = ["--out-format=%i %n"]
        if bandwidth is not None:
            options.append(f"--bwlimit={max(1, bandwidth // 1024)}")
        began = time.time_ns()
        # A page that is dirty already could be changed later without a new change time.
        os.sync()
        before = walk(copy.path, left_out) if _can_be_compared(copy, mountinfo) else None
        completed = self._rsync(copy, [*options_for_all(copy, left_out), *options]).finish()
        if completed.returncode not in (0, VANISHED):
            raise failure(copy, completed)
        if before is not None:
            made, deleted = itemized(completed.stdout)
            trusted = trusted_entries(before, walk(copy.path, left_out), began, deleted)
            self._snapshots[copy] = _Snapshot(frozenset(before) | made, trusted, left_out)
        return sent_bytes(completed)

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
            raise failure(copy, completed or Completed(1))
        return sent_bytes(completed)

    def _take(self, copy: Copy, mountinfo: str) -> _LastPass:
        last_pass = self._prepared.pop(copy, None)
        if last_pass is not None and last_pass.left_out != mounted_below(copy.path, mountinfo):
            last_pass.close()
            last_pass = None
        if last_pass is None:
            last_pass = self._start(copy, mountinfo)
        self._taken.append(last_pass)
        return last_pass

    def _start(self, copy: Copy, mountinfo: str) -> _LastPass:
        left_out = mounted_below(copy.path, mountinfo)
        snapshot = self._snapshots.get(copy)
        if snapshot is not None and snapshot.left_out == left_out:
            names = self._rsync(copy, options_for_named(), waits_for_names=True)
            # rsync takes the names in a listed folder too; for the root alone they are left out.
            root = self._rsync(copy, [*options_for_named(), "--exclude=/*"], waits_for_names=True)
            return _ListedPass(copy.path, snapshot, names, root)
        options = options_for_all(copy, left_out)
        if file_system(copy.path, mountinfo) in _HIDES_MAPPED_WRITES:
            options.append("--checksum")
        return _WholePass(left_out, self._rsync(copy, options))

    def _rsync(self, copy: Copy, options: Sequence[str], waits_for_names: bool = False) -> Rsync:
        return Rsync(copy, options, waits_for_names, self._sockets, self._connect, self._runner, self._timeout)


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
    def __init__(self, left_out: Sequence[str], rsync: Rsync) -> None:
        self.left_out = left_out
        self.folder_time: int | None = None
        self._rsync = rsync

    def finish(self) -> Completed | None:
        return self._rsync.finish()

    def close(self) -> None:
        self._rsync.close()


class _ListedPass:
    def __init__(self, path: str, snapshot: _Snapshot, names: Rsync, root: Rsync) -> None:
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
            now = walk(self._path, self.left_out)
        except OSError:
            return None
        changed = [name for name, entry in now.items() if self._snapshot.entries.get(name) != entry]
        if len(changed) > _MANY and len(changed) > len(now) // 2:
            return None
        return [*changed, *gone(self._snapshot.names, now)]


def _can_be_compared(copy: Copy, mountinfo: str) -> bool:
    return copy.file_name is None and has_change_times(copy.path, mountinfo)
