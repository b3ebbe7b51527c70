# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._preflight.checks import (
    CHECKS,
    describe_failures,
    failures,
    require_known,
    run_checks,
)
from ansible_collections.fleet.criu.plugins.module_utils._preflight.finding import listed

OPEN_FOLDER = {"message": "/i is open.", "remedy": "Close it."}
MIB = 1 << 20
SOCKET = {"protocol": "tcp", "address": "10.0.0.5", "port": 80, "waits": True, "inode": 7}
CONNECTION = {**SOCKET, "port": 4711, "waits": False}
SUM: dict[str, Any] = {
    "files": 1,
    "bytes": 4,
    "timed": 1,
    "complete": True,
    "names": {},
    "left_out": {},
    "shape": "s",
    "hashes": "h",
    "times": "t",
}
HOST: dict[str, Any] = {
    "criu": {"usable": True, "path": "/usr/sbin/criu", "version": "4.2", "problems": []},
    "kernel": "6.18.0-1-amd64",
    "architecture": "x86_64",
    "cpu_flags": ["avx", "avx2", "vmx"],
    "security_module": "apparmor",
    "cgroups": "v2",
    "images": "/i",
    "images_in_memory": False,
    "free_bytes": 1000 * MIB,
    "memory_available": 1000 * MIB,
    "swap_free": 0,
    "features": {"userns": True},
    "network_locks": {"nftables": True, "iptables": True},
    "left_tables": [],
    "folder_problems": [],
    "programs": {"openssl": True, "rsync": True, "zstd": True, "lz4": False},
}
SOURCE: dict[str, Any] = {
    **HOST,
    "host": "node1",
    "pid": 42,
    "namespaces": ["mnt", "user"],
    "pids": [42, 43],
    "memory_bytes": 100 * MIB,
    "label": "unconfined",
    "sockets": [SOCKET, CONNECTION],
    "io_uring": [],
    "holdings": [],
    "mapped_files": [{"path": "/bin/redis", "mountpoint": "/", "size": 10, "build_id": "ab"}],
    "id_maps": {"uid_map": [[0, 100000, 65536]], "gid_map": [[0, 100000, 65536]]},
    "needs": ["userns"],
    "contents": {"/conf": SUM},
    "supervisor": {"problem": None, "error": None},
    "route": {
        "address": "node2.example.org",
        "resolved": ["2001:db8::2", "10.0.0.2"],
        "reached": "10.0.0.2",
        "own_end": "10.0.0.1",
        "is_own": False,
        "problem": None,
    },
    "engine": None,
}
TARGET: dict[str, Any] = {
    **HOST,
    "host": "node2",
    "taken_pids": [],
    "pid_max": 4194304,
    "pid_file": {"path": "/run/redis.pid", "text": None, "process": None},
    "live_copies": [],
    "listeners": [],
    "absent_addresses": [],
    "mapped_files": [
        {"path": "/bin/redis", "host_path": "/srv/bin/redis", "found": {"size": 10, "build_id": "ab"}},
    ],
    "contents": {"/conf": SUM},
    "missing_mountpoints": [],
    "id_maps": {"uid_map": [[0, 0, 4294967295]], "gid_map": [[0, 0, 4294967295]]},
    "max_user_namespaces": 100,
    "copied": ["/data"],
    "engine": None,
    "owner_unit": {"unit": "criu-redis.service", "problem": None, "error": None},
}
OPTIONS = {"network_lock": "auto", "manage_cgroups": None, "transport": "direct", "compression": "none"}

NO_CRIU = {"usable": False, "problems": ["CRIU is not installed here."]}
RUNC = {"engine": "runc", "version": "runc 1.2", "container": "web", "problems": []}
RUNC_THERE = {
    "engine": "runc",
    "version": "runc 1.3",
    "names": [],
    "removal": "runc delete web",
    "error": "",
    "remedy": "",
}


def altered(facts: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The facts with other values; `a.b` is b in a."""
    result = copy.deepcopy(facts)
    for name, value in changes.items():
        outer, _dot, inner = name.partition(".")
        if inner:
            result[outer][inner] = value
        else:
            result[outer] = value
    return result


def run(
    source: dict[str, Any] | None = None,
    target: dict[str, Any] | None = None,
    skip: tuple[str, ...] = (),
    **options: Any,
) -> dict[str, Any]:
    findings = run_checks(altered(SOURCE, source or {}), altered(TARGET, target or {}), {**OPTIONS, **options}, skip)
    return {finding.name: finding for finding in findings}


def test_everything_passes_on_the_same_host() -> None:
    found = run()
    # Those of an engine are tried in test_check_engine.py.
    passed = [name for name in CHECKS if name not in ("container", "engine")]
    assert {name: found.pop(name).result for name in passed} == dict.fromkeys(passed, "passed")
    assert {name: finding.code for name, finding in found.items()} == {
        "container": "not_applicable",
        "engine": "not_applicable",
    }
    for finding in run().values():
        assert (finding.code, finding.remedy) == ("ok" if finding.name in passed else "not_applicable", "")
        assert finding.reason.endswith(".")


@pytest.mark.parametrize(
    ("name", "source", "target", "result", "code", "said"),
    [
        ("criu_version", {}, {"criu": NO_CRIU}, "failed", "criu_unusable", "on node2: CRIU is not installed here."),
        ("criu_version", {"criu": NO_CRIU}, {}, "failed", "criu_unusable", "on node1"),
        (
            "criu_version",
            {},
            {"criu.version": "4.1.1"},
            "failed",
            "criu_older",
            "CRIU 4.1.1 of node2 is older than 4.2",
        ),
        ("criu_version", {"criu.version": "4.9"}, {"criu.version": "4.10"}, "passed", "ok", "node2 has 4.10"),
        ("criu_features", {}, {"features.userns": False}, "failed", "feature_missing", "node2 lacks userns (workloads"),
        ("criu_features", {"features.userns": False}, {}, "failed", "feature_missing", "node1 lacks userns"),
        ("criu_features", {"needs": []}, {}, "skipped", "not_applicable", "needs no feature"),
        ("criu_features", {}, {"features": {}}, "skipped", "not_applicable", "no CRIU to ask"),
        ("kernel", {}, {"kernel": "6.9.1"}, "warning", "kernel_older", "6.9.1 of node2 is older than 6.18.0-1-amd64"),
        ("kernel", {}, {"kernel": "7.0"}, "passed", "ok", "7.0"),
        (
            "known_pairs",
            {"kernel": "7.1.2"},
            {"kernel": "7.1.2"},
            "failed",
            "dump_fails",
            "node1 has CRIU 4.2 on the kernel",
        ),
        ("known_pairs", {"criu.version": "4.2.1", "kernel": "7.1"}, {"kernel": "7.1"}, "passed", "ok", "No pair"),
        ("known_pairs", {}, {"criu.version": "4.1"}, "failed", "mounts_not_restorable", "node2 has CRIU 4.1"),
        ("known_pairs", {"criu.version": "4.1"}, {}, "passed", "ok", "No pair"),
        ("known_pairs", {"criu": NO_CRIU}, {"criu": NO_CRIU}, "passed", "ok", "No pair"),
        ("architecture", {}, {"architecture": "aarch64"}, "failed", "other_architecture", "node2 is aarch64"),
        ("cpu", {}, {"cpu_flags": ["avx", "vmx"]}, "failed", "cpu_lacks_features", "lacks 1 of the 3 features"),
        ("cpu", {}, {"cpu_flags": ["avx", "avx2"]}, "warning", "cpu_differs", "lacks vmx"),
        ("cpu", {}, {"cpu_flags": ["avx", "avx2", "vmx", "amx"]}, "passed", "ok", "all 3"),
        ("cpu", {}, {"cpu_flags": []}, "skipped", "not_applicable", "cannot be compared"),
        ("cpu", {}, {"architecture": "aarch64"}, "skipped", "not_applicable", "cannot be compared"),
        (
            "security_module",
            {},
            {"security_module": "selinux"},
            "warning",
            "other_security_module",
            "node2 has selinux",
        ),
        (
            "security_module",
            {"label": "docker-default (enforce)"},
            {"security_module": "none"},
            "failed",
            "other_security_module",
            "The label of the workload (docker-default (enforce)) cannot be restored",
        ),
        (
            "security_module",
            {"security_module": "selinux", "label": "system_u:system_r:container_t:s0"},
            {},
            "failed",
            "other_security_module",
            "container_t",
        ),
        (
            "security_module",
            {"security_module": "selinux", "label": "system_u:system_r:unconfined_t:s0"},
            {},
            "warning",
            "other_security_module",
            "selinux",
        ),
        ("security_module", {}, {"security_module": None}, "skipped", "not_applicable", "of node2 does not tell"),
        ("cgroups", {}, {"cgroups": "hybrid"}, "failed", "other_cgroups", "node2 has hybrid"),
        (
            "network_lock",
            {},
            {"network_locks.nftables": False},
            "failed",
            "no_network_lock",
            "nftables on node2",
        ),
        (
            "network_lock",
            {"network_locks.nftables": False, "network_locks.iptables": False},
            {},
            "failed",
            "no_network_lock",
            "iptables on node1",
        ),
        ("network_lock", {"network_locks.nftables": False}, {}, "passed", "ok", "with iptables"),
        (
            "network_lock",
            {},
            {"left_tables": ["CRIU-05f66735-8a31-4e96-a1"]},
            "warning",
            "left_tables",
            "CRIU-05f66735-8a31-4e96-a1 on node2",
        ),
        ("network_lock", {"sockets": [SOCKET]}, {}, "skipped", "not_applicable", "no network namespace"),
        ("network_lock", {"sockets": [], "namespaces": ["net"]}, {}, "passed", "ok", "nftables"),
        ("network_lock", {}, {"network_locks": {}}, "skipped", "not_applicable", "no CRIU"),
        ("records", {}, {}, "passed", "ok", "can be written on both"),
        (
            "records",
            {"folder_problems": ["/run/x is full"]},
            {},
            "failed",
            "cannot_keep_records",
            "on node1 /run/x is full",
        ),
        ("records", {}, {"folder_problems": ["/x is no folder"]}, "failed", "cannot_keep_records", "on node2 /x is no"),
        ("disk_space", {}, {"free_bytes": 99 * MIB}, "failed", "too_little_space", "99.0 MiB are free for /i on node2"),
        ("disk_space", {"free_bytes": 99 * MIB}, {}, "failed", "too_little_space", "on node1"),
        ("disk_space", {}, {"images_problem": OPEN_FOLDER}, "failed", "folder_not_trusted", "On node2, /i is open"),
        ("disk_space", {}, {"free_bytes": 100 * MIB}, "passed", "ok", "100.0 MiB are free on node2"),
        ("disk_space", {"free_bytes": None}, {"free_bytes": None}, "skipped", "not_applicable", "No folder"),
        (
            "disk_space",
            {"free_bytes": None},
            {},
            "passed",
            "ok",
            "about 100.0 MiB; 1000.0 MiB are free on node2; node1 keeps none",
        ),
        ("disk_space", {"free_bytes": None}, {"free_bytes": 0}, "failed", "too_little_space", "0.0 MiB are free for"),
        ("memory", {}, {"memory_available": 99 * MIB}, "failed", "too_little_memory", "needs 100.0 MiB; 99.0 MiB are"),
        ("memory", {}, {"memory_available": 99 * MIB, "swap_free": MIB}, "warning", "needs_swap", "1.0 MiB of swap"),
        (
            "memory",
            {},
            {"memory_available": 199 * MIB, "images_in_memory": True},
            "failed",
            "too_little_memory",
            "needs 100.0 MiB, and its images in /i, which is memory too, as much again: 200.0 MiB; 199.0 MiB are",
        ),
        ("memory", {}, {"memory_available": 200 * MIB, "images_in_memory": True}, "passed", "ok", "200.0 MiB"),
        ("memory", {}, {"memory_available": None}, "skipped", "not_applicable", "does not tell"),
        ("sockets", {"criu.version": "4.1.1"}, {}, "failed", "sockets_not_dumpable", "the 2 TCP and UDP sockets"),
        ("sockets", {"criu.version": "4.1.1", "kernel": "6.15.9"}, {}, "passed", "ok", "6.15.9"),
        ("sockets", {"criu.version": "4.1.1", "sockets": []}, {}, "passed", "ok", "no TCP or UDP"),
        ("sockets", {"criu": NO_CRIU}, {}, "skipped", "not_applicable", "node1 has no CRIU"),
        ("io_uring", {"io_uring": ["process 42, descriptor 3"]}, {}, "failed", "io_uring", "process 42, descriptor 3"),
        (
            "pids",
            {},
            {"taken_pids": ["process 43 (sshd)"]},
            "failed",
            "pid_taken",
            "1 of its 2 pids are taken on node2",
        ),
        ("pids", {}, {"pid_max": 43}, "failed", "pid_too_high", "Its pid 43 is too high"),
        ("pids", {}, {"pid_max": 0}, "passed", "ok", "free"),
        ("pids", {"namespaces": ["pid"]}, {"pid_max": 43}, "skipped", "not_applicable", "of its own"),
        ("pid_file", {}, {"pid_file": None}, "skipped", "not_applicable", "no pid file"),
        ("pid_file", {}, {"pid_file.text": "7"}, "passed", "ok", "left from process 7"),
        (
            "pid_file",
            {},
            {"pid_file.text": "7", "pid_file.process": "process 7 (cron)"},
            "failed",
            "pid_file_in_use",
            "/run/redis.pid on node2 is that of process 7 (cron)",
        ),
        ("pid_file", {}, {"pid_file.text": "x"}, "failed", "pid_file_malformed", "'x'"),
        ("name", {}, {"live_copies": ["process 7 (redis) has its root in /r"]}, "failed", "name_in_use", "process 7"),
        ("addresses", {}, {"listeners": ["tcp 10.0.0.5:80 (…)"]}, "failed", "address_in_use", "1 of its addresses"),
        ("addresses", {}, {"absent_addresses": ["tcp 10.0.0.5:80"]}, "failed", "address_absent", "node2 does not have"),
        ("addresses", {"namespaces": ["net"]}, {"listeners": ["x"]}, "skipped", "not_applicable", "of its own"),
        ("addresses", {"sockets": []}, {}, "skipped", "not_applicable", "no TCP or UDP"),
        ("contents", {"contents": None}, {}, "skipped", "not_applicable", "both sides"),
        ("contents", {"contents": {}}, {"contents": {}}, "skipped", "not_applicable", "None of its external mounts"),
        ("contents", {}, {"contents": {"/conf": None}}, "failed", "contents_differ", "/conf is missing on node2"),
        ("contents", {"contents": {"/conf": None}}, {}, "failed", "contents_differ", "/conf is missing on node1"),
        (
            "contents",
            {},
            {"contents": {"/conf": {**SUM, "shape": "x"}}},
            "failed",
            "contents_differ",
            "1 entries with 4",
        ),
        (
            "contents",
            {},
            {"contents": {"/conf": {**SUM, "hashes": "x"}}},
            "failed",
            "contents_differ",
            "other contents",
        ),
        (
            "contents",
            {},
            {"contents": {"/conf": {**SUM, "times": "x"}}},
            "warning",
            "times_differ",
            "/conf has 1 large",
        ),
        ("id_maps", {"id_maps": None}, {}, "skipped", "not_applicable", "no user namespace"),
        (
            "id_maps",
            {"id_maps.gid_map": [[1, 5, 9]]},
            {},
            "failed",
            "no_root_in_map",
            "no root (gid_map maps no ID to 0)",
        ),
        ("id_maps", {}, {"max_user_namespaces": 0}, "failed", "no_user_namespaces", "max_user_namespaces is 0"),
        (
            "id_maps",
            {},
            {"id_maps.uid_map": [[0, 5, 165535]]},
            "failed",
            "ids_not_mapped",
            "uid_map 100000 to 165535",
        ),
        ("id_maps", {}, {"id_maps.uid_map": [[0, 5, 165536]]}, "passed", "ok", "all IDs"),
        ("programs", {"programs.openssl": False}, {}, "failed", "program_missing", "node1 has no openssl"),
        ("programs", {}, {"programs.openssl": False}, "failed", "program_missing", "node2 has no openssl"),
        (
            "programs",
            {},
            {"programs.rsync": False},
            "failed",
            "program_missing",
            "node2 has no rsync, which is to copy /data",
        ),
        ("programs", {}, {"programs.rsync": False, "copied": []}, "passed", "ok", "Both have openssl."),
        ("programs", {"programs.zstd": False}, {}, "passed", "ok", "Both have openssl, rsync."),
        ("streaming", {"criu.version": "3.14.9"}, {}, "failed", "cannot_stream", "CRIU 3.14.9 of node1 cannot stream"),
        ("streaming", {"criu.version": "3.15"}, {"criu.version": "3.14"}, "passed", "ok", "CRIU 3.15 of node1"),
        ("streaming", {"criu": NO_CRIU}, {}, "skipped", "not_applicable", "node1 has no CRIU"),
        ("streaming", {"engine": RUNC}, {"engine": RUNC_THERE}, "skipped", "not_applicable", "sent from a folder"),
        ("supervisor", {"supervisor": None}, {}, "skipped", "not_applicable", "No systemd runs on node1"),
        (
            "supervisor",
            {"supervisor.problem": "Process 42 belongs to the unit u.service with Restart=always."},
            {},
            "failed",
            "would_start_anew",
            "u.service with Restart=always",
        ),
        ("supervisor", {"supervisor.later": "u.service."}, {}, "warning", "starts_later", "u.service."),
        (
            "supervisor",
            {"supervisor.error": {"message": "systemd could not be asked.", "remedy": ""}},
            {},
            "failed",
            "systemd_silent",
            "could not be asked",
        ),
        ("owner_unit", {}, {}, "passed", "ok", "live in criu-redis.service on node2"),
        ("owner_unit", {}, {"owner_unit": None}, "skipped", "not_applicable", "No systemd runs on node2"),
        (
            "owner_unit",
            {},
            {"owner_unit.problem": "The unit u.service is active here."},
            "failed",
            "unit_taken",
            "u.service is active",
        ),
        (
            "owner_unit",
            {},
            {"owner_unit.error": {"message": "'a b' cannot be the unit.", "remedy": "Give a name."}},
            "failed",
            "unit_unusable",
            "'a b' cannot be",
        ),
        (
            "route",
            {},
            {},
            "passed",
            "ok",
            "node1 has a route to node2.example.org (10.0.0.2), from its address 10.0.0.1.",
        ),
        ("route", {"route.address": "10.0.0.2"}, {}, "passed", "ok", "a route to 10.0.0.2, from"),
        ("route", {"route": None}, {}, "skipped", "not_applicable", "No address"),
        (
            "route",
            {"route.resolved": [], "route.reached": None, "route.problem": "Name or service not known"},
            {},
            "failed",
            "name_unknown",
            "node1 does not know where node2.example.org is: Name or service not known.",
        ),
        (
            "route",
            {"route.reached": None, "route.problem": "Network is unreachable"},
            {},
            "failed",
            "no_route",
            "no route to node2.example.org (2001:db8::2, 10.0.0.2): Network is unreachable.",
        ),
        ("route", {"route.is_own": True}, {}, "warning", "own_address", "is an address of node1 itself, not of node2"),
    ],
)
def test_each_check_finds_what_it_is_for(
    name: str, source: dict[str, Any], target: dict[str, Any], result: str, code: str, said: str
) -> None:
    finding = run(source, target)[name]
    assert (finding.result, finding.code) == (result, code)
    assert said in finding.reason
    assert finding.reason.endswith(".")
    assert bool(finding.remedy) is (result in ("failed", "warning"))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "/srv/bin/redis is missing"),
        ({"size": 11, "build_id": "ab"}, "has 11 bytes, not 10"),
        ({"size": 10, "build_id": "cd"}, "has the build-ID cd, not ab"),
        ({"size": 10, "build_id": None}, "has the build-ID (none), not ab"),
    ],
)
def test_mapped_files_must_be_the_same(found: Any, said: str) -> None:
    here = [{"path": "/bin/redis", "host_path": "/srv/bin/redis", "found": found}]
    finding = run({}, {"mapped_files": here})["mapped_files"]
    assert (finding.result, finding.code) == ("failed", "file_differs")
    assert said in finding.reason


@pytest.mark.parametrize("here", [None, []])
def test_mapped_files_need_not_be_there_if_they_are_copied(here: Any) -> None:
    assert run({}, {"mapped_files": here})["mapped_files"].result == "skipped"


def test_contents_beyond_the_limits_are_a_warning() -> None:
    cut = {"/conf": {**SUM, "complete": False}}
    assert run({"contents": cut}, {"contents": cut})["contents"].code == "contents_unfinished"


def test_what_of_contents_was_not_looked_at_is_told() -> None:
    kernel = {**SUM, "files": 0, "shape": "none", "left_out": {"": "sysfs"}}
    there = {"/sys": kernel, "/data": {**SUM, "left_out": {"proc": "proc"}}, "/dev": SUM}
    here = {"/sys": kernel, "/data": SUM, "/dev": {**SUM, "shape": "x", "left_out": {"": "devtmpfs"}}}
    finding = run({"contents": there}, {"contents": here})["contents"]
    assert finding.result == "passed"
    assert finding.reason.endswith(
        "1 entries of 1 mounts are the same on both; 1 large ones by size and time alone. "
        "Not looked at: /sys (sysfs); /dev (devtmpfs); /data/proc (proc)."
    )
    finding = run({"contents": there}, {"contents": {**here, "/data": {**SUM, "shape": "x"}}})["contents"]
    assert finding.code == "contents_differ"
    assert "/sys (sysfs)" in finding.reason
    # What is mounted below is told of only if it is not compared as a mount of the workload.
    nested = {"/data": {**SUM, "left_out": {"sub": "ext4"}}, "/data/sub": SUM}
    finding = run({"contents": nested}, {"contents": {"/data": SUM, "/data/sub": {**SUM, "hashes": "x"}}})["contents"]
    assert "/data/sub: some of 1 entries have other contents" in finding.reason
    assert "Not looked at" not in finding.reason


def test_the_first_ten_files_that_differ_are_named() -> None:
    there = {"/usr": {**SUM, "files": 12, "names": {f"bin/{number:02}": ["file", "sha256 a"] for number in range(12)}}}
    here = {"/usr": {**SUM, "files": 12, "names": {f"bin/{number:02}": ["file", "sha256 b"] for number in range(12)}}}
    finding = run({"contents": there}, {"contents": here})["contents"]
    assert finding.code == "contents_differ"
    assert "/usr: /usr/bin/00 has other contents; " in finding.reason
    assert "/usr/bin/09 has other contents; and 2 more." in finding.reason


def test_large_files_with_other_times_are_named() -> None:
    there, here = (
        {"/usr": {**SUM, "names": {"big": ["file of 9 bytes", f"time {time}"]}, "times": str(time)}} for time in (1, 2)
    )
    finding = run({"contents": there}, {"contents": here})["contents"]
    assert finding.code == "times_differ"
    assert "/usr has 1 large files, of which /usr/big has other time" in finding.reason


def test_paths_to_compare_that_are_nowhere_are_told() -> None:
    finding = run({"contents_paths": ["/conf", "/cnof", "/"]})["contents"]
    assert (finding.result, finding.code) == ("warning", "contents_paths_unknown")
    assert finding.reason.endswith("(data: present): /cnof.")
    absent = {"/conf": {**SUM, "absent": ["x"]}}
    finding = run({"contents": absent}, {"contents": absent})["contents"]
    assert (finding.code, "/conf/x is on neither host" in finding.reason) == ("contents_differ", True)


def test_contents_of_which_nothing_is_looked_at_are_told_too() -> None:
    kernel = {"/sys": {**SUM, "left_out": {"": "sysfs"}}}
    finding = run({"contents": kernel}, {"contents": kernel})["contents"]
    # The plan shows no reasons of checks that were not needed.
    assert (finding.result, finding.code) == ("passed", "ok")
    assert finding.reason == "Nothing of its external mounts is compared. Not looked at: /sys (sysfs)."


def test_of_what_is_mounted_below_as_many_are_told_as_can_be_read() -> None:
    there = {
        **{f"/k{number}": {**SUM, "left_out": {"": "proc"}} for number in range(12)},
        "/run": {**SUM, "left_out": {f"user/{number}": "tmpfs" for number in range(12)}},
    }
    reason = run({"contents": there}, {"contents": there})["contents"].reason
    assert "/k11 (proc); /run/user/0 (tmpfs)" in reason
    assert reason.endswith("/run/user/9 (tmpfs); and 2 more.")


def test_what_is_worst_about_contents_is_told() -> None:
    mounts = dict.fromkeys(("/a", "/b"), SUM)
    here = {"/a": {**SUM, "times": "x"}, "/b": {**SUM, "hashes": "x"}}
    finding = run({"contents": mounts}, {"contents": here})["contents"]
    assert finding.code == "contents_differ"
    assert "/a" not in finding.reason


@pytest.mark.parametrize("mode", ["ignore", "none"])
def test_cgroups_that_criu_leaves_alone_may_differ(mode: str) -> None:
    assert run({}, {"cgroups": "v1"}, manage_cgroups=mode)["cgroups"].result == "warning"
    assert run({}, {"cgroups": "v1"}, manage_cgroups="soft")["cgroups"].result == "failed"


def test_the_network_lock_that_was_asked_for_is_looked_at() -> None:
    lacking = {"network_locks.iptables": False}
    assert run({}, lacking, network_lock="iptables")["network_lock"].result == "failed"
    assert run({}, lacking, network_lock="nftables")["network_lock"].result == "passed"


def test_the_program_of_the_compression_is_needed_on_both() -> None:
    finding = run(compression="lz4")["programs"]
    assert finding.code == "program_missing"
    for host in ("node1", "node2"):
        assert f"{host} has no lz4, which is to compress the images" in finding.reason
        assert f"lz4 on {host}" in finding.remedy
    assert run(compression="zstd")["programs"].reason == "Both have openssl, rsync, zstd."


@pytest.mark.parametrize(
    ("program", "package"),
    [("openssl", "openssl"), ("rsync", "rsync"), ("zstd", "zstd")],
)
def test_the_package_of_a_program_is_named(program: str, package: str) -> None:
    finding = run({}, {f"programs.{program}": False}, compression="zstd")["programs"]
    assert finding.remedy == f"Install the packages (names of Debian): {package} on node2."


@pytest.mark.parametrize(("transport", "result"), [("direct", "failed"), ("relay", "failed"), ("shared", "skipped")])
def test_only_images_that_are_sent_are_streamed(transport: str, result: str) -> None:
    assert run({"criu.version": "3.14"}, transport=transport)["streaming"].result == result


def test_what_is_to_be_done_about_a_unit_is_told() -> None:
    found = run(
        {"supervisor.problem": "x."},
        {"owner_unit.error": {"message": "y.", "remedy": "Give a name."}},
    )
    assert "on node1 before the move" in found["supervisor"].remedy
    assert found["owner_unit"].remedy.startswith("Give a name. ")
    assert "'unit'" in run({}, {"owner_unit.problem": "z."})["owner_unit"].remedy


@pytest.mark.parametrize(
    "changes",
    [{"route.resolved": [], "route.reached": None}, {"route.reached": None}, {"route.is_own": True}],
)
def test_a_way_around_a_missing_route_is_told(changes: dict[str, Any]) -> None:
    remedy = run(changes)["route"].remedy
    assert "another address of node2 (criu_address)" in remedy
    assert "transport: relay" in remedy


def test_both_absent_and_taken_addresses_are_told() -> None:
    finding = run({}, {"listeners": ["tcp 0.0.0.0:80"], "absent_addresses": ["tcp 10.0.0.5:81"]})["addresses"]
    assert "0.0.0.0:80" in finding.reason
    assert "10.0.0.5:81" in finding.reason


@pytest.mark.parametrize("name", list(CHECKS))
def test_every_check_can_be_skipped_by_name(name: str) -> None:
    found = run({"io_uring": ["x"]}, {"criu": NO_CRIU}, skip=(name,))
    assert (found[name].result, found[name].code) == ("skipped", "asked")
    assert [other for other in found if found[other].code == "asked"] == [name]


def test_all_are_done_although_some_fail() -> None:
    findings = list(run({"io_uring": ["x"]}, {"criu": NO_CRIU, "architecture": "arm"}).values())
    assert [finding.name for finding in findings] == list(CHECKS)
    assert [finding.name for finding in failures(findings)] == ["criu_version", "architecture", "io_uring"]
    text = describe_failures(failures(findings))
    assert text.startswith("3 checks keep this workload from coming here:\n  criu_version [criu_unusable]: ")
    assert len(text.splitlines()) == 4


def test_names_of_no_check_are_refused() -> None:
    require_known(list(CHECKS))
    with pytest.raises(CriuError, match="is no check: pid, kernels"):
        require_known(["pid", "kernel", "kernels"])


def test_long_lists_are_cut() -> None:
    assert listed(list("abcdefg")) == "a; b; c; d; e; and 2 more"
    assert listed(list("abcde")) == "a; b; c; d; e"
