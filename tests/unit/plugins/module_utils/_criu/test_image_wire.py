# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_wire import Message
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet
from ansible_collections.fleet.criu.tests.unit.synthetic_images import message, varint

PATH = Path("/images/core-1.img")


def read(data: bytes) -> Message:
    return Message(data, PATH, 100)


def refusal(data: bytes) -> BadImageSet:
    with pytest.raises(BadImageSet) as caught:
        read(data)
    assert caught.value.message.startswith("The image /images/core-1.img is damaged at byte ")
    assert caught.value.remedy
    assert caught.value.facts["file"] == "core-1.img"
    return caught.value


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, (1 << 32) - 1, (1 << 64) - 1])
def test_numbers_of_all_lengths(value: int) -> None:
    assert read(message([(3, value)])).number(3, "x") == value


def test_high_field_numbers() -> None:
    assert read(message([(1018, 5), (536870911, 6)])).number(536870911, "x") == 6


def test_fixed_numbers_are_little_endian() -> None:
    found = read(varint(1 << 3 | 1) + struct.pack("<Q", 1 << 40) + varint(2 << 3 | 5) + struct.pack("<I", 77))
    assert (found.number(1, "a"), found.number(2, "b")) == (1 << 40, 77)


def test_text_is_utf_8_and_other_bytes_are_shown() -> None:
    found = read(message([(1, "ünï"), (2, b"a\xffb"), (3, "")]))
    assert [found.text(field, "t") for field in (1, 2, 3)] == ["ünï", "a\\xffb", ""]


def test_a_field_that_is_not_there() -> None:
    found = read(b"")
    assert found.optional_number(1, "x") is None
    assert found.optional_text(1, "x") is None
    assert found.message(1, "x") is None
    assert found.flag(1, "x") is False
    assert found.numbers(1, "x") == []


def test_a_field_that_must_be_there_is_named() -> None:
    with pytest.raises(BadImageSet, match=r"at byte 100: the record has no field 4 \(pgid\)"):
        read(b"").number(4, "pgid")
    with pytest.raises(BadImageSet, match=r"the record has no field 6 \(comm\)"):
        read(b"").text(6, "comm")


def test_a_field_of_another_type_is_named() -> None:
    found = read(message([(1, "text"), (2, 5)]))
    with pytest.raises(BadImageSet, match=r"field 1 \(pid\) of the record is not a number"):
        found.number(1, "pid")
    with pytest.raises(BadImageSet, match=r"field 2 \(comm\) of the record is not a text"):
        found.text(2, "comm")
    with pytest.raises(BadImageSet, match=r"field 2 \(tc\) of the record is not a message"):
        found.message(2, "tc")


def test_the_last_of_several_counts() -> None:
    assert read(message([(1, 5), (1, 6)])).number(1, "x") == 6


def test_repeated_numbers_may_be_packed() -> None:
    packed = b"".join(map(varint, [300, 1]))
    assert read(message([(5, 1), (5, 200), (5, packed)])).numbers(5, "threads") == [1, 200, 300, 1]


def test_a_message_within_a_message() -> None:
    found = read(message([(3, message([(6, "redis")]))])).message(3, "tc")
    assert found is not None
    assert found.text(6, "comm") == "redis"


@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        (b"\x08", 101, "the record ends within field 1"),
        (b"\x08\x80", 102, "the record ends within field 1"),
        (b"\x80", 101, "the record ends within a tag"),
        (b"\x0a", 101, "the record ends within the length of field 1"),
        (b"\x0a\x05abc", 102, "field 1 has 5 bytes, but its record ends after 3"),
        (b"\x09abc", 101, "field 1 has 8 bytes, but its record ends after 3"),
        (b"\x0dabc", 101, "field 1 has 4 bytes, but its record ends after 3"),
        (b"\x08" + b"\xff" * 11, 101, "field 1 is no number of 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x02", 101, "field 1 is no number of 64 bits"),
        (b"\x08\x01\x0b", 102, "field 1 has the unknown wire type 3"),
        (b"\x0f", 100, "field 1 has the unknown wire type 7"),
        (b"\x00\x01", 100, "there is no field 0"),
    ],
)
def test_damage_is_named_with_its_place(data: bytes, offset: int, reason: str) -> None:
    error = refusal(data)
    assert error.message == f"The image {PATH} is damaged at byte {offset}: {reason}."
    assert error.facts["offset"] == offset


def test_a_packed_number_that_is_cut_off() -> None:
    with pytest.raises(BadImageSet, match=r"ends within field 5 \(threads\)"):
        read(message([(5, b"\x01\x80")])).numbers(5, "threads")


def test_a_length_beyond_all_memory_is_refused_at_once() -> None:
    assert "field 1 has" in refusal(b"\x0a" + varint((1 << 64) - 1)).message
