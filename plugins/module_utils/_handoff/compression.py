# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compression of the image stream by zstd or lz4, where both hosts have that program."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from typing import Callable

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError

NONE = "none"
METHODS = (NONE, "zstd", "lz4")

_COMPRESS = {"zstd": ["zstd", "-1", "-q", "-c"], "lz4": ["lz4", "-1", "-q", "-c"]}
_DECOMPRESS = {"zstd": ["zstd", "-d", "-q", "-c"], "lz4": ["lz4", "-d", "-q", "-c"]}
_CHUNK = 1 << 18


def require(method: str) -> None:
    """Raises CriuError if this host cannot do it."""
    if method != NONE and shutil.which(method) is None:
        raise CriuError(
            f"{method} is not installed here.", f"Install the package {method}, or choose another compression."
        )


class Compressor:
    """Compresses what is written to it and passes it on. `finish` waits until all has been passed on."""

    def __init__(self, method: str, write: Callable[[memoryview], None]) -> None:
        self._write = write
        self._filter = None if method == NONE else _Filter(_COMPRESS[method], write)

    def write(self, data: memoryview) -> None:
        """Raises what `write` raised for earlier data."""
        if self._filter is None:
            self._write(data)
        else:
            self._filter.feed(data)

    def finish(self) -> None:
        """No more will come."""
        if self._filter is not None:
            self._filter.finish()


class Decompressor:
    """Gives what a Compressor was given: `receive` fills a view from the peer, and so does this."""

    def __init__(self, method: str, receive: Callable[[memoryview], int]) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._receive = receive
        if method != NONE:
            self._process = _start(_DECOMPRESS[method])
            self._thread = threading.Thread(target=self._feed, daemon=True)
            self._thread.start()

    def __call__(self, view: memoryview) -> int:
        """Fill the view; 0 at the end."""
        if self._process is None:
            return self._receive(view)
        if self._process.stdout is None:
            raise AssertionError
        return os.readv(self._process.stdout.fileno(), [view])

    def fileno(self) -> int | None:
        """What becomes readable when there is more, if it is not the peer's connection."""
        return None if self._process is None or self._process.stdout is None else self._process.stdout.fileno()

    def close(self) -> None:
        """End the program, if it still runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is None:
                raise AssertionError
            self._process.stdout.close()

    def _feed(self) -> None:
        if self._process is None:
            raise AssertionError
        if self._process.stdin is None:
            raise AssertionError
        view = memoryview(bytearray(_CHUNK))
        try:
            while True:
                length = self._receive(view)
                if length == 0:
                    break
                _write_all(self._process.stdin.fileno(), view[:length])
        except (OSError, CriuError):
            pass  # the reader sees that the stream ends too early
        finally:
            self._process.stdin.close()


class _Filter:
    def __init__(self, argv: list[str], write: Callable[[memoryview], None]) -> None:
        self._process = _start(argv)
        self._error: Exception | None = None
        self._write = write
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def feed(self, data: memoryview) -> None:
        if self._process.stdin is None:
            raise AssertionError
        try:
            _write_all(self._process.stdin.fileno(), data)
        except OSError as error:
            self._process.stdin.close()
            self._thread.join()
            raise self._error or CriuError(f"{self._process.args!r} ended too early: {error}.") from error

    def finish(self) -> None:
        if self._process.stdin is None:
            raise AssertionError
        self._process.stdin.close()
        self._thread.join()
        if self._error is not None:
            raise self._error
        if self._process.wait() != 0:
            raise CriuError(f"Compression failed with exit status {self._process.returncode}.", "Send uncompressed.")

    def _drain(self) -> None:
        if self._process.stdout is None:
            raise AssertionError
        view = memoryview(bytearray(_CHUNK))
        try:
            while True:
                length = os.readv(self._process.stdout.fileno(), [view])
                if length == 0:
                    break
                self._write(view[:length])
        except Exception as error:  # `feed` and `finish` raise it where it is waited for
            self._error = error
            self._process.kill()
        finally:
            self._process.stdout.close()
            self._process.wait()


def _start(argv: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C"},
        cwd="/",
    )


def _write_all(descriptor: int, data: memoryview) -> None:
    while len(data):
        data = data[os.write(descriptor, data) :]
