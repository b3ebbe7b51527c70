# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Beginning something with a workload: at most one thing at a time on a host, whoever asks.

All that begins holds one lock of the host while it looks who holds the workload and notes that it does so itself: in
its journal, or, what has none, in a file that counts as long as its process lives.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Iterator, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._criu.feature import require_root
from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import read_manifest
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import locked, read_json, write_json
from ansible_collections.fleet.criu.plugins.module_utils._handoff import holding, reviver
from ansible_collections.fleet.criu.plugins.module_utils._handoff.agent import is_alive
from ansible_collections.fleet.criu.plugins.module_utils._handoff.holding import (
    Asked,
    View,
    Work,
    gives_its_images,
    look,
    read_work,
    require_free,
    require_other,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import FOLDER, Journal
from ansible_collections.fleet.criu.plugins.module_utils._handoff.marks import Marks, real_marks
from ansible_collections.fleet.criu.plugins.module_utils._handoff.open_records import read_all
from ansible_collections.fleet.criu.plugins.module_utils._handoff.request import REQUEST
from ansible_collections.fleet.criu.plugins.module_utils._handoff.settle import Peer, settle
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Step
from ansible_collections.fleet.criu.plugins.module_utils._own_folders import require_folders
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Runner
from ansible_collections.fleet.criu.plugins.module_utils._trusted import make_folder

LOCK = FOLDER / "begin.lock"

# Whoever has it may be bringing broken handoffs to their end.
_LOCK_SECONDS = 120.0
# CRIU lets the tasks run on a moment after its agent has died.
_PATIENCE = 2.0
_POLL_SECONDS = 0.05


@contextlib.contextmanager
def beginning(asked: Asked, proc: Proc, runner: Runner) -> Iterator[None]:
    """Keep all others from beginning anything, once it is sure that nothing holds the workload.

    What was broken and can be ended without asking anybody is brought to its end before. Raises CriuError if the
    workload is held. Within it the caller makes its own journal.
    """
    with locked(LOCK, _LOCK_SECONDS):
        view = _settled_view(asked, proc)
        if view.alone and not view.held:
            for each in view.alone:
                settle(each.record.handoff, each.record.side, Peer(), 0.0, proc, runner)
            view = look(asked, proc)
        # What is still there is not as it seemed.
        for each in (*view.held, *view.alone):
            raise each.error(asked.what)
        _require_no_orphans(asked)
        require_free(asked, proc)
        yield


@contextlib.contextmanager
def at_work(asked: Asked, proc: Proc, runner: Runner, check_only: bool = False) -> Iterator[None]:
    """The same for what has no journal: nothing else may begin with the workload until the end of it.

    Raises CriuError also if the host cannot keep records. A check looks, and keeps nobody from anything.
    """
    require_root()
    require_folders(is_dry=check_only)
    if check_only:
        require_free(asked, proc)
        yield
        return
    with beginning(asked, proc, runner):
        note = _note(asked)
    try:
        yield
    finally:
        note.unlink()


def note_that_it_ran(images: Path) -> None:
    """Note in the journal of a handoff that had given up these images that they came to life here after all.

    Then its source, if it still holds its copy, has nothing to wait for.
    """
    marks = real_marks(Marks(images=str(images)))
    for record in read_all():
        if gives_its_images(record, marks):
            Journal(record.handoff, record.side).record(Step.RUNNING)


def _settled_view(asked: Asked, proc: Proc) -> View:
    until = time.monotonic() + _PATIENCE
    view = look(asked, proc)
    while any(held.may_pass for held in view.held) and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
        view = look(asked, proc)
    return view


def _note(asked: Asked) -> Path:
    stat = Proc().stat(os.getpid())
    if stat is None:
        raise AssertionError
    make_folder(holding.AT_WORK)
    for path in holding.AT_WORK.glob("*.json"):
        if read_work(path) is None:
            path.unlink()
    marks = asdict(real_marks(asked.marks))
    marks["processes"] = [[identity.pid, identity.start_time] for identity in asked.marks.processes]
    note = holding.AT_WORK / f"{stat.pid}-{time.monotonic_ns()}.json"
    what = asked.what[:1].lower() + asked.what[1:]
    write_json(note, {"what": what, "pid": stat.pid, "start_time": stat.start_time, "marks": marks})
    return note


def _require_no_orphans(asked: Asked) -> None:
    # An agent goes on restoring when the module that has started it was killed.
    for folder in sorted(reviver.RUN_FOLDER.glob("*")):
        if is_alive(folder):
            with contextlib.suppress(FileNotFoundError):  # it ended meanwhile
                require_other(_restore_in(folder), asked)


def _restore_in(folder: Path) -> Work:
    request: Mapping[str, Any] = read_json(folder / REQUEST)
    images = Path(request["images"])
    name = None
    with contextlib.suppress(CriuError):
        name = read_manifest(images).workload.name
    marks = Marks(name, images=str(images), root=request["root"], pid_file=request["pid_file"])
    return Work(f"the restore of {name or images}", int(read_json(folder / "agent.json")["pid"]), marks)
