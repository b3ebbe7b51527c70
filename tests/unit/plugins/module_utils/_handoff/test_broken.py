# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two agents when the link is cut, somebody says nothing, or one is stopped or killed; then the settlement."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._handoff import receiver, sender
from ansible_collections.fleet.criu.plugins.module_utils._handoff.channel import Channel
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Outcome
from ansible_collections.fleet.criu.tests.unit.plugins.module_utils._handoff.pair import (
    CHILD,
    PID,
    SOURCE,
    TARGET,
    Pair,
)

MOVED = ("", "S")
BACK = ("S", "")

# What must be true before the settlement: the source's copy runs on, is held for it, or is gone.
BACK_AT_ONCE, IN_DOUBT, GONE = "back", "doubt", "moved"


def expect(pair: Pair, outcome: str, moved: bool) -> None:
    """What the source says, what lives then and after the settlement, twice."""
    assert not (pair.source.runtime / "identity").exists()
    result = pair.source.result()
    assert result["outcome"] == outcome, pair.source.log() + pair.target.log()
    assert bool(result["reason"]) == (outcome != GONE)
    source, target = pair.lives()
    if outcome == BACK_AT_ONCE:
        assert (source, target) == BACK
        assert pair.source.steps()[-1] == "back"
    elif outcome == IN_DOUBT:
        assert source in ("t", "T"), "it is held until somebody knows more"
        assert pair.source.state(CHILD) in ("t", "T")
        assert pair.source.steps() == ["armed", "freezing", "committed"]
        assert (pair.source.runtime / "stages" / "hold").exists()
        assert pair.settle(SOURCE).outcome is Outcome.HELD
        assert pair.lives() == (source, target)
    else:
        assert source == ""
        assert not pair.images.exists(), "images hold memory"
    expect_settled(pair, moved)
    assert not (pair.target.runtime / "identity").exists()


def expect_settled(pair: Pair, moved: bool) -> None:
    for _again in range(2):
        wanted = (Outcome.GONE, Outcome.RAN) if moved else (Outcome.BACK, Outcome.NOT_RUN)
        assert pair.settle_both() == wanted, pair.source.log() + pair.target.log()
        assert pair.lives() == (MOVED if moved else BACK)
    if not moved:
        assert pair.source.state(CHILD) == "S"
    assert not pair.images.exists()
    assert pair.target.criu.with_name("ran").exists() == moved


CUTS = [
    (SOURCE, "hello", False, 1, BACK_AT_ONCE, ["armed", "cleared"]),
    (TARGET, "welcome", False, 1, BACK_AT_ONCE, None),
    (TARGET, "welcome", True, 1, BACK_AT_ONCE, None),
    (SOURCE, "prepare", False, 1, BACK_AT_ONCE, ["armed", "receiving", "cleared"]),
    (SOURCE, "prepare", True, 1, BACK_AT_ONCE, ["armed", "receiving", "cleared"]),
    (TARGET, "prepared", False, 1, BACK_AT_ONCE, ["armed", "receiving", "cleared"]),
    (TARGET, "prepared", True, 2, BACK_AT_ONCE, ["armed", "receiving", "cleared"]),
    (SOURCE, "freezing", False, 1, BACK_AT_ONCE, ["armed", "receiving", "cleared"]),
    (SOURCE, "complete", False, 1, BACK_AT_ONCE, ["armed", "receiving", "cleared"]),
    (SOURCE, "complete", True, 1, BACK_AT_ONCE, None),
    (TARGET, "ready", False, 1, BACK_AT_ONCE, ["armed", "receiving", "complete", "dropped"]),
    (SOURCE, "run", False, 1, IN_DOUBT, ["armed", "receiving", "complete", "dropped"]),
    (SOURCE, "run", True, 1, IN_DOUBT, ["armed", "receiving", "complete", "run", "running"]),
    (TARGET, "running", False, 1, IN_DOUBT, ["armed", "receiving", "complete", "run", "running"]),
    (TARGET, "running", True, 1, GONE, ["armed", "receiving", "complete", "run", "running"]),
    (SOURCE, "gone", False, 1, GONE, ["armed", "receiving", "complete", "run", "running"]),
]


@pytest.mark.parametrize(("side", "kind", "after", "count", "outcome", "target"), CUTS)
def test_the_link_is_cut(
    pair: Pair, side: str, kind: str, after: bool, count: int, outcome: str, target: list[str] | None
) -> None:
    if kind in ("hello", "welcome"):
        pair.ask(TARGET, arm_seconds=1.0)  # nobody else comes
    if kind == "hello":
        pair.set(SOURCE, sender, "_CONNECT_SECONDS", 0.5)  # or it comes again for long
    pair.target.end_seconds = 0.5
    pair.cut(side, kind, after, count, lasts=kind == "hello")
    pair.run()
    if target is not None:
        assert pair.target.steps() == target
    moved = outcome == GONE or (kind, after) in (("run", True), ("running", False))
    expect(pair, outcome, moved)


def test_who_is_cut_off_before_it_was_heard_comes_again(pair: Pair) -> None:
    pair.cut(SOURCE, "hello", after=False)
    pair.run()
    assert pair.target.steps() == ["armed", "receiving", "complete", "run", "running"]
    expect(pair, GONE, moved=True)


def test_images_of_a_source_that_is_lost_are_kept_until_it_is_known_to_live(pair: Pair) -> None:
    pair.cut(TARGET, "ready", False)
    pair.run()
    assert (pair.images / "manifest.json").exists()
    assert pair.settle(TARGET).outcome is Outcome.NOT_RUN
    assert (pair.images / "manifest.json").exists()
    expect(pair, BACK_AT_ONCE, moved=False)


@pytest.mark.parametrize(("side", "kind"), [(TARGET, "failed"), (SOURCE, "abort")])
def test_the_link_is_cut_when_the_bad_news_are_told(pair: Pair, side: str, kind: str) -> None:
    pair.hook(TARGET, "held", "false")
    pair.cut(side, kind, False)
    pair.run()
    assert pair.target.steps()[:4] == ["armed", "receiving", "complete", "refused"]
    expect(pair, BACK_AT_ONCE, moved=False)


def test_a_target_that_can_tell_nobody_clears_up_all_the_same(pair: Pair) -> None:
    pair.hook(TARGET, "before_freeze", "false")
    pair.cut(TARGET, "failed", False)
    pair.run()
    assert pair.target.steps() == ["armed", "receiving", "cleared"]
    assert not pair.images.exists(), "images hold memory"
    expect(pair, BACK_AT_ONCE, moved=False)


def test_the_stream_of_images_is_cut(pair: Pair) -> None:
    send = Channel.send_bytes

    def cut(self: Channel, data: Any) -> None:
        send(self, data)
        self._socket.close()

    pair.set(SOURCE, Channel, "send_bytes", cut)
    pair.run()
    assert pair.target.steps() == ["armed", "receiving", "cleared"]
    expect(pair, BACK_AT_ONCE, moved=False)


# Somebody says nothing


def test_a_target_that_restores_too_slowly_is_given_up(pair: Pair) -> None:
    pair.ask(SOURCE, restore_seconds=0.3)
    pair.hook(TARGET, "held", "sleep", "1")
    pair.run()
    assert "did not answer in time (confirming)" in pair.source.result()["reason"]
    expect(pair, BACK_AT_ONCE, moved=False)


def test_a_target_that_was_told_to_run_and_says_nothing_may_run(pair: Pair) -> None:
    pair.ask(SOURCE, run_seconds=0.3)
    pair.target.end_seconds = 0.5
    pair.hook(TARGET, "before_run", "sleep", "1")
    pair.run()
    assert "did not answer in time (committed)" in pair.source.result()["reason"]
    expect(pair, IN_DOUBT, moved=True)


# Asked to stop


@pytest.mark.parametrize(
    ("side", "moment", "outcome", "moved"),
    [
        (SOURCE, "before_freeze", BACK_AT_ONCE, False),
        (SOURCE, "held", BACK_AT_ONCE, False),
        (SOURCE, "committed", IN_DOUBT, True),
        (SOURCE, "done", GONE, True),
        (TARGET, "receiving", BACK_AT_ONCE, False),
        (TARGET, "complete", BACK_AT_ONCE, False),
        (TARGET, "held", BACK_AT_ONCE, False),
        (TARGET, "run", GONE, True),
        (TARGET, "running", GONE, True),
    ],
)
def test_an_agent_is_asked_to_stop(pair: Pair, side: str, moment: str, outcome: str, moved: bool) -> None:
    pair.hook(side, moment, "sh", "-c", "kill $CRIU_HANDOFF_AGENT_PID")
    if outcome == IN_DOUBT:
        pair.target.end_seconds = 0.5
    pair.run()
    expect(pair, outcome, moved)
    if outcome == BACK_AT_ONCE:
        assert "The handoff was asked to stop." in pair.source.result()["reason"]


# Killed


@pytest.mark.parametrize(
    ("side", "moment", "before", "moved"),
    [
        (SOURCE, "before_freeze", BACK, False),
        (SOURCE, "freezing", BACK, False),
        (SOURCE, "held", BACK, False),
        (SOURCE, "committed", ("t", ""), False),
        (SOURCE, "done", ("t", "S"), True),
        (TARGET, "receiving", BACK, False),
        (TARGET, "complete", BACK, False),
        (TARGET, "held", BACK, False),
        (TARGET, "run", ("t", ""), False),
        (TARGET, "running", ("t", "S"), True),
    ],
)
def test_an_agent_is_killed(pair: Pair, side: str, moment: str, before: tuple[str, str], moved: bool) -> None:
    pair.hook(side, moment, "sh", "-c", "kill -9 $CRIU_HANDOFF_AGENT_PID")
    if side == SOURCE:
        pair.target.end_seconds = 0.5
    pair.run()
    assert pair.statuses[side] == -signal.SIGKILL
    if before == ("t", ""):
        assert pair.lives()[0] == "t", "held by CRIU, which waits"
    expect_settled(pair, moved)


def test_criu_is_killed_with_its_agent_in_the_moment_of_doubt(pair: Pair) -> None:
    # Without CRIU nobody traces the tasks any more: the stop that was asked for before takes effect.
    pair.hook(SOURCE, "committed", "sh", "-c", "kill -9 $CRIU_HANDOFF_AGENT_PID")
    pair.run()
    pair.source.kill_criu()
    assert pair.lives()[0] == "T"
    assert pair.settle(SOURCE).outcome is Outcome.HELD
    expect_settled(pair, moved=False)


def test_criu_is_gone_when_the_tasks_are_to_be_frozen_for_good(pair: Pair) -> None:
    pair.set(SOURCE, sender.Sender, "_ready", _killing(sender.Sender._ready, pair))
    pair.run()
    assert pair.source.steps() == ["armed", "freezing", "back"], "the images are stale by then"
    assert "let the workload go" in pair.source.result()["reason"]
    expect(pair, BACK_AT_ONCE, moved=False)


def test_criu_is_killed_after_the_target_was_told_to_run(pair: Pair) -> None:
    pair.set(SOURCE, sender.Sender, "_send_run", _killing(sender.Sender._send_run, pair))
    pair.run()
    expect(pair, GONE, moved=True)
    assert pair.source.state(CHILD) == "", "nobody but us can end them"


def test_criu_is_killed_when_it_was_told_to_end_the_tasks(pair: Pair) -> None:
    pair.set(SOURCE, sender.Sender, "_give_up", _killing(sender.Sender._give_up, pair))
    pair.run()
    assert pair.lives() == MOVED
    assert pair.source.state(CHILD) == "", "nobody but us can end them"
    expect(pair, GONE, moved=True)


def _killing(work: Any, pair: Pair) -> Any:
    def kill_and_work(self: Any) -> None:
        pair.source.kill_criu()
        work(self)

    return kill_and_work


def test_it_is_not_known_whether_a_dead_copy_has_run(pair: Pair) -> None:
    pair.hook(TARGET, "running", "sh", "-c", "kill -9 $CRIU_HANDOFF_AGENT_PID")
    pair.set(TARGET, receiver.Receiver, "_has_resumed", _die)
    pair.run()
    pair.target.end_workload()
    assert pair.settle_both() == (Outcome.HELD, Outcome.IN_DOUBT)
    assert pair.lives() == ("t", "")
    assert pair.source.state(PID) == "t"


def _die(self: Any, returncode: int) -> bool:

    os._exit(9)


# What an agent does with what it did not expect


def test_whatever_goes_wrong_while_it_prepares_the_workload_runs_on(pair: Pair) -> None:
    def fail(self: Any, folder: Any, selector: Any, write: Any) -> None:
        raise OSError("AF_UNIX path too long")

    pair.set(SOURCE, sender.Capture, "__init__", fail)
    pair.run()
    assert pair.source.steps() == ["armed", "back"]
    assert pair.source.result()["reason"] == "OSError: AF_UNIX path too long."
    expect(pair, BACK_AT_ONCE, moved=False)


def test_a_crash_is_told_and_logged(pair: Pair) -> None:
    for side, module, agent in ((SOURCE, sender, "Sender"), (TARGET, receiver, "Receiver")):

        def crash(self: Any) -> None:
            raise ZeroDivisionError("something")

        pair.set(side, getattr(module, agent), "run", crash)
    pair.arm()
    pair.start(SOURCE, sender.main, pair.send)
    pair.wait()
    assert pair.statuses == {SOURCE: 1, TARGET: 1}
    for host, outcome in ((pair.source, "back"), (pair.target, "cleared")):
        assert (host.result()["outcome"], host.result()["reason"]) == (outcome, "ZeroDivisionError: something")
        assert "Traceback" in host.log()


def test_only_one_handoff_of_a_workload_at_a_time(pair: Pair) -> None:
    pair.ask(TARGET, arm_seconds=3.0)
    pair.arm()
    agent = pair.agents.pop(TARGET)
    (pair.target.runtime / "progress.json").unlink()
    pair.arm()
    pair.wait()
    assert "is locked by process" in pair.target.result()["reason"]
    assert pair.statuses[TARGET] == 1
    pair.agents[TARGET] = agent
