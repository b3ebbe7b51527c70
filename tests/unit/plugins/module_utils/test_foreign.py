# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils import _foreign as subject


def test_an_ordinary_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a\r\n\xff")
    assert subject.read_bytes(path, 4) == b"a\r\n\xff"
    assert subject.read_text(path, 4) == "a\r\n\udcff"
    path.write_bytes(b'{"a": [1]}')
    assert subject.read_json(path) == {"a": [1]}


def test_what_is_no_ordinary_file_is_not_even_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "file").touch()
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "link", "zero"):
        with pytest.raises(subject.UnfitFile, match="no ordinary file"):
            subject.read_bytes(tmp_path / name, 10)
    with pytest.raises(subject.UnfitFile, match="no ordinary file"):
        subject.read_bytes(tmp_path / "zero", 10, follow=True)
    assert subject.read_bytes(tmp_path / "link", 10, follow=True) == b""
    with pytest.raises(IsADirectoryError):
        subject.read_bytes(tmp_path, 10)
    with pytest.raises(FileNotFoundError):
        subject.read_bytes(tmp_path / "absent", 10)


def test_a_file_is_not_read_that_is_longer_than_it_may_be(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    with pytest.raises(subject.UnfitFile, match="it has 5 bytes and may have 4"):
        subject.read_bytes(path, 4)
    os.truncate(path, 1 << 40)
    tracemalloc.start()
    try:
        with pytest.raises(subject.UnfitFile, match="1099511627776 bytes"):
            subject.read_json(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_does_not_tell_its_size_is_read_no_further(tmp_path: Path) -> None:
    assert os.stat("/proc/self/mountinfo").st_size == 0
    assert subject.read_bytes(Path("/proc/self/comm"), 64)
    with pytest.raises(subject.UnfitFile, match="more than 3 bytes"):
        subject.read_bytes(Path("/proc/self/mountinfo"), 3)


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b"[" + b"[]," * 600_000 + b"[]]", b"\xff", b"", b'{"a": 1' + b"0" * 2_000_000 + b"}"]
)
def test_json_that_is_none_is_a_value_error_and_costs_little(text: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError):  # noqa: PT011 - whatever its words are
            subject.parse_json(text)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
