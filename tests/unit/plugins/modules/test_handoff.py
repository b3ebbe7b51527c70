# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the handoff modules do with what the agents say."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import SOURCE, TARGET, Journal
from ansible_collections.fleet.criu.plugins.module_utils._handoff.request import ReceiveRequest, SendRequest
from ansible_collections.fleet.criu.plugins.module_utils._handoff.settle import Peer, Settled
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Outcome, Step
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity
from ansible_collections.fleet.criu.plugins.modules import handoff_receive, handoff_send, handoff_settle

SEND = {
    "handoff": "h1",
    "state": "sent",
    "workload": "redis",
    "source": "s",
    "target": "t",
    "pid": 1,
    "start_time": 2,
    "address": "192.0.2.1",
    "port": 5,
    "certificate": "PEM",
    "mount_map": [{"mountpoint": "/d", "key": "k"}],
    "restore_timeout": 7.0,
    "wait": 0.0,
    "engine": None,
    "container": None,
    "code": "c1",
}
RECEIVE = {
    "handoff": "h1",
    "workload": "redis",
    "source": "s",
    "target": "t",
    "certificate": "PEM",
    "images": "/images",
    "root": "/root",
    "mount_map": [{"key": "k", "path": "/p"}],
    "arm_timeout": 8.0,
    "unit": None,
    "engine": None,
    "container": None,
    "code": "c1",
    "sources": {},
}
RESULT = {"outcome": "moved", "reason": "", "remedy": "", "facts": {}, "generation": 3}


class Agent:
    """Notes what the module asks for; `state` is what it hears."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[Any] = []
        self.state: dict[str, Any] = {"finished": True, "result": RESULT, "progress": {}, "alive": False}
        monkeypatch.setattr(handoff_send, "send", lambda request, code, runner: self.calls.append(request))
        monkeypatch.setattr(handoff_send, "follow_send", self._follow)
        monkeypatch.setattr(handoff_send, "make_certificate", lambda *given: f"{given[0]} {given[1]}")

    def _follow(self, handoff: str, seconds: float) -> dict[str, Any]:
        self.calls.append((handoff, seconds))
        return self.state


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Agent:
    return Agent(monkeypatch)


def test_the_sender_gets_all_that_was_asked_and_the_result_is_the_module_s(agent: Agent) -> None:
    result = handoff_send.hand_over(SEND, False)
    assert result == {**RESULT, "changed": True, "finished": True, "progress": {}}
    request, (handoff, seconds) = agent.calls
    assert isinstance(request, SendRequest)
    assert (request.dump_map, request.restore_seconds) == ([{"mountpoint": "/d", "key": "k"}], 7.0)
    assert handoff == "h1"
    assert seconds > 24 * 3600, "until it has ended"


@pytest.mark.parametrize(
    ("given", "engine"),
    [
        ({}, {}),
        ({"engine": "podman", "container": "web"}, {"name": "podman", "container": "web"}),
    ],
)
def test_the_sender_learns_which_engine_owns_the_workload(
    agent: Agent, given: dict[str, str], engine: dict[str, str]
) -> None:
    handoff_send.hand_over({**SEND, **given}, False)
    assert agent.calls[0].engine == engine


def test_following_starts_nothing(agent: Agent) -> None:
    handoff_send.hand_over({**SEND, "state": "followed", "wait": 1.5}, False)
    assert agent.calls == [("h1", 1.5)]


def test_a_certificate_is_made_for_the_source(agent: Agent) -> None:
    result = handoff_send.hand_over({**SEND, "state": "prepared"}, False)
    assert result == {"changed": True, "certificate": "h1 source"}
    assert agent.calls == []


@pytest.mark.parametrize(("state", "changed"), [("prepared", True), ("sent", True), ("followed", False)])
def test_check_mode_asks_nobody(agent: Agent, state: str, changed: bool) -> None:
    assert handoff_send.hand_over({**SEND, "state": state}, True) == {"changed": changed}
    assert agent.calls == []


def test_while_it_works_the_module_says_how_far_it_is(agent: Agent) -> None:
    agent.state = {
        "finished": False,
        "result": None,
        "progress": {"phase": "sending"},
        "alive": True,
        "folder": "/run/x",
    }
    found = handoff_send.hand_over(SEND, False)
    assert found == {"finished": False, "progress": {"phase": "sending"}, "folder": "/run/x"}


@pytest.mark.parametrize("outcome", ["back", "doubt"])
def test_what_did_not_move_is_a_failure_with_all_that_is_known(agent: Agent, outcome: str) -> None:
    agent.state["result"] = {
        "outcome": outcome,
        "reason": "No room.",
        "remedy": "Make some.",
        "facts": {"needed_bytes": 5},
        "generation": 3,
    }
    with pytest.raises(CriuError, match=r"No room\.") as caught:
        handoff_send.hand_over(SEND, False)
    assert caught.value.remedy == "Make some."
    assert caught.value.facts == {
        "needed_bytes": 5,
        "outcome": outcome,
        "reason": "No room.",
        "generation": 3,
        "finished": True,
    }


def test_a_sender_that_was_killed_leaves_doubt(agent: Agent) -> None:
    agent.state = {"finished": False, "result": None, "progress": {}, "alive": False}
    with pytest.raises(CriuError, match="The sender was killed") as caught:
        handoff_send.hand_over(SEND, False)
    assert caught.value.facts == {"outcome": "doubt", "finished": True}
    assert "handoff_settle" in caught.value.remedy


@pytest.mark.parametrize(("with_systemd", "unit"), [(False, ""), (True, "criu-redis.service")])
def test_the_receiver_is_armed(monkeypatch: pytest.MonkeyPatch, with_systemd: bool, unit: str) -> None:
    requests: list[ReceiveRequest] = []

    def arm(request: ReceiveRequest, _code: str, _runner: Any) -> tuple[int, str]:
        requests.append(request)
        return 4711, "PEM"

    monkeypatch.setattr(handoff_receive, "arm", arm)
    monkeypatch.setattr(handoff_receive, "has_systemd", lambda: with_systemd)
    assert handoff_receive.receive(RECEIVE, True) == {"changed": True}
    assert requests == []
    assert handoff_receive.receive(RECEIVE, False) == {
        "changed": True,
        "port": 4711,
        "certificate": "PEM",
        "unit": unit,
    }
    assert (requests[0].restore_map, requests[0].arm_seconds) == ([{"key": "k", "path": "/p"}], 8.0)
    assert requests[0].engine == {}


def test_a_receiver_with_an_engine_is_in_no_unit_of_the_workload_s(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[ReceiveRequest] = []

    def arm(request: ReceiveRequest, _code: str, _runner: Any) -> tuple[int, str]:
        requests.append(request)
        return 4711, "PEM"

    monkeypatch.setattr(handoff_receive, "arm", arm)
    monkeypatch.setattr(handoff_receive, "has_systemd", lambda: True)
    given = {**RECEIVE, "engine": "podman", "container": "web", "sources": {"/d": "/srv/d"}, "root": ""}
    assert handoff_receive.receive(given, False)["unit"] == ""
    (request,) = requests
    assert request.engine == {"name": "podman", "container": "web", "sources": {"/d": "/srv/d"}}
    assert request.root == ""


def test_without_a_name_the_handoffs_of_this_host_are_listed() -> None:
    for name, side, steps in (("b", SOURCE, [Step.DONE]), ("a", TARGET, [Step.RECEIVING])):
        journal = Journal(name, side)
        journal.begin({"workload": "redis", "source": "s", "target": "t", "pid": 5})
        for step in steps:
            journal.record(step)
    listed = handoff_settle.bring_to_its_end({"handoff": None}, False)["handoffs"]
    assert all(isinstance(entry.pop("time"), float) for entry in listed)
    common = {"workload": "redis", "source": "s", "target": "t", "damaged": ""}
    assert listed == [
        {"handoff": "b", "side": "source", "step": "done", "settled": True, **common},
        {"handoff": "a", "side": "target", "step": "receiving", "settled": False, **common},
    ]


def test_a_damaged_journal_is_listed_with_what_is_wrong_beside_the_others() -> None:
    for name in ("good", "bad"):
        Journal(name, SOURCE).begin({"workload": "redis"})
    with Journal("bad", SOURCE).path.open("ab") as stream:
        stream.write(b"nonsense\n")
    listed = {
        entry["handoff"]: entry for entry in handoff_settle.bring_to_its_end({"handoff": None}, False)["handoffs"]
    }
    assert listed["good"]["damaged"] == ""
    assert "line 2" in listed["bad"]["damaged"]
    assert "then remove the file" in listed["bad"]["damaged"]
    assert (listed["bad"]["workload"], listed["bad"]["settled"]) == ("redis", False)


@pytest.mark.parametrize("check_mode", [False, True])
def test_the_outcome_of_one_side_is_told(monkeypatch: pytest.MonkeyPatch, check_mode: bool) -> None:
    given: list[Any] = []
    journal = Journal("h1", SOURCE)
    journal.begin({})

    def settle(*arguments: Any) -> Settled:
        given.extend((*arguments[:4], arguments[-1]))
        return Settled(Outcome.HELD, True, None, 42, ["nft"])

    monkeypatch.setattr(handoff_settle, "settle", settle)
    seen = {"machine": "m", "journal": "j", "complete": True}
    parameters = {"handoff": "h1", "side": "source", "peer": "in_doubt", "peer_journal": seen, "timeout": 3.0}
    result = handoff_settle.bring_to_its_end({**parameters, "pid": 7, "start_time": 8}, check_mode)
    assert result == {
        "changed": True,
        "outcome": "held",
        "pid": 42,
        "step": None,
        "since": None,
        "journal": None,
        "put_back": ["nft"],
    }
    assert given == ["h1", "source", Peer(Outcome.IN_DOUBT, seen, Identity(7, 8)), 3.0, check_mode]


def test_every_outcome_may_be_the_peer_s() -> None:
    for outcome in Outcome:
        assert outcome.value in handoff_settle.DOCUMENTATION
