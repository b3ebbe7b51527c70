# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contents of a file or of a folder, summed up so that two hosts can be compared by a few bytes.

A folder's sum has the type, size, mode and owner of everything in it, and the SHA-256 of files; for large files their
modification time stands in, unless all of them are asked for. Devices, FIFOs and sockets are left out, and what
left_out.py names; nothing but regular files is ever opened. The names of a small folder are kept, so that a difference
can be named.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import Any, Collection, Iterator, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._preflight.left_out import LeftOut, is_special, resolved

# In a quick look, a file up to this size is hashed all the same: that takes no longer than to look it up.
_SMALL = 1 << 20
_NAMES_KEPT = 200
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Effort:
    """How far to look: `full` hashes large files too; at most this many files, and so many bytes are hashed."""

    full: bool = False
    files: int = 10_000
    bytes: int = 1 << 34


def summarize(path: str, effort: Effort, left_out: LeftOut, mountpoints: Collection[str] = ()) -> dict[str, Any] | None:
    """The sum in plain JSON types, or None if nothing is there.

    `shape` is over types, sizes, modes and owners, `hashes` over what was hashed, `times` over the modification times
    of the rest; `timed` tells how many files that are, `complete` is false if there was more than `effort` allows.
    `left_out` tells by name what was not looked at and why; with the name "" nothing was. `mountpoints` are the names
    at which the other host has left something out: what the folders below its mounts are like is not known.
    """
    path = resolved(path)
    why = left_out.whole(path)
    if why is None and not os.path.lexists(path):
        return None
    omitted = {} if why is None else {"": why}
    found = iter(()) if omitted else _walk(path, left_out, omitted)
    sums = {name: hashlib.sha256() for name in ("shape", "hashes", "times")}
    names: dict[str, list[str]] = {}
    files = size = timed = hashed = 0
    complete = True
    for name, status in found:
        if _printable(name) in mountpoints:
            continue
        if files >= effort.files:
            complete = False
            break
        files += 1
        shape, mark = _shape(status), ""
        if stat.S_ISREG(status.st_mode):
            size += status.st_size
            hash_it = status.st_size <= _SMALL or effort.full
            if hash_it and hashed + status.st_size <= effort.bytes:
                hashed += status.st_size
                mark = "sha256 " + _sha256(_join(path, name))
            else:
                timed += 1
                mark = f"time {status.st_mtime_ns}"
        elif stat.S_ISLNK(status.st_mode):
            mark = "sha256 " + hashlib.sha256(_read_link(_join(path, name))).hexdigest()
        sums["shape"].update(os.fsencode(name) + b"\0" + shape.encode() + b"\0")
        sums["times" if mark.startswith("time") else "hashes"].update(os.fsencode(name) + b"\0" + mark.encode() + b"\0")
        if len(names) <= _NAMES_KEPT:
            names[_printable(name)] = [shape, mark]
    return {
        "files": files,
        "bytes": size,
        "timed": timed,
        "complete": complete,
        "names": names if len(names) <= _NAMES_KEPT else {},
        "left_out": {_printable(name): why for name, why in omitted.items()},
        **{name: digest.hexdigest() for name, digest in sums.items()},
    }


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Sequence[str]:
    """The differences of two folders whose names were kept, each as a few words; empty if they were not."""
    if not one["names"] or not other["names"]:
        return []
    found = []
    for name in sorted(one["names"].keys() | other["names"].keys()):
        before, after = one["names"].get(name), other["names"].get(name)
        if before == after:
            continue
        if before is None or after is None:
            found.append(f"{name or 'it'} is only on the {'target' if before is None else 'source'}")
        elif before[0] != after[0]:
            found.append(f"{name or 'it'} is a {before[0]} on the source, a {after[0]} on the target")
        else:
            kind = "time" if before[1].startswith("time") else "contents"
            found.append(f"{name or 'it'} has other {kind}")
    return found


def _walk(path: str, left_out: LeftOut, omitted: dict[str, str]) -> Iterator[tuple[str, os.stat_result]]:
    # In an order that is the same on every host: names sorted by their bytes, each folder before what is in it.
    pending = [""]
    while pending:
        name = pending.pop()
        place = _join(path, name)
        mounted = left_out.mounted(place) if name else None
        if mounted is not None:
            omitted[name] = mounted
            continue
        try:
            status = os.lstat(place)
            if is_special(status):
                continue
            own = left_out.inside(status)
            if own is not None:
                omitted[name] = own
                continue
            yield name, status
            if stat.S_ISDIR(status.st_mode):
                below = sorted(os.listdir(place), key=os.fsencode, reverse=True)
                pending.extend(_join(name, entry) if name else entry for entry in below)
        except OSError:
            continue  # it went away meanwhile


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if name else folder


def _printable(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _shape(status: os.stat_result) -> str:
    mode = stat.S_IMODE(status.st_mode)
    kind = {stat.S_IFREG: "file", stat.S_IFDIR: "folder"}.get(stat.S_IFMT(status.st_mode), "link")
    size = f" of {status.st_size} bytes" if kind == "file" else ""
    return f"{kind}{size}, mode {mode:04o}, owner {status.st_uid}:{status.st_gid}"


def _read_link(path: str) -> bytes:
    try:
        return os.fsencode(os.readlink(path))
    except OSError:
        return b""


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb", opener=_open_regular) as stream:
            for block in iter(lambda: stream.read(_BLOCK), b""):
                digest.update(block)
    except OSError:
        return "unreadable"
    return digest.hexdigest()


def _open_regular(path: str, flags: int) -> int:
    # What was a regular file a moment ago may be a FIFO now.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no regular file")
    return descriptor
