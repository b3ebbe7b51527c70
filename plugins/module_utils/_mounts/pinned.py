# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths of a workload on this host, opened once: what was checked is what is used, whoever renames what meanwhile.

A folder is kept by a descriptor. A file is kept by that of its folder and its name, because a copy replaces it.
"""

from __future__ import annotations

import os
import stat
from typing import Iterable

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._trusted import open_place


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
    descriptor = open_place(path)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        return descriptor, None
    os.close(descriptor)
    return open_place(os.path.dirname(path)), os.path.basename(path)
