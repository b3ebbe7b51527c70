# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a workload is frozen while it is moved, beside what CRIU alone needs and what others would write.

usage: bench_freeze.py [MIB...] [--rounds ROUNDS] [--without-relay] [--keep]

On two test hosts of its own, a gauge with so many MiB of memory (0, 128, 512 and 1024) is frozen in four ways, which
take turns, so that whatever else the machine does is felt by all of them:
  floor    criu dump and criu restore on one host, images in memory: less is not possible with these two
  ours     playbooks/migrate.yml, from one host to the other
  relay    the same, the bytes go through the controller
  script   a careful administrator's shell script: rsync, criu dump, tar over ssh, rsync, criu restore
The freeze is what the gauge saw itself: the largest gap between two lines of its log, which begins anew with each move
and is read where the gauge is afterwards. A way that lost or doubled a line, or left no gauge that writes, ends the
run. The first round of each size is one of the floor alone and does not count: from there on, each way dumps a gauge
that was restored.

Shown are the medians of the rounds in seconds, their ratio to the floor, and play, the seconds that the whole playbook
took from its start to its end. The second table is what the freeze of ours is made of:
  floor's dump, restore   the two commands of the floor
  dump       from the start of CRIU's dump until its images are written, and have been sent but for the rest
  transfer   the rest, until the target was told that it has all
  check      until the target starts CRIU: checksums, its record
  restore    until all is restored, and the mounts were compared
  commit     until the target lets CRIU go on: messages and records on both sides
  resume     until CRIU has let the workload run and has ended
  edges      how much longer the gauge was frozen: it stops later than the dump starts, and runs on before CRIU ends
  files      what has changed in files since the live copy; it goes on beside the dump
Times of both hosts are compared with each other: they share the clock of this machine. The last line is one JSON
object. What the playbooks say is in .cache/bench_freeze/bench_freeze.log.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(__file__).with_suffix("")
CACHE = ROOT / ".cache" / "bench_freeze"
LOG = CACHE / "bench_freeze.log"
LAB = Path("/var/lib/fleet.criu/bench-freeze")
LAB_VARIABLES = {
    "lab_prefix": "bench",
    "lab_bridge": "fcbench0",
    "lab_subnet": "10.89.12.0/24",
    "lab_folder": str(LAB),
    "lab_base_folder": "/var/lib/fleet.criu/lab/base",
    "lab_count": "2",
}
SIZES = (0, 128, 512, 1024)
ROUNDS = 5
PID_FILE = "/run/workloads/gauge.pid"
ON_HOST = "/root/bench"
# Seconds of log before and after a move; the gauge writes every 5 ms.
MARGIN = 0.3
LIMIT = 600.0
PARTS = ("dump", "transfer", "check", "restore", "commit", "resume", "edges", "files")


@dataclass(frozen=True)
class Host:
    """A test host, and what the gauge has there."""

    name: str
    address: str
    root: str
    data: str

    @property
    def log(self) -> str:
        return f"{self.data}/gauge.log"


HOSTS = (
    Host("bench1", "10.89.12.11", "/srv/roots/gauge", "/srv/data/gauge"),
    Host("bench2", "10.89.12.12", "/mnt/fast/roots/gauge", "/mnt/fast/data/gauge"),
)

# What a way adds to the freeze itself; seconds by name.
Notes = Mapping[str, float]


def main(words: Sequence[str]) -> int:
    arguments = parse(words)
    CACHE.mkdir(parents=True, exist_ok=True)
    LOG.write_text("")
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    try:
        if LAB.exists():
            lab("absent")
        lab("present")
        for host in HOSTS:
            prepare(host)
        measure(arguments.sizes, arguments.rounds, not arguments.without_relay)
    finally:
        if arguments.keep:
            print(
                f"The test hosts are still there; the next run takes them down, and so does:\n  {lab_command('absent')}"
            )
        else:
            lab("absent")
    return 0


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench_freeze.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sizes", metavar="MIB", nargs="*", type=int, default=list(SIZES), help="memory of the gauge")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each way takes its turn")
    parser.add_argument("--without-relay", action="store_true", help="leave out the move through the controller")
    parser.add_argument("--keep", action="store_true", help="leave the test hosts there")
    arguments = parser.parse_args(words)
    if arguments.rounds < 1 or min(arguments.sizes) < 0:
        parser.error("at least one round is needed, and no size is below 0")
    return arguments


def measure(sizes: Sequence[int], rounds: int, with_relay: bool) -> None:
    """Prints the tables and the JSON object."""
    ways = {"floor": floor, "ours": ours, "relay": relay, "script": script}
    if not with_relay:
        del ways["relay"]
    results = {size: measure_size(size, rounds, ways) for size in sizes}
    print(f"\nfreeze in seconds, the median of {rounds}")
    show_table(
        ("MiB", *ways, *(f"{way}/floor" for way in ways if way != "floor"), "play"),
        [
            (size, *(found[way] for way in ways), *(ratio(found, way) for way in ways if way != "floor"), found["play"])
            for size, found in results.items()
        ],
    )
    print("\nwhat the freeze of ours is made of, in seconds, the median of each")
    show_table(
        ("MiB", "floor's dump", "restore", *PARTS),
        [(size, *(found[name] for name in ("floor dump", "floor restore", *PARTS))) for size, found in results.items()],
    )
    print(json.dumps({"freeze": {str(size): of_json(found, with_relay) for size, found in results.items()}}))


def measure_size(size: int, rounds: int, ways: Mapping[str, Callable[[Host, Host], Notes]]) -> dict[str, float]:
    """The median of each figure, by name."""
    start_gauge(size)
    here, there = HOSTS
    turn("floor", ways["floor"], here, there)
    figures: dict[str, list[float]] = {}
    names = list(ways)
    for number in range(rounds):
        # Each way also begins a round now and then.
        begin = number % len(names)
        for name in [*names[begin:], *names[:begin]]:
            found = turn(name, ways[name], here, there)
            print(f"{size:5} MiB  round {number + 1}  {name:6}  {here.name}  {found[name]:.3f} s", flush=True)
            for figure, value in found.items():
                figures.setdefault(figure, []).append(value)
            if name != "floor":
                here, there = there, here
    return {figure: statistics.median(values) for figure, values in figures.items()}


def turn(name: str, way: Callable[[Host, Host], Notes], here: Host, there: Host) -> dict[str, float]:
    """One freeze, as the gauge saw it, and what is known of it besides."""
    ask(here, f"truncate --size 0 {here.log}")
    time.sleep(MARGIN)
    notes = dict(way(here, there))
    freeze = freeze_seen(here if name == "floor" else there)
    if "frozen" in notes:
        notes["edges"] = freeze - notes.pop("frozen")
    return {name: freeze, **notes}


def freeze_seen(host: Host) -> float:
    """The largest gap in the gauge's log. Ends the run if lines are missing or the gauge does not write any more."""
    before = json.loads(ask(host, report_command(host)))
    time.sleep(MARGIN)
    after = json.loads(ask(host, report_command(host)))
    # A line that is being read may be cut, only the last one.
    faults = {name: after[name] for name in ("missing", "duplicates", "out_of_order") if after[name]}
    if faults or after["malformed"] > 1 or after["last"] <= before["last"]:
        raise SystemExit(f"The gauge did not arrive on {host.name} as it was: {before}, then {after}")
    return float(after["largest_gap_seconds"])


def report_command(host: Host) -> str:
    return f"kill -0 $(cat {PID_FILE}) && python3 {ON_HOST}/gauge_report.py {host.log}"


# The four ways


def floor(here: Host, _there: Host) -> Notes:
    dump, restore = ask(here, shlex.join([f"{ON_HOST}/floor.sh", here.root, here.data, PID_FILE])).split()
    return {"floor dump": int(dump) / 1e6, "floor restore": int(restore) / 1e6}


def ours(here: Host, there: Host) -> Notes:
    started = time.monotonic()
    migrate(there)
    seconds = time.monotonic() - started
    return {"play": seconds, **parts(here)}


def relay(_here: Host, there: Host) -> Notes:
    migrate(there, "--extra-vars", "migrate_transport=relay")
    return {}


def script(here: Host, there: Host) -> Notes:
    places = (here.root, here.data, there.root, there.data, PID_FILE)
    ask(here, shlex.join([f"{ON_HOST}/script.sh", there.address, *places]))
    return {}


def migrate(there: Host, *more: str) -> None:
    play("playbooks/migrate.yml", "--extra-vars", "workload=gauge", "--extra-vars", f"target={there.name}", *more)


def parts(source: Host) -> dict[str, float]:
    """Of the last move from this host: how long each part took, and `frozen`, all of them together."""
    result = json.loads(ask(source, "cat $(ls -td /run/fleet.criu/handoff/*.source | head -n 1)/result.json"))
    spans = {
        f"{side} {phase}": (span["started"], span["started"] + span["seconds"])
        for side, phases in result["timings"].items()
        for phase, span in phases.items()
    }
    marks = {
        "dump": spans["source dump"][1],
        "transfer": spans["source transfer"][1],
        "check": spans["target restore"][0],
        "restore": spans["target restore"][1],
        "commit": spans["target resume"][0],
        "resume": spans["target resume"][1],
    }
    began = before = spans["source frozen"][0]
    found = {}
    for name, mark in marks.items():
        found[name] = mark - before
        before = mark
    files = spans.get("source files", (0.0, 0.0))
    return {**found, "files": files[1] - files[0], "frozen": before - began}


# The test hosts


def lab(state: str) -> None:
    play(*lab_words(state))


def lab_command(state: str) -> str:
    return shlex.join(["ansible-playbook", *lab_words(state)])


def lab_words(state: str) -> list[str]:
    given = [f"{name}={value}" for name, value in {**LAB_VARIABLES, "lab_state": state}.items()]
    return ["playbooks/lab.yml", *(word for assignment in given for word in ("--extra-vars", assignment))]


def prepare(host: Host) -> None:
    """Bring what is run there, and let the hosts trust each other, which only the script needs."""
    ask(host, f"mkdir -p {ON_HOST} && install -d -m 0700 /root/.ssh")
    for path in (TOOLS / "floor.sh", TOOLS / "script.sh", ROOT / "roles" / "lab" / "files" / "gauge_report.py"):
        ask(host, f"cat >{ON_HOST}/{path.name} && chmod 0755 {ON_HOST}/{path.name}", path.read_text())
    ask(host, "umask 0077 && cat >/root/.ssh/id_ed25519", (LAB / "id_ed25519").read_text())
    ask(host, "cat >/root/.ssh/known_hosts", (LAB / "known_hosts").read_text())


def start_gauge(size: int) -> None:
    for host in HOSTS:
        ask(host, f"test ! -e {PID_FILE} || kill -KILL $(cat {PID_FILE}); rm -f {PID_FILE} {host.log}")
    time.sleep(MARGIN)
    play(str(TOOLS / "start.yml"), "--extra-vars", f"bench_mib={size}")
    # The gauge makes its memory before its first line.
    until = time.monotonic() + LIMIT
    while not ask(HOSTS[0], f"head -n 1 {HOSTS[0].log} 2>/dev/null || true"):
        if time.monotonic() > until:
            raise SystemExit("The gauge does not write.")
        time.sleep(MARGIN)


def play(*words: str) -> None:
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "LC_ALL": "C.UTF-8",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    inventories = [] if words[0] == "playbooks/lab.yml" else [LAB / "inventory.yml", TOOLS / "inventory.yml"]
    options = [word for path in inventories for word in ("--inventory", str(path))]
    with LOG.open("a") as log:
        command = ["ansible-playbook", *options, *words]
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False, timeout=LIMIT)
    if done.returncode != 0:
        end = "\n".join(LOG.read_text().splitlines()[-30:])
        raise SystemExit(f"{end}\n{shlex.join(command)} failed; all it said is in {LOG}")


def ask(host: Host, command: str, given: str = "") -> str:
    """What a shell command prints on a host."""
    options = {
        "BatchMode": "yes",
        "ControlMaster": "auto",
        "ControlPath": f"{LAB}/%h.ssh",
        "ControlPersist": "60",
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": f"{LAB}/known_hosts",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    ssh = ["ssh", *words, "-i", str(LAB / "id_ed25519"), f"root@{host.address}", command]
    done = subprocess.run(ssh, input=given, capture_output=True, text=True, check=False, timeout=LIMIT)
    if done.returncode != 0:
        raise SystemExit(f"{host.name}: {command} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done.stdout


# What is shown


def show_table(head: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
    widths = [max(8, len(name)) for name in head]
    print("  ".join(f"{name:>{width}}" for name, width in zip(head, widths)))
    for row in rows:
        texts = [str(row[0]), *(f"{value:.3f}" for value in row[1:])]
        print("  ".join(f"{text:>{width}}" for text, width in zip(texts, widths)), flush=True)


def ratio(found: Mapping[str, float], way: str) -> float:
    return found[way] / found["floor"]


def of_json(found: Mapping[str, float], with_relay: bool) -> dict[str, Any]:
    return {
        "floor_s": round(found["floor"], 6),
        "ours_s": round(found["ours"], 6),
        "relay_s": round(found["relay"], 6) if with_relay else None,
        "script_s": round(found["script"], 6),
        "ours_ratio": round(ratio(found, "ours"), 4),
        "play_s": round(found["play"], 3),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
