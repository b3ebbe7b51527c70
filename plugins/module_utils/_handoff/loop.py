# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both agents wait with: one thread, woken by descriptors, signals, work that ended elsewhere, and deadlines."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import threading
import time
from types import TracebackType
from typing import Any, Callable

Callback = Callable[[int], None]


class Loop:
    """A selector whose registered data are callbacks that get the descriptor.

    `on_stop` is called after SIGTERM or SIGINT, `on_deadline` when the time set by `set_deadline` is over.
    """

    def __init__(self, on_stop: Callable[[], None], on_deadline: Callable[[], None]) -> None:
        self.selector = selectors.DefaultSelector()
        self._on_stop = on_stop
        self._on_deadline = on_deadline
        self._deadline: float | None = None
        self._pending: list[tuple[Callable[[], bool], Callback, int]] = []
        self._done: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def __enter__(self) -> Loop:
        self._wake, self._woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)[::-1]
        self._stopped = False
        self._before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        # A child that ends must wake us too; the handler need not do anything.
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self._old_wakeup = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self.selector.register(self._woken, selectors.EVENT_READ, self._wake_up)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.selector.close()
        with self._lock:
            self._is_closed = True
        os.close(self._wake)
        os.close(self._woken)

    def watch(self, source: Any, callback: Callback, has_pending: Callable[[], bool] | None = None) -> None:
        """Call back when a source with fileno() is readable, or has taken more from its socket than it gave."""
        descriptor = source.fileno()
        self.selector.register(descriptor, selectors.EVENT_READ, callback)
        if has_pending is not None:
            self._pending.append((has_pending, callback, descriptor))

    def forget(self, source: Any) -> None:
        """Watch it no longer."""
        descriptor = source.fileno()
        self._pending = [entry for entry in self._pending if entry[2] != descriptor]
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(descriptor)

    def set_deadline(self, seconds: float | None) -> None:
        """Call `on_deadline` once after so many seconds from now, instead of what was set before."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def has_deadline(self) -> bool:
        """Whether a deadline was set and is still to come."""
        return self._deadline is not None

    def in_background(self, work: Callable[[], Any], then: Callable[[Any, Exception | None], None]) -> threading.Thread:
        """Do `work` in a thread, and call `then` with its result or error in this one."""

        def run() -> None:
            result, failure = None, None
            try:
                result = work()
            except Exception as error:  # it belongs to whoever waits for the result
                failure = error
            with self._lock:
                if self._is_closed:
                    return  # the number of the pipe may be that of a file by now
                self._done.append(lambda: then(result, failure))
                os.write(self._wake, b"w")

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def turn(self, seconds: float = 0.5) -> None:
        """Wait for something to happen, at most so long, and call back for all that did."""
        pending = [
            (callback, descriptor) for has_pending, callback, descriptor in self._pending if _is_true(has_pending)
        ]
        if self._deadline is not None:
            seconds = min(seconds, max(0.0, self._deadline - time.monotonic()))
        for key, _events in self.selector.select(0 if pending or self._stopped else seconds):
            if key.fd in self.selector.get_map():  # another callback may have removed it
                pending = [entry for entry in pending if entry[1] != key.fd]
                key.data(key.fd)
        for callback, descriptor in pending:
            if descriptor in self.selector.get_map():
                callback(descriptor)
        with self._lock:
            done, self._done = self._done, []
        for call in done:
            call()
        if self._stopped:
            self._stopped = False
            self._on_stop()
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._deadline = None
            self._on_deadline()

    def _stop(self, _number: int, _frame: Any) -> None:
        self._stopped = True

    def _wake_up(self, descriptor: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(descriptor, 4096)


def _is_true(has_pending: Callable[[], bool]) -> bool:
    try:
        return has_pending()
    except Exception:  # what is wrong with it the callback finds out; the others must have their turn
        return True
