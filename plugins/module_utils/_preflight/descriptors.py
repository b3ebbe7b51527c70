# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What processes have open, from /proc/PID/fd (see proc(5))."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Iterable, Iterator

from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc

_SOCKET = re.compile(r"socket:\[([0-9]+)\]\Z")


@dataclass(frozen=True)
class Descriptor:
    """An open file descriptor, with what /proc/PID/fd shows it to be: a path, `socket:[INODE]`, `anon_inode:[…]`."""

    pid: int
    number: int
    target: str


def descriptors(proc: Proc, pids: Iterable[int]) -> Iterator[Descriptor]:
    """All that these processes have open; those of a process that has ended meanwhile are left out."""
    for pid in pids:
        folder = proc.folder / str(pid) / "fd"
        try:
            numbers = os.listdir(folder)
        except OSError:
            continue
        for number in numbers:
            try:
                yield Descriptor(pid, int(number), os.readlink(folder / number))
            except OSError:
                continue


def socket_inode(descriptor: Descriptor) -> int | None:
    """The inode of the socket that it is, or None if it is something else."""
    match = _SOCKET.match(descriptor.target)
    return int(match.group(1)) if match else None


def fdinfo(proc: Proc, descriptor: Descriptor) -> list[str]:
    """The lines of its /proc/PID/fdinfo; none if it was closed meanwhile."""
    path = proc.folder / str(descriptor.pid) / "fdinfo" / str(descriptor.number)
    try:
        return path.read_bytes().decode("utf-8", "replace").split("\n")
    except OSError:
        return []
