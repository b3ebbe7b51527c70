# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a mountinfo file, judge it against itself, and print all about every mount as JSON: what bench-mounts times.

usage: judge_mounts.py FILE

It is to mounts what findmnt(8) is, and imports as little.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

sys.path.insert(0, f"{__file__.rpartition('/tests/')[0]}/.cache/collections")
MOUNTS = "ansible_collections.fleet.criu.plugins.module_utils._mounts"
TABLE, VERDICT, SOURCES = (import_module(f"{MOUNTS}.{name}") for name in ("table", "verdict", "sources"))


def main(path: str) -> None:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        mounts = [as_dict(*judged) for judged in judge(parse(file.read()))]
    # Much faster than json.dump, which hands on each piece by itself.
    sys.stdout.write(json.dumps(mounts))


def parse(text: str) -> list[Any]:
    rows: list[Any] = TABLE.parse(text)
    return rows


def judge(rows: list[Any]) -> list[tuple[Any, Any, Any]]:
    """Each row with its verdict and, unless it is internal, the paths on the host where its root can be seen."""
    host = SOURCES.HostMounts(rows)
    return [
        (row, verdict, () if verdict.kind == VERDICT.INTERNAL else host.candidates(row))
        for row, verdict in zip(rows, VERDICT.classify(rows, rows))
    ]


def as_dict(row: Any, verdict: Any, paths: Any) -> dict[str, Any]:
    return {
        **row.as_dict(),
        "kind": verdict.kind,
        "reason": verdict.reason,
        "host_paths": [path.as_dict() for path in paths],
    }


if __name__ == "__main__":
    main(sys.argv[1])
