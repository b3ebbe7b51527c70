# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pid file of a workload, and the process that it means."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.fleet.criu.plugins.module_utils._errors import AmbiguousWorkload, CriuError, WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity, Proc, clock_ticks, require_living

# A pid file is written after its process has started; clocks and file systems round, so a little is allowed.
_PID_FILE_SLACK_SECONDS = 2.0


def process_of(path: Path, proc: Proc) -> Identity:
    """The process that a pid file means.

    Raises WorkloadNotFound if there is no such file or process, AmbiguousWorkload if the process may be another one,
    CriuError if the file cannot be read.
    """
    identity = require_living(_pid_of_file(path), f"pid_file {path}", proc)
    _check_age(path, identity, proc)
    return identity


def _pid_of_file(path: Path) -> int:
    try:
        text = path.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        raise WorkloadNotFound(
            f"No workload runs here by the pid file {path}: the file does not exist.",
            "Check the path, and on which host the workload runs.",
        ) from None
    except OSError as error:
        raise CriuError(f"The pid file {path} cannot be read: {error.strerror}.", "Set become: true.") from error
    if not text.isdecimal() or int(text) == 0:
        raise AmbiguousWorkload(
            f"The pid file {path} does not hold a pid but {text[:40]!r}.", "Correct or remove the file."
        )
    return int(text)


def _check_age(path: Path, identity: Identity, proc: Proc) -> None:
    try:
        written = path.stat().st_mtime - proc.boot_time()
    except OSError:
        return
    if identity.start_time > clock_ticks(written + _PID_FILE_SLACK_SECONDS):
        raise AmbiguousWorkload(
            f"Process {identity.pid} started after the pid file {path} was written, so it may be another one.",
            f"See what process {identity.pid} is; remove the pid file if it is stale, or touch it if it is right.",
        )
