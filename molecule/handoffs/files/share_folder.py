# SPDX-License-Identifier: GPL-3.0-or-later
"""Give two hosts of a lab one folder, as storage that both have: a file system in memory, mounted on both.

    share_folder.py LAB_BRIDGE FOLDER HOST HOST

It is mounted on FOLDER of the first host already. Runs where the lab runs, as root. What it uses needs Linux 5.2.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles/lab/files"))

from lab_supervisor import Supervisor

OPEN_TREE, MOVE_MOUNT = 428, 429  # the same numbers on every architecture
AT_FDCWD = -100
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH = 4
CLONE_NEWNS = 0x20000

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    bridge, path, first, second = sys.argv[1:]
    cgroups = Supervisor.here(bridge).cgroups()
    namespaces = [os.open(f"/proc/{cgroups[name].init()}/ns/mnt", os.O_RDONLY) for name in (first, second)]
    place = os.fsencode(path)
    check(libc.setns(namespaces[0], CLONE_NEWNS), "setns")
    mount = check(libc.syscall(OPEN_TREE, AT_FDCWD, place, OPEN_TREE_CLONE), "open_tree")
    check(libc.setns(namespaces[1], CLONE_NEWNS), "setns")
    check(libc.syscall(MOVE_MOUNT, mount, b"", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH), "move_mount")


def check(result: int, what: str) -> int:
    if result < 0:
        sys.exit(f"share_folder: {what}: {os.strerror(ctypes.get_errno())}")
    return result


main()
