# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mount IDs and paths in a CRIU log stand for: mountpoint, key and path on this host."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

ROOT = "/"

# Where CRIU builds the mounts at restore, seen in logs of 4.1.1: mnt-ID for each mount by itself, then NAMESPACE-0 for
# the tree that is put together from them (with --mntns-compat-mode from the beginning).
_WORKSHOP = re.compile(r"/tmp/\.criu\.mntns\.[^/\s]+/(?:mnt-0*(?P<mount>[0-9]+)|[0-9]+-[0-9]{10})(?P<below>/[^\s:]*)?")


@dataclass(frozen=True)
class Places:
    """The mounts of a workload and what is known of them; with nothing in it, IDs and paths are told as they are.

    `mounts` are as the module mount_info returns them (`manifest.mounts`); `mount_map` has the `key` for a
    `mountpoint` and, at restore, the `path` for it; `root` is the folder on this host that is the workload's root.
    `private` has the path for each place that CRIU was given instead of it (PrivateMounts).
    """

    mounts: Sequence[Mapping[str, Any]] = ()
    mount_map: Sequence[Mapping[str, str]] = ()
    root: str | None = None
    private: Mapping[str, str] = field(default_factory=dict)

    def mount(self, mount_id: int | None, mountpoint: str | None = None) -> str:
        """A mount in words, found by its ID or else by its mountpoint."""
        row = self._by_id(mount_id)
        if row is None and mountpoint is None:
            return self._known_by_id_alone(mount_id)
        in_workshop = None if mountpoint is None else _WORKSHOP.fullmatch(mountpoint)
        if in_workshop is not None and in_workshop.group("mount") is not None:
            # The folder that CRIU built it in is gone, and tells nobody anything.
            known_by_id = self._known_by_id_alone(int(in_workshop.group("mount")))
            below = in_workshop.group("below")
            return known_by_id if below is None else f"{below} in {known_by_id}"
        place = inside(mountpoint) if mountpoint is not None else str(row["mountpoint"]) if row else ""
        known = self._entry(place)
        details = [f"{name} {known[name]}" for name in ("key", "path") if known.get(name)]
        identity = mount_id if mount_id is not None else self._id(place)
        details += [f"ID {identity}"] if identity is not None else []
        return f"mount {place}" + (f" ({', '.join(details)})" if details else "")

    def _known_by_id_alone(self, mount_id: int | None) -> str:
        return f"mount ID {mount_id}" + (", which is none of the workload's" if self.mounts else "")

    def file(self, path: str) -> str:
        """A file of the workload in words, with its path on this host where that is known."""
        path = inside(path)
        host_path = self._on_host(path)
        return f"file {path}" + (f" ({host_path} on this host)" if host_path not in (None, path) else "")

    def host_path(self, path: str) -> str:
        """A path on this host in words, with the key that it was given for."""
        for entry in self.mount_map:
            if entry.get("path") and _is_below(path, entry["path"]):
                return f"path {path} (key {entry['key']}, mount {entry['mountpoint']})"
        return f"path {path}"

    def with_paths(self, text: str) -> str:
        """The text with each place that CRIU was given instead of a path turned into that path."""
        if not self.private:
            return text
        places = "|".join(map(re.escape, self.private))
        return re.sub(rf"(?:{places})(?![0-9])", lambda match: self.private[match.group()], text)

    def out_of_workshop(self, text: str) -> str:
        """The text with paths in CRIU's temporary folders turned into those that the workload sees, where possible."""
        return _WORKSHOP.sub(self._seen_by_workload, text)

    def _seen_by_workload(self, match: re.Match[str]) -> str:
        below = match.group("below") or ""
        if match.group("mount") is None:
            return below or ROOT
        row = self._by_id(int(match.group("mount")))
        if row is None:
            return match.group()
        return (str(row["mountpoint"]).rstrip("/") + below) or ROOT

    def _by_id(self, mount_id: int | None) -> Mapping[str, Any] | None:
        return next((row for row in self.mounts if row["mount_id"] == mount_id), None)

    def _id(self, mountpoint: str) -> int | None:
        # The last one at a mountpoint lies on top.
        found = [int(row["mount_id"]) for row in self.mounts if row["mountpoint"] == mountpoint]
        return found[-1] if found else None

    def _entry(self, mountpoint: str) -> Mapping[str, str]:
        return next((entry for entry in self.mount_map if entry["mountpoint"] == mountpoint), {})

    def _on_host(self, path: str) -> str | None:
        holders = [row for row in self.mounts if _is_below(path, row["mountpoint"])]
        if not holders:
            return None
        mountpoint = str(max(holders, key=lambda row: len(row["mountpoint"]))["mountpoint"])
        source = self.root if mountpoint == ROOT else self._entry(mountpoint).get("path")
        return source.rstrip("/") + "/" + path[len(mountpoint) :].lstrip("/") if source else None


def inside(path: str) -> str:
    """A path of the workload, absolute: CRIU writes `./data` at dump and `usr/bin/x` at restore."""
    relative = path[1:] if path.startswith("./") or path == "." else path
    return relative if relative.startswith("/") else f"/{relative}"


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
