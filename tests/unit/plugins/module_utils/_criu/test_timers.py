# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ctypes
import os
import select
import time
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu import image_file
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_timers import (
    ImageTimer,
    descriptors_of,
    read_timers,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.timers import LinuxKernel, seconds_of, set_right
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.tests.unit.fakes import FakeProc
from ansible_collections.fleet.criu.tests.unit.synthetic_images import OWN_IDS, image, write_timers

SECOND = 10**9
MILLISECOND = 10**6
INIT, CHILD = 500, 501
REALTIME, MONOTONIC = 0, 1
ABSOLUTE, CANCELLED = 1, 3
NOW = {REALTIME: 1_000_000 * SECOND, MONOTONIC: 5000 * SECOND}
DUMPED_AT = 999_990.0


class FakeKernel:
    """Keeps how timers were set; descriptors are real ones of nothing."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []
        self.sets: list[tuple[int, int, int, int]] = []
        self.left = 0
        self.error: OSError | None = None

    def descriptor(self, pid: int, number: int) -> int:
        self.calls.append((pid, number))
        if self.error is not None:
            raise self.error
        return os.open("/dev/null", os.O_RDONLY)

    def remaining(self, descriptor: int) -> int:
        return self.left

    def set(self, descriptor: int, flags: int, value: int, interval: int, ticks: int) -> None:
        self.sets.append((flags, value, interval, ticks))

    def now(self, clock: int) -> int:
        return NOW[clock]


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    found = FakeProc(tmp_path / "proc")
    found.add(INIT, status=f"NSpid:\t{INIT}\t1\n")
    found.add(CHILD, parent=INIT, status=f"NSpid:\t{CHILD}\t7\n")
    return found


def timer(clock: int = MONOTONIC, ticks: int = 0, flags: int = 0, value: int = 0, interval: int = 0) -> ImageTimer:
    return ImageTimer(3, clock, ticks, flags, value, interval)


def set_one(tmp_path: Path, proc: FakeProc, one: ImageTimer, kernel: FakeKernel) -> list[str]:
    write_timers(tmp_path, {one.id: one}, {7: {4: one.id}})
    return set_right(tmp_path, INIT, DUMPED_AT, proc, kernel)


# What is in the images


def test_timers_are_found_among_other_files(tmp_path: Path) -> None:
    one = timer(REALTIME, 2, ABSOLUTE, 3 * SECOND + 5, 7 * MILLISECOND)
    write_timers(tmp_path, {3: one}, {1: {9: 3}, 7: {}})
    assert read_timers(tmp_path) == [one]
    assert descriptors_of(tmp_path, 1) == {9: 3}
    assert descriptors_of(tmp_path, 7) == {}


def test_images_without_any_file_have_no_timer(tmp_path: Path) -> None:
    assert read_timers(tmp_path) == []
    assert descriptors_of(tmp_path, 1) == {}


def test_what_is_of_no_timer_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "files.img"
    no_message = b"\x03\0\0\0\x08%c\x07"
    path.write_bytes(image(image_file.FILES) + no_message % 1)
    assert read_timers(tmp_path) == []
    path.write_bytes(image(image_file.FILES) + no_message % 17)
    with pytest.raises(BadImageSet, match="no field 0"):
        read_timers(tmp_path)


def test_ids_without_descriptors_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "ids-1.img").write_bytes(image(image_file.NAMESPACE_IDS, OWN_IDS))
    assert descriptors_of(tmp_path, 1) == {}


# What is to be done


@pytest.mark.parametrize(
    "one",
    [
        timer(),
        timer(ticks=1),
        timer(value=SECOND),
        timer(value=SECOND, interval=SECOND),
        timer(ticks=1, value=MILLISECOND, interval=SECOND),
    ],
)
def test_what_criu_restores_as_it_was_is_left_alone(tmp_path: Path, proc: FakeProc, one: ImageTimer) -> None:
    kernel = FakeKernel()
    assert set_one(tmp_path, proc, one, kernel) == []
    assert kernel.calls == []


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        # A periodic one with expirations that nobody has read.
        (timer(ticks=1, interval=SECOND), (0, SECOND, SECOND, 1)),
        (timer(REALTIME, ticks=4, interval=MILLISECOND), (0, MILLISECOND, MILLISECOND, 4)),
        (timer(ticks=1, flags=ABSOLUTE, interval=SECOND), (ABSOLUTE, NOW[MONOTONIC] + SECOND, SECOND, 1)),
        (timer(REALTIME, 1, CANCELLED, 0, SECOND), (CANCELLED, NOW[REALTIME] + SECOND, SECOND, 1)),
        # An absolute one, to the nanosecond, and a time of day as it was when it was dumped.
        (timer(flags=ABSOLUTE, value=SECOND + 7), (ABSOLUTE, NOW[MONOTONIC] + SECOND + 7, 0, 0)),
        (timer(REALTIME, 0, ABSOLUTE, 30 * SECOND, 0), (ABSOLUTE, NOW[REALTIME] + 20 * SECOND, 0, 0)),
        # One that has expired, read or not, or that was disarmed, must not expire again.
        (timer(flags=ABSOLUTE), (ABSOLUTE, 0, 0, 0)),
        (timer(REALTIME, 1, ABSOLUTE), (ABSOLUTE, 0, 0, 1)),
    ],
)
def test_what_criu_sets_wrong_is_set_right(
    tmp_path: Path, proc: FakeProc, one: ImageTimer, expected: tuple[int, int, int, int]
) -> None:
    kernel = FakeKernel()
    assert set_one(tmp_path, proc, one, kernel) == ["timer 4 of process 501 was set right"]
    assert kernel.calls == [(CHILD, 4)]
    assert kernel.sets == [expected]


def test_without_a_time_of_the_dump_a_time_of_day_goes_on_where_it_was(tmp_path: Path, proc: FakeProc) -> None:
    kernel = FakeKernel()
    write_timers(tmp_path, {3: timer(REALTIME, 0, ABSOLUTE, SECOND, 0)}, {1: {4: 3}})
    set_right(tmp_path, INIT, None, proc, kernel)
    assert kernel.sets == [(ABSOLUTE, NOW[REALTIME] + SECOND, 0, 0)]


def test_a_timer_that_a_later_criu_has_armed_is_left_alone(tmp_path: Path, proc: FakeProc) -> None:
    kernel = FakeKernel()
    kernel.left = 5
    assert set_one(tmp_path, proc, timer(ticks=1, interval=SECOND), kernel) == ["timer 4 of process 501 runs"]
    assert kernel.sets == []


def test_a_timer_that_many_share_is_set_once(tmp_path: Path, proc: FakeProc) -> None:
    kernel = FakeKernel()
    write_timers(tmp_path, {3: timer(ticks=1, interval=SECOND)}, {1: {4: 3, 5: 3}, 7: {4: 3}})
    assert len(set_right(tmp_path, INIT, None, proc, kernel)) == 1
    assert len(kernel.sets) == 1


def test_pids_are_those_of_the_workload_s_own_namespace(tmp_path: Path, proc: FakeProc) -> None:
    # A child in one more pid namespace; and a workload without any.
    kernel = FakeKernel()
    proc.add(502, parent=INIT, status="NSpid:\t502\t9\t1\n")
    write_timers(tmp_path, {3: timer(ticks=1, interval=SECOND)}, {9: {6: 3}})
    set_right(tmp_path, INIT, None, proc, kernel)
    assert kernel.calls == [(502, 6)]
    proc.add(503, own_namespaces=["mnt"], status="NSpid:\t503\n")
    write_timers(tmp_path, {3: timer(ticks=1, interval=SECOND)}, {503: {8: 3}})
    set_right(tmp_path, 503, None, proc, kernel)
    assert kernel.calls[1:] == [(503, 8)]


def test_a_timer_that_cannot_be_armed_is_an_error(tmp_path: Path, proc: FakeProc) -> None:
    kernel = FakeKernel()
    kernel.error = OSError(38, "Function not implemented")
    with pytest.raises(
        CriuError, match=r"timer 4 of process 501 would stand still.*Function not implemented"
    ) as raised:
        set_one(tmp_path, proc, timer(ticks=1, interval=SECOND), kernel)
    assert "Linux 5.6" in raised.value.remedy
    said = set_one(tmp_path, proc, timer(flags=ABSOLUTE, value=SECOND), kernel)
    assert said == ["timer 4 of process 501 was left as CRIU has set it: Function not implemented"]


def test_a_timer_in_a_message_would_stand_still_too(tmp_path: Path, proc: FakeProc) -> None:
    write_timers(tmp_path, {3: timer(ticks=1, interval=SECOND)}, {1: {}, 7: {}})
    with pytest.raises(CriuError, match="message in a Unix socket"):
        set_right(tmp_path, INIT, None, proc, FakeKernel())


def test_the_time_of_an_image_set() -> None:
    assert seconds_of("1970-01-01T00:01:00.500000+00:00") == 60.5
    for wrong in ("", "0001-01-01T00:00:00", "9999-12-31T23:59:59-23:59", "x", 5, None):
        assert seconds_of(wrong) is None or isinstance(seconds_of(wrong), float)  # type: ignore[arg-type]
    assert seconds_of("") is None


# The real kernel


@pytest.mark.parametrize("number", [3, (1 << 64) - 1])
@pytest.mark.parametrize("flags", [0, ABSOLUTE, (1 << 32) - 1])
@pytest.mark.parametrize("interval", [SECOND, ((1 << 64) - 1) * SECOND])
def test_numbers_that_no_timer_has_are_an_error_of_our_own(
    tmp_path: Path, number: int, flags: int, interval: int
) -> None:
    one = ImageTimer(3, (1 << 32) - 1, (1 << 64) - 1, flags, 0, interval)
    write_timers(tmp_path, {3: one}, {os.getpid(): {number: 3}})
    expected = "was left as CRIU has set it" if flags else "would stand still"
    assert expected in what_is_said(tmp_path)


def what_is_said(images: Path) -> str:
    try:
        return set_right(images, os.getpid(), 1e300, OwnPid())[0]
    except CriuError as error:
        return error.message


@pytest.fixture
def descriptor() -> Iterator[int]:
    created = ctypes.CDLL(None).timerfd_create(MONOTONIC, os.O_NONBLOCK)
    yield created
    os.close(created)


def expirations(descriptor: int, seconds: float) -> int:
    return int.from_bytes(os.read(descriptor, 8), "little") if select.select([descriptor], [], [], seconds)[0] else 0


def test_a_timer_that_criu_has_disarmed_ticks_again(tmp_path: Path, descriptor: int) -> None:
    one = timer(ticks=3, interval=5 * MILLISECOND)
    write_timers(tmp_path, {3: one}, {os.getpid(): {descriptor: 3}})
    assert expirations(descriptor, 0.02) == 0
    said = set_right(tmp_path, os.getpid(), None, OwnPid())
    assert said == [f"timer {descriptor} of process {os.getpid()} was set right"]
    assert expirations(descriptor, 0) == 3, "those that were not read"
    assert expirations(descriptor, 5.0) > 0
    assert expirations(descriptor, 5.0) > 0
    assert set_right(tmp_path, os.getpid(), None, OwnPid()) == [f"timer {descriptor} of process {os.getpid()} runs"]


def test_an_absolute_timer_is_set_to_its_time(tmp_path: Path, descriptor: int) -> None:
    kernel = LinuxKernel()
    kernel.set(descriptor, ABSOLUTE, time.monotonic_ns() + 500 * SECOND, SECOND, 0)
    write_timers(tmp_path, {3: timer(flags=ABSOLUTE, value=1000 * SECOND)}, {os.getpid(): {descriptor: 3}})
    set_right(tmp_path, os.getpid(), None, OwnPid())
    assert 999 * SECOND < kernel.remaining(descriptor) <= 1000 * SECOND
    fdinfo = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    assert "settime flags: 01" in fdinfo
    assert "it_interval: (0, 0)" in fdinfo


def test_the_kernel_says_no() -> None:
    with pytest.raises(OSError, match="No such process"):
        LinuxKernel().descriptor(5_000_000, 0)
    with pytest.raises(OSError, match="Invalid argument"):
        LinuxKernel().set(os.open("/dev/null", os.O_RDONLY), 0, 1, 0, 0)
    assert LinuxKernel().now(MONOTONIC) > 0


class OwnPid(Proc):
    """The real proc file system, where this process may have more pids than one."""

    def status(self, pid: int) -> dict[str, str]:
        return {}
