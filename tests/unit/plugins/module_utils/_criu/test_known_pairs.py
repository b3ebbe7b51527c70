# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.known_pairs import DUMP, PAIRS, RESTORE, known_problems
from ansible_collections.fleet.criu.plugins.module_utils._criu.matrix import takes


@pytest.mark.parametrize(
    ("kernel", "criu", "codes"),
    [
        ("6.1.0-30-amd64", "3.17.1", []),
        ("6.15.9", "4.1.1", []),
        ("6.16.0-rc1", "4.1.1", ["sockets_not_dumpable"]),
        ("6.18.44-fc", "4.1", ["sockets_not_dumpable", "mounts_not_restorable"]),
        ("6.18", "4.2", []),
        ("7.1", "4.2", ["dump_fails"]),
        ("7.1", "4.2.1", []),
        ("7.3+deb14", "4.1.1", ["sockets_not_dumpable", "dump_fails"]),
        ("6.18", "3.17.1", ["sockets_not_dumpable", "mounts_not_restorable", "vdso_unknown"]),
        ("odd", "", []),
    ],
)
def test_what_is_known_of_a_kernel_and_a_criu(kernel: str, criu: str, codes: list[str]) -> None:
    assert [pair.code for pair in known_problems(kernel, criu)] == codes


def test_each_row_says_what_to_do_and_where_it_is_known_from() -> None:
    assert len({pair.code for pair in PAIRS}) == len(PAIRS)
    for pair in PAIRS:
        assert pair.operation in (DUMP, RESTORE)
        assert pair.source
        assert pair.as_dict()["remedy"].startswith("Install CRIU 4") or pair.criu < (4,)
        assert pair.as_dict()["kernel"] == ".".join(map(str, pair.kernel))


def info(**changes: Any) -> dict[str, Any]:
    return {"usable": True, "version": "4.2", "kernel": "6.12.0", "architecture": "x86_64", **changes}


def test_who_takes_from_whom() -> None:
    infos = {
        "a": info(),
        "older": info(version="4.1.1"),
        "kernel": info(kernel="6.1"),
        "arm": info(architecture="aarch64"),
        "none": {"usable": False, "kernel": "6.12", "architecture": "x86_64"},
        "down": {"unreachable": True},
        "new": info(kernel="7.1"),
        "trixie": info(kernel="6.18", version="4.1.1"),
    }
    rows = {row["from"]: row for row in takes(infos)}
    assert list(rows) == list(infos)
    assert all(rows[name][name] == "-" and list(rows[name]) == ["from", *infos] for name in infos)
    assert rows["a"] == {
        "from": "a",
        "a": "-",
        "older": "no: older CRIU",
        "kernel": "yes (older kernel)",
        "arm": "no: other architecture",
        "none": "no: no CRIU here",
        "down": "no: not asked here",
        # It can restore there, and then no dump brings it back.
        "new": "yes",
        "trixie": "no: older CRIU",
    }
    assert rows["new"]["a"] == "no: dump_fails"
    assert rows["trixie"]["a"] == "yes (older kernel, no sockets)"
    assert rows["down"]["a"] == "no: not asked there"
    assert takes({}) == []
