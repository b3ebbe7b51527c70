# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd units that a move has to do with: the one that the workload leaves, and the one that it comes to."""

from __future__ import annotations

from typing import Any

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.owner import (
    has_systemd,
    later_start,
    supervisor_problem,
    unit_name,
    unit_problem,
)
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Runner


def supervisor(pid: int, proc: Proc, runner: Runner) -> dict[str, Any] | None:
    """Whether systemd would start the workload anew when it is killed here; None if no systemd runs here.

    `problem` tells what would happen at once and `later` what would some time, `error` why that could not be found out;
    null where there is nothing to tell.
    """
    if not has_systemd():
        return None
    found: dict[str, Any] = {"problem": None, "later": None, "error": None}
    try:
        found["problem"] = supervisor_problem(pid, proc, runner)
        found["later"] = later_start(pid, proc, runner)
    except CriuError as error:
        found["error"] = _as_dict(error)
    return found


def owner_unit(workload: str | None, wanted: str | None, runner: Runner) -> dict[str, Any] | None:
    """The `unit` that the workload is to live in here; None if no systemd runs here, or if nothing says its name.

    `problem` tells why it cannot be made, `error` why it has no name or that could not be found out; null if it can.
    """
    if not has_systemd() or (workload is None and wanted is None):
        return None
    found: dict[str, Any] = {"unit": wanted, "problem": None, "error": None}
    try:
        found["unit"] = unit_name(workload or "", wanted)
        found["problem"] = unit_problem(found["unit"], runner)
    except CriuError as error:
        found["error"] = _as_dict(error)
    return found


def _as_dict(error: CriuError) -> dict[str, str]:
    return {"message": error.message, "remedy": error.remedy}
