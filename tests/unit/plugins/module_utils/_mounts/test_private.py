# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import ctypes
import os
import traceback
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._mounts import private as subject
from ansible_collections.fleet.criu.plugins.module_utils._mounts.live import read_mounts
from ansible_collections.fleet.criu.plugins.module_utils._mounts.pinned import Pinned
from ansible_collections.fleet.criu.plugins.module_utils._mounts.private import PrivateMounts
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc

NEW_NAMESPACE, BIND, RECURSIVE, SLAVE, REMOUNT = 0x20000, 0x1000, 0x4000, 0x80000, 0x20


class FakeLibc:
    """Keeps what it was called with; the calls of one name fail."""

    def __init__(self, fails: str = "") -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fails = fails

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append((name, *arguments))
            return -1 if name == self.fails else 0

        return call


@pytest.fixture
def libc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeLibc:
    made = FakeLibc()
    monkeypatch.setattr(ctypes, "CDLL", lambda *arguments, **options: made)
    monkeypatch.setattr(subject, "FOLDER", tmp_path / "mounts")
    return made


@pytest.fixture
def pinned() -> Iterator[Pinned]:
    with contextlib.closing(Pinned()) as made:
        yield made


def test_the_places_are_in_a_namespace_that_is_a_slave_of_the_host_s(libc: FakeLibc, tmp_path: Path) -> None:
    PrivateMounts()
    # Who is restored into a user namespace is not root here, and must get through.
    folder = os.fsencode(tmp_path / "mounts")
    assert libc.calls == [
        ("unshare", NEW_NAMESPACE),
        ("mount", None, b"/", None, RECURSIVE | SLAVE, None),
        ("mount", b"tmpfs", folder, b"tmpfs", 14, b"mode=0711"),
    ]
    assert (tmp_path / "mounts").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("fails", ["unshare", "mount"])
def test_a_namespace_that_cannot_be_had_is_told(libc: FakeLibc, fails: str) -> None:
    libc.fails = fails
    with pytest.raises(CriuError, match="No mount namespace can be made for CRIU"):
        PrivateMounts()


def test_each_path_is_bound_once_by_its_descriptor(libc: FakeLibc, tmp_path: Path, pinned: Pinned) -> None:
    (tmp_path / "file").touch()
    private = PrivateMounts()
    del libc.calls[:]
    places = [private.place(str(tmp_path / name), pinned) for name in ("", "file", "")]
    assert places[0] == places[2] == str(tmp_path / "mounts" / "0")
    assert [call[2:] for call in libc.calls] == [(os.fsencode(place), None, BIND, None) for place in places[:2]]
    assert all(call[1].startswith(b"/proc/self/fd/") for call in libc.calls)
    assert Path(places[0]).is_dir()
    assert Path(places[1]).is_file()
    assert private.paths == {places[0]: str(tmp_path), places[1]: str(tmp_path / "file")}


def test_what_cannot_be_bound_is_named(libc: FakeLibc, tmp_path: Path, pinned: Pinned) -> None:
    (tmp_path / "file").touch()
    private = PrivateMounts()
    pinned.add([str(tmp_path / "file")])
    (tmp_path / "file").unlink()
    with pytest.raises(CriuError, match="file cannot be bound for CRIU: No such file"):
        private.place(str(tmp_path / "file"), pinned)
    (tmp_path / "file").symlink_to("/etc/passwd")
    with pytest.raises(CriuError, match="has put a symlink at"):
        private.place(str(tmp_path / "file"), pinned)
    libc.fails = "mount"
    with pytest.raises(CriuError, match="cannot be bound for CRIU"):
        private.place(str(tmp_path), pinned)


@pytest.mark.parametrize(
    ("options", "flags"), [([], 0), (["ro"], 1), (["nosuid", "nodev", "noexec"], 14), (["ro", "relatime"], 1)]
)
def test_a_root_is_mounted_with_these_options_and_no_other(
    libc: FakeLibc, tmp_path: Path, pinned: Pinned, options: list[str], flags: int
) -> None:
    private = PrivateMounts()
    place = private.place(str(tmp_path), pinned)
    private.set_options(str(tmp_path), options)
    assert libc.calls[-1] == ("mount", None, os.fsencode(place), None, REMOUNT | BIND | flags, None)


def test_a_root_that_cannot_be_mounted_so_is_told(libc: FakeLibc, tmp_path: Path, pinned: Pinned) -> None:
    private = PrivateMounts()
    private.place(str(tmp_path), pinned)
    libc.fails = "mount"
    with pytest.raises(CommandFailed, match=r"cannot be mounted as the workload had it \(ro\)"):
        private.set_options(str(tmp_path), ["ro"])


# With a real kernel


def in_a_process(work: Callable[[], None]) -> None:
    """Do something that takes a mount namespace, in a process that may."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os.write(writes, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(0)
    os.close(writes)
    os.waitpid(child, 0)
    with open(reads) as stream:
        problem = stream.read()
    if "No mount namespace can be made" in problem:
        pytest.skip("this needs root and CAP_SYS_ADMIN")
    assert not problem, problem


def test_a_place_shows_what_was_opened_whoever_renames_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "FOLDER", tmp_path / "mounts")
    home, victim = tmp_path / "home", tmp_path / "victim"
    for folder in (home, victim):
        (folder / "data" / "below").mkdir(parents=True)
        (folder / "data" / "name").write_text(folder.name)
        (folder / "file").write_text(folder.name)

    def work() -> None:
        private, pinned = PrivateMounts(), Pinned()
        pinned.add([str(home / "data"), str(home / "file")])
        home.rename(tmp_path / "aside")
        home.symlink_to(victim)
        data, file = (Path(private.place(str(home / name), pinned)) for name in ("data", "file"))
        assert (data / "name").read_text() == file.read_text() == "home"
        (tmp_path / "aside" / "data" / "name").write_text("later")
        assert (data / "name").read_text() == "later"
        private.set_options(str(home / "data"), ["ro"])
        mounted = {mount["mountpoint"]: mount["mount_options"] for mount in read_mounts(os.getpid(), Proc())}
        assert "ro" in mounted[str(data)]
        assert "rw" in mounted[str(file)]

    in_a_process(work)
    assert not list((tmp_path / "mounts").iterdir())
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_without_the_folder_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, libc: FakeLibc) -> None:
    monkeypatch.setattr(subject, "FOLDER", tmp_path / "file" / "mounts")
    (tmp_path / "file").touch()
    with pytest.raises(CriuError, match="Not a directory"):
        PrivateMounts()
    assert libc.calls == []
