# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who waits at the target's port, who has to go when it is full, and what is written of those who had to. No I/O.

A newcomer always finds a place: the one who has waited longest among those of the fullest neighbourhood leaves for it.
So nobody keeps another one out by being there, and whoever comes from elsewhere, or is quick, is not touched.
"""

from __future__ import annotations

import socket
import threading
from collections import OrderedDict
from typing import Any, Callable, Generic, Hashable, TypeVar

# The bytes of an IPv6 address that those have in common who may be one user.
_PREFIX = 8
_IPV4_MAPPED = b"\0" * 10 + b"\xff" * 2

Guest = TypeVar("Guest", bound=Hashable)


class Hall(Generic[Guest]):
    """Guests in the order in which they came, at most `places` of them."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._guests: OrderedDict[Guest, tuple[bytes, float]] = OrderedDict()
        self._neighbours: dict[bytes, OrderedDict[Guest, None]] = {}

    def __contains__(self, guest: object) -> bool:
        return guest in self._guests

    def __len__(self) -> int:
        return len(self._guests)

    def enter(self, guest: Guest, neighbourhood: bytes, until: float) -> Guest | None:
        """Take a guest in who may stay until then. Gives the one who has to leave for it, without another place."""
        leaves = None
        if len(self._guests) >= self._places:
            fullest = max(self._neighbours.values(), key=len)
            leaves = next(iter(fullest))
            self.leave(leaves)
        self._guests[guest] = (neighbourhood, until)
        self._neighbours.setdefault(neighbourhood, OrderedDict())[guest] = None
        return leaves

    def leave(self, guest: Guest) -> bool:
        """Let a guest go; says whether it was there."""
        neighbourhood, _until = self._guests.pop(guest, (None, 0.0))
        if neighbourhood is None:
            return False
        neighbours = self._neighbours[neighbourhood]
        del neighbours[guest]
        if not neighbours:
            del self._neighbours[neighbourhood]
        return True

    def late(self, now: float) -> list[Guest]:
        """Those whose time is over. All may stay equally long, so they are the first ones."""
        found = []
        for guest, (_neighbourhood, until) in self._guests.items():
            if until > now:
                break
            found.append(guest)
        return found

    def next_late(self) -> float | None:
        """When the next one's time is over, or None if nobody is here."""
        return next((until for _neighbourhood, until in self._guests.values()), None)

    def all(self) -> list[Guest]:
        """Everybody who is here."""
        return list(self._guests)


class Refusals:
    """Lines about those who were refused: one at once, and then one in each `seconds`, which counts the others.

    May be used by several threads.
    """

    def __init__(self, write: Callable[[str], None], seconds: float) -> None:
        self._write = write
        self._seconds = seconds
        self._lock = threading.Lock()
        self._next = 0.0
        self._count = 0
        self._last = ""

    def note(self, text: str, now: float) -> None:
        """Somebody was refused at this time (time.monotonic())."""
        with self._lock:
            self._count += 1
            self._last = text
            self._write_if_due(now)

    def tell(self, now: float) -> None:
        """Write what is due."""
        with self._lock:
            self._write_if_due(now)

    def next_due(self) -> float | None:
        """When something is to be written, or None if nothing waits."""
        with self._lock:
            return self._next if self._count else None

    def finish(self) -> None:
        """Write what waits."""
        with self._lock:
            self._write_if_due(self._next)

    def _write_if_due(self, now: float) -> None:
        if not self._count or now < self._next:
            return
        others = self._count - 1
        self._write(f"{self._last} ({others} more were refused since the last line)" if others else self._last)
        self._count = 0
        self._next = now + self._seconds


def neighbourhood(address: tuple[Any, ...]) -> bytes:
    """What those have in common who may be one: all of an IPv4 address, or the first half of an IPv6 one."""
    text = str(address[0]).partition("%")[0]
    if ":" not in text:
        return socket.inet_pton(socket.AF_INET, text)
    packed = socket.inet_pton(socket.AF_INET6, text)
    return packed[len(_IPV4_MAPPED) :] if packed.startswith(_IPV4_MAPPED) else packed[:_PREFIX]
