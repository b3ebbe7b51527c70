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
from pathlib import Path
from typing import Any, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_wire import Message
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet, CommandFailed
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import parse
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Runner

INVENTORY = "inventory.img"

_RUN_ID = 13
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


def remove_noted(folder: Path, proc: Proc, runner: Runner) -> list[str]:
    """Remove the table of the dump that was noted in this folder, and no other. Says so, or why not, for people."""
    noted = _noted(folder)
    run_id, namespace = noted.get("run_id"), noted.get("namespace")
    way = _way_into(namespace, proc) if isinstance(namespace, str) else None
    if not isinstance(run_id, str) or way is None:
        return []
    said = []
    for name in _tables(way, runner):
        rest = name[len(_PREFIX) :]
        if len(rest) >= _LEAST and run_id.startswith(rest):
            said.append(_remove(name, way, runner))
    return said


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
