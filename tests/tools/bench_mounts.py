# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes to read and judge large mount tables, beside findmnt(8) on the same files.

usage: bench_mounts.py [ROWS...]

The tables are those of a container host: its own file systems, then for each container an overlay, binds of volumes, a
tmpfs and what is nested in them. Each table is judged against itself, as for an agent that sees all mounts of its host;
nearly every external mount is then looked up on the host, which is the most work that a table of this length can be.

What is timed, in seconds, the median of the runs:
  parse, verdict   inside one Python process: the text to rows; a verdict for each row and the host's paths of each
                   mount that is external
  ours             a whole process (judge_mounts.py): Python's start, parse, verdict, all fields as JSON to a pipe
  start            the part of it that is Python's start and imports: the same process with an empty table
  findmnt          a whole process: findmnt --json --tab-file FILE, to a pipe; it prints four columns, as a tree
  list             the same with --list: no tree
  ratio            ours / findmnt: less than 1 means that ours is faster
findmnt's tree takes time that grows with the square of the rows; a run of five minutes is stopped and counts as that.
The last line is one JSON object.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from judge_mounts import judge, parse

SIZES = (100, 1_000, 10_000, 100_000)
# It needs the standard library alone.
OURS = (sys.executable, "-I", "-S", str(Path(__file__).with_name("judge_mounts.py")))
RUNS = 7
# One run is enough of what takes longer than this, in seconds.
SLOW = 20.0
# What takes longer is stopped, and counts as if it had taken as long as this, in seconds: findmnt's tree of 100,000.
LIMIT = 300.0
COLUMNS = ("rows", "parse", "verdict", "us/row", "ours", "start", "findmnt", "list", "ratio", "ratio to list")


def main(arguments: list[str]) -> int:
    sizes = [int(argument) for argument in arguments] or list(SIZES)
    print("  ".join(f"{name:>9}" for name in COLUMNS))
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            path = Path(folder) / f"mountinfo.{size}"
            path.write_text("".join(line + "\n" for line in container_host(size)))
            results[size] = measure(path, size)
            print("  ".join(shown(results[size][name]) for name in COLUMNS), flush=True)
    growth = results[sizes[-1]]["us/row"] / results[sizes[0]]["us/row"]
    print(f"time per row (parse and verdict) at {sizes[-1]} rows against {sizes[0]}: {growth:.2f} times")
    print(json.dumps({"rows": {str(size): of_json(result) for size, result in results.items()}, "growth": growth}))
    return 0


def measure(path: Path, size: int) -> dict[str, Any]:
    text = path.read_text()
    rows = parse(text)
    if len(rows) != size:
        raise SystemExit(f"{len(rows)} rows were read, not {size}")
    empty = path.with_name("empty")
    empty.touch()
    found = medians(
        {
            "parse": lambda: parse(text),
            "verdict": lambda: judge(rows),
            "ours": lambda: process(*OURS, str(path)),
            "start": lambda: process(*OURS, str(empty)),
            "findmnt": lambda: process("findmnt", "--json", "--tab-file", str(path)),
            "list": lambda: process("findmnt", "--json", "--list", "--tab-file", str(path)),
        }
    )
    return {
        "rows": size,
        "us/row": (found["parse"] + found["verdict"]) / size * 1e6,
        **found,
        "ratio": found["ours"] / found["findmnt"],
        "ratio to list": found["ours"] / found["list"],
    }


def of_json(result: dict[str, Any]) -> dict[str, float]:
    return {
        "ours_s": round(result["ours"], 6),
        "findmnt_s": round(result["findmnt"], 6),
        "ratio": round(result["ratio"], 4),
        "in_process_s": round(result["parse"] + result["verdict"], 6),
        "findmnt_list_s": round(result["list"], 6),
        "list_ratio": round(result["ratio to list"], 4),
    }


def shown(value: float) -> str:
    return f"{value:9}" if isinstance(value, int) else f"{value:9.4g}"


def medians(timed: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """By turns, so that whatever else the machine does is felt by all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _run in range(RUNS):
        for name, function in timed.items():
            if max(seconds[name], default=0) < SLOW:
                start = time.perf_counter()
                function()
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def process(*command: str) -> None:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        answer = subprocess.run(command, stdout=subprocess.PIPE, check=False, env=environment, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        print(f"stopped after {LIMIT:.0f} s: {' '.join(command)}", file=sys.stderr)
        return
    if answer.returncode or not answer.stdout:
        raise SystemExit(f"{' '.join(command)} failed with status {answer.returncode}")


# Tables


def container_host(count: int) -> Iterator[str]:
    """`count` lines, always the same ones."""
    return itertools.islice(_lines(), count)


def _lines() -> Iterator[str]:
    yield "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro"
    yield "22 21 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:2 - proc proc rw"
    yield "23 21 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:3 - sysfs sysfs rw"
    yield "24 21 0:5 / /dev rw,nosuid,relatime shared:4 - devtmpfs udev rw,size=8123456k,nr_inodes=2030864,mode=755"
    yield "25 24 0:23 / /dev/pts rw,nosuid,noexec,relatime shared:5 - devpts devpts rw,gid=5,mode=620,ptmxmode=000"
    yield "26 21 0:24 / /run rw,nosuid,nodev,noexec,relatime shared:6 - tmpfs tmpfs rw,size=1629876k,mode=755"
    yield "27 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:7 - cgroup2 cgroup2 rw,nsdelegate"
    yield "28 21 8:16 / /srv rw,relatime shared:8 - xfs /dev/sdb rw,attr2,inode64,logbufs=8,noquota"
    yield r"29 21 0:40 / /mnt/team\040files rw,relatime shared:9 - nfs4 storage:/export/team\040files rw,vers=4.2"
    container = 0
    while True:
        yield from _container(container)
        container += 1


def _container(number: int) -> Iterator[str]:
    """Eight mounts; the last three are below the others, and the last one is of a folder that three share."""
    first, name, device = 100 + 8 * number, f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" * 4, 100 + 2 * number
    layers = "/var/lib/containers/overlay"
    merged, volume = f"{layers}/{name}/merged", f"/var/lib/volumes/{name}"
    yield (
        f"{first} 21 0:{device} / {merged} rw,relatime shared:{first} - overlay overlay "
        f"rw,lowerdir={layers}/l/{name[:26].upper()}:{layers}/l/BASE,upperdir={layers}/{name}/diff,"
        f"workdir={layers}/{name}/work"
    )
    yield f"{first + 1} 21 8:16 /volumes/{name}/data {volume}/data rw,relatime shared:8 - xfs /dev/sdb rw,attr2,inode64"
    yield f"{first + 2} 21 8:1 /etc/app/{number}.conf {volume}/app.conf ro,relatime shared:1 - ext4 /dev/sda1 rw"
    yield (
        f"{first + 3} 26 0:{device + 1} / /run/secrets/{name} rw,relatime shared:{first + 3} - tmpfs tmpfs "
        "rw,size=65536k,inode64"
    )
    yield f"{first + 4} 26 0:4 net:[{4026532000 + number}] /run/netns/{number} rw shared:{first + 4} - nsfs nsfs rw"
    yield f"{first + 5} {first} 0:21 / {merged}/proc rw,nosuid,nodev,noexec,relatime master:2 - proc proc rw"
    yield (
        f"{first + 6} {first} 8:16 /volumes/{name}/data {merged}/data rw,relatime master:8 - xfs /dev/sdb "
        "rw,attr2,inode64"
    )
    yield (
        f"{first + 7} {first + 6} 0:40 /{number // 3} {merged}/data/team rw,relatime master:9 - nfs4 "
        r"storage:/export/team\040files rw,vers=4.2"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
