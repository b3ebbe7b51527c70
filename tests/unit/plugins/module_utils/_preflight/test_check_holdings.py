# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._preflight.check_holdings import holdings, taken_options
from ansible_collections.fleet.criu.plugins.module_utils._preflight.kinds import IMPOSSIBLE, KINDS

LOCK = {"kind": "file_lock", "where": "process 42 (redis), descriptor 3: /data/lock", "bytes": 0, "path": ""}
TARGET: dict[str, Any] = {"host": "node2", "missing_mountpoints": []}


def source(*found: dict[str, Any], engine: bool = False) -> dict[str, Any]:
    return {"holdings": list(found), "engine": {"engine": "runc"} if engine else None}


def held(kind: str, **fields: Any) -> dict[str, Any]:
    return {**LOCK, "kind": kind, **fields}


def asked(**options: Any) -> dict[str, Any]:
    return {"options": options or None}


def test_who_holds_nothing_passes() -> None:
    found = holdings(source(), TARGET, asked())
    assert (found.result, found.reason) == ("passed", "All that it holds moves with it.")
    assert taken_options(source(), {}) == {}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.verdict == IMPOSSIBLE], ids=lambda kind: kind.code)
def test_what_is_impossible_fails_with_a_way_out(kind: Any) -> None:
    there = held(kind.code, where="here", path="/proc/acpi")
    found = holdings(source(there), {**TARGET, "missing_mountpoints": ["/proc/acpi"]}, asked(file_locks=True))
    assert (found.result, found.code) == ("failed", kind.code)
    assert found.reason == f"It has {kind.what} (here): {kind.why}."
    assert found.remedy == kind.remedy


@pytest.mark.parametrize(
    ("found", "taken"),
    [
        (held("file_lock"), {"file_locks": True}),
        (held("removed_linked_file"), {"link_remap": True}),
        (held("large_removed_file", bytes=(3 << 20) + 1), {"ghost_limit": 4 << 20}),
        (
            held("watch_by_path", path="/watched"),
            {"extra_args": ["-v4", "--force-irmap", "--irmap-scan-path", "/watched"]},
        ),
    ],
)
def test_what_concerns_nobody_else_is_taken_and_told(found: dict[str, Any], taken: dict[str, Any]) -> None:
    options = asked(extra_args=["-v4"])
    assert taken_options(source(found, found), options) == taken
    finding = holdings(source(found, found), TARGET, options)
    assert finding.result == "passed"
    assert f"with {next(iter(taken))}" in finding.reason


@pytest.mark.parametrize(
    ("found", "options", "result", "remedy"),
    [
        (held("file_lock"), {"file_locks": False}, "failed", "file_locks: true"),
        (held("file_lock"), {"file_locks": True}, "passed", ""),
        (held("large_removed_file", bytes=5 << 20), {"ghost_limit": 4 << 20}, "failed", "ghost_limit"),
        (held("large_removed_file", bytes=5 << 20), {"ghost_limit": 5 << 20}, "passed", ""),
        (held("watch_by_path", path=""), {}, "failed", "--irmap-scan-path"),
        (held("watch_by_path", path=""), {"extra_args": ["--force-irmap"]}, "passed", ""),
        (held("tcp_connection"), {}, "failed", "tcp_established: true"),
        (held("tcp_connection"), {"tcp_established": True}, "passed", ""),
        (held("tcp_connection"), {"tcp_close": True}, "passed", ""),
        (held("datagram_to_outside"), {}, "failed", "ext_unix_sk: true"),
        (held("datagram_to_outside"), {"ext_unix_sk": True}, "passed", ""),
        (held("foreign_session"), {}, "failed", "shell_job: true"),
        (held("foreign_session"), {"shell_job": True}, "passed", ""),
        (held("queued_datagram"), {}, "warning", ""),
        (held("connection_in_flight"), {}, "warning", "--skip-in-flight"),
        (held("missing_mountpoint", path="/proc/here"), {}, "passed", ""),
    ],
)
def test_an_option_that_is_set_counts(found: dict[str, Any], options: dict[str, Any], result: str, remedy: str) -> None:
    finding = holdings(source(found), TARGET, asked(**options))
    assert finding.result == result
    assert remedy in finding.remedy
    # What the user has set is not set otherwise.
    assert not set(taken_options(source(found), asked(**options))) & (set(options) - {"extra_args"})


@pytest.mark.parametrize(
    ("kind", "result"),
    [
        ("file_lock", "passed"),
        ("removed_linked_file", "passed"),
        ("watch_by_path", "failed"),
        ("datagram_to_outside", "failed"),
        ("foreign_session", "passed"),
        ("file_outside", "passed"),
        ("traced", "failed"),
    ],
)
def test_engines_take_care_of_some_and_pass_on_few_options(kind: str, result: str) -> None:
    finding = holdings(source(held(kind, path="/watched"), engine=True), TARGET, asked())
    assert finding.result == result
    if kind in ("watch_by_path", "datagram_to_outside"):
        assert "Engines do not hand that option on" in finding.remedy


def test_the_worst_comes_first_and_all_is_said() -> None:
    found = [held("queued_datagram", where="q"), held("tcp_connection", where="c"), held("traced", where="t"), LOCK]
    finding = holdings(source(*found), TARGET, asked())
    assert (finding.result, finding.code) == ("failed", "traced")
    assert finding.reason.index("(t)") < finding.reason.index("(c)")
    assert "(q)" not in finding.reason
    assert [len(text.split("\n")) for text in (finding.reason, finding.remedy)] == [2, 2]
