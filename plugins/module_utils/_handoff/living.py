# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lives of a workload at the target of a handoff, also if what would prove it is lost.

The receiver notes the copy that CRIU has restored in its runtime folder. If that was emptied within this boot, the
absence of the note says nothing: then whatever may be the copy is looked for, by its unit, its pid file, its engine,
the note in the image set, and its root.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any, Iterator, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._criu.restore import recorded
from ansible_collections.fleet.criu.plugins.module_utils._criu.restorer import is_in_restorer
from ansible_collections.fleet.criu.plugins.module_utils._engine.process import main_processes, running_container
from ansible_collections.fleet.criu.plugins.module_utils._engine.registry import engine_named
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json
from ansible_collections.fleet.criu.plugins.module_utils._handoff.owner import owner_units
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Copy
from ansible_collections.fleet.criu.plugins.module_utils._pid_file import process_of
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity, Proc, lives
from ansible_collections.fleet.criu.plugins.module_utils._runner import Runner

RESTORED = "restored.json"
# A task that waits in CRIU's restorer may be on its way into or out of a system call.
_LOOKS, _BETWEEN_LOOKS = 3, 0.02


def has_marks(folder: Path) -> bool:
    """Whether the runtime folder of a receiver is as it left it, so that what is not there was not."""
    return (folder / "stages").is_dir()


def noted_copy(folder: Path) -> Identity | None:
    """The copy that the receiver has noted in its runtime folder."""
    try:
        found = read_json(folder / RESTORED)
        return Identity(int(found["pid"]), int(found["start_time"]))
    except (CriuError, OSError, ValueError, TypeError, KeyError):
        return None


def state_of(identity: Identity | None, proc: Proc) -> Copy:
    """Whether a restored copy runs, or was never let go."""
    if identity is None or not lives(identity, proc):
        return Copy.NONE
    for look in range(_LOOKS):
        if is_in_restorer(identity.pid, proc):
            return Copy.FROZEN
        time.sleep(_BETWEEN_LOOKS if look else 0)
    return Copy.RUNNING


def suspects(facts: Mapping[str, Any], proc: Proc, runner: Runner) -> list[Identity]:
    """What lives here and may be the copy of a handoff with these facts, each once."""
    found = []
    for pid in _pids(facts, proc, runner):
        stat = proc.stat(pid)
        if stat is not None and Identity(pid, stat.start_time) not in found:
            found.append(Identity(pid, stat.start_time))
    return found


def _pids(facts: Mapping[str, Any], proc: Proc, runner: Runner) -> Iterator[int]:
    noted = recorded(Path(facts["images"]), proc) if facts.get("images") else None
    if noted is not None:
        yield noted.pid
    if facts.get("pid_file"):
        # What is wrong with the file is no copy.
        with contextlib.suppress(CriuError):
            yield process_of(Path(facts["pid_file"]), proc).pid
    engine = facts.get("engine") or {}
    with contextlib.suppress(CriuError):
        if engine:
            yield running_container(engine_named(str(engine["name"]), runner, proc), str(engine["container"])).pid
        else:
            yield from main_processes(owner_units(str(facts["workload"]), facts.get("unit")), proc, runner).values()
    yield from _below(facts.get("root"), proc)


def _below(root: Any, proc: Proc) -> Iterator[int]:
    # The init of a pid namespace of its own whose root is that folder.
    try:
        wanted = os.stat(str(root)) if root else None
    except OSError:
        return
    if wanted is None:
        return
    ours = proc.namespace("self", "pid")
    for stat in proc.stats():
        is_init = proc.status(stat.pid).get("NSpid", "").split()[-1:] == ["1"]
        if not is_init or proc.namespace(stat.pid, "pid") in (ours, None):
            continue
        with contextlib.suppress(OSError):
            theirs = os.stat(proc.root(stat.pid))
            if (theirs.st_dev, theirs.st_ino) == (wanted.st_dev, wanted.st_ino):
                yield stat.pid
