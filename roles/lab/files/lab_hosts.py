# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the hosts of a lab up, or take them down.

    lab_hosts.py up   --folder F --bridge B --network 10.89.7 --root R [--kind vm ...] NAME...
    lab_hosts.py down --folder F --bridge B --base-folder D

A host is a systemd-nspawn machine (lab_nspawn.py) or a virtual machine (lab_vm.py) on the shared read-only root R; what
it writes ends with it. A host is known by its control group, so nothing here trusts a pid file. The bridge's name is
the lab's identity. What was done is printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Callable

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import lab_nspawn
import lab_vm
from lab_host import Host, Kind, LabError

FIRST_HOST = 11  # the last number of the first host's address; 1 is the bridge
STOP_TIMEOUT = 10.0
PROGRAMS = (lab_nspawn.PROGRAM, lab_vm.PROGRAM)


def main() -> None:
    options = parse_arguments()
    lab = Lab(options.folder, options.bridge)
    try:
        if options.action == "up":
            result = up(lab, kind_of(options), options.network, options.names)
        else:
            result = down(lab, options.base_folder)
    except LabError as error:
        sys.exit(f"lab_hosts: {error}")
    sys.stdout.write(json.dumps(result) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--folder", type=Path, required=True)
    common.add_argument("--bridge", required=True)
    up_action = actions.add_parser("up", parents=[common])
    up_action.add_argument("--network", required=True)
    up_action.add_argument("--root", type=Path, required=True)
    up_action.add_argument("--kind", choices=["nspawn", "vm"], default="nspawn")
    up_action.add_argument("--accelerator", choices=["auto", "kvm", "tcg"], default="auto")
    up_action.add_argument("--memory", type=int, default=1024, help="MiB of a virtual machine")
    up_action.add_argument("--processors", type=int, default=2, help="of a virtual machine")
    up_action.add_argument("names", nargs="+")
    down_action = actions.add_parser("down", parents=[common])
    down_action.add_argument("--base-folder", type=Path, required=True)
    return parser.parse_args()


class Lab:
    """What is fixed about a lab: where its files are and what its things are called."""

    def __init__(self, folder: Path, bridge: str) -> None:
        self.folder = folder
        self.bridge = bridge
        self.mark = f"fleet.criu lab {folder}"  # on the bridge, so that no other bridge is ever taken for ours
        self.connections = Path("/run/fleet.criu") / bridge  # shared ssh connections


def kind_of(options: argparse.Namespace) -> Kind:
    if options.kind == "nspawn":
        return lab_nspawn.Nspawn(options.root, options.bridge)
    return lab_vm.VirtualMachine(
        options.root, options.folder / "accelerator", options.accelerator, options.memory, options.processors
    )


# --- up ---------------------------------------------------------------------------------------------------------------


def up(lab: Lab, kind: Kind, network: str, names: list[str]) -> dict[str, object]:
    supervisor = Supervisor.here(lab)
    hosts = {
        name: Host(name, f"{network}.{FIRST_HOST + index}", lab.folder / "hosts" / name, lab.folder / "id_ed25519")
        for index, name in enumerate(names)
    }
    commands = {name: kind.command(host) for name, host in hosts.items()}

    refuse_foreign_network(lab, network)
    refuse_foreign_hosts(lab, names)
    stopped = [
        name
        for name, cgroup in supervisor.cgroups().items()
        if name not in commands or cgroup.arguments() != commands[name][1:]
    ]
    for name in stopped:
        stop_host(lab, supervisor, name)

    bridge_changed = ensure_bridge(lab, network)
    missing = [name for name in names if name not in supervisor.cgroups()]
    for name in missing:
        if kind.needs_tap:
            make_tap(lab, name)
        supervisor.start(hosts[name], commands[name], kind.environment)
    wait_for_ssh(list(hosts.values()), kind.boot_timeout)
    tell_names(kind, supervisor, list(hosts.values()))

    return {"changed": bool(stopped or missing or bridge_changed), "started": missing, "stopped": stopped}


def make_tap(lab: Lab, name: str) -> None:
    ip("tuntap", "add", "dev", f"vb-{name}", "mode", "tap")
    ip("link", "set", "dev", f"vb-{name}", "master", lab.bridge, "up")


def ensure_bridge(lab: Lab, network: str) -> bool:
    address = f"{network}.1/24"
    if bridge_exists(lab):
        if address in ip("-oneline", "-4", "address", "show", "dev", lab.bridge):
            return False
        delete_bridge(lab)
    ip("link", "add", "name", lab.bridge, "type", "bridge", "forward_delay", "0", "stp_state", "0")
    ip("link", "set", "dev", lab.bridge, "alias", lab.mark)
    ip("address", "add", address, "dev", lab.bridge)
    ip("link", "set", "dev", lab.bridge, "up")
    return True


def refuse_foreign_network(lab: Lab, network: str) -> None:
    for line in ip("-oneline", "-4", "address", "show").splitlines():
        interface, address = line.split()[1], line.split()[3]
        if interface != lab.bridge and address.startswith(f"{network}."):
            raise LabError(f"interface {interface} has {address} already; set lab_subnet to a free network")


def refuse_foreign_hosts(lab: Lab, names: list[str]) -> None:
    for name in names:
        link = Path("/sys/class/net", f"vb-{name}", "master")
        bridge = link.resolve().name if link.exists() else lab.bridge
        if bridge != lab.bridge:
            raise LabError(f"a host {name} of another lab runs on bridge {bridge}; choose another lab_prefix")


def bridge_exists(lab: Lab) -> bool:
    if not Path("/sys/class/net", lab.bridge).exists():
        return False
    mark = Path("/sys/class/net", lab.bridge, "ifalias").read_text().strip()
    if mark != lab.mark:
        raise LabError(f"interface {lab.bridge} is not this lab's ({mark or 'no alias'}); choose another lab_bridge")
    return True


def wait_for_ssh(hosts: list[Host], boot_timeout: float) -> None:
    deadline = time.monotonic() + boot_timeout
    waiting = hosts
    while waiting:
        waiting = [host for host in waiting if not answers_ssh(host.address)]
        if waiting and time.monotonic() > deadline:
            logs = ", ".join(str(host.console) for host in waiting)
            names = ", ".join(host.name for host in waiting)
            raise LabError(f"no answer on port 22 within {boot_timeout:.0f} s from {names}; see {logs}")
        if waiting:
            time.sleep(0.05)


def answers_ssh(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def tell_names(kind: Kind, supervisor: Supervisor, hosts: list[Host]) -> None:
    """Write every host's /etc/hosts: the hosts of a lab know each other by name."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
    text = "\n".join(lines + [f"{host.address} {host.name}" for host in hosts]) + "\n"
    cgroups = supervisor.cgroups()
    for host in hosts:
        kind.write_hosts_file(host, cgroups[host.name].init(), text)


# --- down -------------------------------------------------------------------------------------------------------------


def down(lab: Lab, base_folder: Path) -> dict[str, object]:
    supervisor = Supervisor.here(lab)
    stopped = list(supervisor.cgroups())
    for name in stopped:
        stop_host(lab, supervisor, name)
    leftovers = supervisor.clear()
    leftovers |= close_connections(lab)
    if bridge_exists(lab):
        delete_bridge(lab)
        leftovers = True
    return {"changed": bool(stopped) or leftovers, "stopped": stopped, "base_users": users_of(base_folder)}


def stop_host(lab: Lab, supervisor: Supervisor, name: str) -> None:
    """Kill the host's own init, which ends systemd-nspawn in good order; then whatever is left."""
    close_connections(lab)
    cgroup = supervisor.cgroups()[name]
    init = cgroup.init()
    if init:
        with suppress(ProcessLookupError):
            os.kill(init, signal.SIGKILL)
        wait_until(cgroup.empty, STOP_TIMEOUT / 2)
    cgroup.kill()
    if not wait_until(cgroup.empty, STOP_TIMEOUT):
        raise LabError(f"host {name} does not end: processes {cgroup.processes()}")
    supervisor.remove(name)
    port = Path("/sys/class/net", lab.bridge, "brif", f"vb-{name}")
    # That of a virtual machine is ours, the others go with their namespace.
    is_ours = Path("/sys/class/net", port.name, "tun_flags").exists()
    if is_ours or not wait_until(lambda: not port.exists(), 2):
        ip("link", "delete", "dev", port.name)
    shutil.rmtree(Path("/run/systemd/nspawn/propagate", name), ignore_errors=True)


def delete_bridge(lab: Lab) -> None:
    for port in Path("/sys/class/net", lab.bridge, "brif").iterdir():
        ip("link", "delete", "dev", port.name)
    ip("link", "delete", "dev", lab.bridge)


def close_connections(lab: Lab) -> bool:
    """End shared ssh connections: one to a host that is gone would hang whoever uses it next."""
    if not lab.connections.exists():
        return False
    for path in lab.connections.iterdir():
        subprocess.run(
            ["ssh", "-o", f"ControlPath={path}", "-O", "exit", "lab"], capture_output=True, timeout=10, check=False
        )
    shutil.rmtree(lab.connections, ignore_errors=True)
    remove_if_empty(lab.connections.parent)
    return True


def users_of(base_folder: Path) -> list[str]:
    """The machines, of whichever lab, that run on a root below this folder."""
    machines = []
    for entry in Path("/proc").glob("[0-9]*"):
        command = read_command(int(entry.name))
        if any(f"={base_folder}/" in argument for argument in command):
            machines += lab_nspawn.names_in(command) + lab_vm.names_in(command)
    return sorted(machines)


# --- control groups ---------------------------------------------------------------------------------------------------


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
    def here(lab: Lab) -> Supervisor:
        return SystemdSupervisor(lab) if Path("/run/systemd/system").exists() else PlainSupervisor(lab)

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

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

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.trees = [tree / "fleetcriu-lab" / lab.bridge for tree in control_group_trees()]

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
        return f"fleetcriu-lab-{self.lab.bridge}-{name}.service"

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


# --- small helpers ----------------------------------------------------------------------------------------------------


def ip(*arguments: str) -> str:
    return run("ip", *arguments)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def read_command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def read_status(pid: int, field: str) -> list[str]:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return []
    return next((line.split()[1:] for line in status.splitlines() if line.startswith(f"{field}:")), [])


def is_zombie(pid: int) -> bool:
    return read_status(pid, "State")[:1] == ["Z"]


def is_inside(pid: int) -> bool:
    """Whether the process is in a pid namespace below ours."""
    return len(read_status(pid, "NSpid")) > 1


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def remove_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
