# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders and files made equal by rsync, inside the handoff's own connection: the source's end.

rsync alone compares size and modification time, which a program can put back. So a live pass lets it do that only with
files that are surely the same on both hosts (same_files.py) and has it compare the contents of all others; it goes on
until little is left that changes. The last pass, while the workload is frozen, does not read both trees again: the live
pass notes every entry's device, inode, change time, size and mode; the last pass compares, and gives rsync the names
that differ or are gone. What the live pass could have copied in another state than was noted counts as different
(`trees.trusted_entries`).
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Protocol, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.file_flags import require_plain
from ansible_collections.fleet.criu.plugins.module_utils._handoff.rsync import (
    IDLE_SECONDS,
    VANISHED,
    Copy,
    NumberedStream,
    Rsync,
    Sockets,
    failure,
    itemized,
    options_for_all,
    options_for_named,
    options_for_words,
    sent_bytes,
    sent_files,
    version,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.same_files import (
    Differing,
    Records,
    SameFiles,
    name_of,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.trees import (
    Entry,
    Tree,
    gone,
    has_change_times,
    is_file,
    look,
    mounted_below,
    trusted_entries,
    walk,
    with_links,
)
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed, Runner

AT_THE_SAME_TIME = 4

# So often a live pass catches up with a workload that has changed more files than these meanwhile.
_ROUNDS = 4
_FEW = 20


@dataclass(frozen=True)
class _Snapshot:
    """What the target holds since a live pass: `names` is all it may have, `entries` what it surely has as noted.

    `left_out` are the places below where the host had something mounted. `has_time` says that the folder itself has its
    time, which it loses when something in it is written.
    """

    names: frozenset[str]
    entries: Tree
    left_out: Sequence[str]
    has_time: bool = True


class Sender:
    """The source's end. `folder` (0700) is for what rsync needs, `connect` opens a stream to a module of the target.

    `compare` asks the target, for a copy and for the name of the one after which both hosts have noted how the files
    look to them, how they look now. `timeout` is how long, in seconds, a stream may be silent.
    """

    def __init__(
        self,
        folder: Path,
        connect: Callable[[str], NumberedStream],
        runner: Runner,
        compare: Callable[[Copy, str], Differing] = lambda _copy, _name: Differing(),
        timeout: float = IDLE_SECONDS,
    ) -> None:
        self._connect = connect
        self._runner = runner
        self._compare = compare
        self._timeout = timeout
        self._sockets = Sockets(folder)
        self._snapshots: dict[Copy, _Snapshot] = {}
        self._prepared: dict[Copy, _LastPass] = {}
        self._taken: list[_LastPass] = []
        self._same: dict[Copy, Tree] = {}
        self._word_options: Sequence[str] = ()
        self._lock = threading.Lock()
        self._numbers: list[int] = []
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

    def catch_up(self, copies: Sequence[Copy], bandwidth: int | None = None) -> None:
        """Copy once more what has changed since the live pass, as long as that makes it less. Raises as `copy` does."""
        for copy in copies:
            if copy in self._snapshots and copy.file_name is None:
                self._catch_up(copy, bandwidth)

    def take_numbers(self) -> list[int]:
        """The connections of all that has ended well here since this was last asked. They must have at the target."""
        with self._lock:
            taken = list(self._numbers)
            self._numbers.clear()
        return taken

    def remember(self, name: str) -> None:
        """Note durably what is the same on both hosts since the last pass, which ends the copies of this name.

        Raises OSError.
        """
        for copy, files in self._same.items():
            Records().write(copy.path, SameFiles(name_of(name, copy.module, copy.file_name), files))

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
        left_out = mounted_below(copy.source, mountinfo)
        can_be_noted = has_change_times(copy.source, mountinfo)
        same = Records().read(copy.path) if can_be_noted else SameFiles()
        differing = self._compare(copy, same.copy)
        self._hear_words(differing.rsync)
        limit = _limit(bandwidth)
        began = time.time_ns()
        # A page that is dirty already could be changed later without a new change time.
        os.sync()
        before = _look(copy, left_out)
        require_plain(copy.path, before)
        anew = _to_be_written_anew(before, same, differing)
        how = _how_to_compare(copy, differing, anew)
        completed = self._run_live(copy, [*options_for_all(copy, left_out), *how, *limit])
        made, deleted = itemized(completed.stdout)
        sent = sent_bytes(completed)
        names = with_links(anew - sent_files(completed.stdout), before) if copy.file_name is None else []
        if names:
            named = self._run_live(copy, [*options_for_named(), *limit], names)
            deleted |= itemized(named.stdout)[1]
            sent += sent_bytes(named)
        if can_be_noted:
            trusted = trusted_entries(before, _look(copy, left_out), began, deleted)
            has_time = all("/" in name for name in names)
            self._snapshots[copy] = _Snapshot(frozenset(before) | made, trusted, left_out, has_time)
        return sent

    def _catch_up(self, copy: Copy, bandwidth: int | None) -> None:
        least = None
        for _round in range(_ROUNDS):
            snapshot = self._snapshots[copy]
            began = time.time_ns()
            os.sync()
            before = _look(copy, snapshot.left_out)
            # Of the folder itself the last pass takes care.
            names = [name for name in _differences(snapshot, before) if name]
            if len(names) <= _FEW or (least is not None and len(names) > least // 2):
                return
            least = len(names)
            completed = self._run_live(copy, [*options_for_named(), *_limit(bandwidth)], names)
            made, deleted = itemized(completed.stdout)
            trusted = trusted_entries(before, _look(copy, snapshot.left_out), began, deleted)
            if snapshot.entries.get("") != before[""]:
                trusted = {name: entry for name, entry in trusted.items() if name}
            may_have = snapshot.names | frozenset(before) | made
            has_time = snapshot.has_time and all("/" in name for name in names)
            self._snapshots[copy] = replace(snapshot, names=may_have, entries=trusted, has_time=has_time)

    def _run_live(self, copy: Copy, options: Sequence[str], names: Sequence[str] | None = None) -> Completed:
        rsync = self._rsync(copy, [*options, "--out-format=%i %n"], waits_for_names=names is not None)
        try:
            completed = rsync.finish(None if names is None else _as_list(names))
        finally:
            rsync.close()
        if completed.returncode not in (0, VANISHED):
            raise failure(copy, completed, rsync.number)
        self._note(rsync.number)
        return completed

    def _copy_last(self, copy: Copy, mountinfo: str) -> int:
        last_pass = self._take(copy, mountinfo)
        completed = last_pass.finish()
        if completed is None or (completed.returncode != 0 and copy in self._snapshots):
            # Whatever was in the way of the short way, the long one finds out or does without it.
            self._snapshots.pop(copy, None)
            last_pass = self._start_whole(copy, mountinfo)
            self._taken.append(last_pass)
            completed = last_pass.finish()
        elif last_pass.folder_time is not None:
            self.folder_times[copy.module] = last_pass.folder_time
        if completed is None or completed.returncode != 0:
            raise failure(copy, completed or Completed(1), *last_pass.numbers)
        self._note(*last_pass.numbers)
        snapshot = self._snapshots.pop(copy, None)
        if snapshot is not None:
            self._same[copy] = last_pass.same()
        return sent_bytes(completed)

    def _hear_words(self, version_there: Sequence[int]) -> None:
        if version_there and not self._word_options:
            self._word_options = options_for_words(version(self._runner), version_there)

    def _note(self, *numbers: int) -> None:
        with self._lock:
            self._numbers.extend(numbers)

    def _take(self, copy: Copy, mountinfo: str) -> _LastPass:
        last_pass = self._prepared.pop(copy, None)
        if last_pass is not None and last_pass.left_out != mounted_below(copy.source, mountinfo):
            last_pass.close()
            last_pass = None
        if last_pass is None:
            last_pass = self._start(copy, mountinfo)
        self._taken.append(last_pass)
        return last_pass

    def _start(self, copy: Copy, mountinfo: str) -> _LastPass:
        left_out = mounted_below(copy.source, mountinfo)
        snapshot = self._snapshots.get(copy)
        if snapshot is None or snapshot.left_out != left_out:
            return self._start_whole(copy, mountinfo)
        if copy.file_name is not None:
            return _FilePass(copy, snapshot, self._rsync(copy, [*options_for_all(copy, left_out), "--ignore-times"]))
        names = self._rsync(copy, options_for_named(), waits_for_names=True)
        # rsync takes the names in a listed folder too; for the root alone they are left out.
        root = self._rsync(copy, [*options_for_named(), "--exclude=/*"], waits_for_names=True)
        return _ListedPass(copy.source, snapshot, names, root)

    def _start_whole(self, copy: Copy, mountinfo: str) -> _LastPass:
        left_out = mounted_below(copy.source, mountinfo)
        return _WholePass(left_out, self._rsync(copy, [*options_for_all(copy, left_out), "--checksum"]))

    def _rsync(self, copy: Copy, options: Sequence[str], waits_for_names: bool = False) -> Rsync:
        options = [*options, *self._word_options]
        return Rsync(copy, options, waits_for_names, self._sockets, self._connect, self._runner, self._timeout)


class _LastPass(Protocol):
    """The last pass of one copy, started. `left_out` are the places below that it does not look into.

    `folder_time` is what the folder itself has to get afterwards, if it has not; `numbers` are the connections that
    have been used.
    """

    left_out: Sequence[str]
    folder_time: int | None
    numbers: Sequence[int]

    def finish(self) -> Completed | None:
        """Do it. None: this way does not suit what has changed, and nothing was done."""

    def same(self) -> Tree:
        """After it: the files that look as they did in the live pass."""

    def close(self) -> None:
        """Leave it."""


class _WholePass:
    def __init__(self, left_out: Sequence[str], rsync: Rsync) -> None:
        self.left_out = left_out
        self.folder_time: int | None = None
        self.numbers: Sequence[int] = [rsync.number]
        self._rsync = rsync

    def finish(self) -> Completed | None:
        return self._rsync.finish()

    def same(self) -> Tree:
        return {}

    def close(self) -> None:
        self._rsync.close()


class _FilePass:
    def __init__(self, copy: Copy, snapshot: _Snapshot, rsync: Rsync) -> None:
        self.left_out = snapshot.left_out
        self.folder_time: int | None = None
        self.numbers: Sequence[int] = []
        self._copy = copy
        self._snapshot = snapshot
        self._rsync = rsync

    def finish(self) -> Completed | None:
        try:
            now = look(self._copy.source, True, ())
        except OSError:
            now = {}  # rsync says what is wrong with it
        if now == self._snapshot.entries:
            return Completed(0)
        self.numbers = [self._rsync.number]
        return self._rsync.finish()

    def same(self) -> Tree:
        return {} if self.numbers else self._snapshot.entries

    def close(self) -> None:
        self._rsync.close()


class _ListedPass:
    def __init__(self, path: str, snapshot: _Snapshot, names: Rsync, root: Rsync) -> None:
        self.left_out = snapshot.left_out
        self.folder_time: int | None = None
        self.numbers: Sequence[int] = []
        self._path = path
        self._snapshot = snapshot
        self._names = names
        self._root = root
        self._differing: Sequence[str] = ()

    def finish(self) -> Completed | None:
        try:
            differing = self._differing = _differences(self._snapshot, walk(self._path, self.left_out))
        except OSError:
            return None
        # What is written in a folder gives it a new time, and rsync puts back that of the folders it has listed.
        if "" not in differing and not (self._snapshot.has_time and all("/" in name for name in differing)):
            # One more rsync would take longer than all the rest.
            self.folder_time = os.stat(self._path).st_mtime_ns
        if not differing:
            return Completed(0)
        self.numbers = [self._names.number]
        first = self._names.finish(_as_list([name for name in differing if name]))
        if first.returncode != 0 or "" not in differing:
            return first
        self.numbers = [self._names.number, self._root.number]
        second = self._root.finish(b"/\0")
        return Completed(second.returncode, f"{first.stdout}{second.stdout}", second.stderr)

    def same(self) -> Tree:
        differing = frozenset(self._differing)
        entries = self._snapshot.entries
        return {name: entry for name, entry in entries.items() if is_file(entry) and name not in differing}

    def close(self) -> None:
        self._names.close()
        self._root.close()


def _look(copy: Copy, left_out: Sequence[str]) -> dict[str, Entry]:
    try:
        return look(copy.source, copy.file_name is not None, left_out)
    except OSError as error:
        raise CriuError(f"{copy.path} cannot be read: {error}.", "Look at what is there.") from error


def _differences(snapshot: _Snapshot, now: Tree) -> list[str]:
    changed = [name for name, entry in now.items() if snapshot.entries.get(name) != entry]
    return [*with_links(changed, now), *gone(snapshot.names, now)]


def _to_be_written_anew(now: Tree, same: SameFiles, differing: Differing) -> frozenset[str]:
    # What the target does not have as it had it, and what we do not; what is a file here.
    doubtful = set(differing.names)
    if differing.is_known:
        doubtful.update(name for name, entry in now.items() if same.files.get(name) != entry)
    return frozenset(name for name in doubtful if is_file(now.get(name)))


def _how_to_compare(copy: Copy, differing: Differing, anew: frozenset[str]) -> list[str]:
    if not differing.is_complete or (copy.file_name is not None and anew):
        return ["--ignore-times"]
    return [] if differing.is_known else ["--checksum"]


def _limit(bandwidth: int | None) -> list[str]:
    return [] if bandwidth is None else [f"--bwlimit={max(1, bandwidth // 1024)}"]


def _as_list(names: Sequence[str]) -> bytes:
    return b"".join(b"/" + os.fsencode(name) + b"\0" for name in names)
