# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts of one host of a lab brought to another, or from this machine: open_tree(2), move_mount(2), setns(2).

Needs Linux 5.2. Ends the process with a message if something cannot be done.
"""

from __future__ import annotations

import ctypes
import os
import sys

from lab_supervisor import Supervisor

_OPEN_TREE, _MOVE_MOUNT = 428, 429  # the same numbers on every architecture
_AT_FDCWD = -100
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_CLONE_NEWNS = 0x20000

_libc = ctypes.CDLL(None, use_errno=True)


def namespace_of(bridge: str, host: str) -> int:
    """A descriptor of the mount namespace of a host of that lab."""
    return os.open(f"/proc/{Supervisor.here(bridge).cgroups()[host].init()}/ns/mnt", os.O_RDONLY)


def enter(namespace: int) -> None:
    """Go there, for good."""
    _check(_libc.setns(namespace, _CLONE_NEWNS), "setns")


def cloned(path: str) -> int:
    """A descriptor of what is mounted at a path, to be mounted elsewhere."""
    return _check(_libc.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE), "open_tree")


def attach(mount: int, path: str) -> None:
    """Mount it there."""
    arguments = (mount, b"", _AT_FDCWD, os.fsencode(path), _MOVE_MOUNT_F_EMPTY_PATH)
    _check(_libc.syscall(_MOVE_MOUNT, *arguments), "move_mount")


def _check(result: int, what: str) -> int:
    if result < 0:
        sys.exit(f"{sys.argv[0]}: {what}: {os.strerror(ctypes.get_errno())}")
    return result
