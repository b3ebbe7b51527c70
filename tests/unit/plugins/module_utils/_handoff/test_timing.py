# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._handoff import timing as subject
from ansible_collections.fleet.criu.plugins.module_utils._handoff.timing import Timings


class Clock:
    now = 10.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(subject, "time", made)
    return made


def test_phases_come_in_the_order_in_which_they_began(clock: Clock) -> None:
    timings = Timings()
    timings.begin("b")
    clock.now = 11.0
    timings.begin("a")
    clock.now = 13.1234567
    timings.end("a")
    timings.end("b")
    assert list(timings.as_dict().items()) == [
        ("b", {"started": 10.0, "seconds": 3.123457}),
        ("a", {"started": 11.0, "seconds": 2.123457}),
    ]
    assert timings.seconds("a") == pytest.approx(2.1234567)


def test_the_first_beginning_and_the_first_end_count(clock: Clock) -> None:
    timings = Timings()
    timings.begin("a")
    clock.now = 11.0
    timings.begin("a")
    timings.end("a")
    clock.now = 15.0
    timings.end("a")
    assert timings.seconds("a") == 1.0


def test_what_did_not_begin_or_end_is_no_phase() -> None:
    timings = Timings()
    timings.end("never")
    timings.begin("open")
    assert timings.as_dict() == {}
    assert (timings.seconds("never"), timings.seconds("open")) == (0.0, 0.0)


def test_a_phase_ends_with_its_context_also_by_an_error(clock: Clock) -> None:
    timings = Timings()

    def work() -> None:
        with timings.of("a"):
            clock.now = 12.0
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        work()
    assert timings.seconds("a") == 2.0
