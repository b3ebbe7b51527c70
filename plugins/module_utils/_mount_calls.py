# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mount(2), which Python does not have, and unshare(2), which it has since 3.12."""

from __future__ import annotations

import ctypes
import os

# From <sys/mount.h> and <sched.h>.
READ_ONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND = 1, 2, 4, 8, 32, 4096
_RECURSIVE, _SLAVE = 1 << 14, 1 << 19
_NEW_NAMESPACE = 0x00020000


def mount(source: str | None, target: str, file_system: str | None, flags: int, data: str | None = None) -> None:
    """Mount something. `data` are options of the file system, as mount(8) has them after -o. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(_encoded(source), _encoded(target), _encoded(file_system), flags, _encoded(data)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


def enter_namespace() -> None:
    """Take a mount namespace of our own, a slave of the one before.

    Only for a process with one thread. Raises OSError.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NAMESPACE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "unshare")
    mount(None, "/", None, _RECURSIVE | _SLAVE)


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)
