# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.restorer import (
    find_half_restored,
    find_restoring,
    is_in_restorer,
)
from ansible_collections.fleet.criu.tests.unit.fakes import FakeProc

PID = 42
MAPS = """\
10000-20000 r-xp 00000000 00:00 0
20000-30000 r-xp 00000000 08:01 7 /usr/bin/redis
30000-40000 rw-p 00000000 00:00 0
40000-50000 r-xp 00000000 00:00 0 [vdso]
50000-60000 r-xp 00000000 00:05 99 /dev/zero (deleted)
7fff0000-7fff1000 rwxp 00000000 00:00 0
"""


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    made = FakeProc(tmp_path / "proc")
    made.add(PID)
    (made.folder / str(PID) / "maps").write_text(MAPS)
    return made


@pytest.mark.parametrize(
    ("counter", "is_in"),
    [
        *((0x10000, True), (0x1FFFF, True), (0x7FFF0010, True)),
        *((0x20000, False), (0x2FFFF, False), (0x30008, False), (0x40008, False), (0x50008, False)),
        *((0xFFFF, False), (0x60000, False)),
    ],
)
def test_only_executable_memory_without_a_file_or_name_is_the_restorer(
    proc: FakeProc, counter: int, is_in: bool
) -> None:
    (proc.folder / str(PID) / "syscall").write_text(f"202 0x0 0x0 0x0 0x0 0x0 0x0 0x7ffc {counter:#x}\n")
    assert is_in_restorer(PID, proc) is is_in


def test_a_task_that_is_in_no_system_call_has_its_counter_too(proc: FakeProc) -> None:
    (proc.folder / str(PID) / "syscall").write_text("-1 0x7ffc 0x10008\n")
    assert is_in_restorer(PID, proc)


@pytest.mark.parametrize("line", ["running\n", "", None])
def test_a_task_that_runs_or_cannot_be_read_is_not_in_it(proc: FakeProc, line: str | None) -> None:
    if line is not None:
        (proc.folder / str(PID) / "syscall").write_text(line)
    assert not is_in_restorer(PID, proc)


@pytest.mark.parametrize(
    ("command", "is_it"),
    [
        (["/usr/sbin/criu", "restore", "--images-dir", "/dev/shm/i", "--log-file", "restore.log"], True),
        (["criu /dev/shm/i", "swrk", "5"], True),
        (["restore --rpc -D /dev/shm/i"], True),
        (["criu: restore --rpc -D /dev/shm/i", ""], True),
        (
            ["/usr/bin/python3", "-c", "...", "[]", "/usr/sbin/criu", "/run/h/stages", "post-restore", "/dev/shm/i"],
            False,
        ),
        (["/usr/sbin/criu", "restore", "--images-dir", "/dev/shm/ii"], False),
        (["/usr/sbin/criu", "dump", "--images-dir", "/dev/shm/i"], False),
        (["less", "/dev/shm/i/restore.log"], False),
        ([], False),
    ],
)
def test_a_criu_that_restores_is_known_by_its_folder(proc: FakeProc, command: list[str], is_it: bool) -> None:
    proc.add(43, command=command, own_namespaces=())
    assert find_restoring(Path("/dev/shm/i"), proc) == (43 if is_it else None)


def test_what_criu_restores_is_not_taken_for_criu(proc: FakeProc) -> None:
    # Until CRIU gives a task its own name it has that of CRIU, whose child it is.
    title = ["restore --rpc -D /dev/shm/i"]
    for pid, own in ((43, ("pid",)), (44, ()), (45, ("mnt", "pid"))):
        proc.add(pid, command=title, own_namespaces=own)
    assert find_restoring(Path("/dev/shm/i"), proc) == 44
    assert sorted(find_half_restored(Path("/dev/shm/i"), proc)) == [43, 45]
    proc.remove(44)
    assert find_restoring(Path("/dev/shm/i"), proc) is None
