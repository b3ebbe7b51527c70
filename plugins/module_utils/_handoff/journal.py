# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's own durable record of how far a handoff got: a file for each handoff and side, a JSON line for each step.

A step is on disk before what it announces is done. The file stays after the handoff, for those who come later. Each
journal has a random identity, which the other host notes: nobody else's journal can answer for this one.
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import sync_folder
from ansible_collections.fleet.criu.plugins.module_utils._foreign import parse_json, read_bytes
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Step
from ansible_collections.fleet.criu.plugins.module_utils._trusted import make_folder

FOLDER = Path("/var/lib/fleet.criu/handoffs")
SOURCE = "source"
TARGET = "target"

SETTLED = frozenset({Step.DONE, Step.BACK, Step.CLEARED})
_KEPT_SECONDS = 30 * 24 * 3600.0
# One line of facts with a map of mounts, and a score of steps.
_LONGEST = 16 << 20
# Seconds since the epoch in the year 10000.
_LATEST = 253402300800
# With the path of CRIU's streaming socket it must fit into the address of a socket (unix(7)).
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,48}\Z")


@dataclass(frozen=True)
class Record:
    """What a journal says: `facts` as given when it was begun, all steps with their times, and the last step.

    `damage` says what is wrong with the journal, and what to do, if it cannot be read to its end; the rest is then what
    came before.
    """

    handoff: str
    side: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[tuple[Step, float], ...] = ()
    damage: CriuError | None = None

    @property
    def step(self) -> Step | None:
        """The last step that is durable."""
        return self.steps[-1][0] if self.steps else None

    @property
    def identity(self) -> dict[str, Any]:
        """Whose journal this is, and whether it has come to `complete`: what the other host must know to believe it."""
        complete = any(step is Step.COMPLETE for step, _time in self.steps)
        return {"machine": self.facts.get("machine"), "journal": self.facts.get("journal"), "complete": complete}

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to be decided for this side."""
        if self.damage is not None:
            return False
        return self.step in SETTLED or (self.side == TARGET and self.step is Step.RUNNING)


class RecordFailed(CriuError):
    """A step could not be recorded. `may_be_there`: it was written, and the disk did not confirm it."""

    def __init__(self, path: Path, step: str, error: OSError, may_be_there: bool) -> None:
        self.may_be_there = may_be_there
        super().__init__(
            f"The step {step!r} could not be recorded in {path}: {error.strerror or error}."
            + (" It may be there all the same." if may_be_there else ""),
            "See that the file system has space, is writable and has a healthy disk (dmesg), then start again.",
            {"journal": str(path), "step": step, "may_be_there": may_be_there},
        )


class Journal:
    """The journal of one side of a handoff, opened for more steps."""

    def __init__(self, handoff: str, side: str, folder: Path = FOLDER) -> None:
        self.path = journal_path(handoff, side, folder)
        # For the other host: which machine's, and which of all journals this is.
        self.machine = machine_id()
        self.identity = uuid.uuid4().hex

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Start it with the step `armed`. Raises CriuError if it was begun before: a handoff has one life."""
        make_folder(self.path.parent)
        _forget_old(self.path.parent)
        try:
            descriptor = os.open(str(self.path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise CriuError(
                f"The handoff {self.path.stem} was begun here before.",
                "Give each attempt a name of its own. What became of that one tells handoff_settle.",
            ) from None
        os.close(descriptor)
        self.record(Step.ARMED, {**facts, "machine": self.machine, "journal": self.identity})
        sync_folder(self.path.parent)

    def record(self, step: Step, facts: Mapping[str, Any] | None = None) -> None:
        """Add a step, and facts that are known only now. When this returns it is on disk. Raises RecordFailed."""
        entry = {"step": step.value, "time": time.time(), **({"facts": dict(facts)} if facts else {})}
        line = (json.dumps(entry, sort_keys=True) + "\n").encode()
        written = False
        try:
            descriptor = os.open(str(self.path), os.O_RDWR | os.O_CLOEXEC)
            try:
                self._append(descriptor, line)
                written = True
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise RecordFailed(self.path, step.value, error, written) from error

    def _append(self, descriptor: int, line: bytes) -> None:
        # What no newline ends was being written when the host died or the disk was full: this takes its place. Our own
        # newline is written last, so that a line that came to an end too early is none.
        end = os.pread(descriptor, os.fstat(descriptor).st_size, 0).rfind(b"\n") + 1
        os.ftruncate(descriptor, end)
        while line:
            written = os.pwrite(descriptor, line, end)
            line, end = line[written:], end + written


def machine_id() -> str:
    """The identity of this machine, see machine-id(5); empty if it has none."""
    try:
        return Path("/etc/machine-id").read_text("ascii").strip()[:64]
    except (OSError, ValueError):
        return ""


def journal_path(handoff: str, side: str, folder: Path = FOLDER) -> Path:
    """Where a journal is. Raises CriuError if the handoff's name cannot be part of a path."""
    if not _NAME.match(handoff):
        raise CriuError(
            f"{handoff!r} cannot be the name of a handoff.",
            "Use letters, digits, '.', '_', '@' and '-' alone, 49 at most.",
            {"handoff": handoff},
        )
    return folder / f"{handoff}.{side}.jsonl"


def read_record(handoff: str, side: str, folder: Path = FOLDER) -> Record | None:
    """What the journal says, or None if there is none. Raises CriuError if it is damaged."""
    path = journal_path(handoff, side, folder)
    record = _read(path) if os.path.lexists(path) else None
    if record is not None and record.damage is not None:
        raise record.damage
    return record


def all_records(folder: Path = FOLDER) -> list[Record]:
    """What every journal of this host says, the oldest handoff first; a damaged one has `damage`."""
    records = [_read(path) for path in sorted(folder.glob("*.jsonl"))] if folder.is_dir() else []
    return sorted(records, key=lambda record: record.steps[0][1] if record.steps else 0.0)


def _read(path: Path) -> Record:
    handoff, _dot, side = path.name[: -len(".jsonl")].rpartition(".")
    facts: dict[str, Any] = {}
    steps: list[tuple[Step, float]] = []
    damage = None
    try:
        # What no newline ends was being written when the host died.
        lines = read_bytes(path, _LONGEST).split(b"\n")[:-1]
    except (OSError, ValueError) as error:
        lines, damage = [], _damage(path, str(error))
    for number, line in enumerate(lines, 1):
        try:
            entry = parse_json(line)
            step = _step(entry)
            facts.update(entry.get("facts", {}))
            steps.append(step)
        except (ValueError, KeyError, TypeError, AttributeError):
            damage = _damage(path, f"line {number} is {line[:80]!r}")
            break
    return Record(handoff, side, facts, tuple(steps), damage)


def _step(entry: Any) -> tuple[Step, float]:
    began = entry["time"]
    if isinstance(began, bool) or not isinstance(began, (int, float)) or not 0 <= began < _LATEST:
        raise ValueError("its time is none")
    return Step(entry["step"]), float(began)


def _damage(path: Path, why: str) -> CriuError:
    return CriuError(
        f"The journal {path} is damaged: {why}.",
        "Find out by hand where the workload runs (workload_info), then remove the file.",
        {"journal": str(path)},
    )


def _forget_old(folder: Path) -> None:
    for path in folder.glob("*.jsonl"):
        if path.lstat().st_mtime < time.time() - _KEPT_SECONDS and _read(path).is_settled:
            path.unlink()
