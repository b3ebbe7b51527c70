# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two agents against each other: the good way, and each way back."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu import image_file
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_timers import ImageTimer
from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import read_manifest, verify_files
from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff import receiver, sender
from ansible_collections.fleet.criu.plugins.module_utils._handoff.agent import RESULT, Report
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import Journal, RecordFailed, read_record
from ansible_collections.fleet.criu.plugins.module_utils._handoff.machine import Machine
from ansible_collections.fleet.criu.plugins.module_utils._handoff.owner import Notifier
from ansible_collections.fleet.criu.plugins.module_utils._handoff.rsync import Copy
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Outcome, Source, Step, Target
from ansible_collections.fleet.criu.plugins.module_utils._mounts.contents import Contents
from ansible_collections.fleet.criu.plugins.module_utils._mounts.pinned import Pinned
from ansible_collections.fleet.criu.tests.unit.fakes import FakePrivateMounts
from ansible_collections.fleet.criu.tests.unit.plugins.module_utils._handoff.pair import (
    CGROUP_OPTION,
    CHILD,
    HANDOFF,
    IMAGES,
    PATIENCE,
    PID,
    RESTORED,
    SOURCE,
    START,
    TARGET,
    Pair,
)
from ansible_collections.fleet.criu.tests.unit.streaming_criu import rescript, set_state
from ansible_collections.fleet.criu.tests.unit.synthetic_images import image, write_timers

MOVED = ("", "S")
BACK = ("S", "")
MOVED_STEPS = (["armed", "freezing", "committed", "done"], ["armed", "receiving", "complete", "run", "running"])


def steps(pair: Pair) -> tuple[list[str], list[str]]:
    return pair.source.steps(), pair.target.steps()


def expect_moved(pair: Pair) -> None:
    """It runs at the target and nowhere else, and both sides say so."""
    assert pair.lives() == MOVED, pair.source.log() + pair.target.log()
    assert pair.source.result()["outcome"] == "moved"
    assert pair.target.result()["outcome"] == "running"
    assert pair.statuses == {SOURCE: 0, TARGET: 0}
    assert pair.settle_both() == (Outcome.GONE, Outcome.RAN)
    assert pair.lives() == MOVED


def expect_back(pair: Pair, target_keeps_images: bool = False) -> dict[str, Any]:
    """It runs at the source as before, nothing is left at the target, and the source says why."""
    assert pair.lives() == BACK, pair.source.log() + pair.target.log()
    assert pair.source.state(CHILD) == "S"
    assert pair.source.steps()[-1] == "back"
    result = pair.source.result()
    assert (result["outcome"], result["frozen_seconds"], result["pid"]) == ("back", None, None)
    assert result["reason"]
    assert pair.statuses[SOURCE] == 1
    assert pair.images.exists() == target_keeps_images
    assert not (pair.source.runtime / "stages" / "hold").exists()
    assert Path(pair.send.pid_file or "").exists()
    assert not Path(pair.receive.pid_file or "").exists()
    assert pair.settle_both() == (Outcome.BACK, Outcome.NOT_RUN)
    assert pair.lives() == BACK
    assert not pair.images.exists()
    return result


# The good way


def test_a_workload_is_handed_over(pair: Pair) -> None:
    pair.run()
    assert steps(pair) == MOVED_STEPS
    assert pair.source.state(CHILD) == ""
    assert not pair.images.exists(), "images hold memory"
    assert not Path(pair.send.pid_file or "").exists()
    assert Path(pair.receive.pid_file or "").read_text() == f"{RESTORED}\n"
    assert pair.source.generations().is_spent("redis", 1)
    assert pair.target.generations().is_spent("redis", 1)
    for host in pair.hosts.values():
        assert not (host.runtime / "identity").exists(), "keys are for one handoff"
        small = {"agent.log", "progress.json", "result.json", "restored.json", "stages", "settle.lock"}
        assert {path.name for path in host.runtime.iterdir()} <= small, "/run is memory"
    expect_moved(pair)


def test_criu_is_run_with_exactly_these_words(pair: Pair) -> None:
    pair.ask(TARGET, options={"shell_job": True})
    pair.run()
    source, target = pair.source, pair.target
    assert source.argvs("dump") == [
        [
            *[str(source.criu), "dump", "--tree", str(PID), "--images-dir", str(source.runtime / "dump")],
            *["--log-file", "dump.log", "-v2", "--root", str(source.box)],
            *["--action-script", str(source.runtime / "stages" / "action"), "--external", "mnt[/data]:/data"],
            "--stream",
        ]
    ]
    assert target.argvs("restore") == [
        [
            *[str(target.criu), "restore", "--restore-detached", "--images-dir", str(pair.images)],
            *["--log-file", "restore.log", "-v2", "--root", str(target.box)],
            *["--action-script", str(target.runtime / "stages" / "action")],
            *["--external", f"mnt[/data]:{target.data}", "--shell-job"],
        ]
    ]


def test_the_result_says_what_was_moved_and_how_long_it_took(pair: Pair) -> None:
    pair.target.generations().begin("redis", 6)
    pair.run()
    result = pair.source.result()
    assert (result["pid"], result["generation"]) == (RESTORED, 8)
    assert result["image_bytes"] == 300_000 + len("inventoryregisters")
    assert (result["reason"], result["remedy"], result["facts"]) == ("", "", {})
    timings = result["timings"]
    assert set(timings["source"]) == {"connect", "live_copy", "frozen", "dump", "transfer", "restore", "let_go"}
    assert set(timings["target"]) == {"reserve", "receive", "restore", "resume"}
    assert 0 < timings["source"]["dump"]["seconds"] < result["frozen_seconds"] < 10
    assert result["frozen_seconds"] == timings["source"]["frozen"]["seconds"]
    assert pair.target.generations().current("redis") == 8


def test_what_is_kept_is_a_complete_image_set_that_nobody_else_can_read(pair: Pair) -> None:
    pair.ask(TARGET, keep_images=True)
    pair.run()
    manifest = read_manifest(pair.images)
    verify_files(pair.images, manifest)
    assert sorted(manifest.files) == sorted(IMAGES)
    assert (pair.images / "pages-1.img").read_bytes() == b"m" * 300_000
    assert manifest.created.endswith("+00:00")
    assert manifest.options["network_lock"] is None
    assert pair.images.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in pair.images.iterdir() if path.stat().st_mode & 0o077] == []
    expect_moved(pair)


def test_all_that_is_written_is_for_root_alone(pair: Pair) -> None:
    for host in pair.hosts.values():
        host.runtime.chmod(0o700)  # agent.py makes it
    # While it is open: afterwards most of it is gone.
    for side, place in ((TARGET, pair.images), (SOURCE, pair.source.runtime), (TARGET, pair.target.runtime)):
        pair.hook(side, "held", "cp", "-rp", str(place), str(pair.folder / f"copy.{place.name}"))
    pair.run()
    places = [place for host in pair.hosts.values() for place in (host.runtime, host.here / "lib" / "handoffs")]
    paths = [path for place in (*places, *pair.folder.glob("copy.*")) for path in (place, *place.rglob("*"))]
    assert {path.name for path in paths} >= {
        *("request.json", "result.json", "progress.json", "agent.log", "action", "restored.json", "pages-1.img"),
        *(f"{HANDOFF}.source.jsonl", f"{HANDOFF}.target.jsonl"),
    }
    assert [str(path) for path in paths if path.lstat().st_mode & 0o077] == []


def enter_user_namespace(pair: Pair) -> None:
    for pid in (PID, CHILD):
        process = pair.source.proc.folder / str(pid)
        (process / "ns/user").unlink()
        (process / "ns/user").symlink_to("user:[4026539999]")
        for name in ("uid_map", "gid_map"):
            (process / name).write_text(f"0 {os.getgid()} 65536\n")


@pytest.mark.parametrize("transport", ["direct", "shared"])
def test_the_images_of_a_user_namespace_are_open_to_its_root_while_criu_reads_them(pair: Pair, transport: str) -> None:
    enter_user_namespace(pair)
    pair.ask(SOURCE, transport=transport, **({"images": str(pair.images)} if transport == "shared" else {}))
    pair.ask(TARGET, transport=transport, keep_images=True)
    pair.hook(TARGET, "held", "cp", "-rp", str(pair.images), str(pair.folder / "copy"))
    pair.run()
    expect_moved(pair)
    meanwhile = {path: path.stat() for path in (pair.folder / "copy", *(pair.folder / "copy").glob("*.img"))}
    assert {path.name for path in meanwhile} == {"copy", *IMAGES}
    assert {status.st_gid for status in meanwhile.values()} == {os.getgid()}
    assert {status.st_mode & 0o777 for path, status in meanwhile.items() if path.name != "copy"} == {0o640}
    assert meanwhile[pair.folder / "copy"].st_mode & 0o777 == 0o710
    others = {path.stat().st_mode & 0o777 for path in (pair.folder / "copy").iterdir() if path not in meanwhile}
    assert others <= {0o600}
    assert pair.images.stat().st_mode & 0o777 == 0o700
    assert read_manifest(pair.images).image_group == os.getgid()


ORDER = """\
target armed
source connected
target receiving
source copied
source before_freeze
target before_freeze
source freezing
source held
target complete
target held
source before_run
source committed
target before_run
target run
target running
source done
"""


def test_the_hooks_run_in_this_order(pair: Pair) -> None:
    book = pair.folder / "book"
    write = f'echo "$CRIU_HANDOFF_SIDE $CRIU_HANDOFF_MOMENT $CRIU_HANDOFF_PID" >>{book}'
    moments = [line.split() for line in ORDER.splitlines()] + [[SOURCE, "after_run"], [TARGET, "after_run"]]
    for side, moment in [*moments, [SOURCE, "rolled_back"], [TARGET, "rolled_back"]]:
        pair.hook(side, moment, "sh", "-c", write)
    pair.run()
    lines = [line.split() for line in book.read_text().splitlines()]
    for side in (SOURCE, TARGET):
        own = [line[1] for line in lines if line[0] == side]
        wanted = [moment for each, moment in moments if each == side and moment != "armed"]
        assert own == wanted
    places = {(line[0], line[1]): number for number, line in enumerate(lines)}
    assert places[TARGET, "before_freeze"] < places[SOURCE, "freezing"]
    assert places[SOURCE, "held"] < places[TARGET, "complete"]
    assert places[TARGET, "held"] < places[SOURCE, "before_run"]
    assert places[SOURCE, "committed"] < places[TARGET, "before_run"]
    assert places[TARGET, "running"] < places[SOURCE, "done"]
    assert {line[2] for line in lines if line[0] == SOURCE} == {str(PID)}
    assert lines[places[TARGET, "before_run"]][2] == str(RESTORED)
    assert [hook["moment"] for hook in pair.source.result()["hooks"]][-2:] == ["done", "after_run"]
    expect_moved(pair)


def test_the_workload_stays_as_it_is_until_the_target_may_run(pair: Pair) -> None:
    seen = pair.folder / "seen"
    stat = pair.source.proc.folder / str(PID) / "stat"
    for moment in ("before_freeze", "held", "before_run", "committed"):
        pair.hook(SOURCE, moment, "sh", "-c", f"cut -d' ' -f3 {stat} >>{seen}; ls {stat.parent}/stop >>{seen}; true")
    stop = f"{stat.parent}/stop"
    pair.run()
    assert seen.read_text().split() == ["S", "t", "t", "t", stop], "frozen for good before it is recorded"


@pytest.mark.parametrize("method", ["zstd", "lz4"])
def test_images_go_compressed(pair: Pair, method: str) -> None:
    if shutil.which(method) is None:
        pytest.skip(f"{method} is not installed here")
    pair.ask(SOURCE, compression=method)
    pair.ask(TARGET, keep_images=True)
    pair.run()
    verify_files(pair.images, read_manifest(pair.images))
    assert (pair.images / "pages-1.img").read_bytes() == b"m" * 300_000
    assert pair.source.result()["image_bytes"] == 300_018
    expect_moved(pair)


def test_a_limit_of_bytes_a_second_is_kept(pair: Pair) -> None:
    pair.ask(SOURCE, bandwidth_limit=1_000_000)
    pair.run()
    timings = pair.source.result()["timings"]["source"]
    # What CRIU has written may still wait to be sent when it is done.
    assert timings["dump"]["seconds"] + timings["transfer"]["seconds"] >= 0.25
    expect_moved(pair)


def test_storage_that_both_have_takes_no_stream(pair: Pair) -> None:
    pair.ask(SOURCE, transport="shared", images=str(pair.images))
    pair.ask(TARGET, transport="shared", keep_images=True)
    pair.run()
    assert "--stream" not in pair.source.argvs("dump")[0]
    assert pair.source.result()["image_bytes"] == 300_018
    verify_files(pair.images, read_manifest(pair.images))
    expect_moved(pair)


def test_storage_that_is_not_the_same_is_found_out(pair: Pair) -> None:
    other = pair.folder / "other"
    other.mkdir()
    pair.ask(SOURCE, transport="shared", images=str(pair.images))
    pair.ask(TARGET, transport="shared", images=str(other))
    pair.run()
    assert pair.lives() == BACK
    assert "are not those of the source" in pair.source.result()["reason"]
    assert steps(pair) == (["armed", "freezing", "back"], ["armed", "receiving", "cleared"])
    assert pair.target.argvs("restore") == []


# While another handoff is open


def open_handoff(pair: Pair, side: str, *steps: Step, **facts: Any) -> Journal:
    host = pair.hosts[side]
    journal = Journal("old", side, host.here / "lib" / "handoffs")
    known = {"boot_id": host.proc.boot_id(), "source": "node1", "target": "node9", "folder": str(pair.folder / "old")}
    journal.begin({"workload": "redis", **known, **facts})
    for step in steps:
        journal.record(step)
    return journal


@pytest.mark.parametrize("name", ["redis", "another name"])
def test_what_is_held_in_doubt_is_not_sent_once_more(pair: Pair, name: str) -> None:
    journal = open_handoff(pair, SOURCE, Step.FREEZING, Step.COMMITTED, workload=name, pid=PID, start_time=START)
    before = journal.path.read_bytes()
    # It does not come to ask the target for anything, which the role ends then.
    pair.arm()
    pair.start(SOURCE, sender.main, pair.send)
    until = time.monotonic() + PATIENCE
    while not (pair.source.runtime / RESULT).exists() and time.monotonic() < until:
        time.sleep(0.005)
    pair.stop(TARGET)
    pair.wait()
    result = pair.source.result()
    assert result["outcome"] == "back"
    assert "the handoff old (node1 -> node9)" in result["reason"]
    assert "-e handoff=old" in result["remedy"]
    assert pair.source.argvs("dump") == []
    assert steps(pair) == ([], ["armed", "cleared"])
    assert journal.path.read_bytes() == before


def test_a_target_that_keeps_the_images_of_another_attempt_takes_none(pair: Pair) -> None:
    open_handoff(pair, TARGET, Step.COMPLETE, Step.DROPPED, images=str(pair.folder / "old images"))
    pair.run()
    assert "the handoff old " in pair.target.result()["reason"]
    assert pair.lives() == BACK
    assert steps(pair)[1] == []
    assert not pair.images.exists()


def test_what_died_before_anything_is_ended_on_the_way(pair: Pair) -> None:
    sent = open_handoff(pair, SOURCE, Step.FREEZING, pid=PID, start_time=START)
    taken = open_handoff(pair, TARGET, Step.RECEIVING, images=str(pair.folder / "old images"))
    pair.run()
    assert sent.path.read_text().count('"back"') == 1
    assert taken.path.read_text().count('"cleared"') == 1
    expect_moved(pair)


# Folders that are synced. What rsync does is tested in test_files.py.


class Copies:
    """In the place of files.Sender: notes what it is asked, and really opens the connections."""

    def __init__(self, book: Path, fails: bool) -> None:
        self._book = book
        self._fails = fails
        self.folder_times = {"k1": 1_700_000_000_123_456_789}

    def __call__(self, folder: Path, connect: Callable[[str], Any], runner: Any, compare: Any) -> Copies:
        self._connect, self._compare = connect, compare
        self._numbers: list[int] = []
        return self

    def note(self, text: str) -> None:
        with self._book.open("a") as stream:
            stream.write(text + "\n")

    def prepare(self, copies: Sequence[Copy]) -> None:
        self.note(f"prepare {len(copies)}")

    def copy(self, copies: Sequence[Copy], live: bool, bandwidth: int | None = None) -> list[dict[str, Any]]:
        self.note(f"copy {'live' if live else 'last'} {bandwidth} {threading.current_thread().name[:4]}")
        for copy in copies:
            if live:
                found = self._compare(copy, "")
                self.note(f"compared {found.is_known} {list(found.names)} {list(found.rsync) >= [3]}")
            stream = self._connect(copy.module)
            self._numbers.append(stream.number)
            stream.close()
        if self._fails and not live:
            raise CommandFailed("Copying failed.", "See what rsync says.")
        return [{"path": copy.path, "bytes": 1, "live": live} for copy in copies]

    def catch_up(self, copies: Sequence[Copy], bandwidth: int | None) -> None:
        self.note(f"catch up {bandwidth}")

    def take_numbers(self) -> list[int]:
        taken, self._numbers = self._numbers, []
        return taken

    def remember(self, name: str) -> None:
        self.note(f"remember {len(name)}")

    def close(self) -> None:
        self.note("close")


def with_copies(pair: Pair, fails: bool = False) -> Path:
    book, served = pair.folder / "book", pair.folder / "served"
    pair.ask(SOURCE, copies=[{"path": str(pair.source.data), "folder": "k1"}], bandwidth_limit=50_000_000)
    pair.ask(TARGET, folders={"k1": str(pair.target.data)})
    pair.set(SOURCE, sender.files, "Sender", Copies(book, fails))

    def serve(stream: Any, module: str, modules: Any, folder: Path, pinned: Pinned) -> None:
        with served.open("a") as log:
            log.write(f"{module} {modules[module]} {folder.parent == pair.target.runtime}\n")
        assert pinned.is_at(modules[module], str(pair.target.data))

    pair.set(TARGET, receiver.file_server, "serve", serve)
    return book


def test_folders_are_synced_while_it_runs_and_once_more_while_it_does_not(pair: Pair) -> None:
    book = with_copies(pair)
    pair.run()
    lines = book.read_text().splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["copy", "live", "50000000"],
        ["compared", "False", "[]"],
        ["catch", "up", "50000000"],
        ["prepare", "1"],
        ["copy", "last", "None"],
        ["close"],
        ["remember", "32"],
    ]
    assert [copy["live"] for copy in pair.source.result()["copies"]] == [True, False]
    assert (pair.folder / "served").read_text() == f"k1 {pair.target.data} True\n" * 2
    assert "files" in pair.source.result()["timings"]["source"]
    expect_moved(pair)


IS_OPEN = """
import os, socket, sys
with socket.socket(socket.AF_INET) as connection:
    sys.exit(connection.connect_ex(("127.0.0.1", int(os.environ["CRIU_HANDOFF_PORT"]))) == 0)
"""


def test_the_port_is_closed_in_the_freeze_and_what_may_be_needed_is_connected(pair: Pair) -> None:
    # The last copy of this double takes a connection that nobody has announced to it.
    with_copies(pair)
    for side, moment in ((TARGET, "held"), (SOURCE, "held"), (SOURCE, "before_run")):
        pair.hook(side, moment, sys.executable, "-S", "-c", IS_OPEN)
    pair.run()
    expect_moved(pair)
    assert (pair.folder / "served").read_text().count("\n") == 2


def test_without_the_last_changes_nothing_is_moved(pair: Pair) -> None:
    with_copies(pair, fails=True)
    pair.run()
    result = expect_back(pair)
    assert (result["reason"], result["remedy"]) == ("Copying failed.", "See what rsync says.")
    assert pair.target.argvs("restore") == []


def test_both_hosts_note_who_has_the_newest_contents(pair: Pair) -> None:
    with_copies(pair)
    there = Contents(pair.target.here / "lib" / "contents.json")
    there.claim([str(pair.target.data)], "redis")
    pair.ask(TARGET, claims=[str(pair.target.data)])
    (pair.target.data / "file").touch()
    pair.run()
    expect_moved(pair)
    here = Contents(pair.source.here / "lib" / "contents.json")
    assert "never handed over" in (there.problem(str(pair.target.data), "redis", 9) or "")
    assert here.problem(str(pair.source.data), "redis", 1) is None
    assert "newer than what would come" in (here.problem(str(pair.source.data), "redis", 0) or "")


@pytest.mark.parametrize("replaces", [False, True])
def test_contents_that_have_become_newer_since_the_plan_are_not_replaced(pair: Pair, replaces: bool) -> None:
    with_copies(pair)
    pair.ask(TARGET, claims=[str(pair.target.data)], replace_contents=replaces)
    (pair.target.data / "file").touch()
    there = Contents(pair.target.here / "lib" / "contents.json")
    there.begin([str(pair.target.data)], "redis", 5, "redis-0", arrives=False)
    there.conclude("redis-0", moved=True)
    pair.run()
    if replaces:
        expect_moved(pair)
        return
    assert "newer than what would come (generation 0)" in expect_back(pair)["reason"]
    assert "freezing" not in steps(pair)[0]
    assert not (pair.folder / "served").exists()


def test_a_handoff_in_doubt_leaves_open_who_has_the_newest_contents_until_it_is_settled(pair: Pair) -> None:
    with_copies(pair)
    there = Contents(pair.target.here / "lib" / "contents.json")
    there.claim([str(pair.target.data)], "redis")
    pair.ask(TARGET, claims=[str(pair.target.data)])
    (pair.target.data / "file").touch()
    pair.cut(SOURCE, "run", after=False)
    pair.run()
    here = Contents(pair.source.here / "lib" / "contents.json")
    assert "not known whether the handoff redis-1" in (here.problem(str(pair.source.data), "redis") or "")
    pair.settle_both()
    assert "never handed over" in (here.problem(str(pair.source.data), "redis") or "")


@pytest.mark.parametrize(
    ("which", "rc", "moves"),
    [("live", 23, False), ("live", 24, True), ("last", 23, False), ("last", 24, False), ("unused", 12, True)],
)
def test_each_copy_that_the_source_counts_must_have_ended_well_at_the_target(
    pair: Pair, which: str, rc: int, moves: bool
) -> None:
    with_copies(pair)
    served = pair.folder / "served"

    def serve(stream: Any, module: str, modules: Any, folder: Path, pinned: Pinned) -> None:
        number = int(folder.name.rpartition(".")[2])
        with served.open("a") as log:
            log.write(f"{number}\n")
        # Later than all that the source has to say.
        time.sleep(0.1)
        at = ["live", "unused", "last"][len(served.read_text().splitlines()) - 1]
        if at == which:
            raise CommandFailed(f"rsync said: File system {at}.", "Look.", {"rc": rc})

    copies = Copies(pair.folder / "book", False)
    prepare = copies.prepare

    def open_one_more(wanted: Sequence[Copy]) -> None:
        prepare(wanted)
        copies._connect(wanted[0].module).close()

    copies.prepare = open_one_more  # type: ignore[method-assign]
    pair.set(SOURCE, sender.files, "Sender", copies)
    pair.set(TARGET, receiver.file_server, "serve", serve)
    pair.run()
    if moves:
        expect_moved(pair)
        return
    result = expect_back(pair)
    assert f"File system {which}." in result["reason"]
    assert ("freezing" in steps(pair)[0]) is (which == "last")
    assert "committed" not in steps(pair)[0]
    assert not pair.target.criu.with_name("ran").exists()


def test_criu_restores_while_the_last_copies_end_at_the_target(pair: Pair) -> None:
    with_copies(pair)
    held, ends = pair.folder / "held", pair.folder / "ends"

    def serve(stream: Any, module: str, modules: Any, folder: Path, pinned: Pinned) -> None:
        until = time.monotonic() + PATIENCE
        is_last = ends.exists()
        while is_last and not held.exists() and time.monotonic() < until:
            time.sleep(0.01)
        # Of the last one, the target must wait for the end all the same.
        time.sleep(0.1)
        with ends.open("a") as stream_of_ends:
            stream_of_ends.write(f"{held.exists()} {pair.target.criu.with_name('ran').exists()}\n")

    pair.set(SOURCE, sender.files, "Sender", Copies(pair.folder / "book", False))
    pair.set(TARGET, receiver.file_server, "serve", serve)
    pair.hook(TARGET, "held", "touch", str(held))
    pair.run()
    expect_moved(pair)
    assert ends.read_text().splitlines() == ["False False", "True False"]


def test_what_goes_wrong_at_the_target_is_told_beside_what_rsync_says_here(pair: Pair) -> None:
    with_copies(pair)

    def serve(stream: Any, module: str, modules: Any, folder: Path, pinned: Pinned) -> None:
        raise CommandFailed("rsync there ended: Read-only file system.", "Look.", {"rc": 23})

    def copy(wanted: Sequence[Copy], live: bool, bandwidth: int | None = None) -> list[dict[str, Any]]:
        stream = copies._connect(wanted[0].module)
        stream.close()
        raise CommandFailed("Copying failed.", "Look.", {"connections": [stream.number]})

    copies = Copies(pair.folder / "book", False)
    copies.copy = copy  # type: ignore[method-assign]
    pair.set(SOURCE, sender.files, "Sender", copies)
    pair.set(TARGET, receiver.file_server, "serve", serve)
    pair.run()
    assert expect_back(pair)["reason"] == "Copying failed. node2 says: rsync there ended: Read-only file system."
    assert "freezing" not in steps(pair)[0]


# Ways back

VETOES = [
    (SOURCE, "before_freeze", ["armed", "back"], ["armed", "receiving", "cleared"]),
    (TARGET, "before_freeze", ["armed", "back"], ["armed", "receiving", "cleared"]),
    (SOURCE, "held", ["armed", "freezing", "back"], ["armed", "receiving", "cleared"]),
    (TARGET, "held", ["armed", "freezing", "back"], ["armed", "receiving", "complete", "refused", "cleared"]),
    (SOURCE, "before_run", ["armed", "freezing", "back"], ["armed", "receiving", "complete", "cleared"]),
    (
        *(TARGET, "before_run"),
        *(["armed", "freezing", "committed", "back"], ["armed", "receiving", "complete", "refused", "cleared"]),
    ),
]


@pytest.mark.parametrize(("side", "moment", "source", "target"), VETOES)
def test_a_hook_may_say_no(pair: Pair, side: str, moment: str, source: list[str], target: list[str]) -> None:
    book = pair.folder / "book"
    pair.hook(side, moment, "false")
    for each in (SOURCE, TARGET):
        pair.hook(each, "rolled_back", "sh", "-c", f"echo {each} >>{book}")
        pair.hook(each, "after_run", "sh", "-c", f"echo after_run >>{book}")
    pair.run()
    assert steps(pair) == (source, target)
    result = expect_back(pair)
    assert f"The hook false at {moment} failed (exit status 1)" in result["reason"]
    assert result["reason"].startswith("node2: ") == (side == TARGET)
    assert "required: false" in result["remedy"]
    assert sorted(book.read_text().split()) == [SOURCE, TARGET]
    assert (pair.source.argvs("dump") == []) == (moment == "before_freeze")


@pytest.mark.parametrize("how", ["fails_at", "dies_at"])
@pytest.mark.parametrize("place", ["start", "stream", "network-lock", "post-dump"])
def test_a_dump_that_fails_changes_nothing(pair: Pair, how: str, place: str) -> None:
    rescript(pair.source.criu, **{how: place})
    pair.run()
    assert steps(pair) == (["armed", "freezing", "back"], ["armed", "receiving", "cleared"])
    result = expect_back(pair)
    assert f"The dump of redis (pid {PID}) failed" in result["reason"]
    if how == "fails_at" and place != "start":
        assert result["facts"]["criu_errors"] == [f"it fails at {place}"]


def test_a_dump_that_gets_stuck_is_ended(pair: Pair) -> None:
    rescript(pair.source.criu, hangs_at="network-lock")
    pair.set(SOURCE, sender, "_STALLED_SECONDS", 1.0)
    pair.run()
    assert steps(pair) == (["armed", "freezing", "back"], ["armed", "receiving", "cleared"])
    assert "CRIU wrote nothing for" in expect_back(pair)["reason"]


def test_a_criu_that_cannot_be_started_changes_nothing(pair: Pair) -> None:
    pair.hook(SOURCE, "before_freeze", "rm", str(pair.source.criu))
    pair.run()
    assert "could not be started" in expect_back(pair)["reason"]


@pytest.mark.parametrize("place", ["start", "setup-namespaces", "post-restore"])
@pytest.mark.parametrize("how", ["fails_at", "dies_at"])
def test_a_restore_that_fails_lets_the_source_run_on(pair: Pair, how: str, place: str) -> None:
    rescript(pair.target.criu, **{how: place})
    pair.run()
    assert steps(pair)[0] == ["armed", "freezing", "back"]
    assert steps(pair)[1] == ["armed", "receiving", "complete", "refused", "cleared"]
    if how == "dies_at" and place != "start":
        # Nobody knows yet what hangs there: CRIU never said which process it is.
        (pair.target.proc.folder / str(RESTORED)).rename(pair.folder / "orphan")
    assert pair.source.result()["reason"].startswith("node2: The restore of redis failed")
    expect_back(pair)


def test_a_copy_that_criu_left_hanging_is_killed_and_the_source_runs_on(pair: Pair) -> None:
    rescript(pair.target.criu, dies_at="resume")
    pair.run()
    assert steps(pair) == (
        ["armed", "freezing", "committed", "back"],
        ["armed", "receiving", "complete", "run", "refused", "cleared"],
    )
    expect_back(pair)


@pytest.mark.parametrize("script", [{"dies_at": "end"}, {"status": 1}])
def test_a_copy_that_runs_is_not_given_up_because_criu_ended_badly(pair: Pair, script: dict[str, Any]) -> None:
    rescript(pair.target.criu, **script)
    pair.run()
    assert steps(pair) == MOVED_STEPS
    expect_moved(pair)


def test_images_that_are_not_what_was_sent_are_not_restored(pair: Pair) -> None:
    wrong = {"pages-1.img": [300_000, 1]}
    pair.set(SOURCE, sender.Capture, "checksums", property(lambda self: wrong))
    pair.run()
    result = expect_back(pair)
    assert "node2: Images are not what the source sent: core-1.img, ids-1.img" in result["reason"]
    assert pair.target.argvs("restore") == []


def test_other_mounts_than_intended_are_refused_before_anything_runs(pair: Pair) -> None:
    template = pair.target.criu.with_name("template") / "mountinfo"
    template.write_text(template.read_text().replace(" /data rw", " /data ro"))
    pair.run()
    result = expect_back(pair)
    assert "/data is now mounted ro" in result["reason"]
    assert result["facts"] == {"differences": ["/data is now mounted ro"]}
    assert not pair.target.criu.with_name("ran").exists()


def change_root(pair: Pair, options: str) -> None:
    for pid in (PID, CHILD):
        mounts = pair.source.proc.folder / str(pid) / "mountinfo"
        mounts.write_text(mounts.read_text().replace(" / rw", f" / {options}"))


def test_a_root_that_is_read_only_stays_so(pair: Pair) -> None:
    template = pair.target.criu.with_name("template") / "mountinfo"
    template.write_text(template.read_text().replace(" / rw", " / ro,nodev"))
    change_root(pair, "ro,nodev")
    done = pair.folder / "done"

    class Mounts(FakePrivateMounts):
        def set_options(self, path: str, options: Sequence[str]) -> None:
            # After the last copy, which may go there, and before CRIU begins.
            assert not pair.target.argvs("restore")
            done.write_text(f"{path} {' '.join(options)}")

    pair.set(TARGET, receiver, "PrivateMounts", Mounts)
    pair.run()
    expect_moved(pair)
    assert done.read_text() == f"{pair.target.box} ro nodev"


def test_a_root_that_cannot_be_mounted_as_it_was_is_told(pair: Pair) -> None:
    change_root(pair, "ro")

    class Mounts(FakePrivateMounts):
        def set_options(self, path: str, options: Sequence[str]) -> None:
            raise CommandFailed(f"The root {path} cannot be mounted.")

    pair.set(TARGET, receiver, "PrivateMounts", Mounts)
    pair.run()
    assert "cannot be mounted" in expect_back(pair)["reason"]


def test_criu_gets_what_was_checked_whoever_renames_what_meanwhile(pair: Pair) -> None:
    places = pair.folder / "places"
    places.mkdir()

    class Mounts(FakePrivateMounts):
        def place(self, path: str, pinned: Pinned) -> str:
            place = places / Path(path).name
            with pinned.opened(path) as descriptor:
                if not place.is_symlink():
                    place.symlink_to(os.readlink(f"/proc/self/fd/{descriptor}"))
            return str(place)

        @property
        def paths(self) -> dict[str, str]:
            return {str(places / path.name): str(path) for path in (pair.target.box, pair.target.data)}

    pair.set(TARGET, receiver, "PrivateMounts", Mounts)
    pair.run()
    expect_moved(pair)
    (argv,) = pair.target.argvs("restore")
    assert argv[argv.index("--root") + 1] == str(places / "box")
    assert f"mnt[/data]:{places / 'data'}" in argv


def test_a_map_that_does_not_fit_is_found_before_the_freeze(pair: Pair) -> None:
    pair.ask(TARGET, restore_map=[{"key": "/data", "path": str(pair.folder / "missing")}])
    pair.run()
    assert "missing" in expect_back(pair)["reason"]
    assert pair.source.argvs("dump") == []


def test_a_manifest_that_cannot_be_written_lets_the_source_run_on(pair: Pair) -> None:
    def fail(images: Path, manifest: Any) -> None:
        time.sleep(0.3)  # CRIU waits by then
        raise OSError(5, "Input/output error")

    pair.set(TARGET, receiver, "write_manifest", fail)
    pair.run()
    assert steps(pair)[1] == ["armed", "receiving", "complete", "refused", "cleared"]
    assert "node2: OSError: [Errno 5] Input/output error" in expect_back(pair)["reason"]


def test_memory_that_does_not_fit_is_found_before_the_freeze(pair: Pair) -> None:
    def fail(descriptor: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    pair.set(TARGET, os, "posix_fallocate", fail)
    pair.run()
    result = expect_back(pair)
    assert "There is no room for 0 MiB of memory" in result["reason"]
    assert "criu_images" in result["remedy"]
    assert result["facts"] == {"needed_bytes": 307200}
    assert pair.source.argvs("dump") == []


def test_an_image_folder_that_is_in_use_is_left_alone(pair: Pair) -> None:
    pair.images.mkdir()
    (pair.images / "pages-1.img").write_text("of somebody else")
    pair.arm()
    pair.wait()
    assert pair.settle_both() == (Outcome.BACK, Outcome.NO_RECORD)
    result = pair.target.result()
    assert (result["outcome"], pair.statuses[TARGET]) == ("cleared", 1)
    assert "is not empty" in result["reason"]
    assert (pair.images / "pages-1.img").read_text() == "of somebody else"


def test_what_was_dumped_of_it_before_is_overtaken(pair: Pair) -> None:
    pair.source.generations().begin("redis", 2)
    pair.hook(SOURCE, "before_freeze", "false")
    pair.run()
    assert pair.source.generations().spent("redis") == 3
    assert pair.source.generations().current("redis") == 4, "that of a dump that was not"


def test_a_workload_that_is_gone_is_not_looked_for_elsewhere(pair: Pair) -> None:
    pair.ask(SOURCE, start_time=1)
    pair.start(SOURCE, sender.main, pair.send)
    pair.wait()
    assert "does not run here as process" in pair.source.result()["reason"]
    assert pair.source.steps() == []
    assert pair.source.state(PID) == "S"


def test_a_target_for_whom_nobody_comes_clears_up(pair: Pair) -> None:
    pair.ask(TARGET, arm_seconds=0.1)
    pair.arm()
    pair.wait()
    assert pair.target.steps() == ["armed", "cleared"]
    assert "did not go on in time (armed)" in pair.target.result()["reason"]


def test_a_source_that_finds_nobody_runs_on(pair: Pair) -> None:
    pair.send = pair.send.__class__(**{**pair.send.__dict__, "port": 1})
    pair.start(SOURCE, sender.main, pair.send)
    pair.wait()
    assert pair.source.steps() == ["armed", "back"]
    assert "cannot be reached" in pair.source.result()["reason"]
    assert pair.source.state(PID) == "S"


# The journal must not fall behind


def fail_to_record(pair: Pair, side: str, *steps_: Step, may_be_there: Sequence[Step] = ()) -> None:
    record = Journal.record

    def fail(self: Journal, step: Step, facts: Mapping[str, Any] | None = None) -> None:
        if step not in steps_:
            record(self, step, facts)
        if step in (*steps_, *may_be_there):
            error = OSError(28, "No space left on device")
            raise RecordFailed(self.path, step.value, error, step in may_be_there)

    pair.set(side, Journal, "record", fail)


@pytest.mark.parametrize(
    ("side", "step", "target"),
    [
        (SOURCE, Step.COMMITTED, ["armed", "receiving", "complete", "cleared"]),
        (TARGET, Step.COMPLETE, ["armed", "receiving", "cleared"]),
        (TARGET, Step.RUN, ["armed", "receiving", "complete", "refused", "cleared"]),
    ],
)
def test_what_cannot_be_recorded_is_not_done(pair: Pair, side: str, step: Step, target: list[str]) -> None:
    fail_to_record(pair, side, step)
    pair.run()
    assert pair.target.steps() == target
    assert "No space left on device" in expect_back(pair)["reason"]
    assert not pair.target.criu.with_name("ran").exists()


def test_a_source_that_cannot_record_that_it_runs_on_stays_frozen(pair: Pair) -> None:
    pair.hook(TARGET, "before_run", "false")
    fail_to_record(pair, SOURCE, Step.BACK)
    pair.run()
    assert pair.source.result()["outcome"] == "doubt"
    assert pair.lives() == ("t", "")
    assert pair.settle_both() == (Outcome.BACK, Outcome.NOT_RUN)
    assert pair.lives() == BACK


def test_a_commitment_that_may_be_on_disk_is_taken_back_on_disk(pair: Pair) -> None:
    fail_to_record(pair, SOURCE, may_be_there=[Step.COMMITTED])
    pair.run()
    assert pair.source.steps() == ["armed", "freezing", "committed", "back"]
    assert "It may be there all the same" in expect_back(pair)["reason"]
    assert not pair.target.criu.with_name("ran").exists()


@pytest.mark.parametrize("may_be_there", [False, True])
def test_a_commitment_that_may_be_on_disk_and_cannot_be_taken_back_leaves_the_workload_frozen(
    pair: Pair, may_be_there: bool
) -> None:
    both = [Step.COMMITTED, Step.BACK]
    fail_to_record(
        pair, SOURCE, *([] if may_be_there else [Step.BACK]), may_be_there=both if may_be_there else both[:1]
    )
    pair.run()
    assert pair.source.result()["outcome"] == "doubt"
    assert pair.lives() == ("t", "")
    assert pair.settle(SOURCE).outcome is (Outcome.BACK if may_be_there else Outcome.HELD)
    assert pair.settle_both() == (Outcome.BACK, Outcome.NOT_RUN)
    assert pair.lives() == BACK


def test_before_it_has_committed_a_source_needs_no_record_to_run_on(pair: Pair) -> None:
    pair.hook(SOURCE, "held", "false")
    fail_to_record(pair, SOURCE, Step.BACK)
    pair.run()
    assert pair.source.result()["outcome"] == "back"
    assert pair.lives() == BACK


def test_both_hosts_know_with_whose_journal_they_spoke(pair: Pair) -> None:
    pair.run()
    folder = pair.target.here / "lib" / "handoffs"
    target = read_record(HANDOFF, TARGET, folder)
    source = read_record(HANDOFF, SOURCE, pair.source.here / "lib" / "handoffs")
    assert target is not None
    assert source is not None
    assert source.facts["peer"] == {name: target.identity[name] for name in ("machine", "journal")}
    assert target.identity["complete"]


@pytest.mark.parametrize("state", ["T", "t"])
def test_a_workload_that_somebody_holds_is_not_moved(pair: Pair, state: str) -> None:
    set_state(pair.source.proc.folder / str(PID), state)
    pair.start(SOURCE, sender.main, pair.send)
    pair.wait()
    assert f"is stopped (state {state})" in pair.source.result()["reason"]
    assert pair.source.steps() == []
    assert pair.source.state(PID) == state


@pytest.mark.parametrize(("side", "step"), [(TARGET, "complete"), (TARGET, "run"), (SOURCE, "freezing")])
def test_a_runtime_folder_that_is_emptied_hangs_nobody(pair: Pair, side: str, step: str) -> None:
    pair.hook(side, step, "rm", "-rf", str(pair.hosts[side].runtime))
    pair.run()
    pair.settle_both()
    assert pair.lives() == BACK
    assert not pair.target.criu.with_name("ran").exists()


def test_a_target_that_has_lost_its_journal_does_not_say_that_it_did_not_run(pair: Pair) -> None:
    pair.hook(SOURCE, "done", "false")
    pair.hosts[SOURCE].setups.append(lambda: setattr(sender.Sender, "_give_up", lambda _self: os._exit(1)))
    pair.run()
    (pair.target.here / "lib" / "handoffs" / f"{HANDOFF}.target.jsonl").unlink()
    journal = pair.source.here / "lib" / "handoffs" / f"{HANDOFF}.source.jsonl"
    journal.write_text("".join(line for line in journal.read_text().splitlines(True) if '"done"' not in line))
    assert pair.settle_both() == (Outcome.HELD, Outcome.NO_RECORD)
    assert pair.lives()[1] == "S"
    assert pair.lives()[0] in ("t", "T")


def test_what_runs_is_said_to_run_even_if_that_cannot_be_recorded(pair: Pair) -> None:
    fail_to_record(pair, TARGET, Step.RUNNING)
    fail_to_record(pair, SOURCE, Step.DONE)
    pair.run()
    assert steps(pair) == (["armed", "freezing", "committed"], ["armed", "receiving", "complete", "run"])
    expect_moved(pair)
    assert steps(pair) == MOVED_STEPS


# The unit


def notifying(pair: Pair, **replaced: Callable[[Notifier, int], None]) -> Path:
    book = pair.folder / "book"

    def note(word: str) -> Callable[[Notifier, int], None]:
        def write(self: Notifier, pid: int) -> None:
            ran = pair.target.criu.with_name("ran").exists()
            with book.open("a") as stream:
                stream.write(f"{word} {pid} {ran}\n")
            if word in replaced:
                replaced[word](self, pid)

        return write

    for word in ("hand_over", "confirm"):
        pair.set(TARGET, Notifier, word, note(word))
    return book


def fail_to_tell(notifier: Notifier, pid: int) -> None:
    raise CriuError("systemd could not be told.", "Look at it.")


def test_the_unit_that_the_workload_leaves_is_not_left_as_failed(pair: Pair) -> None:
    forgotten = pair.folder / "forgotten"

    def forget_failure(unit: str, runner: Any) -> None:
        forgotten.write_text(f"{unit} {pair.source.state(PID)}")

    pair.set(SOURCE, sender, "unit_left_by", lambda pid, proc, runner: f"web{pid}.service")
    pair.set(SOURCE, sender, "forget_failure", forget_failure)
    pair.run()
    expect_moved(pair)
    assert forgotten.read_text() == f"web{PID}.service "


def test_the_unit_is_handed_over_before_the_workload_runs_and_confirmed_after(pair: Pair) -> None:
    book = notifying(pair)
    pair.run()
    assert book.read_text() == f"hand_over {RESTORED} False\nconfirm {RESTORED} True\n"
    expect_moved(pair)


def test_a_workload_that_no_unit_takes_does_not_run(pair: Pair) -> None:
    notifying(pair, hand_over=fail_to_tell)
    pair.run()
    assert not pair.target.criu.with_name("ran").exists()
    assert "systemd could not be told" in expect_back(pair)["reason"]


def test_a_workload_that_runs_is_not_called_lost_for_the_unit_s_sake(pair: Pair) -> None:
    notifying(pair, confirm=fail_to_tell)
    pair.run()
    assert not pair.images.exists()
    expect_moved(pair)


@pytest.mark.parametrize("side", [SOURCE, TARGET])
def test_a_record_that_cannot_be_written_in_the_end_does_not_unmake_the_move(pair: Pair, side: str) -> None:
    moment = "done" if side == SOURCE else "running"
    record = pair.hosts[side].here / "lib" / "generations.json"
    pair.hook(side, moment, "sh", "-c", f"echo damaged >{record}")
    pair.run()
    record.unlink()
    assert not pair.images.exists()
    expect_moved(pair)


# What comes too late


def test_ready_means_nothing_to_a_source_that_does_not_wait_for_it(pair: Pair) -> None:
    mark = pair.folder / "mark"
    pair.hook(SOURCE, "before_run", "touch", str(mark))
    host = pair.source
    for state in (Source.LIVE, Source.FREEZING, Source.COMMITTED, Source.DONE, Source.BACK):
        agent = sender.Sender(pair.send, host.runtime, Report(host.runtime), host, host.proc)
        agent._driver._machine = Machine(state)
        agent._ready()
        assert not mark.exists()
        assert agent._state is state


def test_run_means_nothing_to_a_target_that_is_not_ready(pair: Pair) -> None:
    mark = pair.folder / "mark"
    pair.hook(TARGET, "before_run", "touch", str(mark))
    host = pair.target
    for state in set(Target) - {Target.READY}:
        agent = receiver.Receiver(
            pair.receive, host.runtime, Report(host.runtime), host, host.proc, Notifier(None), None
        )
        agent._driver._machine = Machine(state)
        agent._run()
        assert not mark.exists()
        assert agent._state is state


# Before it runs


def test_a_timer_that_would_stand_still_keeps_the_workload_where_it_is(pair: Pair, tmp_path: Path) -> None:
    # The played copy has no descriptors, so that its timer cannot be armed again.
    write_timers(tmp_path, {3: ImageTimer(3, 1, 1, 0, 0, 7)}, {RESTORED: {4: 3}})
    timers = {path.name: path.read_bytes().decode("ascii") for path in tmp_path.glob("*.img")}
    rescript(pair.source.criu, images={**IMAGES, **timers})
    pair.run()
    assert f"The periodic timer 4 of process {RESTORED} would stand still" in expect_back(pair)["reason"]


# What CRIU does to the host


def strip_control_groups(pair: Pair) -> None:
    for host in pair.hosts.values():
        host.mount_control_groups()
        rescript(host.criu, strips=CGROUP_OPTION)


def put_back(pair: Pair, *hosts: str) -> list[str]:
    what = f"the mount option {CGROUP_OPTION} of /sys/fs/cgroup, which CRIU took."
    return [f"{name}: Put back {what}" for name in hosts]


def test_mount_options_that_criu_takes_are_put_back(pair: Pair) -> None:
    strip_control_groups(pair)
    pair.run()
    expect_moved(pair)
    assert pair.source.has_control_groups()
    assert pair.target.has_control_groups()
    assert pair.source.result()["put_back"] == put_back(pair, pair.send.source, pair.send.target)


@pytest.mark.parametrize(("side", "place"), [(SOURCE, "post-dump"), (TARGET, "post-restore"), (TARGET, "start")])
def test_mount_options_are_put_back_after_a_failure_too(pair: Pair, side: str, place: str) -> None:
    strip_control_groups(pair)
    rescript(pair.hosts[side].criu, fails_at=place)
    pair.run()
    expect_back(pair)
    assert pair.source.has_control_groups()
    assert pair.target.has_control_groups()
    assert put_back(pair, pair.send.source)[0] in pair.source.result()["put_back"]


def test_a_settlement_puts_mount_options_back_for_agents_that_died(pair: Pair) -> None:
    strip_control_groups(pair)
    for side in (SOURCE, TARGET):
        pair.hook(side, "held", "sh", "-c", "kill -9 $CRIU_HANDOFF_AGENT_PID")
    pair.run()
    assert not pair.source.has_control_groups()
    line = put_back(pair, "")[0].removeprefix(": ")
    assert list(pair.settle(SOURCE, Outcome.NOT_RUN).put_back) == [line]
    assert pair.source.has_control_groups()
    assert list(pair.settle(SOURCE, Outcome.NOT_RUN).put_back) == []


RUN_ID = "05f66735-8a31-4e96-a1b2-c3d4e5f60718"
OWN_TABLE, OTHER_TABLE = f"CRIU-{RUN_ID[:21]}", "CRIU-ffffffff-8a31-4e96-a1"


def lock_network(pair: Pair) -> None:
    """CRIU makes its table at the source, where there is one of another dump."""
    pair.ask(SOURCE, options={"tcp_established": True})
    inventory = image(image_file.INVENTORY, [(1, 2), (13, RUN_ID)]).decode("ascii")
    rescript(pair.source.criu, images={**IMAGES, "inventory.img": inventory})
    for name in (OWN_TABLE, OTHER_TABLE, "filter"):
        pair.source.add_nft_table(name)


def test_criu_s_table_of_this_dump_is_removed_after_the_move(pair: Pair) -> None:
    lock_network(pair)
    pair.run()
    expect_moved(pair)
    assert pair.source.nft_tables() == [OTHER_TABLE, "filter"]
    assert pair.source.result()["put_back"] == [f"node1: Removed CRIU's table inet {OWN_TABLE} of nftables."]


def test_criu_s_table_is_removed_after_a_rollback_too(pair: Pair) -> None:
    lock_network(pair)
    rescript(pair.target.criu, fails_at="post-restore")
    pair.run()
    expect_back(pair)
    assert pair.source.nft_tables() == [OTHER_TABLE, "filter"]


@pytest.mark.parametrize(("peer", "outcome"), [(Outcome.RAN, Outcome.GONE), (Outcome.NOT_RUN, Outcome.BACK)])
def test_a_settlement_removes_criu_s_table(pair: Pair, peer: Outcome, outcome: Outcome) -> None:
    lock_network(pair)
    pair.hook(SOURCE, "committed", "sh", "-c", "kill -9 $CRIU_HANDOFF_AGENT_PID")
    pair.run()
    assert OWN_TABLE in pair.source.nft_tables()
    assert pair.settle(SOURCE).outcome is Outcome.HELD
    assert OWN_TABLE in pair.source.nft_tables(), "it is still needed"
    settled = pair.settle(SOURCE, peer)
    assert (settled.outcome, pair.source.nft_tables()) == (outcome, [OTHER_TABLE, "filter"])
    assert list(settled.put_back) == [f"Removed CRIU's table inet {OWN_TABLE} of nftables."]


def test_without_a_lock_nftables_is_not_asked(pair: Pair) -> None:
    lock_network(pair)
    pair.ask(SOURCE, options={"network_lock": "auto"})
    pair.run()
    expect_moved(pair)
    assert OWN_TABLE in pair.source.nft_tables()


def test_the_images_are_durable_before_the_source_may_commit(pair: Pair) -> None:
    # A disk that fails says so when it is synced, and only then.
    def fail(folder: Path) -> None:
        assert (folder / "pages-1.img").stat().st_size == 300_000
        assert not (folder / "manifest.json").exists()
        raise OSError(5, "Input/output error")

    pair.set(TARGET, receiver, "sync_files", fail)
    pair.run()
    assert "Input/output error" in expect_back(pair)["reason"]
    assert "committed" not in pair.source.steps()


def test_a_killed_criu_leaves_no_lock_on_a_workload_that_runs_on(pair: Pair) -> None:
    lock_network(pair)
    # It has not told how it calls its table, but what that locks is a connection of this workload.
    pair.source.add_nft_table(OWN_TABLE, ("192.0.2.7", 6379, "192.0.2.9", 40000))
    pair.source.add_nft_table(OTHER_TABLE, ("192.0.2.8", 6379, "192.0.2.9", 40000))
    process = pair.source.proc.folder / str(PID)
    for folder in ("fd", "net"):
        (process / folder).mkdir()
    (process / "fd" / "7").symlink_to("socket:[777]")
    row = "0: 070200C0:18EB 090200C0:9C40 01 0:0 00:0 0 0 0 777 1"
    (process / "net" / "tcp").write_text(f"header\n{row}\n")
    rescript(pair.source.criu, dies_at="stream")
    pair.run()
    expect_back(pair)
    assert pair.source.nft_tables() == [OTHER_TABLE, "filter"]
