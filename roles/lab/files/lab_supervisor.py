# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of the hosts of a lab. A host is known by its control group, so nothing here trusts a pid file."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path

import lab_nspawn
import lab_vm
from lab_host import Host, LabError
from lab_processes import is_inside, is_zombie, read_command, run, wait_until

PROGRAMS = (lab_nspawn.PROGRAM, lab_vm.PROGRAM)


class Cgroup:
    """The processes of one host, the program that makes it a host included."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def processes(self) -> list[int]:
        pids = []
        for folder, _folders, _files in os.walk(self.path):
            try:
                pids += [int(pid) for pid in Path(folder, "cgroup.procs").read_text().split()]
            except OSError:
                continue  # the folder went away meanwhile
        return [pid for pid in pids if not is_zombie(pid)]

    def empty(self) -> bool:
        return not self.processes()

    def kill(self) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def program(self) -> int | None:
        for pid in self.processes():
            command = read_command(pid)
            if command and Path(command[0]).name in PROGRAMS and not is_inside(pid):
                return pid
        return None

    def arguments(self) -> list[str]:
        pid = self.program()
        return read_command(pid)[1:] if pid else []

    def init(self) -> int | None:
        """The host's own init, if it is a process of this machine."""
        pid = self.program()
        if not pid:
            return None
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return None
        return next((int(child) for child in children if is_inside(int(child))), None)


class Supervisor:
    """Starts hosts, each in a control group of its own.

    Without that, hosts would share one: their systemds would fight over units of the same name.
    """

    @staticmethod
    def here(bridge: str) -> Supervisor:
        return SystemdSupervisor(bridge) if Path("/run/systemd/system").exists() else PlainSupervisor(bridge)

    def __init__(self, bridge: str) -> None:
        self.bridge = bridge

    def cgroups(self) -> dict[str, Cgroup]:
        """The hosts there are, by name; also those that are half broken, or died and left a control group behind."""
        raise NotImplementedError

    def start(self, host: Host, command: list[str], environment: dict[str, str]) -> None:
        raise NotImplementedError

    def remove(self, name: str) -> None:
        """Forget a host that has no process any more."""
        raise NotImplementedError

    def clear(self) -> bool:
        """Remove what is left of the lab when all its hosts are gone."""
        return False


class PlainSupervisor(Supervisor):
    """Where no systemd runs: control groups made by hand, below /fleetcriu-lab/BRIDGE."""

    def __init__(self, bridge: str) -> None:
        super().__init__(bridge)
        self.trees = [tree / "fleetcriu-lab" / bridge for tree in control_group_trees()]

    def cgroups(self) -> dict[str, Cgroup]:
        folders = sorted(self.trees[0].iterdir()) if self.trees[0].exists() else []
        return {folder.name: Cgroup(folder) for folder in folders if folder.is_dir()}

    def start(self, host: Host, command: list[str], environment: dict[str, str]) -> None:
        cgroups = [tree / host.name for tree in self.trees]
        for cgroup in cgroups:
            cgroup.mkdir(parents=True, exist_ok=True)
        enter = " && ".join(f"echo 0 >{shlex.quote(str(cgroup))}/cgroup.procs" for cgroup in cgroups)
        with open(host.console, "wb") as output:
            subprocess.Popen(  # not waited for: it outlives this program
                ["sh", "-c", f'{enter} && exec "$@"', "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def remove(self, name: str) -> None:
        for tree in self.trees:
            for folder, _folders, _files in os.walk(tree / name, topdown=False):
                wait_until(partial(remove_if_empty, Path(folder)), 2)

    def clear(self) -> bool:
        removed = [remove_if_empty(tree) and remove_if_empty(tree.parent) for tree in self.trees if tree.exists()]
        return bool(removed)


class SystemdSupervisor(Supervisor):
    """Where systemd runs: one transient unit for each host, with a delegated control group."""

    def unit(self, name: str) -> str:
        return f"fleetcriu-lab-{self.bridge}-{name}.service"

    def cgroups(self) -> dict[str, Cgroup]:
        listing = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", self.unit("*"))
        names = re.findall(rf"^{re.escape(self.unit('@')).replace('@', '(.+)')}", listing, re.MULTILINE)
        return {name: Cgroup(self.path(name)) for name in names}

    def path(self, name: str) -> Path:
        group = run("systemctl", "show", "--property=ControlGroup", "--value", self.unit(name)).strip()
        return control_group_trees()[0] / group.lstrip("/") if group else Path("/nonexistent")

    def start(self, host: Host, command: list[str], environment: dict[str, str]) -> None:
        run(
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={self.unit(host.name)}",
            "--property=Delegate=yes",
            f"--property=StandardOutput=append:{host.console}",
            f"--property=StandardError=append:{host.console}",
            *[f"--setenv={key}={value}" for key, value in environment.items()],
            *command,
        )

    def remove(self, name: str) -> None:
        subprocess.run(["systemctl", "stop", self.unit(name)], capture_output=True, check=False)
        subprocess.run(["systemctl", "reset-failed", self.unit(name)], capture_output=True, check=False)


def control_group_trees() -> list[Path]:
    """Where the trees that systemd-nspawn uses are mounted: version 2, and version 1's name=systemd if there is one."""
    trees: list[Path] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        fstype, superblock_options = fields[fields.index("-") + 1], fields[-1]
        if fstype == "cgroup2":
            trees.insert(0, Path(fields[4]))
        elif fstype == "cgroup" and "name=systemd" in superblock_options.split(","):
            trees.append(Path(fields[4]))
    if not trees:
        raise LabError("no control groups are mounted on this machine")
    return trees


def remove_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
