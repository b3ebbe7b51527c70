# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a CRIU log says about a failure: its own error lines, and from them a diagnosis.

A line is `(TIME) [pie: ][PID: ]Error (FILE:LINE): TEXT`. With -v2 there is no time, and a PID is written only by
processes of a restore; "pie" is CRIU's code inside a process of the workload.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.diagnosis import ErrorLine, diagnose
from ansible_collections.fleet.criu.plugins.module_utils._criu.messages import says_nothing
from ansible_collections.fleet.criu.plugins.module_utils._criu.places import Places
from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed

MOST_LINES = 12
LINES_BEFORE = 3
LOG_FOLDER = Path("/var/log/fleet.criu")

_TIME = re.compile(r"^\([0-9.]+\)\s*")
_LINE = re.compile(r"^\s*(?:pie: )?\s*(?:(?P<process>[0-9]+): )?Error \([^)]*\): (?P<text>.*)$")


def error_lines(log: str) -> list[str]:
    """The texts of the log's error lines, in their order, without time, pid and source position, each once.

    Those that say nothing are left out: CRIU goes on after them, or they say that it failed and no more.
    """
    return list(dict.fromkeys(error.text for error in _errors(log)))


def remedy_for(errors: Sequence[str]) -> str:
    """What to do about the first error that we know, or an empty text."""
    diagnoses = diagnose([ErrorLine(error) for error in errors if not says_nothing(error)], Places(), 1)
    return diagnoses[0].remedy


def failure(what: str, completed: Completed, log_file: Path, places: Places | None = None) -> CommandFailed:
    """The exception for a CRIU command that failed: its own error lines, the diagnosis, where the log is.

    `places` resolves the mount IDs and paths in the log; without it they are told as they are.
    """
    log = log_file.read_text("utf-8", "replace") if log_file.is_file() else ""
    printed = completed.stderr or completed.stdout
    # Before CRIU has opened its log, for example at an option that it does not know, it can only print.
    errors = _errors(log) or _errors(printed) or _first_and_last(log) or _first_and_last(printed)
    diagnoses = diagnose(errors, places or Places(), completed.returncode)
    shown = list(dict.fromkeys(error.text for error in errors))[:MOST_LINES]
    kept = _keep(log_file)
    said = f"CRIU says: {' | '.join(shown) or 'nothing'}." + (f" The log is {kept}." if kept is not None else "")
    return CommandFailed(
        f"{what} failed (exit status {completed.returncode}). {diagnoses[0].sentence} {said}",
        diagnoses[0].remedy,
        {
            "criu_errors": shown,
            "diagnosis": [diagnosis.as_dict() for diagnosis in diagnoses],
            "log": None if kept is None else str(kept),
            "rc": completed.returncode,
        },
    )


def _errors(log: str) -> list[ErrorLine]:
    errors = []
    before: list[str] = []
    for line in log.splitlines():
        text = _text(line)
        if not text or says_nothing(text):
            continue
        match = _match(line)
        if match is not None:
            process = match.group("process")
            errors.append(ErrorLine(text, None if process is None else int(process), tuple(before)))
        before = [*before, text][-LINES_BEFORE:]
    return errors


def _match(line: str) -> re.Match[str] | None:
    return _LINE.match(_TIME.sub("", line))


def _text(line: str) -> str:
    match = _match(line)
    return _TIME.sub("", line).strip() if match is None else match.group("text").strip()


def _first_and_last(text: str) -> list[ErrorLine]:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not says_nothing(_text(line))]
    return [ErrorLine(line) for line in lines[:1] + lines[1:][-2:]]


def _keep(log_file: Path) -> Path | None:
    # The image folder holds secrets and may be removed by who called us; the log must outlive it.
    if not log_file.is_file():
        return None
    kept = LOG_FOLDER / f"{log_file.parent.name}-{log_file.name}"
    try:
        LOG_FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(log_file, kept)
        kept.chmod(0o600)
    except OSError:
        return log_file
    return kept
