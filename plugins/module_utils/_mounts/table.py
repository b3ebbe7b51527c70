# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mountinfo file, read into typed rows and written back. The format is that of proc(5), /proc/PID/mountinfo."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import MalformedMountinfo

DELETED = "//deleted"

_ESCAPED = re.compile(r"\\([0-3][0-7]{2})")
# What the kernel writes as an octal escape: in paths, and in types and sources.
_PATH_ESCAPES = str.maketrans({character: f"\\{ord(character):03o}" for character in " \t\n\\"})
_NAME_ESCAPES = {**_PATH_ESCAPES, ord("#"): "\\043"}


# A named tuple, because a frozen dataclass takes five times as long to make, and there may be 100,000.
class MountRow(NamedTuple):
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
        return self._tag("shared:")

    @property
    def master(self) -> int | None:
        """The peer group that this mount is a slave of, if any."""
        return self._tag("master:")

    @property
    def propagate_from(self) -> int | None:
        """The nearest dominant peer group under the process's root, if any."""
        return self._tag("propagate_from:")

    @property
    def unbindable(self) -> bool:
        """Whether the mount refuses to be bind mounted."""
        return "unbindable" in self.optional_fields

    def _tag(self, prefix: str) -> int | None:
        for text in self.optional_fields:
            if text.startswith(prefix) and _is_number(text[len(prefix) :]):
                return int(text[len(prefix) :])
        return None

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> MountRow:
        """The row that `as_dict` gave these fields for; further ones are passed over.

        A byte that was no UTF-8 stays what `as_dict` made of it. Raises MalformedMountinfo, which names the field.
        """
        return cls(**{name: _field(fields, name, kind) for name, kind in _FIELD_KINDS.items()})

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


def check_tree(rows: Sequence[MountRow]) -> None:
    """Raises MalformedMountinfo if two rows have one mount ID, or if parents lead round in a circle.

    A mount that is its own parent, or whose parent is not in the table, is a top (proc(5)).
    """
    parents: dict[int, int] = {}
    for number, row in enumerate(rows, 1):
        if row.mount_id in parents:
            raise _broken_tree(f"mount ID {row.mount_id} is there twice (row {number})", row)
        parents[row.mount_id] = row.parent_id
    settled: set[int] = set()
    for row in rows:
        path: list[int] = []
        current = row.mount_id
        while current in parents and current not in settled and parents[current] != current:
            path.append(current)
            settled.add(current)
            current = parents[current]
        if path and current in path:
            raise _broken_tree(f"the parents of mount ID {row.mount_id} lead round in a circle", row)


def format_table(rows: Iterable[MountRow]) -> str:
    """The text that `parse` would read into these rows."""
    return "".join(_format_row(row) + "\n" for row in rows)


def printable(text: str) -> str:
    """Text that JSON can carry: a byte that is no UTF-8 becomes `\\xNN`."""
    if text.isascii():
        return text
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
    mount_id, parent_id, device, root, mountpoint, mount_options = fields[:6]
    fstype, source, super_options = fields[separator + 1 :]
    major, _colon, minor = device.partition(":")
    if not (_is_number(major) and _is_number(minor)):
        raise _malformed(line, number, f"'{device}' is no device number MAJOR:MINOR")
    if not _is_number(mount_id):
        raise _malformed(line, number, f"'{mount_id}' is no mount ID")
    if not _is_number(parent_id):
        raise _malformed(line, number, f"'{parent_id}' is no parent ID")
    if "\\" in line:
        root, mountpoint, fstype, source = map(_unescape, (root, mountpoint, fstype, source))
    if not mountpoint.startswith("/"):
        raise _malformed(line, number, f"the mountpoint '{mountpoint}' is not absolute")
    deleted = root.endswith(DELETED)
    return MountRow(
        int(mount_id),
        int(parent_id),
        int(major),
        int(minor),
        root[: -len(DELETED)] if deleted else root,
        mountpoint,
        _options(mount_options),
        tuple(fields[6:separator]),
        fstype,
        source,
        tuple(super_options.split(",")),
        deleted,
    )


@lru_cache(maxsize=256)
def _options(text: str) -> tuple[str, ...]:
    # A large table has few different ones: one tuple for each is quicker and smaller than one for each row.
    return tuple(text.split(","))


def _is_number(text: str) -> bool:
    # isdigit alone is true of other scripts' digits too.
    return text.isdigit() and text.isascii()


def _broken_tree(reason: str, row: MountRow) -> MalformedMountinfo:
    return MalformedMountinfo(
        f"The mountinfo is no tree: {reason}.",
        "Give the text of /proc/PID/mountinfo unaltered (see proc(5)).",
        {"mount_id": row.mount_id},
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
            root.translate(_PATH_ESCAPES),
            row.mountpoint.translate(_PATH_ESCAPES),
            ",".join(row.mount_options),
            *row.optional_fields,
            "-",
            row.fstype.translate(_NAME_ESCAPES),
            row.source.translate(_NAME_ESCAPES),
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


_FIELD_KINDS: Mapping[str, type] = {
    "mount_id": int,
    "parent_id": int,
    "major": int,
    "minor": int,
    "root": str,
    "mountpoint": str,
    "mount_options": tuple,
    "optional_fields": tuple,
    "fstype": str,
    "source": str,
    "super_options": tuple,
    "deleted": bool,
}


def _field(fields: Mapping[str, Any], name: str, kind: type) -> Any:
    value = fields.get(name)
    if kind is tuple and isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return tuple(value)
    if kind is not tuple and isinstance(value, kind):
        return value
    raise MalformedMountinfo(
        f"A mount has {value!r} as '{name}', which mountinfo cannot have.",
        "Give the rows as the filter fleet.criu.mountinfo or the module fleet.criu.mount_info returned them.",
        {"field": name},
    )
