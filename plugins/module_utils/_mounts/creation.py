# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a path at the target that a rule says may be made, empty: never guessed, always with a mode and an owner."""

from __future__ import annotations

import grp
import os
import pwd
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._trusted import make_in, opened_parent

DIRECTORY, FILE = "directory", "file"

_MODE = re.compile(r"0?[0-7]{3,4}\Z")
_NAMES = frozenset({"type", "mode", "owner", "group"})


@dataclass(frozen=True)
class Creation:
    """What is to be made: `DIRECTORY` or `FILE`, with a mode in octal digits and the names or IDs of its owners."""

    type: str
    mode: str
    owner: str = "root"
    group: str = "root"

    @classmethod
    def parse(cls, value: Any) -> Creation:
        """What a user wrote under `create`. Raises ValueError, which says what is wrong, as a clause."""
        if not isinstance(value, Mapping) or not set(value) <= _NAMES:
            raise ValueError("'create' has 'type', 'mode', and if need be 'owner' and 'group'")
        given = {name: str(entry) for name, entry in value.items() if entry is not None}
        if given.get("type") not in (DIRECTORY, FILE):
            raise ValueError(f"the 'type' of 'create' must be {DIRECTORY} or {FILE}")
        if not _MODE.match(given.get("mode", "")):
            raise ValueError("the 'mode' of 'create' must be written in octal digits and in quotes, like '0750'")
        return cls(**given)

    def as_dict(self) -> dict[str, str]:
        """The same in plain JSON types."""
        return asdict(self)


def create(path: str, creation: Creation) -> None:
    """Make the path, unless something is there. Its folder must exist, and may be somebody else's. Raises CriuError."""
    try:
        owner, group = _user_id(creation.owner), _group_id(creation.group)
        with opened_parent(Path(path)) as folder:
            made = (make_in if creation.type == DIRECTORY else _make_file)(folder, os.path.basename(path))
            try:
                os.fchown(made, owner, group)
                os.fchmod(made, int(creation.mode, 8))
            finally:
                os.close(made)
    except FileExistsError:
        return
    except (OSError, KeyError) as error:
        raise CriuError(
            f"The {creation.type} {path} cannot be made here: {error}.",
            "Correct 'create' in the rule, or make it yourself.",
            {"path": path},
        ) from error


def _make_file(parent: int, name: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o600, dir_fd=parent)


def _user_id(name: str) -> int:
    return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid


def _group_id(name: str) -> int:
    return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
