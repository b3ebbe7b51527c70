# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.restorer import (
    find_half_restored,
    find_restoring,
    is_in_restorer,
)
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.tests.unit.fakes import FakeProc

PID = 42
# As the status of a task has it that CRIU 4.1.1 holds at post-restore.
ALL_BLOCKED = "fffffffffffbfeff"
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
    made.add(PID, status=f"Name:\tredis\nSigBlk:\t{ALL_BLOCKED}\nSigIgn:\t0000000000000000\n")
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


@pytest.mark.parametrize(
    ("blocked", "is_in"),
    [
        (ALL_BLOCKED, True),
        ("fffffffffffafeff", True),
        ("f" * 23 + "bfeff"[-5:], True),
        ("0000000000000000", False),
        ("fffffffffffbbeff", False),
        ("fffffffe7ffbfeff", False),
        ("", False),
    ],
)
def test_code_that_a_program_has_made_for_itself_is_not_the_restorer(proc: FakeProc, blocked: str, is_in: bool) -> None:
    (proc.folder / str(PID) / "syscall").write_text("34 0x0 0x0 0x0 0x0 0x0 0x0 0x7ffc 0x10008\n")
    (proc.folder / str(PID) / "status").write_text(f"SigBlk:\t{blocked}\n")
    assert is_in_restorer(PID, proc) is is_in


# mmap, write, and a call into it: pause(2) again and again, as a compiler at run time could have made it.
JIT = """
import ctypes, mmap, signal, sys
access = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
place = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, access)
place.write(bytes([0xB8, 34, 0, 0, 0, 0x0F, 0x05, 0xC3]))
if sys.argv[1] == "blocked by the C library":
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
if sys.argv[1] == "blocked by the kernel":
    ctypes.CDLL(None).syscall(14, signal.SIG_SETMASK, ctypes.byref(ctypes.c_uint64((1 << 64) - 1)), None, 8)
call = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(place)))
while True:
    call()
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the code is for x86_64")
@pytest.mark.parametrize(
    ("signals", "is_in"), [("open", False), ("blocked by the C library", False), ("blocked by the kernel", True)]
)
def test_a_real_process_in_code_of_its_own(signals: str, is_in: bool) -> None:
    proc = Proc()
    with subprocess.Popen([sys.executable, "-S", "-c", JIT, signals]) as process:
        try:
            until = time.monotonic() + 10
            while not proc.syscall(process.pid).startswith("34 ") and time.monotonic() < until:
                time.sleep(0.01)
            if not proc.syscall(process.pid):
                pytest.skip("the system calls of others cannot be seen here")
            assert is_in_restorer(process.pid, proc) is is_in
        finally:
            process.kill()


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
