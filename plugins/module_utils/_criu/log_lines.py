# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The error lines of a CRIU log.

A line is `(TIME) [pie: ][PID: ]Error (FILE:LINE): TEXT`. With -v2 there is no time, and a PID is written only by
processes of a restore; "pie" is CRIU's code inside a process of the workload.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Sequence

LINES_BEFORE = 3
# A path may have 4096 bytes. A line that is much longer is not CRIU's, and would take long to look through.
LONGEST_LINE = 5000

_TIME = re.compile(r"^\([0-9.]+\)\s*")
_LINE = re.compile(r"^\s*(?:pie: )?\s*(?:(?P<process>[0-9]+): )?Error \([^)]*\): (?P<text>.*)$")

_SAYS_NOTHING = tuple(
    map(
        re.compile,
        (
            r"Can't setup RLIMIT_NOFILE for self",
            r"cgroupd: recv req error",
            r"^(Dumping|Pre-dumping|Restoring|Lazy pages transfer) FAILED\.",
        ),
    )
)


@dataclass(frozen=True)
class ErrorLine:
    """An error line without time and source position.

    `process` is the pid that the line begins with (at restore, as the workload sees it), `before` are the lines of the
    log just before it. `is_error` is false for a line that stands in for one, where CRIU wrote no error at all.
    """

    text: str
    process: int | None = None
    before: Sequence[str] = ()
    is_error: bool = True


def error_lines(log: str) -> list[str]:
    """The texts of the log's error lines, in their order, without time, pid and source position, each once.

    Those that say nothing are left out: CRIU goes on after them, or they say that it failed and no more.
    """
    return list(dict.fromkeys(error.text for error in errors_in(log)))


def errors_in(log: str) -> list[ErrorLine]:
    """The log's error lines in their order, each with the lines just before it, without those that say nothing."""
    errors = []
    before: list[str] = []
    for line in (whole[:LONGEST_LINE] for whole in log.split("\n")):
        text = _text(line)
        if not text or says_nothing(text):
            continue
        match = _match(line)
        if match is not None:
            process = match.group("process")
            errors.append(ErrorLine(text, None if process is None else int(process), tuple(before)))
        before = [*before, text][-LINES_BEFORE:]
    return errors


def first_and_last(text: str) -> list[ErrorLine]:
    """What a text without error lines may tell: its first line and its last two."""
    shortened = [line[:LONGEST_LINE] for line in text.split("\n")]
    lines = [line.strip() for line in shortened if line.strip() and not says_nothing(_text(line))]
    return [ErrorLine(line, is_error=False) for line in lines[:1] + lines[1:][-2:]]


def says_nothing(line: str) -> bool:
    """Whether the line is not worth showing: CRIU goes on after it, or it says that it failed and nothing else."""
    return any(pattern.search(line) for pattern in _SAYS_NOTHING)


def _match(line: str) -> re.Match[str] | None:
    return _LINE.match(_TIME.sub("", line))


def _text(line: str) -> str:
    match = _match(line)
    return _TIME.sub("", line).strip() if match is None else match.group("text").strip()
