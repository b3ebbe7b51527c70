# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib
import os
import platform
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from ansible_collections.fleet.criu.plugins.module_utils._criu.dump import Dumped
from ansible_collections.fleet.criu.plugins.module_utils._criu.generation import Generations
from ansible_collections.fleet.criu.plugins.module_utils._criu.restore import Restored
from ansible_collections.fleet.criu.plugins.module_utils._engine import discover, registry
from ansible_collections.fleet.criu.plugins.module_utils._engine.base import Bind, Container
from ansible_collections.fleet.criu.plugins.module_utils._errors import WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._handoff import reviver
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import Journal
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Step
from ansible_collections.fleet.criu.plugins.module_utils._mounts import mount_map
from ansible_collections.fleet.criu.plugins.module_utils._mounts.contents import Contents
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed
from ansible_collections.fleet.criu.plugins.modules import dump
from ansible_collections.fleet.criu.plugins.modules import restore as restore_module
from ansible_collections.fleet.criu.tests.unit.fakes import (
    BOOT_ID,
    FakeCriu,
    FakePrivateMounts,
    FakeProc,
    FakeRunner,
)

PID = 42
MODULES = (
    "criu_info",
    "dump",
    "mount_info",
    "mount_map",
    "restore",
    "handoff_receive",
    "handoff_send",
    "handoff_settle",
    "workload_info",
)
ROOT = {"mount_id": 1, "mountpoint": "/", "kind": "root", "type": "directory", "fstype": "ext4", "host_path": "/x"}
DATA = {**ROOT, "mount_id": 2, "mountpoint": "/data", "kind": "external"}


class Exited(Exception):
    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__()
        self.result = result


class Failed(Exited):
    pass


class Scene:
    """A host with a workload of pid 42, and a CRIU; runs modules on it."""

    def __init__(self, folder: Path, host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.host, self._monkeypatch = folder, host, monkeypatch
        self.box, self.data, self.images = folder / "box", folder / "data", folder / "images"
        self.box.mkdir()
        self.data.mkdir()
        (self.box / "data").symlink_to(self.data)
        self.proc = FakeProc(folder / "proc")
        monkeypatch.setattr(mount_map, "Proc", lambda: self.proc)
        self.criu = FakeCriu(folder, self.proc)
        self.criu.restores = self.start
        self.generations = Generations(host / "lib" / "generations.json")
        self.start()

    def start(self) -> int:
        mounts = [
            f"100 90 8:1 {self.box} / rw - ext4 /dev/sda1 rw",
            f"101 100 8:1 {self.data} /data rw - ext4 /dev/sda1 rw",
        ]
        self.proc.add(PID, ["redis"], mounts="\n".join(mounts), root=self.box, start_time=5000)
        return PID

    def run(self, module_name: str, /, check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
        module = importlib.import_module(f"ansible_collections.fleet.criu.plugins.modules.{module_name}")
        for attribute, value in (
            ("Proc", self.proc),
            ("SubprocessRunner", self.criu),
            ("Generations", self.generations),
        ):
            if hasattr(module, attribute):
                self._monkeypatch.setattr(module, attribute, lambda value=value: value)
        given = {name: value for name, value in arguments.items() if value is not None}
        with patch_module_args({**given, "_ansible_check_mode": check_mode}), pytest.raises(Exited) as caught:
            module.main()
        if isinstance(caught.value, Failed):
            raise caught.value
        return caught.value.result

    def fails(self, module_name: str, /, check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
        with pytest.raises(Failed) as caught:
            self.run(module_name, check_mode, **arguments)
        return caught.value.result

    def dump(self, check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
        given = {"name": "redis", "pid": PID, "images": str(self.images), "criu_path": self.criu.path}
        return self.run("dump", check_mode, **{**given, **arguments})

    def restore(self, check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
        paths = [{"key": "/data", "path": str(self.data)}]
        given = {"images": str(self.images), "root": str(self.box), "mount_map": paths, "criu_path": self.criu.path}
        given["unit"] = ""
        return self.run("restore", check_mode, **{**given, **arguments})


@pytest.fixture
def scene(tmp_path: Path, host: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    def exit_json(module: AnsibleModule, **result: Any) -> None:
        raise Exited(result)

    def fail_json(module: AnsibleModule, msg: str, **result: Any) -> None:
        raise Failed({"msg": msg, **result})

    monkeypatch.setattr(AnsibleModule, "exit_json", exit_json)
    monkeypatch.setattr(AnsibleModule, "fail_json", fail_json)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(platform, "node", lambda: "node7")
    # This process must stay in its mount namespace.
    monkeypatch.setattr(restore_module, "PrivateMounts", FakePrivateMounts)
    return Scene(tmp_path, host, monkeypatch)


def without_diff(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "diff"}


# Arguments


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("dump", {"images": "/i", "pid": 1}, "missing required arguments: name"),
        ("dump", {"name": "n", "pid": 1}, "missing required arguments: images"),
        ("dump", {"name": "n", "images": "/i"}, "missing required arguments: pid"),
        ("dump", {"name": "n", "images": "/i", "pid": "x"}, "argument 'pid' is of type"),
        ("dump", {"name": "n", "images": "/i", "pid": 1, "network_lock": "x"}, "value of network_lock must be one of"),
        ("dump", {"name": "n", "images": "/i", "pid": 1, "manage_cgroups": "x"}, "value of manage_cgroups must be"),
        ("dump", {"name": "n", "images": "/i", "pid": 1, "mount_map": [{"key": "k"}]}, "mountpoint found in mount_map"),
        (
            "dump",
            {"name": "n", "images": "/i", "pid": 1, "mount_map": [{"mountpoint": "/m"}]},
            "key found in mount_map",
        ),
        (
            "dump",
            {"name": "n", "images": "/i", "pid": 1, "tcp_close": True, "tcp_established": True},
            "mutually exclusive: tcp_established|tcp_close",
        ),
        ("restore", {"images": "/i"}, "missing required arguments: root"),
        ("restore", {"root": "/r"}, "missing required arguments: images"),
        ("restore", {"images": "/i", "root": "/r", "mount_map": [{"key": "k"}]}, "path found in mount_map"),
        ("restore", {"images": "/i", "root": "/r", "tcp_close": True, "tcp_established": True}, "mutually exclusive"),
        ("mount_map", {}, "missing required arguments: mounts"),
        ("mount_map", {"mounts": [ROOT], "rules": [{"colour": "red"}]}, "Unsupported parameters"),
        ("workload_info", {"container": "web"}, "parameters are required together: container, engine"),
        ("workload_info", {"engine": "podman"}, "parameters are required together: container, engine"),
        ("workload_info", {"engine": "lxd", "container": "web"}, "value of engine must be one of: crun, docker"),
        ("workload_info", {"pid": 1, "unit": "u"}, "mutually exclusive: pid|pid_file|unit|command|container"),
        ("mount_info", {}, "one of the following is required"),
        ("mount_info", {"pid_file": "/p", "command": ["c"]}, "mutually exclusive"),
        ("mount_info", {"container": "web"}, "parameters are required together: container, engine"),
        ("handoff_receive", {}, "missing required arguments: certificate, handoff, images"),
        ("handoff_send", {}, "missing required arguments: handoff"),
        (
            "handoff_receive",
            {
                "certificate": "c",
                "handoff": "n",
                "images": "/i",
                "workload": "w",
                "source": "s",
                "target": "t",
                "mount_map": [],
                "container": "web",
            },
            "parameters are required together: container, engine",
        ),
        ("handoff_send", {"handoff": "n", "engine": "runc"}, "parameters are required together: container, engine"),
        ("handoff_send", {"handoff": "n"}, "state is sent but all of the following are missing: workload, source"),
        ("handoff_send", {"handoff": "n", "state": "x"}, "value of state must be one of"),
        ("handoff_settle", {"handoff": "n"}, "missing parameter(s) required by 'handoff': side"),
        ("handoff_settle", {"handoff": "n", "side": "left"}, "value of side must be one of"),
        ("criu_info", {"colour": "red"}, "Unsupported parameters"),
    ],
)
def test_arguments_are_checked(scene: Scene, name: str, arguments: dict[str, Any], said: str) -> None:
    assert said in scene.fails(name, **arguments)["msg"]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_supports_check_mode(scene: Scene, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    supports: list[Any] = []
    original = AnsibleModule.__init__

    def watch(module: AnsibleModule, *arguments: Any, **options: Any) -> None:
        supports.append(options.get("supports_check_mode"))
        original(module, *arguments, **options)

    monkeypatch.setattr(AnsibleModule, "__init__", watch)
    try:
        scene.run(name, check_mode=True, nonsense=1)
    except Failed:
        assert supports == [True]


# criu_info


def test_criu_info_tells_the_host_and_its_criu(scene: Scene) -> None:
    found = scene.run("criu_info", criu_path=scene.criu.path, images=str(scene.images))
    assert (found["changed"], found["usable"], found["version"]) == (False, True, "4.1.1")
    assert (found["host"], found["kernel"], found["architecture"]) == ("node7", platform.release(), platform.machine())
    assert found["free_bytes"] > 0
    assert not scene.images.exists()


def test_criu_info_leaves_the_features_out_if_so_asked(scene: Scene) -> None:
    assert scene.run("criu_info", criu_path=scene.criu.path)["features"]["uffd"] is True
    assert "features" not in scene.run("criu_info", criu_path=scene.criu.path, features=False)


def test_criu_info_fails_without_criu_unless_it_is_not_required(scene: Scene) -> None:
    failed = scene.fails("criu_info", criu_path="/nowhere/criu")
    assert failed["msg"].startswith("node7: CRIU is not installed here (/nowhere/criu was not found). Install")
    assert failed["remedy"].startswith("Install the package criu")
    found = scene.run("criu_info", criu_path="/nowhere/criu", required=False)
    assert found["usable"] is False
    assert "free_bytes" not in found


# workload_info


def test_workload_info_describes_what_it_found(scene: Scene) -> None:
    found = scene.run("workload_info", command=["redis"])
    assert (found["found"], found["pid"], found["start_time"], found["root"]) == (True, PID, 5000, str(scene.box))
    assert found["changed"] is False


def test_workload_info_fails_if_nothing_is_found_unless_it_is_not_required(scene: Scene) -> None:
    assert scene.fails("workload_info", pid=7)["msg"].startswith("node7: No workload with pid 7 runs here")
    found = scene.run("workload_info", pid=7, required=False)
    assert found == {
        "changed": False,
        "found": False,
        "reason": "No workload with pid 7 runs here: there is no process 7.",
        "handoff": None,
    }


def test_workload_info_looks_in_the_unit_that_a_move_has_put_it_into(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    show = ("systemctl", "show", "--property", "MainPID", "--value", "--")
    answers = {
        (*show, "redis.service"): Completed(0, "0\n"),
        (*show, "criu-redis.service"): Completed(0, f"0\n\n{PID}\n"),
    }
    runner = FakeRunner(answers)
    module = importlib.import_module("ansible_collections.fleet.criu.plugins.modules.workload_info")
    monkeypatch.setattr(module, "has_systemd", lambda: True)
    monkeypatch.setattr(scene, "criu", runner)
    found = scene.run("workload_info", name="redis", unit="redis.service", owner_unit="moved", required=False)
    assert (found["found"], found["pid"]) == (True, PID)
    assert runner.argvs[-1] == [*show, "criu-redis.service", "moved.service"]
    assert scene.run("workload_info", unit="redis.service", required=False)["found"] is False
    assert (
        "required by 'owner_unit': name"
        in scene.fails("workload_info", unit="redis.service", owner_unit="moved")["msg"]
    )


def test_workload_info_tells_what_the_host_knows_of_generations(scene: Scene) -> None:
    scene.generations.begin("redis", 4)
    scene.generations.spend("redis", 3)
    for pid in (PID, 7):
        found = scene.run("workload_info", name="redis", pid=pid, required=False)
        assert (found["found"], found["generation"], found["spent_generation"]) == (pid == PID, 5, 3)
    found = scene.run("workload_info", name="postgres", pid=7, required=False)
    assert (found["generation"], found["spent_generation"]) == (0, 0)
    assert "generation" not in scene.run("workload_info", pid=PID)


def test_workload_info_fails_if_it_is_unsure_even_if_not_required(scene: Scene) -> None:
    scene.proc.add(43, ["redis"])
    assert scene.fails("workload_info", command=["redis"], required=False)["pids"] == [42, 43]


class Known:
    """An engine that has the container web, which is the workload, and knows of its /data alone."""

    name = "runc"
    bound = "/data"

    def __init__(self, runner: Any, proc: Any) -> None:
        pass

    def is_present(self) -> bool:
        return True

    def version(self) -> str:
        return "runc 1.2"

    def containers(self) -> list[Container]:
        return [Container("runc", "web", "web", "running", PID, binds=[Bind("/srv", self.bound)])]

    def find(self, name: str) -> Container:
        if name != "web":
            raise WorkloadNotFound(f"runc knows no container {name} here.")
        return self.containers()[0]

    def problems(self, container: Container) -> list[str]:
        return []

    def own_mountpoints(self, container: Container) -> frozenset[str]:
        return frozenset(["/"])


@pytest.fixture
def _engines(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (registry, discover):
        monkeypatch.setattr(module, "ENGINES", {"runc": Known})
    monkeypatch.setattr(discover, "has_unsupported", lambda name: False)


@pytest.mark.usefixtures("_engines")
def test_workload_info_without_a_workload_lists_every_container(scene: Scene) -> None:
    found = scene.run("workload_info")
    assert found["engines"] == [{"name": "runc", "version": "runc 1.2", "is_supported": True, "problem": ""}]
    assert [(each["engine"], each["name"], each["pid"]) for each in found["workloads"]] == [("runc", "web", PID)]
    assert "found" not in found


@pytest.mark.usefixtures("_engines")
def test_workload_info_finds_a_container(scene: Scene) -> None:
    found = scene.run("workload_info", engine="runc", container="web")
    assert (found["found"], found["pid"], found["start_time"]) == (True, PID, 5000)
    missing = scene.run("workload_info", engine="runc", container="db", required=False)
    assert (missing["found"], "knows no container db" in missing["reason"]) == (False, True)


def test_workload_info_refuses_docker_even_if_nothing_is_required(scene: Scene) -> None:
    failed = scene.fails("workload_info", engine="docker", container="web", required=False)
    assert "Run the same image with podman" in failed["msg"]


@pytest.mark.usefixtures("_engines")
@pytest.mark.parametrize("given", [{"pid": PID}, {"engine": "runc", "container": "web"}])
def test_workload_info_gives_what_mount_info_gives_if_asked(scene: Scene, given: dict[str, Any]) -> None:
    wanted = scene.run("mount_info", **given)
    found = scene.run("workload_info", mounts=True, **given)
    assert (found["mounts"], found["nested"]) == (wanted["mounts"], wanted["nested"])
    assert "mounts" not in scene.run("workload_info", **given)
    assert "mounts" not in scene.run("workload_info", mounts=True, required=False, pid=7)


def test_workload_info_finds_also_what_has_mounts_that_cannot_be_moved(scene: Scene) -> None:
    scene.proc.add(43, own_namespaces=[])
    found = scene.run("workload_info", mounts=True, pid=43)
    assert found["found"]
    assert "mounts" not in found


# mount_info


def test_mount_info_gives_the_mounts_of_the_workload(scene: Scene) -> None:
    found = scene.run("mount_info", pid=PID)
    assert (found["pid"], found["changed"]) == (PID, False)
    assert [(mount["mountpoint"], mount["kind"]) for mount in found["mounts"]] == [("/", "root"), ("/data", "external")]


@pytest.mark.usefixtures("_engines")
def test_mount_info_tells_what_the_engine_makes_again_and_what_it_does_not_know(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scene.run("mount_info", engine="runc", container="web")
    assert (found["pid"], [mount["kind"] for mount in found["mounts"]]) == (PID, ["engine", "external"])
    assert "configured" not in found["mounts"][1]
    monkeypatch.setattr(Known, "bound", "/elsewhere")
    found = scene.run("mount_info", engine="runc", container="web")
    assert found["mounts"][1]["configured"] is False


def test_mount_info_refuses_a_process_in_the_host_s_mount_namespace(scene: Scene) -> None:
    scene.proc.add(43, own_namespaces=[])
    assert "the host's own mount namespace" in scene.fails("mount_info", pid=43)["msg"]


# mount_map


def test_mount_map_gives_both_maps(scene: Scene) -> None:
    (scene.folder / "target" / "data").mkdir(parents=True)
    found = scene.run(
        "mount_map",
        mounts=[ROOT, DATA],
        rules=[{"mountpoint": "/", "source": f"{scene.folder}/target"}, {"prefix": "/x", "replace": str(scene.data)}],
    )
    assert found["changed"] is False
    assert (found["root"], found["gaps"]) == (f"{scene.folder}/target", [])
    assert found["dump_map"] == [{"mountpoint": "/data", "key": "/data"}]
    assert found["restore_map"] == [{"key": "/data", "path": str(scene.data)}]


def test_mount_map_fails_with_all_gaps_unless_told_otherwise(scene: Scene) -> None:
    failed = scene.fails("mount_map", mounts=[ROOT, DATA])
    assert failed["msg"].startswith("node7: 2 gaps keep this workload from coming here:\n")
    assert [gap["code"] for gap in failed["gaps"]] == ["no_rule", "no_rule"]
    assert len(scene.run("mount_map", mounts=[ROOT, DATA], fail_on_gaps=False)["gaps"]) == 2


def test_mount_map_passes_its_options_on(scene: Scene) -> None:
    (scene.data / "file").touch()
    Contents().claim([str(scene.data)], "redis")
    arguments: dict[str, Any] = {
        "mounts": [{**DATA, "host_path": str(scene.data)}],
        "keep_paths": True,
        "data": {"/data": "sync"},
        "fail_on_gaps": False,
    }

    def codes(**more: Any) -> list[str]:
        return [gap["code"] for gap in scene.run("mount_map", **arguments, **more)["gaps"]]

    assert codes() == ["foreign_contents"]
    assert codes(workload="redis") == []
    assert codes(workload="postgres") == ["foreign_contents"]
    assert codes(replace_contents=True) == []


# dump and restore


def test_dump_and_restore_take_a_workload_there_and_back(scene: Scene) -> None:
    dumped = scene.dump(start_time=5000, mount_map=[{"mountpoint": "/data", "key": "/data"}])
    assert (dumped["changed"], dumped["images"], dumped["size"]) == (True, str(scene.images), 15)
    assert dumped["manifest"]["workload"]["name"] == "redis"
    assert isinstance(dumped["seconds"], float)
    assert scene.proc.stat(PID) is None
    again = scene.dump()
    assert (again["changed"], again["seconds"], again["manifest"]) == (False, 0.0, dumped["manifest"])

    restored = scene.restore(pid_file=f"{scene.folder}/redis.pid")
    assert without_diff({**restored, "seconds": 0}) == {
        "changed": True,
        "workload": "redis",
        "generation": 1,
        "seconds": 0,
        "put_back": [],
        "pid": PID,
    }
    assert (scene.folder / "redis.pid").read_text() == f"{PID}\n"
    assert scene.restore()["changed"] is False


def open_handoff(side: str, *steps: Step, **facts: Any) -> Path:
    journal = Journal("redis-1", side)
    journal.begin({"workload": "redis", "source": "node7", "target": "node8", "boot_id": BOOT_ID, **facts})
    for step in steps:
        journal.record(step)
    return journal.path


@pytest.mark.parametrize("changes", [{}, {"leave_running": True}, {"check_mode": True}, {"name": "another"}])
def test_what_a_handoff_holds_is_not_dumped(scene: Scene, changes: dict[str, Any]) -> None:
    path = open_handoff("source", Step.COMMITTED, pid=PID, start_time=5000)
    before = path.read_bytes()
    with pytest.raises(Failed) as caught:
        scene.dump(**changes)
    assert "the handoff redis-1 (node7 -> node8)" in caught.value.result["msg"]
    assert caught.value.result["open_handoff"]["command"].endswith("fleet.criu.settle -e handoff=redis-1")
    assert scene.proc.stat(PID) is not None
    assert not scene.images.exists()
    assert path.read_bytes() == before
    assert scene.generations.current("redis") == 0


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("changes", [{}, {"allow_copy": True}, {"check_mode": True}])
def test_what_a_handoff_holds_is_not_restored(scene: Scene, side: str, changes: dict[str, Any]) -> None:
    scene.dump()
    open_handoff(side, Step.COMMITTED if side == "source" else Step.RUN)
    with pytest.raises(Failed) as caught:
        scene.restore(**changes)
    assert "the handoff redis-1 (node7 -> node8)" in caught.value.result["msg"]
    assert scene.proc.stat(PID) is None


def test_images_that_a_handoff_gave_up_are_restored_as_a_copy(scene: Scene) -> None:
    scene.dump()
    path = open_handoff("target", Step.COMPLETE, Step.REFUSED, images=str(scene.images))
    with pytest.raises(Failed):
        scene.restore()
    assert scene.restore(check_mode=True, allow_copy=True)["changed"] is True
    assert path.read_text().count("running") == 0
    assert scene.restore(allow_copy=True)["pid"] == PID
    assert path.read_text().count("running") == 1, "its source has nothing to wait for any more"


def test_nothing_is_dumped_or_restored_where_no_record_could_be_kept(scene: Scene, host: Path) -> None:
    scene.dump(leave_running=True)
    for path in (host / "lib" / "handoffs").iterdir():
        path.unlink()
    (host / "lib" / "handoffs").rmdir()
    (host / "lib" / "handoffs").touch()
    for attempt in (lambda: scene.dump(images=str(scene.folder / "other")), scene.restore):
        with pytest.raises(Failed) as caught:
            attempt()
        assert "cannot keep records" in caught.value.result["msg"]
    assert scene.proc.stat(PID) is not None
    assert not (scene.folder / "other").exists()


def test_workload_info_tells_which_handoff_holds_it(scene: Scene) -> None:
    assert scene.run("workload_info", pid=PID)["handoff"] is None
    open_handoff("source", Step.COMMITTED, pid=PID, start_time=5000)
    told = scene.run("workload_info", pid=PID)["handoff"]
    assert (told["name"], told["side"], told["step"], told["other_host"]) == ("redis-1", "source", "committed", "node8")


@pytest.mark.parametrize(
    "asked",
    [
        {"name": "redis", "pid": 7},
        {"pid_file": "/run/redis.pid"},
        {"unit": "own.service"},
    ],
)
def test_workload_info_tells_also_of_what_may_have_run(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    monkeypatch.setattr(scene, "criu", FakeRunner({("systemctl", "show"): Completed(0, "0\n")}))
    open_handoff("target", Step.RUN, pid_file="/run/redis.pid", unit="own")
    found = scene.run("workload_info", required=False, **asked)
    assert found["found"] is False
    assert found["handoff"]["step"] == "run"
    assert found["handoff"]["other_host"] == "node7"


def test_dump_and_restore_tell_the_difference(scene: Scene) -> None:
    running, gone = {"running": True, "images": None}, {"running": False, "images": str(scene.images)}
    assert scene.dump(check_mode=True)["diff"] == {"before": running, "after": gone}
    assert scene.dump()["diff"] == {"before": running, "after": gone}
    assert scene.dump()["diff"] == {"before": gone, "after": gone}
    assert scene.restore(check_mode=True)["diff"] == {"before": {"running": False}, "after": {"running": True}}
    assert scene.restore()["diff"] == {"before": {"running": False}, "after": {"running": True}}
    assert scene.restore()["diff"] == {"before": {"running": True}, "after": {"running": True}}


def test_a_copy_of_a_workload_leaves_it_running(scene: Scene) -> None:
    after = {"running": True, "images": str(scene.images)}
    assert scene.dump(leave_running=True)["diff"]["after"] == after


@pytest.mark.parametrize(
    ("changed", "leave_running", "check_mode", "removals"),
    [(True, False, False, 1), (False, False, False, 0), (True, True, False, 0), (True, False, True, 0)],
)
def test_an_engine_forgets_a_container_that_is_in_an_image_set_alone(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    changed: bool,
    leave_running: bool,
    check_mode: bool,
    removals: int,
) -> None:
    leaving = Mock(own_mountpoints=frozenset(), configuration=dict)
    manifest = Mock(generation=1, size=2, as_dict=dict)
    monkeypatch.setattr(dump, "Leaving", lambda *given: leaving)
    monkeypatch.setattr(dump, "dump_workload", lambda *given: Dumped(manifest, changed))
    scene.dump(check_mode=check_mode, engine="lxc", container="web", leave_running=leave_running)
    assert leaving.remove.call_count == removals


def test_dump_replaces_images_only_if_so_asked(scene: Scene) -> None:
    scene.images.mkdir()
    (scene.images / "pages-9.img").touch()
    with pytest.raises(Failed):
        scene.dump()
    assert scene.dump(replace=True)["changed"] is True


def test_dump_passes_its_options_on(scene: Scene) -> None:
    options = {
        "tcp_established": True,
        "shell_job": True,
        "file_locks": True,
        "ext_unix_sk": True,
        "manage_cgroups": "ignore",
        "link_remap": True,
        "ghost_limit": 7,
        "network_lock": "iptables",
        "timeout": 9,
        "extra_args": ["-v4"],
    }
    scene.dump(**options, leave_running=True)
    (command,) = scene.criu.ran("dump")
    argv = list(command.argv)
    assert argv[argv.index("mnt[/data]:/data") + 1 :] == [
        *["--leave-running", "--link-remap", "--ghost-limit", "7", "--network-lock", "iptables", "--timeout", "9"],
        *["--tcp-established", "--shell-job", "--file-locks", "--ext-unix-sk", "--manage-cgroups=ignore", "-v4"],
    ]


def test_dump_refuses_a_process_that_started_at_another_time(scene: Scene) -> None:
    with pytest.raises(Failed) as caught:
        scene.dump(start_time=4999)
    assert "does not run here as process 42" in caught.value.result["msg"]


@pytest.mark.usefixtures("_engines")
def test_dump_of_a_container_needs_its_engine(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Known, "is_present", lambda self: False)
    given = {"name": "web", "pid": PID, "start_time": 5000, "images": str(scene.images), "mount_map": []}
    assert "runc is not installed" in scene.fails("dump", engine="runc", container="web", **given)["msg"]
    assert not scene.images.exists()


def test_dump_locks_no_network_by_default_where_there_is_none(scene: Scene) -> None:
    assert scene.dump(check_mode=True)["manifest"]["options"]["network_lock"] == "skip"


def test_an_image_set_is_revived_once_unless_a_copy_is_asked_for(scene: Scene) -> None:
    assert scene.dump(at_least_generation=4)["generation"] == 5
    assert scene.restore()["generation"] == 5
    scene.proc.remove(PID)
    with pytest.raises(Failed) as caught:
        scene.restore()
    failed = caught.value.result
    assert "of generation 5 of redis, which is spent" in failed["msg"]
    assert (failed["generation"], failed["spent_generation"]) == (5, 5)
    assert scene.restore(allow_copy=True)["changed"] is True


def test_restore_believes_what_other_hosts_have_spent(scene: Scene) -> None:
    scene.dump(at_least_generation=4)
    with pytest.raises(Failed) as caught:
        scene.restore(spent_generation=5)
    assert "by the record of another host" in caught.value.result["msg"]
    assert scene.restore(spent_generation=4)["changed"] is True


def test_a_dump_that_leaves_the_workload_running_is_spent_at_once(scene: Scene) -> None:
    assert scene.dump(leave_running=True)["generation"] == 1
    scene.proc.remove(PID)
    with pytest.raises(Failed):
        scene.restore()
    assert scene.restore(allow_copy=True)["changed"] is True


def test_restore_passes_its_options_on(scene: Scene) -> None:
    scene.dump()
    scene.restore(tcp_close=True, manage_cgroups="soft", extra_args=["-v4"], shell_job=True)
    (command,) = scene.criu.ran("restore")
    assert list(command.argv)[-4:] == ["--tcp-close", "--shell-job", "--manage-cgroups=soft", "-v4"]


@pytest.mark.parametrize("wanted", [None, "cache"])
def test_restore_hands_the_workload_to_a_unit(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, wanted: str | None
) -> None:
    def revive(request: Any, manifest: Any, unit: str | None, *rest: Any) -> Restored:
        assert request.images == scene.images
        asked.append((manifest.workload.name, unit))
        return Restored(scene.start(), True, manifest, 0.25)

    asked: list[tuple[str, str | None]] = []
    unit = "cache.service" if wanted else "criu-redis.service"
    monkeypatch.setattr(reviver, "has_systemd", lambda: True)
    monkeypatch.setattr(reviver, "unit_problem", lambda unit, runner: None)
    monkeypatch.setattr(restore_module, "revive", revive)
    scene.dump()
    assert scene.restore(check_mode=True, unit=wanted)["unit"] == unit
    assert asked == []
    found = scene.restore(unit=wanted)
    assert (found["changed"], found["pid"], found["unit"], found["seconds"]) == (True, PID, unit, 0.25)
    assert asked == [("redis", unit)]
    assert scene.criu.ran("restore") == []


@pytest.mark.parametrize("check_mode", [False, True])
def test_restore_refuses_a_unit_that_cannot_be_made(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, check_mode: bool
) -> None:
    monkeypatch.setattr(reviver, "has_systemd", lambda: True)
    monkeypatch.setattr(reviver, "unit_problem", lambda unit, runner: f"The unit {unit} is active here.")
    scene.dump()
    with pytest.raises(Failed) as caught:
        scene.restore(check_mode, unit=None)
    assert "The unit criu-redis.service is active here" in caught.value.result["msg"]
    assert caught.value.result["unit"] == "criu-redis.service"
    scene.start()
    assert scene.restore(check_mode, unit=None, pid_file=pid_file_of(scene))["changed"] is False


def pid_file_of(scene: Scene) -> str:
    path = scene.folder / "redis.pid"
    path.write_text(f"{PID}\n")
    return str(path)


def test_check_mode_dumps_and_restores_nothing(scene: Scene) -> None:
    assert scene.dump(check_mode=True)["changed"] is True
    assert scene.proc.stat(PID) is not None
    assert not scene.images.exists()
    scene.dump()
    checked = scene.restore(check_mode=True)
    assert without_diff(checked) == {
        "changed": True,
        "workload": "redis",
        "generation": 1,
        "seconds": 0.0,
        "put_back": [],
    }
    assert scene.proc.stat(PID) is None


def test_a_dump_that_fails_tells_criu_s_errors_and_the_log(scene: Scene) -> None:
    scene.criu.dies_before = True
    scene.criu.log = "(00.1) Error (a.c:1): Timeout reached\n"
    with pytest.raises(Failed) as caught:
        scene.dump()
    failed = caught.value.result
    assert failed["msg"].startswith("node7: The dump of redis (pid 42) failed (exit status 1).")
    assert (failed["criu_errors"], failed["remedy"], failed["rc"]) == (["Timeout reached"], "Raise timeout.", 1)
    assert failed["log"] == str(scene.host / "log" / "images-dump.log")


def test_a_restore_with_other_mounts_tells_the_differences(scene: Scene) -> None:
    scene.dump()
    other = scene.folder / "other"
    other.mkdir()
    with pytest.raises(Failed) as caught:
        scene.restore(mount_map=[{"key": "/data", "path": str(other)}])
    assert caught.value.result["differences"] == [f"/data is not {other} of this host"]
