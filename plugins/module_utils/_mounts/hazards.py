# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CRIU would do to mounts without a word, found before it is asked.

Each hazard has a code and a severity by default, which the user may change. Those that a plan finds by itself (see
`plan.py` and `checks.py`) are errors that would make the restore fail or lose data, and cannot be lowered.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Callable, Iterable, Iterator, Mapping, Sequence, Tuple

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._mounts.groups import Split, find_splits
from ansible_collections.fleet.criu.plugins.module_utils._mounts.kernel import KERNEL_FILE_SYSTEMS
from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import folders_of, join, relative
from ansible_collections.fleet.criu.plugins.module_utils._mounts.plan import (
    ERROR,
    IGNORE,
    OTHER,
    SYNC,
    WARNING,
    Entry,
    Gap,
    Mount,
)
from ansible_collections.fleet.criu.plugins.module_utils._mounts.sources import HostMounts
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import MountRow
from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import EXTERNAL

LOST_READ_ONLY = "lost_read_only"
LOST_FLAGS = "lost_flags"
ONE_PATH_FOR_TWO_KEYS = "one_path_for_two_keys"
FOLDER_SPLIT = "folder_split"
SHARING_TURNS_INTERNAL = "sharing_turns_internal"
SLAVE_WITHOUT_MASTER = "slave_without_master"
SHARING_GROUP_SPLIT = "sharing_group_split"
SUPERBLOCK_SPLIT = "superblock_split"

# The codes whose severity may be changed, and what each is by default.
SEVERITIES: Mapping[str, str] = {
    LOST_READ_ONLY: ERROR,
    LOST_FLAGS: WARNING,
    ONE_PATH_FOR_TWO_KEYS: ERROR,
    FOLDER_SPLIT: ERROR,
    SHARING_TURNS_INTERNAL: WARNING,
    SLAVE_WITHOUT_MASTER: ERROR,
    SHARING_GROUP_SPLIT: ERROR,
    SUPERBLOCK_SPLIT: WARNING,
    "foreign_contents": ERROR,
    "others_may_alter": WARNING,
}

_Place = Tuple[str, str]

_FLAGS = ("nosuid", "nodev", "noexec")


def find_hazards(entries: Sequence[Entry], target: HostMounts, mounts: Sequence[Mount] = ()) -> list[Gap]:
    """Every hazard of a plan, given what is mounted on the target. `mounts` are all mounts of the workload."""
    # A device is mounted anew, so what its own path is mounted with says nothing.
    entries = [entry for entry in entries if entry.device is None]
    external = [entry for entry in entries if entry.mount.kind == EXTERNAL]
    there = {id(entry): target.mount_at(entry.path) for entry in entries}
    found = []
    for entry in entries:
        row = there[id(entry)]
        if row is not None:
            found.extend(_slave_without_master(entry, row))
            found.extend(_lost_flags(entry, row) if entry.mount.kind == EXTERNAL else ())
        found.extend(_sharing_turns_internal(entry) if entry.mount.kind == EXTERNAL else ())
    places = {id(entry): _target_place(entry, there[id(entry)]) for entry in entries}
    found.extend(_one_path_for_two_keys(external, places))
    found.extend(_folder_splits(entries, places))
    found.extend(_splits(external, {identity: row.device for identity, row in there.items() if row is not None}))
    told = {gap.mountpoint for gap in found if gap.code == SHARING_GROUP_SPLIT}
    for split in find_splits(entries, mounts, target):
        # What is on two superblocks is told for the whole group already.
        if not told.issuperset(mount.mountpoint for mount in split.mounts):
            found.extend(_apart(split))
    return found


def with_severities(gaps: Iterable[Gap], wanted: Mapping[str, str]) -> list[Gap]:
    """The same gaps with the severity that the user wants, without those to be ignored.

    Raises CriuError for a code that is unknown or cannot be changed, and for a severity that is none.
    """
    for code, severity in wanted.items():
        if code not in SEVERITIES or severity not in (ERROR, WARNING, IGNORE):
            raise CriuError(
                f"'severities' cannot set {code} to {severity}.",
                f"Use {ERROR}, {WARNING} or {IGNORE} for one of: {', '.join(sorted(SEVERITIES))}.",
            )
    decided = [replace(gap, severity=wanted.get(gap.code, SEVERITIES.get(gap.code, ERROR))) for gap in gaps]
    return [gap for gap in decided if gap.severity != IGNORE]


def _lost_flags(entry: Entry, row: MountRow) -> list[Gap]:
    # CRIU takes the flags of a mount from the images, and those of the target's own mount are gone.
    missing = [flag for flag in ("ro", *_FLAGS) if flag in row.mount_options and flag not in entry.mount.mount_options]
    found = []
    if "ro" in missing:
        found.append(
            Gap(
                LOST_READ_ONLY,
                entry.mount.mountpoint,
                f"{entry.path} is on a read-only mount of the target ({row.mountpoint}), but the workload could write "
                "there",
                "Choose a path that may be written, or mount it read-only in the workload.",
            )
        )
    others = [flag for flag in missing if flag != "ro"]
    if others:
        found.append(
            Gap(
                LOST_FLAGS,
                entry.mount.mountpoint,
                f"{entry.path} is on a mount of the target ({row.mountpoint}) with {', '.join(others)}, which the "
                "workload would not have",
                "Choose another path, or mount it with the same flags in the workload.",
            )
        )
    return found


def _sharing_turns_internal(entry: Entry) -> list[Gap]:
    if not entry.mount.shared_with_host:
        return []
    return [
        Gap(
            SHARING_TURNS_INTERNAL,
            entry.mount.mountpoint,
            "it is shared with the host: what the host mounts below it later shows in the workload; after a restore it "
            "no longer does",
            "Make it a slave in the workload if the workload must see what the host mounts.",
        )
    ]


def _slave_without_master(entry: Entry, row: MountRow) -> list[Gap]:
    if entry.mount.master is None or row.shared is not None or row.master is not None:
        return []
    return [
        Gap(
            SLAVE_WITHOUT_MASTER,
            entry.mount.mountpoint,
            f"it is a slave of the host, but {entry.path} is on a mount of the target ({row.mountpoint}) that is "
            "neither shared nor a slave",
            f"mount --make-shared {row.mountpoint}",
        )
    ]


def _one_path_for_two_keys(entries: Sequence[Entry], places: Mapping[int, _Place]) -> list[Gap]:
    by_place: dict[_Place, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_place[places[id(entry)]].append(entry)
    return [
        Gap(
            ONE_PATH_FOR_TWO_KEYS,
            entry.mount.mountpoint,
            f"{' and '.join(sorted({user.path for user in users}))} would be mounted at {_listed(users)}, which are "
            "different now",
            "Give each a path of its own.",
        )
        for users in by_place.values()
        if len({_place(entry) for entry in users}) > 1
        for entry in users
    ]


def _folder_splits(entries: Sequence[Entry], places: Mapping[int, _Place]) -> Iterator[Gap]:
    """What is one folder at the source, or one inside the other, and would not be so at the target."""
    entries = [entry for entry in entries if _can_be_split(entry.mount)]
    by_place: dict[_Place, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_place[entry.mount.place].append(entry)
    for entry in entries:
        superblock, root = entry.mount.place
        holding = ((outer, relative(root, each)) for each in folders_of(root) for outer in by_place[superblock, each])
        for outer, rest in holding:
            device, outer_root = places[id(outer)]
            if places[id(entry)] != (device, join(outer_root, rest)):
                yield _folder_split(outer, entry, rest)
                break


def _can_be_split(mount: Mount) -> bool:
    # The kernel's own and devices are the same wherever they are seen; of some mounts no superblock is told.
    return mount.type != OTHER and mount.fstype not in KERNEL_FILE_SYSTEMS and (mount.major, mount.minor) != (0, 0)


def _folder_split(outer: Entry, entry: Entry, rest: str) -> Gap:
    what = f"the folder {rest} of" if rest else "the folder of"
    return Gap(
        FOLDER_SPLIT,
        entry.mount.mountpoint,
        f"it is {what} {outer.mount.mountpoint} at the source, and would be another one at the target "
        f"({entry.path}, while that is {join(outer.path, rest)}): what is written to one would no longer show in the "
        "other",
        f"Choose {join(outer.path, rest)} for it.",
    )


def _target_place(entry: Entry, row: MountRow | None) -> _Place:
    """On which superblock of the target the path is, and where on it; the path alone if nothing is known of it."""
    return ("", entry.path) if row is None else (row.device, join(row.root, relative(entry.path, row.mountpoint)))


def _splits(entries: Sequence[Entry], devices: Mapping[int, str]) -> list[Gap]:
    found: list[Gap] = []
    # A folder that a copy will make is on the superblock of the folder above it, so it counts like one that exists.
    for group in _groups(entries, lambda entry: entry.mount.shared or entry.mount.master):
        if len({devices.get(id(entry)) for entry in group}) > 1:
            found.extend(
                _split(SHARING_GROUP_SPLIT, entry, group, "are in one sharing group", "CRIU cannot restore that")
                for entry in group
            )
    in_sharing_group = {gap.mountpoint for gap in found}
    for group in _groups(entries, lambda entry: f"{entry.mount.major}:{entry.mount.minor}"):
        if len({devices.get(id(entry)) for entry in group}) > 1:
            found.extend(
                _split(
                    SUPERBLOCK_SPLIT,
                    entry,
                    group,
                    "are on one superblock",
                    "programs that compare device numbers notice",
                )
                for entry in group
                if entry.mount.mountpoint not in in_sharing_group and entry.data != SYNC
            )
    return found


def _apart(split: Split) -> Iterator[Gap]:
    names = " and ".join(mount.mountpoint for mount in split.mounts)
    for mount in split.mounts:
        yield Gap(SHARING_GROUP_SPLIT, mount.mountpoint, f"{names} {split.reason}", split.remedy)


def _split(code: str, entry: Entry, group: Sequence[Entry], what: str, effect: str) -> Gap:
    return Gap(
        code,
        entry.mount.mountpoint,
        f"{_listed(group)} {what}, but their paths on the target are on different ones: {effect}",
        "Choose paths on one file system of the target.",
    )


def _groups(entries: Sequence[Entry], key: Callable[[Entry], object]) -> list[list[Entry]]:
    groups: dict[object, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[key(entry)].append(entry)
    return [group for value, group in groups.items() if value is not None and len(group) > 1]


def _place(entry: Entry) -> tuple[int, int, str]:
    return entry.mount.major, entry.mount.minor, entry.mount.root


def _listed(entries: Sequence[Entry]) -> str:
    return " and ".join(entry.mount.mountpoint for entry in entries)
