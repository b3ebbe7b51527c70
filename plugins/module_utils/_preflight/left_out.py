# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a host is not looked at when contents are compared, because that would change something, or is not data.

It is decided by what is mounted at a path now (proc(5), /proc/PID/mountinfo), whatever a workload calls it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Iterable

from ansible_collections.fleet.criu.plugins.module_utils._mounts import private
from ansible_collections.fleet.criu.plugins.module_utils._mounts.kernel import KERNEL_FILE_SYSTEMS
from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import is_below
from ansible_collections.fleet.criu.plugins.module_utils._mounts.sources import HostMounts
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import parse
from ansible_collections.fleet.criu.plugins.module_utils._own_folders import OWN_FOLDERS

_OWN = "of this collection"


class LeftOut:
    """The kernel's file systems, what is mounted below a folder, the collection's own folders, and special files.

    `mountinfo` is the text of this host's; `own` are further folders of the collection, such as that of the images.
    """

    def __init__(self, mountinfo: str, own: Iterable[str | Path] = ()) -> None:
        rows = parse(mountinfo)
        self._mounts = HostMounts(rows)
        self._mountpoints = frozenset(row.mountpoint for row in rows)
        self._own_paths = [os.path.realpath(folder) for folder in (*OWN_FOLDERS, private.FOLDER, *own)]
        # One may also be seen through a bind of a folder above it.
        self._own_inodes = frozenset(found for found in map(_inode, self._own_paths) if found is not None)

    def whole(self, path: str) -> str | None:
        """Why nothing of a mount that is at this path (see `resolved`) is looked at, in a word or two, or None."""
        mount = self._mounts.mount_at(path)
        if mount is not None and mount.fstype in KERNEL_FILE_SYSTEMS:
            return mount.fstype
        if any(is_below(path, folder) for folder in self._own_paths):
            return _OWN
        try:
            status = os.lstat(path)
        except OSError:
            return None
        return "special file" if is_special(status) else self._own(status)

    def mounted(self, path: str) -> str | None:
        """The type of what is mounted at a path inside a folder that is looked at, or None.

        Such a mount is not looked at: CRIU binds the folder alone, so that a workload does not see it there.
        """
        if path not in self._mountpoints:
            return None
        mount = self._mounts.mount_at(path)
        return mount.fstype if mount is not None and mount.mountpoint == path else None

    def inside(self, status: os.stat_result) -> str | None:
        """Why a folder with this status inside one that is looked at is left out with all that is in it, or None."""
        return self._own(status)

    def _own(self, status: os.stat_result) -> str | None:
        return _OWN if (status.st_dev, status.st_ino) in self._own_inodes else None


def resolved(path: str) -> str:
    """The same path without symlinks in its folders; what it leads to itself may be one."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name) if name else os.path.realpath(path)


def is_special(status: os.stat_result) -> bool:
    """Whether it is a device, a FIFO or a socket: reading one may do anything, and may wait for ever."""
    return stat.S_IFMT(status.st_mode) not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
