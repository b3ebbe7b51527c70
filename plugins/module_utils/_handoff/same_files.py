# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's own record of files that were the same on two hosts when a copy between these had ended.

Both hosts note how the files look to them (`trees.Entry`), with one name for the copy that no other copy has. A file
that looks on each host as that host has noted it is still the same, whoever is the source now: what wrote to it on
either host since has given it another change time. Everything else is not known. So a record can be lost, be old or be
that of another copy, of a disk that was put back or of a machine that took another's place: then there is no such pair
of records, or the files do not look as noted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._files import write_atomically
from ansible_collections.fleet.criu.plugins.module_utils._handoff.trees import Entry, Tree
from ansible_collections.fleet.criu.plugins.module_utils._trusted import make_folder

FOLDER = Path("/var/lib/fleet.criu/same_files")

# Some 100 bytes are written for each.
_MOST_FILES = 1_000_000
_NUMBERS = 6


@dataclass(frozen=True)
class SameFiles:
    """The files below a path that were the same after the copy of this name; "" is the path itself if it is a file."""

    copy: str = ""
    files: Tree = field(default_factory=dict)


@dataclass(frozen=True)
class Differing:
    """What the target answers before a live pass: which of its files may be others than ours are.

    If something `is_known`, all but `names` are as they were when the last copy ended. If not, all are to be compared;
    `names` are those of files that have several, and each may have to become a file of its own. In place of too many
    names `is_complete` is false. `rsync` is the version of the target's, empty if it is not known.
    """

    is_known: bool = False
    names: Sequence[str] = ()
    is_complete: bool = True
    rsync: Sequence[int] = ()


class Records:
    """The records of this host, one for each path."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder

    def read(self, path: str) -> SameFiles:
        """What is known of the files below the path: nothing if there is no record, or none that can be read."""
        try:
            with self._file(path).open(encoding="ascii") as stream:
                head, files = json.loads(stream.readline()), json.loads(stream.readline())
            if head["path"] != os.path.normpath(path):
                return SameFiles()
            return SameFiles(_text(head["copy"]), {name: _entry(entry) for name, entry in files.items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return SameFiles()

    def write(self, path: str, same: SameFiles) -> None:
        """Note it durably, in the place of what was known before. Raises OSError, and Untrusted as `make_folder`."""
        make_folder(self._folder)
        self._forget_what_is_gone()
        files = same.files if len(same.files) <= _MOST_FILES else {}
        lines = [
            json.dumps(value, separators=(",", ":"))
            for value in ({"path": os.path.normpath(path), "copy": same.copy}, files)
        ]
        write_atomically(self._file(path), "".join(f"{line}\n" for line in lines))

    def _file(self, path: str) -> Path:
        return self._folder / f"{hashlib.sha256(os.fsencode(os.path.normpath(path))).hexdigest()}.json"

    def _forget_what_is_gone(self) -> None:
        for record in self._folder.glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                with record.open(encoding="ascii") as stream:
                    path = json.loads(stream.readline())["path"]
                if not os.path.lexists(path):
                    record.unlink()


def name_of(handoff: str, module: str, file_name: str | None) -> str:
    """The name of one copy of a handoff, whose own must be one that no other handoff has ever had."""
    return f"{handoff}/{module}/{file_name or ''}"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("it is no text")
    return value


def _is_whole(value: Any) -> bool:
    # True is an int too, and none.
    return isinstance(value, int) and not isinstance(value, bool)


def _entry(value: Any) -> Entry:
    if len(value) != _NUMBERS or not all(map(_is_whole, value)):
        raise ValueError("it is no entry")
    device, inode, changed, size, mode, links = value
    return device, inode, changed, size, mode, links
