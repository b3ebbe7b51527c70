# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CRIU will decide about each mount of a workload at dump, and why, known from mountinfo alone.

CRIU decides by what it reads in /proc/PID/mountinfo of the workload and, for auto detection, in its own. Like CRIU,
only mountinfo's device numbers are compared, because for btrfs and overlayfs stat(2) shows another one. Each rule is
held against real CRIU by the Molecule scenario `conformance`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Iterable, Iterator, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import folders_of, join, relative
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import MountRow

ROOT = "root"
INTERNAL = "internal"
EXTERNAL = "external"
AUTO = "auto"
DEVICE = "device"
SKIPPED = "skipped"
# Made again by the engine that owns the workload, wherever it is restored.
ENGINE = "engine"
UNSUPPORTED = "unsupported"
NO_PROPER_ROOT = "no_proper_root"
UNREACHABLE_SHARING = "unreachable_sharing"
STACKED = "stacked"

# What makes `criu dump` fail.
FATAL = frozenset({UNSUPPORTED, NO_PROPER_ROOT, UNREACHABLE_SHARING, STACKED})

# File systems that CRIU can mount anew when their own root is mounted.
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
# The same, but CRIU saves and recreates their contents, so they must be the workload's alone.
PRIVATE_FILE_SYSTEMS = frozenset({"tmpfs", "overlay", "autofs"})
_KNOWN_FILE_SYSTEMS = _KERNEL_FILE_SYSTEMS | PRIVATE_FILE_SYSTEMS


@dataclass(frozen=True)
class Verdict:
    """What a mount is for CRIU, and the reason as a sentence for a person.

    `path` is the host path that auto detection would write into the images.
    """

    kind: str
    reason: str
    path: str | None = None


@dataclass(frozen=True)
class Auto:
    """Auto detection, `--external mnt[]`; `shared` and `masters` are its flags s and m (criu(8))."""

    shared: bool = False
    masters: bool = False


@dataclass(frozen=True)
class Settings:
    """What CRIU is told: `keys` by mountpoint, auto detection, skipped mountpoints, further known file systems.

    `devices` are the device numbers (`MAJOR:MINOR`) of whole file systems that are to be mounted anew.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    devices: frozenset[str] = frozenset()
    auto: Auto | None = None
    skipped: frozenset[str] = frozenset()
    enabled_file_systems: frozenset[str] = frozenset()


def classify(rows: Sequence[MountRow], host_rows: Iterable[MountRow]) -> list[Verdict]:
    """For each row of a workload's mountinfo whether it is the root, internal, or external: one that needs a key.

    A mount needs a key if CRIU would refuse it without one, and also if it would do worse: silently make a private copy
    of what the host has mounted too.
    """
    host_devices = frozenset(row.device for row in host_rows)
    return [_needs_key(row, verdict, host_devices) for row, verdict in zip(rows, predict(rows, (), Settings()))]


def predict(rows: Sequence[MountRow], host_rows: Sequence[MountRow], settings: Settings) -> list[Verdict]:
    """For each row what `criu dump` will decide with these settings; the dump fails if one of them is in FATAL.

    `rows` are those of the workload's root mount namespace, `host_rows` those that CRIU itself sees.
    """
    return predict_all([rows], host_rows, settings)[0]


def predict_all(
    namespaces: Sequence[Sequence[MountRow]], host_rows: Sequence[MountRow], settings: Settings
) -> list[list[Verdict]]:
    """The same for a workload with nested mount namespaces: the rows of its root mount namespace, then the others'.

    Keys are for the root mount namespace alone. A mount of a nested one can still be bound from a mount with a key on
    the same superblock there, and auto detection looks at it too.
    """
    tree = _Tree(namespaces, host_rows, settings)
    return [[tree.verdict(row) for row in rows] for rows in namespaces]


def root_mount(rows: Sequence[MountRow]) -> MountRow | None:
    """The mount that a workload sees as `/`: with several stacked there, the last one."""
    at_slash = [row for row in rows if row.mountpoint == "/"]
    return at_slash[-1] if at_slash else None


class _Tree:
    def __init__(
        self, namespaces: Sequence[Sequence[MountRow]], host_rows: Sequence[MountRow], settings: Settings
    ) -> None:
        self._settings = settings
        self._known = _KNOWN_FILE_SYSTEMS | settings.enabled_file_systems
        self._roots = frozenset(id(root_mount(rows)) for rows in namespaces)
        self._nested = frozenset(id(row) for rows in namespaces[1:] for row in rows)
        everything = [row for rows in namespaces for row in rows]
        self._peer_groups = frozenset(row.shared for row in everything if row.shared is not None)
        self._host: dict[tuple[str, str], list[tuple[int, MountRow]]] = defaultdict(list)
        for line, host_row in enumerate(host_rows) if settings.auto is not None else ():
            self._host[host_row.device, host_row.root].append((line, host_row))
        self._siblings: dict[tuple[int, str], int] = defaultdict(int)
        self._sources: dict[tuple[str, str], list[MountRow]] = defaultdict(list)
        self._outside: dict[int, Verdict] = {}
        for row in everything:
            self._siblings[row.parent_id, row.mountpoint] += 1
            verdict = self._from_outside(row)
            if verdict is not None:
                self._outside[id(row)] = verdict
            # A mount whose own root is that of its file system, or that is given from outside, can be bound from.
            if verdict is not None or row.root == "/":
                self._sources[row.device, row.root].append(row)

    def verdict(self, row: MountRow) -> Verdict:
        if row.mountpoint in self._settings.skipped and id(row) not in self._nested:
            return Verdict(SKIPPED, "CRIU is told to skip it")
        if id(row) not in self._roots and self._siblings[row.parent_id, row.mountpoint] > 1:
            return Verdict(STACKED, "another mount is at the same mountpoint of the same parent, which CRIU refuses")
        sharing = self._unreachable_sharing(row)
        if sharing is not None:
            return sharing
        return self._outside.get(id(row)) or self._inside(row)

    def _from_outside(self, row: MountRow) -> Verdict | None:
        # In the order of CRIU's mount.c, try_resolve_ext_mount.
        if id(row) in self._roots:
            return Verdict(ROOT, "it is the workload's root")
        is_nested = id(row) in self._nested
        if row.mountpoint in self._settings.keys and not is_nested:
            return Verdict(EXTERNAL, f"it has the key {self._settings.keys[row.mountpoint]}")
        # A bind of one of its folders is made again from it, like any other.
        if row.device in self._settings.devices and row.root == "/" and row.fstype not in self._known:
            return Verdict(DEVICE, f"its superblock {row.device} has a key, and is mounted anew from a block device")
        return self._detected(row) if self._settings.auto is not None else None

    def _detected(self, row: MountRow) -> Verdict | None:
        # As CRIU's mount.c does, find_best_external_match and resolve_external_mounts.
        auto = self._settings.auto
        candidates = sorted(
            (
                entry
                for folder in folders_of(row.root)
                for entry in self._host.get((row.device, folder), ())
                if _have_one_source(row, entry[1])
            ),
            key=lambda entry: entry[0],
        )
        if auto is None or not candidates:
            return None
        if (row.shared is not None and not auto.shared) or (row.master is not None and not auto.masters):
            return None
        # CRIU has the last line first, ends at a peer, and is left with the first line if there is none.
        peers = [entry for entry in candidates if _is_peer(row, entry[1])]
        _line, host = peers[-1] if peers else candidates[0]
        if row.master is not None and row.master not in (host.shared, host.master):
            return None
        path = join(host.mountpoint, relative(row.root, host.root))
        return Verdict(AUTO, f"auto detection takes it for {path} of this host, and writes that into the images", path)

    def _inside(self, row: MountRow) -> Verdict:
        if row.root == "/":
            if row.fstype in PRIVATE_FILE_SYSTEMS:
                return Verdict(INTERNAL, f"it is a {row.fstype}, which CRIU saves with its contents")
            if row.fstype in self._known:
                return Verdict(INTERNAL, f"CRIU mounts {row.fstype} anew")
        source = next((other for other in self._around(row) if self._holds(other, row)), None)
        if source is not None:
            where = "the workload's root" if id(source) in self._roots else f"the mount {source.mountpoint}"
            return Verdict(INTERNAL, f"its root {row.root} lies inside {where}, on the same superblock")
        if row.root == "/":
            return Verdict(UNSUPPORTED, f"CRIU cannot recreate a whole {row.fstype}; it needs a key")
        return Verdict(
            NO_PROPER_ROOT, f"its root {row.root} lies outside the workload's root, on superblock {row.device}"
        )

    def _holds(self, source: MountRow, row: MountRow) -> bool:
        # A whole file system that CRIU cannot mount anew is no help, however often it is mounted.
        is_given = id(source) in self._outside or source.fstype in self._known
        is_external = any(self._is_external(each) for each in (source, row))
        return source is not row and is_given and (is_external or _have_one_source(source, row))

    def _is_external(self, row: MountRow) -> bool:
        given = self._outside.get(id(row))
        return given is not None and given.kind != ROOT

    def _around(self, row: MountRow) -> Iterator[MountRow]:
        # The mounts of the same superblock whose root is that of this one, or a parent of it.
        for folder in folders_of(row.root):
            yield from self._sources.get((row.device, folder), ())

    def _unreachable_sharing(self, row: MountRow) -> Verdict | None:
        if row.master is None or row.master in self._peer_groups:
            return None
        for source in (row, *self._around(row)):
            given = self._outside.get(id(source))
            if given is not None and given.kind != DEVICE and source.master == row.master:
                return None
        return Verdict(
            UNREACHABLE_SHARING,
            f"it is a slave of the host's peer group {row.master}, which CRIU can only take from a mount with a key",
        )


def _have_one_source(one: MountRow, other: MountRow) -> bool:
    # The same device under two names is two superblocks to CRIU (mount.c, mounts_sb_equal).
    return (one.source, one.fstype) == (other.source, other.fstype)


def _is_peer(row: MountRow, host: MountRow) -> bool:
    return host.shared is not None and host.shared in (row.shared, row.master)


def _needs_key(row: MountRow, verdict: Verdict, host_devices: frozenset[str]) -> Verdict:
    if verdict.kind in FATAL:
        return Verdict(EXTERNAL, verdict.reason)
    if verdict.kind == INTERNAL and row.root == "/" and row.fstype in PRIVATE_FILE_SYSTEMS:
        if row.device in host_devices:
            return Verdict(
                EXTERNAL,
                f"it is a {row.fstype} that the host has mounted too: without a key it would become a private copy",
            )
        return Verdict(INTERNAL, f"it is a {row.fstype} of the workload's own, which CRIU saves with its contents")
    return verdict
