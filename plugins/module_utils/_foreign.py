# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that somebody else may have written, read so that they cost little memory and time whatever they are.

A pipe would keep a reader waiting, a device may do anything when it is opened, and neither they nor a file with holes
say how much comes out of them. So only ordinary files are opened at all, and no more is read than was asked for.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import stat
from pathlib import Path
from typing import IO, Any, Iterator

# The largest that we write is the manifest of a workload with tens of thousands of mounts.
MOST_JSON = 32 << 20

# A value may be two bytes of text and take 250 bytes of memory: so they are counted before they are made.
_MOST_VALUES = 1_000_000
_VALUE_MARKS = (b",", b"[", b"{")
# Python before 3.11 needs quadratic time for the digits of a number; no honest one has more than 64 bits.
_MOST_DIGITS = 20


class UnfitFile(ValueError):
    """A file that is no ordinary one, or longer than it may be. Its text is a clause about the file."""


class NoFile(UnfitFile):
    """A pipe, a device, a socket or a symlink."""


@contextlib.contextmanager
def opened(path: Path, follow: bool = False) -> Iterator[IO[bytes]]:
    """An ordinary file for reading. A link in the last part of the path is refused unless `follow`.

    Raises UnfitFile if it is anything else, which is not opened then, and OSError.
    """
    place = os.open(str(path), os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        stream = open_place(place)
    finally:
        os.close(place)
    with stream:
        yield stream


def open_place(place: int) -> IO[bytes]:
    """The ordinary file that a descriptor (O_PATH) is of, for reading. Raises UnfitFile and OSError."""
    mode = os.fstat(place).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise NoFile("it is no ordinary file")
    # What was looked at is what is opened, whatever has taken its name by now.
    return open(f"/proc/self/fd/{place}", "rb")


def read_bytes(path: Path, most: int, follow: bool = False) -> bytes:
    """All of an ordinary file of at most so many bytes. Raises UnfitFile and OSError."""
    with opened(path, follow) as stream:
        return read_stream(stream, most)


def read_stream(stream: IO[bytes], most: int) -> bytes:
    """All of what `opened` or `open_place` gave, of at most so many bytes. Raises UnfitFile and OSError."""
    size = os.fstat(stream.fileno()).st_size
    if size > most:
        raise UnfitFile(f"it has {size} bytes and may have {most}")
    contents = stream.read(most + 1)
    if len(contents) > most:  # it grows, or is of a file system that does not tell sizes
        raise UnfitFile(f"it has more than {most} bytes")
    return contents


def read_tail(path: Path, most: int) -> bytes:
    """The last so many bytes of an ordinary file, or all of a shorter one. Raises UnfitFile and OSError."""
    with opened(path) as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - most))
        return stream.read(most)


def read_text(path: Path, most: int, follow: bool = False) -> str:
    """The same as text; what is no UTF-8 becomes surrogates. No line ends are changed."""
    return read_bytes(path, most, follow).decode("utf-8", "surrogateescape")


def read_json(path: Path, most: int = MOST_JSON) -> Any:
    """The value in a JSON file of at most so many bytes. Raises OSError, and ValueError for whatever is wrong."""
    return parse_json(read_bytes(path, most))


def parse_json(text: bytes) -> Any:
    """The value in this JSON. Raises ValueError for whatever is wrong with it, also for more than a million values."""
    if sum(map(text.count, _VALUE_MARKS)) > _MOST_VALUES:
        raise ValueError(f"it has more than {_MOST_VALUES} values")
    try:
        return json.loads(text.decode("utf-8"), parse_int=_short, parse_float=_finite, parse_constant=_none)
    except RecursionError:
        raise ValueError("its values lie too deep in each other") from None


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _none(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _short(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError("a number is too large")
    return int(digits)
