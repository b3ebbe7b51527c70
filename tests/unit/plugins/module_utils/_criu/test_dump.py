# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu import dump as subject
from ansible_collections.fleet.criu.plugins.module_utils._criu import folder
from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._criu.dump import Dumped, DumpRequest, dump_workload
from ansible_collections.fleet.criu.plugins.module_utils._criu.generation import Generations
from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import read_manifest, verify_files
from ansible_collections.fleet.criu.plugins.module_utils._errors import (
    BadImageSet,
    CommandFailed,
    CriuError,
    CriuMissing,
    SharedMountNamespace,
    WorkloadNotFound,
)
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed
from ansible_collections.fleet.criu.tests.unit.fakes import BOOT_ID, HOST_MOUNTS, FakeCriu, FakeProc
from ansible_collections.fleet.criu.tests.unit.redirection import redirect

PID = 42
START = 5000


class Bench:
    """A workload with an external mount at /data, and a CRIU to dump it with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.box = folder / "box"
        self.box.mkdir()
        self.images = folder / "images"
        self.proc = FakeProc(folder / "proc")
        self.criu = FakeCriu(folder, self.proc)
        self.generations = Generations(folder / "lib" / "generations.json")
        self.mounts = [
            f"100 90 8:1 {self.box} / rw - ext4 /dev/sda1 rw",
            "101 100 8:1 /srv/data /data rw - ext4 /dev/sda1 rw",
            "102 100 0:50 / /proc rw - proc proc rw",
        ]
        self.request = DumpRequest("redis", PID, self.images, START, criu_path=self.criu.path)

    def start(self, **fields: Any) -> None:
        self.proc.add(
            PID,
            **{
                "command": ["redis-server", "*:6379"],
                "start_time": START,
                "mounts": "\n".join(self.mounts),
                "root": self.box,
                "status": "RssAnon:\t 100 kB\n",
                **fields,
            },
        )

    def remount(self, mounts: list[str]) -> None:
        (self.proc.folder / str(PID) / "mountinfo").write_text("\n".join(mounts), "utf-8")

    def dump(self, check_only: bool = False, **changes: Any) -> Dumped:
        return dump_workload(replace(self.request, **changes), self.proc, self.criu, self.generations, check_only)

    def argv(self) -> list[str]:
        (command,) = self.criu.ran("dump")
        return list(command.argv)

    @property
    def runs(self) -> bool:
        return self.proc.stat(PID) is not None

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.images.iterdir()) if self.images.exists() else []


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    made = Bench(tmp_path)
    made.start()
    return made


def test_a_dump_leaves_a_complete_image_set_and_no_workload(bench: Bench) -> None:
    dumped = bench.dump()
    assert dumped.changed
    assert not bench.runs
    assert read_manifest(bench.images) == dumped.manifest
    verify_files(bench.images, dumped.manifest)
    assert sorted(dumped.manifest.files) == ["inventory.img", "pages-1.img"]
    assert bench.images.stat().st_mode & 0o777 == 0o700


def test_the_manifest_says_what_was_dumped_where_and_how(bench: Bench) -> None:
    manifest = bench.dump(options=Options(tcp_close=True)).manifest
    assert (manifest.workload.name, manifest.workload.pid, manifest.workload.start_time) == ("redis", PID, START)
    assert manifest.workload.command == ["redis-server", "*:6379"]
    assert (manifest.host, manifest.kernel) == (platform.node(), platform.release())
    assert (manifest.boot_id, manifest.criu_version, manifest.root) == (BOOT_ID, "4.1.1", str(bench.box))
    assert manifest.mount_map == [{"mountpoint": "/data", "key": "/data"}]
    assert [mount["kind"] for mount in manifest.mounts] == ["root", "external", "internal"]
    assert manifest.options["tcp_close"] is True
    assert manifest.created.endswith("+00:00")
    assert not manifest.leave_running


def test_criu_is_run_with_exactly_these_words(bench: Bench) -> None:
    bench.dump(dump_map=[{"mountpoint": "/data", "key": "k"}], options=Options(shell_job=True))
    argv = bench.argv()
    script = argv[argv.index("--action-script") + 1]
    assert argv == [
        *[bench.criu.path, "dump", "--tree", "42", "--images-dir", str(bench.images), "--log-file", "dump.log", "-v2"],
        *["--root", str(bench.box), "--action-script", script, "--external", "mnt[/data]:k", "--shell-job"],
    ]


def test_the_manifest_is_written_before_the_workload_is_let_go(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, list[str]]] = []
    write = subject.write_manifest

    def watch(images: Path, manifest: Any) -> None:
        write(images, manifest)
        seen.append((bench.runs, bench.left))

    monkeypatch.setattr(subject, "write_manifest", watch)
    bench.dump()
    assert seen == [(True, ["dump.log", "inventory.img", "manifest.json", "pages-1.img"])]
    assert bench.criu.answers == {"pre-dump": 0, "network-lock": 0, "post-dump": 0}


def test_leave_running_lets_it_run_on(bench: Bench) -> None:
    dumped = bench.dump(leave_running=True)
    assert bench.runs
    assert "--leave-running" in bench.argv()
    assert dumped.manifest.leave_running
    assert "manifest.json" in bench.left


def test_auto_detection_needs_no_keys_and_its_paths_are_kept_in_the_manifest(bench: Bench) -> None:
    manifest = bench.dump(options=Options(external_auto=True)).manifest
    assert [word for word in bench.argv() if word.startswith("mnt[")] == ["mnt[]"]
    assert manifest.mount_map == []
    assert [mount["auto_path"] for mount in manifest.mounts] == [None, "/srv/data", None]


def test_a_device_has_its_number_and_no_mountpoint_for_criu(bench: Bench) -> None:
    bench.remount([*bench.mounts, "103 100 8:17 / /disk rw - ext4 /dev/sdb1 rw"])
    dump_map = [{"mountpoint": "/data", "key": "d"}, {"mountpoint": "/disk", "key": "disk", "device": "8/17"}]
    manifest = bench.dump(dump_map=dump_map).manifest
    assert [word for word in bench.argv() if "[" in word] == ["mnt[/data]:d", "dev[8/17]:disk"]
    assert {mount["mountpoint"]: mount["verdict"] for mount in manifest.mounts}["/disk"] == "device"


def test_a_skipped_mount_needs_no_key_and_is_not_expected_after_a_restore(bench: Bench) -> None:
    manifest = bench.dump(options=Options(skip_mnt=("/data",))).manifest
    assert [mount["mountpoint"] for mount in manifest.mounts] == ["/", "/proc"]


def test_what_the_engine_makes_again_needs_no_key_and_must_be_there_after_a_restore(bench: Bench) -> None:
    bench.remount([*bench.mounts, "103 100 8:1 /srv/hosts /etc/hosts rw - ext4 /dev/sda1 rw"])
    dump_map = [{"mountpoint": "/data", "key": "k"}]
    manifest = bench.dump(dump_map=dump_map, own_mountpoints=frozenset(["/proc", "/etc/hosts"])).manifest
    assert {mount["mountpoint"]: (mount["kind"], mount["verdict"]) for mount in manifest.mounts} == {
        "/": ("root", "root"),
        "/data": ("external", "external"),
        "/proc": ("engine", "engine"),
        "/etc/hosts": ("engine", "engine"),
    }
    assert manifest.mount_map == dump_map


def test_without_an_engine_every_external_mount_needs_a_key(bench: Bench) -> None:
    bench.remount([*bench.mounts, "103 100 8:1 /srv/hosts /etc/hosts rw - ext4 /dev/sda1 rw"])
    refused(bench, CriuError, "/etc/hosts", dump_map=[{"mountpoint": "/data", "key": "k"}])


# What is refused before anything is frozen


def test_what_criu_would_refuse_is_told_before_it_is_asked(bench: Bench) -> None:
    bench.remount([bench.mounts[0], "101 100 8:1 /srv/data /data rw shared:7 - ext4 /dev/sda1 rw"])
    error = refused(bench, CriuError, "CRIU would refuse the mounts of redis", options=Options(external_auto=True))
    assert [text.split(":")[0] for text in error.facts["refused_mounts"]] == ["/data"]


def refused(bench: Bench, error: type[CriuError], text: str, **changes: Any) -> CriuError:
    for check_only in (True, False):
        with pytest.raises(error, match=text) as caught:
            bench.dump(check_only, **changes)
    assert bench.criu.ran("dump") == []
    return caught.value


def test_a_user_who_is_not_root_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    refused(bench, CriuMissing, "needs root")


def with_maps(bench: Bench, uids: str, gids: str) -> None:
    process = bench.proc.folder / str(PID)
    (process / "ns/user").unlink()
    (process / "ns/user").symlink_to("user:[4026539999]")
    (process / "uid_map").write_text(uids)
    (process / "gid_map").write_text(gids)


def test_the_maps_of_a_user_namespace_are_in_the_manifest(bench: Bench) -> None:
    assert bench.dump(leave_running=True, images=bench.folder / "other").manifest.id_maps is None
    with_maps(bench, "0 100000 65536\n", "0 200000 10\n10 5 1\n")
    bench.dump()
    manifest = read_manifest(bench.images)
    assert manifest.id_maps == {"uid_map": [[0, 100000, 65536]], "gid_map": [[0, 200000, 10], [10, 5, 1]]}
    assert manifest.image_group == 200000


@pytest.mark.parametrize(
    ("uids", "gids", "said"), [("1 5 9\n", "0 5 9\n", "uid_map"), ("0 5 9\n", "1 5 9\n", "gid_map")]
)
def test_a_user_namespace_without_root_is_refused(bench: Bench, uids: str, gids: str, said: str) -> None:
    with_maps(bench, uids, gids)
    refused(bench, CriuError, f"has no root \\({said} of process {PID} maps no ID to 0")


def test_a_pid_that_does_not_run_is_refused(bench: Bench) -> None:
    refused(bench, WorkloadNotFound, "does not run here as process 7", pid=7)


def test_a_pid_that_is_used_again_is_refused(bench: Bench) -> None:
    refused(bench, WorkloadNotFound, "does not run here as process 42", start_time=START - 1)


def test_without_a_start_time_the_pid_alone_counts(bench: Bench) -> None:
    assert bench.dump(start_time=None).manifest.workload.start_time == START


def test_a_zombie_is_not_dumped(bench: Bench) -> None:
    bench.proc.remove(PID)
    bench.start(state="Z")
    refused(bench, WorkloadNotFound, "does not run here")


def test_the_host_s_own_mount_namespace_is_refused(bench: Bench) -> None:
    bench.proc.remove(PID)
    bench.start(own_namespaces=["pid"])
    refused(bench, SharedMountNamespace, "CRIU ignores every mount mapping")


def test_a_criu_that_is_missing_is_refused(bench: Bench) -> None:
    refused(bench, CriuMissing, "was not found", criu_path="/nowhere/criu")


def test_a_root_that_the_host_cannot_see_is_refused(bench: Bench) -> None:
    bench.proc.remove(PID)
    bench.mounts[0] = "100 90 0:99 / / rw - overlay overlay rw"
    bench.start()
    refused(bench, CriuError, "cannot be seen in the host's mount namespace")


def test_too_little_space_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "free_bytes", lambda path: 100 * 1024 - 1)
    error = refused(bench, BadImageSet, "too little space")
    assert error.facts["needed_bytes"] == 100 * 1024


def test_images_of_another_dump_are_not_overwritten(bench: Bench) -> None:
    bench.images.mkdir()
    (bench.images / "core-1.img").touch()
    refused(bench, BadImageSet, "is not empty: it has core-1.img")
    assert bench.left == ["core-1.img"]


@pytest.mark.parametrize(
    ("dump_map", "without_key", "matching_nothing"),
    [
        ([], ["/data"], []),
        ([{"mountpoint": "/data/", "key": "k"}], ["/data"], ["/data/"]),
        ([{"mountpoint": "/data", "key": "k"}, {"mountpoint": "/dta", "key": "l"}], [], ["/dta"]),
        ([{"mountpoint": "/data", "key": "k"}, {"mountpoint": "/proc", "key": "l"}], [], ["/proc"]),
        ([{"mountpoint": "/data", "key": "k"}, {"mountpoint": "/", "key": "l"}], [], ["/"]),
    ],
)
def test_a_map_that_does_not_fit_the_mounts_is_refused(
    bench: Bench, dump_map: list[dict[str, str]], without_key: list[str], matching_nothing: list[str]
) -> None:
    error = refused(bench, CriuError, "The mount map does not fit the workload", dump_map=dump_map)
    assert error.facts["without_key"] == without_key
    assert error.facts["matching_nothing"] == matching_nothing
    assert all(mountpoint in error.message for mountpoint in without_key + matching_nothing)


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(["", "b"], id="empty: CRIU takes it for auto"),
        pytest.param(["CRIU:a", "b"], id="reserved"),
        pytest.param(["a", "a"], id="one key for two mounts"),
    ],
)
def test_keys_that_criu_would_misunderstand_are_refused(bench: Bench, keys: list[str]) -> None:
    bench.proc.remove(PID)
    bench.mounts.append("103 100 8:1 /srv/more /more rw - ext4 /dev/sda1 rw")
    bench.start()
    dump_map = [{"mountpoint": mountpoint, "key": key} for mountpoint, key in zip(("/data", "/more"), keys)]
    refused(bench, CriuError, "key", dump_map=dump_map)


@pytest.mark.parametrize(
    "over", ["103 101 0:51 / /data rw - tmpfs tmpfs rw", "103 101 8:1 /srv/more /data rw - ext4 /dev/sda1 rw"]
)
def test_a_mount_over_an_external_one_is_refused(bench: Bench, over: str) -> None:
    bench.proc.remove(PID)
    bench.mounts.append(over)
    bench.start()
    refused(bench, CriuError, "/data")


def test_an_external_mount_at_a_place_that_is_no_utf8_is_refused(bench: Bench) -> None:
    bench.proc.remove(PID)
    bench.mounts.append(r"103 100 8:1 /srv/more /more\377 rw - ext4 /dev/sda1 rw")
    bench.start()
    refused(bench, CriuError, "more")


# Network lock


def give_network_namespace(bench: Bench) -> None:
    link = bench.proc.folder / str(PID) / "ns" / "net"
    link.unlink()
    link.symlink_to("net:[4026532999]")


@pytest.mark.parametrize(
    ("wanted", "missing", "words"),
    [
        ("auto", False, ["--network-lock", "nftables"]),
        ("auto", True, []),
        ("iptables", False, ["--network-lock", "iptables"]),
        ("nftables", True, ["--network-lock", "nftables"]),
        (None, False, []),
    ],
)
def test_nftables_lock_the_network_if_they_can(
    bench: Bench, wanted: str | None, missing: bool, words: list[str]
) -> None:
    bench.criu.missing_features = {"network_lock_nftables"} if missing else set()
    give_network_namespace(bench)
    dumped = bench.dump(options=Options(network_lock=wanted))
    argv = bench.argv()
    start = argv.index("mnt[/data]:/data") + 1
    assert argv[start:] == words
    assert dumped.manifest.options["network_lock"] == (words[1] if words else None)


@pytest.mark.parametrize(
    ("has_namespace", "options", "is_locked"),
    [
        (False, {}, False),
        (False, {"tcp_established": True}, True),
        (False, {"tcp_close": True}, True),
        (True, {}, True),
    ],
)
def test_where_there_is_no_network_to_lock_none_is_locked(
    bench: Bench, has_namespace: bool, options: dict[str, bool], is_locked: bool
) -> None:
    if has_namespace:
        give_network_namespace(bench)
    bench.dump(options=Options(network_lock="auto", **options))  # type: ignore[arg-type]
    argv = bench.argv()
    assert argv[argv.index("--network-lock") + 1] == ("nftables" if is_locked else "skip")


def test_criu_that_cannot_skip_the_lock_is_not_told_to(bench: Bench) -> None:
    bench.criu.version = "3.18"
    bench.dump(options=Options(network_lock="auto"))
    assert "skip" not in bench.argv()


# Check mode


def test_a_check_tells_the_manifest_and_changes_nothing(bench: Bench) -> None:
    dumped = bench.dump(check_only=True)
    assert dumped.changed
    assert (dumped.manifest.files, dumped.manifest.created) == ({}, "")
    assert dumped.manifest.mount_map == [{"mountpoint": "/data", "key": "/data"}]
    assert bench.criu.ran("dump") == []
    assert bench.runs
    assert not bench.images.exists()


# A second run


def test_a_second_run_finds_the_image_set_of_the_first(bench: Bench) -> None:
    first = bench.dump()
    again = bench.dump()
    assert again == Dumped(first.manifest, changed=False)
    assert bench.dump(check_only=True) == again
    assert bench.dump(start_time=None) == again
    assert len(bench.criu.ran("dump")) == 1


def test_the_pid_may_be_another_s_by_then(bench: Bench) -> None:
    bench.dump()
    bench.start(start_time=START + 1)
    assert not bench.dump().changed


@pytest.mark.parametrize("changes", [{"name": "postgres"}, {"pid": 43}, {"start_time": START + 1}])
def test_the_image_set_of_another_workload_is_not_taken_for_it(bench: Bench, changes: dict[str, Any]) -> None:
    bench.dump()
    with pytest.raises(WorkloadNotFound):
        bench.dump(**changes)


def test_the_image_set_of_another_boot_is_not_taken_for_it(bench: Bench) -> None:
    bench.dump()
    (bench.proc.folder / "sys/kernel/random/boot_id").write_text("another\n")
    with pytest.raises(WorkloadNotFound):
        bench.dump()


def test_a_copy_of_a_workload_that_ran_on_and_ended_later_is_not_its_dump(bench: Bench) -> None:
    bench.dump(leave_running=True)
    bench.proc.remove(PID)
    with pytest.raises(WorkloadNotFound):
        bench.dump()


# What an attempt that was cut off has left


def test_images_that_are_there_are_replaced_if_so_asked(bench: Bench) -> None:
    bench.images.mkdir()
    for name in ("pages-9.img", "manifest.json", "restored.json", "stats-dump"):
        (bench.images / name).write_text("left")
    dumped = bench.dump(replace=True)
    verify_files(bench.images, dumped.manifest)
    assert bench.left == ["dump.log", "inventory.img", "manifest.json", "pages-1.img", "stats-dump"]


def test_replacing_needs_nothing_to_replace(bench: Bench) -> None:
    assert bench.dump(replace=True).changed


def test_a_check_replaces_nothing(bench: Bench) -> None:
    bench.images.mkdir()
    (bench.images / "pages-9.img").touch()
    assert bench.dump(check_only=True, replace=True).changed
    assert bench.left == ["pages-9.img"]


def test_nothing_is_replaced_if_the_dump_is_refused(bench: Bench) -> None:
    bench.images.mkdir()
    (bench.images / "pages-9.img").touch()
    with pytest.raises(CriuError):
        bench.dump(replace=True, dump_map=[])
    assert bench.left == ["pages-9.img"]


def test_the_complete_image_set_of_this_very_workload_is_not_replaced_when_it_is_gone(bench: Bench) -> None:
    first = bench.dump()
    assert bench.dump(replace=True) == Dumped(first.manifest, changed=False)


@pytest.mark.parametrize("check_only", [True, False])
def test_a_folder_with_other_files_than_images_is_not_emptied(bench: Bench, check_only: bool) -> None:
    bench.images.mkdir()
    (bench.images / "passwd").write_text("root")
    with pytest.raises(BadImageSet):
        bench.dump(check_only, replace=True)
    assert bench.left == ["passwd"]


def test_the_complete_image_set_of_another_workload_is_not_replaced(bench: Bench) -> None:
    first = bench.dump(name="postgres")
    bench.start(start_time=START + 1)
    with pytest.raises(BadImageSet):
        bench.dump(start_time=START + 1, replace=True)
    assert read_manifest(bench.images) == first.manifest


# Failures: the workload runs on, its memory is not left lying about, the log is


def test_a_dump_that_criu_refuses_leaves_its_log_alone(bench: Bench, host: Path) -> None:
    bench.criu.dies_before = True
    bench.criu.log = "(00.1) Error (criu/tty.c:1): gremlins\n(00.1) Error (a.c:1): Timeout reached\n"
    with pytest.raises(CommandFailed, match=r"The dump of redis \(pid 42\) failed \(exit status 1\)") as caught:
        bench.dump()
    assert caught.value.facts["log"] == str(host / "log" / "images-dump.log")
    assert caught.value.remedy == "Raise timeout."
    assert bench.runs
    assert bench.left == ["dump.log"]


def test_a_dump_that_fails_after_our_yes_leaves_no_manifest(bench: Bench) -> None:
    bench.criu.fail_after = 7
    with pytest.raises(CommandFailed, match="exit status 7"):
        bench.dump()
    assert bench.criu.answers["post-dump"] == 0
    assert bench.runs
    assert bench.left == ["dump.log"]


def test_a_manifest_that_cannot_be_written_stops_the_dump(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(images: Path, manifest: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(subject, "write_manifest", fail)
    with pytest.raises(CriuError, match=r"given up before the workload was let go, and it runs on: .*No space left"):
        bench.dump()
    assert bench.criu.answers["post-dump"] != 0
    assert bench.runs
    assert bench.left == ["dump.log"]


def test_a_dump_may_be_tried_again_after_it_failed(bench: Bench) -> None:
    bench.criu.dies_before = True
    with pytest.raises(CommandFailed):
        bench.dump()
    bench.criu.dies_before = False
    assert bench.dump().changed


def test_the_log_of_an_earlier_attempt_is_not_taken_for_this_one(bench: Bench) -> None:
    bench.images.mkdir()
    (bench.images / "dump.log").write_text("Error (a.c:1): something long ago\n")
    bench.criu.log_is_written = False
    with pytest.raises(CommandFailed) as caught:
        bench.dump()
    assert "long ago" not in caught.value.message


def test_a_criu_that_never_asks_is_not_trusted(bench: Bench) -> None:
    bench.criu.asks = False
    with pytest.raises(CriuError, match="never asked at its post-dump stage"):
        bench.dump(leave_running=True)
    assert bench.left == ["dump.log"]


def test_images_are_kept_if_the_workload_is_gone_whatever_happened(bench: Bench) -> None:
    bench.criu.asks = False
    with pytest.raises(CriuError, match="never asked"):
        bench.dump()
    assert not bench.runs
    assert {"inventory.img", "pages-1.img"} <= set(bench.left)


def test_images_are_kept_if_another_process_has_the_pid_by_then(bench: Bench) -> None:
    bench.criu.asks = False
    remove = bench.proc.remove

    def reuse(pid: int) -> None:
        remove(pid)
        bench.start(start_time=START + 1)

    bench.proc.remove = reuse  # type: ignore[method-assign]
    with pytest.raises(CriuError, match="never asked"):
        bench.dump()
    assert {"inventory.img", "pages-1.img"} <= set(bench.left)


def test_an_interruption_removes_the_images_too(bench: Bench) -> None:
    class Interrupted(BaseException):
        pass

    def runner(command: Any, while_running: Any = None) -> Any:
        if list(command.argv)[1] == "dump":
            (bench.images / "pages-1.img").write_text("memory")
            raise Interrupted
        return bench.criu(command, while_running)

    with pytest.raises(Interrupted):
        dump_workload(bench.request, bench.proc, runner, bench.generations)
    assert bench.left == []


# Generations


def test_each_dump_that_ends_the_workload_begins_a_generation(bench: Bench) -> None:
    assert bench.dump().manifest.generation == 1
    bench.start()
    manifest = bench.dump(images=bench.folder / "next").manifest
    assert manifest.generation == 2
    assert read_manifest(bench.folder / "next").generation == 2


def test_a_generation_is_greater_than_what_other_hosts_know(bench: Bench) -> None:
    assert bench.dump(at_least_generation=7).manifest.generation == 8
    assert bench.generations.current("redis") == 8


def test_the_image_set_of_a_workload_that_was_ended_is_not_spent_but_all_before_are(bench: Bench) -> None:
    bench.dump(at_least_generation=7)
    assert not bench.generations.is_spent("redis", 8)
    assert bench.generations.is_spent("redis", 7)


def test_the_generation_is_begun_before_criu_is_asked(bench: Bench) -> None:
    seen: list[int] = []

    def runner(command: Any, while_running: Any = None) -> Any:
        if list(command.argv)[1] == "dump":
            seen.append(Generations(bench.folder / "lib" / "generations.json").current("redis"))
        return bench.criu(command, while_running)

    dump_workload(bench.request, bench.proc, runner, bench.generations)
    assert seen == [1]


def test_the_images_of_a_workload_that_lives_on_are_a_copy_from_the_beginning(bench: Bench) -> None:
    manifest = bench.dump(leave_running=True).manifest
    assert manifest.generation == 1
    assert bench.generations.is_spent("redis", 1)


@pytest.mark.parametrize(("known", "elsewhere", "generation"), [(3, 0, 3), (0, 5, 5), (3, 5, 5), (5, 3, 5)])
def test_a_copy_has_the_generation_of_the_workload_that_lives_on(
    bench: Bench, known: int, elsewhere: int, generation: int
) -> None:
    bench.generations.learn("redis", known)
    assert bench.dump(leave_running=True, at_least_generation=elsewhere).manifest.generation == generation
    assert bench.generations.spent("redis") == generation


@pytest.mark.parametrize("leave_running", [True, False])
@pytest.mark.parametrize(("known", "elsewhere"), [(0, 0), (3, 0), (0, 5), (3, 5)])
def test_a_check_tells_the_generation_and_begins_none(
    bench: Bench, leave_running: bool, known: int, elsewhere: int
) -> None:
    bench.generations.learn("redis", known)
    changes = {"leave_running": leave_running, "at_least_generation": elsewhere}
    told = bench.dump(check_only=True, **changes).manifest.generation
    assert (bench.generations.current("redis"), bench.generations.spent("redis")) == (known, 0)
    assert bench.dump(**changes).manifest.generation == told


def test_a_dump_that_is_there_already_begins_no_generation(bench: Bench) -> None:
    bench.dump()
    assert bench.dump().manifest.generation == 1
    assert bench.generations.current("redis") == 1


def test_a_dump_that_failed_leaves_a_number_behind(bench: Bench) -> None:
    bench.criu.dies_before = True
    with pytest.raises(CommandFailed):
        bench.dump()
    bench.criu.dies_before = False
    assert bench.dump().manifest.generation == 2


def test_a_damaged_record_of_generations_stops_the_dump_before_the_freeze(bench: Bench) -> None:
    (bench.folder / "lib").mkdir()
    (bench.folder / "lib" / "generations.json").write_text("{")
    refused(bench, CriuError, "cannot be read")
    assert bench.runs
    assert not bench.images.exists()


@pytest.mark.parametrize("fails", [False, True])
def test_mount_options_that_criu_takes_are_put_back(
    bench: Bench, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redirect(tmp_path / "here", monkeypatch.setattr)
    mountinfo = bench.proc.folder / "self" / "mountinfo"
    row = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
    mountinfo.write_text(f"{HOST_MOUNTS}{row},nsdelegate\n")
    bench.criu.fail_after = int(fails)
    criu, said = bench.criu, ["Put back the mount option nsdelegate of /sys/fs/cgroup, which CRIU took."]

    def run(command: Command, while_running: Callable[[], None] | None = None) -> Completed:
        if command.argv[:2] == ["mount", "-o"]:
            mountinfo.write_text(f"{HOST_MOUNTS}{row},{list(command.argv)[2].partition(',')[2]}\n")
            return Completed(0)
        if "dump" in command.argv:
            mountinfo.write_text(f"{HOST_MOUNTS}{row}\n")
        return criu(command, while_running)

    if fails:
        with pytest.raises(CriuError) as raised:
            dump_workload(bench.request, bench.proc, run, bench.generations)
        assert raised.value.facts["put_back"] == said
    else:
        assert dump_workload(bench.request, bench.proc, run, bench.generations).put_back == tuple(said)
    assert "nsdelegate" in mountinfo.read_text()
