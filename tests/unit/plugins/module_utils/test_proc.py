# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._proc import (
    Proc,
    Stat,
    clock_ticks,
    memory_bytes,
    user_ids,
)
from ansible_collections.fleet.criu.tests.unit.fakes import BOOT_ID, BOOT_TIME, FakeProc


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


def test_the_default_is_the_host_s() -> None:
    assert Proc().root(42, "/data") == "/proc/42/root/data"
    stat = Proc().stat(os.getpid())
    assert stat is not None
    assert stat.parent == os.getppid()


def test_a_process_is_read_from_its_stat(proc: FakeProc) -> None:
    proc.add(42, parent=7, state="R", start_time=123456)
    assert proc.stat(42) == Stat(pid=42, state="R", parent=7, start_time=123456)


@pytest.mark.parametrize("comm", ["a b", "a) S 9 (b", ")", "((", ") Z 0", "", "é"])
def test_the_command_in_stat_may_hold_anything(proc: FakeProc, comm: str) -> None:
    proc.add(42, comm=comm, parent=7, state="S", start_time=99)
    assert proc.stat(42) == Stat(42, "S", 7, 99)


@pytest.mark.parametrize("state", ["Z", "X", "x"])
def test_a_zombie_does_not_live(proc: FakeProc, state: str) -> None:
    proc.add(42, state=state)
    assert proc.stat(42) is None
    assert list(proc.stats()) == []


@pytest.mark.parametrize("state", ["R", "S", "D", "T", "t", "I"])
def test_a_process_that_waits_or_is_stopped_lives(proc: FakeProc, state: str) -> None:
    proc.add(42, state=state)
    assert proc.stat(42) is not None


def test_a_process_that_is_not_there_is_none(proc: FakeProc) -> None:
    assert proc.stat(42) is None
    assert proc.command(42) == []
    assert proc.mountinfo(42) == ""
    assert proc.namespace(42, "mnt") is None
    assert proc.status(42) == {}


def test_all_processes_are_those_with_a_number(proc: FakeProc) -> None:
    for pid in (1, 42, 100):
        proc.add(pid)
    assert sorted(stat.pid for stat in proc.stats()) == [1, 42, 100]


def test_a_tree_is_a_process_and_all_below_it(proc: FakeProc) -> None:
    for pid, parent in ((42, 1), (43, 42), (44, 43), (45, 42), (46, 1), (47, 46)):
        proc.add(pid, parent=parent)
    assert sorted(proc.tree(42)) == [42, 43, 44, 45]
    assert proc.tree(42)[0] == 42


@pytest.mark.parametrize(
    ("raw", "command"),
    [
        (b"sleep\x001000\x00", ["sleep", "1000"]),
        (b"a b\x00c\x00", ["a b", "c"]),
        (b"a\x00\x00b\x00", ["a", "", "b"]),
        (b"no end", ["no end"]),
        (b"", []),
        (b"\xc3\xa9\xff\x00", ["é\ufffd"]),
        (b"padded\x00\x00\x00\x00", ["padded"]),
    ],
)
def test_the_command_line_is_a_list_of_arguments(proc: FakeProc, raw: bytes, command: list[str]) -> None:
    proc.add(42)
    (proc.folder / "42" / "cmdline").write_bytes(raw)
    assert proc.command(42) == command


def test_undecodable_bytes_of_mountinfo_are_surrogates(proc: FakeProc) -> None:
    proc.add(42)
    (proc.folder / "42" / "mountinfo").write_bytes(b"\xc3\xa9\xff\n")
    assert proc.mountinfo(42) == "é\udcff\n"


def test_a_carriage_return_is_a_character_like_any_other(proc: FakeProc) -> None:
    proc.add(42)
    (proc.folder / "42" / "mountinfo").write_bytes(b"/a\rb\n")
    (proc.folder / "42" / "cmdline").write_bytes(b"printf\x00a\r\nb\x00")
    assert proc.mountinfo(42) == "/a\rb\n"
    assert proc.command(42) == ["printf", "a\r\nb"]


def test_namespaces_are_told_by_their_identity(proc: FakeProc) -> None:
    proc.add(42, own_namespaces=["mnt"])
    assert proc.namespace(42, "mnt") == "mnt:[4026532832]"
    assert proc.namespace("self", "mnt") == "mnt:[4026531832]"
    assert proc.namespace(42, "net") == proc.namespace("self", "net")
    assert proc.namespace(42, "time") is None


def test_status_has_its_fields_by_name(proc: FakeProc) -> None:
    proc.add(42, status="Name:\tsl:eep\nUid:\t1\t2\t3\t4\nRssAnon:\t  12 kB\nCapBnd:\t\n")
    assert proc.status(42) == {"Name": "sl:eep", "Uid": "1\t2\t3\t4", "RssAnon": "12 kB", "CapBnd": ""}


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("0::/system.slice/web.scope\n", {"": "/system.slice/web.scope"}),
        ("0::/a:b\n", {"": "/a:b"}),
        (
            "12:cpu,cpuacct:/web\n1:name=systemd:/user.slice\n0::/\n",
            {"cpu,cpuacct": "/web", "name=systemd": "/user.slice", "": "/"},
        ),
        ("", {}),
    ],
)
def test_control_groups_are_told_by_their_controllers(proc: FakeProc, text: str, groups: dict[str, str]) -> None:
    proc.add(42, cgroup=text)
    assert proc.control_groups(42) == groups
    assert proc.control_groups(43) == {}


def test_a_control_group_may_have_any_name(proc: FakeProc) -> None:
    proc.add(42)
    (proc.folder / "42" / "cgroup").write_bytes(b"0::/a\xff\n")
    assert proc.control_groups(42) == {"": "/a\udcff"}


def test_boot_time_and_identity(proc: FakeProc) -> None:
    assert proc.boot_time() == BOOT_TIME
    assert proc.boot_id() == BOOT_ID
    (proc.folder / "stat").write_text("cpu 1\n")
    assert proc.boot_time() == 0.0


def test_clock_ticks_are_those_of_the_system() -> None:
    assert clock_ticks(2.5) == 2.5 * os.sysconf("SC_CLK_TCK")


def test_memory_is_what_a_dump_has_to_write(proc: FakeProc) -> None:
    proc.add(42, status="RssAnon:\t 10 kB\nRssFile:\t 99 kB\nRssShmem:\t 3 kB\nVmSwap:\t 2 kB\nVmRSS:\t 112 kB\n")
    proc.add(43, status="RssAnon:\t 5 kB\n")
    assert memory_bytes(proc, [42, 43, 44]) == 20 * 1024


def test_users_are_the_real_ones_each_once_in_order(proc: FakeProc) -> None:
    for pid, uids in ((42, "1000\t0\t0\t0"), (43, "0\t5\t5\t5"), (44, "1000\t1\t1\t1")):
        proc.add(pid, status=f"Uid:\t{uids}\n")
    assert user_ids(proc, [42, 43, 44, 45]) == [0, 1000]


@pytest.mark.parametrize("end", ["\r", "\v", "\f", "\x1c", "\x85", "\u2028"])
def test_what_users_may_write_into_proc_makes_no_line(tmp_path: Path, end: str) -> None:
    proc = FakeProc(tmp_path / "proc")
    proc.add(42, status=f"Name:\tx{end}Kthread:\t1\nUid:\t7\t7\t7\t7\n", cgroup=f"0::/a{end}1:cpu:/b\n")
    assert proc.status(42) == {"Name": f"x{end}Kthread:\t1", "Uid": "7\t7\t7\t7"}
    assert proc.control_groups(42) == {"": f"/a{end}1:cpu:/b"}
