# SPDX-License-Identifier: GPL-3.0-or-later
"""A workload with a timer of every kind that Linux has, most of them in a state in which they are easily lost.

    timers.py FOLDER

When FOLDER/arm appears it sets its timers and writes FOLDER/armed. It keeps its state in FOLDER/state.json, children
keep theirs in FOLDER/alarm.json and FOLDER/shared.json. What is to be left unread is read when FOLDER/read appears.
timers_report.py judges what is in these files.
"""

# Only what is built in, and ctypes: the root of a workload has no more.
import ctypes
import os
import signal
import sys
import threading
import time
from json.encoder import JSONEncoder
from typing import Any

CLOCKS = {"realtime": time.CLOCK_REALTIME, "monotonic": time.CLOCK_MONOTONIC, "boottime": time.CLOCK_BOOTTIME}
ABSOLUTE, CANCEL_ON_SET = 1, 2
PERIOD = 0.02
ONCE = 3.0
FAR = 3600.0
TURN = 0.01
WORK = 50_000
SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD_ID = 0, 1, 4

libc = ctypes.CDLL(None, use_errno=True)
counts: "dict[str, int]" = {}
descriptors: "dict[str, int]" = {}
deadlines: "dict[str, tuple[int, float]]" = {}
fired_at: "dict[str, float]" = {}
silent: "dict[str, ctypes.c_void_p]" = {}


class SignalEvent(ctypes.Structure):
    """struct sigevent of <signal.h>."""

    _fields_ = [
        ("value", ctypes.c_void_p),
        ("number", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread", ctypes.c_int),
        ("padding", ctypes.c_int * 11),
    ]


def main() -> None:
    folder = sys.argv[1]
    while not os.path.exists(f"{folder}/arm"):
        time.sleep(TURN)
    begin_alarm(folder)
    begin_shared(folder)
    begin_descriptors()
    begin_signals()
    time.sleep(0.3)  # what is to expire has expired
    for name in [name for name in descriptors if name.startswith("spent")]:
        os.read(descriptors[name], 8)
    put(f"{folder}/armed", {})
    while True:
        turn(os.path.exists(f"{folder}/read"))
        put(f"{folder}/state.json", state())
        time.sleep(TURN)


# --- setting them -----------------------------------------------------------------------------------------------------


def begin_alarm(folder: str) -> None:
    """A child with an alarm(2), which another child's timers of the same signal are not in the way of."""
    if os.fork() == 0:
        counts.clear()
        deadlines["alarm"] = (time.CLOCK_MONOTONIC, time.monotonic() + ONCE)
        on_signal("alarm", signal.SIGALRM)
        signal.alarm(int(ONCE))
        follow(f"{folder}/alarm.json", lambda: None)


def begin_shared(folder: str) -> None:
    """A timer that two processes have; the child waits in read(2) for it, and comes late."""
    descriptor = os.timerfd_create(time.CLOCK_MONOTONIC)
    os.timerfd_settime(descriptor, initial=PERIOD, interval=PERIOD)
    if os.fork() == 0:
        counts["shared"] = 0

        def read() -> None:
            counts["shared"] += int.from_bytes(os.read(descriptor, 8), "little")
            time.sleep(0.2)

        follow(f"{folder}/shared.json", read)


def follow(path: str, work: Any) -> None:
    while True:
        work()
        put(path, state())
        time.sleep(TURN)


def begin_descriptors() -> None:
    for clock in CLOCKS:
        for flags, kind in ((0, "relative"), (ABSOLUTE, "absolute")):
            end = f"{kind} {clock}"
            timer(f"read {end}", clock, flags, PERIOD, PERIOD)
            timer(f"unread {end}", clock, flags, PERIOD, PERIOD)
            timer(f"once {end}", clock, flags, ONCE, 0)
            timer(f"far {end}", clock, flags, FAR, 0)
            timer(f"far periodic {end}", clock, flags, FAR, 1.0)
            timer(f"expired {end}", clock, flags, PERIOD, 0)
            timer(f"spent {end}", clock, flags, PERIOD, 0)
            timer(f"disarmed {end}", clock, flags, FAR, 0)
            os.timerfd_settime(descriptors[f"disarmed {end}"], flags=flags, initial=0)
    timer("far cancelled", "realtime", ABSOLUTE | CANCEL_ON_SET, FAR, 0)
    timer("unread cancelled", "realtime", ABSOLUTE | CANCEL_ON_SET, PERIOD, PERIOD)


def timer(name: str, clock: str, flags: int, value: float, interval: float) -> None:
    descriptors[name] = os.timerfd_create(CLOCKS[clock], flags=os.TFD_NONBLOCK)
    now = time.clock_gettime(CLOCKS[clock])
    start = now + value if flags & ABSOLUTE else value
    os.timerfd_settime(descriptors[name], flags=flags, initial=start, interval=interval)
    counts[name] = 0
    deadlines[name] = (CLOCKS[clock], now + value)


def begin_signals() -> None:
    for name, number, which in (
        ("itimer real", signal.SIGALRM, signal.ITIMER_REAL),
        ("itimer virtual", signal.SIGVTALRM, signal.ITIMER_VIRTUAL),
        ("itimer prof", signal.SIGPROF, signal.ITIMER_PROF),
    ):
        on_signal(name, number)
        signal.setitimer(which, PERIOD, PERIOD)
    real_time = int(signal.SIGRTMIN)
    processor = {"process": time.CLOCK_PROCESS_CPUTIME_ID, "thread": time.CLOCK_THREAD_CPUTIME_ID}
    for clock, identifier in {**CLOCKS, **processor}.items():
        for kind, value, interval in (
            ("read", PERIOD, PERIOD),
            ("once", ONCE / (30 if clock in processor else 1), 0.0),
        ):
            on_signal(f"{kind} posix {clock}", real_time)
            create(identifier, SIGEV_SIGNAL, real_time, value, interval)
            if clock in CLOCKS:  # the processor's time begins anew with a restored process
                deadlines[f"{kind} posix {clock}"] = (identifier, time.clock_gettime(identifier) + value)
            real_time += 1
    on_signal("read posix of a thread", real_time)
    create(time.CLOCK_MONOTONIC, SIGEV_THREAD_ID, real_time, PERIOD, PERIOD, another_thread())
    silent["far posix silent"] = create(time.CLOCK_MONOTONIC, SIGEV_NONE, 0, FAR, 0)
    deadlines["far posix silent"] = (time.CLOCK_MONOTONIC, time.monotonic() + FAR)
    counts["far posix silent"] = 0


def another_thread() -> int:
    began: list[int] = []

    def wait() -> None:
        began.append(threading.get_native_id())
        while True:
            time.sleep(1)

    threading.Thread(target=wait, daemon=True).start()
    while not began:
        time.sleep(TURN)
    return began[0]


def on_signal(name: str, number: int) -> None:
    counts[name] = 0

    def count(_number: int, _frame: object) -> None:
        tick(name, 1)

    signal.signal(number, count)


def create(clock: int, notify: int, number: int, value: float, interval: float, thread: int = 0) -> ctypes.c_void_p:
    event = SignalEvent(None, number, notify, thread)
    created = ctypes.c_void_p()
    times = (ctypes.c_long * 4)(*split(interval), *split(value))
    if libc.timer_create(clock, ctypes.byref(event), ctypes.byref(created)) or libc.timer_settime(
        created, 0, times, None
    ):
        raise OSError(ctypes.get_errno(), f"timer of clock {clock}")
    return created


def split(seconds: float) -> "tuple[int, int]":
    return int(seconds), int(seconds % 1 * 1e9)


# --- watching them ----------------------------------------------------------------------------------------------------


def turn(reads_all: bool) -> None:
    for _turn in range(WORK):  # for those that count the time of the processor, which a restored process begins anew
        pass
    for name, descriptor in descriptors.items():
        if reads_all or not name.startswith(("unread", "expired")):
            ticks = expirations(descriptor)
            if ticks:
                tick(name, ticks)


def expirations(descriptor: int) -> int:
    try:
        return int.from_bytes(os.read(descriptor, 8), "little")
    except BlockingIOError:
        return 0


def tick(name: str, ticks: int) -> None:
    counts[name] += ticks
    clock, _deadline = deadlines.get(name, (time.CLOCK_MONOTONIC, 0.0))
    fired_at[name] = time.clock_gettime(clock)


def state() -> "dict[str, Any]":
    return {
        name: {
            "count": count,
            "left": left(name),
            "until_deadline": until(name, time.clock_gettime(deadlines[name][0])) if name in deadlines else None,
            "fired_after_deadline": -until(name, fired_at[name]) if name in deadlines and name in fired_at else None,
            "flags": flags(name),
        }
        for name, count in counts.items()
    }


def until(name: str, now: float) -> float:
    return deadlines[name][1] - now


def left(name: str) -> "float | None":
    # Whoever asks for the time that is left has the kernel go on with a timer that was not read.
    if name in descriptors and name.startswith("far"):
        return os.timerfd_gettime(descriptors[name])[0]
    if name in silent:
        times = (ctypes.c_long * 4)()
        libc.timer_gettime(silent[name], times)
        return float(times[2]) + times[3] / 1e9
    return None


def flags(name: str) -> "int | None":
    if name not in descriptors:
        return None
    with open(f"/proc/self/fdinfo/{descriptors[name]}", encoding="ascii") as lines:
        return next(int(line.split()[-1], 8) for line in lines if line.startswith("settime flags"))


def put(path: str, value: "dict[str, Any]") -> None:
    with open(f"{path}.new", "w", encoding="ascii") as draft:
        draft.write(JSONEncoder().encode(value))
    os.rename(f"{path}.new", path)


if __name__ == "__main__":
    main()
