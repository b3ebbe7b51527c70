# SPDX-License-Identifier: GPL-3.0-or-later
"""Trace a process without stopping it.

tracer.py PID
"""

import ctypes
import sys
import time

PTRACE_SEIZE = 0x4206


def main() -> None:
    if ctypes.CDLL(None, use_errno=True).ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None) != 0:
        sys.exit(f"ptrace: {ctypes.get_errno()}")
    time.sleep(3600)


main()
