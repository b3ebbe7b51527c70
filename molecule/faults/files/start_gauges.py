# SPDX-License-Identifier: GPL-3.0-or-later
"""Start gauges that are like a first one, but for the name.

    start_gauges.py FIRST NAME...

Their roots are hard links to the first one's, so there is nothing to copy.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

AT_THE_SAME_TIME = 4
LAUNCHER = "/usr/local/libexec/lab_workload.py"
MEMORY_MIB = 1
COMMAND = ("/usr/bin/python3", "-I", "-S", "-B", "/opt/gauge/freeze_gauge.py", "/data/gauge.log")


def main() -> None:
    first, *names = sys.argv[1:]
    with ThreadPoolExecutor(AT_THE_SAME_TIME) as pool:
        list(pool.map(lambda name: start(f"/srv/roots/{first}", name), names))


def start(root: str, name: str) -> None:
    # What each field means: roles/lab/files/lab_workload.py
    specification = {
        "name": name,
        "root": f"/srv/roots/{name}",
        "command": [*COMMAND, str(MEMORY_MIB)],
        "programs": [],
        "python": False,
        "files": {},
        "binds": [{"source": f"/srv/data/{name}", "mountpoint": "/data", "type": "directory"}],
        "texts": {},
        "pid_file": f"/run/workloads/{name}.pid",
        "user": "",
    }
    subprocess.run(["cp", "--archive", "--link", root, str(specification["root"])], check=True)
    text = json.dumps(specification)
    subprocess.run([sys.executable, LAUNCHER, "start"], input=text, text=True, check=True, stdout=subprocess.DEVNULL)


main()
