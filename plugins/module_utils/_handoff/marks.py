# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By what a workload is known on a host: another name, or a mere pid, is no way around an open handoff."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import SOURCE, TARGET, Record
from ansible_collections.fleet.criu.plugins.module_utils._handoff.owner import unit_name
from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import is_below
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity, Proc

# What every workload may have in common.
_NOBODY_S_ROOT = frozenset({None, "", "/"})


@dataclass(frozen=True)
class Marks:
    """What tells a workload on this host from others; None or empty is what is not known.

    `processes` are of this boot. `container` is the name of the engine and of the container. Paths are absolute.
    """

    workload: str | None = None
    processes: frozenset[Identity] = frozenset()
    container: tuple[str, str] | None = None
    images: str | None = None
    root: str | None = None
    pid_file: str | None = None
    unit: str | None = None

    def shared_with(self, other: Marks) -> str | None:
        """What both have, so that they may be one workload, in words; None if nothing."""
        if self.workload is not None and self.workload == other.workload:
            return f"the name {self.workload}"
        processes = sorted(identity.pid for identity in self.processes & other.processes)
        if processes:
            return f"the process {processes[0]}"
        if self.container is not None and self.container == other.container:
            return f"the {' container '.join(self.container)}"
        if self.unit is not None and self.unit == other.unit:
            return f"the unit {self.unit}"
        return self._shared_path(other)

    def _shared_path(self, other: Marks) -> str | None:
        if _is_same(self.pid_file, other.pid_file):
            return f"the pid file {self.pid_file}"
        if _is_same(self.root, other.root) and self.root not in _NOBODY_S_ROOT:
            return f"the root {self.root}"
        if (
            self.images
            and other.images
            and (is_below(self.images, other.images) or is_below(other.images, self.images))
        ):
            return f"the image folder {self.images}"
        return None


def marks_of(record: Record, boot_id: str, restored: Identity | None = None) -> Marks:
    """By what the workload of a record is known here; `restored` is the copy that the target made, on this boot."""
    facts = record.facts
    is_same_boot = facts.get("boot_id") == boot_id
    processes = {restored} if restored is not None and is_same_boot else set()
    if is_same_boot and record.side == SOURCE and {"pid", "start_time"} <= facts.keys():
        processes.add(Identity(int(facts["pid"]), int(facts["start_time"])))
    return Marks(
        facts.get("workload"),
        frozenset(processes),
        container_of(facts.get("engine") or {}),
        _real(facts.get("images")),
        _real(facts.get("root")),
        _real(facts.get("pid_file")),
        _unit_of(record),
    )


def container_of(engine: Mapping[str, Any]) -> tuple[str, str] | None:
    """The container in a request's `engine`, if it has one."""
    return (str(engine["name"]), str(engine["container"])) if engine.get("container") else None


def real_marks(marks: Marks) -> Marks:
    """The same with the paths that symlinks lead to."""
    paths = {name: _real(getattr(marks, name)) for name in ("images", "root", "pid_file")}
    return Marks(marks.workload, marks.processes, marks.container, unit=marks.unit, **paths)


def family(pid: int, proc: Proc) -> frozenset[Identity]:
    """A process with all below and all above it: a part of a workload is that workload."""
    parents = {stat.pid: stat for stat in proc.stats()}
    above, stat = [], parents.get(pid)
    while stat is not None:
        above.append(stat)
        stat = parents.pop(stat.parent, None)
    below = [found for found in map(proc.stat, proc.tree(pid)) if found is not None]
    return frozenset(Identity(stat.pid, stat.start_time) for stat in (*above, *below))


def _unit_of(record: Record) -> str | None:
    if record.side != TARGET or record.facts.get("engine") or not isinstance(record.facts.get("workload"), str):
        return None
    try:
        return unit_name(record.facts["workload"], record.facts.get("unit"))
    except CriuError:
        return None


def _is_same(one: str | None, other: str | None) -> bool:
    return bool(one) and one == other


def _real(path: Any) -> str | None:
    return os.path.realpath(path) if isinstance(path, str) and path else None
