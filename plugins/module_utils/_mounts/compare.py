# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is mounted after a restore, held against what was intended."""

from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import ENGINE, EXTERNAL, INTERNAL, ROOT

# Mount options that change what a workload may do; the others (relatime …) are each host's own choice.
_COMPARED_OPTIONS = ("ro", "nosuid", "nodev", "noexec")


def differences(
    intended: Sequence[Mapping[str, Any]],
    live: Sequence[Mapping[str, Any]],
    paths: Mapping[str, str],
    is_at: Callable[[str, str], bool],
) -> list[str]:
    """Every difference, as a sentence.

    Both tables are as mount_info returns them, `intended` from before the dump. `paths` has the path on this host for
    the mountpoint of the root and of each external mount; `is_at(path, mountpoint)` says whether that path is what the
    restored workload sees at its mountpoint.
    """
    found = _counted(intended, live)
    by_mountpoint = {mount["mountpoint"]: mount for mount in live}
    root = next((mount for mount in intended if mount["kind"] == ROOT), None)
    for mount in intended:
        restored = by_mountpoint.get(mount["mountpoint"])
        # How an engine makes its own mounts is the engine's affair; that they are there counts.
        if restored is not None and mount["kind"] != ENGINE:
            # A bind from inside the root has the file system type that the root has on its host.
            follows_root = root is not None and mount["root"] != "/" and _device(mount) == _device(root)
            found.extend(_compare(mount, restored, paths, is_at, follows_root))
    return list(dict.fromkeys(found))


def _counted(intended: Iterable[Mapping[str, Any]], live: Iterable[Mapping[str, Any]]) -> list[str]:
    before = Counter(mount["mountpoint"] for mount in intended)
    after = Counter(mount["mountpoint"] for mount in live)
    found = []
    for mountpoint in before.keys() | after.keys():
        if before[mountpoint] != after[mountpoint]:
            found.append(f"{mountpoint} was mounted {before[mountpoint]} times, and is now {after[mountpoint]} times")
    return sorted(found)


def _compare(
    mount: Mapping[str, Any],
    restored: Mapping[str, Any],
    paths: Mapping[str, str],
    is_at: Callable[[str, str], bool],
    follows_root: bool,
) -> list[str]:
    found = []
    mountpoint = mount["mountpoint"]
    for option in _COMPARED_OPTIONS:
        before, after = option in mount["mount_options"], option in restored["mount_options"]
        if before != after:
            found.append(f"{mountpoint} is {'no longer' if before else 'now'} mounted {option}")
    for tag, word in (("shared", "shared"), ("master", "a slave")):
        before, after = mount[tag] is not None, restored[tag] is not None
        if before != after:
            found.append(f"{mountpoint} is {'no longer' if before else 'now'} {word}")
    if mount["kind"] == INTERNAL and mount["fstype"] != restored["fstype"] and not follows_root:
        found.append(f"{mountpoint} was a {mount['fstype']} and is now a {restored['fstype']}")
    if mount["kind"] in (ROOT, EXTERNAL):
        path = paths.get(mountpoint)
        if path is not None and not is_at(path, mountpoint):
            found.append(f"{mountpoint} is not {path} of this host")
    return found


def _device(mount: Mapping[str, Any]) -> tuple[Any, Any]:
    return mount.get("major"), mount.get("minor")
