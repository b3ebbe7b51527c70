# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory in an image set: each `pagemap-*.img` says which pages there are, `pages-N.img` holds their contents."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_file import PAGEMAP, each_record
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_wire import COPY_AGAIN, Message, damaged
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet

# An image does not tell its page size; these are all that the architectures of CRIU have.
_PAGE_SIZES = (4096, 16384, 65536)

_IN_PARENT, _LAZY, _PRESENT = 1 << 0, 1 << 1, 1 << 2


@dataclass(frozen=True)
class ImageMemory:
    """How much memory. `bytes` are those of all pages in this image set, `page_size` is None if it has none.

    `parent_pages` have their contents in the set of an earlier pre-dump, the folder `parent`; `remote_pages` were left
    at the source for a lazy restore.
    """

    bytes: int
    pages: int
    page_size: int | None
    parent_pages: int
    remote_pages: int
    parent: str | None

    def as_dict(self) -> dict[str, Any]:
        """The memory in plain JSON types."""
        return asdict(self)


class _Count:
    """Pages as the page maps tell; `present` by the N of the file that holds them."""

    def __init__(self) -> None:
        self.present: dict[int, int] = {}
        self.in_parent = 0
        self.remote = 0

    def add(self, path: Path) -> None:
        records = each_record(path, PAGEMAP)
        head = next(records, None)
        if head is None:
            raise damaged(path, path.lstat().st_size, "it ends before its first record")
        pages_id = head.number(1, "pages_id")
        self.present.setdefault(pages_id, 0)
        for record in records:
            pages, flags = _number_of_pages(record), _flags(record)
            if flags & _PRESENT:
                self.present[pages_id] += pages
            elif flags & _IN_PARENT:
                self.in_parent += pages
            elif flags & _LAZY:
                self.remote += pages


def read_memory(images: Path) -> ImageMemory:
    """Count the pages, and hold the sizes of the files against it. Raises BadImageSet if they do not fit."""
    count = _Count()
    for path in sorted(images.glob("pagemap-*.img")):
        count.add(path)
    sizes = {number: _size(images, number, pages) for number, pages in sorted(count.present.items())}
    pages = sum(count.present.values())
    return ImageMemory(
        bytes=sum(sizes.values()),
        pages=pages,
        page_size=_page_size(images, count.present, sizes),
        parent_pages=count.in_parent,
        remote_pages=count.remote,
        parent=_parent(images),
    )


def _number_of_pages(record: Message) -> int:
    # Newer CRIU keeps the number in field 5, because it may not fit the 32 bits of field 2.
    wide = record.optional_number(5, "nr_pages")
    return record.number(2, "nr_pages") if wide is None else wide


def _flags(record: Message) -> int:
    flags = record.optional_number(4, "flags")
    if record.flag(3, "in_parent"):  # so it was before there were flags
        return (flags or 0) | _IN_PARENT
    return _PRESENT if flags is None else flags


def _size(images: Path, number: int, pages: int) -> int:
    path = images / f"pages-{number}.img"
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        if pages == 0:
            return 0
        raise BadImageSet(
            f"The image set {images} is incomplete: it has no {path.name}, which holds {pages} pages of memory.",
            COPY_AGAIN,
            {"file": path.name},
        ) from None


def _page_size(images: Path, present: dict[int, int], sizes: dict[int, int]) -> int | None:
    fitting = [size for size in _PAGE_SIZES if all(sizes[number] == present[number] * size for number in present)]
    if not fitting:
        # Most are whole: the page size that most files have shows the one that is not.
        size = max(_PAGE_SIZES, key=lambda size: sum(sizes[number] == present[number] * size for number in present))
        number = next(number for number in present if sizes[number] != present[number] * size)
        raise damaged(
            images / f"pages-{number}.img",
            min(sizes[number], present[number] * size),
            f"it has {sizes[number]} bytes, but its page map tells of {present[number]} pages of {size} bytes",
        )
    return fitting[0] if any(present.values()) else None


def _parent(images: Path) -> str | None:
    try:
        return os.readlink(images / "parent")
    except OSError:
        return None
