# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._handoff import owner
from ansible_collections.fleet.criu.plugins.module_utils._preflight.units import owner_unit, supervisor
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed
from ansible_collections.fleet.criu.tests.unit.fakes import FakeProc, FakeRunner

SHOW = ("systemctl", "show")
FREE = "LoadState=not-found\nActiveState=inactive\n"
TAKEN = "LoadState=loaded\nActiveState=active\n"


@pytest.fixture(autouse=True)
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for a host that was booted by systemd."""
    folder = tmp_path / "systemd"
    folder.mkdir()
    monkeypatch.setattr(owner, "_BOOTED_BY_SYSTEMD", folder)
    return folder


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    """The process 42 in a service."""
    proc = FakeProc(tmp_path / "proc")
    proc.add(42)
    (proc.folder / "42/cgroup").write_text("0::/system.slice/web.service\n")
    return proc


def test_without_systemd_there_is_nothing_to_ask(systemd: Path, proc: FakeProc) -> None:
    systemd.rmdir()
    assert supervisor(42, proc, FakeRunner()) is None
    assert owner_unit("redis", "web", FakeRunner()) is None


@pytest.mark.parametrize(("restart", "again"), [("no", False), ("always", True)])
def test_a_service_that_would_start_the_workload_anew(proc: FakeProc, restart: str, again: bool) -> None:
    found = supervisor(42, proc, FakeRunner({SHOW: Completed(0, f"Restart={restart}\nMainPID=42\n")}))
    assert found is not None
    assert found["error"] is None
    assert (found["problem"] is not None) == again
    assert not again or "web.service with Restart=always" in found["problem"]


@pytest.mark.parametrize(
    ("wanted", "unit"), [(None, "criu-redis.service"), ("web", "web.service"), ("web.service", "web.service")]
)
def test_the_unit_at_the_target(wanted: str | None, unit: str) -> None:
    assert owner_unit("redis", wanted, FakeRunner({SHOW: Completed(0, FREE)})) == {
        "unit": unit,
        "problem": None,
        "error": None,
    }
    runner = FakeRunner({SHOW: Completed(0, TAKEN)})
    taken = owner_unit("redis", wanted, runner)
    assert taken is not None
    assert f"{unit} is active here" in taken["problem"]
    assert runner.argvs[0][-1] == unit


def test_a_unit_without_a_name_is_not_looked_for() -> None:
    assert owner_unit(None, None, FakeRunner()) is None
    found = owner_unit(None, "web", FakeRunner({SHOW: Completed(0, FREE)}))
    assert found is not None
    assert found["unit"] == "web.service"


def test_a_name_that_systemd_would_not_take_is_told() -> None:
    found = owner_unit("redis", "a b", FakeRunner())
    assert found is not None
    assert (found["unit"], found["problem"]) == ("a b", None)
    assert "cannot be the unit of the workload redis" in found["error"]["message"]
    assert found["error"]["remedy"]


def test_systemd_that_does_not_answer_does_not_end_all_checks(proc: FakeProc) -> None:
    runner = FakeRunner({SHOW: Completed(1, "", "Failed to connect to bus\n")})
    for found in (supervisor(42, proc, runner), owner_unit("redis", None, runner)):
        assert found is not None
        assert found["problem"] is None
        assert "Failed to connect to bus" in found["error"]["message"]
