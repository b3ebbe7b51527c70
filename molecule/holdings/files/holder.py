# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold much of what CRIU moves only if it is told to, and see again and again that it is still there.

    holder.py FOLDER

FOLDER/count grows as long as all is well; FOLDER/broken says what is not.
"""

import fcntl
import os
import sys
import time

LARGE = 3 << 20


def main() -> None:
    folder = sys.argv[1]
    flags = os.O_RDWR | os.O_CREAT
    fcntl.flock(os.open(f"{folder}/lock", flags), fcntl.LOCK_EX)
    linked = os.open(f"{folder}/first", flags)
    os.write(linked, b"under another name")
    os.link(f"{folder}/first", f"{folder}/second")
    os.remove(f"{folder}/first")
    large = os.open(f"{folder}/large", flags)
    os.write(large, b"x" * LARGE)
    os.remove(f"{folder}/large")
    count = 0
    while True:
        for what, is_well in (
            ("lock", is_locked(f"{folder}/lock")),
            ("linked", os.fstat(linked).st_ino == os.stat(f"{folder}/second").st_ino),
            ("large", os.pread(large, LARGE + 1, 0) == b"x" * LARGE),
        ):
            if not is_well:
                with open(f"{folder}/broken", "a") as report:
                    report.write(f"{what} at {count}\n")
        count += 1
        with open(f"{folder}/count", "w") as report:
            report.write(str(count))
        time.sleep(0.05)


def is_locked(path: str) -> bool:
    with open(path) as other:
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


main()
