# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator, Mapping

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._criu.feature import Criu
from ansible_collections.fleet.criu.plugins.module_utils._criu.stage import Stages
from ansible_collections.fleet.criu.plugins.module_utils._engine import registry
from ansible_collections.fleet.criu.plugins.module_utils._engine.runc import Runc
from ansible_collections.fleet.criu.plugins.module_utils._engine.stand_in import READY
from ansible_collections.fleet.criu.plugins.module_utils._engine.transfer import (
    Arriving,
    Leaving,
    forget_checkpoint,
    remove_leftovers,
    require_scripts,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError, CriuMissing, WorkloadNotFound
from ansible_collections.fleet.criu.tests.unit import playing_engine
from ansible_collections.fleet.criu.tests.unit.fake_engine import FakeEngine
from ansible_collections.fleet.criu.tests.unit.fakes import FakeProc

PID = 42
WANTED = {"name": "fake", "container": "web", "sources": {"/data": "/mnt/data"}}
CONFIGURATION = {"engine": "fake", "secret": "s3cret"}
NEW, OLD = Criu("/usr/sbin/criu", "3.19", (3, 19)), Criu("/usr/sbin/criu", "3.18.1", (3, 18, 1))


class Bench:
    """A host with an engine, and stages for CRIU."""

    def __init__(self, folder: Path, stages: Stages) -> None:
        self.runner: Any = SimpleNamespace(folder=folder)
        self.proc = FakeProc(folder / "proc")
        self.engine = FakeEngine(self.runner, self.proc)
        self.images = folder / "images"
        self.stages = stages

    def put(self, state: str = "running", pid: int = PID, name: str = "web") -> None:
        playing_engine.put(self.engine.folder, name, state, pid)

    def leaving(self, pid: int = PID) -> Leaving:
        return Leaving(WANTED, pid, self.runner, self.proc)

    def arriving(self) -> Arriving:
        return Arriving("redis", WANTED, self.runner, self.proc)

    def arrive(self, arriving: Arriving, criu: Criu = NEW, configuration: Mapping[str, Any] | None = None) -> Any:
        given = CONFIGURATION if configuration is None else configuration
        return arriving.command(given, self.images, "/srv/box", Options(), criu, self.stages, waits=True)

    def leave(self, wanted: Mapping[str, Any] | None = None, pid: int | None = PID) -> None:
        remove_leftovers(wanted or WANTED, pid, self.runner, self.proc)

    def book(self) -> list[str]:
        path = self.engine.folder / "book"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(registry, "ENGINES", {"fake": FakeEngine})
    with Stages({READY: lambda pid: None}, tmp_path / "stages") as stages:
        yield Bench(tmp_path, stages)


def expect_stand_in(bench: Bench, environment: Mapping[str, str], waits: bool) -> None:
    folder = Path(bench.stages.script).parent / "stand-in"
    assert environment["PATH"] == f"{folder}:{os.environ['PATH']}"
    assert f"action-script {bench.stages.script}" in (folder / "criu.conf").read_text()
    assert f"main('/usr/sbin/criu', '{folder}/criu.conf'" in (folder / "criu").read_text()
    assert (str(bench.stages.folder) + "'" in (folder / "criu").read_text()) == waits


# At the source


def test_the_engine_checkpoints_the_container_with_us_in_the_place_of_criu(bench: Bench) -> None:
    bench.put()
    leaving = bench.leaving()
    command = leaving.command(bench.images, Options(), NEW, bench.stages, waits=True)
    assert list(command.argv)[1:3] == ["checkpoint", "web"]
    expect_stand_in(bench, command.environment, waits=True)
    assert leaving.own_mountpoints == {"/proc"}
    assert leaving.configuration() == CONFIGURATION


def test_without_waiting_criu_begins_at_once(bench: Bench) -> None:
    bench.put()
    command = bench.leaving().command(bench.images, Options(), NEW, bench.stages, waits=False)
    expect_stand_in(bench, command.environment, waits=False)


def test_an_engine_may_need_more_than_a_path(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def environment(engine: Any, given: Mapping[str, str], folder: Path) -> Mapping[str, str]:
        return {**given, "OVERRIDE": str(folder / "override")}

    monkeypatch.setattr(FakeEngine, "environment", environment)
    bench.put()
    command = bench.leaving().command(bench.images, Options(), NEW, bench.stages, waits=True)
    assert command.environment["OVERRIDE"] == str(Path(bench.stages.script).parent / "stand-in" / "override")


@pytest.mark.parametrize(("state", "pid"), [("running", 43), ("exited", 0)])
def test_a_container_that_does_not_run_as_that_process_is_not_the_workload(bench: Bench, state: str, pid: int) -> None:
    bench.put(state, pid)
    with pytest.raises(WorkloadNotFound, match="fake container web does not run here as process 42"):
        bench.leaving()


def test_a_container_that_is_gone_is_not_found(bench: Bench) -> None:
    with pytest.raises(WorkloadNotFound, match="fake knows no container web here"):
        bench.leaving()


def test_every_problem_of_a_container_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeEngine, "complaints", ("it has a terminal", "it is part of a pod"))
    bench.put()
    with pytest.raises(CriuError, match="web cannot be moved: it has a terminal; it is part of a pod"):
        bench.leaving()


def test_a_container_that_runs_on_has_its_checkpoint_forgotten_and_one_that_has_gone_is_removed(bench: Bench) -> None:
    bench.put()
    leaving = bench.leaving()
    leaving.run_on(Path("/images"))
    assert bench.book() == ["forget"]
    leaving.remove()
    assert bench.book() == ["forget", "remove web"]


def test_a_criu_that_asks_nobody_for_an_engine_is_refused_on_both_hosts(bench: Bench) -> None:
    arriving = bench.arriving()
    with pytest.raises(CriuMissing, match=r"CRIU 3\.18\.1 does not run an action script for an engine") as caught:
        bench.arrive(arriving, OLD)
    assert caught.value.remedy == "Install CRIU 3.19 or later."
    bench.put()
    with pytest.raises(CriuMissing):
        bench.leaving().command(bench.images, Options(), OLD, bench.stages, waits=True)
    arriving.remove()
    assert bench.book() == []


@pytest.mark.parametrize("number", [(3, 19), (3, 19, 1), (4,), (4, 1, 1)])
def test_criu_runs_scripts_for_engines_since_3_19(number: tuple[int, ...]) -> None:
    require_scripts(Criu("/usr/sbin/criu", "x", number))


def test_an_engine_may_leave_it_to_us_what_criu_must_know(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        FakeEngine, "criu_lines", lambda engine, configuration: [f"enable-fs {sorted(configuration)[0]}"]
    )
    line = f"enable-fs {sorted(CONFIGURATION)[0]}"
    configuration = Path(bench.stages.script).parent / "stand-in" / "criu.conf"
    bench.arrive(bench.arriving())
    assert configuration.read_text().splitlines()[-1] == line
    configuration.unlink()
    bench.put()
    bench.leaving().command(bench.images, Options(), NEW, bench.stages, waits=True)
    assert configuration.read_text().splitlines()[-1] == line


# At the target


def test_the_engine_restores_the_container_with_what_it_has_here(bench: Bench) -> None:
    command = bench.arrive(bench.arriving())
    assert list(command.argv)[1:3] == ["restore", "web"]
    expect_stand_in(bench, command.environment, waits=True)
    assert json.loads((bench.engine.folder / "arrival").read_text()) == {
        "sources": {"/data": "/mnt/data"},
        "root": "/srv/box",
        "configuration": CONFIGURATION,
    }


@pytest.mark.parametrize("state", ["running", "exited"])
def test_a_name_that_is_taken_is_refused_and_what_has_it_stays(bench: Bench, state: str) -> None:
    bench.put(state)
    arriving = bench.arriving()
    with pytest.raises(CriuError, match=rf"fake has a container web here already \({state}\)") as caught:
        bench.arrive(arriving)
    assert "fake erase web" in caught.value.remedy
    assert caught.value.facts["container"]["state"] == state
    arriving.remove()
    assert bench.book() == []
    assert bench.engine.find("web").state == state


@pytest.mark.parametrize("configuration", [{}, {"engine": "runc"}])
def test_what_another_engine_has_checkpointed_is_refused(bench: Bench, configuration: dict[str, Any]) -> None:
    arriving = bench.arriving()
    with pytest.raises(CriuError, match="fake cannot restore the images of a container of") as caught:
        bench.arrive(arriving, configuration=configuration)
    assert "same engine on both hosts" in caught.value.remedy
    arriving.remove()
    assert bench.book() == []


def test_only_what_the_engine_has_begun_with_is_removed(bench: Bench) -> None:
    arriving = bench.arriving()
    arriving.remove()
    assert bench.book() == []
    bench.arrive(arriving)
    arriving.remove()
    assert bench.book() == ["remove web"]


def test_where_the_engine_has_its_own_is_asked_by_name(bench: Bench) -> None:
    assert bench.arriving().folders() == {"fake-root": "/target/web/root", "fake-memory": "/target/web/memory"}


# What is left when a handoff is over


@pytest.mark.parametrize(
    ("state", "pid", "ours", "is_removed"),
    [
        ("running", PID, PID, True),
        ("running", 43, PID, False),
        ("running", 43, None, False),
        ("exited", 0, PID, True),
        ("created", 0, None, True),
    ],
)
def test_leftovers_go_but_not_what_runs_as_another_process(
    bench: Bench, state: str, pid: int, ours: int | None, is_removed: bool
) -> None:
    bench.put(state, pid)
    bench.put("exited", 0, "other")
    bench.leave(pid=ours)
    assert bench.book() == (["remove web"] if is_removed else [])


def test_the_checkpoint_of_a_container_that_lives_on_is_forgotten(bench: Bench) -> None:
    forget_checkpoint(WANTED, Path("/images"), bench.runner, bench.proc)
    assert bench.book() == [], "there is none"
    bench.put()
    forget_checkpoint(WANTED, Path("/images"), bench.runner, bench.proc)
    assert bench.book() == ["forget"]


def test_where_there_is_no_container_or_no_engine_nothing_is_left(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.leave()
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(registry, "ENGINES", {"runc": Runc})
    bench.leave({**WANTED, "name": "runc"})
    forget_checkpoint({**WANTED, "name": "runc"}, Path("/images"), bench.runner, bench.proc)
    assert bench.book() == []
