# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu import cgroup_mount as subject
from ansible_collections.fleet.criu.plugins.module_utils._criu.cgroup_mount import (
    kept,
    note,
    put_back,
    put_back_for_the_dead,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed
from ansible_collections.fleet.criu.tests.unit.fakes import HOST_MOUNTS, FakeProc, FakeRunner
from ansible_collections.fleet.criu.tests.unit.redirection import redirect

PLACE = "/sys/fs/cgroup"
ALL = "memory_recursiveprot,nsdelegate"
LINE = f"Put back the mount options memory_recursiveprot, nsdelegate of {PLACE}, which CRIU took."


class Host:
    """A proc file system with control groups, CRIU that strips them, and `mount` that puts options on again."""

    def __init__(self, folder: Path) -> None:
        self.proc = FakeProc(folder / "proc")
        self.proc.add(os.getpid(), start_time=77)
        self.folder = folder / "run" / "cgroup_mount"
        self.mount_with(f"rw,{ALL}")
        self.mount = FakeRunner({("mount",): self.remount})

    def mount_with(self, options: str) -> None:
        row = f"30 24 0:26 / {PLACE} rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 {options}\n"
        (self.proc.folder / "self" / "mountinfo").write_text(HOST_MOUNTS + row)

    def strip(self) -> None:
        self.mount_with("rw")

    def remount(self, command: Command) -> Completed:
        word, *options = list(command.argv)[2].split(",")
        assert word == "remount"
        self.mount_with(",".join(["rw", *options]))
        return Completed(0)

    @property
    def notes(self) -> list[Path]:
        return list(self.folder.glob("*")) if self.folder.exists() else []


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    redirect(tmp_path, monkeypatch.setattr)
    return Host(tmp_path)


def test_what_criu_took_is_put_back(host: Host) -> None:
    noted = note(host.proc)
    host.strip()
    assert put_back(noted, host.proc, host.mount) == [LINE]
    assert host.mount.argvs == [["mount", "-o", f"remount,{ALL}", PLACE]]
    assert ALL in host.proc.mountinfo("self")
    assert host.notes == []


def test_what_is_there_stays(host: Host) -> None:
    # A remount takes away what it does not name.
    noted = note(host.proc)
    host.mount_with("rw,favordynmods")
    put_back(noted, host.proc, host.mount)
    assert host.mount.argvs == [["mount", "-o", f"remount,favordynmods,{ALL}", PLACE]]


def test_nothing_is_done_if_nothing_is_missing(host: Host) -> None:
    noted = note(host.proc)
    assert put_back(noted, host.proc, host.mount) == []
    assert host.mount.commands == []


@pytest.mark.parametrize("mounts", [HOST_MOUNTS, f"{HOST_MOUNTS}30 24 0:26 / {PLACE} rw - cgroup2 cgroup2 rw\n"])
def test_a_host_without_control_groups_or_options_is_left_alone(host: Host, mounts: str) -> None:
    (host.proc.folder / "self" / "mountinfo").write_text(mounts)
    noted = note(host.proc)
    assert not host.folder.exists()
    assert put_back(noted, host.proc, host.mount) == []


def test_one_option_that_cannot_be_put_back(host: Host) -> None:
    host.mount_with("rw,nsdelegate")
    noted = note(host.proc)
    host.strip()
    words = f"Could not put back the mount option nsdelegate of {PLACE}, which CRIU took"
    command = f"Run: mount -o remount,nsdelegate {PLACE}"
    no = FakeRunner({("mount",): Completed(32, "", "mount: denied\n")})
    assert put_back(noted, host.proc, no) == [f"{words} (mount: denied). {command}"]

    def missing(_command: Command) -> Completed:
        raise CommandFailed("mount could not be started.")

    assert put_back(noted, host.proc, FakeRunner({("mount",): missing})) == [
        f"{words} (mount could not be started.). {command}"
    ]
    # It says yes and does nothing, as in a control group namespace.
    assert put_back(noted, host.proc, FakeRunner({("mount",): Completed(0)})) == [f"{words}. {command}"]


def test_who_begins_when_another_has_taken_them_knows_what_the_host_wants(host: Host) -> None:
    first = note(host.proc)
    host.strip()
    second = note(host.proc)
    assert put_back(first, host.proc, host.mount) == [LINE]
    host.strip()
    assert put_back(second, host.proc, host.mount) == [LINE]


def test_the_next_one_does_it_for_the_dead(host: Host) -> None:
    host.folder.mkdir(parents=True)
    dead = host.folder / "dead.json"
    dead.write_text(json.dumps({"pid": 4711, "start_time": 1, "options": ALL.split(",")}))
    (host.folder / "torn.json").write_text("{")
    host.strip()
    assert put_back_for_the_dead(host.proc, host.mount) == [LINE]
    assert host.notes == []
    dead.write_text(json.dumps({"pid": 4711, "start_time": 1, "options": ALL.split(",")}))
    host.strip()
    assert put_back(note(host.proc), host.proc, host.mount) == [LINE]
    assert host.notes == []


def test_the_living_are_left_to_themselves(host: Host) -> None:
    note(host.proc)
    host.strip()
    assert put_back_for_the_dead(host.proc, host.mount) == []
    assert len(host.notes) == 1


def test_a_context_puts_back_whatever_happens(host: Host) -> None:
    with kept(host.proc, host.mount) as said:
        host.strip()
    assert said == [LINE]
    with pytest.raises(CriuError) as raised:
        fail(host, CriuError("The dump failed.", facts={"rc": 1}))
    assert raised.value.facts == {"rc": 1, "put_back": [LINE]}
    with pytest.raises(CriuError) as raised, kept(host.proc, host.mount):
        raise CriuError("The dump failed.")
    assert raised.value.facts == {}
    with pytest.raises(KeyboardInterrupt):
        fail(host, KeyboardInterrupt())
    assert ALL in host.proc.mountinfo("self")
    assert host.notes == []
    assert host.folder == subject.FOLDER


def fail(host: Host, error: BaseException) -> None:
    """CRIU takes the options, and then this is raised."""
    with kept(host.proc, host.mount):
        host.strip()
        raise error
