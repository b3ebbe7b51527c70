# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount options of the host's control groups that a dump or restore takes away, put back.

A CRIU that looks at control groups mounts them for itself, without options. There is one superblock of version 2 in a
kernel, so that the host's own mount at /sys/fs/cgroup loses what it had, such as nsdelegate and memory_recursiveprot
(https://github.com/checkpoint-restore/criu/issues/3029). An engine's CRIU does the same. It also happens if the dump or
the restore then fails.

What was there is noted in a file before CRIU is started, so that it can also be put back by somebody else after our
death, and so that who begins when another has taken them away does not take that for what the host wants.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import parse
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity, Proc, lives
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Runner
from ansible_collections.fleet.criu.plugins.module_utils._trusted import make_folder

FOLDER = Path("/run/fleet.criu/cgroup_mount")

_FSTYPE = "cgroup2"
# Whether it may be written is no option of ours to change.
_NOT_OURS = frozenset({"rw", "ro"})
_MOUNT_SECONDS = 30.0


@dataclass(frozen=True)
class Noted:
    """The options that the control groups of version 2 of this host are to have, and the file that says so."""

    options: frozenset[str]
    path: Path


def note(proc: Proc, folder: Path | None = None) -> Noted:
    """Note what is mounted, before CRIU is started. Raises CriuError if others could alter the folder, and OSError."""
    place = folder or FOLDER
    options = _present(proc)[1].union(*(options for _path, options, _owner in _all_noted(place)))
    if options:
        make_folder(place)
    stat = proc.stat(os.getpid())
    path = place / f"{uuid.uuid4().hex}.json"
    owner = {"pid": os.getpid(), "start_time": stat.start_time if stat is not None else 0}
    if options:
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps({**owner, "options": sorted(options)}), "ascii")
        draft.replace(path)
    return Noted(options, path)


def put_back(noted: Noted, proc: Proc, runner: Runner) -> list[str]:
    """Put back what is missing, and forget the note. Says what was done, or what could not be, for people.

    CRIU must have ended, or must have nothing to do with control groups any more.
    """
    said = _mount_again(noted.options, proc, runner)
    noted.path.unlink(missing_ok=True)
    return said + put_back_for_the_dead(proc, runner, noted.path.parent)


def put_back_for_the_dead(proc: Proc, runner: Runner, folder: Path | None = None) -> list[str]:
    """The same for all who have died before they could do it."""
    said = []
    for path, options, owner in _all_noted(folder or FOLDER):
        if not lives(owner, proc):
            said += _mount_again(options, proc, runner)
            path.unlink(missing_ok=True)
    return said


@contextlib.contextmanager
def kept(proc: Proc, runner: Runner) -> Iterator[list[str]]:
    """A context in which CRIU may run. What was put back is in the list afterwards, and in the facts of a CriuError."""
    said: list[str] = []
    noted = note(proc)
    try:
        yield said
    except CriuError as error:
        said += put_back(noted, proc, runner)
        if said:
            error.facts = {**error.facts, "put_back": said}
        raise
    except BaseException:
        put_back(noted, proc, runner)
        raise
    said += put_back(noted, proc, runner)


def _mount_again(wanted: frozenset[str], proc: Proc, runner: Runner) -> list[str]:
    place, present = _present(proc)
    missing = sorted(wanted - present)
    if place is None or not missing:
        return []
    options = ",".join(["remount", *sorted(present | wanted)])
    command = ["mount", "-o", options, place]
    what = f"the mount {'option' if len(missing) == 1 else 'options'} {', '.join(missing)} of {place}, which CRIU took"
    try:
        completed = runner(Command(command, timeout=_MOUNT_SECONDS))
        why = "" if completed.returncode == 0 else completed.stderr.strip()
        failed = completed.returncode != 0 or bool(wanted - _present(proc)[1])
    except CriuError as error:
        why, failed = error.message, True
    if not failed:
        return [f"Put back {what}."]
    return [f"Could not put back {what}{f' ({why})' if why else ''}. Run: {' '.join(command)}"]


def _present(proc: Proc) -> tuple[str | None, frozenset[str]]:
    # All mounts have one superblock. The host's own one is the first.
    rows = [row for row in parse(proc.mountinfo("self")) if row.fstype == _FSTYPE]
    options = {option for row in rows for option in row.super_options}
    return (rows[0].mountpoint if rows else None), frozenset(options - _NOT_OURS)


def _all_noted(folder: Path) -> list[tuple[Path, frozenset[str], Identity]]:
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            value: Any = read_json(path)
            owner = Identity(int(value["pid"]), int(value["start_time"]))
            found.append((path, frozenset(map(str, value["options"])), owner))
        except (OSError, ValueError, TypeError, KeyError):
            path.unlink(missing_ok=True)  # the host died while it was written, or somebody else has just removed it
    return found
