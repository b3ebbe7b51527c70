# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""runc and crun: what they know of their containers, and the commands that they get."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._engine import oci
from ansible_collections.fleet.criu.plugins.module_utils._engine.base import Arrival, Bind, Container
from ansible_collections.fleet.criu.plugins.module_utils._engine.crun import Crun
from ansible_collections.fleet.criu.plugins.module_utils._engine.oci import (
    OciRuntime,
    control_group,
    descriptors_in,
    remapped,
)
from ansible_collections.fleet.criu.plugins.module_utils._engine.runc import Runc
from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError, WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed
from ansible_collections.fleet.criu.tests.unit.fakes import FakeProc, FakeRunner

PID = 42
DESCRIPTORS = ["/dev/null", "pipe:[11]", "pipe:[12]"]
CONFIGURATION: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {"terminal": False, "args": ["redis-server"], "env": ["PASSWORD=secret"]},
    "root": {"path": "rootfs", "readonly": True},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rw"]},
        {"destination": "/conf", "type": "none", "source": "conf", "options": ["rbind", "ro"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
    ],
    "linux": {
        "cgroupsPath": "/workloads/web",
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "namespaces": [{"type": "mount"}],
    },
}


class Bench:
    """A host with one engine, `runtime`, which has the container web."""

    def __init__(self, kind: type[OciRuntime], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name = kind.name
        self.root, self.other_root = folder / "state", folder / "second"
        self.bundle = folder / "bundle"
        self.bundle.mkdir()
        self.root.mkdir()
        monkeypatch.setattr(kind, "roots", (str(self.root), str(self.other_root)))
        monkeypatch.setattr(oci, "BUNDLES", folder / "bundles")
        self.runner = FakeRunner()
        self.proc = FakeProc(folder / "proc")
        self.proc.add(PID, cgroup="0::/system.slice/web.scope\n")
        self.engine = kind(self.runner, self.proc)
        # What it is told of control groups unless a user says something else.
        self.cgroups = ["--manage-cgroups-mode", "ignore"] if kind is Crun else []
        self.images, self.bundles = folder / "images", folder / "bundles"
        self.configure(CONFIGURATION)
        self.remember()
        self.list([self.row()])

    def row(self, **changes: Any) -> dict[str, Any]:
        return {"id": "web", "pid": PID, "status": "running", "bundle": str(self.bundle), **changes}

    def list(self, rows: Any, root: Path | None = None) -> None:
        answer = Completed(0, json.dumps(rows))
        self.runner.answers[self.name, "--root", str(root or self.root), "list", "--format", "json"] = answer

    def configure(self, configuration: dict[str, Any]) -> None:
        (self.bundle / "config.json").write_text(json.dumps(configuration))

    def remember(self, is_systemd: bool = False, descriptors: Any = ()) -> None:
        folder = self.root / "web"
        folder.mkdir(exist_ok=True)
        descriptors = DESCRIPTORS if descriptors == () else descriptors
        # What the two keep: runc a JSON object of its own, crun JSON in a text of its JSON.
        state = {"external_descriptors": descriptors, "config": {"cgroups": {"Systemd": is_systemd}}}
        (folder / "state.json").write_text(json.dumps(state))
        status = {"external_descriptors": json.dumps(descriptors), "systemd-cgroup": is_systemd}
        (folder / "status").write_text(json.dumps(status))

    def web(self) -> Container:
        return self.engine.find("web")

    def arrival(self, **changes: Any) -> Arrival:
        given: dict[str, Any] = {
            "workload": "redis",
            "name": "web",
            "configuration": {
                "engine": self.name,
                "config.json": CONFIGURATION,
                "descriptors.json": DESCRIPTORS,
                "systemd_cgroup": False,
            },
            "sources": {"/data": "/mnt/data", "/conf": "/etc/conf"},
            "images": self.images,
            "root": "/srv/box",
        }
        return Arrival(**{**given, **changes})


@pytest.fixture(params=[Runc, Crun], ids=["runc", "crun"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(request.param, tmp_path, monkeypatch)


def changed(**linux: Any) -> dict[str, Any]:
    configuration = copy.deepcopy(CONFIGURATION)
    configuration["linux"].update(linux)
    return configuration


# What it knows


def test_a_container_is_described_with_what_it_binds_from_its_host(bench: Bench) -> None:
    assert bench.web() == Container(
        bench.name,
        "web",
        "web",
        "running",
        PID,
        bundle=str(bench.bundle),
        binds=[Bind("/srv/data", "/data"), Bind(str(bench.bundle / "conf"), "/conf", is_read_only=True)],
        states=str(bench.root),
    )


def test_a_name_must_be_exact(bench: Bench) -> None:
    for name in ("we", "web2", ""):
        with pytest.raises(WorkloadNotFound, match=f"{bench.name} knows no container {name} here"):
            bench.engine.find(name)


@pytest.mark.parametrize("rows", [None, []])
def test_a_host_without_containers_has_none(bench: Bench, rows: Any) -> None:
    bench.list(rows)
    assert bench.engine.containers() == []


def test_containers_of_each_of_its_roots_are_known_with_their_root(bench: Bench) -> None:
    bench.other_root.mkdir()
    bench.list([bench.row(id="db", pid=0, status="stopped")], bench.other_root)
    assert [(each.name, each.states, each.state, each.pid) for each in bench.engine.containers()] == [
        ("web", str(bench.root), "running", PID),
        ("db", str(bench.other_root), "stopped", 0),
    ]


def test_a_root_that_is_not_there_is_not_asked_for(bench: Bench) -> None:
    bench.engine.containers()
    assert bench.runner.argvs == [[bench.name, "--root", str(bench.root), "list", "--format", "json"]]


def test_the_default_roots_are_those_of_the_engines() -> None:
    assert Runc.roots == ("/run/runc",)
    assert Crun.roots == ("/run/crun", "/run/user/0/crun")


@pytest.mark.parametrize("completed", [Completed(0, "no JSON"), Completed(1, "", "it is broken")])
def test_an_engine_that_does_not_answer_is_said_so(bench: Bench, completed: Completed) -> None:
    bench.runner.answers[bench.name, "--root", str(bench.root), "list", "--format", "json"] = completed
    with pytest.raises(CommandFailed, match=f"{bench.name} --root .*(no JSON|it is broken)"):
        bench.engine.containers()


@pytest.mark.parametrize("text", [None, "", "no JSON", "[]"])
def test_a_container_whose_bundle_cannot_be_read_is_listed_all_the_same(bench: Bench, text: str | None) -> None:
    path = bench.bundle / "config.json"
    path.unlink() if text is None else path.write_text(text)
    found = bench.web()
    assert (found.name, found.binds) == ("web", [])
    with pytest.raises(CriuError, match=r"has no config\.json that can be read"):
        bench.engine.configuration(found)


@pytest.mark.parametrize(
    ("annotations", "owner"),
    [
        ({"io.container.manager": "libpod"}, "podman"),
        ({"io.container.manager": "cri-o"}, "cri-o"),
        ({"io.kubernetes.cri.container-type": "container"}, "containerd"),
        ({"org.example": "x"}, ""),
    ],
)
def test_what_belongs_to_a_higher_engine_is_known_by_its_annotations(
    bench: Bench, annotations: dict[str, str], owner: str
) -> None:
    bench.configure({**CONFIGURATION, "annotations": annotations})
    assert bench.web().owner == owner
    bench.configure(CONFIGURATION)
    bench.list([bench.row(annotations=annotations)])
    assert bench.web().owner == owner


def test_its_own_mounts_are_all_that_are_no_binds_and_what_it_hides(bench: Bench) -> None:
    assert bench.engine.own_mountpoints(bench.web()) == {"/proc", "/tmp", "/proc/kcore", "/proc/sys"}


DEVICES = [f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")]
IN_USER_NAMESPACE = {
    "namespaces": [{"type": "pid"}, {"type": "user"}],
    "devices": [{"path": "/dev/fuse", "type": "c"}, {"path": "/dev/a b", "type": "c"}],
}


def test_in_a_user_namespace_its_own_are_the_devices_too(bench: Bench) -> None:
    before = bench.engine.own_mountpoints(bench.web())
    bench.configure(changed(**IN_USER_NAMESPACE))
    assert bench.engine.own_mountpoints(bench.web()) == {*before, *DEVICES, "/dev/fuse", "/dev/a b"}
    bench.configure(changed(**{**IN_USER_NAMESPACE, "namespaces": [{"type": "pid"}]}))
    assert bench.engine.own_mountpoints(bench.web()) == before


def test_criu_is_told_of_devices_by_us_where_the_engine_does_not(bench: Bench) -> None:
    lines = bench.engine.criu_lines({"config.json": changed(**IN_USER_NAMESPACE)})
    told = [f"external mnt[{path}]:{path}" for path in [*DEVICES, "/dev/fuse"]]
    assert lines == (told if isinstance(bench.engine, Crun) else [])
    assert bench.engine.criu_lines({"config.json": CONFIGURATION}) == []


def test_a_bundle_without_mounts_has_none_of_its_own(bench: Bench) -> None:
    bench.configure({"process": {}, "mounts": None, "linux": None})
    assert bench.engine.own_mountpoints(bench.web()) == set()


def test_facts_tell_version_and_names(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.runner.answers[bench.name, "--version"] = Completed(0, f"{bench.name} version 1.2.5\ncommit: x\n")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    common = {"engine": bench.name, "version": f"{bench.name} version 1.2.5"}
    assert bench.engine.facts() == {**common, "names": ["web"]}
    assert bench.engine.facts(bench.web()) == common


# What stands against it


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "file").touch()
    return folder


def bound_from(source: Path) -> dict[str, Any]:
    mounts = [{"destination": "/data", "type": "bind", "source": str(source)}]
    return {**CONFIGURATION, "mounts": mounts}


@pytest.mark.parametrize("name", ["", "file", "missing"])
def test_folders_and_files_may_be_bound(bench: Bench, sources: Path, name: str) -> None:
    bench.configure(bound_from(sources / name))
    assert bench.engine.problems(bench.web()) == []


def test_what_has_another_end_cannot_be_moved(bench: Bench, sources: Path) -> None:
    bench.configure(bound_from(sources / "pipe"))
    (problem,) = bench.engine.problems(bench.web())
    assert problem.startswith(f"/data is bound from {sources}/pipe, which is a socket, a pipe or a device")


def test_a_terminal_cannot_be_moved(bench: Bench) -> None:
    bench.configure({**CONFIGURATION, "process": {"terminal": True}})
    (problem,) = bench.engine.problems(bench.web())
    assert "the container has a terminal (process.terminal)" in problem


@pytest.mark.parametrize("state", ["paused", "stopped", "created"])
def test_only_what_runs_can_be_moved(bench: Bench, state: str) -> None:
    (bench.bundle / "config.json").unlink()
    bench.list([bench.row(status=state)])
    assert bench.engine.problems(bench.web()) == [
        f"the container web is {state}, and only what runs can be moved. Start it"
    ]


def test_what_another_engine_owns_is_to_be_moved_by_that(bench: Bench) -> None:
    bench.list([bench.row(annotations={"io.container.manager": "libpod"})])
    (problem,) = bench.engine.problems(bench.web())
    assert "belongs to podman, which would lose track of it" in problem
    assert "engine: podman" in problem


# At the source


def test_the_target_learns_the_whole_configuration(bench: Bench) -> None:
    configuration = bench.engine.configuration(bench.web())
    assert configuration == {
        "engine": bench.name,
        "config.json": CONFIGURATION,
        "descriptors.json": DESCRIPTORS,
        "systemd_cgroup": False,
    }
    assert json.loads(json.dumps(configuration)) == configuration


def test_the_target_learns_that_systemd_has_made_the_control_group(bench: Bench) -> None:
    bench.remember(is_systemd=True)
    assert bench.engine.configuration(bench.web())["systemd_cgroup"] is True


@pytest.mark.parametrize("configuration", [changed(cgroupsPath=""), {**CONFIGURATION, "linux": {}}])
def test_a_control_group_that_nobody_has_named_is_that_of_the_process(
    bench: Bench, configuration: dict[str, Any]
) -> None:
    bench.configure(configuration)
    found = bench.engine.configuration(bench.web())
    assert found["config.json"]["linux"]["cgroupsPath"] == "/system.slice/web.scope"
    assert json.loads((bench.bundle / "config.json").read_text()) == configuration, "the bundle is the engine's"


@pytest.mark.parametrize(
    ("control_groups", "path"),
    [
        ({"": "/a/b"}, "/a/b"),
        ({"": "/"}, "/"),
        ({}, "/"),
        ({"memory": "/", "cpu,cpuacct": "/m", "name=systemd": "/m"}, "/m"),
        ({"": "/v2", "memory": "/v1"}, "/v2"),
        ({"": "/", "memory": "/v1"}, "/v1"),
    ],
)
def test_the_control_group_is_the_first_that_is_not_the_root(control_groups: dict[str, str], path: str) -> None:
    assert control_group(control_groups) == path


@pytest.mark.parametrize("text", ["", "no JSON", "{}", "null", "[1]"])
def test_a_note_of_the_streams_that_cannot_be_read_is_said_so(text: str) -> None:
    with pytest.raises(CriuError, match="standard streams cannot be read"):
        descriptors_in(text)
    assert descriptors_in('["/dev/null"]') == ["/dev/null"]


def test_a_container_without_noted_streams_is_refused(bench: Bench) -> None:
    bench.remember(descriptors=None)
    with pytest.raises(CriuError, match="standard streams cannot be read"):
        bench.engine.configuration(bench.web())


def test_a_checkpoint_has_exactly_these_words(bench: Bench) -> None:
    command = bench.engine.checkpoint(bench.web(), bench.images, Options())
    assert list(command.argv) == [
        *[bench.name, "--root", str(bench.root), "checkpoint"],
        *["--image-path", str(bench.images), "--work-path", str(bench.images), *bench.cgroups, "web"],
    ]
    assert not bench.images.exists()


def test_a_checkpoint_passes_on_what_the_engine_knows(bench: Bench) -> None:
    options = Options(
        tcp_established=True, file_locks=True, shell_job=True, ext_unix_sk=True, manage_cgroups="soft", link_remap=True
    )
    command = bench.engine.checkpoint(bench.web(), bench.images, options, leave_running=True)
    assert list(command.argv)[8:] == [
        "--leave-running",
        *["--tcp-established", "--file-locks", "--shell-job", "--ext-unix-sk", "--manage-cgroups-mode", "soft", "web"],
    ]


def test_each_option_has_its_own_flag(bench: Bench) -> None:
    for name in ("tcp_established", "file_locks", "shell_job", "ext_unix_sk"):
        command = bench.engine.checkpoint(bench.web(), bench.images, Options(**{name: True}))
        assert list(command.argv)[8:] == [f"--{name.replace('_', '-')}", *bench.cgroups, "web"]


REFUSED = {
    "tcp_close": True,
    "external_auto": True,
    "external_shared": True,
    "external_masters": True,
    "skip_mnt": ("/x",),
    "enable_fs": ("x",),
    "mntns_compat_mode": True,
    "extra_args": ("--x",),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_option_that_cannot_be_passed_on_is_refused_on_both_hosts(bench: Bench, name: str) -> None:
    options = Options(**{name: REFUSED[name]})
    with pytest.raises(CriuError, match=f"no way to pass on these options to CRIU: {name}") as caught:
        bench.engine.checkpoint(bench.web(), bench.images, options)
    assert caught.value.facts == {"options": [name]}
    with pytest.raises(CriuError, match=f"no way to pass on these options to CRIU: {name}"):
        bench.engine.restore(bench.arrival(options=options))
    assert not bench.bundles.exists()


def test_criu_s_log_is_beside_the_images_and_nothing_else_is_to_be_copied(bench: Bench) -> None:
    assert bench.engine.log_folder(bench.web(), bench.images) == bench.images
    assert bench.engine.copies(bench.web()) == []
    assert bench.engine.folders("web") == {}


# At the target


def test_a_restore_has_exactly_these_words(bench: Bench) -> None:
    command = bench.engine.restore(bench.arrival())
    bundle = bench.bundles / f"{bench.name}-web"
    assert list(command.argv) == [
        *[bench.name, "--root", str(bench.root), "restore", "--detach", "--bundle", str(bundle)],
        *["--image-path", str(bench.images), "--work-path", str(bench.images), *bench.cgroups, "web"],
    ]


def test_a_restore_makes_the_control_group_as_it_was_made_and_passes_on_the_options(bench: Bench) -> None:
    configuration = {**bench.arrival().configuration, "systemd_cgroup": True}
    options = Options(tcp_established=True, file_locks=True, shell_job=True, ext_unix_sk=True, manage_cgroups="full")
    command = bench.engine.restore(bench.arrival(configuration=configuration, options=options))
    argv = list(command.argv)
    assert argv[3:5] == ["--systemd-cgroup", "restore"]
    assert argv[-7:] == [
        *["--tcp-established", "--file-locks", "--shell-job", "--ext-unix-sk", "--manage-cgroups-mode", "full", "web"],
    ]


def test_the_engine_gets_a_copy_with_other_sources_and_another_root(bench: Bench) -> None:
    bench.engine.restore(bench.arrival())
    path = bench.bundles / f"{bench.name}-web" / "config.json"
    configuration = json.loads(path.read_text())
    assert configuration["root"] == {"path": "/srv/box", "readonly": True}
    assert [(mount["destination"], mount["source"]) for mount in configuration["mounts"]] == [
        ("/proc", "proc"),
        ("/data", "/mnt/data"),
        ("/conf", "/etc/conf"),
        ("/tmp", "tmpfs"),
    ]
    assert (configuration["process"], configuration["linux"]) == (CONFIGURATION["process"], CONFIGURATION["linux"])
    assert json.loads((bench.images / "descriptors.json").read_text()) == DESCRIPTORS
    assert [each.stat().st_mode & 0o077 for each in (path, path.parent, bench.images)] == [0, 0, 0], "it holds secrets"


def test_a_restore_in_a_bundle_that_is_there_already_writes_it_anew(bench: Bench) -> None:
    bench.engine.restore(bench.arrival(root="/srv/before"))
    bench.engine.restore(bench.arrival())
    text = (bench.bundles / f"{bench.name}-web" / "config.json").read_text()
    assert json.loads(text)["root"]["path"] == "/srv/box"


@pytest.mark.parametrize("name", ["", "..", ".", "../x", "a/b", "a b", "x" * 1025, "x\n"])
def test_a_name_that_is_none_makes_no_folder(bench: Bench, name: str) -> None:
    with pytest.raises(CriuError, match="cannot be the name of a container"):
        bench.engine.restore(bench.arrival(name=name))
    assert not bench.bundles.exists()


def test_a_bind_without_a_source_is_refused_before_anything_is_written(bench: Bench) -> None:
    with pytest.raises(CriuError, match="no source on this host for what is bound at /conf"):
        bench.engine.restore(bench.arrival(sources={"/data": "/mnt/data"}))
    assert not bench.bundles.exists()
    assert not bench.images.exists()


def test_only_what_is_there_is_removed_and_from_where_it_is(bench: Bench) -> None:
    bench.other_root.mkdir()
    bench.runner.answers[(bench.name,)] = Completed(0)
    bench.engine.remove("web")
    assert bench.runner.argvs == [[bench.name, "--root", str(bench.root), "delete", "--force", "web"]]
    bench.runner.commands.clear()
    bench.engine.remove("db")
    assert bench.runner.argvs == []


# The copy of a configuration


def test_what_is_remapped_is_a_copy_and_keeps_every_destination() -> None:
    before = copy.deepcopy(CONFIGURATION)
    made = remapped(CONFIGURATION, {"/data": "/a", "/conf": "/b", "/proc": "/never"}, "/srv/box")
    assert before == CONFIGURATION
    made["linux"]["maskedPaths"].append("/x")
    made["process"]["args"].append("--x")
    assert before == CONFIGURATION, "not even in part is it the same"
    assert [mount["destination"] for mount in made["mounts"]] == [mount["destination"] for mount in before["mounts"]]
    assert [mount["source"] for mount in made["mounts"]] == ["proc", "/a", "/b", "tmpfs"]
    assert [mount.get("options") for mount in made["mounts"]] == [mount.get("options") for mount in before["mounts"]]


def test_every_bind_without_a_source_is_named() -> None:
    with pytest.raises(CriuError, match="no source on this host for what is bound at /data, /conf") as caught:
        remapped(CONFIGURATION, {}, None)
    assert caught.value.facts == {"mountpoints": ["/data", "/conf"]}
    assert "mount_map" in caught.value.remedy


def test_the_root_is_replaced_only_if_there_is_another() -> None:
    sources = {"/data": "/a", "/conf": "/b"}
    assert remapped(CONFIGURATION, sources, None)["root"] == {"path": "rootfs", "readonly": True}
    assert remapped(CONFIGURATION, sources, "/box")["root"] == {"path": "/box", "readonly": True}
    assert remapped({}, sources, "/box") == {"root": {"path": "/box"}}


@pytest.mark.parametrize("kind", [Runc, Crun])
def test_systemd_gets_no_path_for_its_control_group(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # With --systemd-cgroup it must be SLICE:PREFIX:NAME, or empty for the default by the container's name.
    bench = Bench(kind, tmp_path, monkeypatch)
    bench.configure(changed(cgroupsPath=""))
    bench.remember(is_systemd=True)
    path = bench.engine.configuration(bench.web())["config.json"]["linux"].get("cgroupsPath", "")
    assert path == "" or path.count(":") == 2


@pytest.mark.parametrize("kind", [Runc, Crun])
def test_a_state_that_is_gone_is_an_error_of_ours(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(kind, tmp_path, monkeypatch)
    for name in ("state.json", "status"):
        (bench.root / "web" / name).unlink()
    with pytest.raises(CriuError):
        bench.engine.configuration(bench.web())
