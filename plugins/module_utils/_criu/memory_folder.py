# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where images lie in memory: a tmpfs of our own with a size, mounted when it is needed, which only root can enter.

Its size is what lies in it and three quarters of the memory and the swap that are free, when it is mounted and again
whenever images are to come for which it is too small. It is never made smaller: others may count on what they saw. All
this happens before the workload is frozen.
"""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.fleet.criu.plugins.module_utils._files import locked
from ansible_collections.fleet.criu.plugins.module_utils._mount_calls import NODEV, NOEXEC, NOSUID, REMOUNT, mount
from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import is_below
from ansible_collections.fleet.criu.plugins.module_utils._mounts.sources import HostMounts
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import MountRow, parse
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._trusted import make_folder

FOLDER = Path("/run/fleet.criu/images")

_TYPE = "tmpfs"
_FLAGS = NOSUID | NODEV | NOEXEC
_MIB = 1 << 20


def is_in_memory(path: Path) -> bool:
    """Whether a path lies there, where something may have to be mounted before it is used."""
    return is_below(str(path), str(FOLDER))


def provide(path: Path, proc: Proc) -> None:
    """If the path lies there, see that the tmpfs is mounted. Harmless if it is, or if several do so at once.

    To be called in the host's own mount namespace. Raises OSError, and CriuError as `make_folder` and `locked` do.
    """
    if not is_in_memory(path) or _mounted(proc) is not None:
        return
    with locked(_lock()):
        if _mounted(proc) is None:
            make_folder(FOLDER)
            mount(_TYPE, str(FOLDER), _TYPE, _FLAGS, f"mode=0700,size={_rounded(_free_memory(proc))}")


def make_room(path: Path, size: int, proc: Proc) -> None:
    """If the path lies there, let the tmpfs grow so that so many bytes fit in, as far as there is memory for them.

    If there is not, whoever writes is told. Raises OSError and CriuError, as `provide` does.
    """
    if not is_in_memory(path):
        return
    with locked(_lock()):
        row = _mounted(proc)
        # What somebody else has mounted there is not ours to change.
        if row is not None and row.fstype == _TYPE and _free(FOLDER) < size < _free_memory(proc):
            mount(None, str(FOLDER), None, REMOUNT | _FLAGS, f"size={_rounded(_used(FOLDER) + _free_memory(proc))}")


def free_bytes(proc: Proc) -> int:
    """How many bytes of images would fit in there, whether it is mounted yet or not."""
    row = _mounted(proc)
    return _free_memory(proc) if row is None or row.fstype == _TYPE else _free(FOLDER)


def _lock() -> Path:
    return FOLDER.with_suffix(".lock")


def _mounted(proc: Proc) -> MountRow | None:
    row = HostMounts(parse(proc.mountinfo("self"))).mount_at(str(FOLDER))
    return row if row is not None and row.mountpoint == str(FOLDER) else None


def _free_memory(proc: Proc) -> int:
    # Not all of it: the workload itself needs some, and so do others.
    memory = proc.meminfo()
    return (memory.get("MemAvailable", 0) + memory.get("SwapFree", 0)) * 3 // 4


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _used(folder: Path) -> int:
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def _rounded(size: int) -> int:
    # 0 would be no limit at all (tmpfs(5)).
    return max(size // _MIB, 1) * _MIB
