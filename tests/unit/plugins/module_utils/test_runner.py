# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed, SubprocessRunner


def run(script: str, *arguments: str, **fields: Any) -> Completed:
    return SubprocessRunner()(Command(["sh", "-c", script, "sh", *arguments], **fields))


def test_output_and_exit_status_are_kept_apart() -> None:
    assert run("echo out; echo err >&2; exit 3") == Completed(3, "out\n", "err\n")


def test_arguments_reach_the_command_as_they_are() -> None:
    assert run('printf "%s|" "$@"', "a b", "*", "$HOME", "'", "").stdout == "a b|*|$HOME|'||"


def test_bytes_that_are_no_text_are_surrogates() -> None:
    assert run(r"printf 'a\377\303\251'").stdout == "a\udcff\u00e9"


def test_the_environment_is_ours_with_c_locale_and_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("OURS", "1")
    assert run("echo $LC_ALL $OURS $ASKED", environment={"ASKED": "2"}).stdout == "C 1 2\n"
    assert run("echo $LC_ALL", environment={"LC_ALL": "POSIX"}).stdout == "POSIX\n"


def test_there_is_no_input() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"typed")
    os.close(writing)
    kept = os.dup(0)
    try:
        os.dup2(reading, 0)
        assert run("cat").stdout == ""
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reading)


def test_the_folder_is_the_root() -> None:
    assert run("pwd").stdout == "/\n"


def test_what_a_command_writes_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        run('echo secret > "$1"', str(tmp_path / "image"))
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    assert (tmp_path / "image").stat().st_mode & 0o777 == 0o600


def test_a_command_has_a_session_of_its_own() -> None:
    script = "import os; print(os.getsid(0) == os.getpid())"
    assert SubprocessRunner()(Command([sys.executable, "-c", script])).stdout == "True\n"


def test_the_limit_of_open_files_is_raised_to_the_hard_one() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    expected = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    assert run("ulimit -S -n").stdout.strip() == expected


def test_a_child_that_stays_and_holds_the_output_is_not_waited_for() -> None:
    started = time.monotonic()
    assert run("sleep 5 & echo done").stdout == "done\n"
    assert time.monotonic() - started < 4


def test_a_command_that_is_not_there_cannot_be_started() -> None:
    with pytest.raises(CommandFailed, match=r"^/no/such/command could not be started: ") as caught:
        SubprocessRunner()(Command(["/no/such/command", "-x"]))
    assert caught.value.facts == {"argv": ["/no/such/command", "-x"]}
    assert "become" in caught.value.remedy


def test_a_command_that_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(CommandFailed, match=r"did not end within 0\.2 seconds and was killed"):
        run("echo $$ > pid; exec sleep 30".replace("pid", str(tmp_path / "pid")), timeout=0.2)
    assert time.monotonic() - started < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_time_limit_holds_while_somebody_is_served() -> None:
    ends = time.monotonic() + 2

    def serve() -> None:
        time.sleep(0.05)
        if time.monotonic() > ends:
            raise AssertionError("not killed in time")

    with pytest.raises(CommandFailed):
        SubprocessRunner()(Command(["sleep", "30"], timeout=0.2), serve)


def test_we_serve_until_the_command_ends(tmp_path: Path) -> None:
    calls: list[int] = []

    def serve() -> None:
        calls.append(1)
        if len(calls) == 3:
            (tmp_path / "go").touch()
        time.sleep(0.01)

    command = Command(["sh", "-c", f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; echo went"])
    assert SubprocessRunner()(command, serve) == Completed(0, "went\n")
    assert len(calls) >= 3


def test_a_command_does_not_outlive_an_error_of_ours(tmp_path: Path) -> None:
    def serve() -> None:
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip():
            raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        SubprocessRunner()(Command(["sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 30"]), serve)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
