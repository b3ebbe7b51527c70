# SPDX-License-Identifier: GPL-3.0-or-later
"""A host as a systemd-nspawn machine: up in seconds, with the kernel of this machine. What it writes is in memory."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from lab_host import Host, credential_files, credentials

PROGRAM = "systemd-nspawn"


class Nspawn:
    """Hosts on the read-only folder `root`, with a port of the bridge each."""

    environment: ClassVar[dict[str, str]] = {
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",  # a writable control group tree for runc and crun
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "yes",  # CRIU writes ns_last_pid
        "SYSTEMD_SECCOMP": "0",
    }
    boot_timeout = 60.0
    needs_tap = False

    def __init__(self, root: Path, bridge: str) -> None:
        self.root = root
        self.bridge = bridge

    def command(self, host: Host) -> list[str]:
        return [
            PROGRAM,
            "--quiet",
            "--boot",
            f"--directory={self.root}",
            "--volatile=overlay",
            f"--machine={host.name}",
            "--register=no",
            "--keep-unit",
            "--capability=all",
            f"--network-bridge={self.bridge}",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--console=passive",
            *[f"--set-credential={name}:{text}" for name, text in credentials(host).items()],
            *[f"--load-credential={name}:{path}" for name, path in credential_files(host).items()],
        ]

    def write_hosts_file(self, host: Host, init: int | None, text: str) -> None:
        hosts = Path(f"/proc/{init}/root/etc/hosts")
        if not hosts.exists() or hosts.read_text() != text:
            hosts.write_text(text)


def names_in(command: list[str]) -> list[str]:
    """The host that a command line is, if it is one."""
    return [argument[10:] for argument in command if argument.startswith("--machine=")]
