# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import stat

from ansible_collections.fleet.criu.plugins.module_utils._handoff import trees as subject


def test_what_changed_in_the_last_moment_before_the_live_pass_is_not_trusted() -> None:
    def entry(change_time: int, kind: int = stat.S_IFREG) -> subject.Entry:
        return (1, 2, change_time, 3, kind, 1)

    second = 1_000_000_000
    began = 100 * second + 1
    before = {
        "": entry(5, stat.S_IFDIR),
        "old": entry(began - 21_000_000),
        "new": entry(began - 19_000_000),
        "future": entry(began + second),
        # Perhaps the file system has whole seconds alone.
        "second": entry(99 * second),
        "seconds": entry(97 * second),
        "deleted": entry(5),
    }
    assert set(subject.trusted_entries(before, before, began, frozenset({"deleted"}))) == {"", "old", "seconds"}
