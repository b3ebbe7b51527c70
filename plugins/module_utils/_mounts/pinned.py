# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths of a workload on this host, opened once: what was checked is what is used, whoever renames what meanwhile.

A folder is kept by a descriptor. A file is kept by that of its folder and its name, because a copy replaces it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Iterable, Iterator

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._trusted import open_place, open_with_place


class Pinned:
    """The paths that were added, each opened without a symlink that others could have made."""

    def __init__(self) -> None:
        # By path: the folder, and for a file its name there.
        self._found: dict[str, tuple[int, str | None]] = {}

    def add(self, paths: Iterable[str]) -> None:
        """Open these paths, unless that was done before. Raises CriuError for one that cannot be, and Untrusted."""
        for path in paths:
            self._place(path)

    def folder(self, path: str) -> int:
        """The descriptor of a folder, which is added if need be. It stays open until `close`."""
        descriptor, name = self._place(path)
        if name is not None:
            raise CriuError(f"{path} is no folder.", "Plan again with mount_map for this host.", {"path": path})
        return descriptor

    def place(self, folder: str, name: str = "") -> str:
        """Where a folder, or what has this name in it, is found by this process and those that inherit the folder."""
        return f"/proc/self/fd/{self.folder(folder)}/{name}"

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[int]:
        """A descriptor (O_PATH) of what is at the path now. Raises CriuError and OSError."""
        descriptor, name = self._place(path)
        if name is None:
            yield descriptor
            return
        file = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
        try:
            if stat.S_ISLNK(os.fstat(file).st_mode):
                raise CriuError(f"Somebody has put a symlink at {path}.", "Plan again with mount_map.", {"path": path})
            yield file
        finally:
            os.close(file)

    def replace(self, path: str, descriptor: int) -> None:
        """Keep this descriptor, which is ours from now on, for a folder that was found in another way."""
        if path in self._found:
            os.close(self._found.pop(path)[0])
        self._found[path] = descriptor, None

    def is_at(self, path: str, other: str) -> bool:
        """Whether what was opened at `path` is what is at the path `other` now; False if one of them is nowhere."""
        try:
            descriptor, name = self._place(path)
            ours = os.fstat(descriptor) if name is None else os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            return os.path.samestat(ours, os.stat(other))
        except (OSError, CriuError):
            return False

    def close(self) -> None:
        """Let go of all of them."""
        for descriptor, _name in self._found.values():
            os.close(descriptor)
        self._found.clear()

    def _place(self, path: str) -> tuple[int, str | None]:
        if path not in self._found:
            try:
                self._found[path] = _opened(path)
            except OSError as error:
                raise CriuError(
                    f"{path} cannot be opened here: {error.strerror}.", "Plan again with mount_map.", {"path": path}
                ) from error
        return self._found[path]


def _opened(path: str) -> tuple[int, str | None]:
    descriptor, place = open_with_place(path)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        return descriptor, None
    os.close(descriptor)
    return open_place(os.path.dirname(place)), os.path.basename(place)
