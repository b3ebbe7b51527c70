# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.fleet.criu.plugins.action import handoff_agent, handoff_receive
from ansible_collections.fleet.criu.plugins.plugin_utils import agents as subject

RECEIVE = "fleet.criu.handoff_receive"
AGENT = "fleet.criu.handoff_agent"
MISSING = {"failed": True, "code_missing": True, "msg": "not here"}


def run(plugin_class: Any, arguments: dict[str, Any], *results: dict[str, Any]) -> tuple[Any, list[Any]]:
    """The result of an action whose modules give these results, and what was called."""
    task = MagicMock(async_val=0, check_mode=False, args=arguments)
    plugin = plugin_class(task, MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock())
    called: list[Any] = []
    left = list(results)

    def execute(name: str, given: dict[str, Any], task_vars: Any = None) -> dict[str, Any]:
        called.append((name, given, task_vars))
        return left.pop(0)

    plugin._execute_module = execute
    result = plugin.run(task_vars={"a": 1})
    assert left == [], "each result was asked for"
    return result, called


@pytest.fixture(autouse=True)
def _named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "code_name", lambda: "c1")


def test_the_module_is_told_the_name_of_the_code() -> None:
    arguments = {"handoff": "h1"}
    result, called = run(handoff_receive.ActionModule, arguments, {"port": 5})
    assert result == {"port": 5}
    assert called == [(RECEIVE, {"handoff": "h1", "code": "c1"}, {"a": 1})]
    assert arguments == {"handoff": "h1"}, "the task's own arguments are not changed"


def test_code_that_a_host_does_not_have_is_brought_and_the_module_called_again() -> None:
    result, called = run(handoff_receive.ActionModule, {"handoff": "h1"}, MISSING, {"changed": True}, {"port": 5})
    assert result == {"port": 5}
    assert [name for name, _given, _variables in called] == [RECEIVE, AGENT, RECEIVE]
    assert called[1] == (AGENT, {"code": "c1"}, {"a": 1})


def test_if_it_cannot_be_brought_that_is_the_result() -> None:
    failure = {"failed": True, "msg": "disk full"}
    assert run(handoff_receive.ActionModule, {}, MISSING, failure)[0] == failure


def test_it_is_brought_once_and_not_again_and_again() -> None:
    assert run(handoff_receive.ActionModule, {}, MISSING, {"changed": True}, MISSING)[0] == MISSING


def test_another_failure_is_the_result() -> None:
    failure = {"failed": True, "msg": "no openssl"}
    assert run(handoff_receive.ActionModule, {}, failure)[0] == failure


def test_the_code_can_be_brought_beforehand() -> None:
    assert run(handoff_agent.ActionModule, {}, {"changed": True}) == (
        {"changed": True},
        [(AGENT, {"code": "c1"}, {"a": 1})],
    )


def test_the_name_tells_this_code_from_all_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    names = [subject.code_name()]
    monkeypatch.setattr(subject, "_errors", MagicMock(__file__=str(tmp_path / "_errors.py")))
    for path, text in (("_errors.py", "x"), ("_a/b.py", "x"), ("_a/b.py", "y"), ("_a/c.py", ""), ("_a/c.txt", "")):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
        names.append(subject.code_name())
    assert names[-1] == names[-2], "what is no Python is no code"
    assert len(set(names)) == len(names) - 1
    assert all(len(name) == 64 for name in names)
