# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mountinfo file, read into typed rows and written back. The format is that of proc(5), /proc/PID/mountinfo."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Iterable

from ansible_collections.fleet.criu.plugins.module_utils._errors import MalformedMountinfo

DELETED = "//deleted"

_ESCAPED = re.compile(r"\\([0-3][0-7]{2})")
_DEVICE = re.compile(r"([0-9]+):([0-9]+)\Z")
_NUMBER = re.compile(r"[0-9]+\Z")


@dataclass(frozen=True)
class MountRow:
    """One row of a mountinfo file, in the order and with the names of proc(5).

    Paths are unescaped; `super_options` are as the kernel prints them, because a comma inside one is told from the
    comma between two by its escape alone. `root` is without the kernel's `//deleted`, which is kept as `deleted`.
    Bytes that are no UTF-8 are surrogates (PEP 383).
    """

    mount_id: int
    parent_id: int
    major: int
    minor: int
    root: str
    mountpoint: str
    mount_options: tuple[str, ...]
    optional_fields: tuple[str, ...]
    fstype: str
    source: str
    super_options: tuple[str, ...]
    deleted: bool = False

    @property
    def device(self) -> str:
        """The superblock's device number as mountinfo prints it, `MAJOR:MINOR`."""
        return f"{self.major}:{self.minor}"

    @property
    def shared(self) -> int | None:
        """The peer group that this mount is in, if any."""
        return self._tag("shared")

    @property
    def master(self) -> int | None:
        """The peer group that this mount is a slave of, if any."""
        return self._tag("master")

    @property
    def propagate_from(self) -> int | None:
        """The nearest dominant peer group under the process's root, if any."""
        return self._tag("propagate_from")

    @property
    def unbindable(self) -> bool:
        """Whether the mount refuses to be bind mounted."""
        return "unbindable" in self.optional_fields

    def _tag(self, name: str) -> int | None:
        for text in self.optional_fields:
            tag, _colon, value = text.partition(":")
            if tag == name and _NUMBER.match(value):
                return int(value)
        return None

    def as_dict(self) -> dict[str, Any]:
        """The row in plain JSON types, as modules return it; undecodable bytes are shown as `\\xNN`."""
        return {
            "mount_id": self.mount_id,
            "parent_id": self.parent_id,
            "major": self.major,
            "minor": self.minor,
            "root": printable(self.root),
            "mountpoint": printable(self.mountpoint),
            "mount_options": list(self.mount_options),
            "optional_fields": list(self.optional_fields),
            "shared": self.shared,
            "master": self.master,
            "propagate_from": self.propagate_from,
            "unbindable": self.unbindable,
            "fstype": self.fstype,
            "source": printable(self.source),
            "super_options": [printable(option) for option in self.super_options],
            "deleted": self.deleted,
        }


def parse(text: str) -> list[MountRow]:
    """The rows of a mountinfo file in their order. Raises MalformedMountinfo, which names the line and its number."""
    return [_parse_line(line, number) for number, line in enumerate(text.split("\n"), 1) if line]


def format_table(rows: Iterable[MountRow]) -> str:
    """The text that `parse` would read into these rows."""
    return "".join(_format_row(row) + "\n" for row in rows)


def printable(text: str) -> str:
    """Text that JSON can carry: a byte that is no UTF-8 becomes `\\xNN`."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_decodable(text: str) -> bool:
    """Whether every byte of this text was UTF-8."""
    return not any("\udc80" <= character <= "\udcff" for character in text)


def _parse_line(line: str, number: int) -> MountRow:
    # One space parts two fields; a source may be empty (mount -t tmpfs '' /mnt), so runs of spaces must not be folded.
    fields = line.split(" ")
    try:
        separator = fields.index("-", 6)
    except ValueError:
        raise _malformed(line, number, "the separator '-' is missing") from None
    if len(fields) != separator + 4:
        raise _malformed(line, number, "three fields must follow the separator '-'")
    device = _DEVICE.match(fields[2])
    if device is None:
        raise _malformed(line, number, f"'{fields[2]}' is no device number MAJOR:MINOR")
    for name, value in (("mount ID", fields[0]), ("parent ID", fields[1])):
        if not _NUMBER.match(value):
            raise _malformed(line, number, f"'{value}' is no {name}")
    root, mountpoint = _unescape(fields[3]), _unescape(fields[4])
    if not mountpoint.startswith("/"):
        raise _malformed(line, number, f"the mountpoint '{mountpoint}' is not absolute")
    deleted = root.endswith(DELETED)
    return MountRow(
        mount_id=int(fields[0]),
        parent_id=int(fields[1]),
        major=int(device.group(1)),
        minor=int(device.group(2)),
        root=root[: -len(DELETED)] if deleted else root,
        mountpoint=mountpoint,
        mount_options=tuple(fields[5].split(",")),
        optional_fields=tuple(fields[6:separator]),
        fstype=_unescape(fields[separator + 1]),
        source=_unescape(fields[separator + 2]),
        super_options=tuple(fields[separator + 3].split(",")),
        deleted=deleted,
    )


def _malformed(line: str, number: int, reason: str) -> MalformedMountinfo:
    return MalformedMountinfo(
        f"Line {number} of the mountinfo is malformed: {reason}: {printable(line)!r}.",
        "Give the text of /proc/PID/mountinfo unaltered (see proc(5)).",
        {"line_number": number, "line": printable(line)},
    )


def _format_row(row: MountRow) -> str:
    root = row.root + (DELETED if row.deleted else "")
    return " ".join(
        [
            str(row.mount_id),
            str(row.parent_id),
            row.device,
            _escape(root),
            _escape(row.mountpoint),
            ",".join(row.mount_options),
            *row.optional_fields,
            "-",
            _escape(row.fstype),
            _escape(row.source, "#"),
            ",".join(row.super_options),
        ]
    )


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    # Octal escapes stand for bytes: several of them may make up one UTF-8 character.
    raw = _ESCAPED.sub(lambda match: chr(0xDC00 + int(match.group(1), 8)), text)
    return _bytes_of(raw).decode("utf-8", "surrogateescape")


def _bytes_of(text: str) -> bytes:
    return b"".join(
        bytes([ord(character) - 0xDC00])
        if "\udc00" <= character <= "\udcff"
        else character.encode("utf-8", "surrogateescape")
        for character in text
    )


def _escape(text: str, further: str = "") -> str:
    return "".join(f"\\{ord(character):03o}" if character in " \t\n\\" + further else character for character in text)
