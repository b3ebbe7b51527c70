# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import AmbiguousWorkload, CriuError, WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._pid_file import process_of
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity
from ansible_collections.fleet.criu.tests.unit.fakes import BOOT_TIME, FakeProc

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


@pytest.fixture
def pid_file(tmp_path: Path) -> Path:
    return tmp_path / "redis.pid"


def write(pid_file: Path, text: str, seconds_after_boot: float = 1000) -> Path:
    pid_file.write_text(text)
    os.utime(pid_file, (BOOT_TIME + seconds_after_boot, BOOT_TIME + seconds_after_boot))
    return pid_file


@pytest.mark.parametrize("text", ["42", "42\n", " 42 \n\n", "042\n"])
def test_it_means_a_process_and_no_other_with_its_pid(proc: FakeProc, pid_file: Path, text: str) -> None:
    proc.add(42, start_time=900 * TICKS)
    assert process_of(write(pid_file, text), proc) == Identity(42, 900 * TICKS)


def test_a_pid_file_that_is_not_there_finds_nothing(proc: FakeProc, pid_file: Path) -> None:
    with pytest.raises(WorkloadNotFound, match="the file does not exist"):
        process_of(pid_file, proc)


def test_a_pid_file_of_a_process_that_is_gone_finds_nothing(proc: FakeProc, pid_file: Path) -> None:
    with pytest.raises(WorkloadNotFound, match=r"No workload with pid_file .*: there is no process 42"):
        process_of(write(pid_file, "42\n"), proc)


@pytest.mark.parametrize("text", ["", "\n", "x", "42 43", "-42", "4.2", "0", "0x2a", "42\n43\n", "²", "٤٢"])
def test_a_pid_file_with_anything_else_is_unsure(proc: FakeProc, pid_file: Path, text: str) -> None:
    proc.add(42)
    with pytest.raises(AmbiguousWorkload, match="does not hold a pid"):
        process_of(write(pid_file, text), proc)


def test_what_a_pid_file_holds_is_shown_in_part(proc: FakeProc, pid_file: Path) -> None:
    with pytest.raises(AmbiguousWorkload) as caught:
        process_of(write(pid_file, "x" * 1000), proc)
    assert "x" * 40 in caught.value.message
    assert "x" * 41 not in caught.value.message


def test_a_pid_file_that_cannot_be_read_is_said_so(proc: FakeProc, pid_file: Path) -> None:
    pid_file.mkdir()
    with pytest.raises(CriuError, match="cannot be read: Is a directory") as caught:
        process_of(pid_file, proc)
    assert not isinstance(caught.value, (WorkloadNotFound, AmbiguousWorkload))


@pytest.mark.parametrize(("started", "is_sure"), [(999, True), (1001.9, True), (1002.1, False), (5000, False)])
def test_a_process_that_started_after_its_pid_file_was_written_may_be_another(
    proc: FakeProc, pid_file: Path, started: float, is_sure: bool
) -> None:
    proc.add(42, start_time=int(started * TICKS))
    path = write(pid_file, "42\n", 1000)
    if is_sure:
        assert process_of(path, proc).pid == 42
    else:
        with pytest.raises(AmbiguousWorkload, match="started after the pid file"):
            process_of(path, proc)


REDIS, OTHER = 64001, 64002


def running_as(proc: FakeProc, *users: int) -> None:
    proc.add(42, status=f"Name:\tx\nUid:\t{chr(9).join(map(str, users))}\n")


def refused(pid_file: Path, proc: FakeProc) -> str:
    with pytest.raises(AmbiguousWorkload) as caught:
        process_of(pid_file, proc)
    assert caught.value.remedy
    return caught.value.message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("what", ["file", "folder", "file of a group", "folder that is sticky"])
def test_what_a_user_can_alter_names_a_process_of_that_user_alone(proc: FakeProc, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir(0o755)
    pid_file = write(folder / "redis.pid", "42\n")
    os.chown(pid_file if what.startswith("file") else folder, REDIS, REDIS)
    os.chmod(pid_file, 0o664 if "group" in what else 0o644)
    os.chmod(folder, 0o1777 if "sticky" in what else 0o755)
    running_as(proc, REDIS, REDIS, REDIS, REDIS)
    assert process_of(pid_file, proc).pid == 42
    for users in ((0, 0, 0, 0), (OTHER,) * 4, (REDIS, 0, 0, 0), (REDIS, REDIS, 0, REDIS), ()):
        proc.remove(42)
        running_as(proc, *users)
        message = refused(pid_file, proc)
        assert "whoever can alter it could name any process" in message
        assert str(pid_file if what.startswith("file") else folder) in message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's own files are meant")
@pytest.mark.parametrize(("mode", "is_refused"), [(0o644, False), (0o640, False), (0o664, True), (0o646, True)])
def test_a_file_of_root_that_others_may_write_names_nobody(
    proc: FakeProc, pid_file: Path, mode: int, is_refused: bool
) -> None:
    running_as(proc, 0, 0, 0, 0)
    write(pid_file, "42\n").chmod(mode)
    if is_refused:
        assert "may be written by other users" in refused(pid_file, proc)
    else:
        assert process_of(pid_file, proc).pid == 42


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_two_users_who_can_alter_it_can_have_no_process_in_common(proc: FakeProc, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(0o755)
    pid_file = write(folder / "redis.pid", "42\n")
    os.chown(pid_file, OTHER, OTHER)
    os.chown(folder, REDIS, REDIS)
    running_as(proc, REDIS, REDIS, REDIS, REDIS)
    assert str(pid_file) in refused(pid_file, proc)


def test_a_link_of_root_is_followed_and_one_of_a_user_is_not(proc: FakeProc, tmp_path: Path) -> None:
    running_as(proc, 0, 0, 0, 0)
    trusted, users = tmp_path / "trusted", tmp_path / "users"
    for folder in (trusted, users):
        folder.mkdir(0o755)
        (folder / "link.pid").symlink_to(tmp_path / "redis.pid")
    write(tmp_path / "redis.pid", "42\n")
    assert process_of(trusted / "link.pid", proc).pid == 42
    if os.geteuid() == 0:
        os.chown(users, REDIS, REDIS)
        with pytest.raises(CriuError, match="symlink"):
            process_of(users / "link.pid", proc)


def test_init_and_threads_of_the_kernel_are_no_workloads(proc: FakeProc, pid_file: Path) -> None:
    proc.add(1, start_time=1)
    assert "the host's own init" in refused(write(pid_file, "1\n"), proc)
    proc.add(42)
    stat = proc.folder / "42" / "stat"
    stat.write_text(stat.read_text().replace(" S 1 42 42 1 1 1 1 ", " S 2 0 0 0 -1 69238880 1 ", 1))
    assert stat.read_text().split()[8] == "69238880"
    assert "a thread of the kernel" in refused(write(pid_file, "42\n"), proc)


def test_what_is_no_file_keeps_nobody_waiting(proc: FakeProc, pid_file: Path) -> None:
    os.mkfifo(pid_file)
    assert "no ordinary file" in refused(pid_file, proc)
    pid_file.unlink()
    pid_file.touch()
    os.truncate(pid_file, 1 << 40)
    assert "may have 4096" in refused(pid_file, proc)
    pid_file.unlink()
    pid_file.symlink_to("/dev/zero")
    assert "no ordinary file" in refused(pid_file, proc)
