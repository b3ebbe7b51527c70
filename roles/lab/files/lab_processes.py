# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of this machine: run them, and what /proc says of them."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Callable

from lab_host import LabError


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def read_command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def read_status(pid: int, field: str) -> list[str]:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return []
    return next((line.split()[1:] for line in status.splitlines() if line.startswith(f"{field}:")), [])


def is_zombie(pid: int) -> bool:
    return read_status(pid, "State")[:1] == ["Z"]


def is_inside(pid: int) -> bool:
    """Whether the process is in a pid namespace below ours."""
    return len(read_status(pid, "NSpid")) > 1


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
