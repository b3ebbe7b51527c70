# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has in the way of a workload: pids, a pid file, a live copy, listeners."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import MANIFEST, RESTORED
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json
from ansible_collections.fleet.criu.plugins.module_utils._foreign import read_bytes
from ansible_collections.fleet.criu.plugins.module_utils._preflight.descriptors import descriptors, socket_inode
from ansible_collections.fleet.criu.plugins.module_utils._preflight.sockets import (
    Socket,
    conflicts,
    is_local,
    local_networks,
    sockets,
)
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc

_LONGEST_PID_FILE = 4096


def taken_pids(proc: Proc, pids: Iterable[int]) -> list[str]:
    """Those of these pids that a process or a thread has here, each with its name."""
    return [process_name(proc, pid) for pid in pids if (proc.folder / str(pid)).exists()]


def pid_max(proc: Proc) -> int:
    """The first number that is too high for a pid here."""
    return _number(proc.folder / "sys/kernel/pid_max")


def max_user_namespaces(proc: Proc) -> int:
    """How many user namespaces may be made here."""
    return _number(proc.folder / "sys/user/max_user_namespaces")


def pid_file_state(proc: Proc, path: str) -> dict[str, Any]:
    """The pid file: its `path`, its `text` (null if it is not there), and the `process` of this pid, if it lives."""
    try:
        text = read_bytes(Path(path), _LONGEST_PID_FILE, follow=True).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return {"path": path, "text": None, "process": None}
    except OSError as error:
        return {"path": path, "text": error.strerror or "unreadable", "process": None}
    except ValueError as error:
        return {"path": path, "text": str(error), "process": None}
    stat = proc.stat(int(text)) if text.isdecimal() else None
    return {"path": path, "text": text[:40], "process": process_name(proc, stat.pid) if stat else None}


def live_copies(proc: Proc, workload: str | None, root: str | None, images: str | None) -> list[str]:
    """Signs that this workload runs here already: a process in its root folder, or one restored from its images."""
    found = [f"{name} has its root in {root}" for name in _processes_below(proc, root)] if root else []
    if workload and images:
        found += [
            f"{name} was restored from {folder}" for folder, name in _restored(proc, workload, Path(images).parent)
        ]
    return found


def listeners_in_the_way(proc: Proc, wanted: Iterable[Mapping[str, Any]]) -> list[str]:
    """Each waiting socket of the workload whose port somebody has here, and who."""
    found = list(conflicts([Socket(**socket) for socket in wanted], sockets(proc, "self")))
    owners = _owners(proc, {other.inode for _wanted, other in found})
    return [f"{socket} ({other} is open in {owners.get(other.inode, 'the kernel')})" for socket, other in found]


def absent_addresses(proc: Proc, wanted: Iterable[Mapping[str, Any]]) -> list[str]:
    """The workload's sockets whose own address this host does not have."""
    networks = local_networks(proc)
    return [str(Socket(**socket)) for socket in wanted if not is_local(socket["address"], networks)]


def process_name(proc: Proc, pid: int) -> str:
    """A process as a person would look for it: its pid and the beginning of its command line."""
    command = " ".join(proc.command(pid)) or proc.status(pid).get("Name", "?")
    return f"process {pid} ({command[:60]})"


def _processes_below(proc: Proc, root: str) -> Iterator[str]:
    try:
        wanted = os.stat(root)
    except OSError:
        return
    for stat in proc.stats():
        try:
            is_there = os.path.samestat(os.stat(proc.root(stat.pid, "")), wanted)
        except OSError:
            continue
        if is_there:
            yield process_name(proc, stat.pid)


def _restored(proc: Proc, workload: str, folder: Path) -> Iterator[tuple[Path, str]]:
    for record_path in sorted(folder.glob(f"*/{RESTORED}")):
        try:
            record, manifest = read_json(record_path), read_json(record_path.parent / MANIFEST)
            stat = proc.stat(int(record["pid"]))
            is_it = manifest["workload"]["name"] == workload and record["boot_id"] == proc.boot_id()
            if stat is not None and is_it and stat.start_time == record["start_time"]:
                yield record_path.parent, process_name(proc, stat.pid)
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            continue  # no image set that anybody could restore


def _owners(proc: Proc, inodes: set[int]) -> dict[int, str]:
    if not inodes:
        return {}
    pids: Sequence[int] = [stat.pid for stat in proc.stats()]
    found = {socket_inode(descriptor): descriptor.pid for descriptor in descriptors(proc, pids)}
    return {inode: process_name(proc, found[inode]) for inode in inodes if inode in found}


def _number(path: Path) -> int:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return 0
