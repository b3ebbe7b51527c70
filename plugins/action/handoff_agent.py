# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of the module handoff_agent: says which code it has."""

from __future__ import annotations

from typing import Any

from ansible_collections.fleet.criu.plugins.plugin_utils.agents import AGENT_MODULE, AgentAction


class ActionModule(AgentAction):
    """Call the module with the name of the code."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result."""
        super().run(tmp, task_vars)
        return self.call_module(AGENT_MODULE, self._task.args, task_vars)
