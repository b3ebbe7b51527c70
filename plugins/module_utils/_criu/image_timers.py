# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timers behind descriptors (timerfd_create(2)) in an image set: `files.img` and which process has them where.

This is read while the workload waits, so that what is of no timer is passed over without being decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_file import (
    DESCRIPTORS,
    FILES,
    NAMESPACE_IDS,
    each_record,
    read_record_if_any,
    read_records,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_wire import Message

# Of CRIU's enum fd_types, and its field number in file_entry and fdinfo_entry.
_TIMER, _TYPE = 17, 1
_TYPE_OF_DESCRIPTOR = 3
# The key of field 1, which CRIU writes first.
_TYPE_KEY = bytes([_TYPE << 3])
_NANOSECONDS = 10**9


@dataclass(frozen=True)
class ImageTimer:
    """One timer as the kernel told it to CRIU when the workload was frozen.

    `value` is the time until it expires next and `interval` its period, both in nanoseconds and 0 for none; `ticks`
    are the expirations that nobody has read; `flags` are those of the last timerfd_settime(2).
    """

    id: int
    clock: int
    ticks: int
    flags: int
    value: int
    interval: int


def read_timers(images: Path) -> list[ImageTimer]:
    """All timers of the image set; none for a set of a CRIU that had no `files.img` yet (before 3.8).

    Raises BadImageSet.
    """
    path = images / "files.img"
    if not path.exists():
        return []
    records = read_records(path, FILES, lambda first: first[:1] != _TYPE_KEY or first[1:2] == bytes([_TIMER]))
    entries = (record.message(12, "tfd") for record in records if record.number(_TYPE, "type") == _TIMER)
    return [_timer(entry) for entry in entries if entry is not None]


def descriptors_of(images: Path, pid: int) -> dict[int, int]:
    """The descriptors of timers that the process with this pid, as the images have it, had: id of the timer by number.

    Raises BadImageSet.
    """
    ids = read_record_if_any(images / f"ids-{pid}.img", NAMESPACE_IDS)  # a dead process has none
    path = images / f"fdinfo-{ids.number(2, 'files_id')}.img" if ids is not None else None
    if path is None or not path.exists():
        return {}
    return {
        record.number(4, "fd"): record.number(1, "id")
        for record in each_record(path, DESCRIPTORS)
        if record.number(_TYPE_OF_DESCRIPTOR, "type") == _TIMER
    }


def _timer(entry: Message) -> ImageTimer:
    return ImageTimer(
        id=entry.number(1, "id"),
        clock=entry.number(4, "clockid"),
        ticks=entry.number(5, "ticks"),
        flags=entry.number(6, "settime_flags"),
        value=entry.number(7, "vsec") * _NANOSECONDS + entry.number(8, "vnsec"),
        interval=entry.number(9, "isec") * _NANOSECONDS + entry.number(10, "insec"),
    )
