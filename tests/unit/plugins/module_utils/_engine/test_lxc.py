# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._engine import lxc
from ansible_collections.fleet.criu.plugins.module_utils._engine.base import Arrival, Bind, Container
from ansible_collections.fleet.criu.plugins.module_utils._engine.lxc import Lxc
from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError, WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed
from ansible_collections.fleet.criu.tests.unit.fakes import FakeProc, FakeRunner

PID = 42
LISTING = ("lxc-ls", "--fancy", "--fancy-format", "NAME,STATE,PID")

MOUNTS = """\
123 47 254:0 /srv/roots/web / rw,relatime shared:75 master:1 - ext4 /dev/vda rw
124 123 0:39 / /dev rw,relatime - tmpfs none rw
125 123 0:40 / /proc rw,relatime - proc proc rw
126 125 0:39 /.lxc-boot-id /proc/sys/kernel/random/boot_id ro - tmpfs none rw
127 123 254:0 /srv/data /data rw,relatime - ext4 /dev/vda rw
128 124 254:0 /srv/shm /dev/shm rw,relatime - ext4 /dev/vda rw
129 123 0:42 / /cache rw - tmpfs tmpfs rw
"""

LINES = [
    "lxc.uts.name = web",
    "lxc.rootfs.path = dir:/srv/roots/web",
    "lxc.net.0.type = empty",
    "lxc.tty.max = 0",
    "lxc.console.path = none",
    "lxc.mount.entry = /srv/data data none bind,create=dir 0 0",
    "lxc.mount.entry = /srv/shm dev/shm none bind,ro,create=dir 0 0",
    "lxc.mount.entry = tmpfs cache tmpfs nosuid 0 0",
]


class Bench:
    """A host with LXC, which has the container web."""

    def __init__(self, folder: Path) -> None:
        self.containers = folder / "lxc"
        self.folder = self.containers / "web"
        self.folder.mkdir(parents=True)
        self.runner = FakeRunner(
            {
                ("lxc-config", "lxc.lxcpath"): Completed(0, f"{self.containers}\n"),
                ("lxc-checkpoint", "--version"): Completed(0, "6.0.4\n"),
                ("lxc-stop",): Completed(0),
                ("lxc-wait",): Completed(0),
            }
        )
        self.proc = FakeProc(folder / "proc")
        self.proc.add(PID, mounts=MOUNTS)
        self.engine = Lxc(self.runner, self.proc)
        self.images = folder / "images"
        self.configure(*LINES)
        self.list(f"web RUNNING {PID}")

    def list(self, *rows: str) -> None:
        text = "".join(f"{row} \n" for row in ("NAME STATE   PID", *rows))
        self.runner.answers[LISTING] = Completed(0, text)

    def configure(self, *lines: str) -> None:
        (self.folder / "config").write_text("".join(f"{line}\n" for line in lines))

    def web(self) -> Container:
        return self.engine.find("web")

    def arrival(self, **changes: Any) -> Arrival:
        given: dict[str, Any] = {
            "workload": "redis",
            "name": "web2",
            "configuration": {"engine": "lxc", "config": [line.split(" = ", 1) for line in LINES]},
            "sources": {"/data": "/mnt/data", "/dev/shm": "/mnt/shm"},
            "images": self.images,
            "root": "/mnt/root",
        }
        return Arrival(**{**given, **changes})

    def stopped(self) -> list[list[str]]:
        return [argv for argv in self.runner.argvs if argv[0] in ("lxc-stop", "lxc-wait")]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(lxc, "_UNIFIED", tmp_path)
    return Bench(tmp_path)


# What it knows


def test_a_container_is_described_with_what_it_binds_from_its_host(bench: Bench) -> None:
    assert bench.web() == Container(
        "lxc",
        "web",
        "web",
        "running",
        PID,
        bundle=str(bench.folder),
        binds=[Bind("/srv/data", "/data"), Bind("/srv/shm", "/dev/shm", is_read_only=True)],
    )


def test_all_containers_are_listed(bench: Bench) -> None:
    bench.list(f"web RUNNING {PID}", "other-1 STOPPED -", "f FROZEN 7")
    assert [(each.name, each.state, each.pid) for each in bench.engine.containers()] == [
        ("web", "running", PID),
        ("other-1", "stopped", 0),
        ("f", "frozen", 7),
    ]


def test_a_host_without_containers_has_none(bench: Bench) -> None:
    bench.runner.answers[LISTING] = Completed(0, "")
    assert bench.engine.containers() == []


def test_a_name_must_be_exact(bench: Bench) -> None:
    for name in ("we", "web2", ""):
        with pytest.raises(WorkloadNotFound, match=f"lxc knows no container {name} here"):
            bench.engine.find(name)


def test_a_container_whose_configuration_cannot_be_read_is_listed_all_the_same(bench: Bench) -> None:
    (bench.folder / "config").unlink()
    assert bench.web().binds == []
    with pytest.raises(CriuError, match="cannot be read"):
        bench.engine.problems(bench.web())


def test_its_own_mounts_are_those_where_the_kernel_s_files_are(bench: Bench) -> None:
    own = {"/dev", "/proc", "/proc/sys/kernel/random/boot_id"}
    assert bench.engine.own_mountpoints(bench.web()) == own


def test_facts_tell_version_control_groups_and_names(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    for path, version in ((tmp_path, "v2"), (tmp_path / "none", "v1")):
        monkeypatch.setattr(lxc, "_UNIFIED", path)
        common = {"engine": "lxc", "version": "6.0.4", "cgroup_version": version}
        assert bench.engine.facts(bench.web()) == common
        assert bench.engine.facts() == {**common, "names": ["web"]}
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not bench.engine.is_present()


# What cannot be moved


def test_nothing_stands_against_a_plain_container(bench: Bench) -> None:
    assert bench.engine.problems(bench.web()) == []


def test_control_groups_of_version_1_are_a_problem(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lxc, "_UNIFIED", tmp_path / "none")
    (problem,) = bench.engine.problems(bench.web())
    assert "control groups of version 1" in problem


def test_what_does_not_run_cannot_be_moved(bench: Bench) -> None:
    bench.list("web STOPPED -")
    (problem,) = bench.engine.problems(bench.web())
    assert "the container web is stopped" in problem


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("lxc.console.path = /dev/tty8", "it has a console"),
        ("lxc.console.path =", "it has a console"),
        ("lxc.tty.max = 4", "it has terminals"),
        ("lxc.mount.fstab = /etc/lxc/fstab", "Write them as lxc.mount.entry"),
        ("lxc.rootfs.path = overlay:/a:/b", "its root is overlay:/a:/b"),
        ("lxc.idmap = u 0 100000 65536", "it has a user namespace"),
        ("lxc.net.1.type = ipvlan", "CRIU cannot make its network again .empty, ipvlan."),
        ("lxc.mount.entry = /srv/x /x none bind 0 0", "the mount entry for /x has an absolute path"),
    ],
)
def test_what_criu_or_lxc_cannot_make_again_is_a_problem(bench: Bench, line: str, problem: str) -> None:
    bench.configure(*LINES, line)
    (found,) = bench.engine.problems(bench.web())
    assert problem.replace(".empty, ipvlan.", "(empty, ipvlan)") in found


@pytest.mark.parametrize(
    "line", ["lxc.rootfs.path = /srv/root", "lxc.net.1.type = veth", "lxc.idmap =", "lxc.mount.entry = proc /x proc"]
)
def test_what_lxc_can_do_is_none(bench: Bench, line: str) -> None:
    bench.configure(*LINES, line)
    assert bench.engine.problems(bench.web()) == []


def test_a_bind_from_a_socket_is_a_problem(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        bench.configure(*LINES, f"lxc.mount.entry = {path} run/s none bind,create=file 0 0")
        (problem,) = bench.engine.problems(bench.web())
    assert f"/run/s is bound from {path}, which is a socket" in problem


# At the source


def test_the_target_is_told_all_settings_with_includes_in_place(bench: Bench, tmp_path: Path) -> None:
    included = tmp_path / "more"
    included.write_text("lxc.cap.drop = sys_time\nlxc.mount.entry = /none n none bind,optional 0 0\n")
    bench.configure("lxc.uts.name = web", f"lxc.include = {included}")
    assert bench.engine.configuration(bench.web()) == {
        "engine": "lxc",
        "config": [["lxc.uts.name", "web"], ["lxc.cap.drop", "sys_time"]],
    }


def test_a_dump_is_what_lxc_would_ask_criu_for(bench: Bench) -> None:
    argv = list(bench.engine.checkpoint(bench.web(), bench.images, Options()).argv)
    assert argv[:2] == ["criu", "dump"], "found by PATH, which begins with the stand-in"
    pairs = list(zip(argv, argv[1:]))
    for pair in (
        ("--tree", str(PID)),
        ("--images-dir", str(bench.images)),
        ("--log-file", "dump.log"),
        ("--ext-mount-map", "auto"),
        ("--ext-mount-map", "/data:data"),
        ("--ext-mount-map", "/dev/shm:dev/shm"),
    ):
        assert pair in pairs
    assert not [word for word in argv if "cache" in word], "no bind"
    assert "--manage-cgroups=full" in argv
    assert "--leave-running" not in argv
    assert "--leave-running" in bench.engine.checkpoint(bench.web(), bench.images, Options(), leave_running=True).argv


def test_options_that_cannot_be_passed_on_are_refused(bench: Bench) -> None:
    with pytest.raises(CriuError, match="no way to pass on these options to CRIU: shell_job"):
        bench.engine.checkpoint(bench.web(), bench.images, Options(shell_job=True))
    with pytest.raises(CriuError, match="no way to pass on these options to CRIU: shell_job"):
        bench.engine.restore(bench.arrival(options=Options(shell_job=True)))


# At the target


def test_a_restore_has_a_configuration_of_its_own_that_only_root_can_read(bench: Bench) -> None:
    command = bench.engine.restore(bench.arrival())
    words = ["--name", "web2", "--checkpoint-dir", str(bench.images), "--verbose"]
    assert command.argv == ["lxc-checkpoint", "--restore", *words]
    path = bench.containers / "web2" / "config"
    text = path.read_text()
    assert "lxc.mount.entry = /mnt/data data none bind,create=dir 0 0\n" in text
    assert "lxc.mount.entry = /mnt/shm dev/shm none bind,ro,create=dir 0 0\n" in text
    assert text.endswith("lxc.rootfs.path = dir:/mnt/root\n")
    assert "/srv/" not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert bench.images.is_dir()


@pytest.mark.parametrize("name", ["..", "a/b", "", "a b"])
def test_a_name_that_could_lead_elsewhere_is_refused(bench: Bench, name: str) -> None:
    with pytest.raises(CriuError, match="cannot be the name of a container"):
        bench.engine.restore(bench.arrival(name=name))
    assert [path.name for path in bench.containers.iterdir()] == ["web"]


def test_a_restore_needs_a_root(bench: Bench) -> None:
    with pytest.raises(CriuError, match="no root for the container"):
        bench.engine.restore(bench.arrival(root=None))


# Removing


def test_what_we_have_made_is_removed(bench: Bench) -> None:
    bench.engine.restore(bench.arrival())
    bench.list(f"web RUNNING {PID}", "web2 RUNNING 43")
    bench.engine.remove("web2")
    assert [path.name for path in bench.containers.iterdir()] == ["web"]
    assert [argv[:2] for argv in bench.stopped()] == [["lxc-stop", "--kill"], ["lxc-wait", "--state"]]
    assert all(argv[-2:] == ["--name", "web2"] for argv in bench.stopped())


def test_the_configuration_that_a_person_has_written_is_put_aside(bench: Bench) -> None:
    text = (bench.folder / "config").read_text()
    bench.list("web STOPPED -")
    bench.engine.remove("web")
    assert [path.name for path in bench.folder.iterdir()] == ["config.moved"]
    assert (bench.folder / "config.moved").read_text() == text
    assert bench.stopped() == []


def test_a_root_beside_the_configuration_stays(bench: Bench) -> None:
    bench.engine.restore(bench.arrival())
    root = bench.containers / "web2" / "rootfs"
    root.mkdir()
    bench.list("web2 STOPPED -")
    bench.engine.remove("web2")
    assert [path.name for path in root.parent.iterdir()] == ["rootfs"]


def test_what_is_not_there_needs_no_removing(bench: Bench) -> None:
    bench.engine.remove("nobody")
    bench.list("gone STOPPED -")
    bench.engine.remove("gone")
    assert bench.stopped() == []


def test_a_container_that_does_not_stop_is_removed_all_the_same(bench: Bench) -> None:
    bench.runner.answers["lxc-stop",] = Completed(1)
    bench.runner.answers["lxc-wait",] = Completed(1)
    bench.engine.remove("web")
    assert not (bench.folder / "config").exists()


def test_people_are_told_how_to_remove_one(bench: Bench) -> None:
    assert bench.engine.removal("web") == "lxc-destroy --name web (with its root)"


def test_an_engine_that_does_not_answer_is_said_so(bench: Bench) -> None:
    bench.runner.answers[LISTING] = Completed(1, "", "it is broken")
    with pytest.raises(CommandFailed, match=r"lxc-ls .* failed: it is broken"):
        bench.engine.containers()
