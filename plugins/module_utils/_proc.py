# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What /proc tells of a process and of the tree below it, in the fields and units of proc(5); signals to that tree."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import WorkloadNotFound

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")

_ZOMBIE_OR_DEAD = frozenset("ZXx")
# Field 9 of /proc/PID/stat, counted from the state; PF_KTHREAD of the kernel's sched.h.
_FLAGS = 6
_KERNEL_THREAD = 0x00200000


@dataclass(frozen=True)
class Stat:
    """A process as /proc/PID/stat has it: `start_time` in clock ticks after boot (field 22)."""

    pid: int
    state: str
    parent: int
    start_time: int


@dataclass(frozen=True)
class Identity:
    """A process told from all others: a pid may be used again, a pid with its start time may not."""

    pid: int
    start_time: int


class Proc:
    """A proc file system, by default the host's."""

    def __init__(self, folder: str = "/proc") -> None:
        self.folder = Path(folder)

    def stat(self, pid: int) -> Stat | None:
        """The process with this pid, or None if there is none that still lives."""
        try:
            text = (self.folder / str(pid) / "stat").read_text("utf-8", "replace")
        except OSError:
            return None
        # The command in field 2 may hold anything, blanks and brackets included: what follows its last ')' is safe.
        fields = text[text.rindex(")") + 2 :].split()
        if fields[0] in _ZOMBIE_OR_DEAD:
            return None
        return Stat(pid, fields[0], int(fields[1]), int(fields[19]))

    def is_kernel_thread(self, pid: int) -> bool:
        """Whether it is the kernel's own; also True of none."""
        text = self._read(pid, "stat")
        fields = text[text.rindex(")") + 2 :].split() if ")" in text else []
        return len(fields) <= _FLAGS or bool(int(fields[_FLAGS]) & _KERNEL_THREAD)

    def stats(self) -> Iterator[Stat]:
        """All living processes."""
        for entry in os.listdir(self.folder):
            stat = self.stat(int(entry)) if entry.isdecimal() else None
            if stat is not None:
                yield stat

    def tree(self, pid: int) -> list[int]:
        """The pids of a process and of all below it."""
        children: dict[int, list[int]] = defaultdict(list)
        for stat in self.stats():
            children[stat.parent].append(stat.pid)
        found = [pid]
        for parent in found:
            found.extend(children[parent])
        return found

    def command(self, pid: int) -> list[str]:
        """The command line as a list of arguments; empty for a kernel thread or a process that is gone."""
        text = self._read(pid, "cmdline")
        # A program that writes its title over its command line leaves zeros behind it.
        return text.rstrip("\0").split("\0") if text.rstrip("\0") else []

    def mountinfo(self, pid: int | str) -> str:
        """The text of /proc/PID/mountinfo, undecodable bytes as surrogates; empty if the process is gone."""
        return self._read(pid, "mountinfo", "surrogateescape")

    def namespace(self, pid: int | str, name: str) -> str | None:
        """The identity of a namespace of a process, for example `mnt:[4026531841]`; None if it has none such."""
        try:
            return os.readlink(self.folder / str(pid) / "ns" / name)
        except OSError:
            return None

    def id_maps(self, pid: int | str) -> dict[str, list[list[int]]]:
        """`uid_map` and `gid_map` of the user namespace of a process, see user_namespaces(7).

        Each row has the first ID inside, the first outside (as we see it), and how many they are. Empty if it is gone.
        """
        return {name: _number_rows(self._read(pid, name)) for name in ("uid_map", "gid_map")}

    def status(self, pid: int) -> dict[str, str]:
        """The fields of /proc/PID/status by name."""
        lines = (line.partition(":") for line in self._read(pid, "status").split("\n")[:-1])
        return {name: value.strip() for name, _colon, value in lines}

    def control_groups(self, pid: int) -> dict[str, str]:
        """The control group of a process by controllers, "" for version 2, see cgroups(7); empty if it is gone."""
        groups = {}
        # Users name their groups and threads, also with what Python takes for the end of a line.
        for line in self._read(pid, "cgroup", "surrogateescape").split("\n")[:-1]:
            _number, controllers, path = [*line.split(":", 2), "", ""][:3]
            groups[controllers] = path
        return groups

    def socket_inodes(self, pid: int) -> Iterator[str]:
        """The inodes of all sockets that the process has open; none if it is gone."""
        folder = self.folder / str(pid) / "fd"
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                with contextlib.suppress(OSError):  # it was closed meanwhile
                    kind, _bracket, inode = os.readlink(folder / name).partition(":[")
                    if kind == "socket":
                        yield inode.rstrip("]")

    def network_table(self, pid: int | str, name: str) -> list[str]:
        """The lines of a table in /proc/PID/net, for example tcp; none if there is no such table."""
        return self._read(pid, f"net/{name}").splitlines()

    def syscall(self, pid: int) -> str:
        """The line of /proc/PID/syscall: in which system call the process waits, and where; empty if unreadable."""
        return self._read(pid, "syscall").strip()

    def maps(self, pid: int) -> str:
        """The text of /proc/PID/maps."""
        return self._read(pid, "maps")

    def root(self, pid: int, path: str = "/") -> str:
        """Where a path of the process's own mount namespace can be reached."""
        return f"{self.folder}/{pid}/root{path}"

    def boot_time(self) -> float:
        """When the host was booted, in seconds since the epoch."""
        for line in (self.folder / "stat").read_text("ascii", "replace").splitlines():
            if line.startswith("btime "):
                return float(line.split()[1])
        return 0.0

    def meminfo(self) -> dict[str, int]:
        """The sizes in /proc/meminfo by name, in bytes; empty if it is unreadable."""
        lines = (line.split() for line in self._read("", "meminfo").splitlines())
        return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[2:] == ["kB"]}

    def boot_id(self) -> str:
        """The random identity of this boot."""
        return (self.folder / "sys/kernel/random/boot_id").read_text("ascii").strip()

    def _read(self, pid: int | str, name: str, errors: str = "replace") -> str:
        try:
            # As bytes: text mode would turn a carriage return in a mountpoint into the end of a line.
            return (self.folder / str(pid) / name).read_bytes().decode("utf-8", errors)
        except OSError:
            return ""


def _number_rows(text: str) -> list[list[int]]:
    try:
        return [[int(word) for word in line.split()] for line in text.splitlines()]
    except ValueError:
        return []


def require_living(pid: int, description: str, proc: Proc) -> Identity:
    """The process with this pid, which a user has described in these words. Raises WorkloadNotFound if none lives."""
    stat = proc.stat(pid)
    if stat is None:
        raise WorkloadNotFound(
            f"No workload with {description} runs here: there is no process {pid}.",
            "Check the description of the workload, and on which host it runs.",
        )
    return Identity(pid, stat.start_time)


def lives(identity: Identity, proc: Proc) -> bool:
    """Whether this very process is still there, and not another that has its pid by now."""
    stat = proc.stat(identity.pid)
    return stat is not None and stat.start_time == identity.start_time


def signal_tree(identity: Identity | None, number: int, proc: Proc) -> None:
    """Send a signal to a process and all below it, if that very process still lives."""
    if identity is None or not lives(identity, proc):
        return
    for pid in proc.tree(identity.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def clock_ticks(seconds: float) -> float:
    """Seconds in the clock ticks of proc(5)."""
    return seconds * os.sysconf("SC_CLK_TCK")


def memory_bytes(proc: Proc, pids: Sequence[int]) -> int:
    """The memory that a dump of these processes has to write, about: anonymous, shared and swapped pages, in bytes."""
    total = 0
    for pid in pids:
        status = proc.status(pid)
        for name in ("RssAnon", "RssShmem", "VmSwap"):
            total += int(status.get(name, "0 kB").split()[0]) * 1024
    return total


def user_ids(proc: Proc, pids: Sequence[int]) -> list[int]:
    """The real user IDs of these processes, as the host sees them, each once, in order."""
    found = set()
    for pid in pids:
        words = proc.status(pid).get("Uid", "").split()
        if words:
            found.add(int(words[0]))
    return sorted(found)
