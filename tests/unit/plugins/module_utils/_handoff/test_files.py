# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With the rsync of this machine, and with a daemon in a real chroot where the tests run as root."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff import file_server, rsync
from ansible_collections.fleet.criu.plugins.module_utils._handoff import files as subject
from ansible_collections.fleet.criu.plugins.module_utils._handoff.file_server import serve, set_folder_times
from ansible_collections.fleet.criu.plugins.module_utils._handoff.files import Sender
from ansible_collections.fleet.criu.plugins.module_utils._handoff.rsync import Copy
from ansible_collections.fleet.criu.plugins.module_utils._mounts.pinned import Pinned
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed
from ansible_collections.fleet.criu.plugins.module_utils._trusted import Untrusted
from ansible_collections.fleet.criu.tests.unit.fakes import HOST_MOUNTS, FakeRunner

IS_ROOT = os.getuid() == 0
DONE = Completed(0, "Number of files: 3\nTotal bytes sent: 1,234,567\nTotal bytes received: 99\n")

needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
needs_root = pytest.mark.skipif(not IS_ROOT, reason="chroot needs root")


class SocketStream:
    """Plays the encrypted connection: one end of a socket pair."""

    number = 0

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self.pumped = False
        self.closed = False

    def pump(self, descriptor: int, timeout: float) -> None:
        self.pumped = True
        with socket.socket(fileno=os.dup(descriptor)) as local:
            other = threading.Thread(target=_forward, args=(local, self.peer))
            other.start()
            _forward(self.peer, local)
            other.join()

    def close(self) -> None:
        self.closed = True
        self.peer.close()


class NoStream(SocketStream):
    """For rsyncs that are not run."""

    def __init__(self) -> None:
        self.closed = False

    def pump(self, descriptor: int, timeout: float) -> None:
        raise AssertionError("nothing is to be sent")

    def close(self) -> None:
        self.closed = True


def _forward(reading: socket.socket, writing: socket.socket) -> None:
    with contextlib.suppress(OSError):
        data = reading.recv(65536)
        while data:
            writing.sendall(data)
            data = reading.recv(65536)
    with contextlib.suppress(OSError):
        writing.shutdown(socket.SHUT_WR)


class PlainRunner:
    """Runs rsync and keeps the argument lists. The real one forks with a function, which Python warns of in threads."""

    def __init__(self) -> None:
        self.argvs: list[list[str]] = []

    def __call__(self, command: Command, while_running: Callable[[], None] | None = None) -> Completed:
        self.argvs.append(list(command.argv))
        found = subprocess.run(
            list(command.argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
        return Completed(found.returncode, os.fsdecode(found.stdout), os.fsdecode(found.stderr))


class Pair:
    """A source and a target on this machine."""

    def __init__(self, folder: Path, modules: dict[str, str]) -> None:
        self.folder = folder
        self.modules = modules
        self.runner = PlainRunner()
        self.streams: list[SocketStream] = []
        self.serving: list[threading.Thread] = []
        self.refused: list[CriuError] = []
        self.pinned: Pinned | None = None
        self.sender = Sender(folder / "source", self.connect, self.runner)

    def connect(self, module: str) -> SocketStream:
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=self.serve, args=(SocketStream(theirs), module))
        thread.start()
        self.serving.append(thread)
        self.streams.append(SocketStream(ours))
        return self.streams[-1]

    def serve(self, stream: SocketStream, module: str) -> None:
        try:
            # Each has a folder of its own, as in a handoff: the configuration of its daemon is in there.
            folder = Path(tempfile.mkdtemp(prefix="target.", dir=self.folder))
            serve(stream, module, self.modules, folder, pinned=self.pinned)
        except CriuError as error:
            self.refused.append(error)
        finally:
            stream.close()

    def last(self, copies: list[Copy]) -> list[dict[str, Any]]:
        """The last pass, with what the target does after it."""
        copied = self.sender.copy(copies, live=False)
        set_folder_times(self.sender.folder_times, self.modules, self.pinned)
        return copied

    def listed(self) -> bool:
        """Whether the last pass was the short one."""
        return any(word.startswith("--files-from") for word in self.runner.argvs[-1])

    def whole_passes(self) -> int:
        return sum("--delete" in argv for argv in self.runner.argvs)

    def close(self) -> None:
        self.sender.close()
        for thread in self.serving:
            thread.join(60)
            assert not thread.is_alive()
        assert eventually(lambda: all(stream.closed for stream in self.streams))


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether it holds within two seconds: threads and killed processes end a little later."""
    until = time.monotonic() + 2
    while not holds() and time.monotonic() < until:
        time.sleep(0.005)
    return holds()


@pytest.fixture(autouse=True)
def _as_any_user(monkeypatch: pytest.MonkeyPatch) -> None:
    if not IS_ROOT:
        text = file_server._CONFIGURATION.replace("chroot = yes", "chroot = no")
        monkeypatch.setattr(file_server, "_CONFIGURATION", text.replace("uid = 0\ngid = 0\n", ""))


@pytest.fixture(autouse=True)
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    monkeypatch.setattr(os, "sync", lambda: calls.append("sync"))
    return calls


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of mountinfo: the root is ext4, so that trees can be compared whatever they are on."""
    lines = HOST_MOUNTS.splitlines(keepends=True)

    class FakeProc:
        def mountinfo(self, pid: str) -> str:
            return "".join(lines)

    monkeypatch.setattr(subject, "Proc", FakeProc)
    return lines


def mount(mounts: list[str], mountpoint: object, fstype: str = "ext4") -> None:
    mounts.append(f"99 21 8:9 / {mountpoint} rw - {fstype} a rw\n")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "copy").mkdir()
    return tmp_path / "copy"


@pytest.fixture
def pair(tmp_path: Path, source: Path, target: Path, mounts: list[str]) -> Iterator[Pair]:
    pair = Pair(tmp_path / "run", {"m": str(target)})
    yield pair
    pair.close()


def contents(folder: Path) -> dict[str, Any]:
    """All that can be seen of a tree; hard links by the names that share an inode."""
    found: dict[str, Any] = {}
    inodes: dict[int, list[str]] = {}
    for path in [folder, *sorted(folder.rglob("*"), key=os.fsencode)]:
        status, name = path.lstat(), str(path.relative_to(folder))
        data: Any = None
        if stat.S_ISREG(status.st_mode):
            data = path.read_bytes()
            inodes.setdefault(status.st_ino, []).append(name)
        elif stat.S_ISLNK(status.st_mode):
            data = os.readlink(path)
        attributes = {
            key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
        }
        found[name] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, data, attributes)
    found[" links"] = sorted(inodes.values())
    return found


def change_behind_its_times(path: Path, text: str) -> None:
    """As `cp -p`, `touch -r` and `tar -x` do."""
    times = path.stat()
    path.write_text(text)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def age() -> None:
    """Let the clock of change times tick, so that what was written before is no more of the last moment."""
    time.sleep(0.03)


# What rsync is told


def argvs(tmp_path: Path, copy: Copy, live: bool = False, **options: Any) -> list[list[str]]:
    runner = FakeRunner({("rsync",): DONE})
    Sender(tmp_path / "run", lambda module: NoStream(), runner).copy([copy], live, **options)
    return runner.argvs


def test_a_folder_is_made_equal_with_exactly_these_words(tmp_path: Path, mounts: list[str]) -> None:
    (found,) = argvs(tmp_path, Copy("/srv/data/", "m"))
    (shell,) = [word for word in found if word.startswith("--rsh=")]
    assert found == [
        "rsync",
        "-aHAXS",
        "--numeric-ids",
        "--modify-window=-1",
        "--stats",
        "--delete",
        "--checksum",
        shell,
        "--",
        "/srv/data/",
        "handoff::m/",
    ]


def test_a_file_is_sent_to_its_name_and_nothing_is_deleted(tmp_path: Path, mounts: list[str]) -> None:
    (found,) = argvs(tmp_path, Copy("/etc/app.conf", "m", "new.conf"))
    assert found[-2:] == ["/etc/app.conf", "handoff::m/new.conf"]
    assert "--delete" not in found


def test_only_a_live_pass_is_held_to_the_bandwidth(tmp_path: Path, mounts: list[str], source: Path) -> None:
    copy = Copy(str(source), "m")
    assert "--bwlimit=1000" in argvs(tmp_path, copy, True, bandwidth=1024_000)[0]
    assert "--bwlimit=1" in argvs(tmp_path, copy, True, bandwidth=5)[0]
    for found in (argvs(tmp_path, copy, True)[0], argvs(tmp_path, copy, False, bandwidth=1024_000)[0]):
        assert not [word for word in found if word.startswith("--bwlimit")]


def test_what_the_host_has_mounted_below_is_left_out(tmp_path: Path, mounts: list[str]) -> None:
    for mountpoint in ("/srv/data/b", "/srv/data/a*[x]?/c", "/srv/data/a*[x]?/c", "/srv/data2", "/srv", "/srv/data"):
        mount(mounts, mountpoint)
    (found,) = argvs(tmp_path, Copy("/srv/data", "m"))
    assert [word for word in found if word.startswith("--exclude")] == [
        r"--exclude=/a\*\[x]\?/c/**",
        "--exclude=/b/**",
    ]


def test_where_mapped_writes_do_not_show_the_last_pass_compares_contents(
    tmp_path: Path, mounts: list[str], source: Path
) -> None:
    mount(mounts, source, "tmpfs")
    runner = FakeRunner({("rsync",): DONE})
    sender = Sender(tmp_path / "run", lambda module: NoStream(), runner)
    for live in (True, False):
        sender.copy([Copy(str(source), "m")], live)
        assert "--checksum" in runner.argvs[-1]


def test_only_a_live_pass_writes_back_what_is_cached(
    tmp_path: Path, mounts: list[str], source: Path, synced: list[str]
) -> None:
    argvs(tmp_path, Copy(str(source), "m"))
    assert synced == []
    argvs(tmp_path, Copy(str(source), "m"), True)
    assert synced == ["sync"]


def test_files_that_vanish_are_an_error_unless_the_workload_runs(
    tmp_path: Path, mounts: list[str], source: Path
) -> None:
    runner = FakeRunner({("rsync",): Completed(24, "Total bytes sent: 1,005\n", "1\n2\n3\n4\n5\n")})
    sender = Sender(tmp_path / "run", lambda module: NoStream(), runner)
    before = time.monotonic()
    (found,) = sender.copy([Copy(str(source), "m")], live=True)
    assert found["path"] == str(source)
    assert found["bytes"] == 1005
    assert before <= found["started"] <= time.monotonic()
    assert 0 <= found["seconds"] < 60
    with pytest.raises(CommandFailed) as caught:
        sender.copy([Copy("/a", "m")], live=False)
    assert caught.value.message == "Copying /a to the target failed (rsync exit status 24): 2 | 3 | 4 | 5"
    assert caught.value.facts == {"path": "/a", "rc": 24, "connections": [0]}
    assert "space" in caught.value.remedy


def test_an_rsync_that_cannot_be_started_is_an_error(tmp_path: Path, mounts: list[str]) -> None:
    def missing(command: Command) -> Completed:
        raise CommandFailed("rsync could not be started: No such file.")

    stream = NoStream()
    sender = Sender(tmp_path / "run", lambda module: stream, FakeRunner({("rsync",): missing}))
    with pytest.raises(CommandFailed, match="could not be started"):
        sender.copy([Copy("/a", "m")], live=False)
    assert stream.closed


# Real copies


@needs_rsync
@pytest.mark.parametrize("live", [True, False])
def test_a_tree_comes_over_as_it_is(pair: Pair, source: Path, target: Path, live: bool) -> None:
    (source / "sub").mkdir(mode=0o711)
    (source / "sub" / "file").write_bytes(os.urandom(3_000_000))
    os.link(source / "sub" / "file", source / "link")
    (source / "symlink").symlink_to("/etc/../x")
    (target / "old").mkdir()
    (target / "old" / "file").touch()
    (found,) = pair.sender.copy([Copy(str(source), "m")], live)
    assert contents(source) == contents(target)
    assert found["bytes"] > 3_000_000


@needs_rsync
def test_a_file_gets_its_own_name(pair: Pair, source: Path, target: Path) -> None:
    (source / "app.conf").write_text("new")
    (target / "other").touch()
    copy = Copy(str(source / "app.conf"), "m", "final.conf")
    pair.sender.copy([copy], live=True)
    pair.sender.prepare([copy])
    (source / "app.conf").write_text("newest")
    pair.last([copy])
    assert (target / "final.conf").read_text() == "newest"
    assert sorted(os.listdir(target)) == ["final.conf", "other"]


@needs_rsync
def test_several_copies_go_at_the_same_time(pair: Pair, tmp_path: Path) -> None:
    copies = []
    for number in range(6):
        (tmp_path / f"from{number}").mkdir()
        (tmp_path / f"to{number}").mkdir()
        (tmp_path / f"from{number}" / "file").write_text(str(number))
        pair.modules[f"m{number}"] = str(tmp_path / f"to{number}")
        copies.append(Copy(str(tmp_path / f"from{number}"), f"m{number}"))
    running, most, lock, run = [0], [0], threading.Lock(), pair.runner.__call__

    def counted(command: Command, while_running: Callable[[], None] | None = None) -> Completed:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        try:
            return run(command)
        finally:
            with lock:
                running[0] -= 1

    pair.sender = Sender(tmp_path / "run" / "source", pair.connect, counted)
    pair.last(copies)
    assert 2 <= most[0] <= subject.AT_THE_SAME_TIME
    assert [(tmp_path / f"to{number}" / "file").read_text() for number in range(6)] == list("012345")


@needs_rsync
def test_nothing_moves_between_prepare_and_the_last_pass_and_nothing_is_left(
    pair: Pair, source: Path, target: Path, tmp_path: Path
) -> None:
    (source / "file").write_text("1")
    copy = Copy(str(source), "m")
    pair.sender.copy([copy], live=True)
    pair.sender.prepare([copy])
    opened = len(pair.streams)
    (source / "new").write_text("2")
    time.sleep(0.1)
    assert os.listdir(target) == ["file"]
    pair.last([copy])
    assert len(pair.streams) == opened, "the connections of prepare are those of the last pass"
    assert contents(source) == contents(target)
    pair.sender.close()
    assert os.listdir(tmp_path / "run" / "source") == ["relay.py"]
    assert (tmp_path / "run" / "source").stat().st_mode & 0o777 == 0o700


@needs_rsync
def test_what_was_prepared_and_not_used_ends_and_changes_nothing(pair: Pair, source: Path, target: Path) -> None:
    (source / "file").write_text("1")
    pair.sender.copy([Copy(str(source), "m")], live=True)
    before = contents(target)
    (source / "file").unlink()
    pair.sender.prepare([Copy(str(source), "m")])
    pair.sender.prepare([Copy(str(source), "m")])
    pair.sender.close()
    pair.close()
    assert contents(target) == before


@needs_rsync
def test_a_broken_connection_is_told(pair: Pair, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: SocketStream, descriptor: int, timeout: float) -> None:
        raise CriuError("The link is broken.", "Look at the network.")

    monkeypatch.setattr(SocketStream, "pump", broken)
    with pytest.raises(CommandFailed, match=r"Copying .*data to the target failed .*The link is broken\. Look at"):
        pair.last([Copy(str(source), "m")])


# The last pass


@pytest.fixture
def copied(pair: Pair, source: Path) -> Callable[[], Copy]:
    """Make the live pass of what is in the source now."""

    def copy_live() -> Copy:
        age()
        copy = Copy(str(source), "m")
        pair.sender.copy([copy], live=True)
        age()
        return copy

    return copy_live


@needs_rsync
def test_the_last_pass_reads_only_what_has_changed(
    pair: Pair, source: Path, target: Path, copied: Callable[[], Copy]
) -> None:
    for number in range(50):
        (source / f"file{number}").write_text("x")
    copy = copied()
    # Nobody looks at the target's other files: what is wrong there stays wrong.
    (target / "file1").write_text("altered")
    (source / "file2").write_text("y")
    pair.last([copy])
    assert pair.listed()
    assert (target / "file1").read_text() == "altered"
    assert (target / "file2").read_text() == "y"
    assert pair.whole_passes() == 1


@needs_rsync
def test_without_a_change_nothing_is_asked_of_the_target(pair: Pair, source: Path, copied: Callable[[], Copy]) -> None:
    (source / "file").write_text("x")
    copy = copied()
    assert pair.last([copy])[0]["bytes"] == 0


@needs_rsync
def test_a_change_behind_the_modification_time_is_seen(
    pair: Pair, source: Path, target: Path, copied: Callable[[], Copy]
) -> None:
    (source / "file").write_text("old")
    copy = copied()
    times = (source / "file").stat()
    (source / "file").write_text("new")
    os.utime(source / "file", ns=(times.st_atime_ns, times.st_mtime_ns))
    pair.last([copy])
    assert contents(source) == contents(target)
    assert (target / "file").read_text() == "new"


@needs_rsync
def test_names_of_any_kind_come_over_and_go(pair: Pair, source: Path, target: Path, copied: Callable[[], Copy]) -> None:
    names = ["#x", ";x", " x ", "a\nb", "-x", "é", os.fsdecode(b"\xff"), "*?[x]", "\\#101", "a\\b", "..x", "%H", "x:y"]
    (source / "sub").mkdir()
    for name in names:
        (source / "sub" / name).write_text("gone")
    copy = copied()
    for name in names:
        (source / "sub" / name).unlink()
        (source / name).write_text("new")
    pair.last([copy])
    assert pair.whole_passes() == 1
    assert contents(source) == contents(target)


class Meddling:
    """A runner that changes the source before and after the first rsync: as a workload does that runs."""

    def __init__(self, runner: PlainRunner, before: Callable[[], None], after: Callable[[], None]) -> None:
        self.runner, self.steps = runner, [before, after]

    def __call__(self, command: Command, while_running: Callable[[], None] | None = None) -> Completed:
        if len(self.steps) < 2:
            return self.runner(command)
        self.steps.pop(0)()
        completed = self.runner(command)
        self.steps[0]()
        return completed


def there_and_back(first: Path, second: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    return lambda: first.rename(second) and None, lambda: second.rename(first) and None


def exchange(first: Path, second: Path) -> Callable[[], None]:
    def run() -> None:
        first.rename(first.parent / "between")
        second.rename(first)
        (first.parent / "between").rename(second)

    return run


@needs_rsync
@pytest.mark.parametrize("case", ["came_and_went", "folder_away_and_back", "folders_exchanged", "file_back"])
def test_what_moves_during_the_live_pass_is_right_in_the_end(
    pair: Pair, source: Path, target: Path, tmp_path: Path, case: str
) -> None:
    for folder in ("one", "two"):
        (source / folder / "sub").mkdir(parents=True)
        (source / folder / "sub" / "file").write_text(folder)
    (source / "file").write_text("x")
    short = source / "one" / "sub" / "short"
    before, after = {
        "came_and_went": (lambda: short.write_text("x") and None, short.unlink),
        "folder_away_and_back": there_and_back(source / "one", source / "three"),
        "folders_exchanged": (exchange(source / "one", source / "two"),) * 2,
        "file_back": there_and_back(source / "file", source / "moved"),
    }[case]
    age()
    meddling = Meddling(pair.runner, before, after)
    pair.sender = Sender(tmp_path / "run" / "source", pair.connect, meddling)
    pair.sender.copy([Copy(str(source), "m")], live=True)
    assert contents(source) != contents(target), "the case is none"
    pair.last([Copy(str(source), "m")])
    assert pair.whole_passes() == 1
    assert contents(source) == contents(target)


@needs_rsync
def test_a_tree_without_sound_change_times_is_copied_whole(
    pair: Pair, source: Path, target: Path, copied: Callable[[], Copy], mounts: list[str]
) -> None:
    mount(mounts, source, "nfs4")
    copy = copied()
    (source / "file").write_text("x")
    pair.last([copy])
    assert pair.whole_passes() == 2
    assert contents(source) == contents(target)


@needs_rsync
def test_a_mount_that_came_meanwhile_makes_it_copy_whole(
    pair: Pair, source: Path, copied: Callable[[], Copy], mounts: list[str]
) -> None:
    (source / "sub").mkdir()
    copy = copied()
    pair.sender.prepare([copy])
    mount(mounts, source / "sub")
    (source / "sub" / "hidden").touch()
    pair.last([copy])
    assert "--exclude=/sub/**" in pair.runner.argvs[-1]


@needs_rsync
@pytest.mark.parametrize("mounted", [True, False])
def test_what_is_mounted_below_is_not_looked_into(
    pair: Pair, source: Path, target: Path, copied: Callable[[], Copy], mounts: list[str], mounted: bool
) -> None:
    (source / "sub").mkdir()
    mount(mounts, source / "sub" if mounted else "/elsewhere")
    copy = copied()
    (source / "sub" / "file").touch()
    pair.last([copy])
    assert (target / "sub" / "file").exists() is not mounted


@needs_rsync
def test_when_nearly_all_has_changed_behind_its_times_nothing_is_lost(
    pair: Pair, source: Path, target: Path, copied: Callable[[], Copy]
) -> None:
    for number in range(1100):
        (source / f"{number}").write_text("old")
    copy = copied()
    for path in source.iterdir():
        change_behind_its_times(path, "new")
    pair.last([copy])
    assert pair.listed()
    assert contents(source) == contents(target)
    assert {path.read_text() for path in target.iterdir()} == {"new"}


@needs_rsync
def test_when_the_short_way_fails_the_long_one_is_taken(
    pair: Pair, source: Path, target: Path, copied: Callable[[], Copy]
) -> None:
    (source / "file").touch()
    copy = copied()
    pair.sender.prepare([copy])
    for stream in pair.streams[-2:]:
        stream.peer.shutdown(socket.SHUT_RDWR)
    (source / "new").touch()
    pair.last([copy])
    assert pair.whole_passes() == 2
    assert contents(source) == contents(target)


class Meddler:
    """Changes a tree at random, in the ways of programs."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.count = 0

    def change(self, times: int) -> None:
        for _time in range(times):
            step = self.random.choice(
                (
                    *(self.create, self.create, self.make_folder, self.append, self.overwrite, self.overwrite_hidden),
                    *(self.rename, self.delete, self.change_mode, self.set_attribute, self.link, self.make_symlink),
                    *(self.folder_to_file, self.file_to_folder, self.replace, self.break_link, self.set_time),
                )
            )
            with contextlib.suppress(IndexError):  # there is no such path
                step()

    def path(self, kind: str) -> Path:
        found = [path for path in sorted(self.folder.rglob("*"), key=os.fsencode) if not path.is_symlink()]
        return self.random.choice([path for path in found if kind == "any" or getattr(path, f"is_{kind}")()])

    def new(self) -> Path:
        self.count += 1
        folders = [self.folder, *(path for path in self.folder.rglob("*") if path.is_dir() and not path.is_symlink())]
        return self.random.choice(sorted(folders, key=os.fsencode)) / f"{self.random.choice('ab#; ')}{self.count}"

    def bytes(self, size: int) -> bytes:
        return bytes(self.random.randrange(256) for _byte in range(size))

    def create(self) -> None:
        self.new().write_bytes(self.bytes(self.random.randrange(200)))

    def make_folder(self) -> None:
        self.new().mkdir()

    def append(self) -> None:
        with self.path("file").open("ab") as stream:
            stream.write(self.bytes(20))

    def overwrite(self) -> None:
        path = self.path("file")
        path.write_bytes(self.bytes(path.stat().st_size))

    def overwrite_hidden(self) -> None:
        path = self.path("file")
        before = path.stat()
        path.write_bytes(self.bytes(before.st_size))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def rename(self) -> None:
        path, new = self.path("any"), self.new()
        if path not in new.parents:
            path.rename(new)

    def replace(self) -> None:
        path, other = self.path("file"), self.path("file")
        path.replace(other)

    def delete(self) -> None:
        path = self.path("any")
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def change_mode(self) -> None:
        path = self.path("any")
        path.chmod(self.random.choice([0o700, 0o755, 0o711]) if path.is_dir() else self.random.choice([0o600, 0o644]))

    def set_attribute(self) -> None:
        try:
            os.setxattr(self.path("any"), f"user.{self.random.choice('abc')}", self.bytes(5))
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise

    def link(self) -> None:
        os.link(self.path("file"), self.new())

    def break_link(self) -> None:
        path = self.path("file")
        copy = self.new()
        shutil.copy2(path, copy)
        copy.replace(path)

    def make_symlink(self) -> None:
        self.new().symlink_to(self.random.choice(["..", "/", "a1", "nowhere"]))

    def folder_to_file(self) -> None:
        path = self.path("dir")
        shutil.rmtree(path)
        path.write_text("now a file")

    def file_to_folder(self) -> None:
        path = self.path("file")
        path.unlink()
        path.mkdir()
        (path / "inside").touch()

    def set_time(self) -> None:
        os.utime(self.path("any"), ns=(0, self.random.randrange(10**18)))


@needs_rsync
@pytest.mark.parametrize("seed", range(8))
def test_after_any_changes_both_trees_are_equal(
    pair: Pair, source: Path, target: Path, copied: Callable[[], Copy], seed: int
) -> None:
    meddler = Meddler(source, seed)
    meddler.change(60)
    copy = copied()
    if seed % 2:
        pair.sender.prepare([copy])
    meddler.change(1 if seed < 3 else 25)
    pair.last([copy])
    assert pair.whole_passes() == 1, "the short way was not taken to its end"
    assert contents(source) == contents(target)


# What a hostile source can do


def hostile(pair: Pair, *words: str, module: str = "m") -> subprocess.CompletedProcess[str]:
    """rsync as somebody runs it who wants more than was planned."""
    sockets = rsync.Sockets(pair.folder / "hostile")
    path = sockets.next()
    stream = pair.connect(module)
    with rsync._listener(path) as listener:
        argv = ["rsync", "-aHAX", f"--rsh={sockets.remote_shell(path)}", *words]
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            listener.settimeout(10)
            local, _peer = listener.accept()
            with local:
                stream.pump(local.fileno(), 10)
            stream.close()
            output, errors = process.communicate(timeout=10)
    return subprocess.CompletedProcess(argv, process.returncode, output, errors)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("secret")
    return folder


@needs_rsync
@needs_root
@pytest.mark.parametrize("way", ["..", "../outside/new", "/../../outside/", "sub/../../outside/"])
def test_dots_do_not_lead_out(pair: Pair, source: Path, outside: Path, way: str) -> None:
    (source / "evil").write_text("evil")
    hostile(pair, f"{source}/", f"x::m/{way}")
    assert os.listdir(outside) == ["secret"]
    assert not (outside.parent / "evil").exists()


@needs_rsync
@needs_root
def test_an_absolute_path_is_one_inside(pair: Pair, source: Path, target: Path, outside: Path) -> None:
    (source / "evil").write_text("evil")
    hostile(pair, f"--rsync-path=x --temp-dir={outside}", f"{source}/evil", f"x::m{outside}/evil")
    hostile(pair, f"--temp-dir={outside}", f"--backup-dir={outside}", "--backup", f"{source}/", f"x::m/{outside}/")
    assert os.listdir(outside) == ["secret"]


@needs_rsync
@needs_root
def test_a_symlink_that_points_outside_leads_nowhere(pair: Pair, source: Path, target: Path, outside: Path) -> None:
    (source / "link").symlink_to(outside)
    (source / "file").symlink_to(outside / "secret")
    pair.last([Copy(str(source), "m")])
    assert os.readlink(target / "link") == str(outside), "symlinks come over as they are"
    (source / "evil").write_text("evil")
    hostile(pair, f"{source}/evil", "x::m/link/")
    hostile(pair, "--keep-dirlinks", "--inplace", f"{source}/evil", "x::m/link/secret")
    hostile(pair, "--inplace", f"{source}/evil", "x::m/file")
    hostile(pair, "--delete", "--keep-dirlinks", "-r", f"{source}/", "x::m/link/")
    assert os.listdir(outside) == ["secret"]
    assert (outside / "secret").read_text() == "secret"


@needs_rsync
def test_another_module_is_refused(pair: Pair, source: Path, target: Path) -> None:
    (source / "evil").write_text("evil")
    found = hostile(pair, f"{source}/", "x::other/")
    assert found.returncode != 0
    assert "Unknown module" in found.stdout + found.stderr
    assert os.listdir(target) == []


@needs_rsync
def test_nothing_can_be_read_or_listed(pair: Pair, source: Path, target: Path) -> None:
    (target / "secret").write_text("secret")
    for words in (["x::m/", f"{source}/"], ["x::m/secret", f"{source}/"], ["x::m/"]):
        found = hostile(pair, *words)
        assert found.returncode != 0, words
        assert "secret" not in found.stdout
    pair.close()
    assert len(pair.refused) == 3
    assert all("module is write only" in str(error) for error in pair.refused)
    assert "m" not in hostile(pair, "x::").stdout.split()
    assert os.listdir(source) == []


@pytest.mark.parametrize("module", ["other", "", "../m", "m]\npath = /", "-x"])
def test_a_module_that_is_not_planned_is_not_served(tmp_path: Path, module: str) -> None:
    modules = {"m": "/srv", "-x": "/srv"}
    with pytest.raises(CriuError, match="none of this handoff"):
        serve(NoStream(), module, modules, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@needs_rsync
def test_a_path_that_would_be_a_line_of_configuration_is_a_path_like_others(
    pair: Pair, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "copy\nuse chroot = no").mkdir()
    (source / "file").touch()
    pair.modules["m"] = str(tmp_path / "copy\nuse chroot = no")
    pair.last([Copy(str(source), "m")])
    assert os.listdir(tmp_path / "copy\nuse chroot = no") == ["file"]


@needs_rsync
def test_who_puts_a_symlink_in_the_place_of_a_folder_has_nothing_of_it(
    pair: Pair, source: Path, tmp_path: Path
) -> None:
    home, victim = tmp_path / "home", tmp_path / "victim"
    (home / "data").mkdir(parents=True)
    home.chmod(0o777)
    victim.mkdir()
    (victim / "precious").touch()
    (source / "file").touch()
    pair.modules["m"] = str(home / "data")
    pair.sender.copy([Copy(str(source), "m")], live=True)
    (home / "data").rename(home / "aside")
    (home / "data").symlink_to(victim)
    before = victim.stat().st_mtime_ns
    with pytest.raises(CriuError):
        pair.last([Copy(str(source), "m")])
    with pytest.raises(Untrusted):
        file_server.set_folder_times({"m": 1}, pair.modules)
    assert os.listdir(victim) == ["precious"]
    pinned = Pinned()
    (home / "data").unlink()
    (home / "aside").rename(home / "data")
    pinned.add([str(home / "data")])
    (home / "data").rename(home / "aside")
    (home / "data").symlink_to(victim)
    (source / "second").touch()
    pair.pinned = pinned
    pair.last([Copy(str(source), "m")])
    file_server.set_folder_times({"m": 1}, pair.modules, pinned)
    assert sorted(os.listdir(home / "aside")) == ["file", "second"]
    assert (home / "aside").stat().st_mtime_ns == 1
    assert (os.listdir(victim), victim.stat().st_mtime_ns) == (["precious"], before)


@needs_rsync
def test_the_configuration_is_for_its_owner_and_has_one_module(pair: Pair, source: Path, tmp_path: Path) -> None:
    pair.modules["unused"] = "/"
    pair.last([Copy(str(source), "m")])
    (configuration,) = (tmp_path / "run").glob("target.*/*")
    assert configuration.stat().st_mode & 0o777 == 0o600
    lines = configuration.read_text().splitlines()
    assert [line for line in lines if line.startswith("[")] == ["[m]"]
    assert re.fullmatch("path = /proc/self/fd/[0-9]+/", lines[-1])
    assert {"munge symlinks = no", "read only = no", "write only = yes", "list = no"} < set(lines)
    assert not IS_ROOT or "use chroot = yes" in lines


# The second is in the environment of rsync in any case, and rsync itself sets the third.
@needs_rsync
@pytest.mark.parametrize("name", ["%ELSEWHERE%", "%LC_ALL%", "%RSYNC_MODULE_NAME%"])
def test_a_variable_in_a_path_is_none(
    pair: Pair, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("ELSEWHERE", "copy")
    (source / "file").touch()
    (tmp_path / name).mkdir()
    pair.modules["m"] = str(tmp_path / name)
    pair.last([Copy(str(source), "m")])
    assert os.listdir(tmp_path / name) == ["file"]


@needs_rsync
def test_a_daemon_does_not_outlive_its_stream(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = file_server._start_daemon

    def kept(*arguments: Any) -> subprocess.Popen[bytes]:
        started.append(start(*arguments))
        return started[0]

    def broken(self: SocketStream, descriptor: int, timeout: float) -> None:
        raise CriuError("The link is broken.")

    monkeypatch.setattr(file_server, "_start_daemon", kept)
    monkeypatch.setattr(NoStream, "pump", broken)
    with pytest.raises(CriuError, match="broken"):
        serve(NoStream(), "m", pair.modules, tmp_path / "run")
    assert started[0].poll() is not None


def test_a_daemon_that_does_not_end_is_killed_with_its_children(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait"

    def stuck(*arguments: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sh", "-c", script], start_new_session=True)

    def until_it_runs(self: SocketStream, descriptor: int, timeout: float) -> None:
        while not pids.exists():
            time.sleep(0.01)

    monkeypatch.setattr(file_server, "_start_daemon", stuck)
    monkeypatch.setattr(file_server, "_END_SECONDS", 0.05)
    monkeypatch.setattr(NoStream, "pump", until_it_runs)
    with pytest.raises(CommandFailed, match="exit status -9"):
        serve(NoStream(), "m", pair.modules, tmp_path / "run")
    processes = [int(word) for word in pids.read_text().split()]
    try:
        assert eventually(lambda: all(Proc().stat(pid) is None for pid in processes))
    finally:
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_without_rsync_the_target_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CriuError, match="rsync is not installed here"):
        serve(NoStream(), "m", {"m": str(tmp_path)}, tmp_path / "run")
