# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the processes of a workload hold that does not move by itself, found without opening anything of theirs.

What each kind means is in kinds.py. Read are /proc/PID/{status,stat,fd,fdinfo,maps}, the tables in /proc/PID/net, the
names of protocols (an attribute of each socket) and, by sock_diag(7), the peers of Unix sockets.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from typing import Any, Iterator, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import MountRow, parse
from ansible_collections.fleet.criu.plugins.module_utils._preflight.descriptors import Descriptor, fdinfo, socket_inode
from ansible_collections.fleet.criu.plugins.module_utils._preflight.unix_sockets import (
    DATAGRAM,
    LISTENS,
    UnixSocket,
    unix_sockets,
)
from ansible_collections.fleet.criu.plugins.module_utils._preflight.watches import watched, watched_paths
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc

FILE_LOCK = "file_lock"
# Of CRIU, in bytes; --ghost-limit.
GHOST_LIMIT = 1 << 20

_DELETED = " (deleted)"
# Files without a path that CRIU knows by what they are: memfd, shared anonymous memory, System V shared memory.
_MEMORY = ("/memfd:", "/dev/zero", "/SYSV", "/[aio]", "/anon_hugepage")
_ANONYMOUS = "anon_inode:"
_KNOWN_ANONYMOUS = frozenset(
    f"{_ANONYMOUS}{name}"
    for name in (
        "[eventfd]",
        "[eventpoll]",
        "[fanotify]",
        "[pidfd]",
        "[signalfd]",
        "[timerfd]",
        "bpf-map",
        "fanotify",
        "inotify",
        # There is a check of its own.
        "[io_uring]",
    )
)
_KNOWN_LINKS = re.compile(r"(socket|pipe|pidfd|mnt|net|ipc|uts|user|pid|cgroup|time|time_for_children):\[[0-9]+\]\Z")
# Names of protocols in the kernel, without what marks version 6.
_KNOWN_PROTOCOLS = frozenset(
    {"TCP", "UDP", "UDP-Lite", "UDPLITE", "UNIX", "UNIX-STREAM", "NETLINK", "PACKET", "RAW", "PING"}
)
_PROTOCOL_NAME = "system.sockprotoname"
# Major numbers (Linux's devices.txt): memory, terminals of all kinds; and of the major number 10 the minors of tun and
# autofs.
_MEMORY_DEVICES, _MISCELLANEOUS = 1, 10
_TERMINALS = frozenset({4, 5, 88, 204, 229, *range(136, 144)})
_KNOWN_MISCELLANEOUS = frozenset({200, 235})
_CONNECTED = frozenset({"01", "02", "03", "04", "05", "08", "09", "0B"})
_LISTENING = "0A"
# Only empty ones are dumped.
_ONLY_EMPTY = frozenset({"mqueue", "pstore"})
_KERNEL_S_OWN = frozenset({"proc", "sysfs"})


@dataclass(frozen=True)
class Holding:
    """One thing that is held: its kind by code, and where it was found, for people.

    `bytes` is the size of a removed file, `path` a watched path or a mountpoint.
    """

    kind: str
    where: str
    bytes: int = 0
    path: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The holding in plain JSON types."""
        return {"kind": self.kind, "where": self.where, "bytes": self.bytes, "path": self.path}


def holdings(proc: Proc, init: int, pids: Sequence[int], opened: Sequence[Descriptor]) -> list[Holding]:
    """All that these processes hold; `opened` is what they have open, `init` the first of them."""
    rows = parse(proc.mountinfo(init))
    return [
        *_of_processes(proc, init, pids),
        *_of_descriptors(proc, opened),
        *_of_sockets(proc, init, opened),
        *_of_maps(proc, pids),
        *_of_mounts(proc, init, rows),
    ]


def missing_mountpoints(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of the mountpoints below /proc and /sys in these holdings, those that this host does not have."""
    paths = (holding["path"] for holding in found if holding["kind"] == "missing_mountpoint")
    return [path for path in paths if not os.path.lexists(path)]


# Processes


def _of_processes(proc: Proc, init: int, pids: Sequence[int]) -> Iterator[Holding]:
    for pid in pids:
        tracer = int(proc.status(pid).get("TracerPid") or 0)
        if tracer:
            yield Holding("traced", f"{_process(proc, pid)} by {_process(proc, tracer)}")
    session = _session(proc, init)
    if session is not None and session != init:
        leader = f"that of process {session}" if session else "one that began outside its pid namespace"
        yield Holding("foreign_session", f"{_process(proc, init)} is in {leader}")


def _session(proc: Proc, pid: int) -> int | None:
    try:
        text = (proc.folder / str(pid) / "stat").read_text("utf-8", "replace")
        return int(text[text.rindex(")") + 2 :].split()[3])
    except (OSError, ValueError, IndexError):
        return None


# Descriptors


def _of_descriptors(proc: Proc, opened: Sequence[Descriptor]) -> Iterator[Holding]:
    mounts: dict[str | None, frozenset[int]] = {}
    for descriptor in opened:
        target = descriptor.target
        lines = fdinfo(proc, descriptor)
        if any(line.startswith("lock:") for line in lines):
            yield Holding(FILE_LOCK, _where(proc, descriptor))
        if target.startswith(_ANONYMOUS):
            if target not in _KNOWN_ANONYMOUS:
                yield Holding("descriptor_unsupported", _where(proc, descriptor))
            elif target.endswith(("inotify", "fanotify", "fanotify]")):
                yield from _of_watches(proc, descriptor, lines)
        elif target.startswith("/"):
            yield from _of_path(proc, descriptor, lines, mounts)
        elif not _KNOWN_LINKS.match(target):
            yield Holding("descriptor_unsupported", _where(proc, descriptor))


def _of_path(
    proc: Proc, descriptor: Descriptor, lines: Sequence[str], mounts: dict[str | None, frozenset[int]]
) -> Iterator[Holding]:
    if descriptor.target.startswith(_MEMORY):
        return
    status = _status(proc, descriptor)
    if status is None:
        return
    if stat.S_ISBLK(status.st_mode) or (stat.S_ISCHR(status.st_mode) and not _is_known_device(status.st_rdev)):
        yield Holding("device", _where(proc, descriptor))
        return
    if stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) in _TERMINALS:
        return
    if not _is_inside(proc, descriptor, lines, mounts):
        yield Holding("file_outside", _where(proc, descriptor))
    elif descriptor.target.endswith(_DELETED) and stat.S_ISREG(status.st_mode):
        yield from _of_removed(_where(proc, descriptor), status)


def _of_removed(where: str, status: os.stat_result) -> Iterator[Holding]:
    if status.st_nlink > 0:
        yield Holding("removed_linked_file", where)
        return
    size = max(status.st_size, status.st_blocks * 512)
    if size > GHOST_LIMIT:
        yield Holding("large_removed_file", f"{where} ({size} bytes)", bytes=size)


def _is_inside(
    proc: Proc, descriptor: Descriptor, fields: Sequence[str], mounts: dict[str | None, frozenset[int]]
) -> bool:
    namespace = proc.namespace(descriptor.pid, "mnt")
    if namespace not in mounts:
        mounts[namespace] = frozenset(row.mount_id for row in parse(proc.mountinfo(descriptor.pid)))
    numbers = [line.split()[1] for line in fields if line.startswith("mnt_id:")]
    return not numbers or not mounts[namespace] or int(numbers[0]) in mounts[namespace]


def _is_known_device(device: int) -> bool:
    major, minor = os.major(device), os.minor(device)
    return (
        major == _MEMORY_DEVICES or major in _TERMINALS or (major == _MISCELLANEOUS and minor in _KNOWN_MISCELLANEOUS)
    )


def _of_watches(proc: Proc, descriptor: Descriptor, lines: Sequence[str]) -> Iterator[Holding]:
    rows = parse(proc.mountinfo(descriptor.pid))
    marks = watched(lines, rows)
    for mark, path in watched_paths(proc, descriptor.pid, marks):
        shown = path or f"inode {mark.inode} on {mark.row.mountpoint}"
        yield Holding("watch_by_path", f"{_where(proc, descriptor)}, {shown}", path=path)


# Sockets


def _of_sockets(proc: Proc, init: int, opened: Sequence[Descriptor]) -> Iterator[Holding]:
    owners = {inode: descriptor for descriptor in opened for inode in [socket_inode(descriptor)] if inode is not None}
    for descriptor in owners.values():
        protocol = _protocol(proc, descriptor)
        if protocol and _without_version(protocol) not in _KNOWN_PROTOCOLS:
            yield Holding("socket_unsupported", f"{_process(proc, descriptor.pid)}, {protocol}")
    yield from _of_tables(proc, init, owners)
    known = unix_sockets(proc, init) if owners else {}
    # A connection that a listener of ours has not accepted yet has no descriptor, but the listener's name.
    names = {known[inode].name for inode in owners if inode in known and known[inode].state == LISTENS} - {""}
    for inode, descriptor in owners.items():
        if inode in known:
            peer = known.get(known[inode].peer)
            is_outside = peer is not None and peer.inode not in owners and peer.name not in names
            yield from _of_unix(proc, descriptor, known[inode], peer if is_outside else None)


def _of_unix(proc: Proc, descriptor: Descriptor, here: UnixSocket, outside: UnixSocket | None) -> Iterator[Holding]:
    where = f"{_process(proc, descriptor.pid)}, descriptor {descriptor.number}"
    if here.state == LISTENS:
        if here.waiting:
            yield Holding("unaccepted_connection", f"{where}, {here.name}")
        return
    if outside is None:
        return
    to = f"to {outside.name}" if outside.name else f"to the socket {outside.inode}, which has no name"
    kind = "datagram_to_outside" if here.kind == DATAGRAM and outside.name else "stream_to_outside"
    yield Holding(kind, f"{where}, {to}", path=outside.name)


def _of_tables(proc: Proc, init: int, owners: Mapping[int, Descriptor]) -> Iterator[Holding]:
    for table in ("tcp", "tcp6", "udp", "udp6", "udplite", "udplite6"):
        for line in proc.network_table(init, table)[1:]:
            words = line.split()
            if len(words) >= 10 and words[9].isdecimal() and int(words[9]) in owners:
                yield from _of_row(proc, owners[int(words[9])], table, words)
    for line in proc.network_table(init, "netlink")[1:]:
        words = line.split()
        if len(words) >= 10 and int(words[9]) in owners and words[4] != "0":
            yield Holding("netlink_message", _process(proc, owners[int(words[9])].pid))


def _of_row(proc: Proc, descriptor: Descriptor, table: str, words: Sequence[str]) -> Iterator[Holding]:
    waiting = int(words[4].partition(":")[2] or "0", 16)
    where = f"{_process(proc, descriptor.pid)}, descriptor {descriptor.number}"
    if table.startswith("udp"):
        if waiting:
            yield Holding("queued_datagram", where)
    elif words[3] in _CONNECTED:
        yield Holding("tcp_connection", where)
    elif words[3] == _LISTENING and waiting:
        yield Holding("connection_in_flight", where)


def _protocol(proc: Proc, descriptor: Descriptor) -> str:
    path = proc.folder / str(descriptor.pid) / "fd" / str(descriptor.number)
    try:
        return os.getxattr(path, _PROTOCOL_NAME).rstrip(b"\0").decode("ascii", "replace")
    except (OSError, AttributeError):  # not on Linux, where unit tests may run too
        return ""


def _without_version(protocol: str) -> str:
    return protocol[:-2] if protocol.endswith("v6") else protocol


# Mappings and mounts


def _of_maps(proc: Proc, pids: Sequence[int]) -> Iterator[Holding]:
    for pid in pids:
        seen = set()
        for line in proc.maps(pid).split("\n"):
            # ADDRESS PERMISSIONS OFFSET DEVICE INODE PATH; memory without a file has the inode 0.
            words = line.split(None, 5)
            if len(words) < 6 or words[4] == "0" or words[5] in seen or words[5].startswith(_MEMORY):
                continue
            seen.add(words[5])
            if words[5].startswith(("/dev/", _ANONYMOUS, "socket:")) or words[5].endswith(_DELETED):
                yield from _of_mapping(proc, pid, words[0], words[5])


def _of_mapping(proc: Proc, pid: int, address: str, path: str) -> Iterator[Holding]:
    try:
        status = os.stat(proc.folder / str(pid) / "map_files" / address)
    except OSError:
        return
    where = f"{_process(proc, pid)}, mapped {path}"
    if not stat.S_ISREG(status.st_mode):
        yield Holding("mapped_device", where)
    elif path.endswith(_DELETED):
        yield from _of_removed(where, status)


def _of_mounts(proc: Proc, init: int, rows: Sequence[MountRow]) -> Iterator[Holding]:
    by_id = {row.mount_id: row for row in rows}
    for row in rows:
        if row.fstype in _ONLY_EMPTY:
            for name in _names(proc.root(init, row.mountpoint)):
                yield Holding("message_queue", f"{row.mountpoint.rstrip('/')}/{name}")
        above = by_id.get(row.parent_id)
        if above is not None and above.fstype in _KERNEL_S_OWN and above.mount_id != row.mount_id:
            path = _kernel_s_path(row, above)
            # What this host does not see itself, such as a container with a part of /sys, says nothing of the other.
            if path is not None and os.path.lexists(path):
                yield Holding("missing_mountpoint", row.mountpoint, path=path)


def _kernel_s_path(row: MountRow, above: MountRow) -> str | None:
    below = row.mountpoint[len(above.mountpoint.rstrip("/")) :].strip("/")
    if above.root != "/" or not below or below.split("/")[0].isdecimal():
        return None  # a folder of it is bound there, or it is a process's
    return f"/{'proc' if above.fstype == 'proc' else 'sys'}/{below}"


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


# In words


def _where(proc: Proc, descriptor: Descriptor) -> str:
    return f"{_process(proc, descriptor.pid)}, descriptor {descriptor.number}: {descriptor.target}"


def _process(proc: Proc, pid: int) -> str:
    name = proc.status(pid).get("Name", "")
    return f"process {pid}" + (f" ({name})" if name else "")


def _status(proc: Proc, descriptor: Descriptor) -> os.stat_result | None:
    try:
        return os.stat(proc.folder / str(descriptor.pid) / "fd" / str(descriptor.number))
    except OSError:
        return None
