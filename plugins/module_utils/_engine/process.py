# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of a workload: its init is found by what the user said of it, and described."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

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


@dataclass(frozen=True)
class Description:
    """How a user says which workload is meant; exactly one is set, `container` with its `engine`.

    `command` is the whole command line.
    """

    pid: int | None = None
    pid_file: str | None = None
    unit: str | None = None
    command: Sequence[str] | None = None
    container: str | None = None
    engine: str | None = None

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Description:
        """The description in a module's parameters."""
        command = given.get("command")
        names = ("pid", "pid_file", "unit", "container", "engine")
        return cls(command=command or None, **{name: given.get(name) for name in names})

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
    if description.pid_file is not None:
        return process_of(Path(description.pid_file), proc), None
    return require_living(_find_pid(description, proc, runner), str(description), proc), None


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


def _find_pid(description: Description, proc: Proc, runner: Runner) -> int:
    if description.pid is not None:
        return description.pid
    if description.unit is not None:
        return _pid_of_unit(description.unit, runner)
    return _pid_of_command(list(description.command or ()), proc)


def _pid_of_unit(unit: str, runner: Runner) -> int:
    completed = runner(Command(["systemctl", "show", "--property", "MainPID", "--value", "--", unit]))
    pid = completed.stdout.strip()
    if completed.returncode != 0 or not pid.isdecimal() or int(pid) == 0:
        raise WorkloadNotFound(
            f"The systemd unit {unit} has no main process here. {completed.stderr.strip()}".strip(),
            "Check the unit's name and that it is active.",
        )
    return int(pid)


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
