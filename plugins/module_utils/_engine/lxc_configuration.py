# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of an LXC container, as lxc.container.conf(5) says it is written. Nothing here asks LXC."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator, Mapping, Sequence, Tuple

from ansible_collections.fleet.criu.plugins.module_utils._engine.base import require_sources
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError

# Key and value, in the order of the file: for some keys each line adds one.
Setting = Tuple[str, str]

MOUNT_ENTRY = "lxc.mount.entry"
ROOT = "lxc.rootfs.path"

_INCLUDE = "lxc.include"
_DEEPEST_INCLUDE = 16
# fstab(5): blanks in the fields are written in octal.
_OCTAL = re.compile(r"\\([0-7]{3})")
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

    Raises CriuError if one of the files cannot be read or if they include each other.
    """
    return list(_settings_of(path, 0))


def settings_text(settings: Iterable[Setting], comment: str) -> str:
    """The file that says the same."""
    return "".join([f"# {comment}\n", *(f"{key} = {value}\n" for key, value in settings)])


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
    _source, rest = value.split(None, 1)
    return f"{_escaped(sources[entry.destination])} {rest}"


def _settings_of(path: Path, depth: int) -> Iterator[Setting]:
    if depth > _DEEPEST_INCLUDE:
        raise CriuError(f"The configuration {path} of a container of LXC includes itself.", "Take the include out.")
    try:
        text = path.read_text("utf-8", "surrogateescape")
    except OSError as error:
        raise CriuError(f"The configuration {path} of a container of LXC cannot be read: {error}.") from error
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        key, value = key.strip(), _unquoted(value.strip())
        if not equals or key.startswith("#"):
            continue
        if key == _INCLUDE:
            for included in _included(Path(value)):
                yield from _settings_of(included, depth + 1)
        else:
            yield key, value


def _included(path: Path) -> list[Path]:
    # A folder stands for the files in it that end so.
    return sorted(path.glob("*.conf")) if path.is_dir() else [path]


def _unquoted(value: str) -> str:
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if is_quoted else value


def _entry(value: str) -> MountEntry:
    fields = [*value.split(), "", "", "", ""]
    source, destination, options = _unescaped(fields[0]), _unescaped(fields[1]), fields[3]
    return MountEntry(
        source,
        os.path.normpath(f"/{destination.lstrip('/')}"),
        frozenset(options.split(",")),
        not destination.startswith("/"),
    )


def _unescaped(field: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), field)


def _escaped(path: str) -> str:
    return "".join(f"\\{ord(character):03o}" if character in " \t\n\\" else character for character in path)
