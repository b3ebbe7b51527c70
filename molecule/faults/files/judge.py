# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge each case by what was seen on both hosts; gives the rows of the table as JSON.

    judge.py < QUESTION

The question has the `batches`, `said` (what the play of each batch said), and `looks`: what observe.py saw on source
and target, four times: twice when all plays had ended, and twice after settle.yml. Each time the second look is a
moment later, and has the checksum of a log up to the size that the other host's log had in the first look.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, Iterator

HOSTS = ("source", "target")
STOPPED = "tT"

Look = dict[str, Any]


def main() -> None:
    question = json.load(sys.stdin)
    looks = question["looks"]
    rows = [
        judged(case, batch, question["said"][batch["name"]], looks)
        for batch in question["batches"]
        for case in batch["cases"]
    ]
    sys.stdout.write(json.dumps({"rows": rows, "hosts": list(hosts_problems(question["before"], looks[-1]))}) + "\n")


def judged(case: dict[str, Any], batch: dict[str, Any], said: str, looks: list[dict[str, Look]]) -> dict[str, Any]:
    name = case["name"]
    seen = [{host: look[host]["gauges"][name] for host in HOSTS} for look in looks]
    problems = [f"at the end: {problem}" for problem in end_problems(case, *seen[2:])]
    if case["held"]:
        problems += [f"held: {problem}" for problem in held_problems(*seen[:2])]
    else:
        problems += [f"before settle.yml: {problem}" for problem in end_problems(case, *seen[:2], may_be_open=True)]
    if "kills_controller" not in batch:
        problems += words_problems(case, said)
    live = [host for host in HOSTS if seen[3][host]["processes"]]
    log = seen[3][live[0]]["log"] if live else None
    return {
        "case": name,
        "step": ", ".join(f"{side} {moment}" for side, moments in case["hooks"].items() for moment in moments),
        "fault": ", ".join(faults(case)) + (", controller" if "kills_controller" in batch else ""),
        "expected": case["ends"] + (" when settled" if case["held"] else ""),
        "lives": " and ".join(live) or "nowhere",
        "freeze": f"{log['largest_gap_seconds']:.2f} s" if log else None,
        "ok": "yes" if not problems else "NO",
        "problems": problems,
    }


def faults(case: dict[str, Any]) -> Iterator[str]:
    for moments in case["hooks"].values():
        for names in moments.values():
            yield names if isinstance(names, str) else " + ".join(names)


def end_problems(
    case: dict[str, Any], earlier: dict[str, Look], later: dict[str, Look], *, may_be_open: bool = False
) -> Iterator[str]:
    home, other = HOSTS if case["ends"] == "back" else HOSTS[::-1]
    counts = {host: len(later[host]["processes"]) for host in HOSTS}
    if counts != {home: 1, other: 0}:
        yield f"{counts[home]} copies where it should live ({home}) and {counts[other]} where not"
        return
    process, log = later[home]["processes"][0], later[home]["log"]
    if process["state"] in STOPPED:
        yield f"it is stopped ({process['state']})"
    yield from log_problems(log)
    if log["last"] <= (earlier[home]["log"] or log)["last"]:
        yield f"its log does not grow ({log['path']}, {log['last']})"
    if later[home]["pid_file"] != process["pid"]:
        yield f"the pid file has {later[home]['pid_file']} and not {process['pid']}"
    if later[other]["pid_file"] is not None:
        yield f"there is a pid file at the {other}"
    yield from branch_problems(earlier[other]["log"], log)
    for host in HOSTS:
        yield from (f"{host}: {thing}" for thing in later[host]["left"])
    unit = later["target"]["unit"]
    if unit != ("active" if home == "target" else None):
        yield f"its unit at the target is {unit}"
    yield from step_problems(case, later, may_be_open)


def step_problems(case: dict[str, Any], later: dict[str, Look], may_be_open: bool) -> Iterator[str]:
    at_source, at_target = {"moved": ("done", "running"), "back": ("back", "cleared")}[case["ends"]]
    expected = {"source": {at_source}, "target": {at_target}}
    if may_be_open and "seal-journal" in faults(case):
        # It runs on although that could not be recorded: before `committed` it may.
        expected["source"].add("freezing")
    for host, wanted in expected.items():
        step = later[host]["steps"].get(host)
        if step not in wanted and not (step is None or (step == "armed" and host == "source")):
            yield f"the last step in the journal of the {host} is {step}"


def log_problems(log: Look) -> Iterator[str]:
    if log["first"] != 1:
        yield f"its log begins with {log['first']}"
    for fault in ("missing", "duplicates", "out_of_order", "malformed"):
        if log[fault]:
            yield f"its log has {log[fault]} {fault}"


def branch_problems(dead: Look | None, live: Look) -> Iterator[str]:
    # Two that ran at the same time, for however short a time, have written other times behind the same numbers.
    if dead is None or dead["size"] == 0:
        return
    if dead["checksum"] != live["checksum_at"]:
        yield f"the other host's log ({dead['path']}, up to {dead['last']}) is not the beginning of its own: two ran"


def held_problems(earlier: dict[str, Look], later: dict[str, Look]) -> Iterator[str]:
    states = [process["state"] for process in later["source"]["processes"]]
    if len(states) != 1 or states[0] not in STOPPED:
        yield f"at the source are processes in the states {states}, and not one that is stopped"
    elif later["source"]["log"]["last"] != earlier["source"]["log"]["last"]:
        yield "its log grows"
    if not any("/stages/hold" in thing for thing in later["source"]["left"]):
        yield "there is nothing that holds it"


def words_problems(case: dict[str, Any], said: str) -> Iterator[str]:
    # One line, however wide the terminal was taken to be.
    about = [block for block in re.split(r"\nTASK \[", said) if f"{case['name']}-to-" in block]
    text = re.sub(r"\s+", " ", " ".join(about))
    ends = {
        "back": rf"{case['name']} was not moved from mol1 to {case['target']}[.].*",
        "moved": rf"{case['name']}: mol1 -> {case['target']}, process",
    }["back" if case["held"] else case["ends"]]
    end = re.search(ends, text)
    if end is None:
        yield "the play does not say where it is"
    elif case["ends"] == "back" and not case["held"] and "runs on at mol1" not in end.group():
        yield "the play does not say that it runs on"
    if case["says"] and not re.search(case["says"], text):
        yield f"the play does not say {case['says']!r}"


def hosts_problems(before: dict[str, Look], after: dict[str, Look]) -> Iterator[str]:
    for host in HOSTS:
        for what in ("ports", "tables"):
            surplus = [thing for thing in after[host][what] if thing not in before[host][what]]
            if surplus:
                yield f"{host}: {what} that were not there before: {surplus}"


main()
