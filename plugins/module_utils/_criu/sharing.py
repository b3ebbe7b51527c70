# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that CRIU has to read when it is not root of the host any more.

To restore a user namespace CRIU enters it and becomes its root before it opens most images (seen with 4.1.1). They are
for the host's root alone, so it fails with `Permission denied`. It needs the folder and the images themselves: it has
opened the folder before, and opens everything by name below it. So the folders above may stay closed to all, and then
nobody else gets in either, not even another process with that group.

A group and no owner: a process with the owner's ID could open up the images for others.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Iterator

from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet

_CLOSED_FOLDER, _SHARED_FOLDER, _SHARED_IMAGE = 0o700, 0o710, 0o640
_SUFFIX = ".img"
_ROOT_GROUP = 0
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without waiting for the other end of something that is no image.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def share_folder(directory: int, group: int) -> None:
    """Let a group open what it may read in the folder with this descriptor, and no more. Raises OSError."""
    os.fchown(directory, -1, group)
    os.fchmod(directory, _SHARED_FOLDER)


def share_image(descriptor: int, group: int) -> None:
    """Let a group read the image with this descriptor. Raises OSError."""
    os.fchown(descriptor, -1, group)
    os.fchmod(descriptor, _SHARED_IMAGE)


def close_folder(images: Path) -> None:
    """Keep everybody but root out of the folder again, as far as it is there."""
    with contextlib.suppress(OSError):
        directory = os.open(str(images), _FOLDER_FLAGS)
        try:
            os.fchmod(directory, _CLOSED_FOLDER)
            os.fchown(directory, -1, _ROOT_GROUP)
        finally:
            os.close(directory)


@contextlib.contextmanager
def shared(images: Path, group: int | None) -> Iterator[None]:
    """Meanwhile a group may read all images in the folder; with no group nothing is done. Raises BadImageSet."""
    if group is None:
        yield
        return
    try:
        _share_all(images, group)
    except OSError as error:
        close_folder(images)
        raise BadImageSet(
            f"The images in {images} cannot be given to group {group}, which is root's in the user namespace of the "
            f"workload: {error.strerror}.",
            "Put them on a file system of this host that has owners and modes.",
        ) from error
    try:
        yield
    finally:
        close_folder(images)


def _share_all(images: Path, group: int) -> None:
    directory = os.open(str(images), _FOLDER_FLAGS)
    try:
        for name in os.listdir(directory):
            if name.endswith(_SUFFIX):
                _share(name, directory, group)
        share_folder(directory, group)
    finally:
        os.close(directory)


def _share(name: str, directory: int, group: int) -> None:
    descriptor = os.open(name, _FILE_FLAGS, dir_fd=directory)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            share_image(descriptor, group)
    finally:
        os.close(descriptor)
