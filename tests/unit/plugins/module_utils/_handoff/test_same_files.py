# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both hosts note about files, and moves back and forth with it: with the rsync of this machine."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff import arrivals, same_files
from ansible_collections.fleet.criu.plugins.module_utils._handoff import files as subject
from ansible_collections.fleet.criu.plugins.module_utils._handoff.arrivals import Arrivals
from ansible_collections.fleet.criu.plugins.module_utils._handoff.files import Sender
from ansible_collections.fleet.criu.plugins.module_utils._handoff.rsync import Copy
from ansible_collections.fleet.criu.plugins.module_utils._handoff.same_files import Differing, Records, SameFiles
from ansible_collections.fleet.criu.plugins.module_utils._mounts.pinned import Pinned
from ansible_collections.fleet.criu.tests.unit.fakes import HOST_MOUNTS
from ansible_collections.fleet.criu.tests.unit.plugins.module_utils._handoff import test_files
from ansible_collections.fleet.criu.tests.unit.plugins.module_utils._handoff.test_files import (
    Pair,
    PlainRunner,
    age,
    change_behind_its_times,
    contents,
    mount,
    needs_root,
    needs_rsync,
)

_as_any_user = test_files._as_any_user
synced = test_files.synced


class Host:
    """A host with a folder, a file, and records of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.file = folder / "config" / "app.conf"
        self.records = folder / "records"
        self.data.mkdir(parents=True)
        self.file.parent.mkdir()

    def known(self) -> set[str]:
        """The names that it has noted of its folder."""
        return set(Records(self.records).read(str(self.data)).files)


class Hosts:
    """Two hosts, a workload's folder on each, and moves between them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch
        self.a, self.b = Host(folder / "a"), Host(folder / "b")
        self.count = 0
        self.live: list[list[str]] = []
        self.asked: list[tuple[str, Differing]] = []

    def on(self, host: Host) -> None:
        """Keep records on this host from now on."""
        self._monkeypatch.setattr(Records.__init__, "__defaults__", (host.records,))

    def move(self, one: Host, other: Host, meanwhile: Callable[[], None] = lambda: None, ends: bool = True) -> None:
        """Do what both agents do with a folder and a file; `meanwhile` happens between the live and the last pass."""
        self.count += 1
        name = f"copy{self.count}"
        modules = {"m": str(other.data), "f": str(other.file.parent)}
        pair = Pair(self._folder / f"run{self.count}", modules)
        came = Arrivals(PlainRunner(), Pinned())
        self.asked.clear()

        def compare(copy: Copy, before: str) -> Differing:
            self.on(other)
            found = came.compare(copy.module, copy.file_name or "", before, modules)
            self.on(one)
            self.asked.append((before, found))
            return found

        pair.sender = Sender(pair.folder / "source", pair.connect, pair.runner, compare)
        copies = [Copy(str(one.data), "m")]
        if one.file.exists():
            copies.append(Copy(str(one.file), "f", other.file.name))
        age()
        self.on(one)
        pair.sender.copy(copies, live=True)
        self.live = [argv for argv in pair.runner.argvs if "--version" not in argv]
        age()
        self.on(other)
        came.note()
        self.on(one)
        pair.sender.catch_up(copies)
        pair.sender.prepare(copies)
        meanwhile()
        pair.last(copies)
        pair.close()
        if ends:
            pair.sender.remember(name)
            self.on(other)
            came.remember(name)

    def compared(self, word: str = "--checksum") -> int:
        """In how many copies of the last live pass the contents of all were compared."""
        return sum(word in argv for argv in self.live)


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines = HOST_MOUNTS.splitlines(keepends=True)

    class FakeProc:
        def mountinfo(self, pid: str) -> str:
            return "".join(lines)

    for module in (subject, arrivals):
        monkeypatch.setattr(module, "Proc", FakeProc)
    return lines


@pytest.fixture
def hosts(tmp_path: Path, mounts: list[str], monkeypatch: pytest.MonkeyPatch) -> Hosts:
    return Hosts(tmp_path, monkeypatch)


def names(count: int) -> list[str]:
    return [f"file{number:04}" for number in range(count)]


# Moves


@needs_rsync
def test_what_is_written_behind_its_times_after_a_move_comes_back(hosts: Hosts) -> None:
    for name in names(40):
        (hosts.a.data / name).write_text("old")
    hosts.a.file.write_text("old")
    hosts.move(hosts.a, hosts.b)
    for path in (*hosts.b.data.iterdir(), hosts.b.file):
        change_behind_its_times(path, "new")
    hosts.move(hosts.b, hosts.a)
    assert contents(hosts.a.data) == contents(hosts.b.data)
    assert {path.read_text() for path in (*hosts.a.data.iterdir(), hosts.a.file)} == {"new"}


@needs_rsync
def test_a_single_file_that_is_written_behind_its_times_in_the_last_moment_comes_over(hosts: Hosts) -> None:
    hosts.a.file.write_text("old")
    hosts.move(hosts.a, hosts.b, lambda: change_behind_its_times(hosts.a.file, "new"))
    assert hosts.b.file.read_text() == "new"


@needs_rsync
def test_what_is_known_on_both_hosts_is_not_compared(hosts: Hosts) -> None:
    for name in names(40):
        (hosts.a.data / name).write_text("x")
    hosts.a.file.write_text("x")
    hosts.move(hosts.a, hosts.b)
    assert hosts.compared() == 2, "nothing was known"
    age()
    for one, other in ((hosts.b, hosts.a), (hosts.a, hosts.b), (hosts.b, hosts.a)):
        change_behind_its_times(one.data / "file0003", str(hosts.count))
        age()
        hosts.move(one, other)
        assert hosts.compared() == 0
        assert all(found.is_known for _before, found in hosts.asked)
        assert (other.data / "file0003").read_text() == str(hosts.count - 1)
        assert contents(one.data) == contents(other.data)
        age()


@needs_rsync
def test_what_somebody_else_wrote_at_the_target_is_made_equal(hosts: Hosts) -> None:
    for name in names(10):
        (hosts.a.data / name).write_text("old")
    hosts.a.file.write_text("old")
    hosts.move(hosts.a, hosts.b)
    age()
    change_behind_its_times(hosts.a.data / "file0002", "bad")
    change_behind_its_times(hosts.a.file, "bad")
    hosts.move(hosts.b, hosts.a)
    assert hosts.asked[0][1] == Differing(True, ["file0002"], True, hosts.asked[0][1].rsync)
    assert contents(hosts.a.data) == contents(hosts.b.data)
    assert hosts.a.file.read_text() == "old"


@needs_rsync
def test_what_changed_between_the_live_and_the_last_pass_is_not_known(hosts: Hosts) -> None:
    for name in names(5):
        (hosts.a.data / name).write_text("old")
    hosts.move(hosts.a, hosts.b, lambda: change_behind_its_times(hosts.a.data / "file0001", "new"))
    assert hosts.a.known() == set(names(5)) - {"file0001"}
    age()
    hosts.move(hosts.b, hosts.a)
    assert hosts.asked[0][1].is_known
    assert hosts.asked[0][1].names == ["file0001"]
    assert any("--ignore-times" in argv for argv in hosts.live)
    assert contents(hosts.a.data) == contents(hosts.b.data)


def _lose(host: Host) -> None:
    shutil.rmtree(host.records)


def _damage(host: Host) -> None:
    for record in host.records.iterdir():
        record.write_text(record.read_text()[:-20])


def _of_another(host: Host) -> None:
    records = Records(host.records)
    records.write(str(host.data), SameFiles("copy0/m/", records.read(str(host.data)).files))


@needs_rsync
@pytest.mark.parametrize("what", [_lose, _damage, _of_another])
@pytest.mark.parametrize("which", ["a", "b"])
def test_without_both_records_all_contents_are_compared(hosts: Hosts, what: Callable[[Host], None], which: str) -> None:
    for name in names(5):
        (hosts.a.data / name).write_text("old")
    hosts.move(hosts.a, hosts.b)
    what(getattr(hosts, which))
    for host, text in ((hosts.a, "bad"), (hosts.b, "new")):
        change_behind_its_times(host.data / "file0001", text)
    hosts.move(hosts.b, hosts.a)
    assert hosts.compared() == 1
    assert contents(hosts.a.data) == contents(hosts.b.data)
    assert (hosts.a.data / "file0001").read_text() == "new"


@needs_rsync
def test_a_move_that_was_given_up_makes_nothing_known(hosts: Hosts) -> None:
    for name in names(5):
        (hosts.a.data / name).write_text("old")
    hosts.move(hosts.a, hosts.b, ends=False)
    change_behind_its_times(hosts.a.data / "file0001", "new")
    change_behind_its_times(hosts.b.data / "file0002", "bad")
    hosts.move(hosts.a, hosts.b)
    assert hosts.compared() == 1
    assert contents(hosts.a.data) == contents(hosts.b.data)


@needs_rsync
def test_a_way_round_a_third_host_is_compared(hosts: Hosts, tmp_path: Path) -> None:
    for name in names(5):
        (hosts.a.data / name).write_text("old")
    third = Host(tmp_path / "c")
    hosts.move(hosts.a, hosts.b)
    hosts.move(hosts.b, third)
    for host, text in ((hosts.a, "bad"), (third, "new")):
        change_behind_its_times(host.data / "file0001", text)
    hosts.move(third, hosts.a)
    assert hosts.compared() == 1
    assert contents(hosts.a.data) == contents(third.data)
    hosts.move(hosts.a, hosts.b)
    assert hosts.compared() == 1
    assert contents(hosts.a.data) == contents(hosts.b.data)


@needs_rsync
def test_folders_that_changed_places_are_not_taken_for_each_other(hosts: Hosts) -> None:
    copy = "copy9"
    for module, text in (("m", "one"), ("n", "two")):
        folder = hosts.b.folder / module
        folder.mkdir()
        (folder / "file").write_text(text)
        hosts.on(hosts.b)
        Records().write(str(folder), SameFiles(same_files.name_of(copy, module, None), {}))
    modules = {"x": str(hosts.b.folder / "m"), "y": str(hosts.b.folder / "n")}
    came = Arrivals(PlainRunner(), Pinned())
    assert came.compare("x", "", "copy9/m/", modules).is_known
    assert not came.compare("y", "", "copy9/m/", modules).is_known


@needs_rsync
def test_hard_links_that_the_target_has_and_the_source_does_not_are_parted(hosts: Hosts) -> None:
    for host in (hosts.a, hosts.b):
        (host.data / "one").write_text("same")
        os.utime(host.data / "one", ns=(0, 1_000_000_000))
    shutil.copy2(hosts.a.data / "one", hosts.a.data / "two")
    os.link(hosts.b.data / "one", hosts.b.data / "two")
    hosts.move(hosts.a, hosts.b)
    assert contents(hosts.a.data) == contents(hosts.b.data)
    assert (hosts.b.data / "one").stat().st_nlink == 1


@needs_rsync
def test_hard_links_that_were_parted_since_the_last_move_are_parted_at_the_target_too(hosts: Hosts) -> None:
    (hosts.a.data / "one").write_text("same")
    os.link(hosts.a.data / "one", hosts.a.data / "two")
    hosts.move(hosts.a, hosts.b)
    shutil.copy2(hosts.b.data / "one", hosts.b.data / "new")
    (hosts.b.data / "new").rename(hosts.b.data / "two")
    hosts.move(hosts.b, hosts.a)
    assert contents(hosts.a.data) == contents(hosts.b.data)
    assert (hosts.a.data / "one").stat().st_nlink == 1


@needs_rsync
def test_a_name_that_alone_is_listed_stays_a_link_of_the_others(hosts: Hosts) -> None:
    (hosts.a.data / "sub").mkdir()
    (hosts.a.data / "one").write_text("same")
    os.link(hosts.a.data / "one", hosts.a.data / "sub" / "two")
    # What is in a folder that moved is not trusted although its inode, which "one" has too, has not changed.
    run, moved = PlainRunner.__call__, []

    def meddle(self: PlainRunner, command: Any, while_running: Any = None) -> Any:
        completed = run(self, command)
        if "--delete" in command.argv and not moved:
            moved.append(1)
            (hosts.a.data / "sub").rename(hosts.a.data / "other")
            (hosts.a.data / "other").rename(hosts.a.data / "sub")
        return completed

    PlainRunner.__call__ = meddle  # type: ignore[method-assign]
    try:
        hosts.move(hosts.a, hosts.b)
    finally:
        PlainRunner.__call__ = run  # type: ignore[method-assign]
    assert contents(hosts.a.data) == contents(hosts.b.data)
    assert (hosts.b.data / "one").stat().st_nlink == 2


@needs_rsync
def test_too_many_names_for_a_message_are_compared_all(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in names(5):
        (hosts.a.data / name).write_text("old")
    hosts.move(hosts.a, hosts.b)
    monkeypatch.setattr(arrivals, "_MOST_NAMES", 3)
    for name in names(5):
        change_behind_its_times(hosts.a.data / name, "bad")
    hosts.move(hosts.b, hosts.a)
    assert hosts.compared() == 1
    assert contents(hosts.a.data) == contents(hosts.b.data)
    for host in (hosts.a, hosts.b):
        shutil.rmtree(host.data)
        host.data.mkdir()
    for name in names(3):
        for host in (hosts.a, hosts.b):
            (host.data / name).write_text("old")
        shutil.copy2(hosts.a.data / name, hosts.a.data / f"{name}+")
        os.link(hosts.b.data / name, hosts.b.data / f"{name}+")
    hosts.move(hosts.a, hosts.b)
    assert hosts.compared("--ignore-times") == 1
    assert contents(hosts.a.data) == contents(hosts.b.data)


@needs_rsync
@pytest.mark.parametrize("fstype", ["tmpfs", "nfs4", "fuse.sshfs"])
def test_without_change_times_of_the_kernel_s_own_contents_are_compared_each_time(
    hosts: Hosts, mounts: list[str], fstype: str
) -> None:
    mount(mounts, hosts.a.data, fstype)
    (hosts.a.data / "file").write_text("old")
    for one, other in ((hosts.a, hosts.b), (hosts.b, hosts.a), (hosts.a, hosts.b)):
        change_behind_its_times(one.data / "file", f"one{hosts.count}")
        text = f"two{hosts.count}"
        hosts.move(one, other, lambda one=one, text=text: change_behind_its_times(one.data / "file", text))  # type: ignore[misc]
        assert hosts.compared() == 1
        assert (other.data / "file").read_text() == text


@needs_rsync
def test_a_live_pass_goes_on_until_little_is_left(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in names(200):
        (hosts.a.data / name).write_text("old")
    changes = [200, 60, 15]
    run = PlainRunner.__call__

    def busy(self: PlainRunner, command: Any, while_running: Any = None) -> Any:
        completed = run(self, command)
        if changes and "--version" not in command.argv:
            for name in names(changes.pop(0)):
                change_behind_its_times(hosts.a.data / name, "new")
            (hosts.a.data / "file0199").unlink(missing_ok=True)
            age()
        return completed

    monkeypatch.setattr(PlainRunner, "__call__", busy)
    left: list[int] = []
    monkeypatch.setattr(subject._ListedPass, "finish", _counting(subject._ListedPass.finish, left))
    hosts.move(hosts.a, hosts.b)
    assert changes == []
    assert 15 <= left[0] <= 20
    assert contents(hosts.a.data) == contents(hosts.b.data)


def _counting(finish: Any, left: list[int]) -> Any:
    def counted(self: Any) -> Any:
        completed = finish(self)
        left.append(len(self._differing))
        return completed

    return counted


@needs_rsync
def test_a_live_pass_does_not_run_after_what_always_changes(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in names(100):
        (hosts.a.data / name).write_text("old")
    runs: list[int] = []
    run = PlainRunner.__call__

    def busy(self: PlainRunner, command: Any, while_running: Any = None) -> Any:
        completed = run(self, command)
        if "--version" not in command.argv and len(runs) < 20:
            runs.append(1)
            for name in names(100):
                change_behind_its_times(hosts.a.data / name, f"{len(runs):03}")
        return completed

    monkeypatch.setattr(PlainRunner, "__call__", busy)
    hosts.move(hosts.a, hosts.b, lambda: runs.extend([1] * 20))
    assert len(hosts.live) < 4
    assert {path.read_text() for path in hosts.b.data.iterdir()} <= {
        path.read_text() for path in hosts.a.data.iterdir()
    }


@needs_rsync
def test_back_and_forth_nothing_is_lost_whatever_is_done(hosts: Hosts) -> None:
    one, other = hosts.a, hosts.b
    test_files.Meddler(one.data, 1).change(60)
    for seed in range(5):
        meddler = test_files.Meddler(one.data, seed)
        meddler.count = 1000 * (seed + 1)
        meddler.change(15)
        hosts.move(one, other, lambda meddler=meddler: meddler.change(10))  # type: ignore[misc]
        assert contents(one.data) == contents(other.data), seed
        one, other = other, one


# What cannot be written


@needs_rsync
@needs_root
@pytest.mark.parametrize("flag", ["i", "a"])
def test_what_may_not_be_written_at_the_target_is_told_while_the_workload_runs(hosts: Hosts, flag: str) -> None:
    (hosts.a.data / "file").write_text("new")
    (hosts.b.data / "file").write_text("older")
    done = subprocess.run(["chattr", f"+{flag}", str(hosts.b.data / "file")], check=False, capture_output=True)
    if done.returncode != 0:
        pytest.skip("this file system has no such flags")
    try:
        with pytest.raises(CriuError, match=r"Copying .* failed .*Operation not permitted"):
            hosts.move(hosts.a, hosts.b)
    finally:
        subprocess.run(["chattr", f"-{flag}", str(hosts.b.data / "file")], check=True)


@needs_rsync
@needs_root
@pytest.mark.parametrize("flag", ["i", "a"])
def test_what_is_immutable_at_the_source_keeps_it_from_moving(hosts: Hosts, flag: str) -> None:
    (hosts.a.data / "sub").mkdir()
    path = hosts.a.data / "sub" / "file"
    path.write_text("new")
    done = subprocess.run(["chattr", f"+{flag}", str(path)], check=False, capture_output=True)
    if done.returncode != 0:
        pytest.skip("this file system has no such flags")
    try:
        with pytest.raises(CriuError, match=r"1 of the files to be copied are immutable .*/sub/file"):
            hosts.move(hosts.a, hosts.b)
    finally:
        subprocess.run(["chattr", f"-{flag}", str(path)], check=True)
    assert os.listdir(hosts.b.data) == []
    hosts.move(hosts.a, hosts.b)


@needs_rsync
@needs_root
def test_everything_that_a_program_may_notice_comes_over(hosts: Hosts) -> None:
    data = hosts.a.data
    (data / "sparse").touch()
    with (data / "sparse").open("r+b") as stream:
        stream.truncate(8 << 20)
        stream.seek(4 << 20)
        stream.write(b"x")
    os.mkfifo(data / "fifo")
    os.mknod(data / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    (data / "setuid").write_text("x")
    os.chown(data / "setuid", 33, 33)
    (data / "setuid").chmod(0o6755)
    attributes = {"user.a": b"\0b", "security.capability": bytes.fromhex("0100000200040000000000000000000000000000")}
    for name, value in attributes.items():
        os.setxattr(data / "setuid", name, value)
    os.link(data / "setuid", data / "link")
    os.utime(data / "sparse", ns=(1, 1_700_000_000_987_654_321))
    acl = (
        subprocess.run(["setfacl", "-m", "u:33:r", str(data / "sparse")], check=False)
        if shutil.which("setfacl")
        else None
    )
    hosts.move(hosts.a, hosts.b, lambda: change_behind_its_times(data / "sparse", "y" * (8 << 20)))
    assert contents(data) == contents(hosts.b.data)
    assert acl is None or os.getxattr(hosts.b.data / "sparse", "system.posix_acl_access")
    assert (hosts.b.data / "null").stat().st_rdev == os.makedev(1, 3)
    (data / "sparse").write_bytes(b"")
    with (data / "sparse").open("r+b") as stream:
        stream.truncate(8 << 20)
    hosts.move(hosts.a, hosts.b)
    assert (hosts.b.data / "sparse").stat().st_blocks < 100


@needs_rsync
def test_a_folder_in_the_place_of_a_file_is_told_while_the_workload_runs(hosts: Hosts) -> None:
    hosts.a.file.write_text("new")
    hosts.b.file.mkdir()
    with pytest.raises(CriuError, match="is a folder here, and is to be a file"):
        hosts.move(hosts.a, hosts.b)
    assert os.listdir(hosts.b.file) == []


@pytest.mark.parametrize("name", ["..", "a/b", "."])
def test_a_file_that_is_none_is_not_looked_for(tmp_path: Path, name: str) -> None:
    with pytest.raises(CriuError, match="the name of none"):
        Arrivals(PlainRunner(), Pinned()).compare("m", name, "", {"m": str(tmp_path)})


# The record


def test_a_record_is_for_its_owner_alone_and_reads_back(tmp_path: Path) -> None:
    records = Records(tmp_path / "records")
    path = str(tmp_path)
    same = SameFiles("copy", {"a\udcff\n": (1, 2, 3, 4, 5, 6), "": (1, 1 << 63, 3, 4, 5, 6)})
    records.write(path, same)
    assert records.read(path) == records.read(f"{path}/") == same
    assert (tmp_path / "records").stat().st_mode & 0o777 == 0o700
    assert [file.stat().st_mode & 0o777 for file in (tmp_path / "records").iterdir()] == [0o600]
    assert records.read("/other") == SameFiles()


def test_records_of_what_is_gone_go(tmp_path: Path) -> None:
    records = Records(tmp_path / "records")
    (tmp_path / "gone").mkdir()
    for path in (tmp_path / "gone", tmp_path):
        records.write(str(path), SameFiles("copy", {"a": (1, 2, 3, 4, 5, 6)}))
    (tmp_path / "gone").rmdir()
    records.write(str(tmp_path), SameFiles())
    assert len(list((tmp_path / "records").iterdir())) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]\n[]\n",
        "null\nnull\n",
        '{"path": "%s", "copy": 1}\n{}\n',
        '{"path": "%s", "copy": "a"}\n[]\n',
        '{"path": "%s", "copy": "a"}\n{"f": [1, 2, 3, 4, 5]}\n',
        '{"path": "%s", "copy": "a"}\n{"f": [1, 2, 3, 4, 5, true]}\n',
        '{"path": "%s", "copy": "a"}\n{"f": "abcdef"}\n',
        '{"path": "/other", "copy": "a"}\n{"f": [1, 2, 3, 4, 5, 6]}\n',
        '{"path": "%s", "copy": "a"}\n' + "[" * 100_000,
        "\xff\n",
    ],
)
def test_a_record_that_is_damaged_is_none(tmp_path: Path, text: str) -> None:
    records = Records(tmp_path / "records")
    records.write(str(tmp_path), SameFiles("a", {}))
    (record,) = (tmp_path / "records").iterdir()
    record.write_text(text.replace("%s", str(tmp_path)), encoding="latin-1")
    assert records.read(str(tmp_path)) == SameFiles()
    records.write(str(tmp_path), SameFiles("b", {}))
    assert records.read(str(tmp_path)).copy == "b"


def test_a_record_too_large_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_files, "_MOST_FILES", 1)
    records = Records(tmp_path / "records")
    records.write(str(tmp_path), SameFiles("a", {"f": (1, 2, 3, 4, 5, 6), "g": (1, 2, 3, 4, 5, 6)}))
    assert records.read(str(tmp_path)) == SameFiles("a", {})


def test_it_is_kept_where_a_host_keeps_its_state() -> None:
    assert Path("/var/lib/fleet.criu/same_files") == same_files.FOLDER
