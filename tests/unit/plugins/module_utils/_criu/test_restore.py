# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu import restore as subject
from ansible_collections.fleet.criu.plugins.module_utils._criu import timers
from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._criu.generation import Generations
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_timers import ImageTimer
from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import (
    Manifest,
    Workload,
    digests,
    write_manifest,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.restore import (
    Restored,
    RestoreRequest,
    bound,
    restore_workload,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.stage import Stages
from ansible_collections.fleet.criu.plugins.module_utils._errors import (
    BadImageSet,
    CommandFailed,
    CriuError,
    CriuMissing,
)
from ansible_collections.fleet.criu.plugins.module_utils._mounts.pinned import Pinned
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed
from ansible_collections.fleet.criu.tests.unit.fakes import (
    BOOT_ID,
    BOOT_TIME,
    HOST_MOUNTS,
    FakeCriu,
    FakePrivateMounts,
    FakeProc,
)
from ansible_collections.fleet.criu.tests.unit.plugins.module_utils._criu.test_timers import FakeKernel
from ansible_collections.fleet.criu.tests.unit.redirection import redirect
from ansible_collections.fleet.criu.tests.unit.synthetic_images import write_timers

PID = 77
START = 9000


class Bench:
    """An image set with one external mount at /data, a root and a folder for them, and a CRIU to restore it with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.box, self.data, self.images = folder / "box", folder / "data", folder / "images"
        for path in (self.box, self.data, self.images):
            path.mkdir()
        (self.box / "data").symlink_to(self.data)
        self.proc = FakeProc(folder / "proc")
        self.criu = FakeCriu(folder, self.proc)
        self.criu.restores = self.start
        self.private = FakePrivateMounts()
        self.generations = Generations(folder / "lib" / "generations.json")
        self.pid_file = folder / "run" / "redis.pid"
        self.options = {"data": "rw,nosuid", "fstype": "ext4"}
        self.live = [
            f"200 90 8:1 {self.box} / rw - ext4 /dev/sda1 rw",
            f"201 200 8:1 {self.data} /data rw,nosuid - ext4 /dev/sda1 rw",
            "202 200 0:50 / /proc rw - proc proc rw",
        ]
        (self.images / "pages-1.img").write_text("memory")
        self.manifest = Manifest(
            workload=Workload("redis", 42, 5000, ["redis-server"]),
            host="source",
            boot_id="another boot",
            kernel="6.12",
            architecture="x86_64",
            criu_version="4.1.1",
            created="2026-01-01T00:00:00+00:00",
            root="/srv/box",
            mount_map=[{"mountpoint": "/data", "key": "k"}],
            mounts=[
                _mount("/", "root", "directory", ["rw"]),
                _mount("/data", "external", "directory", ["rw", "nosuid"]),
                _mount("/proc", "internal", "directory", ["rw"], "proc"),
            ],
            options=Options(shell_job=True, manage_cgroups="soft", timeout=5, network_lock="nftables").as_dict(),
            files=digests(self.images),
        )
        self.write()
        self.request = RestoreRequest(
            images=self.images,
            root=str(self.box),
            restore_map=[{"key": "k", "path": str(self.data)}],
            options={},
            pid_file=self.pid_file,
            criu_path=self.criu.path,
        )

    def write(self, **changes: Any) -> None:
        self.manifest = replace(self.manifest, **changes)
        write_manifest(self.images, self.manifest)

    def start(self, **fields: Any) -> int:
        given = {"start_time": START, "mounts": "\n".join(self.live), "root": self.box, **fields}
        self.proc.add(PID, **given)
        return PID

    def restore(self, check_only: bool = False, **changes: Any) -> Restored:
        request = replace(self.request, **changes)
        return restore_workload(request, self.proc, self.criu, self.generations, check_only, private=self.private)

    def end(self) -> None:
        self.proc.remove(PID)

    def argv(self) -> list[str]:
        (command,) = self.criu.ran("restore")
        return list(command.argv)

    @property
    def runs(self) -> bool:
        return self.proc.stat(PID) is not None

    @property
    def record(self) -> Path:
        return self.images / "restored.json"


def _mount(mountpoint: str, kind: str, type_: str, options: list[str], fstype: str = "ext4") -> dict[str, Any]:
    root = "/" if kind == "internal" else "/x"
    return {
        "mountpoint": mountpoint,
        "kind": kind,
        "type": type_,
        "mount_options": options,
        "fstype": fstype,
        "root": root,
        "shared": None,
        "master": None,
    }


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return Bench(tmp_path)


def test_a_restore_leaves_a_running_workload_with_record_and_pid_file(bench: Bench) -> None:
    restored = bench.restore()
    assert (restored.pid, restored.changed) == (PID, True)
    assert restored.manifest == bench.manifest
    assert bench.runs
    assert json.loads(bench.record.read_text()) == {"pid": PID, "start_time": START, "boot_id": BOOT_ID}
    assert bench.pid_file.read_text() == f"{PID}\n"
    assert bench.pid_file.stat().st_mode & 0o777 == 0o644
    assert bench.criu.answers == {"pre-restore": 0, "setup-namespaces": 0, "post-restore": 0}


def test_criu_is_run_with_exactly_these_words_and_finds_what_was_pinned(bench: Bench) -> None:
    bench.private.prefix = "/places"
    bench.restore()
    argv = bench.argv()
    script = argv[argv.index("--action-script") + 1]
    assert argv == [
        *[bench.criu.path, "restore", "--restore-detached", "--images-dir", str(bench.images)],
        *["--log-file", "restore.log", "-v2", "--root", f"/places{bench.box}", "--action-script", script],
        *["--external", f"mnt[k]:/places{bench.data}", "--shell-job", "--manage-cgroups=soft"],
    ]


def test_a_block_device_is_given_by_its_path(bench: Bench) -> None:
    bench.private.prefix = "/places"
    given = replace(bench.request, restore_map=[{"key": "k", "path": "/dev/sdb1", "device": True}])
    mount_map = [{**bench.manifest.mount_map[0], "device": True}]
    with contextlib.closing(Pinned()) as pinned:
        asked = bound(given, bench.manifest.mounts, mount_map, bench.private, pinned)
    assert (asked.root, asked.restore_map) == (f"/places{bench.box}", given.restore_map)


@pytest.mark.parametrize(("masters", "is_kept"), [((None, 7, None), False), ((None, 7, 7), True), ((7, 7, None), True)])
def test_slaves_of_one_mount_keep_their_paths(bench: Bench, masters: tuple[int | None, ...], is_kept: bool) -> None:
    # A place is a mount of its own, and CRIU copies what they share from one mount that holds them all.
    bench.private.prefix = "/places"
    bench.write(mounts=[{**mount, "master": master} for mount, master in zip(bench.manifest.mounts, masters)])
    with contextlib.closing(Pinned()) as pinned:
        asked = bound(bench.request, bench.manifest.mounts, bench.manifest.mount_map, bench.private, pinned)
    assert asked.root == f"/places{bench.box}"
    assert asked.restore_map[0]["path"] == (str(bench.data) if is_kept else f"/places{bench.data}")


def test_a_failure_names_the_paths_and_not_the_places(bench: Bench) -> None:
    bench.private.prefix = "/places"
    bench.criu.dies_before = True
    bench.criu.log = (
        f"(00.1) Error (criu/mount-v2.c:1): mnt-v2: Failed to open_tree /places{bench.data}: No such file\n"
    )
    with pytest.raises(CriuError, match=rf"Failed to open_tree {bench.data}: No such file") as caught:
        bench.restore()
    assert "/places" not in str(caught.value.facts)


@pytest.mark.parametrize(
    ("intended", "here", "wanted"),
    [
        ("rw,relatime", "rw,relatime", None),
        ("ro,relatime", "rw,relatime", ["ro"]),
        ("ro,nosuid,nodev,noexec,noatime", "rw", ["ro", "nosuid", "nodev", "noexec"]),
        ("ro", "ro,noatime", None),
        ("rw", "rw,nosuid,nodev", []),
        ("rw,nodev", "ro,nosuid", ["nodev"]),
    ],
)
def test_the_root_is_mounted_as_the_workload_had_it(
    bench: Bench, intended: str, here: str, wanted: list[str] | None
) -> None:
    # Before CRIU 4.2 the root has the options of what CRIU is given as its root.
    bench.write(mounts=[_mount("/", "root", "directory", intended.split(",")), *bench.manifest.mounts[1:]])
    (bench.proc.folder / "self" / "mountinfo").write_text(f"{HOST_MOUNTS}24 21 8:2 / {bench.box} {here} - ext4 d rw\n")
    bench.live[0] = bench.live[0].replace(" rw ", f" {intended} ", 1)
    bench.restore()
    calls = [call for call in bench.private.calls if call[0] == "options"]
    assert calls == ([] if wanted is None else [("options", str(bench.box), *wanted)])


def test_the_images_of_a_user_namespace_are_open_to_its_root_while_criu_reads_them(bench: Bench) -> None:
    group = os.getgid()
    bench.write(id_maps={"uid_map": [[0, 100000, 65536]], "gid_map": [[0, group, 65536]]})
    seen = []

    def start() -> int:
        for path in (bench.images, bench.images / "pages-1.img", bench.images / "manifest.json"):
            seen.append((path.stat().st_mode & 0o777, path.stat().st_gid))
        return bench.start()

    bench.criu.restores = start
    assert bench.restore().pid == PID
    assert seen[:2] == [(0o710, group), (0o640, group)]
    assert seen[2][0] == 0o600
    assert bench.images.stat().st_mode & 0o777 == 0o700


def with_engine(bench: Bench, **changes: Any) -> tuple[Restored, list[tuple[Options, str]]]:
    """A restore by an engine: another command, with the options and the stages of ours."""
    calls: list[tuple[Options, str]] = []

    def make_command(options: Options, stages: Stages) -> Command:
        calls.append((options, stages.script))
        argv = [bench.criu.path, "restore", "--images-dir", str(bench.images), "--log-file", "restore.log"]
        return Command([*argv, "--action-script", stages.script])

    request = replace(bench.request, **changes)
    restored = restore_workload(request, bench.proc, bench.criu, bench.generations, make_command=make_command)
    return restored, calls


def test_an_engine_restores_it_with_our_options_and_stages(bench: Bench) -> None:
    restored, ((options, script),) = with_engine(bench, options={"file_locks": True})
    assert (restored.pid, restored.changed) == (PID, True)
    assert (options.shell_job, options.file_locks, options.manage_cgroups) == (True, True, "soft")
    assert bench.argv()[-1] == script
    assert bench.criu.answers["post-restore"] == 0
    assert bench.record.exists()


def test_a_root_that_the_engine_makes_itself_is_not_looked_for(bench: Bench) -> None:
    bench.write(mounts=[{**bench.manifest.mounts[0], "kind": "engine"}, *bench.manifest.mounts[1:]])
    bench.live[0] = "200 90 0:99 / / rw,nodev - overlay overlay rw"
    restored, _calls = with_engine(bench, root="")
    assert restored.pid == PID


def test_mounts_that_an_engine_has_made_otherwise_stop_the_restore(bench: Bench) -> None:
    bench.live[1] = bench.live[1].replace("rw,nosuid", "ro,nosuid")
    with pytest.raises(CriuError, match="given up before it ran: the restored mounts are not what was intended"):
        with_engine(bench)
    assert not bench.runs


def test_options_override_those_of_the_image_set_where_given(bench: Bench) -> None:
    bench.restore(options={"shell_job": False, "manage_cgroups": None, "tcp_close": True, "extra_args": ["-v4"]})
    assert bench.argv()[-3:] == ["--tcp-close", "--manage-cgroups=soft", "-v4"]
    assert "--shell-job" not in bench.argv()


@pytest.mark.parametrize(("dumped", "wanted"), [("tcp_established", "tcp_close"), ("tcp_close", "tcp_established")])
def test_of_options_that_exclude_each_other_the_one_given_at_restore_counts(
    bench: Bench, dumped: str, wanted: str
) -> None:
    bench.write(options=Options.from_dict({dumped: True}).as_dict())
    bench.restore(options={wanted: True, dumped: None})
    flags = [word for word in bench.argv() if word.startswith("--tcp")]
    assert flags == ["--" + wanted.replace("_", "-")]


def test_without_a_pid_file_only_the_record_is_written(bench: Bench) -> None:
    assert bench.restore(pid_file=None).pid == PID
    assert bench.record.exists()
    assert not bench.pid_file.exists()


def test_the_record_is_written_before_the_workload_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    record = subject.record_restored

    def watch(*arguments: Any) -> None:
        record(*arguments)
        seen.append("post-restore" if "post-restore" in bench.criu.answers else None)

    monkeypatch.setattr(subject, "record_restored", watch)
    bench.restore()
    assert seen == [None]


def test_the_last_thing_before_the_workload_runs_is_the_caller_s(bench: Bench, tmp_path: Path) -> None:
    def before_run(pid: int) -> None:
        seen.append(
            (pid, bench.generations.spent("redis"), bench.pid_file.exists(), "post-restore" in bench.criu.answers)
        )

    seen: list[tuple[int, int, bool, bool]] = []
    bench.write(generation=4)
    folder = tmp_path / "stages"
    restore_workload(bench.request, bench.proc, bench.criu, bench.generations, False, before_run, folder)
    assert seen == [(PID, 4, True, False)]
    assert (folder / "answer.post-restore").read_text() == "0\n"


def test_a_caller_who_refuses_at_last_stops_the_restore(bench: Bench) -> None:
    def before_run(pid: int) -> None:
        raise CriuError("systemd could not be told.", facts={"a": 1})

    bench.write(generation=4)
    with pytest.raises(CriuError, match="given up before it ran: systemd could not be told") as caught:
        restore_workload(bench.request, bench.proc, bench.criu, bench.generations, False, before_run)
    assert caught.value.facts == {"a": 1}
    assert not bench.runs
    assert not bench.record.exists()
    assert bench.generations.spent("redis") == 0


def test_the_folder_of_a_pid_file_is_for_all_to_read_whatever_our_umask_is(bench: Bench) -> None:
    before = os.umask(0o077)
    try:
        bench.restore(pid_file=bench.folder / "run" / "more" / "redis.pid")
    finally:
        os.umask(before)
    assert {(bench.folder / name).stat().st_mode & 0o777 for name in ("run", "run/more")} == {0o755}


def test_what_was_verified_a_moment_ago_is_not_verified_again(bench: Bench) -> None:
    (bench.images / "pages-1.img").write_text("mEmory")
    assert bench.restore(is_verified=True).changed


# What is refused before anything is restored


def refused(bench: Bench, error: type[CriuError], text: str, **changes: Any) -> CriuError:
    for check_only in (True, False):
        with pytest.raises(error, match=text) as caught:
            bench.restore(check_only, **changes)
    assert bench.criu.ran("restore") == []
    return caught.value


def test_a_user_who_is_not_root_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    refused(bench, CriuMissing, "needs root")


def test_an_incomplete_image_set_is_refused(bench: Bench) -> None:
    (bench.images / "manifest.json").unlink()
    refused(bench, BadImageSet, "no complete image set")


def test_an_altered_image_set_is_refused(bench: Bench) -> None:
    (bench.images / "pages-1.img").write_text("mEmory")
    refused(bench, BadImageSet, r"altered: pages-1\.img")


def test_a_criu_that_is_missing_is_refused(bench: Bench) -> None:
    refused(bench, CriuMissing, "was not found", criu_path="/nowhere/criu")


@pytest.mark.parametrize(
    ("restore_map", "problems"),
    [
        ([], ["key k has no path"]),
        ([{"key": "K", "path": "DATA"}], ["key k has no path", "the image set has no key K"]),
        ([{"key": "k", "path": "DATA/none"}], ["DATA/none (for key k) is missing, not a directory"]),
        ([{"key": "k", "path": "DATA/file"}], ["DATA/file (for key k) is file, not a directory"]),
        ([{"key": "k", "path": "DATA"}, {"key": "l", "path": "DATA"}], ["the image set has no key l"]),
    ],
)
def test_a_map_that_does_not_fit_the_image_set_or_the_host_is_refused(
    bench: Bench, restore_map: list[dict[str, str]], problems: list[str]
) -> None:
    (bench.data / "file").touch()
    here = [{**entry, "path": entry["path"].replace("DATA", str(bench.data))} for entry in restore_map]
    error = refused(bench, BadImageSet, "cannot be restored with this map", restore_map=here)
    assert error.facts["problems"] == [problem.replace("DATA", str(bench.data)) for problem in problems]


@pytest.mark.parametrize("name", ["none", "file"])
def test_a_root_that_is_no_folder_is_refused(bench: Bench, name: str) -> None:
    (bench.folder / "file").touch()
    error = refused(bench, BadImageSet, "is no folder", root=str(bench.folder / name))
    assert error.facts["problems"] == [f"the root {bench.folder / name} is no folder"]


def test_everything_that_does_not_fit_is_told_at_once(bench: Bench) -> None:
    error = refused(bench, BadImageSet, "cannot be restored", restore_map=[], root="/nowhere")
    assert len(error.facts["problems"]) == 2


# Check mode


def test_a_check_changes_nothing(bench: Bench) -> None:
    assert bench.restore(check_only=True) == Restored(None, True, bench.manifest)
    assert bench.criu.ran("restore") == []
    assert not bench.record.exists()


# What runs already


def test_a_second_run_finds_the_copy_of_the_first(bench: Bench) -> None:
    bench.restore(pid_file=None)
    assert bench.restore(pid_file=None) == Restored(PID, False, bench.manifest)
    assert bench.restore(check_only=True, pid_file=None) == Restored(PID, False, bench.manifest)
    assert len(bench.criu.ran("restore")) == 1


@pytest.mark.parametrize("change", [{"start_time": START + 1}, {"boot_id": "another"}, {"pid": 78}])
def test_a_record_of_another_process_or_boot_does_not_count(bench: Bench, change: dict[str, Any]) -> None:
    record = {"pid": PID, "start_time": START, "boot_id": BOOT_ID}
    bench.start()
    bench.record.write_text(json.dumps({**record, **change}))
    bench.criu.restores = lambda: PID
    assert bench.restore(pid_file=None).changed


@pytest.mark.parametrize("text", ["", "{", "{}", '{"pid": 0}'])
def test_a_damaged_record_does_not_count(bench: Bench, text: str) -> None:
    bench.record.write_text(text)
    assert bench.restore().changed


@pytest.mark.parametrize("text", ["[]", "null", '{"pid": "x"}'])
def test_a_record_that_is_not_ours_does_not_count(bench: Bench, text: str) -> None:
    bench.record.write_text(text)
    assert bench.restore().changed


def test_a_workload_that_runs_by_its_pid_file_is_not_restored_again(bench: Bench) -> None:
    bench.start()
    bench.pid_file.parent.mkdir()
    bench.pid_file.write_text(f"{PID}\n")
    assert bench.restore() == Restored(PID, False, bench.manifest)
    assert bench.criu.commands == []


def test_a_pid_file_of_a_process_that_is_gone_does_not_count(bench: Bench) -> None:
    bench.pid_file.parent.mkdir()
    bench.pid_file.write_text("4711\n")
    assert bench.restore().changed
    assert bench.pid_file.read_text() == f"{PID}\n"


@pytest.mark.parametrize("stale", [True, False])
def test_a_pid_file_that_is_unsure_stops_the_restore(bench: Bench, stale: bool) -> None:
    bench.start(start_time=1000 * os.sysconf("SC_CLK_TCK"))
    bench.pid_file.parent.mkdir()
    bench.pid_file.write_text(f"{PID}\n" if stale else "garbage\n")
    os.utime(bench.pid_file, (BOOT_TIME + 10, BOOT_TIME + 10))
    with pytest.raises(CriuError, match="pid file"):
        bench.restore()
    assert bench.criu.ran("restore") == []


def test_a_second_copy_is_not_started_beside_the_first_that_was_left_running(bench: Bench) -> None:
    bench.write(boot_id=BOOT_ID, leave_running=True)
    bench.proc.add(42, start_time=5000)
    restored = bench.restore()
    assert (restored.changed, restored.pid) == (False, 42)


# The mounts are compared before the first instruction runs


@pytest.mark.parametrize(
    ("row", "line", "difference"),
    [
        (1, "201 200 8:1 DATA /data rw - ext4 /dev/sda1 rw", "/data is no longer mounted nosuid"),
        (1, "201 200 8:1 DATA /data ro,nosuid - ext4 /dev/sda1 rw", "/data is now mounted ro"),
        (1, "201 200 8:1 DATA /dta rw,nosuid - ext4 /dev/sda1 rw", "/data was mounted 1 times, and is now 0 times"),
        (2, "202 200 0:50 / /proc rw - tmpfs tmpfs rw", "/proc was a proc and is now a tmpfs"),
    ],
)
def test_mounts_that_differ_stop_the_restore(bench: Bench, row: int, line: str, difference: str) -> None:
    bench.live[row] = line.replace("DATA", str(bench.data))
    with pytest.raises(CriuError, match="The restore of redis was given up before it ran") as caught:
        bench.restore()
    assert difference in caught.value.facts["differences"]
    assert difference in str(caught.value)
    assert bench.criu.answers["post-restore"] != 0
    assert not bench.runs
    assert not bench.record.exists()
    assert not bench.pid_file.exists()


def test_a_mount_from_elsewhere_stops_the_restore(bench: Bench) -> None:
    (bench.folder / "elsewhere").mkdir()
    (bench.box / "data").unlink()
    (bench.box / "data").symlink_to(bench.folder / "elsewhere")
    with pytest.raises(CriuError) as caught:
        bench.restore()
    assert caught.value.facts == {"differences": [f"/data is not {bench.data} of this host"]}


def test_another_root_stops_the_restore(bench: Bench) -> None:
    other = bench.folder / "other"
    other.mkdir()
    (other / "data").symlink_to(bench.data)
    with pytest.raises(CriuError) as caught:
        bench.restore(root=str(other))
    assert caught.value.facts == {"differences": [f"/ is not {other} of this host"]}


def test_a_workload_that_is_gone_when_criu_asks_stops_the_restore(bench: Bench) -> None:
    bench.criu.restores = lambda: bench.start(state="Z")
    with pytest.raises(CriuError, match="was restored, but is gone"):
        bench.restore()


# Failures: nothing runs, nothing says that it does


def test_a_restore_that_criu_refuses_is_told_with_its_log(bench: Bench, host: Path) -> None:
    bench.criu.dies_before = True
    bench.criu.log = "(00.1) Error (criu/mount-v2.c:1): mnt-v2: Failed to open_tree /x: No such file or directory\n"
    with pytest.raises(CommandFailed, match=r"The restore of redis failed \(exit status 1\)") as caught:
        bench.restore()
    assert caught.value.facts["log"] == str(host / "log" / "images-restore.log")
    assert caught.value.remedy.startswith("A path of the restore map")
    assert not bench.record.exists()


def test_record_and_pid_file_are_removed_if_criu_fails_after_our_yes(bench: Bench) -> None:
    bench.criu.fail_after = 3
    with pytest.raises(CommandFailed, match="exit status 3"):
        bench.restore()
    assert bench.criu.answers["post-restore"] == 0
    assert not bench.record.exists()
    assert not bench.pid_file.exists()


def test_record_and_pid_file_stay_if_criu_fails_but_the_workload_runs(bench: Bench) -> None:
    bench.criu.fail_after = 3
    bench.proc.remove = lambda pid: None  # type: ignore[method-assign]
    with pytest.raises(CommandFailed):
        bench.restore()
    assert bench.runs
    assert bench.record.exists()
    assert bench.pid_file.exists()
    assert bench.restore() == Restored(PID, False, bench.manifest)


def test_a_pid_file_that_cannot_be_written_stops_the_restore_and_leaves_no_record(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(subject, "write_atomically", fail)
    with pytest.raises(CriuError, match=r"given up before it ran: .*Read-only file system"):
        bench.restore()
    assert not bench.runs
    assert not bench.record.exists()


def test_a_criu_that_never_asks_is_not_trusted(bench: Bench) -> None:
    bench.criu.asks = False
    with pytest.raises(CommandFailed, match="The restore of redis failed"):
        bench.restore()


def test_a_pid_file_of_before_stays_if_criu_fails_early(bench: Bench) -> None:
    bench.criu.dies_before = True
    bench.pid_file.parent.mkdir()
    bench.pid_file.write_text("4711\n")
    with pytest.raises(CommandFailed):
        bench.restore()
    assert bench.pid_file.read_text() == "4711\n"


def test_the_image_set_is_still_good_after_a_failure(bench: Bench) -> None:
    bench.criu.fail_after = 3
    with pytest.raises(CommandFailed):
        bench.restore()
    bench.criu.fail_after = 0
    assert bench.restore().changed


# Generations


def test_a_restore_spends_the_generation_of_the_image_set(bench: Bench) -> None:
    bench.write(generation=4)
    bench.restore()
    assert bench.generations.spent("redis") == 4
    assert bench.generations.current("redis") == 4


def test_the_generation_is_spent_before_the_workload_runs_and_not_sooner(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(generation=4)
    seen: list[tuple[str, int]] = []
    check, record = subject.check_mounts, subject.record_restored

    def note(name: str, function: Any) -> Any:
        def watch(*arguments: Any) -> None:
            function(*arguments)
            seen.append((name, bench.generations.spent("redis")))

        return watch

    monkeypatch.setattr(subject, "check_mounts", note("mounts", check))
    monkeypatch.setattr(subject, "record_restored", note("record", record))
    bench.restore()
    assert seen == [("mounts", 0), ("record", 4)]


@pytest.mark.parametrize("generation", [1, 3, 4])
def test_an_image_set_whose_generation_is_spent_here_is_refused(bench: Bench, generation: int) -> None:
    bench.write(generation=generation)
    bench.generations.spend("redis", 4)
    error = refused(
        bench, BadImageSet, rf"of generation {generation} of redis, which is spent: by the record of this host"
    )
    assert "a second copy of redis, or one that has forgotten what was written since" in error.message
    assert "set allow_copy: true" in error.remedy
    assert error.facts == {"generation": generation, "spent_generation": 4}


@pytest.mark.parametrize("spent_here", [0, 2])
def test_what_other_hosts_have_spent_counts_too(bench: Bench, spent_here: int) -> None:
    bench.write(generation=3)
    bench.generations.spend("redis", spent_here)
    error = refused(bench, BadImageSet, "spent: by the record of another host", spent_generation=3)
    assert error.facts == {"generation": 3, "spent_generation": 3}


@pytest.mark.parametrize(("generation", "here", "elsewhere"), [(5, 4, 4), (0, 4, 4), (1, 0, 0)])
def test_an_image_set_that_is_not_spent_is_restored(bench: Bench, generation: int, here: int, elsewhere: int) -> None:
    bench.write(generation=generation)
    bench.generations.spend("redis", here)
    assert bench.restore(spent_generation=elsewhere).changed
    assert bench.generations.spent("redis") == max(generation, here)


def test_an_image_set_is_restored_once_even_if_nothing_else_tells_that_it_was(bench: Bench) -> None:
    bench.write(generation=4)
    bench.restore()
    bench.end()
    bench.record.unlink()
    with pytest.raises(BadImageSet, match="spent"):
        bench.restore()
    assert len(bench.criu.ran("restore")) == 1


def test_what_another_workload_has_spent_does_not_count(bench: Bench) -> None:
    bench.write(generation=4)
    bench.generations.spend("postgres", 4)
    assert bench.restore().changed


@pytest.mark.parametrize("elsewhere", [0, 4])
def test_a_copy_is_made_of_a_spent_image_set_if_so_asked(bench: Bench, elsewhere: int) -> None:
    bench.write(generation=4)
    bench.generations.spend("redis", 4)
    assert bench.restore(allow_copy=True, spent_generation=elsewhere).changed
    assert bench.generations.spent("redis") == 4


def test_a_spent_image_set_whose_very_copy_runs_is_unchanged(bench: Bench) -> None:
    bench.write(generation=4)
    bench.restore()
    assert bench.restore(spent_generation=9) == Restored(PID, False, bench.manifest)


def test_a_check_spends_nothing(bench: Bench) -> None:
    bench.write(generation=4)
    bench.restore(check_only=True)
    assert bench.generations.spent("redis") == 0


@pytest.mark.parametrize("spent_before", [0, 2])
def test_a_generation_is_given_back_if_criu_fails_after_our_yes(bench: Bench, spent_before: int) -> None:
    bench.write(generation=4)
    bench.generations.spend("redis", spent_before)
    bench.criu.fail_after = 3
    with pytest.raises(CommandFailed):
        bench.restore()
    assert bench.generations.spent("redis") == spent_before
    bench.criu.fail_after = 0
    assert bench.restore().changed


def test_a_generation_is_given_back_if_we_refuse_at_last(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(30, "Read-only file system")

    bench.write(generation=4)
    monkeypatch.setattr(subject, "write_atomically", fail)
    with pytest.raises(CriuError, match="given up before it ran"):
        bench.restore()
    assert bench.generations.spent("redis") == 0


def test_a_generation_stays_spent_if_criu_fails_but_the_workload_runs(bench: Bench) -> None:
    bench.write(generation=4)
    bench.criu.fail_after = 3
    bench.proc.remove = lambda pid: None  # type: ignore[method-assign]
    with pytest.raises(CommandFailed):
        bench.restore()
    assert bench.generations.spent("redis") == 4


def test_a_generation_stays_spent_if_we_are_interrupted_and_it_may_have_run(bench: Bench) -> None:
    class Interrupted(BaseException):
        pass

    def runner(command: Any, while_running: Any = None) -> Any:
        completed = bench.criu(command, while_running)
        if list(command.argv)[1] == "restore":
            bench.end()
            raise Interrupted
        return completed

    bench.write(generation=4)
    with pytest.raises(Interrupted):
        restore_workload(bench.request, bench.proc, runner, bench.generations)
    assert bench.generations.spent("redis") == 4


def test_of_two_who_restore_at_the_same_time_one_is_refused_and_touches_nothing_of_the_other(bench: Bench) -> None:
    def meanwhile() -> int:
        bench.generations.spend("redis", 4)
        bench.record.write_text("the other's")
        return bench.start()

    bench.write(generation=4)
    bench.criu.restores = meanwhile
    with pytest.raises(CriuError, match=r"given up before it ran: .* which is spent"):
        bench.restore()
    assert not bench.runs
    assert bench.generations.spent("redis") == 4
    assert bench.record.read_text() == "the other's"


def test_a_damaged_record_of_generations_stops_the_restore(bench: Bench) -> None:
    (bench.folder / "lib").mkdir()
    (bench.folder / "lib" / "generations.json").write_text("{")
    refused(bench, CriuError, "cannot be read")


def test_a_generation_that_cannot_be_recorded_stops_the_restore(bench: Bench) -> None:
    bench.write(generation=4)
    (bench.folder / "lib").write_text("no folder")
    with pytest.raises(CriuError):
        bench.restore()
    assert not bench.runs
    assert not bench.record.exists()


def test_a_timer_that_would_stand_still_is_armed_before_the_workload_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_timers(bench.images, {3: ImageTimer(3, 1, 1, 0, 0, 7)}, {PID: {4: 3}})
    bench.write(files=digests(bench.images))
    kernel = FakeKernel()
    monkeypatch.setattr(timers, "LinuxKernel", lambda: kernel)
    bench.restore()
    assert kernel.sets == [(0, 7, 7, 1)]
    assert bench.runs
    bench.end()
    bench.record.unlink()
    kernel.error = OSError(38, "Function not implemented")
    with pytest.raises(
        CriuError, match="was given up before it ran: The periodic timer 4 of process 77 would stand still"
    ):
        bench.restore(allow_copy=True)
    assert not bench.runs


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
        if "restore" in command.argv:
            mountinfo.write_text(f"{HOST_MOUNTS}{row}\n")
        return criu(command, while_running)

    if fails:
        with pytest.raises(CriuError) as raised:
            restore_workload(bench.request, bench.proc, run, bench.generations)
        assert raised.value.facts["put_back"] == said
    else:
        assert restore_workload(bench.request, bench.proc, run, bench.generations).put_back == tuple(said)
    assert "nsdelegate" in mountinfo.read_text()
