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
