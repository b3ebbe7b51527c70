# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._mounts.kernel import KERNEL_FILE_SYSTEMS
from ansible_collections.fleet.criu.plugins.module_utils._preflight import contents
from ansible_collections.fleet.criu.plugins.module_utils._preflight.contents import (
    Effort,
    differences,
    differing,
    summarize,
)
from ansible_collections.fleet.criu.plugins.module_utils._preflight.left_out import LeftOut

NOTHING = LeftOut("")
LARGE = (1 << 20) + 1


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return make(tmp_path / "one")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return make(tmp_path / "other")


def make(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/conf").write_text("a=1\n")
    (folder / "large").write_bytes(bytes(LARGE))
    (folder / "link").symlink_to("sub/conf")
    os.utime(folder / "large", ns=(0, 1_000_000_001))
    return folder


def look(path: Path, full: bool = False, files: int = 100, size: int = 1 << 30) -> dict[str, Any]:
    found = summarize(str(path), Effort(full, files, size), NOTHING)
    assert found is not None
    return found


def unequal(one: Path, other: Path, full: bool = False) -> set[str]:
    first, second = look(one, full), look(other, full)
    return {name for name in ("shape", "hashes", "times") if first[name] != second[name]}


def test_equal_folders_have_equal_sums(one: Path, other: Path) -> None:
    assert look(one) == look(other)
    assert look(one, full=True) == look(other, full=True)
    assert {name: look(one)[name] for name in ("files", "bytes", "timed", "complete")} == {
        "files": 5,
        "bytes": LARGE + 4,
        "timed": 1,
        "complete": True,
    }


def test_other_contents_of_a_small_file_are_seen(one: Path, other: Path) -> None:
    (other / "sub/conf").write_text("a=2\n")
    assert unequal(one, other) == {"hashes"}
    assert differing(look(one), look(other)) == ["sub/conf has other contents"]


def test_the_time_of_a_small_file_does_not_matter(one: Path, other: Path) -> None:
    os.utime(other / "sub/conf", ns=(0, 7))
    assert unequal(one, other) == set()


def test_a_large_file_is_told_by_its_time_unless_all_are_read(one: Path, other: Path) -> None:
    (other / "large").write_bytes(bytes(LARGE - 1) + b"x")
    os.utime(other / "large", ns=(0, 1_000_000_001))
    assert unequal(one, other) == set()
    assert unequal(one, other, full=True) == {"hashes"}
    os.utime(other / "large", ns=(0, 1_000_000_002))
    assert unequal(one, other) == {"times"}
    assert differing(look(one), look(other)) == ["large has other time"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "sub/conf").write_text("a=10\n"), "sub/conf is a file of 4 bytes"),
        (lambda folder: (folder / "sub/conf").chmod(0o600), "mode 0600"),
        (lambda folder: (folder / "new").touch(), "new is only on the target"),
        (lambda folder: (folder / "large").unlink(), "large is only on the source"),
    ],
)
def test_other_shapes_are_seen_and_named(one: Path, other: Path, change: Any, said: str) -> None:
    change(other)
    assert "shape" in unequal(one, other)
    assert said in " ".join(differing(look(one), look(other)))


def test_another_link_is_seen(one: Path, other: Path) -> None:
    (other / "link").unlink()
    (other / "link").symlink_to("sub/none")
    assert unequal(one, other) == {"hashes"}


def test_sockets_are_left_out(one: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(other)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("redis.sock")
    os.mkfifo(other / "sub/fifo")
    assert look(one) == look(other)


def test_a_file_that_became_a_fifo_is_not_waited_for(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = os.lstat(one / "sub/conf")
    (one / "sub/conf").unlink()
    os.mkfifo(one / "sub/conf")
    real = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path, **more: status if str(path).endswith("conf") else real(path, **more))
    assert look(one)["names"]["sub/conf"][1] == "sha256 unreadable"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Everything that was opened or listed."""
    paths: list[str] = []
    for name in ("open", "listdir"):
        real = getattr(os, name)

        def noting(path: Any, *more: Any, _real: Any = real, **named: Any) -> Any:
            paths.append(os.fsdecode(path))
            return _real(path, *more, **named)

        monkeypatch.setattr(os, name, noting)
    return paths


def left_out(path: Path, mounts: dict[str, str], own: Any = ()) -> LeftOut:
    rows = ["1 0 8:1 / / rw - ext4 a rw"]
    rows += [
        f"{number} 1 0:{number} / {path}/{name} rw - {fstype} a rw"
        for number, (name, fstype) in enumerate(mounts.items(), 2)
    ]
    return LeftOut("\n".join(rows).replace("/. ", " "), own)


@pytest.mark.parametrize("fstype", sorted(KERNEL_FILE_SYSTEMS))
def test_nothing_of_a_kernel_file_system_is_opened(one: Path, opened: list[str], fstype: str) -> None:
    for path in (one, one / "sub", one / "sub/conf"):
        found = summarize(str(path), Effort(True), left_out(one, {".": fstype}))
        assert found is not None
        assert (found["files"], found["left_out"]) == (0, {"": fstype})
    assert opened == []


def test_a_kernel_file_system_below_is_neither_opened_nor_compared(one: Path, other: Path, opened: list[str]) -> None:
    (one / "sub/hot_add").write_text("7")
    (one / "sub").chmod(0o555)
    here = left_out(one, {"sub": "sysfs", "large": "fuse.lxcfs"})
    found = summarize(str(one), Effort(True), here)
    assert found is not None
    assert found["left_out"] == {"large": "fuse.lxcfs", "sub": "sysfs"}
    assert sorted(found["names"]) == ["", "link"]
    assert opened == [str(one)]
    # A mount is at its mountpoint however the path is written.
    (one.parent / "way").symlink_to(one)
    assert summarize(f"{one.parent}/way/sub", Effort(), here) == summarize(f"{one}/sub", Effort(), here)
    # The target leaves out what the source did.
    for name in ("sub/conf", "large"):
        (other / name).unlink()
    assert summarize(str(other), Effort(True), NOTHING, found["left_out"]) == {**found, "left_out": {}}


def test_a_covered_kernel_file_system_does_not_matter(one: Path) -> None:
    rows = f"1 0 8:1 / / rw - ext4 a rw\n2 1 0:2 / {one} rw - sysfs a rw\n3 2 8:2 / {one} rw - ext4 a rw"
    found = summarize(str(one), Effort(), LeftOut(rows))
    assert found is not None
    assert (found["files"], found["left_out"]) == (5, {})


def test_our_own_folders_are_left_out_wherever_they_show(one: Path, opened: list[str]) -> None:
    for path, name in ((one, "sub"), (one / "sub", ""), (one / "sub/conf", "")):
        found = summarize(str(path), Effort(), left_out(one, {}, [one / "sub"]))
        assert found is not None
        assert found["left_out"] == {name: "of this collection"}
    assert str(one / "sub") not in opened
    # The same folder through a bind of one above it has another path.
    (one / "alias").symlink_to(one)
    found = summarize(str(one), Effort(), LeftOut("", [one / "alias/sub"]))
    assert found is not None
    assert found["left_out"] == {"sub": "of this collection"}


@pytest.mark.parametrize("make_it", [os.mkfifo, lambda path: os.mknod(path, stat.S_IFSOCK | 0o600)])
def test_a_special_file_is_left_out(tmp_path: Path, opened: list[str], make_it: Any) -> None:
    make_it(tmp_path / "it")
    found = summarize(str(tmp_path / "it"), Effort(True), NOTHING)
    assert found is not None
    assert found["left_out"] == {"": "special file"}
    assert opened == []


def test_a_file_is_looked_at_like_a_folder_of_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").write_text("y")
    assert differing(look(tmp_path / "a"), look(tmp_path / "b")) == ["it has other contents"]


def test_nothing_is_nothing(tmp_path: Path) -> None:
    assert summarize(str(tmp_path / "none"), Effort(), NOTHING) is None


def test_limits(one: Path, other: Path) -> None:
    few = look(one, files=2)
    assert (few["files"], few["complete"]) == (2, False)
    assert look(one, files=5)["complete"] is True
    assert look(one, full=True)["timed"] == 0
    assert look(one, full=True, size=LARGE)["timed"] == 1
    assert look(one, size=0)["timed"] == 2


def test_names_of_large_folders_are_packed(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        for number in range(300):
            (tmp_path / folder / str(number)).touch()
    (tmp_path / "one/7").write_text("a")
    (tmp_path / "other/7").write_text("b")
    (tmp_path / "other/8").unlink()
    first, second = (json.loads(json.dumps(look(tmp_path / name, files=1000))) for name in ("one", "other"))
    assert first["names"] == {}
    assert len(first["packed"]) < 4000
    assert differing(first, second) == ["7 has other contents", "8 is only on the source (missing on the target)"]


def test_names_of_very_large_folders_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_NAMES_KEPT", 3)
    for number in range(4):
        (tmp_path / str(number)).touch()
    found = look(tmp_path)
    assert (found["packed"], len(found["names"])) == ("", 3)
    monkeypatch.setattr(contents, "_NAMES_PLAIN", 3)
    found = look(tmp_path)
    assert (found["packed"], found["names"]) == ("", {})
    assert differences(found, found) is None


def test_of_a_folder_that_is_on_one_host_alone_nothing_more_is_said(one: Path, other: Path) -> None:
    for name in ("sub/conf", "sub"):
        (other / name).unlink() if name.endswith("conf") else (other / name).rmdir()
    (other / "sub2").touch()
    assert differing(look(one), look(other)) == [
        "sub is only on the source (missing on the target)",
        "sub2 is only on the target (missing on the source)",
    ]


def test_what_one_host_has_not_looked_at_is_no_difference(one: Path, other: Path) -> None:
    (other / "a").touch()
    # In their order: "", a, large, link, sub, sub/conf.
    assert differing(look(one, files=3), look(other, files=3)) == ["a is only on the target (missing on the source)"]
    assert differing(look(one), look(other, files=2)) == ["a is only on the target (missing on the source)"]


def test_what_is_below_a_mount_of_one_host_alone_is_a_difference(one: Path, other: Path) -> None:
    (other / "sub").chmod(0o700)
    covering = summarize(str(other), Effort(), left_out(other, {"sub": "ext4"}))
    assert covering is not None
    assert differing(look(one), covering) == ["sub/conf is only on the source (missing on the target)"]


@pytest.mark.parametrize(
    ("only", "names", "absent"),
    [
        ([], [], []),
        ([""], ["", "large", "link", "sub", "sub/conf"], []),
        (["sub/conf"], ["sub/conf"], []),
        (["sub", "large", "sub/conf"], ["large", "sub", "sub/conf"], []),
        (["none", "link", "sub/none"], ["link"], ["none", "sub/none"]),
        (["way/conf"], ["sub/conf"], []),  # through a symlink
        (["out/passwd"], [], ["out/passwd"]),
    ],
)
def test_what_is_asked_for_alone_is_looked_at(one: Path, only: list[str], names: list[str], absent: list[str]) -> None:
    if only and only[0].startswith(("way", "out")):
        (one / "way").symlink_to("sub")
        (one / "out").symlink_to("/etc")
    found = summarize(str(one), Effort(), NOTHING, only=only)
    assert found is not None
    assert (list(found["names"]), found["absent"]) == (names, absent)


def test_what_is_asked_for_below_a_mount_is_not_looked_at(one: Path, opened: list[str]) -> None:
    found = summarize(str(one), Effort(), left_out(one, {"sub": "sysfs"}), only=["sub/conf", "sub"])
    assert found is not None
    assert (found["files"], found["absent"], found["left_out"]) == (0, [], {"sub": "sysfs"})
    found = summarize(str(one), Effort(), LeftOut("", [one / "sub"]), only=["sub/conf"])
    assert found is not None
    assert (found["files"], found["left_out"]) == (0, {"sub": "of this collection"})
    assert opened == []


def test_names_that_are_no_utf_8_can_be_carried_by_json(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / os.fsdecode(b"\xff")).touch()
    assert "\\xff" in look(folder)["names"]
