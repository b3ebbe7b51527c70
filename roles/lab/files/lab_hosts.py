# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the hosts of a lab up, or take them down.

    lab_hosts.py up   --folder F --bridge B --network 10.89.7 --root R NAME...
    lab_hosts.py down --folder F --bridge B --base-folder D

A host is a systemd-nspawn machine on the shared read-only root R; what it writes is in memory and ends with it.
A host is known by its control group, so nothing here trusts a pid file. The bridge's name is the lab's identity.
What was done is printed as JSON.
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

FIRST_HOST = 11  # the last number of the first host's address; 1 is the bridge
BOOT_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0
ENVIRONMENT = {
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",  # a writable control group tree for runc and crun
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "yes",  # CRIU writes ns_last_pid
    "SYSTEMD_SECCOMP": "0",
}


class LabError(Exception):
    """Says what is wrong; the message is for the user."""


def main() -> None:
    options = parse_arguments()
    lab = Lab(options.folder, options.bridge)
    try:
        if options.action == "up":
            result = up(lab, options.network, options.root, options.names)
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

    def command(self, name: str, address: str, root: Path) -> list[str]:
        return [
            "systemd-nspawn",
            "--quiet",
            "--boot",
            f"--directory={root}",
            "--volatile=overlay",
            f"--machine={name}",
            "--register=no",
            "--keep-unit",
            "--capability=all",
            f"--network-bridge={self.bridge}",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--console=passive",
            f"--set-credential=lab.address:{address}/24",
            f"--load-credential=lab.host_key:{self.folder}/hosts/{name}/ssh_host_ed25519_key",
            f"--load-credential=lab.authorized_keys:{self.folder}/id_ed25519.pub",
        ]


# --- up ---------------------------------------------------------------------------------------------------------------


def up(lab: Lab, network: str, root: Path, names: list[str]) -> dict[str, object]:
    supervisor = Supervisor.here(lab)
    addresses = {name: f"{network}.{FIRST_HOST + index}" for index, name in enumerate(names)}
    commands = {name: lab.command(name, addresses[name], root) for name in names}

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
        supervisor.start(name, commands[name], lab.folder / "hosts" / name / "console.log")
    wait_for_ssh(lab, {name: addresses[name] for name in names})
    tell_names(supervisor, addresses)

    return {"changed": bool(stopped or missing or bridge_changed), "started": missing, "stopped": stopped}


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


def wait_for_ssh(lab: Lab, addresses: dict[str, str]) -> None:
    deadline = time.monotonic() + BOOT_TIMEOUT
    waiting = dict(addresses)
    while waiting:
        waiting = {name: address for name, address in waiting.items() if not answers_ssh(address)}
        if waiting and time.monotonic() > deadline:
            logs = ", ".join(str(lab.folder / "hosts" / name / "console.log") for name in waiting)
            raise LabError(f"no answer on port 22 within {BOOT_TIMEOUT:.0f} s from {', '.join(waiting)}; see {logs}")
        if waiting:
            time.sleep(0.05)


def answers_ssh(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def tell_names(supervisor: Supervisor, addresses: dict[str, str]) -> None:
    """Write every host's /etc/hosts: the hosts of a lab know each other by name."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
    text = "\n".join(lines + [f"{address} {name}" for name, address in addresses.items()]) + "\n"
    cgroups = supervisor.cgroups()
    for name in addresses:
        hosts = Path(f"/proc/{cgroups[name].init()}/root/etc/hosts")
        if not hosts.exists() or hosts.read_text() != text:
            hosts.write_text(text)


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
    if not wait_until(lambda: not port.exists(), 2):
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
        if any(argument.startswith(f"--directory={base_folder}/") for argument in command):
            machines += [argument[10:] for argument in command if argument.startswith("--machine=")]
    return sorted(machines)


# --- control groups ---------------------------------------------------------------------------------------------------


class Cgroup:
    """The processes of one host, systemd-nspawn included."""

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

    def nspawn(self) -> int | None:
        for pid in self.processes():
            command = read_command(pid)
            if command and Path(command[0]).name == "systemd-nspawn" and not is_inside(pid):
                return pid
        return None

    def arguments(self) -> list[str]:
        pid = self.nspawn()
        return read_command(pid)[1:] if pid else []

    def init(self) -> int | None:
        pid = self.nspawn()
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

    def start(self, name: str, command: list[str], log: Path) -> None:
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

    def start(self, name: str, command: list[str], log: Path) -> None:
        cgroups = [tree / name for tree in self.trees]
        for cgroup in cgroups:
            cgroup.mkdir(parents=True, exist_ok=True)
        enter = " && ".join(f"echo 0 >{shlex.quote(str(cgroup))}/cgroup.procs" for cgroup in cgroups)
        with open(log, "wb") as output:
            subprocess.Popen(  # not waited for: it outlives this program
                ["sh", "-c", f'{enter} && exec "$@"', "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={**os.environ, **ENVIRONMENT},
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

    def start(self, name: str, command: list[str], log: Path) -> None:
        run(
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={self.unit(name)}",
            "--property=Delegate=yes",
            f"--property=StandardOutput=append:{log}",
            f"--property=StandardError=append:{log}",
            *[f"--setenv={key}={value}" for key, value in ENVIRONMENT.items()],
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
