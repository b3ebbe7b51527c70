# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stays of a handoff in /run, which is memory, when nothing is left to be decided.

While it is open its folder holds all that the agent works with, most of all its code. Afterwards who asks wants to
know how it ended, and `handoff_settle` which process the copy is; the rest goes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.agent import (
    AGENT,
    LOG,
    PROGRESS,
    RESULT,
    may_be_alive,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import read_record

# Besides what the agent says: the process that was restored, and what a settlement looks at, or holds while it does. A
# CRIU that a settlement has just answered reads the answer in its own time.
_KEPT = frozenset({AGENT, LOG, PROGRESS, RESULT, "restored.json", "stages", "settle.lock"})
_LOG_BYTES = 32 << 10
_KEPT_SECONDS = 24 * 3600.0
_KEPT_RESULTS = 32


def tidy(folder: Path) -> None:
    """Remove what nobody needs any more from the folder of a handoff that is settled; leave any other as it is.

    The folder's own agent may call it, as the last thing that it does.
    """
    if not folder.is_dir() or not is_settled(folder):
        return
    for path in folder.iterdir():
        if path.name not in _KEPT:
            _remove(path)
    with contextlib.suppress(FileNotFoundError):
        _shorten(folder / LOG)


def remove_old(runtime: Path) -> None:
    """Remove folders of settled handoffs that are a day old, and of those that have a result all but the latest 32."""
    results = 0
    for folder in sorted(_folders(runtime), key=_time, reverse=True):
        if may_be_alive(folder) or not is_settled(folder):
            continue
        # One without a result may be about to get its agent.
        results += (folder / RESULT).exists()
        if _time(folder) < time.time() - _KEPT_SECONDS or (results > _KEPT_RESULTS and (folder / RESULT).exists()):
            _remove(folder)


def is_settled(folder: Path) -> bool:
    """Whether nothing is left to be decided. CRIU may still wait in it if there is, and handoff_settle needs it."""
    handoff, _dot, side = folder.name.rpartition(".")
    try:
        record = read_record(handoff, side)
    except CriuError:
        return False
    return record is None or record.is_settled


def _folders(runtime: Path) -> list[Path]:
    return [path for path in runtime.glob("*.*") if path.is_dir()] if runtime.is_dir() else []


def _time(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # somebody else has just removed it
        return 0.0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(str(path), ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _shorten(log: Path) -> None:
    # Its end tells how it ended.
    size = log.stat().st_size
    if size <= _LOG_BYTES:
        return
    with log.open("r+b") as stream:
        stream.seek(size - _LOG_BYTES)
        end = stream.read()
        stream.seek(0)
        stream.write(end[end.find(b"\n") + 1 :])
        stream.truncate()
        os.fchmod(stream.fileno(), 0o600)
