# SPDX-License-Identifier: GPL-3.0-or-later
"""Start three workloads that keep a secret: one of a user of its own, one with data in another user's folder, and
one of that user.

    start_workloads.py HOME < SECRET

HOME is the other user's.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

LAUNCHER = "/usr/local/libexec/lab_workload.py"
PROGRAM = Path(__file__).with_name("keeper.py")


def main() -> None:
    home, secret = Path(sys.argv[1]), sys.stdin.read()
    start("keeper", "backup", secret, {"/data": "/srv/data/keeper"})
    start("prey", "root", secret, {"/data": f"{home}/data", "/made": f"{home}/made"})
    # What a user's own workload knows that user may know too.
    start("own", "mallory", "nothing to hide\n", {"/data": "/srv/data/own"})


def start(name: str, user: str, secret: str, folders: dict[str, str]) -> None:
    put_secret(Path(folders["/data"]), user, secret)
    # What each field means: roles/lab/files/lab_workload.py
    specification: dict[str, Any] = {
        "name": name,
        "root": f"/srv/roots/{name}",
        "command": ["/usr/bin/python3", "-I", "-S", "-B", "/opt/keeper.py", "/data", name],
        "programs": ["/usr/bin/python3"],
        "python": True,
        "files": {"/opt/keeper.py": PROGRAM.read_text()},
        "binds": [{"source": path, "mountpoint": place, "type": "directory"} for place, path in folders.items()],
        "texts": {},
        "pid_file": f"/run/workloads/{name}.pid",
        "user": user,
    }
    text = json.dumps(specification)
    subprocess.run([sys.executable, LAUNCHER, "start"], input=text, text=True, check=True, stdout=subprocess.DEVNULL)


def put_secret(folder: Path, user: str, secret: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    path = folder / "secret"
    path.touch(0o600)
    path.write_text(secret)
    account = pwd.getpwnam(user)
    os.chown(path, account.pw_uid, account.pw_gid)


main()
