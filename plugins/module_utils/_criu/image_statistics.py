# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRIU's own statistics: `stats-dump` and `stats-restore`, which it writes when all is over.

Names and field numbers are those of CRIU's `dump_stats_entry` and `restore_stats_entry`. What ends in `_time`, and
`irmap_resolve`, is in microseconds; the rest are numbers of pages and pipes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Mapping

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_file import STATISTICS, read_record_if_any

DUMP_STATISTICS = "stats-dump"
RESTORE_STATISTICS = "stats-restore"

_DUMP_FIELD, _RESTORE_FIELD = 1, 2
_DUMP = {
    "freezing_time": 1,
    "frozen_time": 2,
    "memdump_time": 3,
    "memwrite_time": 4,
    "pages_scanned": 5,
    "pages_skipped_parent": 6,
    "pages_written": 7,
    "irmap_resolve": 8,
    "pages_lazy": 9,
    "page_pipes": 10,
    "page_pipe_bufs": 11,
    "shpages_scanned": 12,
    "shpages_skipped_parent": 13,
    "shpages_written": 14,
}
_RESTORE = {
    "pages_compared": 1,
    "pages_skipped_cow": 2,
    "forking_time": 3,
    "restore_time": 4,
    "pages_restored": 5,
}


def read_dump_statistics(images: Path) -> dict[str, int | None] | None:
    """What CRIU counted at the dump; None if it wrote none, or for a number it did not know. Raises BadImageSet."""
    return _read(images / DUMP_STATISTICS, _DUMP_FIELD, _DUMP)


def read_restore_statistics(images: Path) -> dict[str, int | None] | None:
    """The same of the last restore from this folder."""
    return _read(images / RESTORE_STATISTICS, _RESTORE_FIELD, _RESTORE)


def _read(path: Path, part: int, fields: Mapping[str, int]) -> dict[str, int | None] | None:
    record = read_record_if_any(path, STATISTICS)
    entry = None if record is None else record.message(part, path.name)
    return None if entry is None else {name: entry.optional_number(field, name) for name, field in fields.items()}
