# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._handoff.loop import Loop


class Bench:
    """A loop that notes what it was called for, and a pair of sockets."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.loop = Loop(lambda: self.events.append("stop"), lambda: self.events.append("deadline"))
        self.ours, self.theirs = socket.socketpair()

    def note(self, descriptor: int) -> None:
        self.events.append(os.read(descriptor, 100))

    def turn_until(self, condition: Callable[[], Any]) -> None:
        until = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < until, self.events
            self.loop.turn()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    with made.ours, made.theirs, made.loop:
        yield made


def test_what_is_readable_is_called_for(bench: Bench) -> None:
    bench.loop.watch(bench.ours, bench.note)
    bench.theirs.send(b"x")
    bench.loop.turn()
    bench.loop.turn(0)
    assert bench.events == [b"x"]


def test_what_is_forgotten_is_not_called_for(bench: Bench) -> None:
    bench.loop.watch(bench.ours, bench.note, lambda: True)
    bench.loop.forget(bench.ours)
    bench.loop.forget(bench.ours)
    bench.theirs.send(b"x")
    bench.loop.turn(0)
    assert bench.events == []


def test_what_was_taken_from_the_socket_already_is_called_for_once_and_at_once(bench: Bench) -> None:
    left = [b"taken"]
    bench.loop.watch(bench.ours, lambda descriptor: bench.events.append(left.pop()), lambda: bool(left))
    began = time.monotonic()
    bench.loop.turn(3.0)
    assert time.monotonic() - began < 1.0
    assert bench.events == [b"taken"]


def test_what_is_readable_and_taken_is_called_for_once_a_turn(bench: Bench) -> None:
    bench.loop.watch(bench.ours, bench.note, lambda: True)
    bench.theirs.send(b"x")
    bench.loop.turn()
    assert bench.events == [b"x"]


def test_one_whose_state_is_broken_keeps_no_other_from_its_turn(bench: Bench) -> None:
    first, second = socket.socketpair()

    def broken() -> bool:
        raise ValueError("bad record")

    with first, second:
        bench.loop.watch(first, lambda descriptor: bench.events.append("called"), broken)
        bench.loop.watch(bench.ours, bench.note)
        bench.theirs.send(b"x")
        bench.loop.turn()
    assert bench.events == [b"x", "called"]


def test_one_may_forget_another_that_is_due(bench: Bench) -> None:
    first, second = socket.socketpair()
    with first, second:
        watched = {bench.ours.fileno(): first, first.fileno(): bench.ours}

        def forget_other(descriptor: int) -> None:
            bench.events.append(descriptor)
            bench.loop.forget(watched[descriptor])

        bench.loop.watch(bench.ours, forget_other)
        bench.loop.watch(first, forget_other)
        bench.theirs.send(b"x")
        second.send(b"x")
        bench.loop.turn()
    assert len(bench.events) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop_once(bench: Bench, number: int) -> None:
    os.kill(os.getpid(), number)
    began = time.monotonic()
    bench.loop.turn(5.0)
    bench.loop.turn(0)
    assert bench.events == ["stop"]
    assert time.monotonic() - began < 2.0


def test_a_signal_in_the_middle_of_the_wait_ends_it(bench: Bench) -> None:
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
    bench.turn_until(lambda: bench.events)
    assert bench.events == ["stop"]


def test_a_child_that_ends_wakes_it(bench: Bench) -> None:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "sleep 0.05"], os.environ)
    began = time.monotonic()
    bench.loop.turn(5.0)
    os.waitpid(pid, 0)
    assert time.monotonic() - began < 3.0


def test_a_deadline_comes_once(bench: Bench) -> None:
    bench.loop.set_deadline(0.05)
    assert bench.loop.has_deadline()
    bench.turn_until(lambda: bench.events)
    assert not bench.loop.has_deadline()
    bench.loop.turn(0)
    assert bench.events == ["deadline"]


def test_a_deadline_may_be_moved_and_taken_back(bench: Bench) -> None:
    bench.loop.set_deadline(0.0)
    bench.loop.set_deadline(60.0)
    bench.loop.turn(0.01)
    assert bench.events == []
    bench.loop.set_deadline(0.0)
    bench.loop.set_deadline(None)
    bench.loop.turn(0.01)
    assert (bench.events, bench.loop.has_deadline()) == ([], False)


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_done_in_the_background_is_reported_in_the_foreground(bench: Bench, fails: bool) -> None:
    error = ValueError("no")

    def work() -> str:
        assert threading.current_thread() is not threading.main_thread()
        if fails:
            raise error
        return "done"

    def then(result: Any, failure: Exception | None) -> None:
        bench.events.append((result, failure, threading.current_thread() is threading.main_thread()))

    thread = bench.loop.in_background(work, then)
    thread.join()
    assert bench.events == []
    began = time.monotonic()
    bench.loop.turn(5.0)
    assert time.monotonic() - began < 2.0
    assert bench.events == [(None, error, True) if fails else ("done", None, True)]


def test_afterwards_signals_are_as_before_and_late_work_writes_nowhere() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
    hold = threading.Event()
    events: list[Any] = []
    with Loop(lambda: None, lambda: None) as loop:
        thread = loop.in_background(hold.wait, lambda result, error: events.append(result))
    # The next file gets the number that the pipe had.
    reading, writing = os.pipe()
    more = [os.dup(writing) for _number in range(4)]
    hold.set()
    thread.join()
    os.set_blocking(reading, False)
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    for descriptor in (reading, writing, *more):
        os.close(descriptor)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert events == []
