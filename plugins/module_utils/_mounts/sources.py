# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where on the host the root of a workload's mount can be seen, from the mountinfo of both."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any, Callable, Iterable, NamedTuple, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import folders_of, join, relative
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import MountRow, parse, printable

# Where a host has its own folders, even if what is mounted there is a folder of a larger file system (hier(7); on a
# host that is an ostree deployment all of them are binds).
_ORDINARY_PLACES = frozenset({"/", "/boot", "/etc", "/home", "/root", "/usr", "/var"})
_SUBVOLUME = "subvol="


class HostPath(NamedTuple):
    """A path on the host that may show a mount's root; `hidden` if another mount covers it there."""

    path: str
    mount_id: int
    hidden: bool
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """The candidate in plain JSON types."""
        return {**self._asdict(), "path": printable(self.path), "reason": printable(self.reason)}


class HostMounts:
    """A host's mountinfo, arranged for looking up what is mounted where."""

    def __init__(self, rows: Sequence[MountRow]) -> None:
        # Looked up by folder, because a host may have 100,000 mounts, most of them below one parent.
        self._by_root: dict[tuple[str, str], list[MountRow]] = defaultdict(list)
        self._below: dict[int, dict[str, MountRow]] = defaultdict(dict)
        known = {row.mount_id for row in rows}
        self._top: MountRow | None = None
        self._peer_groups = {row.shared for row in rows if row.shared is not None}
        self._later_binds = _later_binds(rows)
        for row in rows:
            self._by_root[row.device, row.root].append(row)
            if row.parent_id == row.mount_id or row.parent_id not in known:
                self._top = self._top or row
            else:
                self._below[row.parent_id].setdefault(row.mountpoint, row)

    def candidates(self, row: MountRow) -> list[HostPath]:
        """All host paths where the root of `row` is, the best first.

        A host mount shows it if it is of the same superblock (device number) and its own root is a parent of that
        root, or equal. A visible path is better than a covered one, and one through the mount of the file system itself
        (see `_is_plain`) better than one through a bind of some folder: that is the path that the administrator knows
        and that stays, while anybody may have bound the folder anywhere. Of binds that of the outermost folder is
        better, of what is left a shorter path.
        """
        found = []
        ordinary: set[str] = set()
        for folder in folders_of(row.root):
            for host_row in self._by_root.get((row.device, folder), ()):
                path = join(host_row.mountpoint, relative(row.root, host_row.root))
                found.append((host_row, path, self.mount_at(path) is not host_row, self._strangeness(host_row)))
                if not found[-1][3][0]:
                    ordinary.add(path)
        # A folder that is bound onto itself is covered by what shows it at the same path.
        found.sort(key=lambda entry: (entry[2], entry[1] not in ordinary, *entry[3], len(entry[1])))
        return [
            HostPath(path, host_row.mount_id, hidden, _reason(row, host_row, hidden))
            for host_row, path, hidden, _strangeness in found
        ]

    def _strangeness(self, host_row: MountRow) -> tuple[bool, int, bool]:
        is_bind = host_row.mount_id in self._later_binds
        is_strange = is_bind or not _is_plain(host_row)
        # Of plain ones the nearest: a subvolume that is mounted itself may also be seen through the whole file system.
        depth = len(host_row.root)
        return is_strange, depth if is_strange else -depth, is_bind

    def has_peer_group(self, shared: int | None) -> bool:
        """Whether a mount of the host is in this peer group."""
        return shared in self._peer_groups

    def mount_at(self, path: str) -> MountRow | None:
        """The mount that a path without symlinks leads to, found as the kernel does: from mount to mount downwards."""
        current = self._top
        folders = folders_of(path)
        seen: set[int] = set()
        while current is not None and current.mount_id not in seen:
            seen.add(current.mount_id)
            below = self._below.get(current.mount_id, {})
            nearest = next((below[folder] for folder in folders if folder in below), None)
            if nearest is None:
                break
            current = nearest
        return current


def file_system(path: str, mountinfo: str) -> str:
    """The type of the file system that a path is on, by the text of mountinfo; "" if there is none."""
    mount = HostMounts(parse(mountinfo)).mount_at(os.path.realpath(path))
    return mount.fstype if mount else ""


def prefer(paths: Iterable[HostPath], is_same: Callable[[str], bool]) -> list[HostPath]:
    """The same paths, those first at which `is_same` finds the mount's very root."""
    return sorted(paths, key=lambda candidate: candidate.hidden or not is_same(candidate.path))


def _is_plain(row: MountRow) -> bool:
    """Whether it is the mount of a whole file system or of a whole subvolume (btrfs(5)), or an ordinary place."""
    if row.root == "/" or row.mountpoint in _ORDINARY_PLACES:
        return True
    return row.fstype == "btrfs" and f"{_SUBVOLUME}{row.root}" in row.super_options


def _later_binds(rows: Sequence[MountRow]) -> frozenset[int]:
    # A bind is in the peer group of what it was made from (mount_namespaces(7)), and mountinfo has the older one first.
    seen: set[tuple[str, str, int]] = set()
    found = set()
    for row in rows:
        if row.shared is not None:
            identity = row.device, row.root, row.shared
            if identity in seen:
                found.add(row.mount_id)
            seen.add(identity)
    return frozenset(found)


def _reason(row: MountRow, host_row: MountRow, hidden: bool) -> str:
    where = f"superblock {row.device} is mounted at {host_row.mountpoint} with root {host_row.root}"
    return f"{where}, but another mount covers it" if hidden else where
