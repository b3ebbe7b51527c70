# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a workload could come back to the source, with the paths that its mounts have there now."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._mounts.mount_map import mount_map


def way_back(
    mounts: Sequence[Mapping[str, Any]], map_entries: Sequence[Mapping[str, Any]], workload: str | None
) -> list[dict[str, Any]]:
    """What stands against it, as the `gaps` of the module mount_map.

    `mounts` are those of mount_info, `map_entries` the entries of the map for the target. Raises CriuError if they are
    not.
    """
    parameters: dict[str, Any] = {
        "mounts": mounts,
        "rules": _rules(mounts, map_entries),
        "workload": workload,
        "keep_paths": True,
        "data": {},
        "replace_contents": False,
        "fail_on_gaps": False,
    }
    return list(mount_map(parameters)["gaps"])


def _rules(mounts: Sequence[Mapping[str, Any]], map_entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    # What is dumped as a device has to come back from one: that of the mount, in the words of mountinfo its source.
    devices = {entry["mountpoint"] for entry in map_entries if entry["device"]}
    return [
        {"mountpoint": mount["mountpoint"], "device": mount["source"]}
        for mount in mounts
        if mount["mountpoint"] in devices
    ]
