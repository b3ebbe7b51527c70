# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Callable, Iterator

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._criu.rpc import restore_request
from ansible_collections.fleet.criu.plugins.module_utils._criu.stage import POST_RESTORE, Stages
from ansible_collections.fleet.criu.plugins.module_utils._criu.standby import Standby
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed

# It asks at four stages, as CRIU does, and keeps what it was told in the images folder.
PROGRAM = """#!{python} -IS
import os, socket, sys
assert sys.argv[1] == "swrk"
connection = socket.socket(fileno=int(sys.argv[2]))
os.set_inheritable(connection.fileno(), True)
request = connection.recv(1 << 20)
if not request:
    sys.exit(3)
images = os.readlink("/proc/%d/fd/9" % os.getppid())
with open(images + "/request", "wb") as stream:
    stream.write(request)
told = open(images + "/told", "w")
for stage in ("setup-namespaces", "post-restore", "pre-resume", "post-resume"):
    if stage == "{dies_at}":
        if {leaves_a_task} and os.fork() == 0:
            os.execv("/bin/sleep", ["sleep", "20"])
        os.kill(os.getpid(), 9)
    name = stage.encode()
    notify = b"\\x0a" + bytes([len(name)]) + name + b"\\x10\\x2a"
    connection.send(b"\\x08\\x06\\x10\\x01\\x2a" + bytes([len(notify)]) + notify)
    answer = connection.recv(1 << 20)
    told.write("%s %s\\n" % (stage, answer[-1:] == b"\\x01"))
    told.flush()
    if answer[-1:] != b"\\x01":
        connection.send(b"\\x08\\x02\\x10\\x00\\x4a\\x07refused")
        sys.exit(1)
connection.send(b"\\x08\\x02\\x10\\x01\\x22\\x02\\x08\\x2a")
"""

REQUEST = restore_request("/srv", [{"key": "data", "path": "/mnt"}], Options()) or b""


class Bench:
    """A standby with a program that plays CRIU, and the stages that it asks at."""

    def __init__(self, folder: Path, dies_at: str = "", leaves_a_task: bool = False) -> None:
        self.images = folder / "images"
        self.images.mkdir()
        self.program = folder / "criu"
        self.program.write_text(PROGRAM.format(python=sys.executable, dies_at=dies_at, leaves_a_task=leaves_a_task))
        self.program.chmod(0o755)
        self.is_dead = False
        self.stages = Stages({POST_RESTORE: lambda pid: None}, folder / "stages").__enter__()
        self.standby = Standby(str(self.program), self.stages.folder, [POST_RESTORE], self.images)

    def answering(self, go_on: bool) -> Callable[[], None]:
        """What is called meanwhile: it answers when it is asked."""

        def turn() -> None:
            asked = self.stages.asked()
            if asked is None:
                time.sleep(0.005)
            else:
                assert asked == (POST_RESTORE, 42)
                self.stages.answer(POST_RESTORE, go_on)

        return turn

    def told(self) -> list[str]:
        return (self.images / "told").read_text().splitlines()

    def die(self) -> None:
        """What the kernel does for a process that was killed."""
        self.stages.__exit__(None, None, None)
        self.is_dead = True

    def close(self) -> None:
        self.standby.close()
        if not self.is_dead:
            self.die()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def criu_of(bench: Bench) -> int | None:
    return next(iter(Proc().tree(bench.standby._process.pid)[1:]), None)


def has_started(bench: Bench) -> bool:
    pid = criu_of(bench)
    return pid is not None and "swrk" in Proc().command(pid)


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_criu_is_started_at_once_and_restores_when_it_is_told(bench: Bench) -> None:
    wait_until(lambda: has_started(bench))
    assert bench.standby.is_ready
    assert not (bench.images / "request").exists()
    completed = bench.standby.restore(REQUEST, bench.answering(True))
    assert completed == Completed(0)
    assert (bench.images / "request").read_bytes() == REQUEST
    assert bench.told() == ["setup-namespaces True", "post-restore True", "pre-resume True", "post-resume True"]
    assert not bench.standby.is_ready


def test_a_refusal_reaches_criu(bench: Bench) -> None:
    completed = bench.standby.restore(REQUEST, bench.answering(False))
    assert completed is not None
    assert completed.returncode != 0
    assert completed.stderr == "refused"
    assert bench.told() == ["setup-namespaces True", "post-restore False"]


@pytest.mark.parametrize("stage", ["post-restore", "pre-resume"])
def test_the_death_of_criu_is_a_failure(tmp_path: Path, stage: str) -> None:
    bench = Bench(tmp_path, dies_at=stage)
    completed = bench.standby.restore(REQUEST, bench.answering(True))
    assert completed is not None
    assert completed.returncode != 0
    bench.close()


@pytest.mark.parametrize("program", ["dies", "is none"])
def test_criu_that_has_not_begun_may_be_asked_in_another_way(tmp_path: Path, program: str) -> None:
    bench = Bench(tmp_path, dies_at="setup-namespaces")
    if program == "is none":
        bench.standby.close()
        bench.standby = Standby(str(tmp_path / "none"), bench.stages.folder, [POST_RESTORE], bench.images)
    assert bench.standby.restore(REQUEST, bench.answering(True)) is None
    bench.close()


def test_it_holds_the_memory_until_criu_takes_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.standby.close()
    bench.standby = Standby(str(bench.program), bench.stages.folder, [POST_RESTORE], bench.images, 64 << 20)
    bench.standby.wait(10)
    pid = bench.standby._process.pid

    def kibibytes() -> int:
        return int(Proc().status(pid).get("VmRSS", "0").split()[0])  # none once it has ended

    assert kibibytes() >= 64 << 10
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
    answer = bench.answering(True)

    def when_given_back() -> None:
        wait_until(lambda: kibibytes() < 64 << 10)
        answer()

    completed = bench.standby.restore(REQUEST, when_given_back)
    assert completed is not None
    assert completed.returncode == 0
    bench.close()


def test_criu_that_died_while_it_waited_is_not_ready(bench: Bench) -> None:
    wait_until(lambda: has_started(bench))
    os.kill(criu_of(bench) or 0, signal.SIGKILL)
    wait_until(lambda: not bench.standby.is_ready)


def test_one_that_is_not_needed_ends_with_its_criu(bench: Bench) -> None:
    wait_until(lambda: has_started(bench))
    pid = criu_of(bench) or 0
    bench.standby.close()
    wait_until(lambda: Proc().stat(pid) is None)


@pytest.mark.parametrize("was_told", [True, False])
def test_without_us_criu_goes_on_only_if_it_was_told_to(bench: Bench, was_told: bool) -> None:
    # As if we were killed: the descriptors are closed, and nothing else is done.
    assert bench.standby._process.stdin is not None
    bench.standby._process.stdin.write(REQUEST)
    bench.standby._process.stdin.close()
    wait_until(lambda: bench.stages.asked() is not None)
    if was_told:
        bench.stages.answer(POST_RESTORE, True)
    bench.die()
    assert (bench.standby._process.wait(10) == 0) is was_told
    last = ["post-restore True", "pre-resume True", "post-resume True"] if was_told else ["post-restore False"]
    assert bench.told() == ["setup-namespaces True", *last]


def test_a_criu_that_dies_is_noticed_though_what_it_has_begun_to_restore_lives(tmp_path: Path) -> None:
    bench = Bench(tmp_path, dies_at="pre-resume", leaves_a_task=True)
    try:
        bench.standby.wait(10.0)
        before = time.monotonic()
        completed = bench.standby.restore(REQUEST, bench.answering(True))
        assert completed is not None
        assert completed.returncode == 1
        assert time.monotonic() - before < 5.0
    finally:
        bench.close()
