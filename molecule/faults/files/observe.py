# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has of each gauge, found without the collection, as JSON.

    observe.py < QUESTION

The question has `names`, the gauges, and `sizes`, for some of them a number of bytes. The answer has for the host
`ports` (that listen) and `tables` (of nftables), and for each name:

    processes   pid and state of each process that has the gauge's data mounted at /data
    log         what gauge_report.py says of the log, its `size` and `checksum`, and `checksum_at` the size asked for
    pid_file    the pid in its pid file
    unit        the state of the unit that a move makes for it
    steps       the last step in each journal, by side
    handoffs    the names of its handoffs
    left        what is left of its handoffs: programs, mounts, keys, images, what holds it
"""

from __future__ import annotations

import glob
import json
import re
import subprocess
import sys
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import gauge_report

DATA = ("/srv/data", "/mnt/fast/data", "/mnt/full*/data")
IMAGES = ("/run/fleet.criu/images", "/mnt/full*/images")
# Those of fault.sh go with heal.sh; CRIU leaves an empty one behind for each dump that ends in a kill.
FOREIGN = r"\b(fault_|CRIU-)"
LISTENING = "0A"  # TCP_LISTEN of <netinet/tcp.h>


def main() -> None:
    question = json.load(sys.stdin)
    gauges, programs, mounts, units = gauge_processes(), commands(), mountpoints(), unit_states()
    logs = logs_of(question["names"], gauges, question["sizes"])
    sys.stdout.write(
        json.dumps(
            {
                "ports": sorted(listening_ports()),
                "tables": [
                    line for line in output("nft", "list", "tables").splitlines() if not re.search(FOREIGN, line)
                ],
                "gauges": {
                    name: {
                        "processes": gauges.get(name, []),
                        "log": logs[name],
                        "pid_file": pid_file(name),
                        "unit": units.get(f"criu-{name}.service"),
                        "steps": steps(name),
                        "handoffs": sorted({path.name.rsplit(".", 2)[0] for path in journals(name)}),
                        "left": left(name, programs, mounts),
                    }
                    for name in question["names"]
                },
            }
        )
    )


def gauge_processes() -> dict[str, list[dict[str, Any]]]:
    """By the folder that is mounted at /data: it keeps its name through a move, and tells it from all others."""
    found: dict[str, list[dict[str, Any]]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            lines = (folder / "mountinfo").read_text().splitlines()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        roots = [fields[3] for fields in map(str.split, lines) if fields[4] == "/data"]
        if roots and state != "Z":
            name = roots[0].rpartition("/")[2].replace(".away", "")
            found.setdefault(name, []).append({"pid": int(folder.name), "state": state})
    return found


def commands() -> list[str]:
    texts = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            texts.append(f"{path.parent.name} {path.read_bytes().replace(bytes(1), b' ').decode('utf-8', 'replace')}")
        except OSError:
            continue
    return texts


def mountpoints() -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def unit_states() -> dict[str, str]:
    listed = output("systemctl", "list-units", "--all", "--plain", "--no-legend", "--type=service").splitlines()
    return {line.split()[0]: line.split()[2] for line in listed}


def logs_of(
    names: list[str], gauges: dict[str, list[dict[str, Any]]], sizes: dict[str, int]
) -> dict[str, dict[str, Any] | None]:
    # A hundred thousand lines each: on all processors.
    with ProcessPoolExecutor() as pool:
        processes = [gauges.get(name, []) for name in names]
        return dict(zip(names, pool.map(log_of, names, processes, [sizes.get(name) for name in names])))


def log_of(name: str, processes: list[dict[str, Any]], size: int | None) -> dict[str, Any] | None:
    paths = [f"/proc/{process['pid']}/root/data/gauge.log" for process in processes]
    paths += [path for folder in DATA for end in ("", ".away") for path in glob.glob(f"{folder}/{name}{end}/gauge.log")]
    for path in paths:
        try:
            content = Path(path).read_bytes()
        except OSError:
            continue
        whole = content[: content.rfind(b"\n") + 1]
        report = gauge_report.report(whole.decode("ascii", "replace").splitlines(keepends=True))
        at = None if size is None or size > len(whole) else zlib.crc32(whole[:size])
        return {**report, "path": path, "size": len(whole), "checksum": zlib.crc32(whole), "checksum_at": at}
    return None


def pid_file(name: str) -> int | None:
    path = Path(f"/run/workloads/{name}.pid")
    return int(path.read_text()) if path.exists() else None


def journals(name: str) -> list[Path]:
    return sorted(Path("/var/lib/fleet.criu/handoffs").glob(f"{name}-*.jsonl"))


def steps(name: str) -> dict[str, str]:
    return {
        path.name.rsplit(".", 2)[1]: json.loads(path.read_text().splitlines()[-1])["step"] for path in journals(name)
    }


def left(name: str, programs: list[str], mounts: list[str]) -> list[str]:
    files = [
        *glob.glob(f"/run/fleet.criu/handoff/{name}-*/identity"),
        *glob.glob(f"/run/fleet.criu/handoff/{name}-*/stages/hold"),
        *(path for folder in IMAGES for path in glob.glob(f"{folder}/{name}-*")),
    ]
    keys = output("grep", "-rlI", "PRIVATE KEY", "/run/fleet.criu").splitlines()
    return [
        *(f"program {text[:100]}" for text in programs if re.search(rf"/{name}-[0-9]", text) and "observe" not in text),
        *(f"mount {path}" for path in mounts if re.search(rf"/{name}(\b|-)", path)),
        *(f"file {path}" for path in files),
        *(f"key {path}" for path in keys if f"/{name}-" in path),
    ]


def listening_ports() -> set[int]:
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return {int(fields[1].rpartition(":")[2], 16) for fields in lines if fields[3] == LISTENING}


def tables() -> list[str]:
    return [line for line in output("nft", "list", "tables").splitlines() if not re.search(FOREIGN, line)]


def output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


if __name__ == "__main__":
    main()
