# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees of files at the source: what is in one, and what of it has changed since it was copied.

A program cannot set a change time (inode(7)), so a comparison of inodes and change times sees what rsync's comparison
of size and modification time does not.
"""

from __future__ import annotations

import os
import stat
from typing import Iterable, Iterator, Mapping, Sequence, Tuple

from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import is_below, relative
from ansible_collections.fleet.criu.plugins.module_utils._mounts.sources import file_system
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import parse

# File systems of Linux whose change times are the kernel's own.
_HAS_CHANGE_TIMES = frozenset(("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "xfs"))

# Change times are read from a clock that ticks every 1 to 10 ms; some file systems keep whole seconds alone.
_TICK = 20_000_000
_SECOND = 1_000_000_000

# Device, inode, change time in nanoseconds, size, mode, number of links.
Entry = Tuple[int, int, int, int, int, int]
Tree = Mapping[str, Entry]


def walk(path: str, left_out: Sequence[str]) -> dict[str, Entry]:
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


def look(path: str, is_file: bool, left_out: Sequence[str]) -> dict[str, Entry]:
    """As `walk`; of a file, which is no folder, its one entry with the name "". Raises OSError."""
    return {"": _entry(os.stat(path, follow_symlinks=False))} if is_file else walk(path, left_out)


def trusted_entries(before: Tree, after: Tree, began: int, deleted: frozenset[str]) -> Tree:
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
        elif name not in deleted and is_older(entry, began):
            trusted[name] = entry
    return trusted


def is_older(entry: Entry, moment: int) -> bool:
    """Whether the entry's last change was so long before the moment (ns) that one after it will show another time."""
    return entry[2] < moment - (_TICK if entry[2] % _SECOND else 2 * _SECOND)


def is_file(entry: Entry | None) -> bool:
    """Whether there is a regular file."""
    return entry is not None and stat.S_ISREG(entry[4])


def linked(tree: Tree) -> list[str]:
    """The names of what has several, folders aside."""
    return [name for name, entry in tree.items() if entry[5] > 1 and not _is_folder(entry)]


def with_links(names: Iterable[str], tree: Tree) -> list[str]:
    """The names, and what else in the tree is a name of one of these files: alone it would become another file."""
    found = dict.fromkeys(names)
    inodes = {tree[name][:2] for name in found if name in tree and tree[name][5] > 1}
    if inodes:
        found.update(dict.fromkeys(name for name in linked(tree) if tree[name][:2] in inodes))
    return list(found)


def gone(names: frozenset[str], now: Tree) -> list[str]:
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


def has_change_times(path: str, mountinfo: str) -> bool:
    """Whether the file system of the path has change times that are the kernel's own."""
    return file_system(path, mountinfo) in _HAS_CHANGE_TIMES


def mounted_below(path: str, mountinfo: str) -> list[str]:
    """Where the host has something mounted below the path, relative to it."""
    # A workload that has this folder bound does not see what the host mounts below it (unless that is a mount of its
    # own). --one-file-system would also leave out the subvolumes of btrfs, which it does see.
    resolved = os.path.realpath(path)
    mountpoints = [row.mountpoint for row in parse(mountinfo)]
    return sorted(
        {relative(place, resolved) for place in mountpoints if place != resolved and is_below(place, resolved)}
    )


def _walk_folder(top: int, folder: str, found: dict[str, Entry]) -> Iterator[str]:
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


def _entry(status: os.stat_result) -> Entry:
    return status.st_dev, status.st_ino, status.st_ctime_ns, status.st_size, status.st_mode, status.st_nlink


def _is_folder(entry: Entry | None) -> bool:
    return entry is not None and stat.S_ISDIR(entry[4])


def _parent(name: str) -> str:
    return name.rpartition("/")[0]
