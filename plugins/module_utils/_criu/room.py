# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory for a workload that is to come, taken before its freeze and given back when CRIU needs it.

So the kernel throws out what it only keeps for speed, and a hypervisor finds the pages, while the workload still runs.
They must not be given back sooner: a guest tells its hypervisor of free pages within two seconds (virtio's free page
reporting), and the hypervisor takes them, to be found once more in the freeze.
"""

from __future__ import annotations

import mmap
import threading
from contextlib import suppress
from pathlib import Path
from typing import Callable

from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc

# proc(5): from -1000, never, to 1000, before all others.
_KILLED_FIRST = Path("/proc/self/oom_score_adj")
_PIECE = 16 << 20


class Room:
    """So many bytes of memory, held for somebody else by a thread that calls `hold`.

    If the kernel runs short of memory meanwhile, it is to end us and nobody else.
    """

    def __init__(self, size: int) -> None:
        # Without enough of it CRIU may still find what it needs: memory that is zero is in no image.
        self._size = size if size <= _available_bytes() else 0
        self._is_needed = threading.Event()
        self.pieces: list[mmap.mmap] = []

    def hold(self, when_held: Callable[[], object]) -> None:
        """Take the memory, say so, and keep it until `give_back`, which may come while it is being taken."""
        before = _KILLED_FIRST.read_text("ascii")
        _set_killed_first("1000")
        with suppress(OSError):  # there is less than was said
            while len(self.pieces) < self._size // _PIECE and not self._is_needed.is_set():
                self.pieces.append(_taken_piece())
        when_held()
        self._is_needed.wait()
        while self.pieces:
            self.pieces.pop().close()
        _set_killed_first(before)

    def give_back(self) -> None:
        """Let the other thread give it back, beside whoever takes it now."""
        self._is_needed.set()


def _taken_piece() -> mmap.mmap:
    piece = mmap.mmap(-1, _PIECE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # They are given back at once, where 1 GiB of small ones takes 0.07 s, and CRIU would begin with others.
    with suppress(OSError):  # a kernel without huge pages
        piece.madvise(mmap.MADV_HUGEPAGE)
    for offset in range(0, _PIECE, mmap.PAGESIZE):
        piece[offset] = 1
    return piece


def _set_killed_first(value: str) -> None:
    # CRIU runs already, and keeps what it has.
    with suppress(OSError):  # /proc may be read-only
        _KILLED_FIRST.write_text(value, "ascii")


def _available_bytes() -> int:
    # Without what others may want meanwhile.
    return Proc().meminfo().get("MemAvailable", 0) * 3 // 4
