# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.fleet.criu.plugins.action import handoff_send as subject
from ansible_collections.fleet.criu.plugins.plugin_utils import agents

MODULE = "fleet.criu.handoff_send"
MIB = 1 << 20
SENT = {"handoff": "h1", "workload": "redis", "port": 5}


class Action:
    """The action plugin with a module that gives these results, one after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.called: list[tuple[str, dict[str, Any], Any]] = []
        self.shown: list[str] = []
        self.now = 100.0
        monkeypatch.setattr(subject.display, "display", self.shown.append)
        monkeypatch.setattr(agents, "code_name", lambda: "c1")
        monkeypatch.setattr(subject.time, "monotonic", self._clock)
        monkeypatch.setattr(subject.time, "sleep", lambda seconds: None)
        self.looked: list[str] = []
        self.seen: list[tuple[int, str]] = []

    def _clock(self) -> float:
        self.now += 1.0
        return self.now

    def run(self, arguments: dict[str, Any], *results: dict[str, Any]) -> dict[str, Any]:
        task = MagicMock(async_val=0, check_mode=False, args=arguments)
        plugin = subject.ActionModule(task, MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock())
        left = list(results)

        def execute(name: str, arguments: dict[str, Any], task_vars: Any = None) -> dict[str, Any]:
            self.called.append((name, arguments, task_vars))
            return left.pop(0)

        def look(command: str, sudoable: bool = False) -> dict[str, Any]:
            assert sudoable, "the files are root's"
            self.looked.append(command)
            status, text = self.seen.pop(0)
            return {"rc": status, "stdout": text}

        plugin._execute_module = execute
        plugin._low_level_execute_command = look
        result = plugin.run(task_vars={"a": 1})
        assert left == [], "each result was asked for"
        return dict(result)


@pytest.fixture
def action(monkeypatch: pytest.MonkeyPatch) -> Action:
    return Action(monkeypatch)


def working(**progress: Any) -> dict[str, Any]:
    return {"finished": False, "progress": progress}


def test_the_sender_is_started_once_and_followed_until_it_has_finished(action: Action) -> None:
    done = {"finished": True, "outcome": "moved", "changed": True}
    assert action.run(dict(SENT), working(phase="copying"), working(phase="sending"), done) == done
    following = {"handoff": "h1", "state": "followed", "wait": 1.0, "code": "c1"}
    assert action.called == [
        (MODULE, {**SENT, "wait": 1.0, "code": "c1"}, {"a": 1}),
        (MODULE, following, {"a": 1}),
        (MODULE, following, {"a": 1}),
    ]


def test_each_time_a_line_says_how_far_it_is(action: Action) -> None:
    action.run(
        dict(SENT),
        working(),
        working(phase="sending", bytes=30 * MIB, total=100 * MIB),
        working(phase="sending", bytes=90 * MIB, total=100 * MIB),
        working(phase="restoring", bytes=0),
        {"finished": True},
    )
    assert action.shown == [
        "  redis: starting, 0 MiB, 0.0 MiB/s",
        "  redis: sending, 30 of about 100 MiB, 30.0 MiB/s",
        "  redis: sending, 90 of about 100 MiB, 60.0 MiB/s",
        "  redis: restoring, 0 MiB, 0.0 MiB/s",
    ]


@pytest.mark.parametrize("extra", [{"state": "prepared"}, {"state": "followed"}, {"wait": 5.0}])
def test_what_needs_no_following_is_one_call(action: Action, extra: dict[str, Any]) -> None:
    arguments = {**SENT, **extra}
    assert action.run(arguments, working(phase="copying")) == working(phase="copying")
    assert action.called == [(MODULE, {**arguments, "code": "c1"}, {"a": 1})]
    assert action.shown == []


@pytest.mark.parametrize(
    "result",
    [{"changed": True}, {"failed": True, "msg": "no"}, {"unreachable": True}, {"failed": True, "finished": True}],
)
def test_check_mode_failures_and_lost_connections_end_it(action: Action, result: dict[str, Any]) -> None:
    assert action.run(dict(SENT), result) == result


def test_a_failure_while_it_is_followed_is_the_result(action: Action) -> None:
    assert action.run(dict(SENT), working(), {"failed": True, "msg": "no"}) == {"failed": True, "msg": "no"}


def test_the_task_s_own_arguments_are_not_changed(action: Action) -> None:
    arguments = dict(SENT)
    action.run(arguments, {"finished": True})
    assert arguments == SENT


def test_between_two_calls_the_files_of_the_sender_are_read(action: Action) -> None:
    action.seen = [(0, '{"phase": "sending", "bytes": 41943040}'), (0, '{"phase": "restoring"}'), (1, "")]
    done = {"finished": True, "outcome": "moved"}
    assert action.run(dict(SENT), {**working(phase="copying"), "folder": "/run/a b"}, done) == done
    assert len(action.called) == 2
    assert action.looked == ["test ! -e '/run/a b/result.json' && cat '/run/a b/progress.json'"] * 3
    assert [line.split(",")[0] for line in action.shown] == [
        "  redis: copying",
        "  redis: sending",
        "  redis: restoring",
    ]


@pytest.mark.parametrize("text", ["", "{", "7"])
def test_what_cannot_be_read_the_module_finds_out(action: Action, text: str) -> None:
    action.seen = [(0, text)]
    action.run(dict(SENT), {**working(), "folder": "/run/a"}, {"finished": True})
    assert len(action.called) == 2


def test_a_sender_that_says_nothing_any_more_is_asked_for_now_and_then(action: Action) -> None:
    action.seen = [(0, "{}")] * subject._LOOKS
    action.run(dict(SENT), {**working(), "folder": "/run/a"}, {"finished": True})
    assert len(action.looked) == subject._LOOKS
