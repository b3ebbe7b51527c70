# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of an image set: memory images are secrets, and one folder holds one set."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from pathlib import Path

from ansible_collections.fleet.criu.plugins.module_utils._criu import memory_folder
from ansible_collections.fleet.criu.plugins.module_utils._criu.command import DUMP_LOG, RESTORE_LOG
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet
from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import is_below
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import parse
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._trusted import make_folder, require_trusted

# From <sys/mount.h>.
_MNT_DETACH = 2

# What a failed attempt leaves for a person to read; it does not keep the next attempt out.
_OWN_NAME = re.compile(r".*[.](img|log)\Z|stats-[a-z]+\Z|[.]?manifest[.]json|(restored|engine|descriptors)[.]json\Z")
_LOGS = frozenset({DUMP_LOG, RESTORE_LOG})


def require_empty(images: Path) -> None:
    """Raises BadImageSet if the image folder is something else than absent or empty."""
    if images.is_symlink() or (images.exists() and not images.is_dir()):
        raise BadImageSet(f"The image folder {images} is not a folder.", "Name another path.")
    contents = sorted(entry.name for entry in images.iterdir() if entry.name not in _LOGS) if images.exists() else []
    if contents:
        raise BadImageSet(
            f"The image folder {images} is not empty: it has {', '.join(contents[:5])}"
            f"{' …' if len(contents) > 5 else ''}.",
            "Name another folder for this dump, or remove the old one if nobody needs it.",
        )


def prepare_folder(images: Path, needed: int = 0) -> None:
    """Make the image folder with mode 0700, or take an empty one. In memory, see that `needed` bytes fit in.

    Raises BadImageSet if that cannot be, and Untrusted if others could put another one in its place.
    """
    try:
        memory_folder.provide(images, Proc())
        memory_folder.make_room(images, needed, Proc())
        require_trusted(images)
        require_empty(images)
        make_folder(images)
    except OSError as error:
        raise BadImageSet(
            f"The image folder {images} cannot be made: {error.strerror}.", "Name another path."
        ) from error


def require_space(images: Path, needed: int) -> None:
    """Raises BadImageSet if the file system of the image folder has fewer than `needed` bytes free."""
    free = free_bytes(images)
    if free < needed:
        raise BadImageSet(
            f"There is too little space for {images}: {needed >> 20} MiB are needed, {free >> 20} MiB are free.",
            "Free some space, or name a folder on another file system.",
            {"needed_bytes": needed, "free_bytes": free},
        )


def free_bytes(path: Path) -> int:
    """The bytes free on the file system where this path is, or would be made."""
    if memory_folder.is_in_memory(path):
        return memory_folder.free_bytes(Proc())
    while not path.exists():
        path = path.parent
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def remove_log(log_file: Path) -> None:
    """Remove the log of an earlier attempt, so that it is not taken for that of the next one."""
    if log_file.exists():
        log_file.unlink()


def require_own(images: Path) -> None:
    """Raises BadImageSet if the folder holds anything that no dump puts there."""
    if not images.is_dir():
        return
    foreign = sorted(entry.name for entry in images.iterdir() if not (entry.is_file() and _OWN_NAME.match(entry.name)))
    if foreign:
        raise BadImageSet(
            f"The image folder {images} has what no dump puts there: {', '.join(foreign[:5])}.",
            "Name another folder for this dump.",
        )


def remove_folder(images: Path, proc: Proc) -> None:
    """Remove the image folder with all that is in it, as far as that can be done.

    A CRIU that was killed leaves there what it had mounted, control groups among it: they are unmounted before, or
    their contents would be taken for files.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for mountpoint in reversed(_mounted_in(images, proc)):
        libc.umount2(os.fsencode(mountpoint), _MNT_DETACH)
    if not _mounted_in(images, proc):
        shutil.rmtree(str(images), ignore_errors=True)


def _mounted_in(folder: Path, proc: Proc) -> list[str]:
    points = [row.mountpoint for row in parse(proc.mountinfo("self"))]
    return [point for point in points if point != str(folder) and is_below(point, str(folder))]


def remove_images(images: Path) -> None:
    """Remove all but the logs of an attempt that failed, because memory images are secrets."""
    for path in images.iterdir():
        if path.is_file() and path.name not in _LOGS:
            path.unlink()
