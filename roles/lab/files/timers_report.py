# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge the timers of timers.py after a move: timers_report.py FOLDER

Lets it read what it had left unread, and waits until everything is as it must be. Prints what is not then, as JSON: a
list that should be empty. The exit status is 1 if it is not.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

PATIENCE = 15.0
APART = 0.5
# A timer of 20 ms that is looked at every 10 ms.
LEAST_TICKS = 5
# What a freeze may shift it by, on a machine that has much else to do.
LONGEST_FREEZE = 20.0


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "read").touch()
    until = time.monotonic() + PATIENCE
    while True:
        before = read(folder)
        time.sleep(APART)
        wrong = judge(before, read(folder))
        if not wrong or time.monotonic() > until:
            break
    sys.stdout.write(json.dumps(wrong, indent=1) + "\n")
    sys.exit(1 if wrong else 0)


def read(folder: Path) -> dict[str, Any]:
    return {
        name: entry
        for file in ("state.json", "alarm.json", "shared.json")
        for name, entry in json.loads((folder / file).read_text("ascii")).items()
    }


def judge(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    wrong = []
    for name, now in after.items():
        ticks = now["count"] - before[name]["count"]
        kind = name.split()[0]
        if kind in ("read", "unread", "shared", "itimer"):
            is_slow = name.endswith(("virtual", "prof", "process", "thread")) and not name.startswith("read posix of")
            if ticks < (1 if is_slow else LEAST_TICKS):
                wrong.append(f"{name} stands still: {ticks} ticks in {APART} s")
        elif kind in ("once", "expired", "alarm"):
            wrong += once(name, now)
        elif kind in ("spent", "disarmed"):
            wrong += [f"{name} expired once more"] if now["count"] else []
        else:
            wrong += far(name, now)
        if now["flags"] is not None and now["flags"] != (3 if "cancelled" in name else int("absolute" in name)):
            wrong.append(f"{name} has the flags {now['flags']}")
    return wrong


def once(name: str, now: dict[str, Any]) -> list[str]:
    if now["count"] != 1:
        return [f"{name} expired {now['count']} times"]
    late = now["fired_after_deadline"] or 0.0
    is_right = late >= -0.002 and (name.startswith("expired") or late < LONGEST_FREEZE)
    return [] if is_right else [f"{name} expired {late} s after its time"]


def far(name: str, now: dict[str, Any]) -> list[str]:
    shift = now["left"] - now["until_deadline"]
    # Never too early. A time of day is late by what passes until the dump is known to be complete.
    problems = [] if -0.01 < shift < LONGEST_FREEZE else [f"{name} is {shift} s off"]
    return problems + ([f"{name} expired"] if now["count"] else [])


if __name__ == "__main__":
    main()
