# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long each phase of a handoff took on one host, by that host's monotonic clock."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Iterator


class Timings:
    """Phases with `started` and `seconds`, in the order in which they began."""

    def __init__(self) -> None:
        self._phases: dict[str, list[float]] = {}

    def begin(self, phase: str) -> None:
        """A phase begins now."""
        self._phases.setdefault(phase, [time.monotonic()])

    def end(self, phase: str) -> None:
        """A phase that began ends now; the first end counts."""
        if len(self._phases.get(phase, ())) == 1:
            self._phases[phase].append(time.monotonic())

    @contextlib.contextmanager
    def of(self, phase: str) -> Iterator[None]:
        """A phase that lasts as long as the context."""
        self.begin(phase)
        try:
            yield
        finally:
            self.end(phase)

    def seconds(self, phase: str) -> float:
        """How long an ended phase took; 0 if there was none."""
        times = self._phases.get(phase, ())
        return times[1] - times[0] if len(times) == 2 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """`{phase: {started, seconds}}` of the phases that ended."""
        return {
            phase: {"started": round(times[0], 6), "seconds": round(times[1] - times[0], 6)}
            for phase, times in self._phases.items()
            if len(times) == 2
        }
