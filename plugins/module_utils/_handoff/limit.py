# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A limit for bytes a second."""

from __future__ import annotations

import time
from typing import Callable


class Limit:
    """Writes at most so many bytes a second, on average over what was written so far. None is no limit."""

    def __init__(self, bytes_per_second: int | None, write: Callable[[memoryview], None]) -> None:
        self._rate = bytes_per_second
        self._write = write
        self._begun: float | None = None
        self._written = 0

    def __call__(self, data: memoryview) -> None:
        """Write, and wait as long as that was too fast."""
        self._write(data)
        if self._rate is None:
            return
        now = time.monotonic()
        if self._begun is None:
            self._begun = now
        self._written += len(data)
        ahead = self._begun + self._written / self._rate - now
        if ahead > 0:
            time.sleep(ahead)
