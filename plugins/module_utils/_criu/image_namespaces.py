# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The namespaces in an image set: `ids-PID.img` of each process against those of CRIU itself in `inventory.img`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Iterable

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_file import (
    NAMESPACE_IDS,
    NETWORK_NAMESPACE,
    PID_NAMESPACE,
    read_record_if_any,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_wire import Message

MOUNT = "mnt"

# Field numbers of CRIU's task_kobj_ids_entry, by the names of namespaces(7) in /proc/PID/ns.
_FIELDS = {"pid": 5, "net": 6, "ipc": 7, "uts": 8, MOUNT: 9, "user": 10, "cgroup": 11, "time": 12}

# Where the key of a namespace that stays outside is: name of the file, its kind, number of the field.
_KEYS = {"pid": ("pidns-{}.img", PID_NAMESPACE, 1), "net": ("netns-{}.img", NETWORK_NAMESPACE, 8)}


@dataclass(frozen=True)
class ImageNamespace:
    """One namespace that processes of the workload are in.

    `id` is CRIU's own number for it, which is in the names of files. `own` is False if CRIU was in it at the dump, so
    that it is the host's and not in the image set, and None if the image set does not tell. `key` is the name that a
    restore must map, if it was declared external. `pids` are those inside the workload's pid namespace.
    """

    type: str
    id: int
    own: bool | None
    key: str | None
    pids: list[int]

    def as_dict(self) -> dict[str, Any]:
        """The namespace in plain JSON types."""
        return asdict(self)


def read_namespaces(images: Path, pids: Iterable[int], criu_ids: Message | None) -> list[ImageNamespace]:
    """The namespaces of all processes, by type and id. `criu_ids` are those of CRIU itself. Raises BadImageSet."""
    members: dict[tuple[str, int], list[int]] = {}
    for pid in pids:
        record = read_record_if_any(images / f"ids-{pid}.img", NAMESPACE_IDS)  # a dead process has none
        for name, number in _ids(record).items():
            members.setdefault((name, number), []).append(pid)
    criu = _ids(criu_ids)
    order = list(_FIELDS)
    return [
        ImageNamespace(
            type=name,
            id=number,
            own=number != criu[name] if name in criu else None,
            key=_key(images, name, number),
            pids=members[name, number],
        )
        for name, number in sorted(members, key=lambda entry: (order.index(entry[0]), entry[1]))
    ]


def _ids(record: Message | None) -> dict[str, int]:
    if record is None:
        return {}
    found = {name: record.optional_number(field, f"{name}_ns_id") for name, field in _FIELDS.items()}
    return {name: number for name, number in found.items() if number}


def _key(images: Path, name: str, number: int) -> str | None:
    if name not in _KEYS:
        return None
    file_name, kind, field = _KEYS[name]
    record = read_record_if_any(images / file_name.format(number), kind)
    return None if record is None else record.optional_text(field, "ext_key")
