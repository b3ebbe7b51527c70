# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the hosts of a lab up, or take them down.

    lab_hosts.py up   --folder F --bridge B --network 10.89.7 --root R [--kind vm ...] NAME...
    lab_hosts.py down --folder F --bridge B --base-folder D

A host is a systemd-nspawn machine (lab_nspawn.py) or a virtual machine (lab_vm.py) on the shared read-only root R; what
it writes ends with it. The bridge's name is the lab's identity. What was done is printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import lab_nspawn
import lab_vm
from lab_host import Host, Kind, LabError
from lab_processes import read_command, run, wait_until
from lab_supervisor import Supervisor

FIRST_HOST = 11  # the last number of the first host's address; 1 is the bridge
STOP_TIMEOUT = 10.0


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
    supervisor = Supervisor.here(lab.bridge)
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
    supervisor = Supervisor.here(lab.bridge)
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
    with suppress(OSError):
        lab.connections.parent.rmdir()
    return True


def users_of(base_folder: Path) -> list[str]:
    """The machines, of whichever lab, that run on a root below this folder."""
    machines = []
    for entry in Path("/proc").glob("[0-9]*"):
        command = read_command(int(entry.name))
        if any(f"={base_folder}/" in argument for argument in command):
            machines += lab_nspawn.names_in(command) + lab_vm.names_in(command)
    return sorted(machines)


def ip(*arguments: str) -> str:
    return run("ip", *arguments)


if __name__ == "__main__":
    main()
