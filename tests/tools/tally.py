# SPDX-License-Identifier: GPL-3.0-or-later
"""What passed, failed and was skipped, read from the reports that the test programs write."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree


@dataclass(frozen=True)
class Tally:
    passed: int = 0
    skipped: int = 0
    # What failed, each with what it said: one line.
    failures: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        return len(self.failures)

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.passed + other.passed, self.skipped + other.skipped, self.failures + other.failures)

    def __str__(self) -> str:
        text = f"{self.passed} passed, {self.failed} failed"
        return f"{text}, {self.skipped} skipped" if self.skipped else text

    def with_status(self, status: int, program: str) -> Tally:
        """A program that failed without a test to blame counts as one failure."""
        return self + failed(f"{program} ended with status {status}") if status and not self.failed else self

    def within(self, stage: str) -> Tally:
        """The same, with the stage in front of each failure."""
        return replace(self, failures=tuple(f"{stage}: {failure}" for failure in self.failures))


# As much of what a failure said as a reader of the last lines wants to see.
LONGEST = 600
PASSED = Tally(passed=1)
SKIPPED = Tally(skipped=1)
NOTHING = Tally()


def failed(what: str) -> Tally:
    """One failure, and what it said."""
    text = " ".join(what.split())
    return Tally(failures=(text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ...",))


def of_junit(reports: Iterable[Path]) -> Tally:
    """Count the test cases in JUnit reports of pytest and ansible-test."""
    cases = (case for report in reports for case in ElementTree.parse(report).iter("testcase"))
    return sum((of_case(case) for case in cases), NOTHING)


def of_case(case: ElementTree.Element) -> Tally:
    for kind in ("failure", "error"):
        found = case.find(kind)
        if found is not None:
            said = found.get("message") or found.text or ""
            return failed(f"{case.get('classname', '')} {case.get('name', '')}: {said}")
    skipped = case.find("skipped")
    if skipped is None:
        return PASSED
    # ansible-test lists a check as skipped too when the collection holds nothing that the check is about.
    return NOTHING if "No tests applicable." in (skipped.text or "") else SKIPPED


# A line of molecule's recap: "migrate  : actions=2  successful=1  disabled=0  skipped=0  missing=0  failed=1".
RECAP = re.compile(
    r"^(?P<scenario>\S+)\s*: actions=\d+ +successful=(?P<successful>\d+) .*failed=(?P<failed>\d+)", re.MULTILINE
)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# A task, and what Ansible says of it; deeper in are those of the plays that a scenario runs itself.
TASK = re.compile(r"^TASK \[(?P<name>.*)\] \*", re.MULTILINE)
SAID = re.compile(r"^\[ERROR\]: (?P<message>.*)", re.MULTILINE)


def of_molecule(output: str) -> dict[str, Tally]:
    """The verdict on each scenario that a molecule run got to.

    Creating and destroying shared test hosts are lines of their own, of the scenario ``default``.
    """
    text = COLOUR.sub("", output)
    verdicts: dict[str, Tally] = {}
    for line in RECAP.finditer(text):
        if int(line["failed"]):
            verdicts[line["scenario"]] = failed(why_failed(line["scenario"], text))
        elif int(line["successful"]):
            verdicts.setdefault(line["scenario"], PASSED)
    return verdicts


def why_failed(scenario: str, output: str) -> str:
    """The scenario and its step, the task, and what Ansible said of it: the last, for earlier errors may be wanted."""
    end = re.search(rf"^.*\[(?P<step>{re.escape(scenario)} > \S+)\] Executed: Failed", output, re.MULTILINE)
    if end is None:
        return scenario
    tasks, messages = TASK.findall(output, 0, end.start()), SAID.findall(output, 0, end.start())
    return ": ".join([end["step"], *tasks[-1:], *messages[-1:]])
