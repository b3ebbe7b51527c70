# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an agent is asked to do: written by the module, read by the agent. Paths are text, times are in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Sequence
from urllib.parse import quote

RUN_FOLDER = Path("/run/fleet.criu/handoff")
REQUEST = "request.json"
# In the folder of a sender that has made a folder for images.
MADE_IMAGES = "made_images"

DIRECT, SHARED = "direct", "shared"


@dataclass(frozen=True)
class SendRequest:
    """What the source needs. `dump_map` and `copies` are as the module mount_map returns them.

    `images` is only for the transport `shared`: the folder that both hosts have, as it is called here.
    `bandwidth_limit` is in bytes a second. `engine` has `name` and `container` of a workload that an engine owns.
    """

    handoff: str
    workload: str
    pid: int
    start_time: int
    source: str
    target: str
    address: str
    port: int
    certificate: str
    dump_map: Sequence[Mapping[str, str]]
    copies: Sequence[Mapping[str, Any]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    hooks: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    hook_environment: Mapping[str, str] = field(default_factory=dict)
    transport: str = DIRECT
    images: str | None = None
    compression: str = "none"
    bandwidth_limit: int | None = None
    criu_path: str | None = None
    pid_file: str | None = None
    engine: Mapping[str, Any] = field(default_factory=dict)
    restore_seconds: float = 300.0
    run_seconds: float = 60.0


@dataclass(frozen=True)
class ReceiveRequest:
    """What the target needs. `restore_map` and `folders` are as the module mount_map returns them.

    `arm_seconds` is how long it waits for the source. `engine` has `name` and `container` of a workload that an engine
    owns, and `sources`, the path here for each destination.
    """

    handoff: str
    workload: str
    source: str
    target: str
    certificate: str
    images: str
    root: str
    restore_map: Sequence[Mapping[str, Any]]
    folders: Mapping[str, str] = field(default_factory=dict)
    claims: Sequence[str] = ()
    replace_contents: bool = False
    create: Sequence[Mapping[str, str]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    hooks: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    hook_environment: Mapping[str, str] = field(default_factory=dict)
    transport: str = DIRECT
    address: str = "::"
    port: int = 0
    keep_images: bool = False
    criu_path: str | None = None
    pid_file: str | None = None
    unit: str | None = None
    engine: Mapping[str, Any] = field(default_factory=dict)
    arm_seconds: float = 600.0


def runtime_folder(handoff: str, side: str) -> Path:
    """Where a handoff keeps what it needs on a host, and no longer than the host runs."""
    return RUN_FOLDER / f"{handoff}.{side}"


def lock_path(workload: str, side: str) -> Path:
    """What the agent of a workload locks, so that there is one at a time on a host."""
    return RUN_FOLDER / f"{quote(workload, safe='')}.{side}.lock"
