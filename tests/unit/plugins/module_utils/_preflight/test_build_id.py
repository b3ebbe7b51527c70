# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fleet.criu.plugins.module_utils._preflight.build_id import build_id

ID = bytes(range(20))


def note(owner: bytes, kind: int, contents: bytes, order: str, alignment: int = 4) -> bytes:
    def pad(data: bytes) -> bytes:
        return data + b"\0" * (-len(data) % alignment)

    return pad(struct.pack(order + "III", len(owner), len(contents), kind) + owner) + pad(contents)


def elf(notes: bytes, bits: int = 64, order: str = "<", alignment: int = 4) -> bytes:
    """An ELF file with two segments, of which the second has the notes."""
    identification = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    if bits == 64:
        header = struct.pack(order + "HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
        segments = struct.pack(order + "IIQQQQQQ", 1, 5, 0, 0, 0, 0, 0, 4096)
        segments += struct.pack(order + "IIQQQQQQ", 4, 4, 176, 0, 0, len(notes), len(notes), alignment)
    else:
        header = struct.pack(order + "HHIIIIIHHHHHH", 2, 3, 1, 0, 52, 0, 0, 52, 32, 2, 0, 0, 0)
        segments = struct.pack(order + "IIIIIIII", 1, 0, 0, 0, 0, 0, 5, 4096)
        segments += struct.pack(order + "IIIIIIII", 4, 116, 0, 0, len(notes), len(notes), 4, alignment)
    return identification + header + segments + notes


def read(tmp_path: Path, data: bytes) -> str | None:
    (tmp_path / "program").write_bytes(data)
    return build_id(str(tmp_path / "program"))


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("alignment", [0, 4, 8])
def test_it_is_found_among_other_notes(tmp_path: Path, bits: int, order: str, alignment: int) -> None:
    notes = note(b"GNU\0", 1, b"abi!", order, alignment or 4) + note(b"Odd one\0", 3, b"12345", order, alignment or 4)
    notes += note(b"GNU\0", 3, ID, order, alignment or 4)
    assert read(tmp_path, elf(notes, bits, order, alignment)) == ID.hex()


def test_a_program_without_one_has_none(tmp_path: Path) -> None:
    assert read(tmp_path, elf(note(b"GNU\0", 1, ID, "<"))) is None
    assert read(tmp_path, elf(b"")) is None


def test_what_is_no_elf_file_has_none(tmp_path: Path) -> None:
    for data in (b"", b"\x7fELF", b"#!/bin/sh\n", b"\x7fELG" + elf(note(b"GNU\0", 3, ID, "<"))[4:]):
        assert read(tmp_path, data) is None


def test_a_truncated_one_has_none(tmp_path: Path) -> None:
    whole = elf(note(b"GNU\0", 3, ID, "<"))
    for length in range(len(whole)):
        assert read(tmp_path, whole[:length]) is None
    assert read(tmp_path, whole) == ID.hex()


def test_offsets_beyond_all_files_are_no_crash(tmp_path: Path) -> None:
    data = bytearray(elf(note(b"GNU\0", 3, ID, "<")))
    data[32:40] = b"\xff" * 8
    assert read(tmp_path, bytes(data)) is None


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        build_id(str(tmp_path / "none"))


@given(st.binary(max_size=200), st.sampled_from([1, 2]), st.sampled_from([1, 2]))
def test_no_bytes_make_it_crash(tmp_path_factory: pytest.TempPathFactory, rest: bytes, bits: int, order: int) -> None:
    path = tmp_path_factory.mktemp("elf") / "program"
    path.write_bytes(b"\x7fELF" + bytes([bits, order]) + rest)
    assert build_id(str(path)) is None or rest
