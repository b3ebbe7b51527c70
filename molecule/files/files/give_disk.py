# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a host of a lab a file system of this machine: give_disk.py LAB_BRIDGE IMAGE HOST MOUNTPOINT.

Runs where the lab runs, as root. What it uses needs Linux 5.2.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
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
    bridge, image, host, mountpoint = sys.argv[1:]
    namespace = os.open(f"/proc/{Supervisor.here(bridge).cgroups()[host].init()}/ns/mnt", os.O_RDONLY)
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
        try:
            mount = check(libc.syscall(OPEN_TREE, AT_FDCWD, os.fsencode(place), OPEN_TREE_CLONE), "open_tree")
        finally:
            subprocess.run(["umount", place], check=True)
    check(libc.setns(namespace, CLONE_NEWNS), "setns")
    place_there = os.fsencode(mountpoint)
    check(libc.syscall(MOVE_MOUNT, mount, b"", AT_FDCWD, place_there, MOVE_MOUNT_F_EMPTY_PATH), "move_mount")


def check(result: int, what: str) -> int:
    if result < 0:
        sys.exit(f"give_disk: {what}: {os.strerror(ctypes.get_errno())}")
    return result


main()
