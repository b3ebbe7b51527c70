# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sending end of a copy by rsync over ssh, with a key made for this one move."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import write_atomically
from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import is_below, relative
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import parse
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Runner
from ansible_collections.fleet.criu.plugins.module_utils._transfer.receive import transfer_folder

# rsync(1), EXIT VALUES: files vanished while they were read. A tree that is in use may do that.
_VANISHED = 24

# rsync(1), FILTER RULES IN DEPTH: these characters make a pattern of a name.
_WILDCARD = re.compile(r"([*?\[\\])")
_ESCAPED = r"\\\1"

_SENT = re.compile(r"^Total bytes sent: ([0-9]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Copy:
    """A folder or file to be made equal in the receiver's `module`; for a file, `file_name` is its name there."""

    path: str
    module: str
    file_name: str | None = None


@dataclass(frozen=True)
class Receiving:
    """Where to send: the target's address, its ssh port and user, and its public host keys."""

    address: str
    host_keys: Sequence[str]
    port: int = 22
    user: str = "root"


def make_key(name: str, runner: Runner) -> str:
    """The public half of a new ssh key for this transfer, or of the one made before. The private half stays here."""
    for program in ("rsync", "ssh", "ssh-keygen"):
        if shutil.which(program) is None:
            raise CriuError(f"{program} is not installed here.", "Install the packages rsync and openssh-client.")
    folder = transfer_folder(name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = folder / "id"
    if not key.exists():
        _must(runner, ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"fleet.criu:{name}", "-f", str(key)])
    return key.with_suffix(".pub").read_text("ascii").strip()


def send(name: str, receiving: Receiving, copies: Sequence[Copy], live: bool, runner: Runner) -> list[dict[str, Any]]:
    """Copy each path, one after the other, and remove at the target what the source no longer has.

    `live` says that the workload runs meanwhile: files that vanish are no error, and what is in the page cache is
    written back first, because a page that is dirty already could be changed later without a new modification time.
    Gives path, bytes sent and seconds for each. Raises CommandFailed.
    """
    folder = transfer_folder(name)
    _write_known_hosts(folder, receiving)
    if live:
        os.sync()
    results = []
    for copy in copies:
        started = time.monotonic()
        completed = runner(Command(_rsync(folder, receiving, copy, _mounted_below(copy.path))))
        if completed.returncode != 0 and not (live and completed.returncode == _VANISHED):
            said = " | ".join(completed.stderr.strip().splitlines()[-4:])
            raise CommandFailed(
                f"Copying {copy.path} to {receiving.address} failed (rsync exit status {completed.returncode}): {said}",
                "Check that the source reaches the target's ssh port (criu_address) and that the target has space.",
                {"path": copy.path, "rc": completed.returncode},
            )
        sent = _SENT.search(completed.stdout.replace(",", ""))
        results.append(
            {
                "path": copy.path,
                "bytes": int(sent.group(1)) if sent else 0,
                "seconds": round(time.monotonic() - started, 3),
            }
        )
    return results


def forget(name: str, runner: Runner) -> bool:
    """Close the connection and remove the key. Says whether anything was there."""
    folder = transfer_folder(name)
    if not folder.exists():
        return False
    if (folder / "ssh").exists():
        runner(Command(["ssh", "-o", f"ControlPath={folder / 'ssh'}", "-O", "exit", "fleet.criu"]))
    shutil.rmtree(str(folder), ignore_errors=True)
    return True


def _mounted_below(path: str) -> list[str]:
    # A workload that has this folder bound does not see what the host mounts below it (unless that is a mount of its
    # own). --one-file-system would also leave out the subvolumes of btrfs, which it does see.
    resolved = os.path.realpath(path)
    mountpoints = [row.mountpoint for row in parse(Proc().mountinfo("self"))]
    return sorted(
        {relative(place, resolved) for place in mountpoints if place != resolved and is_below(place, resolved)}
    )


def _rsync(folder: Path, receiving: Receiving, copy: Copy, left_out: Sequence[str] = ()) -> list[str]:
    host = f"[{receiving.address}]" if ":" in receiving.address else receiving.address
    is_folder = copy.file_name is None
    return [
        "rsync",
        # Everything a program may notice: modes, owners by number, times, links, ACLs, attributes, holes.
        "-aHAXS",
        "--numeric-ids",
        # Compare times to the nanosecond: within one second a file may change and keep its size.
        "--modify-window=-1",
        "--stats",
        *(["--delete"] if is_folder else []),
        *(f"--exclude=/{_WILDCARD.sub(_ESCAPED, path)}/**" for path in left_out),
        f"--rsh={_remote_shell(folder, receiving)}",
        "--",
        copy.path.rstrip("/") + "/" if is_folder else copy.path,
        f"{receiving.user}@{host}::{copy.module}/{copy.file_name or ''}",
    ]


def _remote_shell(folder: Path, receiving: Receiving) -> str:
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityFile": folder / "id",
        "UserKnownHostsFile": folder / "known_hosts",
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlias": "fleet.criu",
        "ConnectTimeout": 15,
        "ServerAliveInterval": 10,
        "ControlMaster": "auto",
        "ControlPath": folder / "ssh",
        "ControlPersist": 300,
    }
    words = ["ssh", "-F", "/dev/null", "-p", str(receiving.port)]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return " ".join(shlex.quote(word) for word in words)


def _write_known_hosts(folder: Path, receiving: Receiving) -> None:
    if not (folder / "id").exists():
        raise CriuError(f"The transfer {folder.name} has no key here.", "Call transfer_send with state=prepared first.")
    lines = [f"fleet.criu {key}\n" for key in receiving.host_keys]
    write_atomically(folder / "known_hosts", "".join(lines))


def _must(runner: Runner, argv: Sequence[str]) -> None:
    completed = runner(Command(argv))
    if completed.returncode != 0:
        raise CommandFailed(f"{argv[0]} failed: {completed.stderr.strip()}", facts={"rc": completed.returncode})
