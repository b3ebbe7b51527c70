# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where CRIU finds what a workload will have mounted, whoever renames what above it meanwhile.

CRIU takes paths, and a path that leads through somebody else's folder may lead elsewhere a moment later. So what was
opened is bound at a place in a mount namespace of our own. That ends with this process and the commands that it runs:
nothing is left behind on the host but an empty folder, even if they are killed. It is a slave of the host's, so that a
slave mount can still find its master.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._mount_calls import (
    BIND,
    NODEV,
    NOEXEC,
    NOSUID,
    READ_ONLY,
    REMOUNT,
    enter_namespace,
    mount,
)
from ansible_collections.fleet.criu.plugins.module_utils._mounts.pinned import Pinned
from ansible_collections.fleet.criu.plugins.module_utils._trusted import make_folder

# Not below our other folder there, which only root can enter: what is restored into a user namespace walks to the
# places as its own user.
FOLDER = Path("/run/fleet.criu.mounts")

_TYPE = "tmpfs"
_FLAGS = {"ro": READ_ONLY, "nosuid": NOSUID, "nodev": NODEV, "noexec": NOEXEC}


class PrivateMounts:
    """The places. To be made by a process with one thread, before it opens what it is going to bind.

    Raises CriuError, and Untrusted as `make_folder` does.
    """

    def __init__(self) -> None:
        try:
            self._folder = make_folder(FOLDER)
            enter_namespace()
            mount(_TYPE, str(self._folder), _TYPE, NOSUID | NODEV | NOEXEC, "mode=0711")
        except OSError as error:
            raise CriuError(
                f"No mount namespace can be made for CRIU: {error}.",
                "Run the task as root (become: true), with all capabilities and where processes may have namespaces.",
            ) from error
        self._places: dict[str, str] = {}

    def place(self, path: str, pinned: Pinned) -> str:
        """Where what is pinned at this path is bound: it alone, without what is mounted below it.

        Raises CriuError, as `Pinned.add` does, and if it is gone or cannot be bound.
        """
        if path not in self._places:
            place = str(self._folder / str(len(self._places)))
            try:
                with pinned.opened(path) as descriptor:
                    _make_mount_point(place, descriptor)
                    mount(f"/proc/self/fd/{descriptor}", place, None, BIND)
            except OSError as error:
                raise CriuError(
                    f"{path} cannot be bound for CRIU: {error.strerror}.", "Plan again with mount_map.", {"path": path}
                ) from error
            self._places[path] = place
        return self._places[path]

    def set_options(self, path: str, options: Sequence[str]) -> None:
        """Mount what is bound for this path with those of these options that say what may be done there, and no other.

        They are `ro`, `nosuid`, `nodev` and `noexec`. A root gets them from the bind that CRIU is given with `--root`:
        before CRIU 4.2 all of them, since then those that were not there before the dump. Raises CommandFailed.
        """
        flags = sum(flag for name, flag in _FLAGS.items() if name in options)
        try:
            mount(None, self._places[path], None, REMOUNT | BIND | flags)
        except OSError as error:
            raise CommandFailed(
                f"The root {path} cannot be mounted as the workload had it ({', '.join(options) or 'read-write'}): "
                f"{error.strerror}.",
                "Mount what is there with the same options, or choose another path for the root.",
            ) from error

    @property
    def paths(self) -> dict[str, str]:
        """What each place stands for."""
        return {place: path for path, place in self._places.items()}


def _make_mount_point(place: str, descriptor: int) -> None:
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.mkdir(place, 0o700)
    else:
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
