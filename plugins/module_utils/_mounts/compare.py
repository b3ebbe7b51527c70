# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is mounted after a restore, held against what was intended.

Several mounts may be at one mountpoint: stacked upon each other, or covered with what they are mounted in. So a mount
is known by its place: its mountpoint, and those of all mounts that it is mounted in. IDs and the order of rows are
other ones after each restore.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Callable, Dict, Hashable, Iterator, Mapping, Sequence, Tuple

from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import folders_of
from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import ENGINE, EXTERNAL, INTERNAL, ROOT

# Mount options that change what a workload may do; the others (relatime …) are each host's own choice.
COMPARED_OPTIONS = ("ro", "nosuid", "nodev", "noexec")

_Mount = Mapping[str, Any]
# A place is a number, so that a long chain of mounts is compared at once: that of the place above, and the mountpoint.
_Numbers = Dict[Tuple[int, str], int]
_NOWHERE = 0


def differences(
    intended: Sequence[Mapping[str, Any]],
    live: Sequence[Mapping[str, Any]],
    paths: Mapping[str, str],
    is_at: Callable[[str, str], bool],
) -> list[str]:
    """Every difference, as a sentence.

    Both tables are as mount_info returns them, `intended` from before the dump. `paths` has the path on this host for
    the mountpoint of the root and of each external mount; `is_at(path, mountpoint)` says whether that path is what the
    restored workload sees at its mountpoint. It is not asked of a mount that another one covers.
    """
    numbers: _Numbers = {}
    before, after = _Table(intended, numbers), _Table(live, numbers)
    found = _counted(before, after)
    root = next((mount for mount in intended if mount["kind"] == ROOT), None)
    pairs = dict(_pairs(before, after))
    for index, mount in enumerate(intended):
        # How an engine makes its own mounts is the engine's affair; that they are there counts.
        if index not in pairs or mount["kind"] == ENGINE:
            continue
        # A bind from inside the root has the file system type that the root has on its host.
        follows_root = root is not None and mount["root"] != "/" and _device(mount) == _device(root)
        found.extend(_compare(mount, live[pairs[index]], follows_root))
        found.extend(_compare_parents(before, after, index, pairs))
        path = paths.get(mount["mountpoint"]) if mount["kind"] in (ROOT, EXTERNAL) else None
        if path is not None and not before.is_covered(index) and not is_at(path, mount["mountpoint"]):
            found.append(f"{mount['mountpoint']} is not {path} of this host")
    return list(dict.fromkeys(found))


class _Table:
    """The mounts of one table, by their indexes in it. A mount without a known parent is a top."""

    def __init__(self, mounts: Sequence[_Mount], numbers: _Numbers) -> None:
        self.mounts = mounts
        self.at: dict[str, list[int]] = defaultdict(list)
        indexes = {mount["mount_id"]: index for index, mount in enumerate(mounts) if "mount_id" in mount}
        self.parents = [indexes.get(mount.get("parent_id")) for mount in mounts]
        self._below: dict[tuple[int, str], int] = {}
        for index, (mount, parent) in enumerate(zip(mounts, self.parents)):
            self.at[mount["mountpoint"]].append(index)
            if parent == index:
                self.parents[index] = None
            elif parent is not None:
                # Of two in the same place nobody can tell which one is seen; the last row is the later mount.
                self._below[parent, mount["mountpoint"]] = index
        self.places = self._numbered(numbers)

    def is_covered(self, index: int) -> bool:
        """Whether its mountpoint leads to another mount. The kernel goes from mount to mount downwards."""
        folders = folders_of(self.mounts[index]["mountpoint"])
        current, seen = self._top_of(index), set()
        while current not in seen:
            seen.add(current)
            steps = (self._below.get((current, folder)) for folder in folders)
            current = next((step for step in steps if step is not None), current)
        return current != index

    def _numbered(self, numbers: _Numbers) -> list[int]:
        places: list[int | None] = [None] * len(self.mounts)
        for index in range(len(self.mounts)):
            branch = self._branch(index, places)
            parent = self.parents[branch[-1]] if branch else None
            place = (places[parent] if parent is not None else None) or _NOWHERE
            for step in reversed(branch):
                key = place, self.mounts[step]["mountpoint"]
                place = places[step] = numbers.setdefault(key, len(numbers) + 1)
        return [place or _NOWHERE for place in places]

    def _branch(self, index: int, places: Sequence[int | None]) -> list[int]:
        # The mount and those above it that have no number yet. A table from elsewhere may lead round in a circle.
        branch: dict[int, None] = {}
        current: int | None = index
        while current is not None and places[current] is None and current not in branch:
            branch[current] = None
            current = self.parents[current]
        return list(branch)

    def _top_of(self, index: int) -> int:
        seen = set()
        parent = self.parents[index]
        while parent is not None and parent not in seen:
            seen.add(parent)
            index, parent = parent, self.parents[parent]
        return index


def _counted(before: _Table, after: _Table) -> list[str]:
    return [
        f"{mountpoint} was mounted {len(before.at.get(mountpoint, ()))} times, and is now "
        f"{len(after.at.get(mountpoint, ()))} times"
        for mountpoint in sorted(before.at.keys() | after.at.keys())
        if len(before.at.get(mountpoint, ())) != len(after.at.get(mountpoint, ()))
    ]


def _pairs(before: _Table, after: _Table) -> Iterator[tuple[int, int]]:
    for mountpoint, indexes in before.at.items():
        others = after.at.get(mountpoint, [])
        if len(indexes) == len(others) == 1:
            yield indexes[0], others[0]
        else:
            yield from _pair_up(before, after, indexes, others)


def _pair_up(before: _Table, after: _Table, indexes: Sequence[int], others: Sequence[int]) -> Iterator[tuple[int, int]]:
    # Those that are equal first, then those in one place, then those that look alike, then what is left.
    keys: Sequence[Callable[[_Table, int], Hashable]] = (
        lambda table, index: (table.places[index], _looks(table.mounts[index])),
        lambda table, index: table.places[index],
        lambda table, index: _looks(table.mounts[index]),
        lambda table, index: None,
    )
    free = set(others)
    left = list(indexes)
    for key in keys:
        waiting: dict[Hashable, list[int]] = defaultdict(list)
        for other in sorted(free, reverse=True):
            waiting[key(after, other)].append(other)
        unpaired = []
        for index in left:
            fitting = waiting[key(before, index)]
            if fitting:
                other = fitting.pop()
                free.remove(other)
                yield index, other
            else:
                unpaired.append(index)
        left = unpaired


def _looks(mount: _Mount) -> Hashable:
    options = tuple(option in mount["mount_options"] for option in COMPARED_OPTIONS)
    return mount["fstype"], options, mount["shared"] is not None, mount["master"] is not None


def _compare(mount: _Mount, restored: _Mount, follows_root: bool) -> list[str]:
    found = []
    mountpoint = mount["mountpoint"]
    for option in COMPARED_OPTIONS:
        before, after = option in mount["mount_options"], option in restored["mount_options"]
        if before != after:
            found.append(f"{mountpoint} is {'no longer' if before else 'now'} mounted {option}")
    for tag, word in (("shared", "shared"), ("master", "a slave")):
        before, after = mount[tag] is not None, restored[tag] is not None
        if before != after:
            found.append(f"{mountpoint} is {'no longer' if before else 'now'} {word}")
    if mount["kind"] == INTERNAL and mount["fstype"] != restored["fstype"] and not follows_root:
        found.append(f"{mountpoint} was a {mount['fstype']} and is now a {restored['fstype']}")
    return found


def _compare_parents(before: _Table, after: _Table, index: int, pairs: Mapping[int, int]) -> list[str]:
    # A mount that is in another one now may be covered where it was seen, or seen where it was covered.
    parent, restored_parent = before.parents[index], after.parents[pairs[index]]
    if parent is None or restored_parent is None or before.places[parent] == after.places[restored_parent]:
        return []
    if parent not in pairs or before.places[parent] != after.places[pairs[parent]]:
        return []  # it has only gone along
    mountpoint = before.mounts[index]["mountpoint"]
    was_in, is_in = (table.mounts[each]["mountpoint"] for table, each in ((before, parent), (after, restored_parent)))
    which = f"another mount at {is_in}" if was_in == is_in else f"the mount at {is_in} instead of that at {was_in}"
    return [f"{mountpoint} is now mounted in {which}"]


def _device(mount: _Mount) -> tuple[Any, Any]:
    return mount.get("major"), mount.get("minor")
