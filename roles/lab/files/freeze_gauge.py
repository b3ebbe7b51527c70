# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the time down every few milliseconds: a gap between two lines is a freeze as the workload itself saw it.

    freeze_gauge.py LOG MEMORY_MIB

A line is `counter timestamp`; the timestamp is in nanoseconds since 1970. Each line is one write to a file that stays
open in append mode. The memory cannot be compressed and all of it is in use. A start begins a new log; a restore goes
on in the same one. gauge_report.py reads it.
"""

import os
import sys
import time

INTERVAL = 0.005
MIB = 1024 * 1024


def main() -> None:
    log, memory_mib = sys.argv[1], int(sys.argv[2])
    memory = [os.urandom(MIB) for _block in range(memory_mib)]
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    counter = 0
    while len(memory) == memory_mib:  # always: the memory is in use as long as this runs
        counter += 1
        os.write(output, b"%d %d\n" % (counter, time.time_ns()))
        time.sleep(INTERVAL)


main()
