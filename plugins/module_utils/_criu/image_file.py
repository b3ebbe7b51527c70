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
from typing import Callable, Iterator

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_wire import COPY_AGAIN, Message, damaged
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet


@dataclass(frozen=True)
class Kind:
    """What an image file holds. `magic` is its own one, `family` the one in front of it."""

    name: str
    magic: int
    family: int | None = 0x54564319


INVENTORY = Kind("an inventory", 0x58313116, None)
PROCESS_TREE = Kind("a process tree", 0x50273030)
CORE = Kind("a process", 0x55053847)
NAMESPACE_IDS = Kind("namespace ids", 0x54432030)
PID_NAMESPACE = Kind("a pid namespace", 0x61157326)
NETWORK_NAMESPACE = Kind("a network namespace", 0x55933752)
MOUNTPOINTS = Kind("mounts", 0x55563928)
PAGEMAP = Kind("a page map", 0x56084025)
FILES = Kind("open files", 0x56303138)
DESCRIPTORS = Kind("the descriptors of a process", 0x56213732)
STATISTICS = Kind("statistics", 0x57093306, 0x55105940)

_NUMBER = struct.Struct("<I")
_FIRST_BYTES = 16


def read_records(path: Path, kind: Kind, is_wanted: Callable[[bytes], bool] | None = None) -> list[Message]:
    """All records of an image file. Raises BadImageSet, which names the file and where it is wrong.

    Decoding is what takes the time: a record whose first bytes are not wanted is passed over.
    """
    return list(_records(path, _contents(path), kind, is_wanted))


def read_record(path: Path, kind: Kind) -> Message:
    """The one record of an image file. Raises BadImageSet, also if there is none."""
    records = read_records(path, kind)
    if not records:
        raise damaged(path, path.stat().st_size, "it ends before its first record")
    return records[0]


def read_record_if_any(path: Path, kind: Kind) -> Message | None:
    """The one record of an image file that need not be there. Raises BadImageSet if it is, but cannot be read."""
    return read_record(path, kind) if os.path.lexists(path) else None


def _contents(path: Path) -> bytes:
    try:
        # A pipe or a device in the place of a file would keep us waiting.
        if path.exists() and not path.is_file():
            raise BadImageSet(f"The image {path} is no ordinary file.", COPY_AGAIN, {"file": path.name})
        return path.read_bytes()
    except FileNotFoundError:
        raise BadImageSet(
            f"The image set {path.parent} is incomplete: it has no {path.name}.",
            "Name the folder of a dump that succeeded; a pre-dump holds memory alone. If it was one, copy it again.",
            {"file": path.name},
        ) from None
    except OSError as error:
        raise BadImageSet(
            f"The image {path} cannot be read: {error.strerror}.",
            "Images are for root alone: use become.",
            {"file": path.name},
        ) from error


def _records(path: Path, contents: bytes, kind: Kind, is_wanted: Callable[[bytes], bool] | None) -> Iterator[Message]:
    position = _after_magic(path, contents, kind)
    while position < len(contents):
        length = _number(path, contents, position, "the length of a record")
        start, position = position + _NUMBER.size, position + _NUMBER.size + length
        if position > len(contents):
            raise damaged(
                path, start, f"a record of {length} bytes begins here, but the file ends after {len(contents) - start}"
            )
        if is_wanted is None or is_wanted(contents[start : start + _FIRST_BYTES]):
            yield Message(contents[start:position], path, start)


def _after_magic(path: Path, contents: bytes, kind: Kind) -> int:
    position = 0
    found = _number(path, contents, position, "its magic")
    if found == kind.family:
        position += _NUMBER.size
        found = _number(path, contents, position, "its magic")
    if found != kind.magic:
        raise BadImageSet(
            f"{path} begins with the magic {found:#010x} at byte {position}, where an image with {kind.name} has "
            f"{kind.magic:#010x}: it is no such image, or one of a version that is not known here.",
            "Look whether CRIU made it and whether it has its own name. For images of a newer CRIU use a newer "
            "fleet.criu; crit, which comes with CRIU, may know them.",
            {"file": path.name, "offset": position},
        )
    return position + _NUMBER.size


def _number(path: Path, contents: bytes, position: int, what: str) -> int:
    if position + _NUMBER.size > len(contents):
        raise damaged(path, len(contents), f"it ends within {what}")
    return int(_NUMBER.unpack_from(contents, position)[0])
