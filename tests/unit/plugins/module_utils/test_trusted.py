# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import struct
import threading
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._trusted import (
    Untrusted,
    make_folder,
    open_place,
    remove_file,
    require_trusted,
    who_may_alter,
)

NOBODY = 65534
NAMES = ("a", "b", "c")
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    os.close(descriptor)
    return status.st_dev, status.st_ino


def identity_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three folders, one in the other."""
    path = tmp_path.joinpath(*NAMES)
    path.mkdir(parents=True)
    return path


def component(tree: Path, name: str) -> Path:
    return next(path for path in (tree, *tree.parents) if path.name == name)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_is_missing_is_made_for_root_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    finally:
        os.umask(before)
    assert [mode(tmp_path / "a"), mode(tmp_path / "a" / "b")] == [0o700, 0o700]


def test_what_is_there_is_closed_to_others_and_nothing_above_it_is(tree: Path) -> None:
    for path in (tree, tree.parent):
        path.chmod(0o755)
    (tree / "file").touch()
    make_folder(tree)
    assert [mode(tree), mode(tree.parent)] == [0o700, 0o755]
    assert (tree / "file").exists()


@pytest.mark.parametrize("bits", [0o770, 0o707, 0o720, 0o702, 0o1777, 0o3770])
@pytest.mark.parametrize("name", NAMES[:2])
def test_a_component_that_others_may_write_is_refused(tree: Path, name: str, bits: int) -> None:
    writable = component(tree, name)
    writable.chmod(bits)
    for ask in (make_folder, require_trusted):
        with pytest.raises(
            Untrusted, match=rf"{writable} may be written by others than root \(mode {bits:04o}"
        ) as caught:
            ask(tree / "images")
        assert caught.value.facts["component"] == str(writable)
        assert caught.value.facts["mode"] == f"{bits:04o}"
        assert ("chmod go-w" in caught.value.remedy) == (not bits & 0o1000)
    assert not (tree / "images").exists()


def test_an_empty_folder_that_others_could_write_is_taken_back_and_a_full_one_refused(tree: Path) -> None:
    tree.chmod(0o1777)
    make_folder(tree)
    assert mode(tree) == 0o700
    tree.chmod(0o777)
    (tree / "found").touch()
    with pytest.raises(
        Untrusted, match=r"cannot be trusted: it is not empty, and before it was closed it may be written"
    ):
        make_folder(tree)


def test_a_folder_that_others_may_write_is_not_trusted_by_a_mere_look(tree: Path) -> None:
    tree.chmod(0o777)
    with pytest.raises(Untrusted):
        require_trusted(tree)
    assert mode(tree) == 0o777


@ROOT_ONLY
@pytest.mark.parametrize("name", NAMES)
def test_a_component_of_another_user_is_refused_and_the_user_named(tree: Path, name: str) -> None:
    foreign = component(tree, name)
    os.chown(foreign, NOBODY, -1)
    for ask in (make_folder, require_trusted):
        with pytest.raises(Untrusted, match=r"belongs to nobody \(mode 0755\)") as caught:
            ask(tree)
        assert caught.value.facts["owner"] == "nobody"
        assert f"chown root {foreign}" in caught.value.remedy


@ROOT_ONLY
def test_a_user_without_a_name_is_told_by_number(tree: Path) -> None:
    os.chown(tree, 4_000_000, -1)
    with pytest.raises(Untrusted, match="belongs to the user 4000000"):
        make_folder(tree)


def test_an_access_list_counts(tree: Path) -> None:
    # acl(5): version 2, then the owner, the user 65534 with rwx, the group, the mask and all others.
    entries = [(0x01, 7, -1), (0x02, 7, NOBODY), (0x04, 5, -1), (0x10, 7, -1), (0x20, 5, -1)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(tree.parent, "system.posix_acl_access", value)
    except OSError:
        pytest.skip("this file system has no access control lists")
    with pytest.raises(Untrusted, match="may be written by others than root"):
        make_folder(tree)


@ROOT_ONLY
@pytest.mark.parametrize("name", NAMES)
def test_a_symlink_of_another_user_is_refused_at_each_place(tree: Path, name: str, tmp_path: Path) -> None:
    link = component(tree, name)
    link.rename(tmp_path / "elsewhere")
    link.symlink_to(tmp_path / "elsewhere")
    os.chown(link, NOBODY, -1, follow_symlinks=False)
    for ask in (make_folder, require_trusted, lambda path: open_place(str(path))):
        with pytest.raises(
            Untrusted, match=rf"{link if name != 'c' else 'it'} is a symlink that belongs to nobody"
        ) as caught:
            ask(tree)
        assert str(tmp_path / "elsewhere") in caught.value.remedy


@pytest.mark.parametrize("target", ["absolute", "relative"])
@pytest.mark.parametrize("name", NAMES)
def test_a_symlink_of_root_in_a_trusted_folder_is_followed(tree: Path, name: str, target: str, tmp_path: Path) -> None:
    link = component(tree, name)
    elsewhere = tmp_path / "x" / "elsewhere"
    elsewhere.parent.mkdir()
    link.rename(elsewhere)
    link.symlink_to(elsewhere if target == "absolute" else os.path.relpath(elsewhere, link.parent))
    assert make_folder(tree / "images") == elsewhere / tree.relative_to(link) / "images"
    assert identity(open_place(str(tree))) == identity_of(tree)


def test_what_a_symlink_leads_to_is_judged_as_well(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tree / "link").symlink_to(tmp_path / "open")
    with pytest.raises(Untrusted, match=f"{tmp_path}/open may be written"):
        make_folder(tree / "link" / "images")


def test_symlinks_in_a_circle_are_an_error(tree: Path) -> None:
    (tree / "one").symlink_to("two")
    (tree / "two").symlink_to("one")
    with pytest.raises(OSError, match="symbolic links"):
        make_folder(tree / "one" / "images")


def test_a_file_is_no_folder(tree: Path) -> None:
    (tree / "file").touch()
    for path in (tree / "file", tree / "file" / "images"):
        with pytest.raises(OSError, match="Not a directory"):
            make_folder(path)


def test_what_is_missing_is_trusted_as_far_as_it_exists(tree: Path) -> None:
    require_trusted(tree / "not" / "yet")
    assert os.listdir(tree) == []


def test_no_descriptor_is_left_open(tree: Path) -> None:
    before = open_descriptors()
    make_folder(tree / "images")
    tree.chmod(0o777)
    for _time in range(3):
        with pytest.raises(Untrusted):
            make_folder(tree / "images")
        with contextlib.suppress(OSError):
            open_place(str(tree / "nothing"))
    assert open_descriptors() == before


def test_a_place_in_a_folder_of_others_is_opened(tree: Path) -> None:
    tree.chmod(0o777)
    (tree / "data").mkdir()
    (tree / "file").touch()
    assert identity(open_place(str(tree / "data"))) == identity_of(tree / "data")
    assert identity(open_place(str(tree / "file"))) == identity_of(tree / "file")
    with pytest.raises(FileNotFoundError):
        open_place(str(tree / "nothing"))
    assert identity(open_place(str(tree / "new" / "folder"), makes=True)) == identity_of(tree / "new" / "folder")


def test_even_a_symlink_of_root_is_not_followed_where_others_could_put_it(tree: Path, tmp_path: Path) -> None:
    tree.parent.chmod(0o777)
    (tree / "link").symlink_to(tmp_path)
    with pytest.raises(Untrusted, match="link is a symlink that belongs to root"):
        open_place(str(tree / "link" / "file"))


def test_a_file_is_removed_where_it_is_and_not_where_a_symlink_leads(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "pid").touch()
    tree.chmod(0o777)
    (tree / "run").symlink_to(tmp_path / "victim")
    with pytest.raises(Untrusted):
        remove_file(tree / "run" / "pid")
    assert (tmp_path / "victim" / "pid").exists()
    (tree / "pid").symlink_to(tmp_path / "victim" / "pid")
    remove_file(tree / "pid")
    remove_file(tree / "pid")
    remove_file(tree / "no folder" / "pid")
    assert os.listdir(tree) == ["run"]
    assert (tmp_path / "victim" / "pid").exists()


def test_who_may_alter_a_path_is_told(tree: Path) -> None:
    assert who_may_alter(str(tree / "data")) is None
    assert who_may_alter(str(tree / "not" / "there")) is None
    tree.chmod(0o777)
    assert who_may_alter(str(tree)) is None  # that others write in it is no way to put another one there
    told = who_may_alter(str(tree / "data"))
    assert told is not None
    assert told.startswith(f"{tree}, which may be written by others")


@contextlib.contextmanager
def renaming(path: Path, link_to: Path) -> Iterator[None]:
    """Somebody puts a symlink in the place of the folder and back, again and again."""
    stopped = threading.Event()

    def work() -> None:
        aside, link = path.with_name("aside"), path.with_name("link")
        while not stopped.is_set():
            link.symlink_to(link_to)
            path.rename(aside)
            link.rename(path)
            path.unlink()
            aside.rename(path)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def test_whoever_renames_all_the_time_never_leads_us_elsewhere(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "victim" / "data").mkdir(parents=True)
    (tree / "data").mkdir()
    tree.parent.chmod(0o777)
    victim = identity_of(tmp_path / "victim" / "data")
    reached = refused = 0
    with renaming(tree, tmp_path / "victim"):
        while reached < 30 or refused < 5:
            try:
                assert identity(open_place(str(tree / "data"))) != victim
                reached += 1
            except (Untrusted, FileNotFoundError):
                refused += 1
