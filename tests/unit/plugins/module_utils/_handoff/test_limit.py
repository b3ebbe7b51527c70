# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._handoff import limit as subject
from ansible_collections.fleet.criu.plugins.module_utils._handoff.limit import Limit


class Clock:
    """A clock that only sleeping moves on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(subject, "time", made)
    return made


def test_the_rate_holds_on_average_over_all_that_was_written(clock: Clock) -> None:
    written: list[bytes] = []
    limit = Limit(1000, lambda data: written.append(bytes(data)))
    for _number in range(3):
        limit(memoryview(b"x" * 500))
    assert clock.now == pytest.approx(101.5)
    clock.now += 10.0
    limit(memoryview(b"x" * 500))
    assert clock.slept == pytest.approx([0.5, 0.5, 0.5]), "what was slow before may be made up for"
    assert b"".join(written) == b"x" * 2000


def test_no_limit_never_waits(clock: Clock) -> None:
    written: list[int] = []
    Limit(None, lambda data: written.append(len(data)))(memoryview(b"x" * 10**6))
    assert (clock.slept, written) == ([], [10**6])


def test_the_time_is_that_of_the_first_byte() -> None:
    limit = Limit(100_000, lambda data: None)
    time.sleep(0.05)
    began = time.monotonic()
    limit(memoryview(b"x" * 5000))
    assert time.monotonic() - began >= 0.045
