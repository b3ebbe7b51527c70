# SPDX-License-Identifier: GPL-3.0-or-later
"""What root sees on a host, without the collection, as JSON.

observe_hostile.py lives
observe_hostile.py all HOME VICTIM < SECRET

lives       for each workload: pid, user and state of its first process
freezes     how often each was frozen here, by the journals
processes   for each workload the users of all its processes
victim      of each path below the folder VICTIM: mode, owner, group, SHA-256
taken       files below HOME in which something of VICTIM's is
data        for each workload what is wrong with its data
gaps        the longest freeze of each as it saw it, in seconds
left        what is left of moves: images, agents, CRIU
written     bytes below the collection's folders
mallory     what each attack did and found
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import pwd
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

sys.path.insert(0, str(Path(__file__).parent))

import gauge_report

# By the command of its first process.
COMMANDS = {
    "keeper": r"keeper[.]py /data keeper",
    "prey": r"keeper[.]py /data prey",
    "own": r"keeper[.]py /data own",
    "redis": r"^/usr/bin/redis-server",
    "nginx": r"^nginx: master",
}
WORKERS = {**COMMANDS, "nginx": r"^nginx: (master|worker)"}
VICTIMS_MARK = b"the victim's own"
OURS = ("/var/lib/fleet.criu", "/run/fleet.criu", "/var/log/fleet.criu")
IMAGES = ("/dev/shm/fleet.criu", "/run/fleet.criu/images", "/var/lib/fleet.criu/images")


def main() -> None:
    found = {name: list(processes(pattern)) for name, pattern in COMMANDS.items()}
    result: dict[str, Any] = {"lives": found, "freezes": {name: freezes(name) for name in COMMANDS}}
    if sys.argv[1] == "all":
        pids = {name: first[0]["pid"] for name, first in found.items() if first}
        home, victim, secret = Path(sys.argv[2]), Path(sys.argv[3]), sys.stdin.read()
        result |= {
            "processes": {
                name: sorted(process["user"] for process in processes(pattern)) for name, pattern in WORKERS.items()
            },
            "victim": contents(victim),
            "taken": list(taken(home)),
            "data": {name: list(data_problems(name, pid, secret)) for name, pid in pids.items()},
            "gaps": {name: log_of(pid)["largest_gap_seconds"] for name, pid in pids.items()},
            "left": list(left()),
            "written": sum(path.lstat().st_blocks * 512 for folder in OURS for path in Path(folder).rglob("*")),
            "mallory": {path.stem: json.loads(path.read_text()) for path in (home / "report").glob("*.json")},
        }
    sys.stdout.write(json.dumps(result))


def processes(pattern: str) -> Iterator[dict[str, Any]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            lines = (folder / "status").read_text().split("\n")
            status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        except OSError:
            continue
        if re.search(pattern, command) and len(status["NSpid"].split()) > 1 and status["State"][0] != "Z":
            user = pwd.getpwuid(int(status["Uid"].split()[0])).pw_name
            yield {"pid": int(folder.name), "user": user, "state": status["State"][0]}


def freezes(name: str) -> int:
    journals = Path("/var/lib/fleet.criu/handoffs").glob(f"{name}-*.source.jsonl")
    return sum(journal.read_text().count('"freezing"') for journal in journals)


def contents(folder: Path) -> dict[str, list[str]]:
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        state = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(state.st_mode) else b""
        digest = hashlib.sha256(content).hexdigest()[:16]
        found[str(path)] = [oct(state.st_mode), str(state.st_uid), str(state.st_gid), digest]
    return found


def taken(home: Path) -> Iterator[str]:
    for folder, _folders, files in os.walk(home):
        for path in (Path(folder, name) for name in files):
            if path.is_file() and not path.is_symlink() and VICTIMS_MARK in path.read_bytes():
                yield str(path)


def data_problems(name: str, pid: int, secret: str) -> Iterator[str]:
    data = Path(f"/proc/{pid}/root/data")
    if name == "nginx":
        yield from nginx_problems(data)
    elif name == "redis":
        if redis(data, "GET", "secret") != secret:
            yield "redis has another secret"
    else:
        expected = secret if name != "own" else "nothing to hide\n"
        for file in ("secret", "told"):
            if (data / file).read_text() != expected:
                yield f"{file} has changed"
            if stat.S_IMODE((data / file).stat().st_mode) != 0o600:
                yield f"{file} has another mode"
        log = log_of(pid)
        if log["first"] != 1:
            yield f"its log begins with {log['first']}"
        for fault in ("missing", "duplicates", "out_of_order", "malformed"):
            if log[fault]:
                yield f"its log has {log[fault]} {fault}"


def nginx_problems(data: Path) -> Iterator[str]:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(5)
    # The path of a socket has little room.
    os.chdir(data)
    connection.sock.connect("nginx.sock")
    connection.request("GET", "/")
    answer = connection.getresponse().read().decode()
    if not answer.startswith("worker "):
        yield f"nginx answers {answer!r}"
    if not Path("access.log").read_text().splitlines()[-1:]:
        yield "nginx does not write its log"


def redis(data: Path, *words: str) -> str:
    argv = ["redis-cli", "-e", "-s", "redis.sock", *words]
    return subprocess.run(argv, cwd=data, capture_output=True, text=True, check=True).stdout.rstrip("\n")


def log_of(pid: int) -> dict[str, Any]:
    path = Path(f"/proc/{pid}/root/data/gauge.log")
    return gauge_report.report(path.read_text().splitlines(keepends=True) if path.exists() else [])


def left() -> Iterator[str]:
    for folder in IMAGES:
        for path in Path(folder).glob("*"):
            if path.owner() == "root":
                yield f"{path}"
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if re.search(r"agent[.]zip|^criu ", command):
            yield f"process {process.parent.name}: {command[:80]}"


if __name__ == "__main__":
    main()
