# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of a workload: its init is found by what the user said of it, and described."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._engine.base import Container, Engine
from ansible_collections.fleet.criu.plugins.module_utils._engine.registry import engine_named
from ansible_collections.fleet.criu.plugins.module_utils._errors import (
    AmbiguousWorkload,
    WorkloadNotFound,
)
from ansible_collections.fleet.criu.plugins.module_utils._mounts.live import root_folder
from ansible_collections.fleet.criu.plugins.module_utils._pid_file import process_of
from ansible_collections.fleet.criu.plugins.module_utils._proc import (
    NAMESPACES,
    Identity,
    Proc,
    memory_bytes,
    require_living,
    user_ids,
)
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Runner

_SHOW_MAIN_PID = ("systemctl", "show", "--property", "MainPID", "--value", "--")

# What an agent of ours has among its arguments. It waits in the unit that its workload is going to live in.
_AGENTS = "ansible_collections.fleet.criu.plugins.module_utils._handoff."


@dataclass(frozen=True)
class Description:
    """How a user says which workload is meant; exactly one is set, `container` with its `engine`.

    `command` is the whole command line. `owner_units` are the units that a move or a restore may have put the workload
    into, wherever the user has seen it last: it is looked for there too, unless it is described by pid or container.
    """

    pid: int | None = None
    pid_file: str | None = None
    unit: str | None = None
    command: Sequence[str] | None = None
    container: str | None = None
    engine: str | None = None
    owner_units: Sequence[str] = ()

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], owner_units: Sequence[str] = ()) -> Description:
        """The description in a module's parameters."""
        command = given.get("command")
        names = ("pid", "pid_file", "unit", "container", "engine")
        return cls(command=command or None, owner_units=owner_units, **{name: given.get(name) for name in names})

    def __str__(self) -> str:
        for name in ("pid", "pid_file", "unit"):
            if getattr(self, name) is not None:
                return f"{name} {getattr(self, name)}"
        if self.container is not None:
            return f"{self.engine} container {self.container}"
        return f"command {shlex.join(self.command or ())}"


def find(description: Description, proc: Proc, runner: Runner) -> Identity:
    """The init process of the workload.

    Raises WorkloadNotFound if nothing that runs fits, AmbiguousWorkload if several do or if it is unsure.
    """
    return find_with_owner(description, proc, runner)[0]


def find_with_owner(
    description: Description, proc: Proc, runner: Runner
) -> tuple[Identity, tuple[Engine, Container] | None]:
    """The same, with its engine and container; None if it has no engine. Raises what `find` and `engine_named` do."""
    if description.container is not None:
        engine = engine_named(str(description.engine), runner, proc)
        container = running_container(engine, description.container)
        return require_living(container.pid, str(description), proc), (engine, container)
    if description.pid is not None:
        return require_living(description.pid, str(description), proc), None
    return _find_in_both(description, proc, runner), None


def running_container(engine: Engine, name: str) -> Container:
    """The container with this name, if it has processes. Raises WorkloadNotFound."""
    container = engine.find(name)
    if container.pid == 0:
        raise WorkloadNotFound(
            f"The {container.engine} container {name} does not run here: it is {container.state}.",
            "Start it, or look for it on another host.",
        )
    return container


def describe(identity: Identity, proc: Proc) -> dict[str, Any]:
    """What is to be known of a workload, in plain JSON types; see the return values of the module workload_info."""
    tree = proc.tree(identity.pid)
    own = {name: proc.namespace(identity.pid, name) for name in NAMESPACES}
    host = {name: proc.namespace("self", name) for name in NAMESPACES}
    return {
        "pid": identity.pid,
        "start_time": identity.start_time,
        "command": proc.command(identity.pid),
        "root": root_folder(identity.pid, proc),
        "namespaces": {
            name: "host" if value == host[name] else "own" for name, value in own.items() if value is not None
        },
        "processes": len(tree),
        "uids": user_ids(proc, tree),
        "memory_bytes": memory_bytes(proc, tree),
    }


def _find_in_both(description: Description, proc: Proc, runner: Runner) -> Identity:
    # Where the user has started it, and where a move or a restore has put it.
    found: Identity | None = None
    missing: WorkloadNotFound | None = None
    try:
        found = _find_described(description, proc, runner)
    except WorkloadNotFound as error:
        missing = error
    owned = main_processes(description.owner_units, proc, runner)
    # The main process of a unit may be a child or a parent of what else describes the workload.
    strangers = {unit: pid for unit, pid in owned.items() if found is None or not _are_kin(pid, found.pid, proc)}
    pids = {*strangers.values(), *([found.pid] if found is not None else [])}
    if len(pids) > 1:
        where = [f"{pid} (unit {unit})" for unit, pid in strangers.items()]
        where = [f"{found.pid} (by {description})", *where] if found is not None else where
        raise AmbiguousWorkload(
            f"The workload runs here more than once: as the processes {' and '.join(where)}.",
            "Find out which of them is the right one, and end the others before anything else is done with it.",
            {"pids": sorted(pids)},
        )
    if found is not None:
        return found
    if strangers:
        unit, pid = next(iter(strangers.items()))
        return require_living(pid, f"the unit {unit}", proc)
    raise missing or AssertionError


def _are_kin(one: int, other: int, proc: Proc) -> bool:
    return one == other or one in proc.tree(other) or other in proc.tree(one)


def _find_described(description: Description, proc: Proc, runner: Runner) -> Identity:
    if description.pid_file is not None:
        return process_of(Path(description.pid_file), proc)
    if description.unit is not None:
        pid = _pid_of_unit(description.unit, proc, runner)
    else:
        pid = _pid_of_command(list(description.command or ()), proc)
    return require_living(pid, str(description), proc)


def _pid_of_unit(unit: str, proc: Proc, runner: Runner) -> int:
    completed = runner(Command([*_SHOW_MAIN_PID, unit]))
    pids = _pids_in(completed.stdout) if completed.returncode == 0 else []
    if len(pids) != 1 or _is_agent(pids[0], proc):
        raise WorkloadNotFound(
            f"The systemd unit {unit} has no main process here. {completed.stderr.strip()}".strip(),
            "Check the unit's name and that it is active. One of a user's own systemd (systemctl --user) is not found "
            "by its name: describe it by command or pid_file.",
        )
    return pids[0]


def main_processes(units: Iterable[str], proc: Proc, runner: Runner) -> dict[str, int]:
    # One answer for all of them: to ask takes longer than the rest.
    names = list(units)
    completed = runner(Command([*_SHOW_MAIN_PID, *names])) if names else None
    if completed is None or completed.returncode != 0:
        return {}
    pids = _pids_in(completed.stdout)
    return {unit: pid for unit, pid in zip(names, pids) if pid and not _is_agent(pid, proc)}


def _pids_in(shown: str) -> list[int]:
    # One line for each unit, and an empty one between two; 0 if it has no main process.
    lines = [line.strip() for line in shown.splitlines() if line.strip()]
    return [int(line) for line in lines] if all(line.isdecimal() for line in lines) else []


def _is_agent(pid: int, proc: Proc) -> bool:
    return pid == 0 or any(word.startswith(_AGENTS) for word in proc.command(pid))


def _pid_of_command(command: Sequence[str], proc: Proc) -> int:
    wanted = "\0".join(command).rstrip("\0")
    fitting = [stat for stat in proc.stats() if "\0".join(proc.command(stat.pid)) == wanted]
    pids = {stat.pid for stat in fitting}
    # A fork of the workload has the same command line; its init is the one whose parent has another.
    tops = [stat.pid for stat in fitting if stat.parent not in pids]
    if not tops:
        raise WorkloadNotFound(
            f"No process here has exactly the command line {shlex.join(command)}.",
            "Compare with: ps -eo pid,args. Programs may change their command line after they start.",
        )
    if len(tops) > 1:
        raise AmbiguousWorkload(
            f"{len(tops)} processes have the command line {shlex.join(command)}: pids {sorted(tops)}.",
            "Describe the workload by pid_file, unit or pid.",
            {"pids": sorted(tops)},
        )
    return tops[0]
