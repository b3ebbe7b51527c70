# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._preflight.contents import Effort
from ansible_collections.fleet.criu.plugins.module_utils._preflight.left_out import LeftOut
from ansible_collections.fleet.criu.plugins.module_utils._preflight.workload import present_contents, workload_facts
from ansible_collections.fleet.criu.tests.unit.fakes import FakeProc

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TCP = "   0: 00000000:{:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 {} 1 0\n"


def scene(tmp_path: Path, mounts: str = "", **options: Any) -> FakeProc:
    """A workload of the processes 42 and 43."""
    proc = FakeProc(tmp_path / "proc")
    proc.add(42, mounts=mounts, status="RssAnon:\t 10 kB\n", **options)
    proc.add(43, parent=42, **options)
    for pid in (42, 43):
        (proc.folder / str(pid) / "fd").mkdir()
    return proc


def open_file(proc: FakeProc, pid: int, number: int, target: str, locks: bool = False) -> None:
    (proc.folder / str(pid) / "fd" / str(number)).symlink_to(target)
    (proc.folder / str(pid) / "fdinfo").mkdir(exist_ok=True)
    lock = "lock:\t1: FLOCK  ADVISORY  WRITE 42 08:01:11 0 EOF\n" if locks else ""
    (proc.folder / str(pid) / "fdinfo" / str(number)).write_text(f"pos:\t0\nflags:\t02\n{lock}")


def test_a_plain_workload_needs_nothing(tmp_path: Path) -> None:
    facts = workload_facts(42, scene(tmp_path))
    assert facts == {
        "pid": 42,
        "namespaces": ["mnt", "pid"],
        "pids": [42, 43],
        "memory_bytes": 10240,
        "label": None,
        "sockets": [],
        "io_uring": [],
        "holdings": [],
        "mapped_files": [],
        "id_maps": None,
        "has_read_only_root": False,
        "needs": [],
    }


def test_a_workload_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WorkloadNotFound, match="no process 7"):
        workload_facts(7, scene(tmp_path))


def test_threads_have_pids_too(tmp_path: Path) -> None:
    proc = scene(tmp_path)
    for thread in (42, 50):
        (proc.folder / "42/task" / str(thread)).mkdir(parents=True)
    assert workload_facts(42, proc)["pids"] == [42, 43, 50]


def test_only_its_own_sockets_are_told(tmp_path: Path) -> None:
    proc = scene(tmp_path)
    (proc.folder / "42/net").mkdir()
    (proc.folder / "42/net/tcp").write_text(HEAD + TCP.format(80, 7) + TCP.format(81, 8))
    open_file(proc, 43, 5, "socket:[8]")
    assert [socket["port"] for socket in workload_facts(42, proc)["sockets"]] == [81]


def test_io_uring_is_found(tmp_path: Path) -> None:
    proc = scene(tmp_path)
    open_file(proc, 43, 9, "anon_inode:[io_uring]")
    assert workload_facts(42, proc)["io_uring"] == ["process 43, descriptor 9"]


def test_the_maps_of_its_own_user_namespace(tmp_path: Path) -> None:
    proc = scene(tmp_path, own_namespaces=["user"])
    for name in ("uid_map", "gid_map"):
        (proc.folder / "42" / name).write_text("         0     100000      65536\n     65536 7 1\n")
    facts = workload_facts(42, proc)
    assert facts["id_maps"]["uid_map"] == [[0, 100000, 65536], [65536, 7, 1]]
    assert facts["needs"] == ["userns"]


def test_its_label(tmp_path: Path) -> None:
    proc = scene(tmp_path)
    (proc.folder / "42/attr").mkdir()
    (proc.folder / "42/attr/current").write_text("docker-default (enforce)\n")
    assert workload_facts(42, proc)["label"] == "docker-default (enforce)"


@pytest.mark.parametrize(
    ("target", "locks", "needs"),
    [
        ("anon_inode:[timerfd]", False, ["timerfd"]),
        ("/dev/net/tun", False, ["tun"]),
        ("/data/file", True, ["fdinfo_lock"]),
        ("/data/file", False, []),
    ],
)
def test_what_is_open_may_need_a_feature(tmp_path: Path, target: str, locks: bool, needs: list[str]) -> None:
    proc = scene(tmp_path)
    open_file(proc, 43, 3, target, locks)
    assert workload_facts(42, proc)["needs"] == needs


def test_mounts_that_are_shared_or_slaves_need_a_feature(tmp_path: Path) -> None:
    line = "100 90 8:1 /srv / rw {}- ext4 /dev/sda1 rw\n"
    for number, tag in enumerate(("shared:1 ", "master:1 ")):
        proc = scene(tmp_path / str(number), line.format(tag))
        assert workload_facts(42, proc)["needs"] == ["move_mount_set_group"]
    assert workload_facts(42, scene(tmp_path / "private", line.format("")))["needs"] == []


def test_seccomp_filters_need_features(tmp_path: Path) -> None:
    proc = scene(tmp_path)
    (proc.folder / "43/status").write_text("Seccomp:\t2\n")
    assert workload_facts(42, proc)["needs"] == ["seccomp_filters", "seccomp_suspend"]


@pytest.mark.parametrize(("bits", "needs"), [(1, ["compat_cr"]), (2, [])])
def test_32_bit_programs_need_a_feature(tmp_path: Path, bits: int, needs: list[str]) -> None:
    proc = scene(tmp_path)
    (proc.folder / "43/exe").write_bytes(b"\x7fELF" + bytes([bits]))
    assert workload_facts(42, proc)["needs"] == needs


def test_the_contents_that_should_be_at_the_target_are_summed_up(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("x")
    external = {"kind": "external", "host_path": str(tmp_path / "conf"), "path": os.devnull}
    entries = [
        {**external, "mountpoint": "/conf", "data": "present"},
        {**external, "mountpoint": "/data", "data": "sync"},
        {**external, "mountpoint": "/nfs", "data": "shared"},
        {**external, "mountpoint": "/none", "data": "present", "host_path": None},
        {**external, "mountpoint": "/", "data": "present", "kind": "root"},
    ]
    found = present_contents(entries, "host_path", Effort(), LeftOut(""))
    assert list(found) == ["/conf"]
    assert found["/conf"]["bytes"] == 1
    here = present_contents(entries, "path", Effort(), LeftOut(""), {"/conf": None})["/conf"]
    assert (here["bytes"], here["left_out"]) == (0, {"": "special file"})


def test_paths_are_looked_for_on_the_mount_that_they_are_on(tmp_path: Path) -> None:
    for name in ("usr/bin/app", "usr/bin/other", "usr/local/tool", "etc/app/conf", "opt/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    entries = [
        {"kind": "external", "data": "present", "host_path": str(tmp_path / name), "mountpoint": f"/{name}"}
        for name in ("usr", "usr/local", "etc/app", "opt")
    ]
    paths = ["/usr/bin/app", "/usr/local/none", "/etc", "/srv/nowhere"]
    found = present_contents(entries, "host_path", Effort(), LeftOut(""), None, paths)
    assert {mountpoint: list(each["names"]) for mountpoint, each in found.items()} == {
        "/usr": ["bin/app"],
        "/usr/local": [],
        "/etc/app": ["", "conf"],
        "/opt": [],
    }
    assert found["/usr/local"]["absent"] == ["none"]
    assert [each["left_out"] for each in found.values()] == [{}, {}, {}, {"": "not in contents_paths"}]
