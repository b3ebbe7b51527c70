# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._preflight.host import (
    ask_features,
    cgroup_layout,
    cpu_flags,
    host_facts,
    network_locks,
    security_module,
)
from ansible_collections.fleet.criu.plugins.module_utils._preflight.processor import needed_by_programs
from ansible_collections.fleet.criu.tests.unit.fakes import HOST_MOUNTS, FakeCriu, FakeProc

V1 = "30 21 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
V2 = "31 21 0:31 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(("mounts", "layout"), [("", "none"), (V1, "v1"), (V2, "v2"), (V1 + V2, "hybrid")])
def test_the_cgroup_layout_is_what_is_mounted(tmp_path: Path, mounts: str, layout: str) -> None:
    assert cgroup_layout(FakeProc(tmp_path / "proc", HOST_MOUNTS + mounts)) == layout


@pytest.mark.parametrize("row", ["flags\t\t: sse avx", "Features\t: sse avx"])
def test_the_features_of_the_processor(tmp_path: Path, row: str) -> None:
    proc = FakeProc(tmp_path / "proc")
    assert cpu_flags(proc) == []
    (proc.folder / "cpuinfo").write_text(f"processor\t: 0\n{row}\n\nprocessor\t: 1\nflags: other\n")
    assert cpu_flags(proc) == ["avx", "sse"]


def test_what_only_kernels_use_is_told_from_the_rest() -> None:
    assert needed_by_programs(["avx2", "vmx", "md_clear", "pku", "hypervisor", "new_one"]) == ["avx2", "pku", "new_one"]


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ("lockdown,capability,landlock,yama,apparmor,bpf", "apparmor"),
        ("capability,selinux\n", "selinux"),
        ("capability,landlock", "none"),
        (None, None),
    ],
)
def test_the_security_module(tmp_path: Path, text: str | None, module: str | None) -> None:
    (tmp_path / "kernel/security").mkdir(parents=True)
    if text is not None:
        (tmp_path / "kernel/security/lsm").write_text(text)
    assert security_module(tmp_path) == module


def test_the_host_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    mounts = HOST_MOUNTS + f"40 21 0:40 / {tmp_path}/images rw - tmpfs tmpfs rw\n"
    proc = FakeProc(tmp_path / "proc", mounts)
    (proc.folder / "meminfo").write_text("MemTotal:  9 kB\nMemAvailable:   8 kB\nSwapFree: 2 kB\nHugePages_Total: 0\n")
    criu = FakeCriu(tmp_path, proc)
    facts = host_facts(proc, criu, criu.path, f"{tmp_path}/images/redis", tmp_path)
    assert (facts["memory_available"], facts["swap_free"]) == (8192, 2048)
    assert (facts["criu"]["usable"], facts["criu"]["version"]) == (True, "4.1.1")
    assert facts["free_bytes"] > 0
    assert facts["images_in_memory"] is True
    assert facts["security_module"] is None
    assert set(facts["programs"]) == {"openssl", "rsync", "zstd", "lz4"}
    elsewhere = host_facts(proc, criu, criu.path, str(tmp_path), tmp_path)
    assert elsewhere["images_in_memory"] is False
    assert host_facts(proc, criu, criu.path, None, tmp_path)["free_bytes"] is None


def test_only_the_features_that_are_needed_are_asked_for(tmp_path: Path) -> None:
    criu = FakeCriu(tmp_path, FakeProc(tmp_path / "proc"))
    criu.missing_features = {"tun"}
    found = ask_features({"path": criu.path, "version": "4.1.1"}, ["userns", "tun"], criu)
    assert found == {"userns": True, "tun": False}
    assert len(criu.commands) == 2
    assert ask_features({"usable": False}, ["userns"], criu) == {}


@pytest.mark.parametrize("program", ["/usr/sbin/iptables-restore", None])
def test_the_ways_to_lock_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None) -> None:
    criu = FakeCriu(tmp_path, FakeProc(tmp_path / "proc"))
    criu.missing_features = {"network_lock_nftables"}
    monkeypatch.setattr("shutil.which", lambda name, path=None: program)
    found = network_locks({"path": criu.path, "version": "4.1.1"}, criu)
    assert found == {"nftables": False, "iptables": program is not None}
    assert network_locks({"usable": False}, criu) == {}


def test_whether_others_can_get_at_the_images_is_told(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path / "proc")

    def facts(images: Path) -> dict[str, object]:
        return host_facts(proc, FakeCriu(tmp_path, proc), None, str(images), tmp_path / "sys")

    assert facts(tmp_path / "images")["images_problem"] is None
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)
    problem = facts(tmp_path / "open" / "images")["images_problem"]
    assert isinstance(problem, dict)
    assert "may be written by others than root (mode 1777" in problem["message"]
    assert problem["remedy"]


def test_the_place_in_memory_counts_as_memory_before_anything_is_mounted(tmp_path: Path, host: Path) -> None:
    proc = FakeProc(tmp_path / "proc")
    found = host_facts(proc, FakeCriu(tmp_path, proc), None, str(host / "run" / "images" / "redis"))
    assert found["images_in_memory"]
    assert found["free_bytes"] > 0
