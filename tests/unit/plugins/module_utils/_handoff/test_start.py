# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib
import os
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json
from ansible_collections.fleet.criu.plugins.module_utils._handoff import start as subject
from ansible_collections.fleet.criu.plugins.module_utils._handoff import tidying
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import SOURCE, TARGET, Journal
from ansible_collections.fleet.criu.plugins.module_utils._handoff.request import ReceiveRequest, SendRequest
from ansible_collections.fleet.criu.plugins.module_utils._handoff.start import arm, follow_send, make_certificate, send
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Step
from ansible_collections.fleet.criu.plugins.module_utils._mounts.contents import Contents
from ansible_collections.fleet.criu.plugins.module_utils._runner import SubprocessRunner

SEND = SendRequest("h1", "redis", 1, 2, "s", "t", "192.0.2.1", 5, "PEM", [])
RECEIVE = ReceiveRequest("h1", "redis", "s", "t", "PEM", "/images", "/root", [])
DAY = 24 * 3600.0


def state(**changes: Any) -> dict[str, Any]:
    return {"finished": False, "result": None, "progress": {}, "alive": True, **changes}


class Agents:
    """In the place of agent.py: notes what was put there and started, and answers who follows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, runtime: Path) -> None:
        self.runtime = runtime
        self.events: list[Any] = []
        self.states: list[Mapping[str, Any]] = [state(progress={"port": 4711})]
        self.alive: set[Path] = set()
        self.with_systemd = False
        self.problem: str | None = None
        self.missing: set[str] = set()
        monkeypatch.setattr(subject, "archive", self)
        monkeypatch.setattr(subject, "start", lambda *arguments: self.events.append(("start", *arguments[:4])))
        monkeypatch.setattr(subject, "follow", self._follow)
        for module, name in ((subject, "is_alive"), (tidying, "may_be_alive")):
            monkeypatch.setattr(module, name, lambda folder: folder in self.alive)
        monkeypatch.setattr(subject, "has_systemd", lambda: self.with_systemd)
        monkeypatch.setattr(subject, "unit_problem", lambda unit, runner: self.problem)

    def require(self, code: str) -> None:
        if code in self.missing:
            raise CriuError("The code of the agents is not on this host.", facts={"code_missing": True})

    def place(self, code: str, folder: Path) -> None:
        self.events.append(("place", code, folder))

    def _follow(self, folder: Path, seconds: float) -> Any:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]


@pytest.fixture
def agents(monkeypatch: pytest.MonkeyPatch, host: Path) -> Agents:
    return Agents(monkeypatch, host / "run" / "handoff")


def test_the_key_stays_here_and_the_certificate_is_the_same_when_asked_again(agents: Agents) -> None:
    pem = make_certificate("h1", SOURCE, SubprocessRunner())
    assert pem.startswith("-----BEGIN CERTIFICATE-----")
    assert "PRIVATE" not in pem
    assert make_certificate("h1", SOURCE, SubprocessRunner()) == pem
    folder = agents.runtime / "h1.source" / "identity"
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "certificate.pem": 0o600,
        "key.pem": 0o600,
    }


def test_a_name_that_is_none_is_refused_before_anything_is_made(agents: Agents) -> None:
    with pytest.raises(CriuError, match="cannot be the name of a handoff"):
        make_certificate("../x", SOURCE, SubprocessRunner())
    assert not agents.runtime.exists()


def test_the_target_is_armed_and_says_where_it_listens(agents: Agents, tmp_path: Path) -> None:
    folders = {"k1": str(tmp_path / "a" / "b")}
    owners = {"owner": str(os.getuid()), "group": str(os.getgid())}
    made = {"path": str(tmp_path / "made"), "type": "directory", "mode": "0750", **owners}
    request = replace(RECEIVE, folders=folders, claims=["/srv/data"], create=[made])
    agents.states.insert(0, state())
    port, pem = arm(request, "c1", SubprocessRunner())
    folder = agents.runtime / "h1.target"
    assert port == 4711
    assert pem == (folder / "identity" / "certificate.pem").read_text()
    assert agents.events == [
        ("place", "c1", folder),
        ("start", folder, subject.RECEIVER, None, []),
    ]
    assert ReceiveRequest(**read_json(folder / "request.json")) == request
    assert (folder / "request.json").stat().st_mode & 0o777 == 0o600
    assert Path(folders["k1"]).stat().st_mode & 0o777 == 0o700
    assert Contents().belongs_to("/srv/data", "redis")
    assert (tmp_path / "made").stat().st_mode & 0o7777 == 0o750


def test_what_is_not_the_workload_s_or_newer_is_refused_whatever_was_planned(agents: Agents, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").touch()
    request = replace(RECEIVE, claims=[str(tmp_path / "data")])
    with pytest.raises(CriuError, match="did not come from a move of this workload"):
        arm(request, "c1", SubprocessRunner())
    Contents().begin(request.claims, "redis", 5, "h0", arrives=True)
    Contents().conclude("h0", moved=True)
    with pytest.raises(CriuError, match="never handed over") as caught:
        arm(request, "c1", SubprocessRunner())
    assert "replace_contents" in caught.value.remedy
    assert agents.events == []
    agents.states.insert(0, state())
    assert arm(replace(request, replace_contents=True), "c1", SubprocessRunner())[0] == 4711


def test_with_systemd_the_target_has_a_unit_of_the_workload_s(agents: Agents) -> None:
    agents.with_systemd = True
    arm(RECEIVE, "c1", SubprocessRunner())
    arm(replace(RECEIVE, unit="my"), "c1", SubprocessRunner())
    assert [event[3:] for event in agents.events if event[0] == "start"] == [
        ("criu-redis.service", subject.properties()),
        ("my.service", subject.properties()),
    ]


def test_a_receiver_whose_engine_owns_the_workload_has_a_unit_of_its_own(agents: Agents) -> None:
    agents.with_systemd = True
    agents.problem = "The unit criu-redis.service is active here."  # of no interest: the workload does not go there
    request = replace(
        RECEIVE,
        claims=["/srv/d"],
        create=[],
        engine={"name": "podman", "container": "redis", "sources": {"/d": "/srv/d"}},
    )
    arm(request, "c1", SubprocessRunner())
    ((_place, _code, _folder), (_start, folder, _module, unit, properties)) = agents.events
    assert unit == "criu-receive-h1.service"
    assert "KillMode=process" in properties, "CRIU holds the tasks also when the receiver is killed"
    assert "Type=exec" in properties, "the workload never becomes its main process"
    assert ReceiveRequest(**read_json(folder / "request.json")) == request


def test_a_unit_that_is_taken_is_found_before_anything_is_started(agents: Agents) -> None:
    agents.with_systemd = True
    agents.problem = "The unit criu-redis.service is active here."
    with pytest.raises(CriuError, match=r"criu-redis\.service is active here"):
        arm(RECEIVE, "c1", SubprocessRunner())
    assert agents.events == []


def test_a_target_that_ends_at_once_is_told_with_its_own_words(agents: Agents) -> None:
    result = {"reason": "The port is taken.", "remedy": "Take another.", "facts": {"port": 5}}
    agents.states = [state(finished=True, result=result, alive=False)]
    with pytest.raises(CriuError, match=r"The port is taken\.") as caught:
        arm(RECEIVE, "c1", SubprocessRunner())
    assert (caught.value.remedy, caught.value.facts) == ("Take another.", {"port": 5})


def test_without_the_code_nothing_is_done_on_either_side(agents: Agents, tmp_path: Path) -> None:
    agents.missing = {"c1"}
    request = replace(RECEIVE, folders={"k1": str(tmp_path / "a")}, claims=["/srv/data"])
    for begin in (lambda: arm(request, "c1", SubprocessRunner()), lambda: send(SEND, "c1", SubprocessRunner())):
        with pytest.raises(CriuError) as caught:
            begin()
        assert caught.value.facts == {"code_missing": True}
    assert agents.events == []
    assert not agents.runtime.exists()
    assert not (tmp_path / "a").exists()
    assert not Contents().belongs_to("/srv/data", "redis")


def test_agents_are_named_without_being_imported() -> None:
    # The modules that start them are small because of that.
    for name in (subject.RECEIVER, subject.SENDER):
        assert importlib.import_module(name).main
    source = Path(subject.__file__).read_text("utf-8")
    assert not re.search(r"import .*\b(receiver|sender)\b", source)


@pytest.mark.parametrize("alive", [False, True])
def test_a_target_that_says_nothing_is_not_waited_for_for_ever(
    agents: Agents, alive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_ARM_SECONDS", 0.05 if alive else 60.0)
    agents.states = [state(alive=alive)]
    with pytest.raises(CriuError, match="did not get ready") as caught:
        arm(RECEIVE, "c1", SubprocessRunner())
    assert str(agents.runtime / "h1.target" / "agent.log") in caught.value.remedy


@pytest.mark.parametrize(("with_systemd", "unit"), [(False, None), (True, "criu-send-h1.service")])
def test_the_sender_is_started(agents: Agents, with_systemd: bool, unit: str | None) -> None:
    agents.with_systemd = with_systemd
    folder = agents.runtime / "h1.source"
    folder.mkdir(parents=True)
    send(SEND, "c1", SubprocessRunner())
    ((_word, code, placed), (_start, started, entry, named, properties)) = agents.events
    assert (code, placed, started, entry, named) == ("c1", folder, folder, subject.SENDER, unit)
    assert "KillMode=process" in properties, "CRIU holds the tasks also when the sender is killed"
    assert replace(SendRequest(**read_json(folder / "request.json")), copies=()) == SEND


@pytest.mark.parametrize("how", ["alive", "journal"])
def test_a_second_call_starts_no_second_sender(agents: Agents, how: str) -> None:
    folder = agents.runtime / "h1.source"
    folder.mkdir(parents=True)
    if how == "alive":
        agents.alive.add(folder)
    else:
        Journal("h1", SOURCE).begin({})
    send(SEND, "c1", SubprocessRunner())
    assert agents.events == []
    assert follow_send("h1", 1.0) == state(progress={"port": 4711})


@pytest.mark.parametrize(("side", "step"), [(SOURCE, Step.COMMITTED), (TARGET, Step.RUN)])
def test_nothing_is_touched_for_a_workload_that_is_held(agents: Agents, tmp_path: Path, side: str, step: Step) -> None:
    journal = Journal("h0", side)
    journal.begin({"workload": "redis"})
    journal.record(step)
    request = replace(RECEIVE, folders={"k1": str(tmp_path / "a")}, claims=["/srv/data"])
    for attempt in (lambda: arm(request, "c1", SubprocessRunner()), lambda: send(SEND, "c1", SubprocessRunner())):
        with pytest.raises(CriuError, match="the handoff h0 "):
            attempt()
    assert agents.events == []
    assert not agents.runtime.exists()
    assert not (tmp_path / "a").exists()
    assert not Contents().belongs_to("/srv/data", "redis")


def test_nothing_is_touched_where_no_record_could_be_kept(agents: Agents, host: Path) -> None:
    (host / "lib").touch()
    for attempt in (
        lambda: make_certificate("h1", SOURCE, SubprocessRunner()),
        lambda: arm(RECEIVE, "c1", SubprocessRunner()),
        lambda: send(SEND, "c1", SubprocessRunner()),
    ):
        with pytest.raises(CriuError, match="cannot keep records"):
            attempt()
    assert agents.events == []
    assert not agents.runtime.exists()


# What is removed when the next handoff is prepared


def leave(agents: Agents, name: str, age: float) -> Path:
    folder = agents.runtime / name
    folder.mkdir(parents=True)
    (folder / "hold").touch()
    os.utime(folder, (time.time() - age, time.time() - age))
    return folder


def settled(handoff: str, side: str, *steps: Step) -> None:
    journal = Journal(handoff, side)
    journal.begin({})
    for step in steps:
        journal.record(step)


def test_old_folders_of_what_is_settled_go(agents: Agents) -> None:
    settled("old", SOURCE, Step.BACK)
    settled("old", TARGET, Step.RUNNING)
    settled("new", SOURCE, Step.BACK)
    old = [leave(agents, name, 2 * DAY) for name in ("old.source", "old.target", "nobody.source")]
    new = leave(agents, "new.source", DAY / 2)
    make_certificate("next", SOURCE, SubprocessRunner())
    assert [folder for folder in old if folder.exists()] == []
    assert new.exists()


@pytest.mark.parametrize(
    ("side", "steps"),
    [
        (SOURCE, [Step.FREEZING]),
        (SOURCE, [Step.FREEZING, Step.COMMITTED]),
        (TARGET, [Step.RUN]),
        (TARGET, [Step.DROPPED]),
    ],
)
def test_what_is_not_settled_is_never_removed(agents: Agents, side: str, steps: list[Step]) -> None:
    settled("old", side, *steps)
    folder = leave(agents, f"old.{side}", 300 * DAY)
    make_certificate("next", SOURCE, SubprocessRunner())
    assert (folder / "hold").exists(), "CRIU waits in it, and the settlement needs it"


def test_an_agent_that_is_at_work_keeps_its_folder(agents: Agents) -> None:
    folder = leave(agents, "old.source", 2 * DAY)
    agents.alive.add(folder)
    make_certificate("next", SOURCE, SubprocessRunner())
    assert folder.exists()


def test_old_locks_and_strange_names_are_no_folders_of_handoffs(
    agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Up to Python 3.10 a pattern with a slash at its end finds files too.
    agents.runtime.mkdir(parents=True)
    lock = agents.runtime / "redis.source.lock"
    lock.write_text("1\n")
    os.utime(lock, (1, 1))
    strange = leave(agents, "-.source", 2 * DAY)

    def look(folder: Path) -> bool:
        assert folder.is_dir()
        return False

    monkeypatch.setattr(subject, "is_alive", look)
    make_certificate("next", SOURCE, SubprocessRunner())
    assert lock.exists()
    assert strange.exists()
