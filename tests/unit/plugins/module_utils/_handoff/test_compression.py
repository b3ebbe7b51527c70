# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from typing import Callable

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff import compression as subject
from ansible_collections.fleet.criu.plugins.module_utils._handoff.compression import (
    METHODS,
    Compressor,
    Decompressor,
    require,
)

COMPRESSED = [method for method in METHODS if method != "none"]


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    if request.param != "none" and shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed here")
    return str(request.param)


@pytest.fixture(params=COMPRESSED)
def compressed(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed here")
    return str(request.param)


def read_all(receive: Callable[[memoryview], int]) -> bytes:
    view = memoryview(bytearray(1 << 16))
    found = bytearray()
    while True:
        length = receive(view)
        if length == 0:
            return bytes(found)
        found += view[:length]


def test_what_was_written_comes_out_again(method: str) -> None:
    data = os.urandom(100_000) + b"memory" * 200_000
    sent, received = socket.socketpair()
    with sent, received:

        def write() -> None:
            compressor = Compressor(method, sent.sendall)
            for start in range(0, len(data), 300_000):
                compressor.write(memoryview(data)[start : start + 300_000])
            compressor.finish()
            sent.shutdown(socket.SHUT_WR)

        writer = threading.Thread(target=write)
        writer.start()
        decompressor = Decompressor(method, received.recv_into)
        assert read_all(decompressor) == data
        writer.join()
        decompressor.close()


def test_it_becomes_less(compressed: str) -> None:
    sent = bytearray()
    compressor = Compressor(compressed, sent.extend)
    compressor.write(memoryview(b"memory" * 200_000))
    compressor.finish()
    assert 0 < len(sent) < 100_000


def test_finish_waits_until_all_was_passed_on(compressed: str) -> None:
    sent = bytearray()

    def write(data: memoryview) -> None:
        time.sleep(0.1)
        sent.extend(data)

    compressor = Compressor(compressed, write)
    compressor.write(memoryview(b"x"))
    compressor.finish()
    assert sent


def test_what_goes_wrong_behind_it_comes_back(compressed: str) -> None:
    def fail(data: memoryview) -> None:
        raise CriuError("The link is lost.")

    compressor = Compressor(compressed, fail)

    def work() -> None:
        for _number in range(100):
            compressor.write(memoryview(os.urandom(1 << 18)))
        compressor.finish()

    with pytest.raises(CriuError, match=r"The link is lost\."):
        work()


def test_a_program_that_fails_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(subject._COMPRESS, "zstd", ["sh", "-c", "cat; exit 3"])
    compressor = Compressor("zstd", lambda data: None)
    with pytest.raises(CriuError, match="exit status 3"):
        compressor.finish()


def test_a_stream_that_is_cut_comes_to_its_end(compressed: str) -> None:
    sent = bytearray()
    compressor = Compressor(compressed, sent.extend)
    compressor.write(memoryview(os.urandom(1 << 20)))
    compressor.finish()
    rest = memoryview(sent)[: len(sent) // 2]

    def receive(view: memoryview) -> int:
        nonlocal rest
        if not rest:
            raise CriuError("The link is lost.")
        length = min(len(view), len(rest))
        view[:length] = rest[:length]
        rest = rest[length:]
        return length

    decompressor = Decompressor(compressed, receive)
    assert decompressor.fileno() is not None
    assert len(read_all(decompressor)) < 1 << 20
    decompressor.close()


def test_without_compression_the_peer_s_connection_is_what_becomes_readable() -> None:
    assert Decompressor("none", lambda view: 0).fileno() is None


def test_closing_ends_the_program(compressed: str) -> None:
    ready, hold = threading.Event(), threading.Event()

    def receive(view: memoryview) -> int:
        ready.set()
        hold.wait(5)
        return 0

    decompressor = Decompressor(compressed, receive)
    ready.wait(5)
    process = decompressor._process
    decompressor.close()
    hold.set()
    decompressor._thread.join()
    assert process is not None
    assert process.returncode == -9


def test_a_program_that_is_not_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    require("none")
    with pytest.raises(CriuError, match="lz4 is not installed here") as caught:
        require("lz4")
    assert "Install the package lz4" in caught.value.remedy
