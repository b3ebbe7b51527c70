# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of one host of a lab, and what each kind of host has to be able to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Mapping, Protocol


class LabError(Exception):
    """Says what is wrong; the message is for the user."""


@dataclass(frozen=True)
class Host:
    """`folder` has the host's own key, `key` is what its users log in with."""

    name: str
    address: str
    folder: Path
    key: Path

    @property
    def console(self) -> Path:
        """What the host writes when it boots."""
        return self.folder / "console.log"


class Kind(Protocol):
    """How hosts are made."""

    environment: ClassVar[dict[str, str]]
    # Seconds from its start until it must answer ssh.
    boot_timeout: float
    # Whether its network interface is a tap device that the program opens.
    needs_tap: bool

    def command(self, host: Host) -> list[str]:
        """What is the host, as long as it runs. The same for the same host, every time."""

    def write_hosts_file(self, host: Host, init: int | None, text: str) -> None:
        """Let the host have this /etc/hosts. `init` is its first process, if that is one of this machine."""


def credentials(host: Host) -> Mapping[str, str]:
    """What files/base/lab-host-setup reads: texts by name."""
    return {"lab.address": f"{host.address}/24"}


def credential_files(host: Host) -> Mapping[str, Path]:
    """What files/base/lab-host-setup reads: paths by name."""
    return {"lab.host_key": host.folder / "ssh_host_ed25519_key", "lab.authorized_keys": host.key.with_suffix(".pub")}
