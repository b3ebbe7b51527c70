# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a CRIU log says about a failure: its own error lines, and from them a diagnosis."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.diagnosis import diagnose
from ansible_collections.fleet.criu.plugins.module_utils._criu.log_lines import errors_in, first_and_last
from ansible_collections.fleet.criu.plugins.module_utils._criu.places import Places
from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._foreign import read_tail
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed
from ansible_collections.fleet.criu.plugins.module_utils._trusted import Untrusted, make_folder

MOST_LINES = 12
# What went wrong is at its end.
_LONGEST = 32 << 20
_DUMP = "dump"
LOG_FOLDER = Path("/var/log/fleet.criu")
# Where others than root may write /var/log, as the group syslog does on Ubuntu.
OTHER_LOG_FOLDER = Path("/var/lib/fleet.criu/log")


def failure(what: str, completed: Completed, log_file: Path, places: Places | None = None) -> CommandFailed:
    """The exception for a CRIU command that failed: its own error lines, the diagnosis, where the log is.

    `places` resolves the mount IDs and paths in the log; without it they are told as they are.
    """
    known = places or Places()
    log = known.with_paths(_text_of(log_file))
    printed = known.with_paths(completed.stderr or completed.stdout)
    # Before CRIU has opened its log, for example at an option that it does not know, it can only print.
    errors = errors_in(log) or errors_in(printed) or first_and_last(log) or first_and_last(printed)
    diagnoses = diagnose(errors, known, completed.returncode)
    shown = _first_and_last(list(dict.fromkeys(error.text for error in errors)))
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


def _first_and_last(lines: Sequence[str]) -> list[str]:
    # The cause is mostly in the first, and what CRIU gave up at in the last.
    half = MOST_LINES // 2
    return list(lines) if len(lines) <= MOST_LINES else [*lines[:half], *lines[-half:]]


def _text_of(log_file: Path) -> str:
    try:
        return read_tail(log_file, _LONGEST).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def _keep(log_file: Path) -> Path | None:
    # The image folder holds secrets and may be removed by who called us; the log must outlive it.
    if not log_file.is_file():
        return None
    try:
        kept = _log_folder() / _kept_name(log_file)
        shutil.copyfile(log_file, kept)
        kept.chmod(0o600)
    except (CriuError, OSError):
        return log_file
    return kept


def _kept_name(log_file: Path) -> str:
    # The folder is named after what was done, but for that of a handoff's dump, which is in the one that is.
    folder = log_file.parent if log_file.parent.name != _DUMP else log_file.parent.parent
    return f"{folder.name}-{log_file.name}"


def _log_folder() -> Path:
    try:
        return make_folder(LOG_FOLDER)
    except Untrusted:
        return make_folder(OTHER_LOG_FOLDER)
