# SPDX-License-Identifier: GPL-3.0-or-later
"""Rewrite files all the time so that only their contents tell it: their sizes and times stay as they were.

    rewriter.py FOLDER FILE COUNT

In FOLDER are so many files, and FILE is one more. Each is read before it is written anew; one that is not as it was
left is named in FOLDER/lost. Every other time a file is replaced instead of written into. FOLDER/journal gets a line
`number sha256` before each write, FOLDER/passes the number of times that all have been written.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time

SIZE = 64
TIME = 1_700_000_000_123_456_789


def main() -> None:
    folder, single, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    paths = [f"{folder}/files/{number % 10}/{number:05}" for number in range(count)] + [single]
    for number in range(10):
        os.makedirs(f"{folder}/files/{number}")
    journal = os.open(f"{folder}/journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    written: dict[int, bytes] = {}
    passes = 0
    while True:
        passes += 1
        for number, path in enumerate(paths):
            if number in written and read(path) != written[number]:
                note(f"{folder}/lost", f"{path} in pass {passes}\n".encode())
            text = f"{number:05} {passes:08}\n".encode().ljust(SIZE, b".")
            os.write(journal, f"{number} {hashlib.sha256(text).hexdigest()}\n".encode())
            # What is bound cannot be replaced.
            replaces = passes % 2 == 0 and path != single
            write(f"{path}.new" if replaces else path, text)
            if replaces:
                os.replace(f"{path}.new", path)
            written[number] = text
        replace_passes(f"{folder}/passes", passes)
        # Each pass makes the journal longer, which is copied with the rest.
        time.sleep(0.5)


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return b""


def write(path: str, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    os.pwrite(descriptor, text, 0)
    os.utime(descriptor, ns=(TIME, TIME))
    os.close(descriptor)


def note(path: str, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(descriptor, line)
    os.close(descriptor)


def replace_passes(path: str, passes: int) -> None:
    with open(f"{path}.new", "w") as stream:
        stream.write(f"{passes}\n")
    os.replace(f"{path}.new", path)


main()
