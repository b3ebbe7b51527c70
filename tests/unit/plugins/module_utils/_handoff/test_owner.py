# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import re
import socket
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff import owner as subject
from ansible_collections.fleet.criu.plugins.module_utils._handoff.owner import Notifier
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed
from ansible_collections.fleet.criu.tests.unit.fakes import FakeProc, FakeRunner

SHOW = ("systemctl", "show")


@pytest.fixture(autouse=True)
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for a host that was booted by systemd."""
    folder = tmp_path / "systemd"
    folder.mkdir()
    monkeypatch.setattr(subject, "_BOOTED_BY_SYSTEMD", folder)
    return folder


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


def shown(text: str) -> FakeRunner:
    return FakeRunner({SHOW: Completed(0, text)})


def test_systemd_is_there_if_it_booted_the_host(systemd: Path) -> None:
    assert subject.has_systemd()
    systemd.rmdir()
    assert not subject.has_systemd()


@pytest.mark.parametrize(
    ("workload", "wanted", "unit"),
    [
        ("gauge", None, "criu-gauge.service"),
        ("my-app_1.2:x", None, "criu-my-app_1.2:x.service"),
        ("a/b", None, r"criu-a\x2fb.service"),
        ("a@b c", None, r"criu-a\x40b\x20c.service"),
        ("é\\", None, r"criu-\xc3\xa9\x5c.service"),
        ("gauge", "web.service", "web.service"),
        ("gauge", "web", "web.service"),
        ("gauge", "web.io", "web.io.service"),
        ("gauge", "web@1", "web@1.service"),
        ("gauge", r"a\x2db", r"a\x2db.service"),
        ("x" * 242, None, "criu-" + "x" * 242 + ".service"),
    ],
)
def test_the_unit_s_name(workload: str, wanted: str | None, unit: str) -> None:
    assert subject.unit_name(workload, wanted) == unit


@pytest.mark.parametrize(
    "wanted", ["web.scope", "web.slice", "web.socket", "a b", "a/b", "é", "", "@x", "web@", "a\n", "x" * 248]
)
def test_a_name_that_systemd_would_not_take(wanted: str) -> None:
    with pytest.raises(CriuError, match="cannot be the unit of the workload gauge") as caught:
        subject.unit_name("gauge", wanted)
    assert caught.value.remedy


def test_a_unit_that_is_not_there_can_be_made() -> None:
    runner = shown("LoadState=not-found\nActiveState=inactive\nFragmentPath=\n")
    assert subject.unit_problem("u.service", runner) is None
    properties = "--property=LoadState,ActiveState,FragmentPath"
    assert runner.argvs == [["systemctl", "show", properties, "--", "u.service"]]


@pytest.mark.parametrize(
    ("load", "active", "path", "text"),
    [
        ("loaded", "active", "/run/systemd/transient/u.service", "is active here.*systemctl stop u.service"),
        ("loaded", "deactivating", "/run/systemd/transient/u.service", "is deactivating here"),
        ("loaded", "failed", "/run/systemd/transient/u.service", "systemctl reset-failed u.service"),
        ("loaded", "failed", "/etc/systemd/system/u.service", r"\(loaded, /etc/systemd/system/u.service\)"),
        ("loaded", "inactive", "/etc/systemd/system/u.service", r"\(loaded, /etc/systemd/system/u.service\)"),
        ("masked", "inactive", "", r"here already \(masked\)"),
    ],
)
def test_a_unit_that_is_there(load: str, active: str, path: str, text: str) -> None:
    runner = shown(f"LoadState={load}\nActiveState={active}\nFragmentPath={path}\n")
    problem = subject.unit_problem("u.service", runner)
    assert problem is not None
    assert re.search(text, problem)


def test_systemd_that_does_not_answer_is_an_error() -> None:
    runner = FakeRunner({SHOW: Completed(1, "", "Failed to connect to bus\n")})
    with pytest.raises(CommandFailed, match=r"u\.service: Failed to connect to bus") as caught:
        subject.unit_problem("u.service", runner)
    assert caught.value.remedy


def test_the_unit_ends_at_once_with_its_main_process_and_is_not_started_again() -> None:
    wanted = {"Type=notify", "NotifyAccess=all", "KillMode=mixed", "SendSIGKILL=yes", "Restart=no"}
    assert wanted | {"TimeoutStartSec=infinity", "OOMPolicy=continue", "TasksMax=infinity"} <= set(subject.properties())


def test_without_systemd_nothing_is_asked_or_said(systemd: Path, proc: FakeProc) -> None:
    systemd.rmdir()
    in_cgroup(proc, 42, "0::/system.slice/u.service")
    assert subject.unit_problem("u.service", FakeRunner()) is None
    assert subject.supervisor_problem(42, proc, FakeRunner()) is None
    notifier = Notifier.from_environment({})
    notifier.hand_over(42)
    notifier.confirm(42)


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The socket of a service manager, and its address as NOTIFY_SOCKET has it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@fleet.criu.{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(name if request.param == "path" else "\0" + name[1:])
        receiving.settimeout(5)
        yield name, receiving


def test_the_workload_becomes_the_main_process_in_one_message(manager: tuple[str, socket.socket]) -> None:
    address, receiving = manager
    Notifier(address).hand_over(4711)
    assert receiving.recv(100) == b"MAINPID=4711\nREADY=1"


def test_the_main_process_is_said_anew_by_way_of_ourselves(manager: tuple[str, socket.socket]) -> None:
    address, receiving = manager
    Notifier(address).confirm(4711)
    assert [receiving.recv(100), receiving.recv(100)] == [b"MAINPID=%d" % os.getpid(), b"MAINPID=4711"]
    receiving.settimeout(0)
    with pytest.raises(BlockingIOError):
        receiving.recv(100)


def test_messages_go_together_in_one_system_call() -> None:
    class OneCall(socket.socket):
        def send(self, *arguments: object) -> int:
            raise AssertionError("our death could come in between")

    receiving, sending = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with receiving, OneCall(fileno=sending.detach()) as connected:
        subject._send_together(connected, [b"one", b"second", b"3"])
        assert [receiving.recv(100) for _message in range(3)] == [b"one", b"second", b"3"]


def test_no_child_can_speak_for_us(manager: tuple[str, socket.socket]) -> None:
    address, receiving = manager
    environment = {"NOTIFY_SOCKET": address, "PATH": "/bin"}
    notifier = Notifier.from_environment(environment)
    assert environment == {"PATH": "/bin"}
    notifier.hand_over(1)
    assert receiving.recv(100)


def test_a_manager_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CriuError, match=r"could not be told of the restored workload: .*No such file") as caught:
        Notifier(str(tmp_path / "none")).hand_over(1)
    assert caught.value.remedy


def test_a_manager_that_does_not_read_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_SEND_SECONDS", 1)
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving, socket.socket(
        socket.AF_UNIX, socket.SOCK_DGRAM
    ) as flooding:
        receiving.bind(path)
        flooding.connect(path)
        flooding.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                flooding.send(b"x")
        with pytest.raises(CriuError, match="could not be told"):
            Notifier(path).hand_over(1)


def in_cgroup(proc: FakeProc, pid: int, lines: str, parent: int = 1) -> None:
    proc.add(pid, parent=parent)
    (proc.folder / str(pid) / "cgroup").write_text(lines + "\n")


def service(restart: str, main: int, force: str = "", success: str = "") -> FakeRunner:
    text = f"Restart={restart}\nMainPID={main}\nRestartForceExitStatus={force}\nSuccessExitStatus={success}\n"
    return shown(text)


# What systemd 257 did when the main process of such a service got SIGKILL.
@pytest.mark.parametrize(
    ("restart", "again"),
    [
        ("no", False),
        ("on-success", False),
        ("on-watchdog", False),
        ("on-failure", True),
        ("on-abnormal", True),
        ("on-abort", True),
        ("always", True),
    ],
)
def test_a_service_that_would_start_the_workload_again(proc: FakeProc, restart: str, again: bool) -> None:
    in_cgroup(proc, 42, "0::/system.slice/web.service")
    runner = service(restart, 42)
    problem = subject.supervisor_problem(42, proc, runner)
    assert (problem is not None) == again
    assert runner.argvs[0][:2] == ["systemctl", "show"]
    assert runner.argvs[0][-1] == "web.service"
    if problem is not None:
        assert f"web.service with Restart={restart}" in problem
        assert "Restart=no" in problem
        assert "(systemctl edit --runtime web.service)" in problem


@pytest.mark.parametrize(
    ("restart", "main", "again"),
    [
        ("on-success", 40, True),  # a parent: nobody knows how it ends
        ("on-watchdog", 40, False),
        ("no", 40, False),
        ("always", 43, True),  # a child of the workload's init
        ("always", 50, False),  # somebody else, who lives on
        ("on-success", 0, True),
        ("no", 0, False),
    ],
)
def test_the_main_process_may_be_another(proc: FakeProc, restart: str, main: int, again: bool) -> None:
    for pid, parent in ((40, 1), (42, 40), (43, 42), (50, 1)):
        in_cgroup(proc, pid, "0::/system.slice/web.service", parent)
    assert (subject.supervisor_problem(42, proc, service(restart, main)) is not None) == again


@pytest.mark.parametrize(
    ("restart", "force", "success", "again"),
    [
        ("no", "3 KILL", "", True),
        ("no", "3", "", False),
        ("on-success", "", "KILL", True),
        ("on-failure", "", "KILL", False),
        ("always", "", "KILL", True),
    ],
)
def test_what_counts_as_success_may_be_set(proc: FakeProc, restart: str, force: str, success: str, again: bool) -> None:
    in_cgroup(proc, 42, "0::/system.slice/web.service")
    assert (subject.supervisor_problem(42, proc, service(restart, 42, force, success)) is not None) == again


@pytest.mark.parametrize(
    "lines",
    [
        "0::/system.slice/web.service/inner/part",
        "9:name=systemd:/\n3:cpu,cpuacct:/other.service\n0::/system.slice/web.service",
        "9:name=systemd:/system.slice/web.service\n0::/",
        "0::/machine.slice/outer.service/payload/web.service",
    ],
)
def test_the_service_is_the_last_one_of_the_cgroup(proc: FakeProc, lines: str) -> None:
    in_cgroup(proc, 42, lines)
    runner = service("always", 42)
    assert subject.supervisor_problem(42, proc, runner) is not None
    assert runner.argvs[0][-1] == "web.service"


@pytest.mark.parametrize("lines", ["0::/", "0::/user.slice/user-0.slice/session-1.scope", "3:cpu:/x.service"])
def test_a_workload_of_no_service_is_not_started_again(proc: FakeProc, lines: str) -> None:
    in_cgroup(proc, 42, lines)
    assert subject.supervisor_problem(42, proc, FakeRunner()) is None


def test_a_process_that_is_gone_belongs_to_no_service(proc: FakeProc) -> None:
    assert subject.supervisor_problem(42, proc, FakeRunner()) is None


def test_a_user_s_service_is_asked_of_the_user_s_manager(proc: FakeProc) -> None:
    in_cgroup(proc, 42, "0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service")
    runner = FakeRunner({("systemctl", "--user"): Completed(0, "Restart=always\nMainPID=42\n")})
    problem = subject.supervisor_problem(42, proc, runner)
    assert runner.argvs[0][:4] == ["systemctl", "--user", "--machine=1000@.host", "show"]
    assert problem is not None
    assert "systemctl --user --machine=1000@.host edit --runtime web.service" in problem


def test_the_units_that_a_workload_may_live_in() -> None:
    assert subject.owner_units("redis", None) == ["criu-redis.service"]
    assert subject.owner_units("redis", "mine@2") == ["criu-redis.service", "mine@2.service"]
    assert subject.owner_units("redis", "criu-redis") == ["criu-redis.service"]
    assert subject.owner_units("a/b", "no unit") == [r"criu-a\x2fb.service"]
    assert subject.owner_units("x" * 300, "mine") == ["mine.service"]


def starts(**properties: str) -> FakeRunner:
    return shown("".join(f"{name}={value}\n" for name, value in {"MainPID": "42", **properties}.items()))


@pytest.mark.parametrize(
    ("properties", "says", "command"),
    [
        ({"UnitFileState": "enabled"}, "at the next boot", "systemctl disable web.service"),
        ({"UnitFileState": "enabled", "MainPID": "0"}, "at the next boot", "systemctl disable web.service"),
        ({"UnitFileState": "static", "WantedBy": "a.target"}, "at the next boot", "systemctl mask web.service"),
        ({"UnitFileState": "generated", "RequiredBy": "b.service"}, "at the next boot", "systemctl mask web.service"),
        (
            {"UnitFileState": "disabled", "TriggeredBy": "web.socket"},
            "as soon as web.socket is triggered",
            "systemctl disable --now web.socket",
        ),
    ],
)
def test_what_starts_the_workload_anew_later(
    proc: FakeProc, properties: dict[str, str], says: str, command: str
) -> None:
    in_cgroup(proc, 42, "0::/system.slice/web.service")
    found = subject.later_start(42, proc, starts(**properties))
    assert found is not None
    assert says in found
    assert found.endswith(f": {command}.")


@pytest.mark.parametrize(
    "properties",
    [
        {"UnitFileState": "disabled"},
        {"UnitFileState": "transient"},
        {"UnitFileState": "enabled-runtime", "WantedBy": "a.target"},
        {"UnitFileState": "static"},
        {"UnitFileState": "enabled", "MainPID": "50"},  # a service that the workload was only started from
    ],
)
def test_what_starts_nothing_later(proc: FakeProc, properties: dict[str, str]) -> None:
    in_cgroup(proc, 42, "0::/system.slice/web.service")
    in_cgroup(proc, 50, "0::/system.slice/web.service")
    assert subject.later_start(42, proc, starts(**properties)) is None


def test_outside_of_a_service_nothing_starts_later_or_fails(proc: FakeProc) -> None:
    in_cgroup(proc, 42, "0::/user.slice/user-0.slice/session-1.scope")
    assert subject.later_start(42, proc, FakeRunner()) is None
    assert subject.unit_left_by(42, proc, FakeRunner()) is None


@pytest.mark.parametrize(("main", "unit"), [("42", "web.service"), ("43", "web.service"), ("40", None), ("0", None)])
def test_a_unit_fails_if_its_main_process_goes_with_the_workload(proc: FakeProc, main: str, unit: str | None) -> None:
    for pid, parent in ((40, 1), (42, 40), (43, 42)):
        in_cgroup(proc, pid, "0::/system.slice/web.service", parent)
    assert subject.unit_left_by(42, proc, starts(MainPID=main)) == unit


def test_a_systemd_that_does_not_answer_keeps_nothing_from_moving(proc: FakeProc) -> None:
    in_cgroup(proc, 42, "0::/system.slice/web.service")
    assert subject.unit_left_by(42, proc, FakeRunner({SHOW: Completed(1, "", "no bus")})) is None


@pytest.mark.parametrize(("states", "is_forgotten"), [(["active", "failed"], True), (["inactive"], False)])
def test_a_failure_is_forgotten_once_it_is_there(states: list[str], is_forgotten: bool) -> None:
    left = list(states)
    runner = FakeRunner(
        {
            SHOW: lambda command: Completed(0, f"ActiveState={left.pop(0)}\n"),
            ("systemctl", "reset-failed", "--", "web.service"): Completed(0),
        }
    )
    subject.forget_failure("web.service", runner)
    assert (runner.argvs[-1][1] == "reset-failed") == is_forgotten
    assert left == []


def test_a_unit_that_lives_on_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_END_SECONDS", 0.06)
    subject.forget_failure("web.service", shown("ActiveState=active\n"))
