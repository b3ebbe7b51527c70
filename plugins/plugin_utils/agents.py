# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The code of the agents as the controller has it, and how it gets to a host that does not have it yet."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, Mapping

from ansible.plugins.action import ActionBase

from ansible_collections.fleet.criu.plugins.module_utils import _errors

AGENT_MODULE = "fleet.criu.handoff_agent"


def code_name() -> str:
    """A name for the code of the agents that no other code has: the digest of all that agents may import."""
    folder = Path(_errors.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        text = path.read_bytes()
        digest.update(f"{path.relative_to(folder)} {len(text)}\n".encode())
        digest.update(text)
    return digest.hexdigest()


class AgentAction(ActionBase):
    """An action whose module starts an agent."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def call_module(
        self, module: str, arguments: Mapping[str, Any], task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        """The result of the module, which is called again if the host did not have the code of the agents."""
        given = {**arguments, "code": self._code}
        result = self._execute(module, given, task_vars)
        if not result.get("code_missing"):
            return result
        brought = self._execute(AGENT_MODULE, {"code": self._code}, task_vars)
        return brought if brought.get("failed") else self._execute(module, given, task_vars)

    @cached_property
    def _code(self) -> str:
        # A task may call its module once a second, while a workload is frozen.
        return code_name()

    def _execute(self, module: str, arguments: Mapping[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return dict(self._execute_module(module, dict(arguments), task_vars=task_vars))
