# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import select
import subprocess
import threading
import time
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu import stage as subject
from ansible_collections.fleet.criu.plugins.module_utils._criu.stage import (
    POST_DUMP,
    POST_RESTORE,
    Stages,
    answer_stage,
    given_answer,
    wait_for_answer,
)


def run_script(script: str, stage: str, pid: str | None = "42") -> subprocess.Popen[bytes]:
    environment = {**os.environ, "CRTOOLS_SCRIPT_ACTION": stage}
    environment.pop("CRTOOLS_INIT_PID", None)
    if pid is not None:
        environment["CRTOOLS_INIT_PID"] = pid
    return subprocess.Popen([script], env=environment, stderr=subprocess.DEVNULL)


def ask(stages: Stages, stage: str, pid: str | None = "42") -> int:
    """The script's exit status, with us serving meanwhile."""
    with run_script(stages.script, stage, pid) as script:
        while script.poll() is None:
            stages.serve()
        return script.returncode


@pytest.fixture
def asked() -> list[int]:
    return []


@pytest.fixture
def stages(asked: list[int]) -> Iterator[Stages]:
    with Stages({POST_DUMP: asked.append}) as opened:
        yield opened


def test_a_yes_lets_criu_go_on_and_the_pid_is_told(stages: Stages, asked: list[int]) -> None:
    assert ask(stages, "post-dump") == 0
    assert asked == [42]
    assert stages.refusal is None


def test_the_script_is_where_it_can_be_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_is_noexec", lambda folder: folder == tmp_path / "run")
    monkeypatch.setattr(subject, "_EXECUTABLE_FOLDER", tmp_path / "lib")
    with Stages({POST_RESTORE: lambda pid: None}, tmp_path / "run") as stages:
        assert Path(stages.script).parent.parent == tmp_path / "lib"
        assert Path(stages.script).parent.stat().st_mode & 0o777 == 0o700
        assert ask(stages, "post-restore") == 0
    assert list((tmp_path / "lib").iterdir()) == []
    assert given_answer(tmp_path / "run", POST_RESTORE) is True


def test_noexec_is_what_the_file_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not subject._is_noexec(Path("/bin"))
    status = os.statvfs_result((*os.statvfs(tmp_path)[:8], os.ST_NOEXEC | os.ST_NODEV, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: status)
    assert subject._is_noexec(tmp_path)


def test_a_refusal_stops_criu_and_is_kept() -> None:
    refusal = RuntimeError("the mounts differ")

    def refuse(pid: int) -> None:
        raise refusal

    with Stages({POST_RESTORE: refuse}) as stages:
        assert ask(stages, "post-restore") != 0
        assert stages.refusal is refusal


def test_each_stage_has_its_own_answer() -> None:
    asked: list[str] = []
    with Stages({"pre-dump": lambda pid: asked.append("pre"), POST_DUMP: lambda pid: asked.append("post")}) as stages:
        assert ask(stages, "post-dump") == 0
        assert ask(stages, "pre-dump") == 0
    assert asked == ["post", "pre"]


@pytest.mark.parametrize("stage", ["pre-dump", "network-lock", "post-restore", "post-dum", "dump", ""])
def test_other_stages_need_nobody_to_answer(stages: Stages, asked: list[int], stage: str) -> None:
    with run_script(stages.script, stage) as script:
        assert script.wait(timeout=10) == 0
    assert asked == []


def test_an_answer_is_waited_for(stages: Stages, asked: list[int]) -> None:
    with run_script(stages.script, "post-dump") as script:
        time.sleep(0.3)
        assert script.poll() is None
        while script.poll() is None:
            stages.serve()
        assert script.returncode == 0


def test_a_slow_answer_is_waited_for() -> None:
    with Stages({POST_DUMP: lambda pid: time.sleep(0.3)}) as stages:
        assert ask(stages, "post-dump") == 0


@pytest.mark.parametrize("pid", ["", "x"])
def test_a_pid_that_is_no_number_is_refused(stages: Stages, asked: list[int], pid: str) -> None:
    assert ask(stages, "post-dump", pid) != 0
    assert asked == []
    assert isinstance(stages.refusal, ValueError)


def test_without_a_pid_it_is_0(stages: Stages, asked: list[int]) -> None:
    assert ask(stages, "post-dump", None) == 0
    assert asked == [0]


def test_a_script_that_finds_nobody_to_ask_stops_criu(tmp_path: Path) -> None:
    with Stages({POST_DUMP: lambda pid: None}) as stages:
        copy = tmp_path / "copy"
        copy.write_text(Path(stages.script).read_text())
        copy.chmod(0o700)
        script = stages.script
    assert not Path(script).exists()
    with run_script(str(copy), "post-dump") as late:
        assert late.wait(timeout=10) != 0


def test_a_script_that_waits_when_we_end_stops_criu() -> None:
    with Stages({POST_DUMP: lambda pid: None}) as stages:
        waiting = run_script(stages.script, "post-dump")
        time.sleep(0.3)
        assert waiting.poll() is None
    with waiting:
        assert waiting.wait(timeout=10) != 0


def test_a_script_whose_question_was_taken_but_not_answered_stops_criu() -> None:
    class Killed(BaseException):
        pass

    def die(pid: int) -> None:
        raise Killed

    with Stages({POST_DUMP: die}) as stages:
        waiting = run_script(stages.script, "post-dump")

        def serve_until_killed() -> None:
            while True:
                stages.serve()

        with pytest.raises(Killed):
            serve_until_killed()
    with waiting:
        assert waiting.wait(timeout=10) != 0


def test_serving_returns_soon_if_nobody_asks(stages: Stages) -> None:
    served = threading.Thread(target=stages.serve)
    served.start()
    served.join(timeout=5)
    assert not served.is_alive()


def test_others_can_neither_run_the_script_nor_reach_the_socket(stages: Stages) -> None:
    folder = Path(stages.script).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert Path(stages.script).stat().st_mode & 0o777 == 0o700


def test_nothing_is_left_behind() -> None:
    with Stages({}) as stages:
        folder = Path(stages.script).parent
        assert folder.is_dir()
    assert not folder.exists()


def test_whoever_answers_later_can(stages: Stages) -> None:
    with run_script(stages.script, "post-dump") as script:
        asked = None
        while asked is None:
            select.select([stages], [], [], 5)
            asked = stages.asked()
        assert asked == ("post-dump", 42)
        assert given_answer(stages.folder, "post-dump") is None
        assert script.poll() is None
        stages.answer("post-dump", True)
        assert script.wait(timeout=10) == 0
        assert given_answer(stages.folder, "post-dump") is True


@pytest.mark.parametrize("go_on", [True, False])
def test_held_criu_waits_on_after_our_death_until_somebody_answers(tmp_path: Path, go_on: bool) -> None:
    folder = tmp_path / "a folder with blanks"
    with Stages({POST_DUMP: lambda pid: None}, folder) as stages:
        script = run_script(stages.script, "post-dump")
        time.sleep(0.1)
        stages.hold()
    time.sleep(0.4)
    assert script.poll() is None
    answer_stage(folder, POST_DUMP, go_on)
    with script:
        assert (script.wait(timeout=10) == 0) is go_on


@pytest.mark.parametrize("go_on", [True, False])
def test_a_process_of_ours_may_ask_instead_of_the_script(stages: Stages, go_on: bool) -> None:
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(wait_for_answer(stages.folder, POST_DUMP, 42)))
    thread.start()
    while stages.asked() is None:
        select.select([stages], [], [], 5)
    time.sleep(0.05)
    assert answers == []
    stages.answer(POST_DUMP, go_on)
    thread.join()
    assert answers == [go_on]


def test_our_death_is_no_answer_for_it_either(tmp_path: Path) -> None:
    with Stages({POST_DUMP: lambda pid: None}, tmp_path):
        pass
    assert not wait_for_answer(tmp_path, POST_DUMP, 42)


def test_held_it_waits_on_after_our_death(tmp_path: Path) -> None:
    with Stages({POST_DUMP: lambda pid: None}, tmp_path) as stages:
        stages.hold()
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(wait_for_answer(tmp_path, POST_DUMP, 42)))
    thread.start()
    time.sleep(0.3)
    assert answers == []
    answer_stage(tmp_path, POST_DUMP, True)
    thread.join()
    assert answers == [True]
