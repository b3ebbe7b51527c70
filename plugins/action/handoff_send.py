# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of the module handoff_send: shows how far it is. The handoff does not depend on it."""

from __future__ import annotations

import time
from typing import Any, Mapping

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

_SECONDS = 1.0
_MIB = 1 << 20

display = Display()


class ActionModule(ActionBase):
    """Start the module, and call it again and again to see how far the handoff is."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's last result."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("state", "sent") != "sent" or arguments.get("wait"):
            return self._call(arguments, task_vars)
        result = self._call({**arguments, "wait": _SECONDS}, task_vars)
        pace = _Pace()
        while result.get("finished") is False:
            display.display(pace.line(str(arguments.get("workload")), result.get("progress") or {}))
            following = {"handoff": arguments.get("handoff"), "state": "followed", "wait": _SECONDS}
            result = self._call(following, task_vars)
        return result

    def _call(self, arguments: Mapping[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return dict(self._execute_module("fleet.criu.handoff_send", dict(arguments), task_vars=task_vars))


class _Pace:
    # Bytes a second since the line before.

    def __init__(self) -> None:
        self._time = time.monotonic()
        self._bytes = 0

    def line(self, workload: str, progress: Mapping[str, Any]) -> str:
        now, sent, total = time.monotonic(), int(progress.get("bytes") or 0), int(progress.get("total") or 0)
        rate = max(0, sent - self._bytes) / max(now - self._time, 0.001)
        self._time, self._bytes = now, sent
        phase = progress.get("phase", "starting")
        of_all = f" of about {total // _MIB}" if total else ""
        return f"  {workload}: {phase}, {sent // _MIB}{of_all} MiB, {rate / _MIB:.1f} MiB/s"
