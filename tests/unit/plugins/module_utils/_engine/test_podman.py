# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._engine.base import Arrival, Bind, Container, Copy
from ansible_collections.fleet.criu.plugins.module_utils._engine.podman import Podman
from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError, WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._mounts.contents import Contents
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed
from ansible_collections.fleet.criu.tests.unit.fakes import FakeProc, FakeRunner

# A process that lives, so that its descriptors can be read: this one.
PID = os.getpid()
IDENTIFIER = "4f" * 32
IMAGE = "ab" * 32
STORED = {"id": IDENTIFIER, "name": "web", "secrets": "s3cret"}
STORED_TEXT = json.dumps(STORED)


class Bench:
    """A host with podman, which has the container web."""

    def __init__(self, folder: Path) -> None:
        self.graph = folder / "storage"
        self.bundle = self.graph / "overlay-containers" / IDENTIFIER / "userdata"
        self.volume, self.bound, self.memory = folder / "volumes" / "v1", folder / "bound", self.bundle / "shm"
        for path in (self.bundle, self.volume, self.bound):
            path.mkdir(parents=True)
        self.specification: dict[str, Any] = {
            "root": {"path": f"{self.graph}/overlay/x/merged"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev/shm", "type": "bind", "source": str(self.memory), "options": ["bind"]},
                {"destination": "/etc/hosts", "type": "bind", "source": "/run/x/hosts", "options": ["bind"]},
                {"destination": "/data", "type": "bind", "source": str(self.bound), "options": ["rbind"]},
                {"destination": "/var/lib/v", "type": "bind", "source": str(self.volume), "options": ["rbind"]},
            ],
            "linux": {"maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]},
        }
        self.row: dict[str, Any] = {
            "Id": IDENTIFIER,
            "Name": "web",
            "State": {"Status": "running", "Pid": PID},
            "OCIConfigPath": f"{self.bundle}/config.json",
            "OCIRuntime": "/usr/bin/crun",
            "Image": IMAGE,
            "ImageName": "docker.io/library/redis:7",
            "Pod": "",
            "Dependencies": [],
            "ExecIDs": [],
            "Config": {"Tty": False},
            "HostConfig": {"NetworkMode": "bridge", "AutoRemove": False},
            "Mounts": [
                {"Type": "bind", "Source": str(self.bound), "Destination": "/data", "Driver": "", "RW": False},
                {
                    "Type": "volume",
                    "Name": "v1",
                    "Source": str(self.volume),
                    "Destination": "/var/lib/v",
                    "Driver": "local",
                    "RW": True,
                },
                {"Type": "tmpfs", "Source": "tmpfs", "Destination": "/tmp", "Driver": "", "RW": True},
            ],
        }
        self.information = {
            "store": {"graphDriverName": "overlay", "graphRoot": str(self.graph)},
            "host": {"cgroupVersion": "v2", "cgroupManager": "systemd"},
        }
        self.write_specification()
        self.runner = FakeRunner(
            {
                ("podman", "--version"): Completed(0, "podman version 5.4.2\n"),
                ("podman", "info"): lambda _command: Completed(0, json.dumps(self.information)),
                ("podman", "container", "exists"): lambda command: Completed(int(command.argv[3] != "web")),
                ("podman", "container", "inspect"): lambda _command: Completed(0, json.dumps([self.row])),
                ("podman", "ps"): Completed(0, f"{IDENTIFIER}\n"),
                ("podman", "images"): Completed(0, f"sha256:{IMAGE}\nsha256:{'cd' * 32}\n"),
                ("podman", "volume", "create"): Completed(0, "v1\n"),
                ("podman", "volume", "inspect"): Completed(0, f"{self.volume}\n"),
                ("podman", "rm"): Completed(0),
            }
        )
        self.engine = Podman(self.runner, FakeProc(folder / "proc"))
        self.images = folder / "images"

    def write_specification(self) -> None:
        (self.bundle / "config.json").write_text(json.dumps(self.specification))

    def store(self, text: str | None = STORED_TEXT, identifier: str = IDENTIFIER) -> None:
        with closing(sqlite3.connect(self.graph / "db.sql", isolation_level=None)) as database:
            database.execute("CREATE TABLE ContainerConfig (ID TEXT, Name TEXT, JSON TEXT)")
            database.execute("INSERT INTO ContainerConfig VALUES (?, 'web', ?)", (identifier, text))

    def web(self) -> Container:
        return self.engine.find("web")

    def arrival(self, **changes: Any) -> Arrival:
        given: dict[str, Any] = {
            "workload": "redis",
            "name": "web",
            "configuration": {
                "engine": "podman",
                "identifier": IDENTIFIER,
                "config.dump": STORED,
                "spec.dump": self.specification,
                "descriptors.json": ["/dev/null", "pipe:[1]", "pipe:[2]"],
                "volumes": {"/var/lib/v": "v1"},
            },
            "sources": {"/data": "/mnt/data"},
            "images": self.images,
            "root": None,
        }
        return Arrival(**{**given, **changes})

    def asked(self, *words: str) -> list[list[str]]:
        """What podman was asked that begins so."""
        return [argv for argv in self.runner.argvs if argv[1 : len(words) + 1] == list(words)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if name in ("podman", "crun") else None)


# What it knows


def test_a_container_is_described_with_its_binds_and_volumes(bench: Bench) -> None:
    assert bench.web() == Container(
        "podman",
        "web",
        IDENTIFIER,
        "running",
        PID,
        bundle=str(bench.bundle),
        image="docker.io/library/redis:7",
        runtime="crun",
        binds=[
            Bind(str(bench.bound), "/data", is_read_only=True),
            Bind(str(bench.volume), "/var/lib/v", volume="v1"),
        ],
    )


def test_a_container_that_is_not_there_is_not_found(bench: Bench) -> None:
    with pytest.raises(WorkloadNotFound, match="podman knows no container db here") as caught:
        bench.engine.find("db")
    assert "rootless" in caught.value.remedy


def test_all_containers_are_asked_for_at_once(bench: Bench) -> None:
    assert [each.name for each in bench.engine.containers()] == ["web"]
    assert bench.asked("ps") == [["podman", "ps", "--all", "--quiet", "--no-trunc"]]
    assert bench.asked("container", "inspect") == [["podman", "container", "inspect", IDENTIFIER]]


def test_a_host_without_containers_has_none(bench: Bench) -> None:
    bench.runner.answers["podman", "ps"] = Completed(0, "\n")
    assert bench.engine.containers() == []
    assert bench.asked("container", "inspect") == [], "without a name it would fail"


def test_a_podman_that_fails_is_told_with_its_words(bench: Bench) -> None:
    bench.runner.answers["podman", "ps"] = Completed(125, "", "Error: database is locked\n")
    with pytest.raises(CommandFailed, match="database is locked"):
        bench.engine.containers()


@pytest.mark.usefixtures("_installed")
def test_facts_of_the_source_are_those_of_its_container(bench: Bench) -> None:
    common = {
        "engine": "podman",
        "version": "podman version 5.4.2",
        "storage_driver": "overlay",
        "cgroup_version": "v2",
        "cgroup_manager": "systemd",
    }
    assert bench.engine.facts(bench.web()) == {
        **common,
        "runtime": "crun",
        "image": "docker.io/library/redis:7",
        "image_id": IMAGE,
    }
    assert bench.engine.facts() == {
        **common,
        "names": ["web"],
        "image_ids": [f"sha256:{IMAGE}", f"sha256:{'cd' * 32}"],
        "runtimes": ["crun"],
    }


def test_a_host_without_podman_is_asked_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not bench.engine.is_present()
    assert bench.runner.argvs == []


def test_its_own_mounts_are_all_but_what_a_user_has_bound(bench: Bench) -> None:
    assert bench.engine.own_mountpoints(bench.web()) == {
        *("/", "/proc", "/dev/shm", "/etc/hosts", "/var/lib/v", "/proc/kcore", "/proc/sys"),
    }


@pytest.mark.parametrize(("runtime", "told"), [("crun", 6), ("/usr/bin/crun", 6), ("runc", 0), (None, 0)])
def test_criu_is_told_of_the_devices_in_a_user_namespace_if_the_runtime_does_not(
    bench: Bench, runtime: str | None, told: int
) -> None:
    specification = {**bench.specification, "linux": {"namespaces": [{"type": "user"}]}}
    lines = bench.engine.criu_lines({"config.dump": {"runtime": runtime}, "spec.dump": specification})
    assert len(lines) == told
    bench.specification = specification
    bench.write_specification()
    assert "/dev/null" in bench.engine.own_mountpoints(bench.web())


# What stands against it


def test_a_user_namespace_cannot_be_moved(bench: Bench) -> None:
    bench.specification = {**bench.specification, "linux": {"namespaces": [{"type": "user"}]}}
    bench.write_specification()
    (problem,) = bench.engine.problems(bench.web())
    assert "user namespace" in problem


def test_nothing_stands_against_a_container_that_runs_alone(bench: Bench) -> None:
    assert bench.engine.problems(bench.web()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row.update(Pod="p1"), "it is part of a pod"),
        (lambda row: row.update(Dependencies=["x"]), "it depends on other containers"),
        (lambda row: row["Config"].update(Tty=True), "--tty"),
        (lambda row: row["HostConfig"].update(AutoRemove=True), "(--rm)"),
        (lambda row: row.update(ExecIDs=["e1"]), "podman exec"),
        (lambda row: row["HostConfig"].update(NetworkMode="slirp4netns"), "its network is slirp4netns"),
        (lambda row: row["HostConfig"].update(NetworkMode="container:x"), "its network is container:x"),
        (lambda row: row["Mounts"][1].update(Driver="nfs"), "the volume v1 is one of the driver nfs"),
        (lambda row: row["Mounts"][0].update(Source="/dev/null"), "/data is bound from /dev/null, which is a socket"),
    ],
)
def test_each_thing_that_binds_it_to_its_host_is_told(
    bench: Bench, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    change(bench.row)
    (problem,) = bench.engine.problems(bench.web())
    assert said in problem


@pytest.mark.parametrize("network", ["none", "host", "bridge"])
def test_networks_that_podman_makes_again_are_no_problem(bench: Bench, network: str) -> None:
    bench.row["HostConfig"]["NetworkMode"] = network
    assert bench.engine.problems(bench.web()) == []


@pytest.mark.parametrize("state", ["paused", "exited", "created"])
def test_only_what_runs_can_be_moved(bench: Bench, state: str) -> None:
    bench.row["State"] = {"Status": state, "Pid": 0}
    (problem,) = bench.engine.problems(bench.web())
    assert problem.startswith(f"the container web is {state}, and only what runs can be moved")


# At the source


def test_the_target_learns_what_an_archive_would_have_told(bench: Bench) -> None:
    bench.store()
    found = bench.engine.configuration(bench.web())
    assert found == {
        "engine": "podman",
        "identifier": IDENTIFIER,
        "config.dump": STORED,
        "spec.dump": bench.specification,
        "descriptors.json": [os.readlink(f"/proc/{PID}/fd/{number}") for number in range(3)],
        "volumes": {"/var/lib/v": "v1"},
    }
    assert json.loads(json.dumps(found)) == found


def test_a_database_that_is_not_there_is_not_made(bench: Bench) -> None:
    with pytest.raises(CriuError, match=r"configuration of web cannot be read from podman's database .*/db\.sql") as e:
        bench.engine.configuration(bench.web())
    assert "databaseBackend" in e.value.remedy
    assert not (bench.graph / "db.sql").exists()


@pytest.mark.parametrize(
    "store",
    [
        lambda bench: bench.store(identifier="another"),
        lambda bench: bench.store("no JSON"),
        lambda bench: bench.store(None),
        lambda bench: (bench.graph / "db.sql").write_text("not a database" * 100),
        lambda bench: sqlite3.connect(bench.graph / "db.sql").close(),
    ],
    ids=["no row", "no JSON", "null", "no database", "no table"],
)
def test_a_database_of_another_kind_is_said_so(bench: Bench, store: Callable[[Bench], Any]) -> None:
    store(bench)
    with pytest.raises(CriuError, match="configuration of web cannot be read from podman's database"):
        bench.engine.configuration(bench.web())


def test_a_checkpoint_has_exactly_these_words_and_podman_finds_our_folder(bench: Bench) -> None:
    command = bench.engine.checkpoint(bench.web(), bench.images, Options())
    assert list(command.argv) == ["podman", "container", "checkpoint", "--keep", "web"]
    assert os.readlink(bench.bundle / "checkpoint") == str(bench.images)


def test_a_checkpoint_passes_on_what_podman_knows(bench: Bench) -> None:
    options = Options(tcp_established=True, file_locks=True, link_remap=True, network_lock="skip", timeout=9)
    command = bench.engine.checkpoint(bench.web(), bench.images, options, leave_running=True)
    assert list(command.argv)[3:] == ["--keep", "--tcp-established", "--file-locks", "--leave-running", "web"]


def test_the_link_of_an_earlier_checkpoint_is_replaced_and_can_be_taken_back(bench: Bench) -> None:
    bench.engine.checkpoint(bench.web(), Path("/elsewhere"), Options())
    bench.engine.checkpoint(bench.web(), bench.images, Options())
    assert os.readlink(bench.bundle / "checkpoint") == str(bench.images)
    bench.engine.forget_checkpoint(bench.web(), Path("/elsewhere"))
    assert (bench.bundle / "checkpoint").is_symlink(), "it is that of a later checkpoint"
    bench.engine.forget_checkpoint(bench.web(), bench.images)
    assert not (bench.bundle / "checkpoint").is_symlink()
    bench.engine.forget_checkpoint(bench.web(), bench.images)


def test_a_real_folder_of_podman_s_own_is_not_taken_away(bench: Bench) -> None:
    (bench.bundle / "checkpoint").mkdir()
    bench.engine.forget_checkpoint(bench.web(), bench.images)
    assert (bench.bundle / "checkpoint").is_dir()


@pytest.mark.parametrize("name", ["shell_job", "ext_unix_sk", "tcp_close", "external_auto", "mntns_compat_mode"])
def test_an_option_that_podman_cannot_pass_on_is_refused_on_both_hosts(bench: Bench, name: str) -> None:
    options = Options(**{name: True})
    with pytest.raises(CriuError, match=f"podman has no way to pass on these options to CRIU: {name}"):
        bench.engine.checkpoint(bench.web(), bench.images, options)
    assert not (bench.bundle / "checkpoint").is_symlink()
    with pytest.raises(CriuError, match=f"podman has no way to pass on these options to CRIU: {name}"):
        bench.engine.restore(bench.arrival(options=options))
    assert bench.asked("volume") == []


def test_criu_s_log_is_in_the_bundle(bench: Bench) -> None:
    assert bench.engine.log_folder(bench.web(), bench.images) == bench.bundle


def test_the_root_and_volumes_are_copied_while_it_runs_and_shared_memory_when_it_does_not(bench: Bench) -> None:
    assert bench.engine.copies(bench.web()) == [
        Copy("podman-root", f"{bench.graph}/overlay/x/merged"),
        Copy("podman-shm", str(bench.memory), is_late=True),
        Copy("podman-volume-v1", str(bench.volume)),
    ]


@pytest.mark.parametrize("source", ["tmpfs", "shm", None])
def test_shared_memory_that_is_no_folder_of_the_host_is_in_the_images(bench: Bench, source: str | None) -> None:
    mount = bench.specification["mounts"][1]
    mount.pop("source") if source is None else mount.update(source=source)
    bench.write_specification()
    assert [copy.name for copy in bench.engine.copies(bench.web())] == ["podman-root", "podman-volume-v1"]


# At the target


def test_a_restore_has_exactly_these_words(bench: Bench) -> None:
    command = bench.engine.restore(bench.arrival())
    archive = str(bench.images / "podman.tar")
    argv = ["podman", "container", "restore", "--import", archive, "--ignore-volumes", "--ignore-rootfs"]
    assert list(command.argv) == argv
    options = Options(tcp_established=True, file_locks=True)
    assert list(bench.engine.restore(bench.arrival(options=options)).argv) == [
        *argv,
        *["--tcp-established", "--file-locks"],
    ]


def test_the_archive_has_the_configuration_and_a_link_to_the_images(bench: Bench) -> None:
    bench.engine.restore(bench.arrival())
    path = bench.images / "podman.tar"
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["config.dump", "spec.dump", "checkpoint"]
        link = archive.getmember("checkpoint")
        assert (link.type, link.linkname) == (tarfile.SYMTYPE, str(bench.images))
        texts = {}
        for name in ("config.dump", "spec.dump"):
            assert archive.getmember(name).mode == 0o600
            stream = archive.extractfile(name)
            assert stream is not None
            texts[name] = json.loads(stream.read())
    assert texts["config.dump"] == STORED
    assert {mount["destination"]: mount["source"] for mount in texts["spec.dump"]["mounts"]} == {
        "/proc": "proc",
        "/dev/shm": str(bench.memory),
        "/etc/hosts": "/run/x/hosts",
        "/data": "/mnt/data",
        "/var/lib/v": str(bench.volume),
    }
    assert texts["spec.dump"]["root"] == bench.specification["root"], "podman makes the root itself"


def test_what_is_written_is_for_root_alone(bench: Bench) -> None:
    before = os.umask(0)
    try:
        bench.engine.restore(bench.arrival())
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in bench.images.iterdir()}
    assert modes["podman.tar"] == modes["inventory.img"] == 0o600
    assert bench.images.stat().st_mode & 0o777 == 0o700
    assert json.loads((bench.images / "descriptors.json").read_text()) == ["/dev/null", "pipe:[1]", "pipe:[2]"]
    assert (bench.images / "inventory.img").read_bytes() == b"", "CRIU's own takes its place"
    assert Podman.placeholders == ("inventory.img",)


def test_a_link_in_the_place_of_the_archive_is_not_followed(bench: Bench, tmp_path: Path) -> None:
    bench.images.mkdir()
    (bench.images / "podman.tar").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        bench.engine.restore(bench.arrival())
    assert not (tmp_path / "victim").exists()


def test_another_path_of_the_volume_here_takes_its_place(bench: Bench, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    bench.runner.answers["podman", "volume", "inspect"] = Completed(0, f"{other}\n")
    bench.engine.restore(bench.arrival())
    assert bench.asked("volume") == [
        ["podman", "volume", "create", "--ignore", "v1"],
        ["podman", "volume", "inspect", "--format", "{{.Mountpoint}}", "v1"],
    ]
    with tarfile.open(bench.images / "podman.tar") as archive:
        stream = archive.extractfile("spec.dump")
        assert stream is not None
        mounts = json.loads(stream.read())["mounts"]
    assert mounts[-1] == {**bench.specification["mounts"][-1], "source": str(other)}
    assert Contents().belongs_to(str(other), "redis")


def test_a_volume_with_foreign_contents_is_refused(bench: Bench) -> None:
    (bench.volume / "file").touch()
    with pytest.raises(CriuError, match=r"The volume v1 has contents here .* that did not come with redis") as caught:
        bench.engine.restore(bench.arrival())
    assert "podman volume rm v1" in caught.value.remedy
    assert not Contents().belongs_to(str(bench.volume), "redis")
    assert not bench.images.exists()


def test_a_volume_that_came_with_the_workload_before_is_taken_again(bench: Bench) -> None:
    (bench.volume / "file").touch()
    Contents().claim([str(bench.volume)], "redis")
    bench.engine.restore(bench.arrival())
    assert (bench.images / "podman.tar").exists()


def test_a_bind_of_the_user_without_a_source_here_is_bound_as_it_was(bench: Bench) -> None:
    # The plan has seen to it: what is no mount of the plan's is podman's own.
    bench.engine.restore(bench.arrival(sources={}))
    with tarfile.open(bench.images / "podman.tar") as archive:
        stream = archive.extractfile("spec.dump")
        assert stream is not None
        assert json.loads(stream.read())["mounts"] == bench.specification["mounts"]


def test_where_podman_has_what_it_keeps_is_read_from_what_it_has_made(bench: Bench) -> None:
    bench.engine.restore(bench.arrival())
    asked = len(bench.runner.commands)
    assert bench.engine.folders("web") == {
        "podman-root": f"{bench.graph}/overlay/x/merged",
        "podman-shm": str(bench.memory),
        "podman-volume-v1": str(bench.volume),
    }
    assert len(bench.runner.commands) == asked, "podman gives no answer about a container that it restores"


def test_both_ends_call_what_is_copied_by_the_same_names(bench: Bench) -> None:
    bench.engine.restore(bench.arrival())
    assert {copy.name for copy in bench.engine.copies(bench.web())} == set(bench.engine.folders("web"))


def test_the_runtime_gets_our_path_by_way_of_conmon(bench: Bench, tmp_path: Path) -> None:
    environment = bench.engine.environment({"PATH": '/a b:/"c"'}, tmp_path)
    override = tmp_path / "containers.conf"
    assert environment == {"PATH": '/a b:/"c"', "CONTAINERS_CONF_OVERRIDE": str(override)}
    assert override.read_text() == '[engine]\nconmon_env_vars = ["PATH=/a b:/\\"c\\""]\n'


def test_a_container_is_removed_also_if_it_runs(bench: Bench) -> None:
    def remove(command: Command) -> Completed:
        assert list(command.argv)[:6] == ["podman", "rm", "--force", "--ignore", "--time", "0"]
        assert "--volumes" not in command.argv
        return Completed(0)

    bench.runner.answers["podman", "rm"] = remove
    bench.engine.remove("web")
    assert len(bench.asked("rm")) == 1


def test_a_container_that_podman_cannot_remove_is_told(bench: Bench) -> None:
    bench.runner.answers["podman", "rm"] = Completed(125, "", "Error: it is busy\n")
    with pytest.raises(CommandFailed, match="it is busy"):
        bench.engine.remove("web")


def test_a_container_that_was_never_started_has_no_bundle_and_hides_no_other(bench: Bench) -> None:
    bench.row["State"] = {"Status": "created", "Pid": 0}
    del bench.row["OCIConfigPath"], bench.row["OCIRuntime"]
    assert [(each.name, each.state) for each in bench.engine.containers()] == [("web", "created")]


def test_the_beginning_of_another_container_s_identifier_is_not_its_name(bench: Bench) -> None:
    # What podman does with "4f" if there is a container with the ID 4f4f... (LookupContainer).
    bench.runner.answers["podman", "container", "exists", "4f"] = Completed(0)
    with pytest.raises(WorkloadNotFound):
        bench.engine.find("4f")
    bench.engine.remove("4f")
    assert [argv for argv in bench.asked("rm") if argv[-1] == "4f"] == []


def test_podman_cannot_pass_on_how_control_groups_are_restored(bench: Bench) -> None:
    with pytest.raises(CriuError, match="manage_cgroups"):
        bench.engine.checkpoint(bench.web(), bench.images, Options(manage_cgroups="strict"))


def test_a_real_checkpoint_folder_of_podman_s_own_is_said_so(bench: Bench) -> None:
    (bench.bundle / "checkpoint").mkdir()
    with pytest.raises(CriuError):
        bench.engine.checkpoint(bench.web(), bench.images, Options())
