# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contents of a file or of a folder, summed up so that two hosts can be compared by a few bytes.

A folder's sum has the type, size, mode and owner of everything in it, and the SHA-256 of files; for large files their
modification time stands in, unless all of them are asked for. Devices, FIFOs and sockets are left out, and what
left_out.py names; nothing but regular files is ever opened. Unless there are very many, names go with it, so that each
difference can be named.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import zlib
from dataclasses import dataclass
from typing import Any, Collection, Iterable, Iterator, Mapping, NamedTuple, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import folders_of, is_below, join, relative
from ansible_collections.fleet.criu.plugins.module_utils._preflight.left_out import LeftOut, is_special, resolved
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc

# In a quick look, a file up to this size is hashed all the same: that takes no longer than to look it up.
_SMALL = 1 << 20
# Up to so many names are told one by one. More are packed, some 30 bytes each, because they go through a controller.
_NAMES_PLAIN = 200
_NAMES_KEPT = 100_000
_BLOCK = 1 << 20
_SHA256 = "sha256 "
# Of a hash, as much goes with a name.
_HASH_SHOWN = 16


@dataclass(frozen=True)
class Effort:
    """How far to look: `full` hashes large files too; at most this many files, and so many bytes are hashed."""

    full: bool = False
    files: int = 10_000
    bytes: int = 1 << 34


class Difference(NamedTuple):
    """What differs as a few words. `is_time` if it is nothing but the modification time of a file that was not read."""

    text: str
    is_time: bool = False


class _Sums:
    """What has been found of a folder so far."""

    def __init__(self) -> None:
        self._digests = {name: hashlib.sha256() for name in ("shape", "hashes", "times")}
        self._names: dict[str, list[str]] = {}
        self.files = self.bytes = self.timed = self.hashed = 0

    def add(self, name: str, shape: str, mark: str) -> None:
        """Count an entry: `mark` is `sha256 …` of its contents or `time …` of its last change, or empty."""
        self.files += 1
        kind = "times" if mark.startswith("time") else "hashes"
        for digest, text in (("shape", shape), (kind, mark)):
            self._digests[digest].update(os.fsencode(name) + b"\0" + text.encode() + b"\0")
        if self.files <= _NAMES_KEPT:
            self._names[_printable(name)] = [shape, mark]

    def as_dict(self) -> dict[str, Any]:
        """All of it in plain JSON types."""
        is_plain = self.files <= _NAMES_PLAIN
        return {
            "files": self.files,
            "bytes": self.bytes,
            "timed": self.timed,
            "names": self._names if is_plain else {},
            "packed": _pack(self._names) if not is_plain and self.files <= _NAMES_KEPT else "",
            **{name: digest.hexdigest() for name, digest in self._digests.items()},
        }


def summarize(
    path: str,
    effort: Effort,
    left_out: LeftOut | None = None,
    mountpoints: Collection[str] = (),
    only: Sequence[str] | None = None,
) -> dict[str, Any] | None:
    """The sum in plain JSON types, or None if nothing is there.

    `shape` is over types, sizes, modes and owners, `hashes` over what was hashed, `times` over the modification times
    of the rest; `timed` tells how many files that are, `complete` is false if there was more than `effort` allows.
    `left_out` tells by name what was not looked at and why, by default for this host as it is; with the name "" nothing
    was. `mountpoints` are the names at which the other host has left something out: what the folders below its mounts
    are like is not known. `only` are the names to look at, each with all that is in it; `absent` tells which are not
    there.
    """
    left_out = LeftOut(Proc().mountinfo("self")) if left_out is None else left_out
    path = resolved(path)
    why = left_out.whole(path)
    if why is None and not os.path.lexists(path):
        return None
    omitted = {} if why is None else {"": why}
    starts, absent = ([], []) if omitted else _starts(path, only, left_out, omitted)
    sums = _Sums()
    complete = True
    for name, status in _walk(path, starts, left_out, omitted):
        if _printable(name) in mountpoints:
            continue
        if sums.files >= effort.files:
            complete = False
            break
        sums.add(name, _shape(status), _mark(_join(path, name), status, effort, sums))
    return {
        **sums.as_dict(),
        "complete": complete,
        "absent": [_printable(name) for name in absent],
        "left_out": {_printable(name): why for name, why in omitted.items()},
    }


def not_looked_at(why: str) -> dict[str, Any]:
    """The sum of what nobody wants to compare."""
    return {**_Sums().as_dict(), "complete": True, "absent": [], "left_out": {"": why}}


def differences(one: Mapping[str, Any], other: Mapping[str, Any], folder: str = "") -> list[Difference] | None:
    """The differences of two sums, named as what is in `folder`; None if the names of one were not kept."""
    before, after = _names(one), _names(other)
    if (one["files"] and not before) or (other["files"] and not after):
        return None
    unknown = {*(one.get("left_out") or ()), *(other.get("left_out") or ())}
    found: list[Difference] = []
    alone: set[str] = set()
    for name in _seen_by_both((one, before), (other, after)):
        if before.get(name) == after.get(name) or name in unknown:
            continue
        if name not in before or name not in after:
            alone.add(name)
            if name and _parent(name) in alone:
                continue
        called = join(folder, name) if folder and name else name or "it"
        found.append(_difference(called, before.get(name), after.get(name)))
    return found


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Sequence[str]:
    """The differences of two sums, each as a few words; empty if names were not kept."""
    return [difference.text for difference in differences(one, other) or ()]


def _seen_by_both(*sides: tuple[Mapping[str, Any], Mapping[str, Any]]) -> list[str]:
    """All names in their order, up to where one of both stopped to look."""
    last = [_order(next(reversed(list(names)))) for sums, names in sides if names and not sums["complete"]]
    names = sorted({name for _sums, names in sides for name in names}, key=_order)
    return [name for name in names if not last or _order(name) <= min(last)]


def _difference(name: str, before: Sequence[str] | None, after: Sequence[str] | None) -> Difference:
    if before is None or after is None:
        place, other = ("target", "source") if before is None else ("source", "target")
        return Difference(f"{name} is only on the {place} (missing on the {other})")
    if before[0] != after[0]:
        sizes = {shape.partition(",")[0] for shape in (before[0], after[0])}
        what = " (other size)" if len(sizes) > 1 and all(size.startswith("file") for size in sizes) else ""
        return Difference(f"{name} is a {before[0]} on the source, a {after[0]} on the target{what}")
    is_time = before[1].startswith("time") or after[1].startswith("time")
    return Difference(f"{name} has other {'time' if is_time else 'contents'}", is_time)


def _names(sums: Mapping[str, Any]) -> dict[str, list[str]]:
    packed = sums.get("packed")
    if not packed:
        return {name: [shape, _shown(mark)] for name, (shape, mark) in sums["names"].items()}
    return {name: [shape, mark] for name, shape, mark in json.loads(zlib.decompress(base64.b64decode(packed)))}


def _pack(names: Mapping[str, Sequence[str]]) -> str:
    rows = [[name, shape, _shown(mark)] for name, (shape, mark) in names.items()]
    return base64.b64encode(zlib.compress(json.dumps(rows).encode())).decode()


def _shown(mark: str) -> str:
    return mark[: len(_SHA256) + _HASH_SHOWN] if mark.startswith(_SHA256) else mark


def _order(name: str) -> list[bytes]:
    # That of _walk.
    return [part.encode() for part in name.split("/")] if name else []


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _starts(
    path: str, only: Sequence[str] | None, left_out: LeftOut, omitted: dict[str, str]
) -> tuple[list[str], list[str]]:
    """The names to begin with, in the order of `_walk`, and those that are not there."""
    if only is None:
        return [""], []
    starts: set[str] = set()
    absent = []
    for name in only:
        place = resolved(_join(path, name))
        inside = relative(place, path) if is_below(place, path) else None
        barred = None if inside is None else _barred(path, inside, left_out)
        if barred is not None:
            omitted[barred[0]] = barred[1]
        elif inside is None or not os.path.lexists(place):
            absent.append(name)
        else:
            starts.add(inside)
    return _topmost(starts), absent


def _barred(path: str, name: str, left_out: LeftOut) -> tuple[str, str] | None:
    """The folder on the way to a name of which nothing is looked at, and why."""
    for folder in folders_of(f"/{name}")[1:-1]:
        place = _join(path, folder[1:])
        why = left_out.mounted(place)
        try:
            why = why or left_out.inside(os.lstat(place))
        except OSError:
            return None
        if why is not None:
            return folder[1:], why
    return None


def _topmost(names: Iterable[str]) -> list[str]:
    found: list[str] = []
    for name in sorted(names, key=lambda each: os.fsencode(each).split(b"/")):
        if not any(not other or is_below(name, other) for other in found):
            found.append(name)
    return found


def _walk(
    path: str, starts: Sequence[str], left_out: LeftOut, omitted: dict[str, str]
) -> Iterator[tuple[str, os.stat_result]]:
    # In an order that is the same on every host: names sorted by their bytes, each folder before what is in it.
    pending = list(reversed(starts))
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


def _mark(path: str, status: os.stat_result, effort: Effort, sums: _Sums) -> str:
    if stat.S_ISLNK(status.st_mode):
        return _SHA256 + hashlib.sha256(_read_link(path)).hexdigest()
    if not stat.S_ISREG(status.st_mode):
        return ""
    sums.bytes += status.st_size
    if (status.st_size <= _SMALL or effort.full) and sums.hashed + status.st_size <= effort.bytes:
        sums.hashed += status.st_size
        return _SHA256 + _sha256(path)
    sums.timed += 1
    return f"time {status.st_mtime_ns}"


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
