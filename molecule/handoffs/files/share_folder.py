# SPDX-License-Identifier: GPL-3.0-or-later
"""Give two hosts of a lab one folder, as storage that both have: a file system in memory, mounted on both.

    share_folder.py LAB_BRIDGE FOLDER HOST HOST

It is mounted on FOLDER of the first host already. Runs where the lab runs, as root. What it uses needs Linux 5.2.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles/lab/files"))

from lab_mounts import attach, cloned, enter, namespace_of


def main() -> None:
    bridge, path, first, second = sys.argv[1:]
    namespaces = [namespace_of(bridge, name) for name in (first, second)]
    enter(namespaces[0])
    mount = cloned(path)
    enter(namespaces[1])
    attach(mount, path)


main()
