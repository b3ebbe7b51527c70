# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The error messages of CRIU that we can explain: one table, whose rows are in messages_*.py by what they are about.

A text is what CRIU 4.1.1 and 4.2 print (their sources; many were seen by provoking them, and some are of older
versions), where `...` stands for anything and a name in braces for something that tells the place: see `_PLACES`. A row
may have several texts for one cause.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Mapping, Pattern

from ansible_collections.fleet.criu.plugins.module_utils._criu.log_lines import says_nothing
from ansible_collections.fleet.criu.plugins.module_utils._criu.message import Message
from ansible_collections.fleet.criu.plugins.module_utils._criu.messages_files import FILES
from ansible_collections.fleet.criu.plugins.module_utils._criu.messages_general import GENERAL
from ansible_collections.fleet.criu.plugins.module_utils._criu.messages_host import HOST
from ansible_collections.fleet.criu.plugins.module_utils._criu.messages_images import IMAGES
from ansible_collections.fleet.criu.plugins.module_utils._criu.messages_mounts import MOUNTS
from ansible_collections.fleet.criu.plugins.module_utils._criu.messages_own_words import OWN_WORDS
from ansible_collections.fleet.criu.plugins.module_utils._criu.messages_processes import PROCESSES
from ansible_collections.fleet.criu.plugins.module_utils._criu.messages_sockets import SOCKETS

__all__ = ["MESSAGES", "OWN_WORDS", "Match", "Message", "find", "find_own_words", "is_cause"]

# The first row that fits decides, so those with the fewest words of their own come last.
MESSAGES = (*MOUNTS, *FILES, *PROCESSES, *SOCKETS, *HOST, *IMAGES, *GENERAL)

# What a name in a text may look like. A file or mountpoint is as the workload sees it, a host path as this host does.
_PLACES = {
    "mount": r"[0-9]+",
    "mountpoint": r"\.?/.*?",
    "file": r".+?",
    "host_path": r"/.*?",
    "root": r"/.*?",
    # CRIU writes a negative number for what is open without a descriptor: what is mapped, the program, a folder.
    "descriptor": r"-?[0-9]+",
    "pid": r"[0-9]+",
    "inner_pid": r"[0-9]+",
    "image": r"[^\s/]+\.img",
    "thing": r".+?",
}
# Where the kernel's own file systems are mounted by custom; CRIU's message does not name the type.
_KERNEL_MOUNTPOINT = r"(?P<mountpoint>\.?/(?:sys|proc|dev/hugepages|(?:run|var/lib/nfs)/rpc_pipefs)(?:/.*?)?)"
_ANYTHING = "..."
_PARTS = re.compile(r"(\{[a-z_]+\}|\.\.\.)")


@dataclass(frozen=True)
class Match:
    """An error line that the table knows, and what the line says of the place."""

    message: Message
    text: str
    places: Mapping[str, str]


# CRIU may say one thing thousands of times, for example while it waits for a process to stop.
@lru_cache(maxsize=1024)
def find(line: str) -> Match | None:
    """The first row of the table with a text that is in the error line."""
    for message, text, pattern in _patterns():
        match = pattern.search(line)
        if match is not None:
            return Match(message, text, match.groupdict())
    return None


@lru_cache(maxsize=1024)
def find_own_words(line: str) -> Mapping[str, str] | None:
    """What an error line that speaks for itself says of the place; None if it is not among those."""
    for pattern in _own_patterns():
        match = pattern.search(line)
        if match is not None:
            return match.groupdict()
    return None


def is_cause(line: str) -> bool:
    """Whether the line can tell a cause, and does not merely follow from another one."""
    return not says_nothing(line) and not any(pattern.search(line) for pattern in _FOLLOWS)


def _pattern(text: str) -> Pattern[str]:
    parts = _PARTS.split(text)
    body = "".join(map(_part, parts))
    # A lazy group at the very end would take one character alone.
    return re.compile(body + "$" if parts[-1] == "" and parts[-2] != _ANYTHING else body)


def _part(part: str) -> str:
    if part == _ANYTHING:
        return ".*?"
    if part == "{kernel_mountpoint}":
        return _KERNEL_MOUNTPOINT
    if part.startswith("{"):
        name = part[1:-1]
        return f"(?P<{name}>{_PLACES[name]})"
    return re.escape(part)


@lru_cache(maxsize=None)
def _patterns() -> tuple[tuple[Message, str, Pattern[str]], ...]:
    # Not before the first failure: to compile them takes longer than all else that is imported here.
    return tuple((message, text, _pattern(text)) for message in MESSAGES for text in message.texts)


@lru_cache(maxsize=None)
def _own_patterns() -> tuple[Pattern[str], ...]:
    return tuple(map(_pattern, OWN_WORDS))


# What CRIU writes because something else has failed, or also when all goes well: where it asks what iptables can do,
# looks for modules, saves what it knows of the kernel, or clears up.
_FOLLOWS = tuple(
    map(
        re.compile,
        (
            r"Can't remove the directory /tmp/\.criu\.mntns\.",
            r"^(exited|[0-9]+ exited), status=",
            r"^(- )?`- ",
            r"^stack [0-9]+#[0-9]+:",
            r"^Unable to open fd=[0-9]+ id=",
            r"^Restorer fail [0-9]+",
            r"^Restorer abnormal termination",
            r"\(pid: [0-9]+\) failed with -?[0-9]+",
            r"^Can't (cure|infect|get proc fd) \(pid: [0-9]+\)",
            r"^Can't (fixup vdso VMAs|stop daemon in parasite|read posix timers file) \(pid: [0-9]+\)",
            r"^Can't dump (itimers|misc|posix timers|shared signals|sigactions) \(pid: [0-9]+\)",
            r"^Failed to check aio rings \(pid: [0-9]+\)",
            r"^Pre-dumping files failed \(pid: [0-9]+\)",
            r"^(Fixup rseq for [0-9]+ failed|Can't fixup rseq for pid)",
            r"^Can't make (FILES|FS|IO|VM|[a-z]+) id",
            r"^(cg: )?dumping (global|known) properties( v2)? failed",
            r"^(mnt: )?Can't restore ext mount",
            r"^Can't sent fd -?[0-9]+ to [0-9]+",
            r"^[0-9]+ exited with non-zero code",
            r"^Can't dump (threads|thread for pid)",
            r"^Dump [0-9]+ (signals|rseq) failed",
            r"^wait for [0-9]+ resulted in",
            r"^Can't catch all tasks",
            r"^Failed to wait on helpers and zombies",
            r"^Namespaces dumping finished with error",
            r"^Child exited with an error",
            r"Can't wait or bad status: errno=",
            r"^(mnt: )?Bad child exit status: ",
            r"-?[0-9]+ reported by netlink",
            r"^Killing processes because of failure on restore",
            r"uns: daemon exited abnormally",
            r"Unable to get the root file descriptor of pid [0-9]+",
            r"^Can't write pidfile: File exists",
            r"execvp\(\"ip6?tables(-legacy|-nft)?(-restore|-save)?\"",
            r"ip6?tables\S* -V( failed| output)",
            r"Diag module missing \(",
            r"Couldn't save /\S*criu\.kdat",
        ),
    )
)
