# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json, write_json
from ansible_collections.fleet.criu.plugins.module_utils._handoff import agent as subject
from ansible_collections.fleet.criu.plugins.module_utils._handoff import archive
from ansible_collections.fleet.criu.plugins.module_utils._handoff.agent import Report
from ansible_collections.fleet.criu.plugins.module_utils._handoff.archive import install
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed, SubprocessRunner
from ansible_collections.fleet.criu.tests.unit.fakes import FakeRunner

CODE = "ansible_collections.fleet.criu.plugins.module_utils"
ENTRY = f"{CODE}._handoff.entry_for_a_test"

# Does what `orders` in its folder says.
SOURCE = """
import os, signal, sys, time
from pathlib import Path
from ansible_collections.fleet.criu.plugins.module_utils._handoff.agent import Report

def main(folder):
    orders = (Path(folder) / "orders").read_text("utf-8")
    report = Report(Path(folder))
    exec(orders)
    return 0
"""


def follow(folder: Path, seconds: float) -> dict[str, Any]:
    """What following tells, but for where."""
    found = subject.follow(folder, seconds)
    assert found.pop("folder") == str(folder)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of an agent with its code, `é $HOME %n` in its path. No agent outlives the test."""
    monkeypatch.setattr(archive, "CODE_FOLDER", tmp_path / "code")
    path = tmp_path / "entry.py"
    path.write_text(SOURCE, "utf-8")
    add_module(monkeypatch, ENTRY, path)
    folder = tmp_path / "é $HOME %n"
    folder.mkdir(mode=0o700)
    install(folder)
    yield folder
    if (folder / "agent.json").exists() and subject.is_alive(folder):
        os.kill(read_json(folder / "agent.json")["pid"], signal.SIGKILL)


def add_module(monkeypatch: pytest.MonkeyPatch, name: str, path: Path) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)


def start(folder: Path, orders: str) -> None:
    (folder / "orders").write_text(orders, "utf-8")
    subject.start(folder, ENTRY, None, [], SubprocessRunner())


def pid_of(folder: Path) -> int:
    return int(read_json(folder / "agent.json")["pid"])


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_an_agent_outlives_us_in_a_session_of_its_own(folder: Path) -> None:
    write_json(folder / "result.json", {"old": True})
    write_json(folder / "progress.json", {"old": True})
    before = os.getpid()
    start(
        folder,
        "print(os.getsid(0) == os.getpgid(0), os.getcwd(), os.readlink('/proc/self/fd/0'), os.environ['LC_ALL'],"
        " flush=True); print(os.umask(0), sys.flags.isolated, sys.flags.no_site, file=sys.stderr, flush=True);"
        " report.progress(at=1); report.log('up'); time.sleep(30)",
    )
    stat = Proc().stat(pid_of(folder))
    assert stat is not None
    assert stat.parent != before
    assert os.getsid(stat.pid) == stat.pid
    assert read_json(folder / "agent.json") == {"pid": stat.pid, "start_time": stat.start_time, "started": True}
    seen = wait_for(folder, "up\n")
    assert seen.startswith("True / /dev/null C\n63 1 1\n")
    assert follow(folder, 0) == {"finished": False, "result": None, "progress": {"at": 1}, "alive": True}
    assert {mode(path) for path in folder.glob("agent.*")} | {mode(folder / "progress.json")} == {0o600}


def test_what_an_agent_writes_is_for_its_owner_alone(folder: Path) -> None:
    def as_systemd_does(command: Command, while_running: object = None) -> Completed:
        return SubprocessRunner()(Command(["sh", "-c", 'umask 022; exec "$@"', "sh", *command.argv]))

    (folder / "orders").write_text("(Path(folder) / 'new').touch(); report.finish({})", "utf-8")
    subject.start(folder, ENTRY, None, [], as_systemd_does)
    assert follow(folder, 10)["finished"]
    assert mode(folder / "new") == 0o600


def wait_for(folder: Path, text: str) -> str:
    until = time.monotonic() + 10
    while not (folder / "agent.log").read_text("utf-8").endswith(text) and time.monotonic() < until:
        time.sleep(0.01)
    return (folder / "agent.log").read_text("utf-8")


def test_there_is_one_agent_at_a_time(folder: Path) -> None:
    start(folder, "time.sleep(30)")
    first = pid_of(folder)
    with pytest.raises(CriuError, match="An agent runs already"):
        start(folder, "")
    assert pid_of(folder) == first
    assert subject.is_alive(folder)


def test_an_agent_that_cannot_start_is_told_at_once_with_what_it_said(folder: Path) -> None:
    started = time.monotonic()
    with pytest.raises(CriuError, match=r"(?s)did not start.*No module named 'no_such'") as caught:
        subject.start(folder, "no_such", None, [], SubprocessRunner())
    assert time.monotonic() - started < 10
    assert str(folder / "agent.log") in caught.value.remedy


def test_an_agent_that_never_comes_is_not_waited_for_for_ever(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_START_SECONDS", 0.1)
    monkeypatch.setattr(subject, "has_systemd", lambda: True)
    runner = FakeRunner(
        {("systemd-run",): Completed(0), ("systemctl", "status"): Completed(3, "u.service: failed with 203/EXEC\n")}
    )
    with pytest.raises(CriuError, match=r"did not start\. u\.service: failed with 203/EXEC"):
        subject.start(folder, ENTRY, "u.service", [], runner)
    assert runner.argvs[-1][-2:] == ["--", "u.service"]


def test_a_command_that_fails_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "has_systemd", lambda: True)
    runner = FakeRunner({("systemd-run",): Completed(1, "", "Unit u.service was already loaded\n")})
    with pytest.raises(CommandFailed, match=r"could not be started: Unit u\.service was already loaded"):
        subject.start(folder, ENTRY, "u.service", [], runner)


def test_with_systemd_the_agent_is_a_service(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(command: Any) -> Completed:
        write_json(folder / "agent.json", {"pid": os.getpid(), "start_time": start_time(os.getpid()), "started": True})
        return Completed(0)

    monkeypatch.setattr(subject, "has_systemd", lambda: True)
    runner = FakeRunner({("systemd-run",): started})
    subject.start(folder, ENTRY, "u.service", ["Type=notify", "KillMode=mixed"], runner)
    (folder / "agent.json").unlink()
    [argv] = runner.argvs
    assert argv[: argv.index("--")] == [
        *("systemd-run", "--no-block", "--quiet", "--collect", "--unit=u.service"),
        *("--description=u.service (fleet.criu)", "--setenv=LC_ALL=C"),
        *("--property=Type=notify", "--property=KillMode=mixed"),
    ]
    program, archive, entry, given = argv[-4:]
    assert argv[argv.index("--") + 1 : -4] == [sys.executable, "-I", "-S", "-c"]
    assert (archive, entry, given) == (f"{given}/agent.zip", ENTRY, str(folder).replace("$", "$$"))
    assert "$" not in program
    assert "%" not in program


def start_time(pid: int) -> int:
    stat = Proc().stat(pid)
    assert stat is not None
    return stat.start_time


def test_a_result_ends_the_wait(folder: Path) -> None:
    start(folder, "report.progress(at=1); report.progress(at=2, more=3); time.sleep(0.3); report.finish({'ok': True})")
    began = time.monotonic()
    seen = follow(folder, 20)
    assert time.monotonic() - began < 10
    assert seen["finished"]
    assert seen["result"] == {"ok": True}
    assert seen["progress"] == {"at": 2, "more": 3}


def test_a_death_without_a_result_ends_the_wait(folder: Path) -> None:
    start(folder, "time.sleep(0.3); os.kill(os.getpid(), signal.SIGKILL)")
    began = time.monotonic()
    assert follow(folder, 20) == {"finished": False, "result": None, "progress": {}, "alive": False}
    assert 0.1 < time.monotonic() - began < 10


def test_a_result_is_not_missed_if_the_agent_ends_right_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies_now(folder: Path) -> bool:
        write_json(tmp_path / "result.json", {"ok": True})
        return False

    monkeypatch.setattr(subject, "is_alive", dies_now)
    assert follow(tmp_path, 5)["result"] == {"ok": True}


def test_a_wait_ends_in_time(folder: Path) -> None:
    start(folder, "time.sleep(30)")
    began = time.monotonic()
    assert follow(folder, 0.1)["alive"]
    assert 0.1 <= time.monotonic() - began < 5


def test_an_exception_is_in_the_log(folder: Path) -> None:
    start(folder, "raise RuntimeError('ours')")
    assert not follow(folder, 10)["alive"]
    assert "RuntimeError: ours" in (folder / "agent.log").read_text("utf-8")


def test_progress_is_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(subject.time, "monotonic", lambda: now)
    report = Report(tmp_path)
    report.progress(bytes=1)
    now += 0.19
    report.progress(bytes=2, step="dump")
    assert read_json(tmp_path / "progress.json") == {"bytes": 1}
    now += 0.02
    report.progress(bytes=3)
    assert read_json(tmp_path / "progress.json") == {"bytes": 3, "step": "dump"}
    report.progress(bytes=4, forced=True)
    assert read_json(tmp_path / "progress.json") == {"bytes": 4, "step": "dump"}
    report.progress(bytes=5)
    report.finish({"ok": True})
    assert read_json(tmp_path / "progress.json")["bytes"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["progress.json", "result.json"]


def test_each_line_of_the_log_has_its_time(tmp_path: Path) -> None:
    report = Report(tmp_path)
    report.log("one")
    report.log("two\nthree é")
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
    text = (tmp_path / "agent.log").read_text("utf-8")
    assert re.fullmatch(f"{stamp} one\n{stamp} two\n{stamp} three é\n", text)
    assert mode(tmp_path / "agent.log") == 0o600


def test_the_log_stays_small_and_says_where_it_ends(tmp_path: Path) -> None:
    report = Report(tmp_path)
    report.log("x" * 10_000_000)
    assert (tmp_path / "agent.log").stat().st_size < 100_000
    for number in range(30_000):
        report.log(f"{number} {'x' * 60}")
    Report(tmp_path).log("y" * 1000)
    text = (tmp_path / "agent.log").read_text("utf-8")
    assert len(text) <= (1 << 20) + 1000
    assert text.splitlines()[-1].endswith("The log ends here, because it is 1 MiB long.")
    assert "y" * 1000 not in text


@contextlib.contextmanager
def process(program: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the place of an agent, which says that it is ready."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            write_json(folder / "agent.json", {"pid": child.pid, "start_time": start_time(child.pid)})
            yield child
        finally:
            child.kill()


POLITE = "import time; print(flush=True); time.sleep(30)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + POLITE


@pytest.mark.parametrize("with_pidfd", [True, False])
@pytest.mark.parametrize(("program", "said", "number"), [(POLITE, "terminated", 15), (STUBBORN, "killed", 9)])
def test_an_agent_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: str, number: int, with_pidfd: bool
) -> None:
    if not with_pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    with process(program, tmp_path) as child:
        assert subject.ask_to_stop(tmp_path, 0.2 if said == "killed" else 10) == said
        assert child.wait(5) == -number
    assert subject.ask_to_stop(tmp_path, 1) == "gone"


def test_another_process_with_the_same_pid_is_left_alone(tmp_path: Path) -> None:
    assert subject.ask_to_stop(tmp_path, 1) == "gone"
    with process(POLITE, tmp_path) as child:
        write_json(tmp_path / "agent.json", {"pid": child.pid, "start_time": start_time(child.pid) - 1})
        assert not subject.is_alive(tmp_path)
        assert subject.ask_to_stop(tmp_path, 1) == "gone"
        time.sleep(0.05)
        assert child.poll() is None


def test_an_agent_that_cannot_be_killed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_KILL_SECONDS", 0.05)
    monkeypatch.setattr(subject, "_signal", lambda identity, number: True)
    write_json(tmp_path / "agent.json", {"pid": os.getpid(), "start_time": start_time(os.getpid())})
    with pytest.raises(CriuError, match=rf"The agent {os.getpid()} .* is still there"):
        subject.ask_to_stop(tmp_path, 0.05)


def test_a_lock_is_for_one_and_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "CODE_FOLDER", tmp_path / "code")
    path = tmp_path / "lock"
    program = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[1]); "
        f"from {CODE} import _trusted; _trusted.TOP = sys.argv[3]; "
        f"from {CODE}._handoff.agent import hold_lock; context = hold_lock(Path(sys.argv[2])); "
        "context.__enter__(); print(flush=True); time.sleep(30)"
    )
    code = install(tmp_path)
    argv = [sys.executable, "-I", "-S", "-c", program, str(code), str(path), str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(CriuError, match=f"locked by process {child.pid}") as caught, subject.hold_lock(path):
            pass
        assert caught.value.facts["pid"] == child.pid
        child.kill()
    path.write_text("12345678901\n", "ascii")
    with subject.hold_lock(path):
        assert path.read_text("ascii") == f"{os.getpid()}\n"
        with pytest.raises(CriuError, match=f"locked by process {os.getpid()}"), subject.hold_lock(path):
            pass
    with subject.hold_lock(path):
        assert mode(path) == 0o600


def test_what_is_read_is_never_a_part(tmp_path: Path) -> None:
    report = Report(tmp_path)
    report.progress(forced=True, text="x" * 100_000)
    descriptor = os.open(tmp_path / "progress.json", os.O_RDONLY)
    report.progress(forced=True, text="y")
    with os.fdopen(descriptor, "rb") as old:
        assert json.loads(old.read()) == {"text": "x" * 100_000}
