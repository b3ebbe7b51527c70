# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting the two agents from a module, and following them."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import Any

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import write_json
from ansible_collections.fleet.criu.plugins.module_utils._handoff import archive
from ansible_collections.fleet.criu.plugins.module_utils._handoff.agent import follow, is_alive, start
from ansible_collections.fleet.criu.plugins.module_utils._handoff.certificate import make_identity
from ansible_collections.fleet.criu.plugins.module_utils._handoff.holding import (
    asked_to_receive,
    asked_to_send,
    require_free,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import (
    SOURCE,
    TARGET,
    journal_path,
    read_record,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.owner import (
    has_systemd,
    properties,
    unit_name,
    unit_problem,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.request import (
    REQUEST,
    RUN_FOLDER,
    ReceiveRequest,
    SendRequest,
    runtime_folder,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.tidying import remove_old
from ansible_collections.fleet.criu.plugins.module_utils._mounts.checks import require_replaceable
from ansible_collections.fleet.criu.plugins.module_utils._mounts.contents import Contents
from ansible_collections.fleet.criu.plugins.module_utils._mounts.creation import Creation, create
from ansible_collections.fleet.criu.plugins.module_utils._own_folders import require_folders
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Runner
from ansible_collections.fleet.criu.plugins.module_utils._trusted import open_place

# Not imported here: see archive.py.
RECEIVER = "ansible_collections.fleet.criu.plugins.module_utils._handoff.receiver"
SENDER = "ansible_collections.fleet.criu.plugins.module_utils._handoff.sender"

_ARM_SECONDS = 30.0

# Who has no workload to own, the sender above all: if it is killed, CRIU must live on, because it holds the tasks.
_NO_OWNER_PROPERTIES = ["Type=exec", "KillMode=process", "Restart=no", "OOMPolicy=continue", "LimitNOFILE=infinity"]


def make_certificate(handoff: str, side: str, runner: Runner) -> str:
    """The certificate of this end of a handoff as PEM text; the key never leaves this host."""
    journal_path(handoff, side)
    require_folders()
    remove_old(RUN_FOLDER)
    return make_identity(runtime_folder(handoff, side) / "identity", handoff, runner).pem


def arm(request: ReceiveRequest, code: str, runner: Runner) -> tuple[int, str]:
    """Start the receiver, with the code of this name. Gives its port and certificate when it waits for the source.

    Raises CriuError; if the code is not on this host as `archive.require` does, before anything was done.
    """
    archive.require(code)
    # The receiver does it once more, when nobody else can begin. Until here nothing was touched.
    require_free(asked_to_receive(request), Proc())
    if not request.replace_contents:
        # What was planned may be old.
        for path in request.claims:
            require_replaceable(path, request.workload)
    folder = runtime_folder(request.handoff, TARGET)
    certificate = make_certificate(request.handoff, TARGET, runner)
    unit, unit_properties = _unit_for(request, runner)
    for path in request.folders.values():
        os.close(open_place(path, makes=True))
    for entry in request.create:
        create(entry["path"], Creation.parse({name: value for name, value in entry.items() if name != "path"}))
    if request.claims:
        Contents().claim(request.claims, request.workload)
    write_json(folder / REQUEST, asdict(request))
    archive.place(code, folder)
    start(folder, RECEIVER, unit, unit_properties, runner)
    until = time.monotonic() + _ARM_SECONDS
    while time.monotonic() < until:
        state = follow(folder, 0.02)
        if state["result"] is not None:
            raise CriuError(state["result"]["reason"], state["result"]["remedy"], state["result"]["facts"])
        if "port" in state["progress"]:
            return int(state["progress"]["port"]), certificate
        if not state["alive"]:
            break
    raise CriuError(
        "The receiver did not get ready.", f"Look at {folder}/agent.log on this host.", {"folder": str(folder)}
    )


def _unit_for(request: ReceiveRequest, runner: Runner) -> tuple[str | None, list[str]]:
    if not has_systemd():
        return None, []
    if request.engine:  # which puts the workload where it belongs
        return f"criu-receive-{request.handoff}.service", _NO_OWNER_PROPERTIES
    unit = unit_name(request.workload, request.unit)
    problem = unit_problem(unit, runner)
    if problem is not None:
        raise CriuError(problem)
    return unit, properties()


def send(request: SendRequest, code: str, runner: Runner) -> None:
    """Start the sender, with the code of this name. Raises CriuError, as `arm` does."""
    folder = runtime_folder(request.handoff, SOURCE)
    if read_record(request.handoff, SOURCE) is not None or is_alive(folder):
        return  # a second call follows the first
    archive.require(code)
    require_folders()
    proc = Proc()
    require_free(asked_to_send(request, proc), proc)
    write_json(folder / REQUEST, asdict(request))
    archive.place(code, folder)
    unit = f"criu-send-{request.handoff}.service" if has_systemd() else None
    start(folder, SENDER, unit, _NO_OWNER_PROPERTIES, runner)


def follow_send(handoff: str, seconds: float) -> dict[str, Any]:
    """How far the sender is; returns when it has finished, or after so many seconds."""
    return dict(follow(runtime_folder(handoff, SOURCE), seconds))
