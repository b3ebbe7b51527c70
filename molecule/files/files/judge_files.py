# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the files of rewriter.py, which has ended, with its journal of checksums: judge_files.py FOLDER FILE COUNT.

Prints JSON: how many files were compared, how often each was written at least, the names of those that are not as the
journal has them or have lost their time, and what rewriter.py itself found. It may have been ended between a line of
the journal and its write, so the write before counts as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

SIZE = 64
TIME = 1_700_000_000_123_456_789


def main() -> None:
    folder, single, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    sums: dict[int, list[str]] = {}
    for line in (folder / "journal").read_text().splitlines():
        number, digest = line.split()
        sums.setdefault(int(number), []).append(digest)
    paths = [folder / "files" / str(number % 10) / f"{number:05}" for number in range(count)] + [single]
    wrong = [str(path) for number, path in enumerate(paths) if not is_right(path, sums[number])]
    surplus = {path for path in folder.glob("files/*/*") if path.suffix != ".new"} - set(paths)
    lost = folder / "lost"
    result = {
        "compared": len(paths),
        "writes": min(map(len, sums.values())),
        "wrong": wrong,
        "surplus": sorted(map(str, surplus)),
        "lost": lost.read_text().splitlines() if lost.exists() else [],
    }
    sys.stdout.write(json.dumps(result) + "\n")


def is_right(path: Path, sums: list[str]) -> bool:
    status = os.stat(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return digest in sums[-2:] and status.st_size == SIZE and status.st_mtime_ns == TIME


main()
