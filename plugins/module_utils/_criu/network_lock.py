# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of nftables with which CRIU locks connections, and which a dump that ends well leaves behind.

It is made by a dump alone, in the network namespace of the workload, and called `inet CRIU-` and as much of the dump's
run id (in inventory.img) as fits: 21 characters in CRIU 4.2 (criu/netfilter.c). While a workload that has moved away
may still get packets here it keeps the kernel from answering them with a reset. Left for good, it would silence the
same connections when they come back.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from pathlib import Path
from typing import Any, Sequence, Tuple

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_wire import Message
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet, CommandFailed
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import parse
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Runner

INVENTORY = "inventory.img"

# An address and a port.
Endpoint = Tuple[str, int]

_RUN_ID = 13
# Of a row of /proc/PID/net/tcp, see proc(5).
_INODE = 9
_WORD = 8
_MAPPED = bytes(10) + b"\xff\xff"
_PREFIX = "CRIU-"
_MAGIC_BYTES, _LENGTH_BYTES = 4, 4
# Of a run id, which is a UUID. What is shorter could be another's.
_LEAST = 16
_OURS = re.compile(r"CRIU-[0-9A-Za-z-]{1,64}\Z")
_FILE = "network_lock.json"
_SECONDS = 20.0


def run_id_of(inventory: bytes) -> str | None:
    """The run id of the dump that wrote these contents of inventory.img; None if it has none (before CRIU 4.1)."""
    record = inventory[_MAGIC_BYTES + _LENGTH_BYTES :]
    try:
        return Message(record, Path(INVENTORY), 0).optional_text(_RUN_ID, "dump_criu_run_id")
    except BadImageSet:
        return None


def note_namespace(folder: Path, pid: int, proc: Proc) -> None:
    """Note in the folder of a handoff, before the dump, in which network namespace the table will be."""
    _write(folder, {"namespace": proc.namespace(pid, "net")})


def note_run_id(folder: Path, inventory: bytes) -> None:
    """Note there, after the dump, how the table is called."""
    _write(folder, {**_noted(folder), "run_id": run_id_of(inventory)})


def remove_noted(folder: Path, proc: Proc, runner: Runner, runs_on: int | None = None) -> list[str]:
    """Remove the table of the dump that was noted in this folder, and no other. Says so, or why not, for people.

    `runs_on` is the pid of the workload if it runs on here. A CRIU that was killed has not told the name then, but all
    that the table locks are connections of this workload, and nobody else dumps it.
    """
    noted = _noted(folder)
    run_id, namespace = noted.get("run_id"), noted.get("namespace")
    way = _way_into(namespace, proc) if isinstance(namespace, str) else None
    if way is None or (run_id is None and runs_on is None):
        return []
    own = _connections(runs_on, proc) if runs_on is not None else frozenset()
    return [
        _remove(name, way, runner)
        for name in _tables(way, runner)
        if _is_named(name, run_id) or (own and _locks_only(name, own, way, runner))
    ]


def _is_named(name: str, run_id: Any) -> bool:
    rest = name[len(_PREFIX) :]
    return isinstance(run_id, str) and len(rest) >= _LEAST and run_id.startswith(rest)


def _locks_only(name: str, own: frozenset[frozenset[Endpoint]], way: list[str], runner: Runner) -> bool:
    try:
        completed = runner(Command([*way, "nft", "-j", "list", "table", "inet", name], timeout=_SECONDS))
        sets = [entry["set"] for entry in json.loads(completed.stdout)["nftables"] if "set" in entry]
        locked = {_connection(element["concat"]) for one in sets for element in one.get("elem", [])}
    except (CommandFailed, ValueError, KeyError, TypeError, AttributeError):
        return False
    return bool(locked) and locked <= own


def _connection(concatenation: Sequence[Any]) -> frozenset[Endpoint]:
    # Each connection is there twice, once for each direction.
    address, port, other_address, other_port = concatenation
    return frozenset({(str(address), int(port)), (str(other_address), int(other_port))})


def _connections(init: int, proc: Proc) -> frozenset[frozenset[Endpoint]]:
    inodes = {inode for pid in proc.tree(init) for inode in proc.socket_inodes(pid)}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in proc.network_table(init, table)[1:]:
            fields = line.split()
            if len(fields) > _INODE and fields[_INODE] in inodes:
                found.add(frozenset({_endpoint(fields[1]), _endpoint(fields[2])}))
    return frozenset(found)


def _endpoint(text: str) -> Endpoint:
    # Words of 32 bits, each printed as the number that the machine reads from memory in its own byte order.
    address, _colon, port = text.partition(":")
    packed = b"".join(
        int(address[start : start + _WORD], 16).to_bytes(4, sys.byteorder) for start in range(0, len(address), _WORD)
    )
    if packed.startswith(_MAPPED):  # CRIU locks it as what it is
        packed = packed[len(_MAPPED) :]
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed), int(port, 16)


def left_tables(proc: Proc, runner: Runner) -> list[str]:
    """CRIU's tables in the network namespace of the host that dumps which are over have left, by name.

    None where nftables cannot be asked, and while a CRIU is at work, of which nobody knows how its table is called.
    """
    if any(_is_criu(proc.command(stat.pid)) for stat in proc.stats()):
        return []
    return _tables([], runner)


def _is_criu(command: Sequence[str]) -> bool:
    # One that waits at the target calls itself `criu FOLDER`.
    return bool(command) and os.path.basename(command[0].split(" ")[0]) == "criu"


def _tables(way: list[str], runner: Runner) -> list[str]:
    try:
        completed = runner(Command([*way, "nft", "-j", "list", "tables"], timeout=_SECONDS))
        listed = json.loads(completed.stdout)["nftables"] if completed.returncode == 0 else []
        names = [str(entry["table"]["name"]) for entry in listed if entry.get("table", {}).get("family") == "inet"]
    except (CommandFailed, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [name for name in names if _OURS.match(name)]


def _remove(name: str, way: list[str], runner: Runner) -> str:
    command = [*way, "nft", "delete", "table", "inet", name]
    try:
        completed = runner(Command(command, timeout=_SECONDS))
        why = "" if completed.returncode == 0 else completed.stderr.strip() or f"exit status {completed.returncode}"
    except CommandFailed as error:
        why = error.message
    if why:
        return f"Could not remove CRIU's table inet {name} of nftables ({why}). Run: {' '.join(command)}"
    return f"Removed CRIU's table inet {name} of nftables."


def _way_into(namespace: str, proc: Proc) -> list[str] | None:
    # A namespace that nobody is in and that is mounted nowhere has gone with its tables.
    if namespace == proc.namespace("self", "net"):
        return []
    for row in parse(proc.mountinfo("self")):
        if row.fstype == "nsfs" and row.root == namespace:
            return ["nsenter", f"--net={row.mountpoint}", "--"]
    return None


def _noted(folder: Path) -> dict[str, Any]:
    try:
        value = read_json(folder / _FILE)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write(folder: Path, value: dict[str, Any]) -> None:
    # Not synced: after a crash of the host there is no table either.
    draft = folder / f".{_FILE}"
    draft.write_text(json.dumps(value), "ascii")
    draft.replace(folder / _FILE)
