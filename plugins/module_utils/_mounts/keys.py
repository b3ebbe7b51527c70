# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys of a dump held against the mounts of the workload. CRIU accepts every mistake here without a word."""

from __future__ import annotations

from collections import Counter
from typing import Any, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._mounts.plan import is_usable_key
from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import EXTERNAL


def make_keys(mounts: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """A key for each external mount: its mountpoint. `mounts` are as mount_info returns them. Raises CriuError."""
    mountpoints = [mount["mountpoint"] for mount in mounts if mount["kind"] == EXTERNAL]
    return check_keys([{"mountpoint": mountpoint, "key": mountpoint} for mountpoint in mountpoints], mounts)


def check_keys(
    dump_map: Sequence[Mapping[str, Any]], mounts: Sequence[Mapping[str, Any]], all_needed: bool = True
) -> list[dict[str, str]]:
    """The same map, if every external mount has a key of its own (unless not all are needed), and every key a mount.

    Raises CriuError with all that is wrong: mounts without a key, keys that match nothing, one key for two mounts, and
    mounts stacked at one mountpoint, which CRIU would restore as two binds of one path.
    """
    external = Counter(mount["mountpoint"] for mount in mounts if mount["kind"] == EXTERNAL)
    # What else is mounted of a file system that is mounted anew from a device comes with it.
    devices = {entry["device"] for entry in dump_map if entry.get("device")}
    coming = {mount["mountpoint"] for mount in mounts if f"{mount.get('major')}/{mount.get('minor')}" in devices}
    placed = Counter(mount["mountpoint"] for mount in mounts)
    given = {entry["mountpoint"] for entry in dump_map}
    uses: dict[str, set[str]] = {}
    for entry in dump_map:
        uses.setdefault(entry["key"], set()).add(entry["mountpoint"])
    problems = {
        "without_key": [
            mountpoint for mountpoint in external if all_needed and mountpoint not in given and mountpoint not in coming
        ],
        "matching_nothing": sorted(mountpoint for mountpoint in given if mountpoint not in external),
        "shared_keys": [key for key, mountpoints in uses.items() if len(mountpoints) > 1],
        "unusable": sorted(key for key in uses if not is_usable_key(key)),
        "undecodable": sorted(mount["mountpoint"] for mount in mounts if not mount.get("decodable", True)),
        "stacked": sorted(mountpoint for mountpoint in given if placed[mountpoint] > 1),
    }
    words = {
        "without_key": "external mounts without a key",
        "matching_nothing": "keys for mountpoints where no external mount is",
        "shared_keys": "keys that stand for more than one mount",
        "unusable": "keys that CRIU cannot take",
        "undecodable": "mountpoints that are not UTF-8",
        "stacked": "mountpoints with several mounts, which would all be restored from one path",
    }
    said = [f"{words[what]}: {', '.join(names)}" for what, names in problems.items() if names]
    if said:
        raise CriuError(
            f"The mount map does not fit the workload: {'; '.join(said)}.",
            "Run mount_info and mount_map again, and use the dump map that they give.",
            problems,
        )
    return [{name: value for name, value in entry.items() if value is not None} for entry in dump_map]
