# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_file import PAGEMAP
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_memory import read_memory
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet
from ansible_collections.fleet.criu.tests.unit.synthetic_images import PAGE, Field, image

PARENT, LAZY, PRESENT = 1, 2, 4


def put(folder: Path, name: str, number: int, *entries: list[Field], pages: int = 0, size: int = PAGE) -> None:
    (folder / f"pagemap-{name}.img").write_bytes(image(PAGEMAP, [(1, number)], *entries))
    (folder / f"pages-{number}.img").write_bytes(b"m" * pages * size)


def entry(pages: int, *fields: Field) -> list[Field]:
    return [(1, 0x1000), (2, pages), *fields]


def test_pages_by_where_their_contents_are(tmp_path: Path) -> None:
    put(tmp_path, "1", 1, entry(3, (4, PRESENT)), entry(5, (4, PARENT)), entry(2, (4, PRESENT | LAZY)), pages=5)
    put(tmp_path, "shmem-4", 2, entry(7, (4, LAZY)), entry(1, (4, PRESENT)), pages=1)
    (tmp_path / "parent").symlink_to("../first")
    assert read_memory(tmp_path).as_dict() == {
        "bytes": 6 * PAGE,
        "pages": 6,
        "page_size": PAGE,
        "parent_pages": 5,
        "remote_pages": 7,
        "parent": "../first",
    }


def test_before_there_were_flags(tmp_path: Path) -> None:
    put(tmp_path, "1", 1, entry(3), entry(5, (3, 1)), pages=3)
    found = read_memory(tmp_path)
    assert (found.pages, found.parent_pages) == (3, 5)


def test_a_newer_criu_counts_in_64_bits(tmp_path: Path) -> None:
    put(tmp_path, "1", 1, entry(0, (4, PRESENT), (5, 4)), entry(9, (4, PARENT), (5, 1 << 33)), pages=4)
    found = read_memory(tmp_path)
    assert (found.pages, found.parent_pages) == (4, 1 << 33)


@pytest.mark.parametrize("size", [4096, 16384, 65536])
def test_the_page_size_is_that_of_the_files(tmp_path: Path, size: int) -> None:
    put(tmp_path, "1", 1, entry(3, (4, PRESENT)), pages=3, size=size)
    assert read_memory(tmp_path).page_size == size


def test_no_memory_at_all(tmp_path: Path) -> None:
    put(tmp_path, "1", 1)
    (tmp_path / "pages-1.img").unlink()
    found = read_memory(tmp_path)
    assert (found.bytes, found.pages, found.page_size, found.parent) == (0, 0, None, None)


@pytest.mark.parametrize("lost", [1, PAGE, 3 * PAGE])
def test_truncated_pages_are_named(tmp_path: Path, lost: int) -> None:
    put(tmp_path, "1", 1, entry(3, (4, PRESENT)), pages=3)
    put(tmp_path, "2", 2, entry(5, (4, PRESENT)), pages=5)
    put(tmp_path, "3", 3, entry(2, (4, PRESENT)), pages=2)
    with (tmp_path / "pages-1.img").open("r+b") as stream:
        stream.truncate(3 * PAGE - lost)
    with pytest.raises(BadImageSet) as caught:
        read_memory(tmp_path)
    size = 3 * PAGE - lost
    assert caught.value.message == (
        f"The image {tmp_path}/pages-1.img is damaged at byte {size}: it has {size} bytes, "
        f"but its page map tells of 3 pages of 4096 bytes."
    )


def test_pages_that_no_page_map_knows_are_named(tmp_path: Path) -> None:
    put(tmp_path, "1", 1, entry(3, (4, PRESENT)), pages=4)
    with pytest.raises(BadImageSet, match=r"pages-1.img is damaged at byte 12288: it has 16384 bytes"):
        read_memory(tmp_path)


def test_missing_pages_are_named(tmp_path: Path) -> None:
    put(tmp_path, "1", 1, entry(3, (4, PRESENT)))
    (tmp_path / "pages-1.img").unlink()
    with pytest.raises(BadImageSet, match=r"it has no pages-1.img, which holds 3 pages"):
        read_memory(tmp_path)


def test_a_page_map_without_its_head(tmp_path: Path) -> None:
    (tmp_path / "pagemap-1.img").write_bytes(image(PAGEMAP))
    with pytest.raises(BadImageSet, match=r"pagemap-1.img is damaged at byte 8: it ends before its first record"):
        read_memory(tmp_path)
