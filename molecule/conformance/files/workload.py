# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process in a mount namespace, a pid namespace and a root of its own, with the mounts that a case asks for."""

from __future__ import annotations

import ctypes
import os
import platform
import select
import signal
import subprocess
from pathlib import Path
from typing import Any, Mapping

PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[platform.machine()]
MNT_DETACH = 2
MS_REC = 16384
MS_SLAVE = 1 << 19
SLEEP = "/bin/sleep"
PROPAGATION = ("private", "slave", "unchanged")


def run_commands(case: Mapping[str, Any], which: str, folder: Path, further: Mapping[str, str] | None = None) -> None:
    """Run some commands of a case, with $H as its folder, $R as its root, and further variables."""
    for command in case.get(which, ()):
        done = subprocess.run(
            ["sh", "-c", command],
            env={**environment(folder), **(further or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{case['name']}: {command}: {done.stderr.strip()} {done.stdout.strip()}")


def environment(folder: Path) -> dict[str, str]:
    """What the commands of a case find in their environment."""
    return {**os.environ, "H": str(folder), "R": str(folder / "root"), "LC_ALL": "C"}


def start(case: Mapping[str, Any], folder: Path) -> int:
    """Start the workload of a case and give its pid."""
    read_end, write_end = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.unshare(os.CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            become_workload(case, folder, write_end)
        os.write(write_end, f"{pid}\n".encode())
        os._exit(0)
    os.close(write_end)
    os.waitpid(middle, 0)
    with os.fdopen(read_end) as stream:
        first, _newline, problem = stream.read().partition("\n")
    if problem:
        raise RuntimeError(problem)
    return int(first)


def unmount_below(folder: Path) -> None:
    """Take away what the commands `host` of a case have mounted."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in reversed([place for place in mounted if place.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", place], check=True)


def kill(pid: int) -> None:
    """End a workload and wait until it is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        # A pidfd becomes readable when its process has ended (pidfd_open(2)).
        select.select([descriptor], [], [])
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def become_workload(case: Mapping[str, Any], folder: Path, problems: int) -> None:
    try:
        os.setsid()
        os.unshare(os.CLONE_NEWNS)
        propagation = case.get("propagation", "private")
        if propagation != "unchanged":
            subprocess.run(["mount", f"--make-r{propagation}", "/"], check=True)
        if case.get("bind_root", True):
            subprocess.run(["mount", "--bind", folder / "root", folder / "root"], check=True)
        if case.get("bind_root", True) and propagation == "unchanged":
            subprocess.run(["mount", "--make-private", folder / "root"], check=True)
        run_commands(case, "inside", folder)
        # pivot_root(2) refuses a shared mount above the new root.
        subprocess.run(["mount", "--make-private", "/"], check=True)
        pivot_root(str(folder / "root"))
        if "nested" in case and os.fork() == 0:
            os.unshare(os.CLONE_NEWNS)
            run_commands(case, "nested", Path("/"))
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.set_inheritable(problems, False)
        os.closerange(3, problems)
        os.closerange(problems + 1, 1024)
        os.execv(SLEEP, [SLEEP, "1000000"])
    except BaseException as error:
        os.write(problems, f"\n{error}".encode())
        os._exit(1)


def pivot_root(root: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    old_root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir(root)
    check(libc.syscall(PIVOT_ROOT, b".", b"."))
    os.fchdir(old_root)
    # As a slave, so that unmounting does not reach the host's own mounts.
    check(libc.mount(None, b".", None, MS_REC | MS_SLAVE, None))
    check(libc.umount2(b".", MNT_DETACH))
    os.chdir("/")
    os.close(old_root)


def check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
