# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two agents against each other, with an engine that owns the workload on both hosts.

The engine's commands are processes of their own, which call the real stand-in in the place of CRIU.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import read_manifest, verify_files
from ansible_collections.fleet.criu.plugins.module_utils._engine import registry
from ansible_collections.fleet.criu.plugins.module_utils._handoff import receiver, sender
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Outcome
from ansible_collections.fleet.criu.plugins.module_utils._mounts.contents import Contents
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed
from ansible_collections.fleet.criu.tests.unit import playing_engine
from ansible_collections.fleet.criu.tests.unit.fake_engine import FakeEngine
from ansible_collections.fleet.criu.tests.unit.plugins.module_utils._handoff.pair import (
    CHILD,
    IMAGES,
    PID,
    RESTORED,
    SOURCE,
    TARGET,
    Host,
    Pair,
)
from ansible_collections.fleet.criu.tests.unit.streaming_criu import rescript

MOVED = ("", "S")
BACK = ("S", "")


class Engines:
    """The engine of each host, and the container redis at the source."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.at = {side: FakeEngine(host, host.proc) for side, host in pair.hosts.items()}
        playing_engine.put(self.at[SOURCE].folder, "redis", "running", PID)
        self.images = pair.folder / "source-images"
        pair.ask(SOURCE, engine={"name": "fake", "container": "redis"}, images=str(self.images))
        sources = {"/data": str(pair.target.data)}
        pair.ask(TARGET, engine={"name": "fake", "container": "redis", "sources": sources})

    def book(self, side: str) -> list[str]:
        path = self.at[side].folder / playing_engine.BOOK
        return path.read_text().splitlines() if path.exists() else []

    def script(self, side: str, **changes: Any) -> None:
        (self.at[side].folder / playing_engine.SCRIPT).write_text(json.dumps(changes))

    def note_at(self, side: str, moment: str, book: str) -> None:
        """Have a hook write its moment into the book of a host."""
        line = f"echo {moment} of {side} >>{self.at[book].folder}/{playing_engine.BOOK}"
        self.pair.hook(side, moment, "sh", "-c", line)

    def containers(self, side: str) -> dict[str, tuple[str, int]]:
        return {each.name: (each.state, each.pid) for each in self.at[side].containers()}


@pytest.fixture
def engines(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Engines:
    # The agents are forks of this process.
    monkeypatch.setattr(registry, "ENGINES", {"fake": FakeEngine})
    return Engines(pair)


def steps(pair: Pair) -> tuple[list[str], list[str]]:
    return pair.source.steps(), pair.target.steps()


def logs(pair: Pair) -> str:
    return pair.source.log() + pair.target.log()


def wait_for_engine(host: Host, line: str) -> None:
    until = time.monotonic() + 20.0
    path = host.folder / "engine" / playing_engine.BOOK
    while not path.exists() or line not in path.read_text().splitlines():
        assert time.monotonic() < until, f"the engine never came to: {line}"
        time.sleep(0.005)


def expect_back(engines: Engines) -> dict[str, Any]:
    """It runs at the source as before, in its container, and nothing is left of it at the target."""
    pair = engines.pair
    assert pair.lives() == BACK, logs(pair)
    assert (pair.source.state(CHILD), pair.source.steps()[-1]) == ("S", "back")
    assert engines.containers(SOURCE) == {"redis": ("running", PID)}
    assert engines.containers(TARGET) == {}
    assert not engines.images.exists(), "images hold memory"
    assert not pair.images.exists()
    assert "remove redis" not in engines.book(SOURCE)
    assert "forget" in engines.book(SOURCE)
    result = pair.source.result()
    assert (result["outcome"], result["pid"], result["frozen_seconds"]) == ("back", None, None)
    assert pair.settle_both() == (Outcome.BACK, Outcome.NOT_RUN)
    assert pair.lives() == BACK
    assert engines.containers(SOURCE) == {"redis": ("running", PID)}
    return result


# The good way


def test_a_container_is_handed_over(engines: Engines) -> None:
    pair = engines.pair
    pair.run()
    assert pair.lives() == MOVED, logs(pair)
    assert steps(pair) == (
        ["armed", "freezing", "committed", "done"],
        ["armed", "receiving", "complete", "run", "running"],
    )
    assert engines.book(SOURCE) == ["checkpoint", "checkpoint calls CRIU", "checkpoint ends 0", "remove redis"]
    assert engines.book(TARGET) == ["restore", "restore calls CRIU", "restore ends 0"], "what runs is not removed"
    assert engines.containers(TARGET) == {"redis": ("running", RESTORED)}
    assert pair.statuses == {SOURCE: 0, TARGET: 0}
    assert pair.settle_both() == (Outcome.GONE, Outcome.RAN)
    assert engines.containers(TARGET) == {"redis": ("running", RESTORED)}
    assert pair.lives() == MOVED


def test_images_go_from_folder_to_folder_and_stay_nowhere(engines: Engines) -> None:
    pair = engines.pair
    pair.ask(TARGET, keep_images=True)
    pair.run()
    assert pair.lives() == MOVED, logs(pair)
    manifest = read_manifest(pair.images)
    verify_files(pair.images, manifest)
    assert sorted(manifest.files) == sorted(IMAGES)
    assert (pair.images / "inventory.img").read_text() == "inventory", "it has taken the place of the engine's own"
    assert (pair.images / "pages-1.img").read_bytes() == b"m" * 300_000
    assert pair.source.result()["image_bytes"] == 300_018
    assert not engines.images.exists()


def test_without_a_folder_for_images_at_the_source_they_are_with_the_agent(engines: Engines) -> None:
    pair = engines.pair
    pair.ask(SOURCE, images=None)
    pair.run()
    assert pair.lives() == MOVED, logs(pair)
    assert not (pair.source.runtime / "dump").exists()


def test_no_criu_of_ours_stands_by_where_an_engine_calls_its_own(engines: Engines) -> None:
    pair = engines.pair
    pair.set(TARGET, receiver, "Standby", None)
    pair.run()
    assert pair.lives() == MOVED, logs(pair)


def test_the_engine_at_the_target_gets_what_the_source_has_told(engines: Engines) -> None:
    pair = engines.pair
    copy = pair.folder / "engine.json"
    pair.hook(TARGET, "before_freeze", "cp", "-p", str(pair.images / "engine.json"), str(copy))
    pair.run()
    assert json.loads((engines.at[TARGET].folder / "arrival").read_text()) == {
        "sources": {"/data": str(pair.target.data)},
        "root": str(pair.target.box),
        "configuration": {"engine": "fake", "secret": "s3cret"},
    }
    assert json.loads(copy.read_text()) == {"engine": "fake", "secret": "s3cret"}, "it is needed again if we die"
    assert copy.stat().st_mode & 0o077 == 0, "it holds secrets"


def test_the_freeze_begins_only_when_the_engine_waits_at_the_target(engines: Engines) -> None:
    pair = engines.pair
    engines.script(TARGET, seconds=0.5)
    engines.note_at(SOURCE, "copied", TARGET)
    engines.note_at(TARGET, "before_freeze", TARGET)
    engines.note_at(SOURCE, "freezing", TARGET)
    pair.run()
    assert pair.lives() == MOVED, logs(pair)
    assert engines.book(TARGET) == [
        "copied of source",
        "restore",
        "restore calls CRIU",
        "before_freeze of target",
        "freezing of source",
        "restore ends 0",
    ]


def test_the_freeze_is_measured_from_where_the_engine_comes_to_criu(engines: Engines) -> None:
    pair = engines.pair
    engines.script(SOURCE, seconds=0.6)
    pair.run()
    assert pair.lives() == MOVED, logs(pair)
    result = pair.source.result()
    timings = result["timings"]["source"]
    assert set(timings) == {"connect", "live_copy", "engine", "frozen", "dump", "transfer", "restore", "let_go"}
    assert timings["dump"]["started"] == pytest.approx(timings["frozen"]["started"], abs=0.05)
    prepared = timings["engine"]["started"] + timings["engine"]["seconds"]
    assert timings["frozen"]["started"] - prepared > 0.6, "until then it ran"
    assert 0 < timings["dump"]["seconds"] < result["frozen_seconds"]


class Copies:
    """In the place of files.Sender: notes what it is asked."""

    def __init__(self, book: Path) -> None:
        self._book = book
        self.folder_times: dict[str, int] = {}

    def __call__(self, folder: Path, connect: Any, runner: Any, compare: Any) -> Copies:
        return self

    def catch_up(self, copies: Any, bandwidth: int | None) -> None:
        self.note("catch up", copies)

    def take_numbers(self) -> list[int]:
        return []

    def remember(self, name: str) -> None:
        pass

    def note(self, text: str, copies: Any) -> None:
        with self._book.open("a") as stream:
            stream.write(f"{text} {' '.join(f'{copy.module}={copy.path}' for copy in copies)}".strip() + "\n")

    def prepare(self, copies: Any) -> None:
        self.note("prepare", copies)

    def copy(self, copies: Any, live: bool, bandwidth: int | None = None) -> list[dict[str, Any]]:
        self.note("live" if live else "last", copies)
        return [{"path": copy.path, "bytes": 1, "live": live} for copy in copies]

    def close(self) -> None:
        pass


def test_what_only_the_engine_keeps_is_copied_too_and_what_is_late_when_it_is_frozen(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = engines.pair
    monkeypatch.setattr(FakeEngine, "has_copies", True)
    book, data = pair.folder / "copies", str(pair.source.data)
    pair.ask(SOURCE, copies=[{"path": data, "folder": "k1"}])
    pair.set(SOURCE, sender.files, "Sender", Copies(book))
    pair.run()
    assert pair.lives() == MOVED, logs(pair)
    assert book.read_text().splitlines() == [
        f"live k1={data}",
        f"catch up k1={data}",
        "live fake-root=/source/root",
        "catch up fake-root=/source/root",
        f"prepare k1={data} fake-root=/source/root fake-memory=/source/memory",
        f"last k1={data} fake-root=/source/root fake-memory=/source/memory",
    ]
    record = Contents(pair.source.here / "lib" / "contents.json")
    assert all(record.belongs_to(path, "redis") for path in (data, "/source/root", "/source/memory"))


def test_the_target_knows_where_the_engine_has_them_once_it_waits(engines: Engines) -> None:
    pair = engines.pair
    given: list[dict[str, str]] = []
    seen = pair.folder / "seen"

    def set_folder_times(times: Any, folders: dict[str, str], pinned: Any) -> None:
        given.append(folders)
        seen.write_text(json.dumps(given))

    pair.ask(TARGET, folders={"k1": str(pair.target.data)})
    pair.set(TARGET, receiver.file_server, "set_folder_times", set_folder_times)
    pair.run()
    assert json.loads(seen.read_text()) == [
        {"k1": str(pair.target.data), "fake-root": "/target/redis/root", "fake-memory": "/target/redis/memory"}
    ]


# Ways back


def test_an_engine_that_does_not_like_the_container_says_so_before_the_freeze(engines: Engines) -> None:
    pair = engines.pair
    engines.script(TARGET, fails_at="restore")
    pair.run()
    assert steps(pair) == (["armed", "back"], ["armed", "receiving", "cleared"])
    assert engines.book(SOURCE) == ["forget"], "the source has not begun"
    assert engines.book(TARGET) == ["restore", "remove redis"], "what it had made is in nobody's way"
    result = expect_back(engines)
    assert result["reason"] == "node2: fake cannot take the container redis: Error: it has no such image"
    assert "runs on at the source" in result["remedy"]


def test_an_engine_that_gives_up_while_the_rest_is_prepared_changes_nothing(engines: Engines) -> None:
    pair = engines.pair
    engines.script(TARGET, patience=0.5)
    pair.hook(SOURCE, "before_freeze", "sleep", "1.5")
    pair.run()
    assert steps(pair) == (["armed", "back"], ["armed", "receiving", "cleared"])
    assert engines.book(SOURCE) == ["forget"]
    assert engines.book(TARGET) == ["restore", "restore calls CRIU", "restore ends -9", "remove redis"]
    assert "fake cannot take the container redis" in expect_back(engines)["reason"]


def test_a_name_that_is_taken_at_the_target_keeps_what_has_it(engines: Engines) -> None:
    pair = engines.pair
    playing_engine.put(engines.at[TARGET].folder, "redis", "exited", 0)
    pair.run()
    assert pair.lives() == BACK
    assert "fake has a container redis here already (exited)" in pair.source.result()["reason"]
    assert steps(pair) == (["armed", "back"], ["armed", "receiving", "cleared"])
    assert pair.settle_both() == (Outcome.BACK, Outcome.NOT_RUN)
    assert engines.book(TARGET) == []
    assert engines.containers(TARGET) == {"redis": ("exited", 0)}


@pytest.mark.parametrize(("side", "moment"), [(SOURCE, "before_freeze"), (TARGET, "before_freeze"), (SOURCE, "held")])
def test_a_container_is_removed_at_the_target_when_the_source_runs_on(engines: Engines, side: str, moment: str) -> None:
    pair = engines.pair
    pair.hook(side, moment, "false")
    pair.run()
    assert f"The hook false at {moment} failed" in expect_back(engines)["reason"]
    assert engines.book(TARGET) == ["restore", "restore calls CRIU", "restore ends 1", "remove redis"]


@pytest.mark.parametrize("place", ["start", "network-lock", "post-dump"])
def test_a_dump_that_fails_changes_nothing(engines: Engines, place: str) -> None:
    pair = engines.pair
    rescript(pair.source.criu, fails_at=place)
    pair.run()
    assert engines.book(SOURCE) == ["checkpoint", "checkpoint calls CRIU", "checkpoint ends 1", "forget"]
    result = expect_back(engines)
    assert f"The dump of redis (pid {PID}) failed" in result["reason"]
    assert engines.book(TARGET)[-1] == "remove redis"


def test_an_engine_that_never_comes_to_criu_changes_nothing(engines: Engines) -> None:
    pair = engines.pair
    engines.script(SOURCE, fails_at="checkpoint")
    pair.run()
    assert engines.book(SOURCE) == ["checkpoint", "forget"]
    assert "The dump of redis" in expect_back(engines)["reason"]


def test_a_workload_is_not_frozen_any_more_if_the_target_has_given_up_meanwhile(engines: Engines) -> None:
    pair = engines.pair
    engines.script(SOURCE, seconds=1.0)
    pair.arm()
    pair.start(SOURCE, sender.main, pair.send)
    wait_for_engine(pair.source, "checkpoint")
    pair.stop(TARGET)
    pair.wait()
    assert engines.book(SOURCE) == ["checkpoint", "checkpoint calls CRIU", "checkpoint ends 1", "forget"]
    assert list(pair.source.criu.parent.glob("pid.*")) == [], "CRIU itself has not begun"
    assert "asked to stop" in expect_back(engines)["reason"]


@pytest.mark.parametrize("place", ["start", "setup-namespaces", "post-restore"])
def test_a_restore_that_fails_lets_the_source_run_on(engines: Engines, place: str) -> None:
    pair = engines.pair
    rescript(pair.target.criu, fails_at=place)
    pair.run()
    assert steps(pair) == (
        ["armed", "freezing", "back"],
        ["armed", "receiving", "complete", "refused", "cleared"],
    )
    result = expect_back(engines)
    assert result["reason"].startswith("node2: The restore of redis failed")
    assert engines.book(TARGET) == ["restore", "restore calls CRIU", "restore ends 1", "remove redis"]


def test_other_mounts_than_intended_are_refused_before_anything_runs(engines: Engines) -> None:
    pair = engines.pair
    template = pair.target.criu.with_name("template") / "mountinfo"
    template.write_text(template.read_text().replace(" /data rw", " /data ro"))
    pair.run()
    assert "mounts are not what was intended" in expect_back(engines)["reason"]


def test_how_the_engine_makes_its_own_mounts_is_its_own_affair(engines: Engines) -> None:
    pair = engines.pair
    template = pair.target.criu.with_name("template") / "mountinfo"
    template.write_text(template.read_text().replace(" /proc rw", " /proc ro,nosuid"))
    pair.run()
    assert pair.lives() == MOVED, logs(pair)


def test_a_container_that_cannot_be_moved_is_not_begun_with(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = engines.pair
    monkeypatch.setattr(FakeEngine, "complaints", ("it has a terminal",))
    pair.ask(TARGET, arm_seconds=1.0)
    pair.run()
    assert pair.lives() == BACK
    assert pair.source.result()["reason"] == "redis cannot be moved: it has a terminal."
    assert steps(pair) == ([], ["armed", "cleared"])
    assert (engines.book(SOURCE), engines.book(TARGET)) == ([], [])


def test_a_source_that_is_lost_while_the_engine_waits_leaves_no_container(engines: Engines) -> None:
    pair = engines.pair
    pair.cut(SOURCE, "freezing", after=False)
    pair.run()
    assert engines.book(TARGET) == ["restore", "restore calls CRIU", "restore ends 1", "remove redis"]
    expect_back(engines)


def test_an_engine_that_still_prepares_when_the_source_is_lost_is_not_let_go_on(engines: Engines) -> None:
    pair = engines.pair
    engines.script(TARGET, seconds=1.0)
    pair.cut(SOURCE, "engine", after=True)
    pair.run()
    assert engines.book(TARGET) == ["restore", "restore calls CRIU", "restore ends 1", "remove redis"]
    expect_back(engines)


def test_what_a_receiver_that_was_killed_has_left_is_removed_by_the_settlement(engines: Engines) -> None:
    pair = engines.pair
    pair.hook(SOURCE, "before_freeze", "sleep", "1")
    pair.arm()
    pair.start(SOURCE, sender.main, pair.send)
    wait_for_engine(pair.target, "restore calls CRIU")
    time.sleep(0.3)
    pair.stop(TARGET, 9)
    pair.wait()
    wait_for_engine(pair.target, "restore ends 1")
    assert engines.containers(TARGET) == {"redis": ("created", 0)}
    assert "remove redis" not in engines.book(TARGET)
    assert pair.settle_both() == (Outcome.BACK, Outcome.NOT_RUN)
    assert engines.book(TARGET)[-1] == "remove redis"
    expect_back(engines)


def test_a_source_in_doubt_is_removed_by_the_settlement(engines: Engines) -> None:
    pair = engines.pair
    pair.cut(TARGET, "running", after=False)
    pair.run()
    assert pair.source.steps()[-1] == "committed"
    assert pair.target.state(RESTORED) == "S"
    assert pair.source.state(PID) == "t"
    assert engines.containers(SOURCE) == {"redis": ("running", PID)}
    assert pair.settle_both() == (Outcome.GONE, Outcome.RAN)
    assert pair.lives() == MOVED
    assert engines.book(SOURCE)[-1] == "remove redis"
    assert not engines.images.exists(), "images hold memory"
    assert engines.containers(SOURCE) == {}
    assert engines.containers(TARGET) == {"redis": ("running", RESTORED)}


def test_storage_that_both_have_is_written_by_the_engine(engines: Engines) -> None:
    pair = engines.pair
    pair.ask(SOURCE, transport="shared", images=str(pair.images))
    pair.ask(TARGET, transport="shared", keep_images=True)
    pair.run()
    assert pair.lives() == MOVED, logs(pair)
    verify_files(pair.images, read_manifest(pair.images))
    assert pair.source.result()["image_bytes"] == 300_018


def test_a_criu_at_the_source_that_is_too_old_is_found_before_the_freeze(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = engines.pair
    call = type(pair.source).__call__

    def old(host: Any, command: Any, while_running: Any = None) -> Completed:
        if list(command.argv) == [str(pair.source.criu), "--version"]:
            return Completed(0, "Version: 3.18\n")
        return call(host, command, while_running)

    monkeypatch.setattr(type(pair.source), "__call__", old)
    pair.run()
    assert "does not run an action script" in expect_back(engines)["reason"]
    assert "freezing" not in pair.source.steps()


def test_the_settlement_removes_no_container_that_the_engine_has_not_made(engines: Engines) -> None:
    # The receiver dies before it has come to its engine; somebody's stopped container has the name.
    pair = engines.pair
    playing_engine.put(engines.at[TARGET].folder, "redis", "exited", 0)
    pair.arm()
    pair.stop(TARGET, 9)
    pair.wait()
    assert pair.settle(TARGET, Outcome.BACK).outcome is Outcome.NOT_RUN
    assert engines.containers(TARGET) == {"redis": ("exited", 0)}


def test_the_settlement_removes_no_folder_that_the_sender_has_not_made(engines: Engines) -> None:
    pair = engines.pair
    engines.images.mkdir()
    (engines.images / "pages-1.img").write_text("of another image set")
    pair.run()
    assert "is not empty" in pair.source.result()["reason"]
    assert (engines.images / "pages-1.img").exists()
    assert pair.settle_both() == (Outcome.BACK, Outcome.NOT_RUN)
    assert (engines.images / "pages-1.img").exists()
