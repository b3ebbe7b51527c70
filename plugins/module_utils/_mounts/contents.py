# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's own record of which paths hold a workload's contents, so that a copy never replaces somebody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable

from ansible_collections.fleet.criu.plugins.module_utils._files import locked, read_json, write_json

RECORD = Path("/var/lib/fleet.criu/contents.json")


class Contents:
    """The record in a JSON file: a path and the name of the workload whose contents it has."""

    def __init__(self, path: Path = RECORD) -> None:
        self._path = path

    def claim(self, paths: Iterable[str], workload: str) -> None:
        """Note durably that these paths hold contents of this workload."""
        with locked(self._path.with_suffix(".lock")):
            record = self._read()
            wanted = {**record, **dict.fromkeys(paths, workload)}
            if wanted != record:
                write_json(self._path, wanted)

    def belongs_to(self, path: str, workload: str) -> bool:
        """Whether what is at the path came from this workload."""
        return self._read().get(path) == workload

    def _read(self) -> dict[str, str]:
        try:
            record = read_json(self._path)
        except (FileNotFoundError, ValueError):
            return {}
        return dict(record) if isinstance(record, dict) else {}
