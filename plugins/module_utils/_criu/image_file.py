# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One image file, read into its records.

The layout is that of criu.org/Images: two little-endian 32-bit magics, then records of a 32-bit length and a protobuf
message. `inventory.img`, and every file of a set of version 1, has its own magic alone.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Callable, Iterator

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_wire import COPY_AGAIN, Message, damaged
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet
from ansible_collections.fleet.criu.plugins.module_utils._foreign import NoFile, UnfitFile, opened


@dataclass(frozen=True)
class Kind:
    """What an image file holds. `magic` is its own one, `family` the one in front of it, `most` its longest length."""

    name: str
    magic: int
    family: int | None = 0x54564319
    most: int = 4 << 20


INVENTORY = Kind("an inventory", 0x58313116, None)
PROCESS_TREE = Kind("a process tree", 0x50273030, most=16 << 20)
CORE = Kind("a process", 0x55053847)
NAMESPACE_IDS = Kind("namespace ids", 0x54432030)
PID_NAMESPACE = Kind("a pid namespace", 0x61157326)
NETWORK_NAMESPACE = Kind("a network namespace", 0x55933752)
MOUNTPOINTS = Kind("mounts", 0x55563928, most=64 << 20)
PAGEMAP = Kind("a page map", 0x56084025, most=256 << 20)
FILES = Kind("open files", 0x56303138, most=256 << 20)
DESCRIPTORS = Kind("the descriptors of a process", 0x56213732, most=64 << 20)
STATISTICS = Kind("statistics", 0x57093306, 0x55105940)

_NUMBER = struct.Struct("<I")
_FIRST_BYTES = 16
_LONGEST_RECORD = 4 << 20
# As many mounts as the kernel lets a namespace have (fs.mount-max in proc(5)); processes are fewer.
_MOST_RECORDS = 100_000


def read_records(path: Path, kind: Kind, is_wanted: Callable[[bytes], bool] | None = None) -> list[Message]:
    """All records of an image file, 100000 at most. Raises BadImageSet, which names the file and where it is wrong.

    Decoding is what takes the time: a record whose first bytes are not wanted is passed over.
    """
    found: list[Message] = []
    for record in each_record(path, kind, is_wanted):
        if len(found) >= _MOST_RECORDS:
            raise damaged(path, record.offset, f"it has more than {_MOST_RECORDS} records")
        found.append(record)
    return found


def each_record(path: Path, kind: Kind, is_wanted: Callable[[bytes], bool] | None = None) -> Iterator[Message]:
    """The same one after the other, as many as there are: in memory there is never more than one."""
    try:
        with opened(path) as stream:
            yield from _Records(path, kind, stream).each(is_wanted)
    except (NoFile, IsADirectoryError):
        raise BadImageSet(f"The image {path} is no ordinary file.", COPY_AGAIN, {"file": path.name}) from None
    except FileNotFoundError:
        raise BadImageSet(
            f"The image set {path.parent} is incomplete: it has no {path.name}.",
            "Name the folder of a dump that succeeded; a pre-dump holds memory alone. If it was one, copy it again.",
            {"file": path.name},
        ) from None
    except UnfitFile as error:
        raise BadImageSet(f"The image {path} cannot be read: {error}.", COPY_AGAIN, {"file": path.name}) from error
    except OSError as error:
        raise BadImageSet(
            f"The image {path} cannot be read: {error.strerror}.",
            "Images are for root alone: use become.",
            {"file": path.name},
        ) from error


def read_record(path: Path, kind: Kind) -> Message:
    """The one record of an image file. Raises BadImageSet, also if there is none."""
    records = read_records(path, kind)
    if not records:
        raise damaged(path, path.lstat().st_size, "it ends before its first record")
    return records[0]


def read_record_if_any(path: Path, kind: Kind) -> Message | None:
    """The one record of an image file that need not be there. Raises BadImageSet if it is, but cannot be read."""
    return read_record(path, kind) if os.path.lexists(path) else None


class _Records:
    """One image file while it is read."""

    def __init__(self, path: Path, kind: Kind, stream: IO[bytes]) -> None:
        self._path = path
        self._kind = kind
        self._stream = stream
        self._position = 0
        self._size = os.fstat(stream.fileno()).st_size
        if self._size > kind.most:
            raise UnfitFile(f"it has {self._size} bytes, and an image with {kind.name} may have {kind.most}")

    def each(self, is_wanted: Callable[[bytes], bool] | None) -> Iterator[Message]:
        self._pass_magic()
        while self._position < self._size:
            length = self._number("the length of a record")
            start, left = self._position, self._size - self._position
            if length > left:
                raise damaged(
                    self._path, start, f"a record of {length} bytes begins here, but the file ends after {left}"
                )
            if length > _LONGEST_RECORD:
                raise damaged(
                    self._path, start, f"a record of {length} bytes begins here, and may have {_LONGEST_RECORD}"
                )
            record = self._read(length, "a record")
            if is_wanted is None or is_wanted(record[:_FIRST_BYTES]):
                yield Message(record, self._path, start)

    def _pass_magic(self) -> None:
        position, found = self._position, self._number("its magic")
        if found == self._kind.family:
            position, found = self._position, self._number("its magic")
        if found != self._kind.magic:
            raise BadImageSet(
                f"{self._path} begins with the magic {found:#010x} at byte {position}, where an image with "
                f"{self._kind.name} has {self._kind.magic:#010x}: it is no such image, or one of a version that is not "
                "known here.",
                "Look whether CRIU made it and whether it has its own name. For images of a newer CRIU use a newer "
                "fleet.criu; crit, which comes with CRIU, may know them.",
                {"file": self._path.name, "offset": position},
            )

    def _number(self, what: str) -> int:
        return int(_NUMBER.unpack(self._read(_NUMBER.size, what))[0])

    def _read(self, length: int, what: str) -> bytes:
        data = self._stream.read(length)
        self._position += len(data)
        if len(data) < length:
            raise damaged(self._path, self._position, f"it ends within {what}")
        return data
