# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan held against the file system of the host it is for: what is missing there, and what is not as it must be."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Callable, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._mounts.contents import Contents
from ansible_collections.fleet.criu.plugins.module_utils._mounts.creation import Creation
from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import is_below, join, relative
from ansible_collections.fleet.criu.plugins.module_utils._mounts.plan import (
    DIRECTORY,
    FILE,
    OTHER,
    SYNC,
    Entry,
    Gap,
    Mount,
    Plan,
)
from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import ROOT
from ansible_collections.fleet.criu.plugins.module_utils._trusted import who_may_alter

OTHERS_MAY_ALTER = "others_may_alter"


def check_plan(
    plan: Plan,
    mounts: Sequence[Mount],
    may_replace: Callable[[str], bool],
    newer: Callable[[Entry], str | None] = lambda entry: None,
) -> list[Gap]:
    """All gaps between a plan and this host's file system.

    `may_replace` says of a path that is to be filled by a copy whether its present contents may be overwritten; `newer`
    says, as a clause, why they may not although they are the workload's own.
    """
    gaps = [_check_path(entry) or _check_contents(entry, may_replace, newer) for entry in plan.entries]
    gaps.extend(_check_mountpoint(mount, mounts, plan.entries) for mount in mounts)
    gaps.extend(_check_others(entry) for entry in plan.entries if entry.device is None)
    return [gap for gap in gaps if gap is not None]


def path_type(path: str) -> str | None:
    """`DIRECTORY`, `FILE` or `OTHER` (a socket, a device …), symlinks followed; None if nothing is there."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return None
    if stat.S_ISDIR(mode):
        return DIRECTORY
    return FILE if stat.S_ISREG(mode) else OTHER


def is_block_device(path: str) -> bool:
    """Whether a block device is at the path, symlinks followed."""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def _check_path(entry: Entry) -> Gap | None:
    path, mountpoint = entry.path, entry.mount.mountpoint
    expected = DIRECTORY if entry.mount.kind == ROOT else entry.mount.type
    if entry.device is not None:
        if is_block_device(path):
            return None
        return Gap("not_a_device", mountpoint, f"{path} is no block device here", f"Correct the rule ({entry.rule}).")
    if Path(path).is_symlink():
        reason = f"{path} is a symlink, which CRIU does not follow"
        return Gap("symlink", mountpoint, reason, f"Write {os.path.realpath(path)} instead (rule {entry.rule}).")
    found = path_type(path)
    if found == expected:
        return None
    if found is not None:
        reason = f"{path} is a {found}, but the workload has a {expected} mounted here"
        return Gap("wrong_type", mountpoint, reason, f"Replace it by a {expected}, or correct the rule ({entry.rule}).")
    parent = str(Path(path).parent)
    if entry.create is not None:
        return _check_creation(entry, entry.create, expected, parent)
    if entry.copied_with is not None:
        return None
    if entry.data != SYNC:
        remedy = f"Create it with its contents, correct the rule ({entry.rule}), or have it copied (data: sync)."
        return Gap("missing_path", mountpoint, f"{path} does not exist", remedy)
    if path_type(parent) != DIRECTORY:
        reason = f"{path} is to be filled by a copy, but the folder {parent} does not exist"
        return Gap("missing_parent", mountpoint, reason, f"Create {parent}, or correct the rule ({entry.rule}).")
    return None


def _check_creation(entry: Entry, creation: Creation, expected: str, parent: str) -> Gap | None:
    path, mountpoint = entry.path, entry.mount.mountpoint
    if creation.type != expected:
        reason = f"{path} is to be made as a {creation.type}, but the workload has a {expected} mounted here"
        return Gap("wrong_type", mountpoint, reason, f"Correct 'create' in the rule ({entry.rule}).")
    if path_type(parent) != DIRECTORY:
        reason = f"{path} is to be made, but the folder {parent} does not exist"
        return Gap("missing_parent", mountpoint, reason, f"Create {parent}, or correct the rule ({entry.rule}).")
    return None


def require_replaceable(path: str, workload: str, generation: int | None = None, handoff: str = "") -> None:
    """Raises CriuError if a copy may not replace what is at the path; as `Contents.problem`."""
    problem = Contents().problem(path, workload, generation, handoff) if _has_contents(path) else None
    if problem is not None:
        raise CriuError(
            f"{path} is to be filled by a copy, but {problem}.",
            "Empty the path, or let its contents be replaced (replace_contents: true).",
            {"path": path},
        )


def _check_contents(
    entry: Entry, may_replace: Callable[[str], bool], newer: Callable[[Entry], str | None]
) -> Gap | None:
    if entry.data != SYNC or entry.copied_with is not None or not _has_contents(entry.path):
        return None
    if may_replace(entry.path):
        why_not = newer(entry)
        return None if why_not is None else _newer_contents(entry, why_not)
    return Gap(
        "foreign_contents",
        entry.mount.mountpoint,
        f"{entry.path} is to be filled by a copy, but has contents that did not come from a move of this workload",
        f"Correct the rule ({entry.rule}), empty the path, or let its contents be replaced (replace_contents: true).",
    )


def _newer_contents(entry: Entry, why: str) -> Gap:
    return Gap(
        "newer_contents",
        entry.mount.mountpoint,
        f"{entry.path} is to be filled by a copy, but {why}",
        "Find out which contents are the right ones. If they are those of the source, let these be replaced "
        "(replace_contents: true), or empty the path.",
    )


def _check_others(entry: Entry) -> Gap | None:
    found = who_may_alter(entry.path)
    if found is None:
        return None
    return Gap(
        OTHERS_MAY_ALTER,
        entry.mount.mountpoint,
        f"others than root may put something else in the place of {entry.path}: it is below {found}; what is there "
        "when the move begins is used, whatever they do then",
        "Choose a path whose parents only root may write, if these users are not to be trusted.",
    )


def _has_contents(path: str) -> bool:
    if path_type(path) == DIRECTORY:
        with os.scandir(path) as found:
            return any(True for _entry in found)
    return os.path.lexists(path)


def _check_mountpoint(mount: Mount, mounts: Sequence[Mount], entries: Sequence[Entry]) -> Gap | None:
    mountpoint = mount.mountpoint
    above = [other for other in mounts if other.mountpoint != mountpoint and is_below(mountpoint, other.mountpoint)]
    parent = max(above, key=lambda other: len(other.mountpoint), default=None)
    entry = next((entry for entry in entries if entry.mount is parent and entry.device is None), None)
    # An internal mount comes back with its contents, and a copy brings its folders with it.
    if entry is None or entry.data == SYNC or path_type(entry.path) != DIRECTORY:
        return None
    path = join(entry.path, relative(mountpoint, entry.mount.mountpoint))
    expected = DIRECTORY if mount.type == DIRECTORY else FILE
    fitting = (DIRECTORY,) if mount.type == DIRECTORY else (FILE, OTHER)
    is_plain = os.path.realpath(path) == os.path.realpath(entry.path) + path[len(entry.path) :]
    if path_type(path) in fitting and is_plain:
        return None
    return Gap(
        "missing_mountpoint",
        mountpoint,
        f"{path} on the target must be a {expected} without symlinks, because the workload has a mount there",
        f"Create an empty {expected} {path}.",
    )
