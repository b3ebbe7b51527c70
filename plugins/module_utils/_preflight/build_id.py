# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The build-ID of an ELF file: the identity that its linker gave it. The layout of the file is that of elf(5)."""

from __future__ import annotations

import struct
from typing import BinaryIO, Iterator

_SEGMENT_OF_NOTES = 4  # PT_NOTE
_BUILD_ID = 3  # NT_GNU_BUILD_ID
_OWNER = b"GNU\0"
# A note segment is some hundred bytes long; a file that says otherwise is not worth the memory.
_LONGEST_SEGMENT = 1 << 20


def build_id(path: str) -> str | None:
    """The build-ID in hexadecimal; None if it is no ELF file or has none. Raises OSError if it cannot be opened."""
    with open(path, "rb") as stream:
        try:
            return next(_build_ids(stream), None)
        except (struct.error, ValueError, OverflowError, OSError):  # it points outside of itself
            return None


def _build_ids(stream: BinaryIO) -> Iterator[str]:
    identification = stream.read(16)
    if identification[:4] != b"\x7fELF" or len(identification) < 16:
        return
    is_64_bit, order = identification[4] == 2, ">" if identification[5] == 2 else "<"
    # e_phoff, e_phentsize and e_phnum; p_type, p_offset, p_filesz and p_align.
    header, segment = ("16xQ14xHH", "I4xQ16xQ8xQ") if is_64_bit else ("12xI10xHH", "II8xI8xI")
    offset, entry_size, entries = _unpack(stream, 16, order + header)
    for number in range(entries):
        kind, start, size, alignment = _unpack(stream, offset + number * entry_size, order + segment)
        if kind == _SEGMENT_OF_NOTES and size <= _LONGEST_SEGMENT:
            stream.seek(start)
            yield from _notes(stream.read(size), order, 8 if alignment == 8 else 4)


def _unpack(stream: BinaryIO, offset: int, layout: str) -> tuple[int, ...]:
    stream.seek(offset)
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))


def _notes(data: bytes, order: str, alignment: int) -> Iterator[str]:
    position = 0
    while position + 12 <= len(data):
        name_size, size, kind = struct.unpack_from(order + "III", data, position)
        name_at = position + 12
        contents_at = _aligned(name_at + name_size, alignment)
        if kind == _BUILD_ID and data[name_at : name_at + name_size] == _OWNER:
            contents = data[contents_at : contents_at + size]
            if len(contents) == size:
                yield contents.hex()
        position = _aligned(contents_at + size, alignment)


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
