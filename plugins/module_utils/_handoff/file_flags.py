# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that chattr has made immutable or append-only: a copy would not be, so they keep a tree from moving."""

from __future__ import annotations

import array
import fcntl
import os
import stat

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.trees import Tree

# From <linux/fs.h>: _IOR('f', 1, long), whose size depends on that of a long.
_GET_FLAGS = 0x80006601 | array.array("l").itemsize << 16
_IMMUTABLE, _APPEND_ONLY = 0x10, 0x20
_SHOWN = 3


def require_plain(path: str, tree: Tree) -> None:
    """Raises CriuError if something in the tree below the path is immutable or append-only.

    Other flags (nodump, noatime, compression …) are not looked at. "" is the path itself.
    """
    found = [name for name, entry in tree.items() if _may_have_flags(entry[4]) and _is_protected(path, name)]
    if not found:
        return
    shown = ", ".join(os.path.join(path, name) if name else path for name in found[:_SHOWN])
    raise CriuError(
        f"{len(found)} of the files to be copied are immutable or append-only, which the copies would not be: {shown}"
        f"{' …' if len(found) > _SHOWN else ''}.",
        "Take the flags away (chattr -ia), or bring these files to the target yourself (data: present).",
        {"path": path, "protected": len(found)},
    )


def _may_have_flags(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _is_protected(path: str, name: str) -> bool:
    flags = array.array("l", [0])
    try:
        descriptor = os.open(
            os.path.join(path, name) if name else path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        )
    except OSError:
        return False  # it is gone, or something else by now
    try:
        fcntl.ioctl(descriptor, _GET_FLAGS, flags)
    except OSError:
        return False  # the file system has none
    finally:
        os.close(descriptor)
    return bool(flags[0] & (_IMMUTABLE | _APPEND_ONLY))
