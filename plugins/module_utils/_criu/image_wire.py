# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One protobuf message, read without a schema: tag, wire type and value as the protobuf encoding guide lays them down.

The caller knows which field has which number and type; the readers of `image_*.py` do, by CRIU's protobuf definitions.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Union

from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import printable

COPY_AGAIN = "Copy the image set again from where it was dumped, or use another one."

Value = Union[int, bytes]

_VARINT, _EIGHT_BYTES, _COUNTED_BYTES, _FOUR_BYTES = 0, 1, 2, 5
_FIXED = {_EIGHT_BYTES: struct.Struct("<Q"), _FOUR_BYTES: struct.Struct("<I")}
_WIRE_TYPE_BITS = 3
_LONGEST_VARINT = 10
_HIGHEST = (1 << 64) - 1
# CRIU's longest definition has some 60; each one that is seen takes memory.
_MOST_FIELDS = 1000


def damaged(path: Path, offset: int, reason: str, remedy: str = COPY_AGAIN) -> BadImageSet:
    """The error for an image file that is wrong at this byte offset."""
    return BadImageSet(
        f"The image {path} is damaged at byte {offset}: {reason}.", remedy, {"file": path.name, "offset": offset}
    )


class Message:
    """The fields of one message. `path` and `offset` say where its bytes are, for error messages.

    Every method raises BadImageSet if the field is not what is asked for. A field given twice has its last value.
    Unknown fields are passed over: a newer CRIU may add some.
    """

    __slots__ = ("_fields", "offset", "path")

    def __init__(self, data: bytes, path: Path, offset: int) -> None:
        self.path = path
        self.offset = offset
        self._fields: dict[int, list[Value]] = {}
        self._parse(data)

    def number(self, field: int, name: str) -> int:
        """A number that must be there."""
        value = self.optional_number(field, name)
        if value is None:
            raise self._missing(field, name)
        return value

    def optional_number(self, field: int, name: str) -> int | None:
        """A number, or None."""
        values = self._fields.get(field)
        if values is None:
            return None
        value = values[-1]
        if isinstance(value, bytes):
            raise self._other_type(field, name, "a number")
        return value

    def flag(self, field: int, name: str) -> bool:
        """A truth value; False if it is not there."""
        return bool(self.optional_number(field, name))

    def numbers(self, field: int, name: str) -> list[int]:
        """All numbers of a repeated field, each for itself or packed into one counted field."""
        result: list[int] = []
        for value in self._fields.get(field, []):
            if isinstance(value, int):
                result.append(value)
                continue
            position = 0
            while position < len(value):
                number, position = self._varint(value, position, f"field {field} ({name})")
                result.append(number)
        return result

    def text(self, field: int, name: str) -> str:
        """A text that must be there; a byte that is no UTF-8 becomes `\\xNN`."""
        value = self.optional_text(field, name)
        if value is None:
            raise self._missing(field, name)
        return value

    def optional_text(self, field: int, name: str) -> str | None:
        """A text, or None."""
        value = self._bytes(field, name, "a text")
        return None if value is None else printable(value.decode("utf-8", "surrogateescape"))

    def message(self, field: int, name: str) -> Message | None:
        """A message within this one, or None. Its offset is that of this one."""
        value = self._bytes(field, name, "a message")
        return None if value is None else Message(value, self.path, self.offset)

    def _bytes(self, field: int, name: str, wanted: str) -> bytes | None:
        values = self._fields.get(field)
        if values is None:
            return None
        value = values[-1]
        if isinstance(value, int):
            raise self._other_type(field, name, wanted)
        return value

    def _parse(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            start = position
            tag, position = self._varint(data, position, "a tag")
            field, wire_type = tag >> _WIRE_TYPE_BITS, tag & ((1 << _WIRE_TYPE_BITS) - 1)
            if field == 0:
                raise damaged(self.path, self.offset + start, "there is no field 0")
            value: Value
            if wire_type == _VARINT:
                value, position = self._varint(data, position, f"field {field}")
            elif wire_type == _COUNTED_BYTES:
                length, position = self._varint(data, position, f"the length of field {field}")
                self._require(data, position, length, field)
                value, position = data[position : position + length], position + length
            elif wire_type in _FIXED:
                layout = _FIXED[wire_type]
                self._require(data, position, layout.size, field)
                (value,) = layout.unpack_from(data, position)
                position += layout.size
            else:
                raise damaged(self.path, self.offset + start, f"field {field} has the unknown wire type {wire_type}")
            self._fields.setdefault(field, []).append(value)
            if len(self._fields) > _MOST_FIELDS:
                raise damaged(self.path, self.offset + start, f"the record has more than {_MOST_FIELDS} fields")

    def _varint(self, data: bytes, position: int, what: str) -> tuple[int, int]:
        value = 0
        for count, byte in enumerate(data[position : position + _LONGEST_VARINT]):
            value |= (byte & 0x7F) << (7 * count)
            if byte < 0x80:
                if value > _HIGHEST:
                    break
                return value, position + count + 1
        if position + _LONGEST_VARINT > len(data) and value <= _HIGHEST:
            raise damaged(self.path, self.offset + len(data), f"the record ends within {what}")
        raise damaged(self.path, self.offset + position, f"{what} is no number of 64 bits")

    def _require(self, data: bytes, position: int, length: int, field: int) -> None:
        if length > len(data) - position:
            raise damaged(
                self.path,
                self.offset + position,
                f"field {field} has {length} bytes, but its record ends after {len(data) - position}",
            )

    def _missing(self, field: int, name: str) -> BadImageSet:
        return damaged(self.path, self.offset, f"the record has no field {field} ({name})")

    def _other_type(self, field: int, name: str, wanted: str) -> BadImageSet:
        return damaged(self.path, self.offset, f"field {field} ({name}) of the record is not {wanted}")
