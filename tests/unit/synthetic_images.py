# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small image sets made by hand, for tests of what reads them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Iterable, Mapping, Tuple, Union

from ansible_collections.fleet.criu.plugins.module_utils._criu import image_file
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_file import Kind
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_timers import ImageTimer

Field = Tuple[int, Union[int, str, bytes]]

CRIU_IDS = [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 2), (7, 3), (8, 4), (9, 6), (10, 7), (11, 8), (12, 5)]
OWN_IDS = [*CRIU_IDS[:4], (5, 9), *CRIU_IDS[5:8], (9, 10), *CRIU_IDS[9:]]
INVENTORY = [(1, 2), (2, 1), (6, 0), (11, 1)]
PAGE = 4096
MOUNT_FIELDS = {
    "fstype": 1,
    "mnt_id": 2,
    "root_dev": 3,
    "parent_mnt_id": 4,
    "flags": 5,
    "root": 6,
    "mountpoint": 7,
    "source": 8,
    "options": 9,
    "shared_id": 10,
    "master_id": 11,
    "with_plugin": 12,
    "ext_mount": 13,
    "fsname": 14,
    "internal_sharing": 15,
    "deleted": 16,
    "sb_flags": 17,
    "ext_key": 18,
}


def varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*result, value])


def message(fields: Iterable[Field]) -> bytes:
    """The bytes of a message; a number becomes a varint, text and bytes a counted field."""
    result = b""
    for number, value in fields:
        if isinstance(value, int):
            result += varint(number << 3) + varint(value)
        else:
            raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
            result += varint(number << 3 | 2) + varint(len(raw)) + raw
    return result


def image(kind: Kind, *records: Iterable[Field]) -> bytes:
    """The bytes of an image file."""
    result = b"" if kind.family is None else struct.pack("<I", kind.family)
    result += struct.pack("<I", kind.magic)
    for record in records:
        raw = message(record)
        result += struct.pack("<I", len(raw)) + raw
    return result


def mount(**changes: int | str | None) -> list[Field]:
    """The fields of a mount: the root of an image set, but for the changes. None leaves a field out."""
    values: dict[str, int | str | None] = {
        "fstype": 0,
        "mnt_id": 350,
        "root_dev": 8 << 20 | 1,
        "parent_mnt_id": 256,
        "flags": 1 << 21,
        "root": "/srv/box",
        "mountpoint": "/",
        "source": "/dev/sda1",
        "options": "",
        "shared_id": 0,
        "master_id": 0,
        "sb_flags": 0,
    }
    values.update(changes)
    return [(MOUNT_FIELDS[name], value) for name, value in values.items() if value is not None]


def write_image_set(folder: Path) -> Path:
    """A process 1 with two threads and its child 7, own mount and pid namespaces, three pages, statistics."""
    files = {
        "inventory.img": image(image_file.INVENTORY, [*INVENTORY, (3, message(CRIU_IDS))]),
        "pstree.img": image(
            image_file.PROCESS_TREE,
            [(1, 1), (2, 0), (3, 1), (4, 1), (5, 1), (5, 2)],
            [(1, 7), (2, 1), (3, 7), (4, 1), (5, 7)],
        ),
        "core-1.img": core("init", 1),
        "core-7.img": core("worker", 3),
        "ids-1.img": image(image_file.NAMESPACE_IDS, OWN_IDS),
        "ids-7.img": image(image_file.NAMESPACE_IDS, OWN_IDS),
        "mountpoints-10.img": image(
            image_file.MOUNTPOINTS,
            mount(mnt_id=351, parent_mnt_id=350, root="/data", mountpoint="/data", ext_key="data"),
            mount(),
        ),
        "pagemap-1.img": image(image_file.PAGEMAP, [(1, 1)], [(1, 0x1000), (2, 2), (4, 4)]),
        "pages-1.img": b"m" * 2 * PAGE,
        "pagemap-7.img": image(image_file.PAGEMAP, [(1, 2)], [(1, 0x1000), (2, 1), (4, 6)]),
        "pages-2.img": b"w" * PAGE,
        "stats-dump": image(image_file.STATISTICS, [(1, message([(1, 374), (2, 125516), (7, 3)]))]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, contents in files.items():
        (folder / name).write_bytes(contents)
    return folder


def write_timers(folder: Path, timers: Mapping[int, ImageTimer], descriptors: Mapping[int, Mapping[int, int]]) -> None:
    """Add these timers, by id, to an image set, beside another file; `descriptors` has numbers and ids by pid."""
    entries = {
        id_: [
            *((1, timer.id), (2, 2), (3, message([(1, 0)])), (4, timer.clock), (5, timer.ticks), (6, timer.flags)),
            *zip((7, 8), divmod(timer.value, 10**9)),
            *zip((9, 10), divmod(timer.interval, 10**9)),
        ]
        for id_, timer in timers.items()
    }
    records = [[(1, 17), (2, id_), (12, message(entry))] for id_, entry in entries.items()]
    (folder / "files.img").write_bytes(image(image_file.FILES, [(1, 1), (2, 99), (3, message([(1, 99)]))], *records))
    for number, (pid, found) in enumerate(descriptors.items(), 2):
        rows = [[(1, id_), (2, 0), (3, 17), (4, descriptor)] for descriptor, id_ in found.items()]
        (folder / f"fdinfo-{number}.img").write_bytes(
            image(image_file.DESCRIPTORS, [(1, 99), (2, 0), (3, 1), (4, 0)], *rows)
        )
        ids = [(1, 1), (2, number), *OWN_IDS[2:]]
        (folder / f"ids-{pid}.img").write_bytes(image(image_file.NAMESPACE_IDS, ids))


def core(name: str, state: int) -> bytes:
    """The bytes of a process's core image."""
    return image(image_file.CORE, [(1, 1), (3, message([(1, state), (2, 0), (3, 0), (4, 0), (5, 0), (6, name)]))])
