# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a secret in memory and count.

    keeper.py FOLDER NAME

FOLDER/secret is read once. Every few milliseconds a line `counter timestamp` goes to FOLDER/gauge.log, which
gauge_report.py reads, and now and then the secret is written from memory to FOLDER/told.
"""

import os
import sys
import time

INTERVAL = 0.01


def main() -> None:
    folder = sys.argv[1]
    os.umask(0o077)
    with open(f"{folder}/secret", "rb") as source:
        secret = source.read()
    # Many times over, so that it is in more than one page.
    memory = [bytearray(secret) * 64 for _copy in range(64)]
    log = os.open(f"{folder}/gauge.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    counter = 0
    while True:
        counter += 1
        os.write(log, b"%d %d\n" % (counter, time.time_ns()))
        if counter % 50 == 0:
            with open(f"{folder}/told", "wb") as told:
                told.write(memory[counter // 50 % 64][: len(secret)])
        time.sleep(INTERVAL)


main()
