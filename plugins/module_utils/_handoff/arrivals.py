# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copied files as they come in at the target: which copies have ended well, and what is the same on both hosts then."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.file_server import path_of
from ansible_collections.fleet.criu.plugins.module_utils._handoff.rsync import VANISHED, version
from ansible_collections.fleet.criu.plugins.module_utils._handoff.same_files import (
    Differing,
    Records,
    SameFiles,
    name_of,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.trees import (
    Tree,
    has_change_times,
    is_file,
    is_older,
    linked,
    look,
    mounted_below,
)
from ansible_collections.fleet.criu.plugins.module_utils._mounts.pinned import Pinned
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Runner

# What is said of names must fit into a message, in which a character may take six bytes.
_MOST_NAMES = 50_000
_MOST_CHARACTERS = 1_000_000


class Arrivals:
    """The copies of one handoff. `pinned` has the folders open that they go to."""

    def __init__(self, runner: Runner, pinned: Pinned) -> None:
        self._runner = runner
        self._pinned = pinned
        self._ended: dict[int, CriuError | None] = {}
        self._asked: dict[tuple[str, str], str] = {}
        self._places: dict[tuple[str, str], str] = {}
        self._noted: dict[tuple[str, str], Tree] = {}

    def compare(self, module: str, file_name: str, copy: str, modules: Mapping[str, str]) -> Differing:
        """What of the files here may be others than those of the source, both having noted them after this copy.

        Raises CriuError if the module is none of the handoff's, or has a folder where a file is to come.
        """
        path = self._asked[module, file_name] = _path(module, file_name, modules)
        rsync = version(self._runner)
        place = self._places[module, file_name] = self._pinned.place(modules[module], file_name)
        if not os.path.lexists(place):
            return Differing(rsync=rsync)
        if file_name and stat.S_ISDIR(os.lstat(place).st_mode):
            raise CriuError(f"{path} is a folder here, and is to be a file.", "Remove it, or correct the mount rules.")
        tree = _look(place, bool(file_name), ())
        same = Records().read(path)
        is_known = bool(copy) and same.copy == copy and has_change_times(place, Proc().mountinfo("self"))
        if is_known:
            names = [name for name, entry in tree.items() if is_file(entry) and same.files.get(name) != entry]
            if _fits(names):
                return Differing(True, names, True, rsync)
        names = [name for name in linked(tree) if is_file(tree[name])]
        return Differing(False, names, True, rsync) if _fits(names) else Differing(False, (), False, rsync)

    def ended(self, number: int, error: Exception | None) -> None:
        """The copy over the connection of this number has ended, well or with an error."""
        if error is not None and not isinstance(error, CriuError):
            error = CriuError(f"{type(error).__name__}: {error}.")
        self._ended[number] = error

    def have_ended(self, numbers: Sequence[int], live: bool) -> bool:
        """Whether all of these have ended. Raises the error of one that has not ended well.

        Of `live` copies, files may have vanished meanwhile.
        """
        for number in numbers:
            error = self._ended.get(number)
            if error is not None and not (live and error.facts.get("rc") == VANISHED):
                raise error
        return all(number in self._ended for number in numbers)

    def note(self) -> None:
        """Look at what has arrived, and write back what is cached. While the workload still runs at the source."""
        began = time.time_ns()
        # A page that is dirty already could be changed later without a new change time.
        os.sync()
        mountinfo = Proc().mountinfo("self")
        for (module, file_name), place in self._places.items():
            if has_change_times(place, mountinfo):
                tree = _look(place, bool(file_name), mounted_below(place, mountinfo))
                files = {name: entry for name, entry in tree.items() if is_file(entry) and is_older(entry, began)}
                self._noted[module, file_name] = files

    def remember(self, handoff: str) -> None:
        """Note durably what `note` has seen, now that the handoff of this name has succeeded. Raises OSError.

        What has changed since, by the last copies or by the workload, looks otherwise.
        """
        for (module, file_name), files in self._noted.items():
            path = self._asked[module, file_name]
            Records().write(path, SameFiles(name_of(handoff, module, file_name), files))


def _path(module: str, file_name: str, modules: Mapping[str, str]) -> str:
    folder = path_of(module, modules)
    if not file_name:
        return folder
    if "/" in file_name or file_name in (".", ".."):
        raise CriuError(f"The source asks for the file {file_name!r}, which is the name of none.")
    return str(Path(folder) / file_name)


def _look(path: str, is_one_file: bool, left_out: Sequence[str]) -> Tree:
    try:
        return look(path, is_one_file, left_out)
    except OSError as error:
        raise CriuError(f"{path} cannot be read here: {error}.", "Look at what is there.") from error


def _fits(names: Sequence[str]) -> bool:
    return len(names) <= _MOST_NAMES and sum(map(len, names)) <= _MOST_CHARACTERS
