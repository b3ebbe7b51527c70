# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Telling a workload that runs from one that CRIU has restored but never let go, and finding that CRIU.

Before a restored task may run, it waits in CRIU's restorer code, which lies in anonymous executable memory, with every
signal blocked. If CRIU dies then, the task waits there for ever. /proc/PID/syscall (proc(5)) has the program counter of
a waiting task. Code that a program has made for itself may lie in such memory too, but does not block all signals.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Iterator

from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc

# The first two cannot be blocked; a parent that CRIU restores may have to hear of the third.
_MAY_BE_OPEN = sum(1 << number - 1 for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD))


def is_in_restorer(pid: int, proc: Proc) -> bool:
    """Whether this process waits in code that belongs to no file, and no signal can wake it."""
    if not _blocks_all_signals(pid, proc):
        return False
    fields = proc.syscall(pid).split()
    if len(fields) < 3:  # "running", or it cannot be read
        return False
    counter = int(fields[-1], 16)
    for line in proc.maps(pid).split("\n")[:-1]:
        place, permissions, _offset, _device, inode = line.split(None, 5)[:5]
        start, _minus, end = place.partition("-")
        if int(start, 16) <= counter < int(end, 16):
            named = len(line.split(None, 5)) > 5
            return "x" in permissions and inode == "0" and not named
    return False


def find_restoring(images: Path, proc: Proc) -> int | None:
    """The pid of a CRIU that restores from this folder, or of one that standby.py has started for it; None without.

    CRIU that was asked by messages calls itself `restore --rpc -D FOLDER` as soon as it was. What it restores is called
    the same until it has its own name; so whoever has a pid namespace of its own is not CRIU.
    """
    return next((pid for pid in _named_so(images, proc) if _is_in_our_pid_namespace(pid, proc)), None)


def find_half_restored(images: Path, proc: Proc) -> list[int]:
    """Tasks with a pid namespace of their own that CRIU had begun to restore from this folder."""
    return [pid for pid in _named_so(images, proc) if not _is_in_our_pid_namespace(pid, proc)]


def kill_half_restored(images: Path, proc: Proc) -> None:
    """Kill what `find_half_restored` gives. For who knows that its CRIU is dead: nobody can go on with them."""
    for pid in find_half_restored(images, proc):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _blocks_all_signals(pid: int, proc: Proc) -> bool:
    digits = proc.status(pid).get("SigBlk", "")
    if not digits:
        return False
    every = (1 << 4 * len(digits)) - 1
    return int(digits, 16) | _MAY_BE_OPEN == every


def _named_so(images: Path, proc: Proc) -> Iterator[int]:
    for stat in proc.stats():
        words = [word for part in proc.command(stat.pid) for word in part.split(" ")]
        if str(images) in words and ("restore" in words or "swrk" in words):
            yield stat.pid


def _is_in_our_pid_namespace(pid: int, proc: Proc) -> bool:
    return proc.namespace(pid, "pid") == proc.namespace("self", "pid")
