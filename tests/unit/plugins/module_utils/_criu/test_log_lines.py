# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.log_lines import LONGEST_LINE, error_lines

LOG = """\
(00.000081) Version: 4.1.1 (gitid 0)
(00.002341)    101: Error (criu/mount.c:753): mnt: 101:/data doesn't have a proper root mount
(00.002342) Warn  (criu/mount.c:1): Error in a warning
(00.002343) Error (criu/cr-dump.c:2128): Dumping FAILED.
"""


def test_error_lines_are_without_time_pid_and_source_position() -> None:
    assert error_lines(LOG) == ["mnt: 101:/data doesn't have a proper root mount"]


@pytest.mark.parametrize(
    "line",
    [
        "(00.1) Error (criu/a.c:1): text",
        "(12.345678)      1: Error (criu/a.c:1): text",
        "(12.345678) 12345: Error (compel/src/lib/infect.c:99): text",
        "Error (criu/a.c:1): text",
        "     1: Error (criu/a.c:1): text",
        "(00.1) Error (criu/a.c:1): text   ",
        "pie: 1: Error (criu/pie/restorer.c:1835): text",
        "(00.054878) pie: 33928: Error (criu/pie/restorer.c:1832): text",
        "(00.054878) pie: Error (criu/pie/restorer.c:1832): text",
    ],
)
def test_forms_of_error_lines(line: str) -> None:
    assert error_lines(line) == ["text"]


@pytest.mark.parametrize(
    "line",
    ["(00.1) Warn  (criu/a.c:1): text", "(00.1) Error text", "x Error (criu/a.c:1): text", "", "(00.1) Errors (a): b"],
)
def test_other_lines_are_none(line: str) -> None:
    assert error_lines(line) == []


@pytest.mark.parametrize(
    "text",
    [
        "rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted",
        "cg: cgroupd: recv req error: Operation not permitted",
        "Dumping FAILED.",
        "Restoring FAILED.",
        "Pre-dumping FAILED.",
    ],
)
def test_errors_that_are_never_the_cause_are_left_out(text: str) -> None:
    log = f"(00.1) Error (a.c:1): {text}\n(00.2) Error (a.c:2): the cause\n(00.3) Error (a.c:3): {text}\n"
    assert error_lines(log) == ["the cause"]


def test_an_error_that_is_repeated_is_told_once_at_its_first_place() -> None:
    text = "Error (a.c:1): one\nError (a.c:2): two\n(00.1) Error (a.c:3): one\n"
    assert error_lines(text) == ["one", "two"]


def test_a_line_that_is_too_long_is_cut() -> None:
    assert len(error_lines(f"Error (a.c:1): {'Can' * LONGEST_LINE}")[0]) < LONGEST_LINE
