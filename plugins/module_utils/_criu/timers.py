# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Timers behind descriptors that CRIU restores otherwise than they were, set right before the workload may run.

CRIU 4.2 and earlier (criu/timerfd.c and criu/pie/restorer.c):

- A periodic timer with an expiration that nobody has read yet has no time until its next one, because the kernel goes
  on with it when it is read. CRIU sets it as it was told, to no time, which disarms it: whoever waits for it waits for
  ever (https://github.com/checkpoint-restore/criu/issues/3162).
- A timer that was set to an absolute time comes up to a second too early, because CRIU adds the seconds of the clock
  alone; and one that had expired or was disarmed expires once more.

All of it is known from the image set. Timers of other kinds (setitimer(2), alarm(2), timer_create(2)) CRIU restores.
"""

from __future__ import annotations

import ctypes
import datetime
import fcntl
import os
import platform
import struct
import time
from pathlib import Path
from typing import Iterator, Protocol

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_timers import (
    ImageTimer,
    descriptors_of,
    read_timers,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc

# From <sys/timerfd.h>, <time.h> and <asm/unistd.h>; the two numbers are the same for every architecture that has them.
_ABSOLUTE = 1
_REALTIME = 0
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438
_NANOSECONDS = 10**9
_TICKS = struct.Struct("=Q")
# TFD_IOC_SET_TICKS is _IOW('T', 0, u64), and these put the direction elsewhere (asm/ioctl.h).
_OTHER_DIRECTIONS = ("alpha", "mips", "parisc", "ppc", "sparc")
_SET_TICKS = 0x80085400 if platform.machine().startswith(_OTHER_DIRECTIONS) else 0x40085400


class Kernel(Protocol):
    """What is asked of the kernel. Everything raises OSError; times are in nanoseconds."""

    def descriptor(self, pid: int, number: int) -> int:
        """A descriptor of our own for the open file behind a descriptor of another process (pidfd_getfd(2))."""

    def remaining(self, descriptor: int) -> int:
        """The time until the timer expires next, 0 if it does not."""

    def set(self, descriptor: int, flags: int, value: int, interval: int, ticks: int) -> None:
        """Set the timer, and the number of its expirations that nobody has read."""

    def now(self, clock: int) -> int:
        """What the clock says."""


def set_right(images: Path, pid: int, dumped_at: float | None, proc: Proc, kernel: Kernel | None = None) -> list[str]:
    """Set the timers right of the workload that was restored from this image set, and whose init is `pid`.

    CRIU must wait in its post-restore stage. `dumped_at` is when the dump was complete, in seconds since the epoch, as
    far as it is known: with it an absolute time of day is the same after the restore, or a little later. Says what was
    done, a line for each timer. Raises CriuError if a timer would stand still.
    """
    wrong = {timer.id: timer for timer in read_timers(images) if _is_wrong(timer)}
    said = []
    for host_pid, number, identifier in _places(images, pid, set(wrong), proc):
        timer = wrong.pop(identifier, None)
        if timer is not None:  # else it was done: several descriptors may share it
            said.append(_mend(timer, host_pid, number, dumped_at, kernel or LinuxKernel()))
    if any(_stands_still(timer) for timer in wrong.values()):
        raise _stuck("A periodic timer that no process has, but a message in a Unix socket,", "nobody can reach it", {})
    return said


def seconds_of(created: str) -> float | None:
    """The time of an image set (`Manifest.created`) in seconds since the epoch; None if it cannot be read."""
    try:
        return datetime.datetime.fromisoformat(created).timestamp()
    except (ValueError, TypeError, ArithmeticError, OSError):  # it comes from elsewhere
        return None


def _is_wrong(timer: ImageTimer) -> bool:
    return _stands_still(timer) or bool(timer.flags & _ABSOLUTE)


def _stands_still(timer: ImageTimer) -> bool:
    return timer.interval > 0 and timer.value == 0


def _places(images: Path, init: int, wanted: set[int], proc: Proc) -> Iterator[tuple[int, int, int]]:
    # The pid here, the number of the descriptor and the id in the images of each timer that is wanted.
    if not wanted:
        return
    depth = len(_pids(init, proc)) - 1
    for pid in proc.tree(init):
        pids = _pids(pid, proc)
        if len(pids) > depth:  # else it is gone
            for number, identifier in descriptors_of(images, pids[depth]).items():
                if identifier in wanted:
                    yield pid, number, identifier


def _pids(pid: int, proc: Proc) -> list[int]:
    # From the outermost pid namespace to the innermost. A process without one of its own has one pid.
    return [int(word) for word in proc.status(pid).get("NSpid", str(pid)).split()]


def _mend(timer: ImageTimer, pid: int, number: int, dumped_at: float | None, kernel: Kernel) -> str:
    where = f"timer {number} of process {pid}"
    try:
        descriptor = kernel.descriptor(pid, number)
        try:
            if not timer.flags & _ABSOLUTE and kernel.remaining(descriptor):
                return f"{where} runs"  # a later CRIU, which does it itself
            kernel.set(descriptor, timer.flags, _value(timer, dumped_at, kernel), timer.interval, timer.ticks)
        finally:
            os.close(descriptor)
    except (OSError, ArithmeticError, ctypes.ArgumentError) as error:  # the numbers come from elsewhere
        why = error.strerror if isinstance(error, OSError) else str(error)
        if timer.flags & _ABSOLUTE:
            return f"{where} was left as CRIU has set it: {why}"  # it runs, though not to the second
        facts = {"pid": pid, "descriptor": number}
        raise _stuck(f"The periodic timer {number} of process {pid}", str(why), facts) from error
    return f"{where} was set right"


def _stuck(what: str, why: str, facts: dict[str, int]) -> CriuError:
    return CriuError(
        f"{what} would stand still: CRIU disarms one whose last expiration was not read yet, and it cannot be armed "
        f"again here: {why}.",
        "Try again: it does not happen while the workload has read all expirations. To arm such a timer takes Linux "
        "5.6 or later.",
        facts,
    )


def _value(timer: ImageTimer, dumped_at: float | None, kernel: Kernel) -> int:
    if timer.value == 0 and timer.interval == 0:
        return 0
    base = 0
    if timer.flags & _ABSOLUTE:
        is_known = timer.clock == _REALTIME and timer.value > 0 and dumped_at is not None
        base = int((dumped_at or 0) * _NANOSECONDS) if is_known else kernel.now(timer.clock)
    return base + (timer.value or timer.interval)


class LinuxKernel:
    """The kernel of this host. Python has none of it before 3.13."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def descriptor(self, pid: int, number: int) -> int:
        """See Kernel."""
        process = self._checked(self._libc.syscall(_PIDFD_OPEN, pid, 0))
        try:
            descriptor = self._checked(self._libc.syscall(_PIDFD_GETFD, process, number, 0))
        finally:
            os.close(process)
        return descriptor

    def remaining(self, descriptor: int) -> int:
        """See Kernel."""
        times = (ctypes.c_long * 4)()
        self._checked(self._libc.timerfd_gettime(descriptor, times))
        return times[2] * _NANOSECONDS + times[3]

    def set(self, descriptor: int, flags: int, value: int, interval: int, ticks: int) -> None:
        """See Kernel."""
        # struct itimerspec: the interval comes first.
        times = (ctypes.c_long * 4)(*divmod(interval, _NANOSECONDS), *divmod(value, _NANOSECONDS))
        self._checked(self._libc.timerfd_settime(descriptor, flags, times, None))
        if ticks:
            fcntl.ioctl(descriptor, _SET_TICKS, _TICKS.pack(ticks))

    def now(self, clock: int) -> int:
        """See Kernel."""
        return time.clock_gettime_ns(clock)

    def _checked(self, result: int) -> int:
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result
