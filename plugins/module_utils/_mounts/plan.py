# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From mounts and rules to the mount map, with every gap found in one go. No file system is asked here."""

from __future__ import annotations

import os.path
from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Iterable, Iterator, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._mounts.creation import Creation
from ansible_collections.fleet.criu.plugins.module_utils._mounts.kernel import KERNEL_FILE_SYSTEMS
from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import is_below, join, problem, relative
from ansible_collections.fleet.criu.plugins.module_utils._mounts.rules import Rule, decide
from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import EXTERNAL, PRIVATE_FILE_SYSTEMS, ROOT

DIRECTORY = "directory"
FILE = "file"
OTHER = "other"

ERROR = "error"
WARNING = "warning"
IGNORE = "ignore"

PRESENT = "present"
SHARED = "shared"
SYNC = "sync"

# CRIU takes an empty NAME and names with this prefix as its own (criu(8), --external).
_RESERVED_PREFIX = "CRIU:"


@dataclass(frozen=True)
class Gap:
    """What keeps a workload from being moved: `mountpoint` inside the workload, why, and what to write or do.

    With `severity` `WARNING` it does not keep it, but somebody should know.
    """

    code: str
    mountpoint: str
    reason: str
    remedy: str
    severity: str = ERROR

    def as_dict(self) -> dict[str, str]:
        """The gap in plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Mount:
    """What the plan needs to know of a mount; see the return values of the module mount_info for the meaning."""

    mount_id: int
    mountpoint: str
    kind: str
    type: str
    fstype: str
    host_path: str | None
    root: str = "/"
    deleted: bool = False
    major: int = 0
    minor: int = 0
    mount_options: Sequence[str] = ()
    shared: int | None = None
    master: int | None = None
    shared_with_host: bool = False
    decodable: bool = True
    configured: bool = True

    @property
    def place(self) -> tuple[str, str]:
        """The superblock at the source, and where on it the mount's root is: one place is one folder or file.

        Where no superblock is told (none has the number 0:0), what is known of the source's paths stands in.
        """
        if (self.major, self.minor) == (0, 0):
            return "", self.host_path or self.root
        return f"{self.major}:{self.minor}", self.root

    @classmethod
    def from_dict(cls, mount: Mapping[str, Any]) -> Mount:
        """A mount as the module mount_info returns it."""
        return cls(**{name: mount[name] for name in cls.__dataclass_fields__ if name in mount})


@dataclass(frozen=True)
class Entry:
    """One line of the mount map: the mount, its key in the images and its path on the target.

    `device` is set for a file system that is mounted anew from a block device of the target, which `path` is then: it
    is the device number at the source as CRIU wants it, `MAJOR/MINOR`. `copied_with` is the mountpoint of the mount
    whose copy brings the contents of this one too: it has the same folder, or one above it, on both hosts.
    """

    mount: Mount
    key: str | None
    path: str
    rule: str
    data: str
    device: str | None = None
    create: Creation | None = None
    copied_with: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The entry in plain JSON types."""
        return {
            "mountpoint": self.mount.mountpoint,
            "kind": self.mount.kind,
            "type": self.mount.type,
            "fstype": self.mount.fstype,
            "host_path": self.mount.host_path,
            "key": self.key,
            "path": self.path,
            "rule": self.rule,
            "data": self.data,
            "device": self.device,
            "create": self.create.as_dict() if self.create is not None else None,
            "copied_with": self.copied_with,
        }


@dataclass(frozen=True)
class Plan:
    """The mount map of a workload for one target. It may be used only if `gaps` is empty."""

    entries: Sequence[Entry] = ()
    gaps: Sequence[Gap] = ()
    unused_rules: Sequence[str] = ()

    @property
    def root(self) -> str | None:
        """The workload's root folder on the target."""
        return next((entry.path for entry in self.entries if entry.mount.kind == ROOT), None)

    @property
    def dump_map(self) -> list[dict[str, str]]:
        """What `criu dump --external mnt[MOUNTPOINT]:KEY` (or `dev[MAJOR/MINOR]:KEY`) needs."""
        return [
            {
                "mountpoint": entry.mount.mountpoint,
                "key": entry.key,
                **({"device": entry.device} if entry.device is not None else {}),
            }
            for entry in self.entries
            if entry.key is not None
        ]

    @property
    def restore_map(self) -> list[dict[str, Any]]:
        """What `criu restore --external mnt[KEY]:PATH` (or `dev[KEY]:PATH`) needs."""
        return [
            {"key": entry.key, "path": entry.path, **({"device": True} if entry.device is not None else {})}
            for entry in self.entries
            if entry.key is not None
        ]

    @property
    def copies(self) -> list[dict[str, str | None]]:
        """What the source has to copy: the path there, the name of a folder of `folders`, and a file's name in it."""
        return [
            {
                "path": entry.mount.host_path,
                "folder": f"mount{number}",
                "file_name": os.path.basename(entry.path) if entry.mount.type == FILE else None,
            }
            for number, entry in self._copied()
        ]

    @property
    def folders(self) -> dict[str, str]:
        """The target's folders that the copies fill, by name."""
        return {
            f"mount{number}": os.path.dirname(entry.path) if entry.mount.type == FILE else entry.path
            for number, entry in self._copied()
        }

    def _copied(self) -> Iterator[tuple[int, Entry]]:
        for number, entry in enumerate(self.entries):
            if entry.data == SYNC and entry.copied_with is None:
                yield number, entry


@dataclass
class _Draft:
    entries: list[Entry] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    used: set[Rule] = field(default_factory=set)


@dataclass(frozen=True)
class _Device:
    """A file system that is mounted anew from a block device, and the rule that says so.

    `mount` is what it is mounted for. All other mounts of it are internal: CRIU makes them again from that one
    (mount.c, try_resolve_ext_mount and find_fsroot_mount_for).
    """

    mount: Mount
    rule: Rule

    def brings(self, other: Mount, rules: Sequence[Rule]) -> bool:
        """Whether another mount of it is made from it: it is not the root, and has no rule that gives it a path."""
        # Only who names the mountpoint can mean this mount, and not all that is at some path of the source.
        rule = decide(rules, other.mount_id, other.mountpoint, other.host_path).rule
        has_path = rule is not None and rule.mountpoint is not None and rule.device is None
        return other is not self.mount and other.kind == EXTERNAL and not has_path

    def used_by(self, other: Mount, rules: Sequence[Rule]) -> list[Rule]:
        """The rules that say the same of another mount of it."""
        return [rule for rule in _device_rules(other, rules) if rule.device == self.rule.device]

    def contradictions(self, other: Mount, rules: Sequence[Rule]) -> Iterator[Gap]:
        """What is wrong if a rule names another device for another mount of it."""
        for rule in _device_rules(other, rules):
            if rule.device != self.rule.device:
                yield Gap(
                    "contradicting_rules",
                    other.mountpoint,
                    f"it is of the same file system as {self.mount.mountpoint}, which is mounted anew from "
                    f"{self.rule.device}, and the rule {rule} names {rule.device}",
                    "Remove this rule: the mount comes with the other one.",
                )


def make_plan(
    mounts: Iterable[Mount],
    rules: Sequence[Rule],
    keep: bool = False,
    data: Mapping[str, str] | None = None,
) -> Plan:
    """The mount map for these mounts.

    `keep` keeps the source's path for a mount that no rule covers. `data` says for a mountpoint how its contents get
    to the target: `PRESENT` (the default), `SHARED` or `SYNC`. If the root is that of the host itself, this is the one
    gap, and nothing is planned: the rest would be about what the host has mounted.
    """
    everything = list(mounts)
    planned = [mount for mount in everything if mount.kind in (ROOT, EXTERNAL)]
    how = dict(data or {})
    host_root = next((mount for mount in planned if _stays_host_root(mount, rules, how)), None)
    if host_root is not None:
        return Plan(gaps=[_host_root(host_root)])
    draft = _Draft()
    anew = _mounted_anew(planned, rules)
    for mount in planned:
        device = anew.get(mount.place[0])
        if device is not None and device.brings(mount, rules):
            draft.used.update(device.used_by(mount, rules))
            draft.gaps.extend([*_mount_gaps(mount), *device.contradictions(mount, rules)])
            if how.get(mount.mountpoint) != SYNC:
                how.pop(mount.mountpoint, None)
        else:
            _plan_mount(mount, rules, keep, how.pop(mount.mountpoint, PRESENT), draft)
    for mountpoint in how:
        draft.gaps.append(
            Gap(
                "unknown_data",
                mountpoint,
                "'data' names it, but the workload has no external mount there",
                "Correct the mountpoint or remove it from 'data'.",
            )
        )
    draft.entries = _with_common_copies(draft.entries)
    draft.gaps.extend(_clashes(draft.entries))
    draft.gaps.extend(_stacks(everything))
    draft.gaps.extend(_overlaps(draft.entries))
    return Plan(
        draft.entries,
        draft.gaps,
        [str(rule) for rule in rules if rule not in draft.used],
    )


def is_usable_key(key: str) -> bool:
    """Whether CRIU can take it: an empty key means auto detection, and some are its own (criu(8), --external)."""
    return bool(key) and not key.startswith(_RESERVED_PREFIX) and "\n" not in key


def _plan_mount(mount: Mount, rules: Sequence[Rule], keep: bool, data: str, draft: _Draft) -> None:
    decision = decide(rules, mount.mount_id, mount.mountpoint, mount.host_path)
    rule = decision.rule or (Rule(select="keep_paths", keep=True) if keep else None)
    if decision.rule is not None:
        draft.used.add(decision.rule)
    draft.gaps.extend(_mount_gaps(mount))
    if rule is None:
        draft.gaps.append(_no_rule(mount))
        return
    for other in decision.contradicting:
        draft.gaps.append(
            Gap(
                "contradicting_rules",
                mount.mountpoint,
                f"two rules of the same sort ({rule} and {other}) give it different paths or keys: "
                f"{rule.target_path(mount.host_path)} and {other.target_path(mount.host_path)}",
                "Remove one of them, or write one for the mountpoint alone.",
            )
        )
    path = rule.target_path(mount.host_path)
    gap = _path_gap(mount, data, path)
    if gap is not None:
        draft.gaps.append(gap)
    if path is None:
        return
    key = (rule.key or mount.mountpoint) if mount.kind == EXTERNAL else None
    if key is not None and not is_usable_key(key):
        draft.gaps.append(
            Gap("bad_key", mount.mountpoint, f"CRIU cannot take the key {key!r}", "Choose another 'key' in the rule.")
        )
    device = f"{mount.major}/{mount.minor}" if rule.device is not None else None
    if device is not None and (not _is_whole_device(mount) or data == SYNC):
        draft.gaps.append(
            Gap(
                "not_a_device",
                mount.mountpoint,
                f"the rule names a block device, but {_what(mount)} is not the whole file system of one that can be "
                "mounted anew",
                "Write 'source' instead of 'device' in the rule.",
            )
        )
    creation = rule.create if data != SYNC and device is None else None
    draft.entries.append(Entry(mount, key, path, str(rule), data, device, creation))


def _path_gap(mount: Mount, data: str, path: str | None) -> Gap | None:
    if data == SYNC and mount.fstype in KERNEL_FILE_SYSTEMS:
        return Gap(
            "not_copyable",
            mount.mountpoint,
            f"what is in a {mount.fstype} is the kernel's own: it is no data, and reading it may change the source",
            "Use data: present.",
        )
    if data == SYNC and mount.type == OTHER:
        return Gap(
            "not_copyable",
            mount.mountpoint,
            "a socket or a device is mounted here, which a copy cannot bring to the target",
            "Make sure that the target has it, and use data: present.",
        )
    if data == SYNC and mount.host_path is None:
        return Gap(
            "no_host_path",
            mount.mountpoint,
            f"its contents should be copied, but {_what(mount)} cannot be seen anywhere on the source host",
            "Mount it on the source host too, or bring its contents to the target yourself (data: present).",
        )
    if path is None:
        return Gap(
            "no_host_path",
            mount.mountpoint,
            f"its path should be kept, but {_what(mount)} cannot be seen anywhere on the source host",
            _suggestion(mount),
        )
    return None


def _mounted_anew(mounts: Iterable[Mount], rules: Sequence[Rule]) -> dict[str, _Device]:
    """By superblock, those mounts that a rule has mounted anew from a block device."""
    found: dict[str, _Device] = {}
    for mount in mounts:
        for rule in _device_rules(mount, rules)[:1]:
            if _is_whole_device(mount):
                found.setdefault(mount.place[0], _Device(mount, rule))
    return found


def _device_rules(mount: Mount, rules: Sequence[Rule]) -> list[Rule]:
    rule = decide(rules, mount.mount_id, mount.mountpoint, mount.host_path).rule
    return [rule] if rule is not None and rule.device is not None else []


def _is_whole_device(mount: Mount) -> bool:
    return mount.kind == EXTERNAL and mount.root == "/" and mount.major != 0


def _stays_host_root(mount: Mount, rules: Sequence[Rule], data: Mapping[str, str]) -> bool:
    if mount.kind != ROOT or mount.host_path != "/":
        return False
    rule = decide(rules, mount.mount_id, mount.mountpoint, mount.host_path).rule
    # Somebody may have put the same system into a folder of the target, and say so.
    return rule is None or rule.target_path("/") in ("/", None) or data.get(mount.mountpoint) == SYNC


def _host_root(mount: Mount) -> Gap:
    return Gap(
        "host_root",
        mount.mountpoint,
        "the workload has the host's own root, with all that is mounted there, and no root of its own that could be at "
        "another host, as a service has that systemd gives no more than a mount namespace (PrivateTmp=, ProtectSystem= "
        "and others)",
        "Start it anew with a root of its own: in the unit RootDirectory= or RootImage= with MountAPIVFS=yes "
        "(systemd.exec(5)), or in a container.",
    )


def _no_rule(mount: Mount) -> Gap:
    reason = f"no rule says where {_what(mount)} is on the target"
    if mount.kind == EXTERNAL and mount.root == "/" and mount.fstype in PRIVATE_FILE_SYSTEMS:
        reason += f"; CRIU alone would make a private copy of this {mount.fstype} of the host without a word"
        return Gap("private_copy", mount.mountpoint, reason, _suggestion(mount))
    return Gap("no_rule", mount.mountpoint, reason, _suggestion(mount))


def _mount_gaps(mount: Mount) -> list[Gap]:
    gaps = []
    reason = problem(mount.mountpoint)
    if not mount.decodable:
        reason = "it is not UTF-8"
    if reason is not None:
        gaps.append(
            Gap(
                "unusable_mountpoint",
                mount.mountpoint,
                f"CRIU cannot be told of this mountpoint: {reason}",
                "Mount it at another place in the workload.",
            )
        )
    if not mount.configured:
        gaps.append(
            Gap(
                "not_configured",
                mount.mountpoint,
                f"{_what(mount)} is mounted here, but not by the container's configuration (by hand, or below what a "
                "bind brings along), so that its engine would not make it again",
                "Unmount it, or start the container with it as a bind of its own.",
            )
        )
    if mount.deleted:
        gaps.append(
            Gap(
                "deleted_root",
                mount.mountpoint,
                f"the file that was bound here ({mount.root}) has been replaced or removed since, "
                "so it could not be restored",
                "Restart the workload with the present file, or unmount it.",
            )
        )
    return gaps


def _clashes(entries: Sequence[Entry]) -> list[Gap]:
    by_key: dict[str, dict[str, None]] = defaultdict(dict)
    for entry in entries:
        if entry.key is not None:
            by_key[entry.key][entry.mount.mountpoint] = None
    return [
        Gap(
            "key_clash",
            mountpoint,
            f"the key {key} would stand for {len(users)} mounts: {', '.join(users)}",
            "Give each rule a 'key' of its own, or leave 'key' out.",
        )
        for key, users in by_key.items()
        if len(users) > 1
        for mountpoint in users
    ]


def _stacks(mounts: Sequence[Mount]) -> list[Gap]:
    by_mountpoint: dict[str, list[Mount]] = defaultdict(list)
    for mount in mounts:
        by_mountpoint[mount.mountpoint].append(mount)
    return [
        Gap(
            "key_clash",
            mountpoint,
            f"{len(stack)} mounts are stacked here; CRIU would restore all of them from the path of one",
            "Unmount the covered one, or what covers it.",
        )
        for mountpoint, stack in by_mountpoint.items()
        if len(stack) > 1 and any(mount.kind == EXTERNAL for mount in stack)
    ]


def _with_common_copies(entries: Sequence[Entry]) -> list[Entry]:
    """The same entries, those marked whose contents the copy of another one brings."""
    # The outermost folder has the copy: there is none above it that could bring it.
    copied = sorted((entry for entry in entries if entry.data == SYNC), key=lambda entry: len(entry.mount.place[1]))
    bringing: list[Entry] = []
    for entry in copied:
        if not any(_brings(other, entry) for other in bringing):
            bringing.append(entry)
    return [_marked(entry, bringing) for entry in entries]


def _marked(entry: Entry, bringing: Sequence[Entry]) -> Entry:
    found = next((other for other in bringing if _brings(other, entry)), None)
    if found is None:
        return entry
    return replace(entry, data=SYNC, create=None, copied_with=found.mount.mountpoint)


def _brings(copied: Entry, entry: Entry) -> bool:
    """Whether a copy of the first brings the second to its path: they lie at the target as at the source."""
    if entry is copied or entry.device is not None or entry.data == SHARED or entry.mount.kind == ROOT:
        return False
    rest = _rest(copied.mount, entry.mount)
    if rest is None or copied.mount.host_path is None:
        return False
    # What another mount of the source covers a copy leaves out.
    at_source, at_target = join(copied.mount.host_path, rest), join(copied.path, rest)
    return (entry.mount.host_path, entry.path) == (at_source, at_target)


def _rest(outer: Mount, inner: Mount) -> str | None:
    """Where the folder of the second is below that of the first on the superblock of both, or None if it is not."""
    (device, root), (inner_device, inner_root) = outer.place, inner.place
    return relative(inner_root, root) if inner_device == device and is_below(inner_root, root) else None


def _overlaps(entries: Sequence[Entry]) -> list[Gap]:
    return [
        Gap(
            "inside_copy",
            entry.mount.mountpoint,
            f"its path {entry.path} lies inside {copied.path}, which a copy makes equal to the source "
            f"(data: {SYNC} for {copied.mount.mountpoint}); it would be overwritten",
            _place_beside(copied, entry),
        )
        for copied in entries
        for entry in entries
        if copied.data == SYNC
        and copied.copied_with is None
        and entry.copied_with is None
        and entry is not copied
        and is_below(entry.path, copied.path)
    ]


def _place_beside(copied: Entry, entry: Entry) -> str:
    rest = _rest(copied.mount, entry.mount)
    if rest is None:
        return f"Choose a path outside of {copied.path}."
    if entry.path == join(copied.path, rest) and entry.data != SHARED:
        covered = join(str(copied.mount.host_path), rest)
        return f"Unmount what covers {covered} on the source host, where a copy would leave it out."
    if entry.data == SHARED:
        return f"It is the same folder at the source: give both the same data, {SYNC} or {SHARED}."
    return f"At the source it is {_where(rest)} {copied.mount.mountpoint}: choose {join(copied.path, rest)} for it."


def _where(rest: str) -> str:
    return f"the folder {rest} in" if rest else "the folder of"


def _what(mount: Mount) -> str:
    if mount.kind == ROOT:
        return f"the workload's root ({mount.host_path or mount.root})"
    return f"its {mount.fstype} {mount.type} ({mount.host_path or mount.root})"


def _suggestion(mount: Mount) -> str:
    return f"Write in criu_mount_rules of the target: {{mountpoint: '{mount.mountpoint}', source: PATH}}"
