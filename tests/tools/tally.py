# SPDX-License-Identifier: GPL-3.0-or-later
"""What passed, failed and was skipped, read from the reports that the test programs write."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree


@dataclass(frozen=True)
class Tally:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        text = f"{self.passed} passed, {self.failed} failed"
        return f"{text}, {self.skipped} skipped" if self.skipped else text

    def with_status(self, status: int) -> Tally:
        """A program that failed without a test to blame counts as one failure."""
        return self + Tally(failed=1) if status and not self.failed else self


PASSED = Tally(passed=1)
FAILED = Tally(failed=1)
SKIPPED = Tally(skipped=1)
NOTHING = Tally()


def of_junit(reports: Iterable[Path]) -> Tally:
    """Count the test cases in JUnit reports of pytest and ansible-test."""
    cases = (case for report in reports for case in ElementTree.parse(report).iter("testcase"))
    return sum((of_case(case) for case in cases), NOTHING)


def of_case(case: ElementTree.Element) -> Tally:
    if case.find("failure") is not None or case.find("error") is not None:
        return FAILED
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


def of_molecule(output: str) -> dict[str, Tally]:
    """The verdict on each scenario that a molecule run got to.

    Creating and destroying shared test hosts are lines of their own, of the scenario ``default``.
    """
    verdicts: dict[str, Tally] = {}
    for line in RECAP.finditer(COLOUR.sub("", output)):
        if int(line["failed"]):
            verdicts[line["scenario"]] = FAILED
        elif int(line["successful"]):
            verdicts.setdefault(line["scenario"], PASSED)
    return verdicts
