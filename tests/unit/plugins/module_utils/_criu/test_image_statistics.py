# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_file import STATISTICS
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_statistics import (
    read_dump_statistics,
    read_restore_statistics,
)
from ansible_collections.fleet.criu.tests.unit.synthetic_images import image, message

# As CRIU 4.1.1 wrote it, and what crit showed of it.
DUMP = (
    "40591055 06330957 27000000 0a2508f6 0210ccd4 0718bf85 0220eedb "
    "0128dc7f 3000 38907e 4000 4800 5008 5808 6000 6800 7000"
)
SHOWN = {
    "freezing_time": 374,
    "frozen_time": 125516,
    "memdump_time": 33471,
    "memwrite_time": 28142,
    "pages_scanned": 16348,
    "pages_skipped_parent": 0,
    "pages_written": 16144,
    "irmap_resolve": 0,
    "pages_lazy": 0,
    "page_pipes": 8,
    "page_pipe_bufs": 8,
    "shpages_scanned": 0,
    "shpages_skipped_parent": 0,
    "shpages_written": 0,
}


def test_a_dump_by_criu(tmp_path: Path) -> None:
    (tmp_path / "stats-dump").write_bytes(bytes.fromhex(DUMP))
    assert read_dump_statistics(tmp_path) == SHOWN
    assert read_restore_statistics(tmp_path) is None


def test_a_restore(tmp_path: Path) -> None:
    numbers = message([(1, 1), (2, 2), (3, 500), (4, 31000), (5, 16144)])
    (tmp_path / "stats-restore").write_bytes(image(STATISTICS, [(2, numbers)]))
    assert read_restore_statistics(tmp_path) == {
        "pages_compared": 1,
        "pages_skipped_cow": 2,
        "forking_time": 500,
        "restore_time": 31000,
        "pages_restored": 16144,
    }
    assert read_dump_statistics(tmp_path) is None


def test_numbers_that_an_older_criu_did_not_know(tmp_path: Path) -> None:
    (tmp_path / "stats-dump").write_bytes(image(STATISTICS, [(1, message([(1, 5)]))]))
    found = read_dump_statistics(tmp_path)
    assert found == {**dict.fromkeys(SHOWN), "freezing_time": 5}


def test_statistics_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "stats-dump").write_bytes(image(STATISTICS, [(2, message([(1, 5)]))]))
    assert read_dump_statistics(tmp_path) is None
