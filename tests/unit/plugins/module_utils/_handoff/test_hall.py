# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._handoff.hall import Hall, Refusals, neighbourhood


def test_the_oldest_of_the_fullest_neighbourhood_goes() -> None:
    hall: Hall[str] = Hall(4)
    assert [hall.enter(guest, near, 1.0) for guest, near in (("a", b"1"), ("b", b"2"), ("c", b"2"), ("d", b"1"))] == [
        None
    ] * 4
    assert hall.enter("e", b"2", 1.0) in ("a", "b")
    assert len(hall) == 4
    hall = Hall(4)
    for guest, near in (("mine", b"1"), ("b", b"2"), ("c", b"2"), ("d", b"2")):
        hall.enter(guest, near, 1.0)
    assert [hall.enter(f"crowd {number}", b"2", 1.0) for number in range(3)] == ["b", "c", "d"]
    assert "mine" in hall
    assert hall.all() == ["mine", "crowd 0", "crowd 1", "crowd 2"]


def test_who_goes_leaves_a_place() -> None:
    hall: Hall[str] = Hall(1)
    hall.enter("a", b"1", 1.0)
    assert hall.leave("a")
    assert not hall.leave("a")
    assert hall.enter("b", b"1", 1.0) is None
    assert hall.next_late() == 1.0


def test_time_is_over_for_those_who_came_first() -> None:
    hall: Hall[str] = Hall(9)
    assert hall.next_late() is None
    for number in range(3):
        hall.enter(f"{number}", b"1", float(number))
    assert hall.late(0.5) == ["0"]
    assert hall.late(1.5) == ["0", "1"]
    assert hall.next_late() == 0.0


def test_what_waits_is_told_in_one_line_and_at_the_end() -> None:
    lines: list[str] = []
    refusals = Refusals(lines.append, 1.0)
    assert refusals.next_due() is None
    for number in range(5):
        refusals.note(f"{number}", 100.0 + number / 10)
    assert lines == ["0"]
    assert refusals.next_due() == 101.0
    refusals.tell(100.9)
    assert lines == ["0"]
    refusals.tell(101.0)
    assert lines == ["0", "4 (3 more were refused since the last line)"]
    assert refusals.next_due() is None
    refusals.note("5", 101.5)
    refusals.finish()
    refusals.finish()
    assert lines[2:] == ["5"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::7", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%lo", "fe80::2%eth0", True),
    ],
)
def test_neighbours_are_those_who_may_be_one_user(one: str, other: str, same: bool) -> None:
    assert (neighbourhood((one, 1)) == neighbourhood((other, 2, 0, 0))) is same
