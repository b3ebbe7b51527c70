# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge what became of the moves, of the victim's files and of the secret; gives rows of a table as JSON.

    judge_hostile.py < QUESTION

The question has

    said        what each round of moves said, the one of foreign pid files first
    moves       for each of these rounds: workload and target
    looks       what observe_hostile.py saw of both hosts before the first round and after each
    before, after   all that observe_hostile.py sees of both hosts, before the first and after the last
    secret      that of the workloads
    attacks     the names of those that were tried
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from typing import Any, Iterator

# Whose paths or pid file the other user may change: these may be refused, in time and with a reason.
EXPOSED = ("prey", "own")
USERS = {
    "keeper": ["backup"],
    "prey": ["root"],
    "own": ["mallory"],
    "redis": ["redis"],
    "nginx": ["root", "www-data", "www-data"],
}
MOST_WRITTEN = 40 << 20
# So often at least each attack must have done what it is for, on both hosts together.
ATTACKS = {
    "squat": {"made first": 1},
    "locks": {"tried": 500},
    "swap": {"swapped": 500},
    "pid_files": {"written": 3, "linked": 50},
    "flood": {"connected": 150, "most at a time": 20},
    "files": {"tried": 1000},
    "processes": {"tried": 1000},
    "sockets": {"sockets known": 1},
    "fill": {"blocks": 100},
}

Rows = Iterator[dict[str, str]]


def main() -> None:
    question = json.load(sys.stdin)
    rows = [*move_rows(question), *workload_rows(question), *host_rows(question), *attack_rows(question)]
    sys.stdout.write(json.dumps({"rows": rows}))


def row(what: str, problems: list[str], good: str) -> dict[str, str]:
    return {"what": what, "found": "; ".join(problems) or good, "ok": "NO" if problems else "yes"}


def move_rows(question: dict[str, Any]) -> Rows:
    moved = 0
    rounds = list(zip(question["moves"], question["said"], question["looks"], question["looks"][1:]))
    for number, (moves, said, earlier, later) in enumerate(rounds):
        for workload, target in moves.items():
            why = reason(workload, said)
            came, problems = judge_move(workload, target, why, earlier, later)
            moved += came
            good = "moved" if came else f"refused: {why}"
            yield row(f"{number}: {workload} to {target}", problems, good)
    asked = sum(map(len, question["moves"][1:]))
    yield row("moves", [] if asked >= 20 else [f"{asked} are too few"], f"{asked} asked for, {moved} done")


def judge_move(
    workload: str, target: str, why: str, earlier: dict[str, Any], later: dict[str, Any]
) -> tuple[bool, list[str]]:
    """Whether it was moved, and what is wrong."""
    if workload.startswith("foreign"):
        same = all(pids(later[host], name) == pids(earlier[host], name) for host in later for name in USERS)
        return False, [] if same and why else [f"it was not refused: {why}"]
    homes = [host for host, look in later.items() for _first in look["lives"][workload]]
    if len(homes) != 1:
        return False, [f"lives on {homes}: {why}"]
    if homes == [target]:
        return True, []
    if workload not in EXPOSED or not re.search("was not touched|cannot be trusted", why):
        return False, [f"was not moved: {why}"]
    if any(earlier[host]["freezes"][workload] != later[host]["freezes"][workload] for host in later):
        return False, [f"was not moved, and was frozen: {why}"]
    if pids(earlier[homes[0]], workload) != pids(later[homes[0]], workload):
        return False, ["was not moved, and is another process"]
    return False, []


def pids(look: dict[str, Any], workload: str) -> list[int]:
    return [first["pid"] for first in look["lives"][workload]]


def reason(workload: str, said: str) -> str:
    """What the play of a move ended with, if it has failed."""
    ends = re.findall(rf"^fatal: \[{workload}-to-[^\n]*\n(.*?)(?=^\S|\Z)", said, re.MULTILINE | re.DOTALL)
    text = re.sub(r"\s+", " ", ends[-1]) if ends else ""
    return text.partition("msg: ")[2].strip(" '\"")[:300]


def workload_rows(question: dict[str, Any]) -> Rows:
    for name, users in USERS.items():
        problems, good = [], ""
        places = [host for host in question["after"] for _first in question["after"][host]["lives"][name]]
        if len(places) != 1:
            problems.append(f"it lives on {places}")
        for host in places[:1]:
            after = question["after"][host]
            first = after["lives"][name][0]
            if first["state"] in "tT":
                problems.append("it is stopped")
            if after["processes"][name] != users:
                problems.append(f"its processes are those of {after['processes'][name]}")
            problems += after["data"][name]
            gap = after["gaps"][name]
            good = f"on {host}, of {', '.join(dict.fromkeys(users))}" + (f", frozen {gap:.2f} s at most" if gap else "")
        yield row(name, problems, good)


def host_rows(question: dict[str, Any]) -> Rows:
    for host, after in question["after"].items():
        before = question["before"][host]["victim"]
        changed = [path for path in {**before, **after["victim"]} if before.get(path) != after["victim"].get(path)]
        yield row(f"{host}: the victim's files", [f"{path} has changed" for path in changed], "as they were")
        yield row(f"{host}: the victim's files elsewhere", after["taken"], "none")
        yield row(f"{host}: left of the moves", after["left"], "nothing")
        written = after["written"]
        problems = [f"{written >> 20} MiB"] if written > MOST_WRITTEN else []
        yield row(f"{host}: written to the collection's folders", problems, f"{written / (1 << 20):.1f} MiB")


def attack_rows(question: dict[str, Any]) -> Rows:
    for attack in question["attacks"]:
        done: Counter[str] = Counter()
        problems = []
        for host, after in question["after"].items():
            report = after["mallory"][attack]
            done += Counter(report["done"])
            for place, what in sorted(report["found"].items()):
                shown = "THE SECRET" if question["secret"] in what else what.split("\n")[0][:60]
                problems.append(f"{host}: {place}: {shown}")
        if any(done[what] < least for what, least in ATTACKS[attack].items()):
            problems.append(f"too little was done: {dict(done)}")
        counts = ", ".join(f"{count} {what}" for what, count in done.items())
        yield row(f"mallory: {attack}", problems, f"{counts}; nothing found")


if __name__ == "__main__":
    main()
