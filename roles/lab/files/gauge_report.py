# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a log of freeze_gauge.py tells, as JSON.

    gauge_report.py [LOG]

Without LOG it reads standard input. `largest_gap_seconds` is the longest freeze, `largest_gap_after` the counter
written right before it. A whole log has no `missing`, `duplicates`, `out_of_order` or `malformed`.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from typing import Iterable

LINE = re.compile(r"(\d+) (\d+)\n")


def main() -> None:
    if len(sys.argv) > 1:
        with open(sys.argv[1], encoding="ascii", errors="replace") as log:
            result = report(log)
    else:
        result = report(sys.stdin)
    sys.stdout.write(json.dumps(result) + "\n")


def report(lines: Iterable[str]) -> dict[str, int | float | None]:
    matches = [LINE.fullmatch(line) for line in lines]
    entries = [(int(match[1]), int(match[2])) for match in matches if match]
    counters = [counter for counter, _time in entries]
    neighbours = list(zip(entries, entries[1:]))
    gaps = [(later[1] - earlier[1], earlier[0]) for earlier, later in neighbours]
    largest_gap, largest_gap_after = max(gaps, default=(None, None))
    different = len(set(counters))
    return {
        "count": len(entries),
        "first": min(counters, default=None),
        "last": max(counters, default=None),
        "missing": max(counters) - min(counters) + 1 - different if counters else 0,
        "duplicates": len(entries) - different,
        "out_of_order": sum(later[0] < earlier[0] for earlier, later in neighbours),
        "malformed": len(matches) - len(entries),
        "largest_gap_seconds": seconds(largest_gap),
        "largest_gap_after": largest_gap_after,
        "median_gap_seconds": seconds(statistics.median(gap for gap, _after in gaps)) if gaps else None,
    }


def seconds(nanoseconds: float | None) -> float | None:
    return None if nanoseconds is None else round(nanoseconds / 1e9, 6)


if __name__ == "__main__":
    main()
