# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each mount of a workload is for CRIU: its root, internal, or external, and why.

The rules are those of "What CRIU decides about each mount at dump"; like CRIU, only mountinfo's device numbers are
compared, because for btrfs and overlayfs stat(2) shows another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import is_below
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import MountRow

ROOT = "root"
INTERNAL = "internal"
EXTERNAL = "external"

# One instance for the whole kernel or for a namespace: CRIU mounts it anew, whoever else has it mounted.
_KERNEL_FILE_SYSTEMS = frozenset(
    {
        "proc",
        "sysfs",
        "devtmpfs",
        "binfmt_misc",
        "devpts",
        "pstore",
        "mqueue",
        "securityfs",
        "fusectl",
        "debugfs",
        "cgroup",
        "cgroup2",
    }
)
# CRIU saves and recreates these with their contents, so they must be the workload's alone.
_PRIVATE_FILE_SYSTEMS = frozenset({"tmpfs", "overlay", "autofs"})


@dataclass(frozen=True)
class Verdict:
    """What a mount is (`ROOT`, `INTERNAL` or `EXTERNAL`) and the reason, as a sentence for a person."""

    kind: str
    reason: str


def classify(rows: Sequence[MountRow], host_rows: Iterable[MountRow]) -> list[Verdict]:
    """A verdict for each row of a workload's mountinfo, given the mountinfo of its host."""
    host_devices = frozenset(row.device for row in host_rows)
    root = root_mount(rows)
    return [_verdict(row, root, host_devices) for row in rows]


def root_mount(rows: Sequence[MountRow]) -> MountRow | None:
    """The mount that a workload sees as `/`: with several stacked there, the last one."""
    at_slash = [row for row in rows if row.mountpoint == "/"]
    return at_slash[-1] if at_slash else None


def _verdict(row: MountRow, root: MountRow | None, host_devices: frozenset[str]) -> Verdict:
    if root is not None and row is root:
        return Verdict(ROOT, "it is the workload's root")
    if root is not None and row.device == root.device and is_below(row.root, root.root):
        return Verdict(INTERNAL, f"its root {row.root} lies inside the workload's root, on the same superblock")
    if row.root == "/" and row.fstype in _KERNEL_FILE_SYSTEMS:
        return Verdict(INTERNAL, f"CRIU mounts {row.fstype} anew")
    if row.root == "/" and row.fstype in _PRIVATE_FILE_SYSTEMS:
        if row.device in host_devices:
            return Verdict(
                EXTERNAL,
                f"it is a {row.fstype} that the host has mounted too: without a key it would become a private copy",
            )
        return Verdict(INTERNAL, f"it is a {row.fstype} of the workload's own, which CRIU saves with its contents")
    if row.root == "/":
        return Verdict(EXTERNAL, f"CRIU cannot recreate a whole {row.fstype}; it needs a key")
    return Verdict(EXTERNAL, f"its root {row.root} lies outside the workload's root, on superblock {row.device}")
