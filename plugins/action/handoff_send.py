# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of the module handoff_send: shows how far it is. The handoff does not depend on it."""

from __future__ import annotations

import json
import shlex
import time
from typing import Any, Iterator, Mapping

from ansible.utils.display import Display

from ansible_collections.fleet.criu.plugins.module_utils._handoff.agent import PROGRESS, RESULT
from ansible_collections.fleet.criu.plugins.plugin_utils.agents import AgentAction

_SECONDS = 1.0
# The module is called again after so many looks at most: it also finds out that the sender was killed.
_LOOKS = 20
_MIB = 1 << 20

display = Display()


class ActionModule(AgentAction):
    """Start the module, and call it again and again to see how far the handoff is."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's last result."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("state", "sent") != "sent" or arguments.get("wait"):
            return self._call(arguments, task_vars)
        result = self._call({**arguments, "wait": _SECONDS}, task_vars)
        pace = _Pace()
        workload = str(arguments.get("workload"))
        while result.get("finished") is False:
            display.display(pace.line(workload, result.get("progress") or {}))
            for progress in self._looks(result.get("folder")):
                display.display(pace.line(workload, progress))
            following = {"handoff": arguments.get("handoff"), "state": "followed", "wait": _SECONDS}
            result = self._call(following, task_vars)
        return result

    def _looks(self, folder: str | None) -> Iterator[Mapping[str, Any]]:
        # A module costs the source half a second of processor time, and its workload is frozen.
        for _number in range(_LOOKS if folder else 0):
            time.sleep(_SECONDS)
            progress, result = (shlex.quote(f"{folder}/{name}") for name in (PROGRESS, RESULT))
            seen = self._low_level_execute_command(f"test ! -e {result} && cat {progress}", sudoable=True)
            if seen["rc"] != 0:
                return
            try:
                yield dict(json.loads(seen["stdout"]))
            except (ValueError, TypeError):
                return

    def _call(self, arguments: Mapping[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return self.call_module("fleet.criu.handoff_send", arguments, task_vars)


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
