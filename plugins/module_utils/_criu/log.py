# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a CRIU log says about a failure: its own error lines, and what to do about those that users meet most."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed

MOST_LINES = 12
LOG_FOLDER = Path("/var/log/fleet.criu")

# "(00.012345)   PID: Error (criu/FILE.c:LINE): text"; time and pid are not always there.
_LINE = re.compile(r"^(?:\([0-9.]+\))?\s*(?:[0-9]+: )?Error \([^)]*\): (?P<text>.*)$")

# CRIU goes on after the first; the second is what the end of the first failure brings about.
_NOT_THE_CAUSE = ("Can't setup RLIMIT_NOFILE for self", "cgroupd: recv req error")

_REMEDIES = (
    ("doesn't have a proper root mount", "An external mount has no key: run mount_info and mount_map again."),
    ("has unreachable sharing", "Give that mountpoint a key of its own."),
    ("Can't lookup mount=", "A file outside the workload's mounts is open: close it (often its standard output)."),
    ("The root task has another root than mntns", "The workload is in a chroot: start it with pivot_root."),
    ("No mapping for", "The restore map lacks a key of this image set: use the map that was planned for it."),
    ("Failed to open_tree", "A path of the restore map, or a folder below it, is missing on this host."),
    ("Failed to move_mount", "A path of the restore map is a file where a folder is needed, or a symlink."),
    ("Can't stat mountpoint", "A mountpoint is missing below the root on this host: create it or copy the root."),
    (
        "Can't get 1:16 opt",
        "This CRIU cannot dump TCP and UDP sockets on kernel 6.16 or later: install CRIU 4.2 or later.",
    ),
    ("Connected TCP socket", "Set tcp_established (keep the connections) or tcp_close (drop them)."),
    ("Can't bind inet socket", "The workload listens on an address or port that is not free on this host."),
    ("External socket is used", "Set ext_unix_sk."),
    ("Some file locks are hold", "Set file_locks."),
    ("Can't dump ghost file", "An open file was removed and is large: raise ghost_limit."),
    ("Can't create link remap", "An open file was removed but has other links: set link_remap."),
    ("has bad size", "A file differs from the one at dump: copy it again."),
    ("has bad build-ID", "A program or library differs from the one at dump: install the same package."),
    ("Can't open file", "A file of the workload is missing below the root on this host: copy the root."),
    ("Locking network failed", "Install nftables or iptables, or set network_lock."),
    ("iptables-restore", "Install iptables, or set network_lock to nftables."),
    ("do not match expected", "A process ID is in use here: run the workload in a pid namespace of its own."),
    ("File exists", "A process ID or a file is in use here; see the error lines."),
    ("is not a session leader", "Set shell_job, or start the workload with setsid."),
    ("outside of its pid namespace", "Start the workload with setsid inside its pid namespace."),
    ("Cgroup dir", "Set manage_cgroups to ignore on both sides."),
    ("No space left on device", "The host has too little space: free some, or choose another image folder."),
    ("Timeout reached", "Raise timeout."),
)


def error_lines(log: str) -> list[str]:
    """The texts of the log's error lines, in their order, without time, pid and source position, each once."""
    found: dict[str, None] = {}
    for line in log.splitlines():
        match = _LINE.match(line)
        if match is not None and not any(text in line for text in _NOT_THE_CAUSE):
            found[match.group("text").strip()] = None
    return list(found)


def remedy_for(errors: Sequence[str]) -> str:
    """What to do about the first error that we know, or an empty text."""
    for error in errors:
        for text, remedy in _REMEDIES:
            if text in error:
                return remedy
    return ""


def failure(what: str, completed: Completed, log_file: Path) -> CommandFailed:
    """The exception for a CRIU command that failed: its own error lines, what to do, where the log is."""
    log = log_file.read_text("utf-8", "replace") if log_file.is_file() else ""
    errors = error_lines(log) or _first_and_last(log or completed.stderr or completed.stdout)
    shown = errors[:MOST_LINES]
    said = " | ".join(shown) or "nothing"
    kept = _keep(log_file)
    where = f" The log is {kept}." if kept is not None else ""
    return CommandFailed(
        f"{what} failed (exit status {completed.returncode}). CRIU says: {said}.{where}",
        remedy_for(errors),
        {"criu_errors": shown, "log": None if kept is None else str(kept), "rc": completed.returncode},
    )


def _first_and_last(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[:1] + lines[1:][-2:]


def _keep(log_file: Path) -> Path | None:
    # The image folder holds secrets and may be removed by who called us; the log must outlive it.
    if not log_file.is_file():
        return None
    kept = LOG_FOLDER / f"{log_file.parent.name}-{log_file.name}"
    try:
        LOG_FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(log_file, kept)
        kept.chmod(0o600)
    except OSError:
        return log_file
    return kept
