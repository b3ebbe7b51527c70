# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import struct
import tracemalloc
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_file import (
    INVENTORY,
    MOUNTPOINTS,
    PAGEMAP,
    PROCESS_TREE,
    STATISTICS,
    each_record,
    read_record,
    read_record_if_any,
    read_records,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet
from ansible_collections.fleet.criu.tests.unit.synthetic_images import image


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pstree.img"


def test_the_bytes_of_the_magics_as_criu_writes_them() -> None:
    assert image(PROCESS_TREE) == bytes.fromhex("19435654 30302750")
    assert image(INVENTORY) == bytes.fromhex("16313158")
    assert image(STATISTICS) == bytes.fromhex("40591055 06330957")


def test_records_in_their_order(path: Path) -> None:
    path.write_bytes(image(PROCESS_TREE, [(1, 5)], [], [(1, 6)]))
    assert [record.optional_number(1, "pid") for record in read_records(path, PROCESS_TREE)] == [5, None, 6]
    assert [record.offset for record in read_records(path, PROCESS_TREE)] == [12, 18, 22]


def test_an_image_of_version_1_has_its_own_magic_alone(path: Path) -> None:
    path.write_bytes(image(PROCESS_TREE, [(1, 5)])[4:])
    assert read_record(path, PROCESS_TREE).number(1, "pid") == 5


def test_an_image_without_records(path: Path) -> None:
    path.write_bytes(image(PROCESS_TREE))
    assert read_records(path, PROCESS_TREE) == []
    with pytest.raises(BadImageSet, match="at byte 8: it ends before its first record"):
        read_record(path, PROCESS_TREE)


def test_an_image_that_need_not_be_there(path: Path) -> None:
    assert read_record_if_any(path, PROCESS_TREE) is None
    path.write_bytes(image(PROCESS_TREE, [(1, 5)]))
    assert read_record_if_any(path, PROCESS_TREE) is not None


@pytest.mark.parametrize(
    ("length", "offset", "reason"),
    [
        (0, 0, "it ends within its magic"),
        (3, 3, "it ends within its magic"),
        (4, 4, "it ends within its magic"),
        (9, 9, "it ends within the length of a record"),
        (12, 12, "a record of 2 bytes begins here, but the file ends after 0"),
        (13, 12, "a record of 2 bytes begins here, but the file ends after 1"),
    ],
)
def test_a_truncated_image_is_named_with_its_place(path: Path, length: int, offset: int, reason: str) -> None:
    path.write_bytes(image(PROCESS_TREE, [(1, 5)])[:length])
    with pytest.raises(BadImageSet) as caught:
        read_records(path, PROCESS_TREE)
    assert caught.value.message == f"The image {path} is damaged at byte {offset}: {reason}."
    assert caught.value.facts == {"file": "pstree.img", "offset": offset}
    assert "Copy the image set again" in caught.value.remedy


@pytest.mark.parametrize(
    ("contents", "magic", "offset"),
    [
        (struct.pack("<II", 0x54564319, 0x12345678), "0x12345678", 4),
        (struct.pack("<II", 0xDEADBEEF, 0x50273030), "0xdeadbeef", 0),
        (struct.pack(">II", 0x54564319, 0x50273030), "0x19435654", 0),
        (image(MOUNTPOINTS), "0x55563928", 4),
        (image(INVENTORY), "0x58313116", 0),
        (b"text, no image", "0x74786574", 0),
    ],
)
def test_an_unknown_magic_is_named_with_its_place(path: Path, contents: bytes, magic: str, offset: int) -> None:
    path.write_bytes(contents)
    with pytest.raises(BadImageSet) as caught:
        read_records(path, PROCESS_TREE)
    assert f"{path} begins with the magic {magic} at byte {offset}, where" in caught.value.message
    assert "a process tree has 0x50273030" in caught.value.message
    assert "one of a version that is not known here" in caught.value.message
    assert "newer fleet.criu" in caught.value.remedy


def test_an_image_that_is_absent(path: Path) -> None:
    with pytest.raises(BadImageSet, match=r"is incomplete: it has no pstree.img\. .*a pre-dump holds memory alone"):
        read_records(path, PROCESS_TREE)


def test_a_pipe_or_a_folder_is_no_image(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(BadImageSet, match=r"pstree.img is no ordinary file"):
        read_records(path, PROCESS_TREE)
    path.unlink()
    path.mkdir()
    with pytest.raises(BadImageSet, match=r"pstree.img is no ordinary file"):
        read_records(path, PROCESS_TREE)


def test_links_devices_and_holes_are_not_read(path: Path) -> None:
    path.symlink_to("/dev/zero")
    with pytest.raises(BadImageSet, match=r"pstree.img is no ordinary file"):
        read_records(path, PROCESS_TREE)
    path.unlink()
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(BadImageSet, match="it has 1099511627776 bytes, and an image with a process tree may have"):
        read_records(path, PROCESS_TREE)


def test_a_record_is_not_read_that_is_longer_than_any(path: Path) -> None:
    path.write_bytes(image(MOUNTPOINTS) + (5 << 20).to_bytes(4, "little"))
    os.truncate(path, 20 << 20)
    with pytest.raises(BadImageSet, match="a record of 5242880 bytes begins here, and may have 4194304"):
        read_records(path, MOUNTPOINTS)


def test_many_records_take_no_more_memory_than_one(path: Path) -> None:
    path.write_bytes(image(PAGEMAP) + image(PAGEMAP, [(1, 5), (2, 6)])[8:] * 200_000)
    tracemalloc.start()
    try:
        assert sum(1 for _record in each_record(path, PAGEMAP)) == 200_000
        with pytest.raises(BadImageSet, match="it has more than 100000 records"):
            read_records(path, PAGEMAP)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
        tracemalloc.reset_peak()
        assert sum(1 for _record in each_record(path, PAGEMAP)) == 200_000
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_a_record_of_many_fields_is_refused(path: Path) -> None:
    path.write_bytes(image(PROCESS_TREE, [(number, 1) for number in range(1, 2000)]))
    with pytest.raises(BadImageSet, match="more than 1000 fields"):
        read_record(path, PROCESS_TREE)


def test_an_image_that_may_not_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    path.touch()
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BadImageSet, match=r"pstree.img cannot be read: Permission denied\. .*use become"):
        read_records(path, PROCESS_TREE)
