# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a gauge that CRIU cannot dump, for one reason that is asked for, and print its pid.

    odd_workload.py ODDITY ROOT DATA

ROOT is the root of a gauge that the lab has made, DATA a folder of this host for its bind at /data. The oddity is one
of those below; `none` makes a gauge that CRIU can dump.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from pathlib import Path

sys.path.insert(0, "/usr/local/libexec")

from lab_workload import ENVIRONMENT, MS_BIND, MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_REC, enter_root, mount

COMMAND = ["/usr/bin/python3", "-I", "-S", "-B", "/opt/gauge/freeze_gauge.py", "/data/gauge.log", "1"]
OUTSIDE = "/srv/outside.txt"
SOCKET = "/run/systemd/journal/socket"
MIB = 1 << 20


def main() -> None:
    oddity, root, data = sys.argv[1:]
    os.makedirs(data, exist_ok=True)
    os.unshare(os.CLONE_NEWPID)
    outcome, report = os.pipe()  # closed by the child's exec
    pid = os.fork()
    if pid == 0:
        try:
            become(oddity, root, data)
        except BaseException as error:  # whatever it is, the parent has to hear of it
            os.write(report, repr(error).encode())
        os._exit(1)
    os.close(report)
    reason = os.read(outcome, 4096).decode()
    if reason:
        sys.exit(reason)
    sys.stdout.write(f"{pid}\n")


def become(oddity: str, root: str, data: str) -> None:
    if oddity != "session":
        os.setsid()
    os.unshare(os.CLONE_NEWNS | (os.CLONE_NEWNET if oddity == "network" else 0))
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount(root, root, "", MS_BIND)
    mount(data, os.path.join(root, "data"), "", MS_BIND)
    mount("tmpfs", os.path.join(root, "tmp"), "tmpfs", MS_NOSUID | MS_NODEV)
    mount("proc", os.path.join(root, "proc"), "proc", MS_NOSUID | MS_NODEV)
    outside(oddity)
    if oddity == "chroot":
        os.chroot(root)
        os.chdir("/")
    else:
        enter_root(Path(root))
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    inside(oddity)
    os.execve(COMMAND[0], COMMAND, ENVIRONMENT)


def outside(oddity: str) -> None:
    """What reaches out of the workload; descriptors stay open over exec."""
    if oddity == "file":
        keep(os.open(OUTSIDE, os.O_RDWR | os.O_CREAT))
    if oddity == "socket":
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        peer.connect(SOCKET)
        keep(peer.detach())
    if oddity == "tcp":
        listener = socket.socket()
        listener.listen()
        keep(listener.detach())


def inside(oddity: str) -> None:
    """What is within the workload, but needs an option."""
    if oddity == "lock":
        locked = os.open("/data/locked.txt", os.O_RDWR | os.O_CREAT)
        fcntl.flock(locked, fcntl.LOCK_EX)
        keep(locked)
    if oddity in ("ghost", "link"):
        removed = os.open("/data/removed.bin", os.O_RDWR | os.O_CREAT)
        os.write(removed, os.urandom(2 * MIB))
        if oddity == "link":
            Path("/data/other.bin").unlink(missing_ok=True)
            os.link("/data/removed.bin", "/data/other.bin")
        os.unlink("/data/removed.bin")
        keep(removed)


def keep(descriptor: int) -> None:
    # High enough that nothing closes it by habit.
    os.dup2(descriptor, 50, inheritable=True)
    os.close(descriptor)


main()
