# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Mapping

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._engine import registry
from ansible_collections.fleet.criu.plugins.module_utils._engine.process import _AGENTS as AGENTS
from ansible_collections.fleet.criu.plugins.module_utils._engine.process import (
    Description,
    describe,
    find,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import (
    AmbiguousWorkload,
    CriuError,
    WorkloadNotFound,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff import reviver, start
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed
from ansible_collections.fleet.criu.tests.unit.fakes import BOOT_TIME, FakeProc, FakeRunner

SHOW = ("systemctl", "show", "--property", "MainPID", "--value", "--")
TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


def found(proc: FakeProc, runner: FakeRunner | None = None, **description: Any) -> Identity:
    return find(Description.from_dict(description), proc, runner or FakeRunner())


# By pid


def test_by_pid(proc: FakeProc) -> None:
    proc.add(42, start_time=77)
    assert found(proc, pid=42) == Identity(42, 77)


@pytest.mark.parametrize("state", [None, "Z"])
def test_a_pid_that_does_not_live_is_not_found(proc: FakeProc, state: str | None) -> None:
    if state is not None:
        proc.add(42, state=state)
    with pytest.raises(WorkloadNotFound, match="No workload with pid 42 runs here: there is no process 42"):
        found(proc, pid=42)


# By pid file


def test_by_pid_file(proc: FakeProc, tmp_path: Path) -> None:
    path = tmp_path / "redis.pid"
    path.write_text("42\n")
    os.utime(path, (BOOT_TIME + 1000, BOOT_TIME + 1000))
    proc.add(42, start_time=900 * TICKS)
    assert found(proc, pid_file=str(path)) == Identity(42, 900 * TICKS)


# By systemd unit


def test_by_unit(proc: FakeProc) -> None:
    proc.add(42, start_time=77)
    runner = FakeRunner({SHOW: Completed(0, "42\n")})
    assert found(proc, runner, unit="redis.service") == Identity(42, 77)
    assert runner.argvs == [[*SHOW, "redis.service"]]


@pytest.mark.parametrize(
    "completed",
    [Completed(0, "0\n"), Completed(0, "\n"), Completed(1, "42\n", "no bus"), Completed(0, "MainPID=42\n")],
)
def test_a_unit_without_main_process_finds_nothing(proc: FakeProc, completed: Completed) -> None:
    proc.add(42)
    with pytest.raises(WorkloadNotFound, match=r"unit redis\.service has no main process here\.") as caught:
        found(proc, FakeRunner({SHOW: completed}), unit="redis.service")
    assert completed.stderr in caught.value.message


# In the unit that a move or a restore has put it into


AGENT = ["python3", "-I", "-S", "-c", "…", "/run/x/agent.zip", f"{AGENTS}receiver", "/run/x"]
OWNERS = ["criu-redis.service", "mine@2.service"]


def units(runs: Mapping[str, int]) -> FakeRunner:
    """A systemd with these main processes."""
    return FakeRunner(
        {SHOW: lambda command: Completed(0, "\n\n".join(str(runs.get(unit, 0)) for unit in command.argv[6:]) + "\n")}
    )


def looked_for(proc: FakeProc, runs: Mapping[str, int], **description: Any) -> Identity:
    return find(Description.from_dict(description, OWNERS), proc, units(runs))


@pytest.mark.parametrize("owner", OWNERS)
def test_a_workload_that_was_moved_is_found_in_the_owner_s_unit(proc: FakeProc, owner: str, tmp_path: Path) -> None:
    proc.add(42, ["redis"], start_time=77)
    for description in ({"unit": "redis.service"}, {"pid_file": str(tmp_path / "no.pid")}, {"command": ["redis -x"]}):
        assert looked_for(proc, {owner: 42}, **description) == Identity(42, 77)


def test_a_workload_that_was_not_moved_is_found_as_described(proc: FakeProc) -> None:
    proc.add(42, start_time=77)
    assert looked_for(proc, {"redis.service": 42}, unit="redis.service") == Identity(42, 77)
    assert looked_for(proc, {"mine@2.service": 42}, unit="mine@2.service") == Identity(42, 77)


def test_a_workload_that_runs_as_described_and_in_the_owner_s_unit_is_ambiguous(proc: FakeProc) -> None:
    proc.add(42, ["redis"])
    proc.add(43, ["redis", "-x"])
    for description in ({"unit": "redis.service"}, {"command": ["redis"]}):
        with pytest.raises(AmbiguousWorkload, match=r"more than once: .*\bcriu-redis\.service") as caught:
            looked_for(proc, {"redis.service": 42, "criu-redis.service": 43}, **description)
        assert caught.value.facts == {"pids": [42, 43]}


def test_a_workload_in_two_owner_s_units_is_ambiguous(proc: FakeProc) -> None:
    proc.add(42)
    proc.add(43)
    with pytest.raises(AmbiguousWorkload, match=r"42 \(unit criu-redis\.service\) and 43 \(unit mine@2\.service\)"):
        looked_for(proc, {"criu-redis.service": 42, "mine@2.service": 43}, unit="redis.service")


def test_one_workload_under_two_names_is_no_second_copy(proc: FakeProc) -> None:
    proc.add(42, ["init"], start_time=77)
    proc.add(43, ["redis"], parent=42, start_time=78)
    assert looked_for(proc, {"redis.service": 42, "criu-redis.service": 42}, unit="redis.service").pid == 42
    assert looked_for(proc, {"criu-redis.service": 42}, command=["redis"]).pid == 43
    assert looked_for(proc, {"criu-redis.service": 43}, command=["init"]).pid == 42


def test_the_agent_that_waits_in_a_unit_is_not_its_workload(proc: FakeProc) -> None:
    proc.add(50, AGENT)
    for runs in ({"criu-redis.service": 50}, {"redis.service": 50}, {}):
        with pytest.raises(WorkloadNotFound, match=r"unit redis\.service has no main process here"):
            looked_for(proc, runs, unit="redis.service")
    proc.add(42, start_time=77)
    assert looked_for(proc, {"redis.service": 42, "criu-redis.service": 50}, unit="redis.service").pid == 42


def test_what_is_described_by_pid_or_container_is_looked_for_there_alone(
    proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "ENGINES", {"known": Known})
    proc.add(42)
    proc.add(43)
    for description in ({"pid": 42}, {"engine": "known", "container": "web"}):
        assert looked_for(proc, {"criu-redis.service": 43}, **description).pid == 42


def test_a_systemd_that_does_not_answer_hides_no_workload(proc: FakeProc) -> None:
    proc.add(42, ["redis"])
    silent = FakeRunner({SHOW: Completed(1, "", "no bus")})
    assert find(Description.from_dict({"command": ["redis"]}, OWNERS), proc, silent).pid == 42


def test_what_an_agent_has_among_its_arguments() -> None:
    assert start.RECEIVER.startswith(AGENTS)
    assert reviver.__name__.startswith(AGENTS)


# By engine and container


class Known:
    """An engine that has the container web; `pid` is that of its init."""

    pid = 42

    def __init__(self, runner: Any, proc: Any) -> None:
        self.asked: list[str] = []

    def is_present(self) -> bool:
        return True

    def find(self, name: str) -> Any:
        if name != "web":
            raise WorkloadNotFound(f"known knows no container {name} here.")
        return SimpleNamespace(engine="known", pid=self.pid, state="running" if self.pid else "exited")


@pytest.fixture
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "ENGINES", {"known": Known})


@pytest.mark.usefixtures("_known")
def test_by_engine_and_container(proc: FakeProc) -> None:
    proc.add(42, start_time=77)
    assert found(proc, engine="known", container="web") == Identity(42, 77)


@pytest.mark.usefixtures("_known")
def test_a_container_that_does_not_run_is_not_found(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WorkloadNotFound, match="there is no process 42"):
        found(proc, engine="known", container="web")
    monkeypatch.setattr(Known, "pid", 0)
    with pytest.raises(WorkloadNotFound, match="known container web does not run here: it is exited"):
        found(proc, engine="known", container="web")
    with pytest.raises(WorkloadNotFound, match="known knows no container db here"):
        found(proc, engine="known", container="db")


def test_a_container_of_an_engine_that_is_not_supported_is_not_merely_absent(proc: FakeProc) -> None:
    with pytest.raises(CriuError, match="Docker's checkpoint is experimental") as caught:
        found(proc, engine="docker", container="web")
    assert not isinstance(caught.value, WorkloadNotFound)


# By command line


def test_by_the_exact_command_line(proc: FakeProc) -> None:
    proc.add(41, ["redis-server", "--port", "1"])
    proc.add(42, ["redis-server", "--port"], start_time=77)
    proc.add(43, ["redis-server"])
    assert found(proc, command=["redis-server", "--port"]) == Identity(42, 77)


@pytest.mark.parametrize("command", [["redis"], ["redis-server", "-a", "b"], ["redis-server -a"], ["-a"]])
def test_a_part_of_a_command_line_finds_nothing(proc: FakeProc, command: list[str]) -> None:
    proc.add(42, ["redis-server", "-a"])
    with pytest.raises(WorkloadNotFound, match="No process here has exactly the command line"):
        found(proc, command=command)


def test_a_command_line_that_is_not_found_is_shown_as_for_a_shell(proc: FakeProc) -> None:
    with pytest.raises(WorkloadNotFound, match="command line sh -c 'a b'"):
        found(proc, command=["sh", "-c", "a b"])


def test_several_processes_with_the_command_line_are_ambiguous(proc: FakeProc) -> None:
    for pid in (43, 42):
        proc.add(pid, ["redis"])
    with pytest.raises(AmbiguousWorkload, match=r"2 processes have the command line redis: pids \[42, 43\]") as caught:
        found(proc, command=["redis"])
    assert caught.value.facts == {"pids": [42, 43]}


def test_forks_of_the_workload_are_not_other_workloads(proc: FakeProc) -> None:
    proc.add(42, ["nginx"], parent=1)
    proc.add(43, ["nginx"], parent=42)
    proc.add(44, ["nginx"], parent=43)
    assert found(proc, command=["nginx"]).pid == 42


def test_a_zombie_with_the_command_line_is_not_found(proc: FakeProc) -> None:
    proc.add(42, ["redis"], state="Z")
    with pytest.raises(WorkloadNotFound):
        found(proc, command=["redis"])


def test_empty_arguments_at_the_end_count(proc: FakeProc) -> None:
    proc.add(42, ["prog", ""])
    assert found(proc, command=["prog", ""]).pid == 42


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"pid": 42}, "pid 42"),
        ({"pid_file": "/run/x.pid"}, "pid_file /run/x.pid"),
        ({"unit": "x.service"}, "unit x.service"),
        ({"command": ["a b", "c"]}, "command 'a b' c"),
        ({"container": "web", "engine": "podman"}, "podman container web"),
    ],
)
def test_a_description_is_told_in_its_own_words(given: dict[str, Any], text: str) -> None:
    assert str(Description.from_dict({"pid": None, "pid_file": None, "unit": None, "command": [], **given})) == text


def test_a_workload_is_described_in_plain_types(proc: FakeProc) -> None:
    proc.add(
        42,
        ["redis", "-x"],
        mounts="100 90 8:1 /srv/box / rw - ext4 /dev/sda1 rw",
        own_namespaces=["mnt", "net"],
        status="RssAnon:\t 2 kB\nUid:\t1000\t1000\t1000\t1000\n",
    )
    proc.add(43, parent=42, status="RssAnon:\t 1 kB\nUid:\t0\t0\t0\t0\n")
    assert describe(Identity(42, 77), proc) == {
        "pid": 42,
        "start_time": 77,
        "command": ["redis", "-x"],
        "root": "/srv/box",
        "namespaces": {
            "cgroup": "host",
            "ipc": "host",
            "mnt": "own",
            "net": "own",
            "pid": "host",
            "user": "host",
            "uts": "host",
        },
        "processes": 2,
        "uids": [0, 1000],
        "memory_bytes": 3 * 1024,
    }
