# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.fleet.criu.plugins.module_utils import _mount_calls
from ansible_collections.fleet.criu.plugins.module_utils._criu import folder
from ansible_collections.fleet.criu.plugins.module_utils._criu import memory_folder as subject
from ansible_collections.fleet.criu.plugins.module_utils._handoff.images import Store
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import MountRow, parse
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._trusted import Untrusted

MIB = 1 << 20


class Memory(Proc):
    """A host with so much memory."""

    def __init__(self, available: int, swap: int = 0) -> None:
        super().__init__()
        self.sizes = {"MemAvailable": available, "SwapFree": swap}

    def meminfo(self) -> dict[str, int]:
        """What the test says."""
        return self.sizes


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "run" / "images"
    monkeypatch.setattr(subject, "FOLDER", path)
    yield path
    while mounts(path):
        subprocess.run(["umount", str(path)], check=True)


@pytest.fixture
def can_mount(place: Path) -> None:
    try:
        subject.provide(place, Memory(MIB))
    except OSError:
        pytest.skip("nothing may be mounted here")
    subprocess.run(["umount", str(place)], check=True)


def mounts(path: Path) -> list[MountRow]:
    return [row for row in parse(Proc().mountinfo("self")) if row.mountpoint == str(path)]


def size(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_blocks * status.f_frsize


@pytest.mark.usefixtures("can_mount")
def test_it_is_mounted_once_for_root_alone_with_a_size(place: Path) -> None:
    for _time in range(2):
        subject.provide(place / "redis", Memory(80 * MIB, 40 * MIB))
    (row,) = mounts(place)
    assert row.fstype == "tmpfs"
    assert {"nosuid", "nodev", "noexec"} <= set(row.mount_options)
    assert place.stat().st_mode & 0o7777 == 0o700
    assert place.parent.stat().st_mode & 0o7777 == 0o700
    assert size(place) == 90 * MIB


@pytest.mark.usefixtures("can_mount")
def test_several_at_once_mount_it_once(place: Path) -> None:
    threads = [threading.Thread(target=subject.provide, args=(place / str(number), Proc())) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(mounts(place)) == 1


@pytest.mark.usefixtures("can_mount")
def test_it_grows_when_something_larger_comes_and_there_is_memory_and_never_shrinks(place: Path) -> None:
    subject.provide(place, Memory(8 * MIB))
    assert size(place) == 6 * MIB
    (place / "kept").write_bytes(bytes(MIB))
    subject.make_room(place / "redis", 20 * MIB, Memory(16 * MIB))  # there is no such memory
    assert size(place) == 6 * MIB
    subject.make_room(place / "redis", 20 * MIB, Memory(40 * MIB))
    assert size(place) == 31 * MIB
    assert (place / "kept").exists()
    subject.make_room(place / "redis", MIB, Memory(4 * MIB))
    assert size(place) == 31 * MIB
    (row,) = mounts(place)
    assert {"nosuid", "nodev", "noexec"} <= set(row.mount_options)
    assert place.stat().st_mode & 0o7777 == 0o700


@pytest.mark.usefixtures("can_mount")
def test_room_for_images_is_reserved_in_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject.provide(place, Memory(4 * MIB))
    folder.prepare_folder(place / "redis")
    store = Store(place / "redis")
    store.reserve([8 * MIB])
    assert size(place) > 8 * MIB
    store.close()


@pytest.mark.usefixtures("can_mount")
def test_what_the_administrator_has_mounted_there_is_taken(place: Path) -> None:
    place.chmod(0o755)
    _mount_calls.mount("ramfs", str(place), "ramfs", 0, "mode=0700")
    subject.provide(place / "redis", Proc())
    subject.make_room(place / "redis", 1 << 60, Proc())
    assert [row.fstype for row in mounts(place)] == ["ramfs"]


def test_what_lies_elsewhere_is_left_alone(place: Path, tmp_path: Path) -> None:
    for path in (tmp_path, place.with_name("images2"), place.parent):
        subject.provide(path, Proc())
        subject.make_room(path, 1, Proc())
        assert not subject.is_in_memory(path)
    assert not place.parent.exists()


def test_whoever_made_the_place_before_us_is_found_out(place: Path) -> None:
    place.parent.mkdir()
    place.mkdir()
    place.parent.chmod(0o777)
    with pytest.raises(Untrusted):
        subject.provide(place / "redis", Proc())
    assert not mounts(place)


def test_the_space_is_told_before_anything_is_mounted(place: Path) -> None:
    assert subject.free_bytes(Memory(100 * MIB, 20 * MIB)) == 90 * MIB
    assert folder.free_bytes(place / "redis") > 0
    assert not place.parent.exists()
