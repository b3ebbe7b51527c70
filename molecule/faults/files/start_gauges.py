# SPDX-License-Identifier: GPL-3.0-or-later
"""Start gauges that are like a first one, but for the name.

    start_gauges.py < QUESTION

The question has the `specification` of the first (see roles/lab/files/lab_workload.py) and the `names` of the others.
Their roots are hard links to the first one's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

AT_THE_SAME_TIME = 4
LAUNCHER = "/usr/local/libexec/lab_workload.py"


def main() -> None:
    question = json.load(sys.stdin)
    first = question["specification"]
    with ThreadPoolExecutor(AT_THE_SAME_TIME) as pool:
        list(pool.map(lambda name: start(first, name), question["names"]))


def start(first: dict[str, Any], name: str) -> None:
    text = json.dumps(first).replace(first["name"], name)
    subprocess.run(["cp", "--archive", "--link", first["root"], json.loads(text)["root"]], check=True)
    subprocess.run([sys.executable, LAUNCHER, "start"], input=text, text=True, check=True, stdout=subprocess.DEVNULL)


main()
