# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a workload's /tmp a shared mount and its /run a slave of it.

    share_mounts.py PID

The workload's root has no mount(8), so this enters its mount namespace with all that it needs already loaded.
"""

from __future__ import annotations

import ctypes
import os
import sys

CLONE_NEWNS = 0x20000
MS_BIND, MS_SLAVE, MS_SHARED = 1 << 12, 1 << 19, 1 << 20


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    namespace = os.open(f"/proc/{sys.argv[1]}/ns/mnt", os.O_RDONLY)
    results = [
        libc.setns(namespace, CLONE_NEWNS),
        libc.mount(None, b"/tmp", None, MS_SHARED, None),
        libc.mount(b"/tmp", b"/run", None, MS_BIND, None),
        libc.mount(None, b"/run", None, MS_SLAVE, None),
    ]
    if any(results):
        sys.exit(f"share_mounts: {results}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
