# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With real processes: each holds one thing, and it alone is found."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import parse
from ansible_collections.fleet.criu.plugins.module_utils._preflight import holdings as subject
from ansible_collections.fleet.criu.plugins.module_utils._preflight.descriptors import descriptors
from ansible_collections.fleet.criu.plugins.module_utils._preflight.holdings import Holding, holdings
from ansible_collections.fleet.criu.plugins.module_utils._preflight.kinds import KINDS
from ansible_collections.fleet.criu.plugins.module_utils._preflight.watches import watched, watched_paths
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc

SCRIPT = """
import ctypes, fcntl, mmap, os, select, signal, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
os.chdir({folder!r})
{body}
print("ready", flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def holding(body: str, folder: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that has done this in the folder, in a session of its own."""
    script = SCRIPT.format(folder=str(folder), body=textwrap.dedent(body))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        **{
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.DEVNULL,
            "start_new_session": True,
            "text": True,
            **options,
        },
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            pytest.skip("this kernel does not have it")
        yield process
    finally:
        process.kill()
        process.communicate()


def look(pid: int) -> list[Holding]:
    proc = Proc()
    pids = proc.tree(pid)
    found = holdings(proc, pid, pids, list(descriptors(proc, pids)))
    # The mounts are those of this host.
    return [entry for entry in found if entry.kind != "missing_mountpoint"]


# What a process does, the kind that it holds then, and what is said of where.
REAL = [
    ("pass", "", ""),
    ("keep = open('a', 'w'); fcntl.flock(keep, fcntl.LOCK_EX)", "file_lock", "/a"),
    ("keep = open('a', 'w'); fcntl.lockf(keep, fcntl.LOCK_EX)", "file_lock", "/a"),
    ("keep = os.pipe(); fcntl.flock(keep[0], fcntl.LOCK_EX)", "file_lock", "pipe:"),
    ("keep = open('a', 'w'); os.remove('a')", "", ""),
    ("keep = open('a', 'w'); os.link('a', 'b'); os.remove('a')", "removed_linked_file", "/a"),
    ("keep = open('a', 'w'); keep.write('x' * 3000000); keep.flush(); os.remove('a')", "large_removed_file", "3"),
    (
        """
        keep = open('a', 'w+b'); keep.truncate(3 << 20); os.pwrite(keep.fileno(), b'x' * (2 << 20), 0)
        memory = mmap.mmap(keep.fileno(), 0); keep.close(); os.remove('a')
        """,
        "large_removed_file",
        "/a (deleted)",
    ),
    ("keep = os.memfd_create('m'); os.ftruncate(keep, 9 << 20)", "", ""),
    ("memory = mmap.mmap(-1, 9 << 20); memory[:5] = b'12345'", "", ""),
    ("pair = socket.socketpair(); pipe = os.pipe(); poll = select.epoll(); poll.register(pipe[0])", "", ""),
    ("server = socket.create_server(('127.0.0.1', 0))", "", ""),
    (
        """
        server = socket.create_server(('127.0.0.1', 0))
        client = socket.create_connection(server.getsockname()); served = server.accept()[0]
        """,
        "tcp_connection",
        "descriptor",
    ),
    (
        """
        server = socket.create_server(('127.0.0.1', 0))
        client = socket.create_connection(server.getsockname())
        """,
        "connection_in_flight tcp_connection",
        "descriptor",
    ),
    (
        """
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); one.bind(('127.0.0.1', 0))
        one.sendto(b'unread', one.getsockname())
        """,
        "queued_datagram",
        "descriptor",
    ),
    (
        """
        server = socket.socket(socket.AF_UNIX); server.bind('inside'); server.listen(3)
        client = socket.socket(socket.AF_UNIX); client.connect('inside'); served = server.accept()[0]
        """,
        "",
        "",
    ),
    (
        """
        server = socket.socket(socket.AF_UNIX); server.bind('inside'); server.listen(3)
        client = socket.socket(socket.AF_UNIX); client.connect('inside')
        """,
        "unaccepted_connection",
        "inside",
    ),
    ("client = socket.socket(socket.AF_UNIX); client.connect('outside')", "stream_to_outside", "outside"),
    (
        "client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); client.connect('\\0' + os.environ['HIDDEN'])",
        "stream_to_outside",
        "@",
    ),
    (
        "client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); client.connect('log')",
        "datagram_to_outside",
        "to log",
    ),
    ("keep = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)", "socket_unsupported", "VSOCK"),
    ("keep = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)", "socket_unsupported", "MPTCP"),
    ("keep = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 262)", "socket_unsupported", "MPTCP"),
    ("keep = open('/dev/zero'), open('/dev/full'), open('/dev/urandom')", "", ""),
    ("keep = os.open('/dev/fuse', os.O_RDWR)", "device", "/dev/fuse"),
    ("keep = os.open('/dev/loop-control', os.O_RDWR)", "device", "/dev/loop-control"),
    ("keep = os.openpty()", "", ""),
    (
        """
        keep = libc.syscall(323, 1)  # userfaultfd on x86_64
        assert keep > 2 and 'userfaultfd' in os.readlink(f'/proc/self/fd/{keep}')
        """,
        "descriptor_unsupported",
        "userfaultfd",
    ),
    ("keep = os.open('/proc/self/ns/net', os.O_RDONLY)", "", ""),
    ("keep = libc.inotify_init1(0); assert libc.inotify_add_watch(keep, b'.', 2) > 0", "", ""),
    (
        """
        # Its first file is on a mount of the namespace before.
        keep = open('a', 'w'); assert libc.unshare(0x20000) == 0; libc.mount(None, b'/', None, 1 << 18 | 16384, None)
        """,
        "file_outside",
        "/a",
    ),
]


@pytest.mark.parametrize(("body", "kinds", "where"), REAL)
def test_what_a_real_process_holds(
    body: str, kinds: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIDDEN", f"hidden.{os.getpid()}")
    monkeypatch.chdir(tmp_path)  # the address of a Unix socket has little room
    with contextlib.ExitStack() as stack:
        kinds_of_socket = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)
        stream, hidden, log = (stack.enter_context(socket.socket(socket.AF_UNIX, kind)) for kind in kinds_of_socket)
        stream.bind("outside")
        hidden.bind(f"\0hidden.{os.getpid()}")
        log.bind("log")
        stream.listen(1)
        hidden.listen(1)
        process = stack.enter_context(holding(body, tmp_path))
        for listener in (stream, hidden):
            listener.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                stack.enter_context(listener.accept()[0])
        found = look(process.pid)
    if "file_outside" in kinds:
        # What it was started with is outside too.
        assert {entry.kind for entry in found} == {"file_outside"}
        found = [entry for entry in found if where in entry.where]
    wanted = kinds.split()
    assert sorted({entry.kind for entry in found}) == wanted
    assert all(where in entry.where for entry in found if entry.kind == wanted[0])
    assert all(f"process {process.pid} (python" in entry.where for entry in found)


def test_a_process_that_is_traced_is_told_with_its_tracer(tmp_path: Path) -> None:
    tracer = """
    child = os.fork()
    if child == 0:
        time.sleep(60)
    assert libc.ptrace(0x4206, child, 0, 0) == 0, ctypes.get_errno()  # PTRACE_SEIZE
    print(child, flush=True)
    """
    script = SCRIPT.format(folder=str(tmp_path), body=textwrap.dedent(tracer))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            pytest.skip("nobody may trace here")
        proc = Proc()
        child = int(line)
        found = [entry for entry in holdings(proc, child, [child], []) if entry.kind == "traced"]
        one, other = (f"process {pid} ({proc.status(pid)['Name']})" for pid in (child, process.pid))
        assert [entry.where for entry in found] == [f"{one} by {other}"]
        # It was forked, and so is in the other's session.
        assert [entry.kind for entry in holdings(proc, child, [child], [])][1:2] == ["foreign_session"]
    finally:
        for pid in Proc().tree(process.pid)[1:]:
            os.kill(pid, 9)
        process.kill()
        process.communicate()


def test_sockets_in_a_network_namespace_of_its_own_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    body = """
    assert libc.unshare(0x40000000) == 0
    server = socket.socket(socket.AF_UNIX); server.bind('inside'); server.listen(3)
    client = socket.socket(socket.AF_UNIX); client.connect('inside')
    """
    with holding(body, tmp_path) as process:
        assert [entry.kind for entry in look(process.pid)] == ["unaccepted_connection"]


def test_two_hundred_processes_cost_little(tmp_path: Path) -> None:
    body = """
    files = [open(f'f{number}', 'w') for number in range(20)]
    for _child in range(199):
        if os.fork() == 0:
            time.sleep(60)
    """
    with holding(body, tmp_path) as process:
        proc = Proc()
        pids = proc.tree(process.pid)
        assert len(pids) == 200
        opened = list(descriptors(proc, pids))
        started = time.process_time()
        assert [entry for entry in holdings(proc, process.pid, pids, opened) if entry.kind == "file_lock"] == []
        # 0.2 s on an idle machine; this one runs other tests beside it.
        assert time.process_time() - started < 0.6
        for pid in pids[1:]:
            os.kill(pid, 9)


ROWS = """\
100 90 0:50 / / rw - overlay overlay rw
101 100 0:51 / /proc rw - proc proc rw
102 101 0:52 / /proc/acpi ro - tmpfs tmpfs ro
103 101 0:51 /sys /proc/sys ro - proc proc rw
104 101 0:53 / /proc/1/cmdline ro - tmpfs tmpfs ro
105 100 0:54 / /sys ro - sysfs sysfs ro
106 105 0:55 / /sys/firmware ro - tmpfs tmpfs ro
107 100 0:56 / /dev/mqueue rw - mqueue mqueue rw
108 105 0:57 / /sys/hidden ro - tmpfs tmpfs ro
"""


def test_mounts_over_paths_of_the_kernel_and_queues_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "lexists", lambda path: path != "/sys/hidden")
    root = tmp_path / "proc" / "7" / "root"
    (root / "dev" / "mqueue").mkdir(parents=True)
    (root / "dev" / "mqueue" / "orders").touch()
    found = list(subject._of_mounts(Proc(str(tmp_path / "proc")), 7, parse(ROWS)))
    assert [(entry.kind, entry.where, entry.path) for entry in found] == [
        ("missing_mountpoint", "/proc/acpi", "/proc/acpi"),
        ("missing_mountpoint", "/proc/sys", "/proc/sys"),
        ("missing_mountpoint", "/sys/firmware", "/sys/firmware"),
        ("message_queue", "/dev/mqueue/orders", ""),
    ]


def test_what_the_target_lacks_is_told() -> None:
    given = [{"kind": "missing_mountpoint", "path": path} for path in ("/proc/sys", "/proc/fleet-criu-lacks-this")] + [
        {"kind": "file_lock", "path": ""}
    ]
    assert subject.missing_mountpoints(given) == ["/proc/fleet-criu-lacks-this"]


def test_a_watch_on_an_overlay_is_found_with_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "proc" / "7" / "root" / "watched" / "deep"
    folder.mkdir(parents=True)
    (folder / "file").touch()
    first, second = (f"{path.stat().st_ino:x}" for path in (folder, folder / "file"))
    lines = [
        "pos:\t0",
        f"inotify wd:1 ino:{first} sdev:32 mask:2 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:0",
        f"inotify wd:2 ino:{second} sdev:32 mask:2 ignored_mask:0 ",
        "fanotify ino:3 sdev:32 mflags:0 mask:1b ignored_mask:0",
        # An ext4, where it has a handle.
        "inotify wd:3 ino:9 sdev:800001 mask:2 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:0",
    ]
    rows = parse(ROWS + "109 100 8:1 / /data rw - ext4 /dev/sda1 rw\n")
    marks = watched(lines, rows)
    assert [mark.row.mountpoint for mark in marks] == ["/"] * 3
    found = [path for _mark, path in watched_paths(Proc(str(tmp_path / "proc")), 7, marks)]
    assert found == ["/watched/deep", "/watched/deep/file", ""]


def test_each_kind_says_what_to_do() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)
    assert all(kind.remedy or kind.verdict == "lost" for kind in KINDS)
    assert all(bool(kind.option) is (kind.verdict == "option") for kind in KINDS)
