# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that plays the engine of a container: it calls the `criu` that it finds, as engines do.

Its containers are files `NAME.json` beside it. What it has done is in `book`, a line each; what is to go wrong is in
`script.json`: `fails_at` is a subcommand that ends before it calls CRIU, `seconds` how long it prepares itself before,
`patience` after how many seconds it kills the CRIU that it has called.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = "script.json"
BOOK = "book"
_KINDS = {"checkpoint": 1, "restore": 2}


def install(folder: Path, streaming: Path) -> Path:
    """Make the program in this folder; `streaming` is the file of the program that plays CRIU. Gives its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SCRIPT).write_text("{}")
    shutil.copy(str(streaming), str(folder))
    program = folder / "engine"
    program.write_text(f"#!{sys.executable} -IS\n{Path(__file__).read_text()}")
    program.chmod(0o755)
    return program


def note(folder: Path, line: str) -> None:
    """Write a line into the book."""
    with (folder / BOOK).open("a") as stream:
        stream.write(f"{line}\n")


def put(folder: Path, name: str, state: str, pid: int) -> None:
    """Let the engine have a container in this state."""
    new = folder / f".{name}"
    new.write_text(json.dumps({"state": state, "pid": pid}))
    os.replace(str(new), str(folder / f"{name}.json"))


def play(folder: Path, what: str, name: str, pid: int, arguments: list[str]) -> int:
    """Checkpoint or restore a container; `arguments` are those of CRIU."""
    sys.path.insert(0, str(folder))
    request = importlib.import_module("streaming_criu").request
    script = json.loads((folder / SCRIPT).read_text())
    note(folder, what)
    if what == "restore":
        put(folder, name, "created", 0)
    if script.get("fails_at") == what:
        sys.stderr.write("Error: it has no such image\n")
        return 125
    time.sleep(script.get("seconds", 0))
    note(folder, f"{what} calls CRIU")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(request(_KINDS[what], arguments))
        with subprocess.Popen(["criu", "swrk", str(theirs.fileno())], pass_fds=[theirs.fileno()]) as criu:
            try:
                criu.wait(script.get("patience"))
            except subprocess.TimeoutExpired:
                criu.kill()
    note(folder, f"{what} ends {criu.returncode}")
    if criu.returncode == 0:
        put(folder, name, "running" if what == "restore" else "exited", pid if what == "restore" else 0)
    return 0 if criu.returncode == 0 else 1


if __name__ == "__main__":
    _program, what, name, pid, *rest = sys.argv
    sys.exit(play(Path(__file__).parent, what, name, int(pid), rest))
