# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sharing groups (mount_namespaces(7)) at the target: whether CRIU will be able to put them together again there.

CRIU gives one mount of a group its sharing and copies it to the others (its mount-v2.c, `restore_one_sharing_group`).
The kernel copies only from a mount to another one of the same superblock whose root lies inside the root of the first
(move_mount(2), MOVE_MOUNT_SET_GROUP). What a group gets from the host, it is given by the mounts that hold its paths.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Iterable, Iterator, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import is_below, join, relative
from ansible_collections.fleet.criu.plugins.module_utils._mounts.plan import Entry, Mount
from ansible_collections.fleet.criu.plugins.module_utils._mounts.sources import HostMounts
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import MountRow
from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import EXTERNAL, INTERNAL, ROOT


@dataclass(frozen=True)
class Split:
    """Why mounts of one group cannot be put together: the `mounts`, the reason as a clause, and what to do."""

    mounts: Sequence[Mount]
    reason: str
    remedy: str


@dataclass(frozen=True)
class _Member:
    """A mount of a group. At the target its root will be `root` of the superblock `device`.

    `holder` is the target's mount that its path is on, `path` that path; both None for what comes with another mount.
    """

    mount: Mount
    device: str
    root: str
    holder: MountRow | None = None
    path: str | None = None


def find_splits(entries: Sequence[Entry], mounts: Iterable[Mount], target: HostMounts) -> list[Split]:
    """Every way in which the groups of these mounts come apart with this plan. Devices are left out of `entries`."""
    planned = [member for member in (_planned(entry, target) for entry in entries) if member is not None]
    everything = list(mounts)
    inside = [_inside(mount, planned) for mount in everything if mount.kind == INTERNAL]
    order = {id(mount): number for number, mount in enumerate(everything)}
    members = [member for member in (*planned, *inside) if member.mount.shared or member.mount.master]
    members.sort(key=lambda member: order.get(id(member.mount), 0))
    groups: dict[tuple[int | None, int | None], list[_Member]] = defaultdict(list)
    for member in members:
        groups[member.mount.shared, member.mount.master].append(member)
    shared_here = {member.mount.shared for member in members}
    found: list[Split] = []
    for (shared, master), group in groups.items():
        has_outer_master = master is not None and master not in shared_here
        found.extend(_within(group, takes_each_from_host=has_outer_master and shared is None))
        if master is not None and not has_outer_master:
            found.extend(_from_master(group, [each for each in members if each.mount.shared == master]))
    for master in {member.mount.master for member in members} - shared_here - {None}:
        slaves = [member for member in members if member.mount.master == master]
        found.extend(_from_host(slaves))
        found.extend(_from_root(slaves, planned))
    return found


def _planned(entry: Entry, target: HostMounts) -> _Member | None:
    row = target.mount_at(entry.path)
    if row is None:
        return None
    root = join(row.root, relative(entry.path, row.mountpoint))
    return _Member(entry.mount, row.device, root, row, entry.path)


def _inside(mount: Mount, planned: Sequence[_Member]) -> _Member:
    # A bind of something inside the root or an external mount goes along with that.
    holders = [each for each in planned if _is_around(each.mount, mount)]
    holder = max(holders, key=lambda each: len(each.mount.root), default=None)
    if holder is None:  # a file system of the workload's own is made anew as it was
        return _Member(mount, f"own {mount.major}:{mount.minor}", mount.root)
    return _Member(mount, holder.device, join(holder.root, relative(mount.root, holder.mount.root)))


def _is_around(outer: Mount, inner: Mount) -> bool:
    return (outer.major, outer.minor) == (inner.major, inner.minor) and is_below(inner.root, outer.root)


def _within(group: Sequence[_Member], takes_each_from_host: bool) -> Iterator[Split]:
    first = _first(group)
    for other in group:
        if other is first:
            continue
        if is_below(other.mount.root, first.mount.root):
            yield from _copied(first, other)
        elif not takes_each_from_host:
            yield Split(
                (first.mount, other.mount),
                "are in one sharing group, but neither root is inside the other: CRIU cannot restore that",
                "Make one of them private in the workload (mount --make-private).",
            )


def _from_master(group: Sequence[_Member], masters: Sequence[_Member]) -> Iterator[Split]:
    yield from _copied(_first(masters), _first(group))


def _first(group: Sequence[_Member]) -> _Member:
    return min(group, key=lambda member: len(member.mount.root))


def _copied(first: _Member, other: _Member) -> Iterator[Split]:
    is_one_folder = first.mount.root == other.mount.root
    if first.device != other.device:
        reason = "are in one sharing group, but on different superblocks on the target"
    elif first.root == other.root or (is_below(other.root, first.root) and not is_one_folder):
        return
    elif is_one_folder:
        reason = f"are one folder in one sharing group, but two on the target ({first.root} and {other.root} there)"
    else:
        reason = (
            f"are in one sharing group, and the root of the second is inside that of the first ({first.mount.root}), "
            f"but on the target it is not ({first.root} and {other.root} there)"
        )
    yield Split((first.mount, other.mount), f"{reason}: CRIU cannot restore that", _as_now(first, other))


def _as_now(first: _Member, other: _Member) -> str:
    if first.path is None:
        return "Choose paths on the target that lie in each other as they do now."
    where = join(first.path, relative(other.mount.root, first.mount.root))
    return f"Write in criu_mount_rules of the target: {{mountpoint: '{other.mount.mountpoint}', source: {where}}}"


def _from_host(members: Sequence[_Member]) -> Iterator[Split]:
    held = [member for member in members if member.holder is not None]
    for other in held[1:]:
        first = held[0]
        if first.holder is None or other.holder is None or first.device != other.device:
            continue
        if not _are_alike(first.holder, other.holder):
            yield Split(
                (first.mount, other.mount),
                "are slaves of one mount, but their paths on the target are on two mounts of one file system "
                f"({first.holder.mountpoint} and {other.holder.mountpoint}): CRIU would take both from one of them",
                f"Choose paths below one mount of the target, for example {first.holder.mountpoint}.",
            )


def _from_root(slaves: Sequence[_Member], planned: Sequence[_Member]) -> Iterator[Split]:
    # CRIU asks the last mount of the group that it finds last where it comes from: from outside or from the root.
    groups: dict[int | None, _Member] = {}
    for member in slaves:
        groups.setdefault(member.mount.shared, member)
    last_group = list(groups)[-1]
    last = [member for member in slaves if member.mount.shared == last_group][-1]
    around = [each for each in planned if _is_around(each.mount, last.mount)]
    root = next((each for each in around if each.mount.kind == ROOT), None)
    if root is None or any(each.mount.kind == EXTERNAL for each in around):
        return
    for other in slaves:
        if other.device == root.device and not is_below(other.root, root.root):
            yield Split(
                (last.mount, other.mount),
                "are slaves of one mount, and the first is inside the workload's root and was mounted last: CRIU would "
                "take both from the root's mount, which does not hold the second",
                f"In the workload: mount --make-private {last.mount.mountpoint}.",
            )


def _are_alike(one: MountRow, other: MountRow) -> bool:
    if one.mount_id == other.mount_id:
        return True
    is_peer = one.shared is not None and one.shared == other.shared
    return is_peer and one.root == other.root
