# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a workload has mapped, its programs and libraries among them: CRIU restores only on the same ones."""

from __future__ import annotations

import os
import stat
from typing import Any, Iterable, Iterator, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._mounts.kernel import KERNEL_FILE_SYSTEMS
from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import join, relative
from ansible_collections.fleet.criu.plugins.module_utils._mounts.sources import HostMounts
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import is_decodable, parse
from ansible_collections.fleet.criu.plugins.module_utils._preflight.build_id import build_id
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc

_DELETED = " (deleted)"


def mapped_files(proc: Proc, init: int, pids: Iterable[int]) -> list[dict[str, Any]]:
    """Each mapped file once: `path` in the workload, `mountpoint` of its mount there, `size` in bytes, `build_id`.

    A deleted file is left out, because CRIU puts it into the images, and so is one of the kernel's own.
    """
    mounts = HostMounts(parse(proc.mountinfo(init)))
    owners: dict[str, int] = {}
    for pid in pids:
        for path in _mapped_paths(_maps(proc, pid)):
            owners.setdefault(path, pid)
    found = []
    for path, pid in sorted(owners.items()):
        mount = mounts.mount_at(path)
        # A file of the kernel (memory of a device in sysfs) is not one that could be brought to the target.
        if mount is None or mount.fstype in KERNEL_FILE_SYSTEMS:
            continue
        identity = file_identity(proc.root(pid, path))
        if identity is not None:
            found.append({"path": path, "mountpoint": mount.mountpoint, **identity})
    return found


def files_here(files: Iterable[Mapping[str, Any]], paths: Mapping[str, str]) -> list[dict[str, Any]]:
    """The counterparts of these files on this host: `path`, `host_path`, and `found` (size and build-ID, or null).

    `paths` has this host's path for each mountpoint; files on other mounts are left out.
    """
    result = []
    for file in files:
        folder = paths.get(file["mountpoint"])
        if folder is not None:
            host_path = join(folder, relative(file["path"], file["mountpoint"]))
            result.append({"path": file["path"], "host_path": host_path, "found": file_identity(host_path)})
    return result


def file_identity(path: str) -> dict[str, Any] | None:
    """What CRIU goes by: `size` in bytes and `build_id` (null without one); None if no regular file is there."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return None
        return {"size": status.st_size, "build_id": build_id(path)}
    except OSError:
        return None


def _maps(proc: Proc, pid: int) -> str:
    try:
        return (proc.folder / str(pid) / "maps").read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def _mapped_paths(maps: str) -> Iterator[str]:
    for line in maps.split("\n"):
        # ADDRESS PERMISSIONS OFFSET DEVICE INODE PATH; memory without a file has the inode 0.
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[4] != "0" and fields[5].startswith("/"):
            path = fields[5].replace("\\012", "\n")
            if not path.endswith(_DELETED) and is_decodable(path):
                yield path
