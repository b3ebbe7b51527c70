# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds a workload on this host now: an open handoff, or a dump or restore that is at work. Changes nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import RESTORED
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json
from ansible_collections.fleet.criu.plugins.module_utils._handoff.agent import is_alive
from ansible_collections.fleet.criu.plugins.module_utils._handoff.held import Held
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import SOURCE, TARGET, Record
from ansible_collections.fleet.criu.plugins.module_utils._handoff.marks import (
    Marks,
    container_of,
    family,
    marks_of,
    real_marks,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.open_records import (
    Life,
    Standing,
    names_workload,
    read_all,
    standing,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.owner import unit_name
from ansible_collections.fleet.criu.plugins.module_utils._handoff.request import ReceiveRequest, SendRequest
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Copy, Step
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity, Proc, lives

# What modules without a journal are at, each in a file of its own: see begin.py.
AT_WORK = Path("/run/fleet.criu/at_work")

_STOPPED = frozenset("tT")


@dataclass(frozen=True)
class Asked:
    """What is to begin: `what` in words, as the beginning of a sentence; `handoff` if it is a side of one.

    `is_copy` says that somebody has asked for a copy of these very images by name, whatever else lives.
    """

    what: str
    marks: Marks
    handoff: str = ""
    is_copy: bool = False


@dataclass(frozen=True)
class View:
    """What the journals say of a workload: what holds it, and what this host can end alone."""

    held: tuple[Held, ...]
    alone: tuple[Held, ...]


def asked_to_send(request: SendRequest, proc: Proc) -> Asked:
    """What a sender begins."""
    marks = Marks(
        request.workload,
        family(request.pid, proc),
        container_of(request.engine),
        images=request.images,
        pid_file=request.pid_file,
    )
    return Asked(f"The handoff of {request.workload} from here", marks, request.handoff)


def asked_to_receive(request: ReceiveRequest) -> Asked:
    """What a receiver begins."""
    marks = Marks(
        request.workload,
        container=container_of(request.engine),
        images=request.images,
        root=request.root,
        pid_file=request.pid_file,
        unit=None if request.engine else unit_name(request.workload, request.unit),
    )
    return Asked(f"The handoff of {request.workload} to here", marks, request.handoff)


def look(asked: Asked, proc: Proc) -> View:
    """What holds the workload on this host, the journals that can be read before those that cannot."""
    marks, boot_id = real_marks(asked.marks), proc.boot_id()
    held, alone = [], []
    for record in read_all():
        shared = _shared(record, marks, boot_id)
        if shared is None or record.handoff == asked.handoff:
            continue
        life = _life(record, proc)
        if asked.is_copy and not life.agent and gives_its_images(record, marks):
            continue
        stands = Standing.HOLDS if record.damage else standing(record, life)
        if stands is Standing.HOLDS:
            held.append(Held(record, life.agent, shared))
        elif stands is Standing.ALONE:
            alone.append(Held(record, life.agent, shared))
    return View(tuple(sorted(held, key=lambda each: each.record.damage is not None)), tuple(alone))


def holder(marks: Marks, proc: Proc) -> dict[str, Any] | None:
    """The handoff that holds the workload with these marks, in plain JSON types; None if none does."""
    held = look(Asked("", marks), proc).held
    return held[0].as_dict() if held else None


def gives_its_images(record: Record, marks: Marks) -> bool:
    """Whether the handoff has no use any more for the images that are asked for: it has said that it never runs."""
    is_refused = record.side == TARGET and record.step is Step.REFUSED and record.damage is None
    images = record.facts.get("images")
    return is_refused and isinstance(images, str) and os.path.realpath(images) == marks.images


def require_free(asked: Asked, proc: Proc) -> None:
    """Raises CriuError if the workload is held. What begins must ask once more: see `begin.beginning`."""
    held = look(asked, proc).held
    if held:
        raise held[0].error(asked.what)
    for work in works():
        require_other(work, asked)


@dataclass(frozen=True)
class Work:
    """A dump or restore that is at work on this host."""

    what: str
    pid: int
    marks: Marks


def works() -> Iterator[Work]:
    """Those whose module lives."""
    for path in sorted(AT_WORK.glob("*.json")):
        work = read_work(path)
        if work is not None:
            yield work


def read_work(path: Path) -> Work | None:
    """What this file says is at work, or None if that module has ended."""
    try:
        told: Mapping[str, Any] = read_json(path)
        pid, start_time = int(told["pid"]), int(told["start_time"])
        marks = dict(told["marks"])
        processes = frozenset(Identity(*map(int, pair)) for pair in marks.pop("processes"))
        container = tuple(marks.pop("container") or ()) or None
        work = Work(str(told["what"]), pid, Marks(processes=processes, container=container, **marks))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CriuError(
            f"{path}, which says what is at work on this host, cannot be read: {error}.",
            f"Nothing was begun. See that no dump or restore is at work here (ps), and remove {path}.",
            {"path": str(path)},
        ) from error
    # Whatever the host's /proc is taken to be elsewhere: modules are real processes.
    return work if lives(Identity(pid, start_time), Proc()) else None


def require_other(work: Work, asked: Asked) -> None:
    """Raises CriuError if that work is on the workload of what is asked."""
    shared = real_marks(work.marks).shared_with(real_marks(asked.marks))
    if shared is not None:
        raise CriuError(
            f"{asked.what} cannot begin: {work.what} is at work on this host (process {work.pid}). It has {shared}.",
            "Nothing was begun. Wait until it has ended.",
            {"at_work": {"what": work.what, "pid": work.pid}},
        )


def _shared(record: Record, marks: Marks, boot_id: str) -> str | None:
    if record.damage and not names_workload(record):
        return "a journal that may be of any workload"
    return marks_of(record, boot_id, _restored(record)).shared_with(marks)


def _restored(record: Record) -> Identity | None:
    # The copy that a target has made, let go or not; of this boot, because the folder is gone with it.
    if record.side != TARGET:
        return None
    for folder in (record.facts.get("folder"), record.facts.get("images")):
        try:
            told = read_json(Path(str(folder)) / RESTORED)
            return Identity(int(told["pid"]), int(told["start_time"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _life(record: Record, proc: Proc) -> Life:
    return Life(_has_agent(record, proc), _copy(record, proc) if record.side == SOURCE else Copy.NONE)


def _has_agent(record: Record, proc: Proc) -> bool:
    folder = record.facts.get("folder")
    if not isinstance(folder, str):
        return False
    if is_alive(Path(folder)):
        return True
    # Its folder may have been emptied under it: an agent has its path among its arguments.
    agent = record.facts.get("agent")
    return record.facts.get("boot_id") == proc.boot_id() and isinstance(agent, int) and folder in Proc().command(agent)


def _copy(record: Record, proc: Proc) -> Copy:
    facts = record.facts
    if facts.get("boot_id") != proc.boot_id() or not {"pid", "start_time"} <= facts.keys():
        return Copy.NONE
    stat = proc.stat(int(facts["pid"]))
    if stat is None or stat.start_time != int(facts["start_time"]):
        return Copy.NONE
    if stat.state not in _STOPPED:
        return Copy.RUNNING
    # After `back` only we would have left it stopped; others may stop it for reasons of their own.
    is_ours = record.step is not Step.BACK or (Path(str(facts.get("folder"))) / "stages" / "hold").exists()
    return Copy.FROZEN if is_ours else Copy.RUNNING
