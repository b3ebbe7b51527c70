# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of an LXC container, as lxc.container.conf(5) says it is written. Nothing here asks LXC.

A line ends at a newline and nowhere else, and only blanks and tabs are taken away at its ends, as LXC has it. Whatever
else some reader could take for the end of a line is refused: what we check and what LXC does must be the same.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Sequence, Tuple

from ansible_collections.fleet.criu.plugins.module_utils._engine.base import require_sources
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._foreign import read_text

# Key and value, in the order of the file: for some keys each line adds one.
Setting = Tuple[str, str]

MOUNT_ENTRY = "lxc.mount.entry"
ROOT = "lxc.rootfs.path"

_INCLUDE = "lxc.include"
_DEEPEST_INCLUDE = 16
_MOST_FILES = 1000
_LONGEST = 1 << 20
_BLANKS = " \t"
_QUOTES = "\"'"
# All control characters of ASCII and Latin-1 but the tab, and the separators of lines and paragraphs.
_CONTROL = re.compile("[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f\\u2028\\u2029]")
_KEY = re.compile(r"[^\s=#\"'][^\s=]*\Z")
# What getmntent(3) knows, by which LXC reads mount entries.
_ESCAPES = {"040": " ", "011": "\t", "012": "\n", "134": "\\"}
_ESCAPE = re.compile(r"\\(040|011|012|134|\\)")
_BIND_OPTIONS = frozenset({"bind", "rbind"})
# What is bound from there is the kernel's, and the same on every host.
_KERNELS_OWN = ("/proc", "/sys", "/dev")


@dataclass(frozen=True)
class MountEntry:
    """One line `lxc.mount.entry`. `destination` is a path inside, for one that `is_relative` as it was written."""

    source: str
    destination: str
    options: frozenset[str]
    is_relative: bool

    @property
    def is_bind(self) -> bool:
        """Whether it comes from the host's own files."""
        is_kernels = any(self.source == path or self.source.startswith(f"{path}/") for path in _KERNELS_OWN)
        return bool(_BIND_OPTIONS & self.options) and not is_kernels


def read_settings(path: Path) -> list[Setting]:
    """All settings of a configuration, with what it includes in the place of each include.

    Raises CriuError if one of the files cannot be read, has a control character, or if they include each other.
    """
    return list(_settings_of(path, 0, []))


def settings_in(value: Any) -> list[Setting]:
    """The settings that another host or an image set gives as JSON. Raises CriuError if they are none."""
    is_fit = isinstance(value, list) and all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        for pair in value
    )
    if not is_fit:
        raise CriuError(
            "The configuration of the container that came with the images is no list of keys and values.",
            "Use another copy of this image set, made by the same version of fleet.criu.",
        )
    return [(str(key), str(text)) for key, text in value]


def settings_text(settings: Iterable[Setting], comment: str) -> str:
    """The file that says the same. Raises CriuError for what no such file can say."""
    return "".join([f"# {comment}\n", *(f"{key} = {_quoted(key, value)}\n" for key, value in settings)])


def last(settings: Sequence[Setting], key: str) -> str:
    """The value that counts for a key that has one; empty without."""
    return next((value for name, value in reversed(settings) if name == key), "")


def mount_entries(settings: Sequence[Setting]) -> list[MountEntry]:
    """Every mount entry. One with an empty value takes away those before it."""
    entries: list[MountEntry] = []
    for key, value in settings:
        if key == MOUNT_ENTRY:
            entries = [*entries, _entry(value)] if value else []
    return entries


def without_missing(settings: Sequence[Setting]) -> list[Setting]:
    """The same settings without mount entries that LXC leaves out on this host: optional ones without a source."""
    return [
        (key, value)
        for key, value in settings
        if key != MOUNT_ENTRY or "optional" not in _entry(value).options or os.path.exists(_entry(value).source)
    ]


def remapped_settings(settings: Sequence[Setting], sources: Mapping[str, str], root: str) -> list[Setting]:
    """The same settings with another source for each bind, by its destination, and with another root.

    Raises CriuError if a bind has no source.
    """
    binds = [entry.destination for entry in mount_entries(settings) if entry.is_bind]
    require_sources(binds, sources)
    kept = [(key, _with_source(value, sources) if key == MOUNT_ENTRY else value) for key, value in settings]
    return [*((key, value) for key, value in kept if key != ROOT), (ROOT, f"dir:{root}")]


def _with_source(value: str, sources: Mapping[str, str]) -> str:
    entry = _entry(value)
    if not entry.is_bind or entry.destination not in sources:
        return value
    _source, rest = re.split(f"[{_BLANKS}]+", value.strip(_BLANKS), maxsplit=1)
    return f"{_escaped(sources[entry.destination])} {rest}"


def _settings_of(path: Path, depth: int, read: list[Path]) -> Iterator[Setting]:
    if depth > _DEEPEST_INCLUDE or len(read) >= _MOST_FILES:
        raise CriuError(f"The configuration {path} of a container of LXC includes itself.", "Take the include out.")
    read.append(path)
    try:
        text = read_text(path, _LONGEST, follow=True)
    except (OSError, ValueError) as error:
        raise CriuError(f"The configuration {path} of a container of LXC cannot be read: {error}.") from error
    for number, line in enumerate(text.split("\n"), 1):
        key, equals, value = line.partition("=")
        key, value = key.strip(_BLANKS), _unquoted(value.strip(_BLANKS))
        if not equals or key.startswith("#"):
            continue
        _require_plain(line, f"line {number} of the configuration {path} of a container of LXC")
        if key == _INCLUDE:
            for included in _included(Path(value)):
                yield from _settings_of(included, depth + 1, read)
        else:
            yield key, value


def _included(path: Path) -> list[Path]:
    # A folder stands for the files in it that end so.
    return sorted(path.glob("*.conf")) if os.path.isdir(path) else [path]


def _unquoted(value: str) -> str:
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in _QUOTES
    return value[1:-1] if is_quoted else value


def _quoted(key: str, value: str) -> str:
    _require_plain(key + value, f"a value for {key[:80]!r} in the configuration of a container of LXC")
    if not _KEY.match(key):
        raise CriuError(f"{key[:80]!r} cannot be a key in the configuration of a container of LXC.", "Take it out.")
    return value if _unquoted(value.strip(_BLANKS)) == value else f'"{value}"'


def _require_plain(text: str, where: str) -> None:
    found = _CONTROL.search(text)
    if found is not None:
        raise CriuError(
            f"There is the control character {found.group()!a} in {where}.",
            "LXC and others do not agree on what it means there. Take it out.",
        )


def _entry(value: str) -> MountEntry:
    fields = [*re.split(f"[{_BLANKS}]+", value.strip(_BLANKS)), "", "", "", ""]
    source, destination, options = _unescaped(fields[0]), _unescaped(fields[1]), fields[3]
    return MountEntry(
        source,
        os.path.normpath(f"/{destination.lstrip('/')}"),
        frozenset(options.split(",")),
        not destination.startswith("/"),
    )


def _unescaped(field: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match.group(1), "\\"), field)


def _escaped(path: str) -> str:
    return "".join(f"\\{ord(character):03o}" if character in " \t\n\\" else character for character in path)
