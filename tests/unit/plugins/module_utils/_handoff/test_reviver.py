# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu import restore
from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._criu.generation import Generations
from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import (
    Manifest,
    Workload,
    digests,
    write_manifest,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.restore import Restored, RestoreRequest
from ansible_collections.fleet.criu.plugins.module_utils._criu.stage import Stages
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json, write_json
from ansible_collections.fleet.criu.plugins.module_utils._handoff import reviver as subject
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed
from ansible_collections.fleet.criu.tests.unit.fakes import (
    BOOT_ID,
    FakeCriu,
    FakePrivateMounts,
    FakeProc,
    FakeRunner,
)

PID = 77
START = 9000
UNIT = "criu-redis.service"


class Killed(BaseException):
    """The end of an agent that got SIGKILL."""


class Dying(Stages):
    """Loses its descriptors when the agent is killed, as the kernel closes those of a dead process."""

    def serve(self) -> None:
        try:
            super().serve()
        except Killed:
            while self._alive:
                os.close(self._alive.popitem()[1])
            raise


class Bench:
    """An image set, a CRIU, and an agent that runs in our own process, with the socket of a service manager."""

    def __init__(self, folder: Path, manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.manager, self.monkeypatch = folder, manager, monkeypatch
        self.box, self.images, self.pid_file = folder / "box", folder / "images", folder / "redis.pid"
        self.box.mkdir()
        self.images.mkdir()
        self.proc = FakeProc(folder / "proc")
        self.criu = FakeCriu(folder, self.proc)
        self.criu.restores = self.begin
        self.generations = Generations(folder / "lib" / "generations.json")
        self.asked: list[Any] = []
        self.said: list[bytes] = []
        self.private = FakePrivateMounts("/places")
        (self.images / "pages-1.img").write_text("memory")
        mount = {"mountpoint": "/", "kind": "root", "type": "directory", "mount_options": ["rw"], "fstype": "ext4"}
        self.manifest = Manifest(
            workload=Workload("redis", 42, 5000, ["redis-server"]),
            host="source",
            boot_id="another boot",
            kernel="6.12",
            architecture="x86_64",
            criu_version="4.1.1",
            created="2026-01-01T00:00:00+00:00",
            root="/srv/box",
            mount_map=[],
            mounts=[{**mount, "root": "/x", "shared": None, "master": None}],
            options=Options(shell_job=True).as_dict(),
            generation=4,
            files=digests(self.images),
        )
        write_manifest(self.images, self.manifest)
        options = {"tcp_close": True, "images": "no option", "extra_args": ["-v4"]}
        self.request = RestoreRequest(self.images, str(self.box), [], options, self.pid_file, self.criu.path)

    def begin(self) -> int:
        line = f"200 90 8:1 {self.box} / rw - ext4 /dev/sda1 rw"
        self.proc.add(PID, start_time=START, mounts=line, root=self.box)
        return PID

    def start(self, folder: Path, entry: str, unit: str | None, properties: Sequence[str], runner: Any) -> None:
        self.asked.append((entry, unit, tuple(properties), read_json(folder / "request.json")))
        assert (folder / "agent.zip").exists()
        assert folder.stat().st_mode & 0o777 == 0o700
        with contextlib.suppress(Killed):
            self.asked.append(subject.main(str(folder)))

    def revive(self, unit: str | None = UNIT, **changes: Any) -> Restored:
        return subject.revive(replace(self.request, **changes), self.manifest, unit, self.proc, self.criu)

    def heard(self) -> list[bytes]:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.said.append(self.manager.recv(100))
        return self.said

    def dies(self, moment: str) -> None:
        """Let the agent be killed at CRIU's start, or when it has handed the unit over, or when CRIU has ended."""

        def runner(command: Any, while_running: Callable[[], None] | None = None) -> Completed:
            if list(command.argv)[1] != "restore":
                return self.criu(command, while_running)
            if moment == "start":
                raise Killed
            completed = self.criu(command, while_running)
            raise Killed if completed.returncode == 0 else AssertionError(completed)

        self.monkeypatch.setattr(subject, "SubprocessRunner", lambda **options: runner)

    def killed(self, pid: int, number: int) -> None:
        """What the pids of this test are must never be killed on the machine that it runs on."""
        assert (pid, number) == (PID, 9)
        self.proc.remove(pid)

    @property
    def runs(self) -> bool:
        return self.proc.stat(PID) is not None

    @property
    def nothing_is_left(self) -> bool:
        return not (self.images / "restored.json").exists() and not self.pid_file.exists() and not self.folders

    @property
    def folders(self) -> list[Path]:
        return list((self.folder / "run").iterdir())


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    # A test's own folder can be too long for the address of a socket (unix(7)).
    with tempfile.TemporaryDirectory(prefix="reviver.") as short, socket.socket(
        socket.AF_UNIX, socket.SOCK_DGRAM
    ) as manager:
        manager.bind(f"{short}/notify")
        manager.setblocking(False)
        made = Bench(tmp_path, manager, monkeypatch)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{short}/notify")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(os, "kill", made.killed)
        monkeypatch.setattr(subject, "RUN_FOLDER", tmp_path / "run")
        monkeypatch.setattr(subject, "start", made.start)
        monkeypatch.setattr(subject, "follow", lambda folder, seconds: {"result": _result(folder)})
        monkeypatch.setattr(subject, "Proc", lambda: made.proc)
        monkeypatch.setattr(subject, "SubprocessRunner", lambda **options: made.criu)
        monkeypatch.setattr(subject, "Generations", lambda: made.generations)
        monkeypatch.setattr(subject, "prepare_process", lambda: None)
        monkeypatch.setattr(subject, "PrivateMounts", lambda: made.private)
        monkeypatch.setattr(subject, "_PATIENCE", 0.05)
        yield made


def _result(folder: Path) -> Any:
    path = folder / "result.json"
    return read_json(path) if path.exists() else None


@pytest.mark.parametrize("options", ["rw", "ro", "ro,nodev"])
def test_a_root_that_was_read_only_is_mounted_so_before_criu_is_given_it(bench: Bench, options: str) -> None:
    given = options.split(",")
    (mount,) = bench.manifest.mounts
    bench.manifest = replace(bench.manifest, mounts=[{**mount, "mount_options": given}])
    write_manifest(bench.images, bench.manifest)
    line = f"200 90 8:1 {bench.box} / {options} - ext4 /dev/sda1 rw"
    bench.criu.restores = lambda: bench.proc.add(PID, start_time=START, mounts=line, root=bench.box) or PID
    assert bench.revive().pid == PID
    bound = ("bind", str(bench.box))
    assert bench.private.calls == ([bound] if options == "rw" else [bound, ("options", str(bench.box), *given)])


def test_the_workload_lives_and_the_agent_s_folder_is_gone(bench: Bench) -> None:
    restored = bench.revive()
    assert (restored.pid, restored.changed, restored.manifest) == (PID, True, bench.manifest)
    assert restored.seconds > 0
    assert bench.runs
    assert bench.pid_file.read_text() == f"{PID}\n"
    assert bench.generations.spent("redis") == 4
    assert bench.folders == []
    assert bench.private.calls == [("bind", str(bench.box))]
    argv = list(bench.criu.ran("restore")[0].argv)
    assert argv[argv.index("--root") + 1] == f"/places{bench.box}"


def test_the_agent_is_asked_for_the_same_in_the_unit(bench: Bench) -> None:
    bench.revive()
    (entry, unit, properties, request), status = bench.asked
    assert entry == "ansible_collections.fleet.criu.plugins.module_utils._handoff.reviver"
    assert (unit, status) == (UNIT, 0)
    assert "Type=notify" in properties
    assert request["options"] == {"tcp_close": True, "extra_args": ["-v4"]}
    assert request["is_verified"] is True
    (command,) = bench.criu.ran("restore")
    assert list(command.argv)[-3:] == ["--tcp-close", "--shell-job", "-v4"]


def test_a_request_survives_being_written_down(bench: Bench) -> None:
    request = replace(bench.request, options={"tcp_close": True}, allow_copy=True, spent_generation=7, pid_file=None)
    assert subject._request_of(json.loads(json.dumps(subject._plain(request)))) == request


def test_the_unit_is_handed_over_before_the_workload_runs_and_confirmed_after_criu(bench: Bench) -> None:
    answer = bench.criu._ask

    def watch(argv: list[str], stage: str, *rest: Any) -> int:
        status = answer(argv, stage, *rest)
        seen.append((stage, list(bench.heard())))
        return status

    seen: list[tuple[str, list[bytes]]] = []
    bench.criu._ask = watch  # type: ignore[method-assign]
    bench.revive()
    over = b"MAINPID=%d\nREADY=1" % PID
    assert seen == [("pre-restore", []), ("setup-namespaces", []), ("post-restore", [over])]
    assert bench.heard() == [over, b"MAINPID=%d" % os.getpid(), b"MAINPID=%d" % PID]


def test_a_manager_that_is_not_there_stops_the_restore(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    with pytest.raises(CriuError, match="given up before it ran: systemd could not be told"):
        bench.revive()
    assert not bench.runs
    assert bench.nothing_is_left
    assert bench.generations.spent("redis") == 0


def test_a_workload_that_runs_is_no_failure_if_systemd_does_not_hear_it_at_last(bench: Bench) -> None:
    bench.monkeypatch.setattr(subject.Notifier, "confirm", _refuse)
    assert bench.revive().pid == PID


def _refuse(*arguments: Any) -> None:
    raise CriuError("no")


def test_an_error_comes_back_with_its_remedy_and_facts(bench: Bench, host: Path) -> None:
    bench.criu.dies_before = True
    bench.criu.log = "(00.1) Error (criu/mount-v2.c:1): mnt-v2: Failed to open_tree /x: No such file or directory\n"
    with pytest.raises(CriuError, match=r"The restore of redis failed \(exit status 1\)") as caught:
        bench.revive()
    assert caught.value.remedy.startswith("A path of the restore map")
    assert caught.value.facts["rc"] == 1
    assert caught.value.facts["diagnosis"]
    assert bench.asked[-1] == 1
    assert bench.nothing_is_left
    assert bench.heard() == []


def test_what_nobody_has_foreseen_is_told_too(bench: Bench) -> None:
    bench.monkeypatch.setattr(subject, "PrivateMounts", lambda: 1 / 0)
    with pytest.raises(CriuError, match="The restore failed: ZeroDivisionError") as caught:
        bench.revive()
    assert "Traceback" in caught.value.facts["agent_log"]
    assert bench.nothing_is_left


def test_a_copy_that_somebody_else_has_restored_meanwhile_is_found(bench: Bench) -> None:
    bench.begin()
    write_json(bench.images / "restored.json", {"pid": PID, "start_time": START, "boot_id": BOOT_ID})
    assert bench.revive() == Restored(PID, False, bench.manifest)
    assert bench.heard() == []


# An agent that is killed


@pytest.mark.parametrize("before", [None, {"pid": 5, "start_time": 6, "boot_id": BOOT_ID}])
def test_an_agent_that_is_killed_before_anything_is_restored(bench: Bench, before: dict[str, Any] | None) -> None:
    if before is not None:
        write_json(bench.images / "restored.json", before)
    bench.dies("start")
    with pytest.raises(CriuError, match=r"cut off: .* was killed, and nothing was let run") as caught:
        bench.revive()
    assert f"journalctl --unit={UNIT}" in caught.value.remedy
    assert caught.value.facts == {"agent_log": "", "unit": UNIT}
    assert bench.folders == []
    assert before is None or read_json(bench.images / "restored.json") == before


def test_an_agent_that_is_killed_before_its_yes_leaves_no_copy(bench: Bench) -> None:
    def before_yes(_notifier: Any, pid: int) -> None:
        raise Killed

    bench.monkeypatch.setattr(restore, "Stages", Dying)
    bench.monkeypatch.setattr(subject.Notifier, "hand_over", before_yes)
    with pytest.raises(CriuError, match="and nothing was let run"):
        bench.revive(unit=None)
    assert not bench.runs
    assert bench.nothing_is_left


@pytest.mark.parametrize("held", [False, True])
def test_an_agent_that_is_killed_after_its_yes_leaves_a_workload_that_runs(bench: Bench, held: bool) -> None:
    bench.dies("end")
    bench.monkeypatch.setattr(subject, "is_in_restorer", lambda pid, proc: held)
    if held:  # CRIU died too and never let it go
        with pytest.raises(CriuError, match="its copy ended after it had been let go"):
            bench.revive()
        assert not bench.runs
        assert bench.nothing_is_left
    else:
        restored = bench.revive()
        assert (restored.pid, restored.changed) == (PID, True)
        assert bench.pid_file.exists()
    assert bench.folders == []


def test_what_killed_modules_have_left_is_removed_once_its_agent_is_dead(bench: Bench) -> None:
    names = {"old": 7200, "young": 10, "alive": 7200}
    for name, age in names.items():
        folder = bench.folder / "run" / name
        folder.mkdir(parents=True)
        if name == "alive":
            stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
            write_json(folder / "agent.json", {"pid": os.getpid(), "start_time": int(stat[19])})
        os.utime(folder, (time.time(), time.time() - age))
    bench.revive()
    assert {folder.name for folder in bench.folders} == {"young", "alive"}


def test_a_workload_s_name_may_hold_anything(bench: Bench) -> None:
    bench.manifest = replace(bench.manifest, workload=replace(bench.manifest.workload, name="../a b/" + "x" * 300))
    assert bench.revive().pid == PID


# The unit


def test_the_unit_is_named_after_the_workload_if_none_is_wanted(bench: Bench) -> None:
    bench.monkeypatch.setattr(subject, "has_systemd", lambda: True)
    bench.monkeypatch.setattr(subject, "unit_problem", lambda unit, runner: None)
    assert subject.unit_for("redis", None, FakeRunner()) == UNIT
    assert subject.unit_for("redis", "cache", FakeRunner()) == "cache.service"


def test_a_unit_that_cannot_be_made_is_an_error(bench: Bench) -> None:
    bench.monkeypatch.setattr(subject, "has_systemd", lambda: True)
    bench.monkeypatch.setattr(subject, "unit_problem", lambda unit, runner: f"The unit {unit} is active here.")
    with pytest.raises(CriuError, match=f"The unit {UNIT} is active here") as caught:
        subject.unit_for("redis", None, FakeRunner())
    assert caught.value.facts == {"unit": UNIT}


def test_without_systemd_there_is_no_unit_but_its_name_must_be_good(bench: Bench) -> None:
    bench.monkeypatch.setattr(subject, "has_systemd", lambda: False)
    assert subject.unit_for("redis", "cache", FakeRunner()) is None
    with pytest.raises(CriuError, match="cannot be the unit"):
        subject.unit_for("redis", "a b", FakeRunner())
