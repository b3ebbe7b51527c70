# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a host of a lab a file system of this machine: give_disk.py LAB_BRIDGE IMAGE HOST MOUNTPOINT.

Runs where the lab runs, as root. What it uses needs Linux 5.2.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles/lab/files"))

from lab_mounts import attach, cloned, enter, namespace_of


def main() -> None:
    bridge, image, host, mountpoint = sys.argv[1:]
    namespace = namespace_of(bridge, host)
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
        try:
            mount = cloned(place)
        finally:
            subprocess.run(["umount", place], check=True)
    enter(namespace)
    attach(mount, mountpoint)


main()
