# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a workload needs of a host, read at the source without touching it."""

from __future__ import annotations

import os
from typing import Any, Iterator, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import is_below, relative
from ansible_collections.fleet.criu.plugins.module_utils._mounts.plan import PRESENT
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import parse
from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import EXTERNAL, root_mount
from ansible_collections.fleet.criu.plugins.module_utils._preflight.contents import Effort, not_looked_at, summarize
from ansible_collections.fleet.criu.plugins.module_utils._preflight.descriptors import (
    Descriptor,
    descriptors,
    socket_inode,
)
from ansible_collections.fleet.criu.plugins.module_utils._preflight.holdings import FILE_LOCK, holdings
from ansible_collections.fleet.criu.plugins.module_utils._preflight.left_out import LeftOut
from ansible_collections.fleet.criu.plugins.module_utils._preflight.mapped import mapped_files
from ansible_collections.fleet.criu.plugins.module_utils._preflight.sockets import sockets
from ansible_collections.fleet.criu.plugins.module_utils._proc import NAMESPACES, Proc, memory_bytes

_IO_URING = "anon_inode:[io_uring]"
# Namespaces that CRIU needs a feature for.
_NAMESPACE_FEATURES = {"user": "userns", "time": "timens", "cgroup": "cgroupns"}
# The same for what a descriptor may lead to.
_DESCRIPTOR_FEATURES = {"anon_inode:[timerfd]": "timerfd", "/dev/net/tun": "tun"}
_SECCOMP_FILTER = "2"
_32_BIT = 1


def workload_facts(pid: int, proc: Proc) -> dict[str, Any]:
    """The facts of the tree below `pid` in plain JSON types. Raises WorkloadNotFound if the process is gone."""
    if proc.stat(pid) is None:
        raise WorkloadNotFound(f"There is no process {pid} to look at.", "Look for the workload again.")
    pids = proc.tree(pid)
    opened = list(descriptors(proc, pids))
    own = _own_namespaces(pid, proc)
    inodes = {socket_inode(descriptor) for descriptor in opened}
    held = holdings(proc, pid, pids, opened)
    needs = set(_needs(proc, pid, pids, own, opened))
    if any(holding.kind == FILE_LOCK for holding in held):
        needs.add("fdinfo_lock")
    return {
        "pid": pid,
        "namespaces": own,
        "pids": sorted(_thread_ids(proc, pids)),
        "memory_bytes": memory_bytes(proc, pids),
        "label": _label(proc, pid),
        "sockets": [socket.as_dict() for socket in sockets(proc, pid) if socket.inode in inodes],
        "io_uring": [
            f"process {found.pid}, descriptor {found.number}" for found in opened if found.target == _IO_URING
        ],
        "holdings": [holding.as_dict() for holding in held],
        "mapped_files": mapped_files(proc, pid, pids),
        "id_maps": proc.id_maps(pid) if "user" in own else None,
        "has_read_only_root": _has_read_only_root(proc, pid),
        "needs": sorted(needs),
    }


def present_contents(
    map_entries: Sequence[Mapping[str, Any]],
    path_name: str,
    effort: Effort,
    left_out: LeftOut | None = None,
    there: Mapping[str, Any] | None = None,
    paths: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The contents of each external mount that should be at the target already, by mountpoint.

    `path_name` is the field that has this host's path: `host_path` on the source, `path` on the target. `there` is what
    the source gave, which has left out what has to be left out here too. `paths` are those in the workload that are
    compared, by default all.
    """
    left_out = LeftOut(Proc().mountinfo("self")) if left_out is None else left_out
    mountpoints = [entry["mountpoint"] for entry in map_entries]
    found: dict[str, Any] = {}
    for entry in map_entries:
        mountpoint = entry["mountpoint"]
        if (entry["data"], entry["kind"]) != (PRESENT, EXTERNAL) or not entry.get(path_name) or entry.get("create"):
            continue
        only = None if paths is None else _names_in(mountpoint, paths, mountpoints)
        if only == []:
            found[mountpoint] = not_looked_at("not in contents_paths")
        else:
            hidden = _left_out_of(there, mountpoint)
            found[mountpoint] = summarize(entry[path_name], effort, left_out, hidden, only)
    return found


def _names_in(mountpoint: str, paths: Sequence[str], mountpoints: Sequence[str]) -> list[str]:
    """Those of the paths that are on this mount, relative to it, "" for all of it."""
    inner = [other for other in mountpoints if other != mountpoint and is_below(other, mountpoint)]
    found = {"" for path in paths if is_below(mountpoint, path)}
    for path in paths:
        if is_below(path, mountpoint) and not any(is_below(path, other) for other in inner):
            found.add(relative(path, mountpoint))
    return sorted(found)


def _left_out_of(contents: Mapping[str, Any] | None, mountpoint: str) -> Sequence[str]:
    found = (contents or {}).get(mountpoint)
    return list(found["left_out"]) if found else []


def _has_read_only_root(proc: Proc, pid: int) -> bool:
    root = root_mount(parse(proc.mountinfo(pid)))
    return root is not None and "ro" in root.mount_options


def _own_namespaces(pid: int, proc: Proc) -> list[str]:
    pairs = ((name, proc.namespace(pid, name)) for name in NAMESPACES)
    return [name for name, found in pairs if found is not None and found != proc.namespace("self", name)]


def _thread_ids(proc: Proc, pids: Sequence[int]) -> Iterator[int]:
    for pid in pids:
        try:
            yield from (int(name) for name in os.listdir(proc.folder / str(pid) / "task"))
        except OSError:
            yield pid


def _label(proc: Proc, pid: int) -> str | None:
    try:
        return (proc.folder / str(pid) / "attr/current").read_text("utf-8", "replace").strip("\0\n") or None
    except OSError:
        return None


def _needs(
    proc: Proc, init: int, pids: Sequence[int], own: Sequence[str], opened: Sequence[Descriptor]
) -> Iterator[str]:
    yield from (feature for name, feature in _NAMESPACE_FEATURES.items() if name in own)
    if any(row.shared is not None or row.master is not None for row in parse(proc.mountinfo(init))):
        yield "move_mount_set_group"
    if any(proc.status(pid).get("Seccomp") == _SECCOMP_FILTER for pid in pids):
        yield from ("seccomp_filters", "seccomp_suspend")
    if any(_is_32_bit(proc, pid) for pid in pids):
        yield "compat_cr"
    for descriptor in opened:
        if descriptor.target in _DESCRIPTOR_FEATURES:
            yield _DESCRIPTOR_FEATURES[descriptor.target]


def _is_32_bit(proc: Proc, pid: int) -> bool:
    try:
        with (proc.folder / str(pid) / "exe").open("rb") as program:
            head = program.read(5)
    except OSError:
        return False
    return head[:4] == b"\x7fELF" and head[4:] == bytes([_32_BIT])
