# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, Mapping

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.hooks import (
    AFTER_RUN,
    BEFORE_FREEZE,
    BEFORE_RUN,
    HELD,
    MOMENTS,
    ROLLED_BACK,
    VARIABLES,
    Hook,
    HookFailed,
    parse,
)
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed, SubprocessRunner
from ansible_collections.fleet.criu.tests.unit.fakes import FakeRunner

VETO = (BEFORE_FREEZE, HELD, BEFORE_RUN)
NO_VETO = (AFTER_RUN, ROLLED_BACK, "committed")


def run(
    script: str, moment: str = HELD, environment: Mapping[str, str] | None = None, **fields: Any
) -> tuple[list[dict[str, Any]], list[str]]:
    """Run a hook for real; give the results and what was logged."""
    logged: list[str] = []
    hooks = parse({moment: [{"command": ["sh", "-c", script], **fields}]})
    return hooks.run(moment, environment or {}, SubprocessRunner(), logged.append), logged


# What a user writes


def test_a_hook_has_defaults() -> None:
    hooks = parse({HELD: [{"command": ["a", "b c"]}, {"command": ["d"], "timeout": 2, "required": False}], "run": []})
    assert hooks.by_moment == {HELD: (Hook(("a", "b c"), 10.0, True), Hook(("d",), 2.0, False)), "run": ()}


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        ([], "hooks is no mapping"),
        ({7: []}, "hooks, 7 is no moment of a handoff. The moments are before_freeze, held, before_run, after_run"),
        ({"before_frezee": []}, "hooks, 'before_frezee' is no moment of a handoff"),
        ({"Held": []}, "hooks, 'Held' is no moment"),
        ({HELD: "true"}, "hooks.held is no list"),
        ({HELD: {"command": ["a"]}}, "hooks.held is no list"),
        ({HELD: [{"command": ["a"]}, "true"]}, r"hooks.held\[1\] is no mapping"),
        ({HELD: [{"command": ["a"], "shell": True}]}, r"hooks.held\[0\] has 'shell', which is none of"),
        ({HELD: [{}]}, r"hooks.held\[0\].command is no list of words"),
        ({HELD: [{"command": "a b"}]}, r"hooks.held\[0\].command is no list of words"),
        ({HELD: [{"command": []}]}, r"hooks.held\[0\].command is no list of words"),
        ({HELD: [{"command": ["a", 1]}]}, r"hooks.held\[0\].command is no list of words"),
        ({HELD: [{"command": ["a", "b\0"]}]}, r"hooks.held\[0\].command has a zero byte"),
        ({HELD: [{"command": ["", "b"]}]}, r"hooks.held\[0\].command does not begin with"),
        ({HELD: [{"command": ["--foreground", "b"]}]}, r"hooks.held\[0\].command does not begin with"),
        *(
            ({HELD: [{"command": ["a"], "timeout": value}]}, r"hooks.held\[0\].timeout is no number of seconds above 0")
            for value in (0, -1, "10", True, None, float("nan"), float("inf"))
        ),
        ({HELD: [{"command": ["a"], "required": "no"}]}, r"hooks.held\[0\].required is neither true nor false"),
        ({HELD: [{"command": ["a"], "required": 1}]}, r"hooks.held\[0\].required is neither true nor false"),
    ],
)
def test_bad_input_is_named_exactly(hooks: Any, message: str) -> None:
    with pytest.raises(CriuError, match=f"^{message}") as caught:
        parse(hooks)
    assert caught.value.remedy
    assert caught.value.message.startswith(caught.value.facts["place"])


# Running


def test_without_a_hook_nothing_is_done() -> None:
    runner = FakeRunner()
    assert parse({HELD: [], BEFORE_RUN: [{"command": ["true"]}]}).run(HELD, {}, runner, pytest.fail) == []
    assert parse({}).run(HELD, {}, runner, pytest.fail) == []
    assert runner.commands == []


def test_each_hook_runs_in_its_order_and_is_told() -> None:
    hooks = parse({HELD: [{"command": ["true", "1"], "timeout": 0.5}, {"command": ["true", "2"]}]})
    program = shutil.which("timeout")
    assert program is not None
    runner = FakeRunner({(program,): Completed(0)})
    before = time.monotonic()
    found = hooks.run(HELD, {"CRIU_HANDOFF_PID": "7"}, runner, pytest.fail)
    assert [argv[1:] for argv in runner.argvs] == [
        ["--signal=KILL", "0.500000", "true", "1"],
        ["--signal=KILL", "10.000000", "true", "2"],
    ]
    assert [(hook["moment"], hook["command"], hook["rc"]) for hook in found] == [
        (HELD, ["true", "1"], 0),
        (HELD, ["true", "2"], 0),
    ]
    assert all(before <= hook["started"] <= time.monotonic() and 0 <= hook["seconds"] < 60 for hook in found)


def test_a_hook_knows_the_handoff(tmp_path: Path) -> None:
    environment = {name: f"value of {name}" for name in VARIABLES}
    run(f"env > {tmp_path}/env", environment=environment)
    lines = (tmp_path / "env").read_text().splitlines()
    assert {f"{name}=value of {name}" for name in VARIABLES} < set(lines)
    assert "CRIU_HANDOFF_MOMENT=held" in lines
    assert "LC_ALL=C" in lines


def test_no_shell_takes_the_words_apart(tmp_path: Path) -> None:
    hooks = parse(
        {HELD: [{"command": [sys.executable, "-c", "import sys; open(sys.argv[1], 'w')", f"{tmp_path}/$A *"]}]}
    )
    hooks.run(HELD, {"A": "b"}, SubprocessRunner(), pytest.fail)
    assert os.listdir(tmp_path) == ["$A *"]


@pytest.mark.parametrize("moment", VETO)
def test_a_required_hook_that_fails_is_a_veto(moment: str, tmp_path: Path) -> None:
    hooks = parse(
        {
            moment: [
                {"command": ["sh", "-c", "echo no; echo because >&2; exit 3"]},
                {"command": ["touch", f"{tmp_path}/x"]},
            ]
        }
    )
    with pytest.raises(HookFailed) as caught:
        hooks.run(moment, {}, SubprocessRunner(), pytest.fail)
    assert caught.value.message == (
        f"The hook sh -c echo no; echo because >&2; exit 3 at {moment} failed (exit status 3): because"
    )
    assert caught.value.remedy
    assert caught.value.facts["rc"] == 3
    assert caught.value.facts["moment"] == moment
    assert os.listdir(tmp_path) == [], "no further hook is run"


@pytest.mark.parametrize(
    ("moment", "required"), [*((moment, False) for moment in VETO), *((moment, True) for moment in NO_VETO)]
)
def test_any_other_failure_is_logged_alone(moment: str, required: bool) -> None:
    found, logged = run("echo because >&2; exit 3", moment, required=required)
    assert found[0]["rc"] == 3
    assert logged == [f"The hook sh -c echo because >&2; exit 3 at {moment} failed (exit status 3): because"]


def test_a_long_stderr_is_cut_at_its_beginning() -> None:
    _found, logged = run("seq 1000 >&2; exit 1", AFTER_RUN)
    assert logged[0].endswith("\n999\n1000")
    assert len(logged[0]) < 700


def test_a_program_that_is_not_there_is_a_failure() -> None:
    hooks = parse({HELD: [{"command": ["/nowhere/hook"]}]})
    with pytest.raises(HookFailed, match=r"exit status 127.*/nowhere/hook"):
        hooks.run(HELD, {}, SubprocessRunner(), pytest.fail)


@pytest.mark.parametrize("fails", [True, False])
def test_what_the_runner_cannot_do_is_a_failure(fails: bool) -> None:
    def broken(command: Command) -> Completed:
        raise CommandFailed("timeout could not be started: Too many open files.")

    runner = FakeRunner({(): broken})
    logged: list[str] = []
    hooks = parse({HELD: [{"command": ["true"], "required": fails}]})
    if fails:
        with pytest.raises(HookFailed, match="Too many open files"):
            hooks.run(HELD, {}, runner, logged.append)
    else:
        assert hooks.run(HELD, {}, runner, logged.append)[0]["rc"] is None
    assert bool(logged) is not fails


def test_a_hook_that_ends_by_a_signal_of_its_own_did_not_take_too_long() -> None:
    with pytest.raises(HookFailed, match=r"failed \(exit status "):
        run("kill -KILL $$")


def children(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()]


def wait_until_dead(pid: int) -> bool:
    until = time.monotonic() + 2
    while Proc().stat(pid) is not None and time.monotonic() < until:
        time.sleep(0.01)
    return Proc().stat(pid) is None


def test_after_a_timeout_the_whole_group_is_dead(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(HookFailed, match=r"at held did not end within 0\.2 seconds and was killed: waiting") as caught:
        run(
            f"trap '' TERM; echo waiting >&2; sh -c 'trap \"\" TERM; sleep 60' & echo $$ $! > {tmp_path}/pids; wait",
            timeout=0.2,
        )
    assert time.monotonic() - started < 3
    assert caught.value.facts["rc"] is None
    assert all(wait_until_dead(pid) for pid in children(tmp_path / "pids"))


def test_a_timeout_at_another_moment_is_logged() -> None:
    found, logged = run("sleep 60", ROLLED_BACK, timeout=0.1)
    assert found[0]["rc"] is None
    assert "did not end within 0.1 seconds" in logged[0]


@pytest.mark.parametrize("command", ["sleep 60 &", "setsid sleep 60 &"])
def test_a_hook_that_leaves_something_running_does_not_keep_us(tmp_path: Path, command: str) -> None:
    started = time.monotonic()
    try:
        found, logged = run(f"{command} echo $! > {tmp_path}/pids")
        assert time.monotonic() - started < 3
        assert found[0]["rc"] == 0
        assert logged == []
        assert not is_dead(children(tmp_path / "pids")[0])
    finally:
        for pid in children(tmp_path / "pids"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def is_dead(pid: int) -> bool:
    return Proc().stat(pid) is None


def test_without_timeout_1_a_required_hook_is_a_veto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(HookFailed, match="timeout could not be started"):
        run("true")


@pytest.mark.parametrize("moment", [*MOMENTS, "connected", "copied", "committed", "running", "cleared"])
def test_every_moment_that_there_is_may_be_named(moment: str) -> None:
    assert parse({moment: []}).by_moment == {moment: ()}


def test_the_user_s_variables_reach_the_hook_and_nothing_else() -> None:
    secret = "the pass\nword"
    script = 'test "$TOKEN" = "$1" && test "$NUMBER" = 7 && echo "wrong: $TOKEN" >&2; exit 3'
    hooks = parse({AFTER_RUN: [{"command": ["sh", "-c", script, "sh", secret]}]}, {"TOKEN": secret, "NUMBER": 7})
    logged: list[str] = []
    (result,) = hooks.run(AFTER_RUN, {}, SubprocessRunner(), logged.append)
    assert result["rc"] == 3
    assert "wrong: ********" in logged[0]
    assert secret not in logged[0]
    required = parse({HELD: [{"command": ["sh", "-c", 'echo "$TOKEN" >&2; exit 1']}]}, {"TOKEN": "abcd-secret"})
    with pytest.raises(HookFailed) as caught:
        required.run(HELD, {}, SubprocessRunner(), logged.append)
    assert "abcd-secret" not in f"{caught.value}{caught.value.facts}"


def test_what_an_agent_tells_is_not_replaced_by_the_user_s_variables() -> None:
    with pytest.raises(CriuError, match=r"hook_environment\.CRIU_HANDOFF_PID is no variable"):
        parse({}, {"CRIU_HANDOFF_PID": "1"})


@pytest.mark.parametrize("variables", [{"A B": "x"}, {"": "x"}, {"A": {}}, {"A": ["x"]}, {"A": "x\0y"}, {"1A": "x"}])
def test_variables_that_are_none_are_refused(variables: dict[str, Any]) -> None:
    with pytest.raises(CriuError, match="is no variable that a hook can get") as caught:
        parse({}, variables)
    assert "x\0y" not in str(caught.value)
