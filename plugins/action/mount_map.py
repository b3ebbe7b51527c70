# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of the module mount_map: `select` rules are evaluated here, so that hosts need no jmespath."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._mounts.select import evaluate_selects, plain

try:
    import jmespath

    HAS_JMESPATH = True
except ImportError:
    HAS_JMESPATH = False


class ActionModule(ActionBase):
    """Evaluate the rules, then run the module on the host."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result. Raises AnsibleActionFail if an expression cannot be evaluated."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        rules = arguments.get("rules") or []
        if isinstance(rules, list) and any(isinstance(rule, dict) and rule.get("select") for rule in rules):
            if not HAS_JMESPATH:
                raise AnsibleActionFail(
                    "A mount rule has 'select', but the controller has no Python package jmespath. "
                    "Install it there (pip install jmespath) for the Python that runs Ansible."
                )
            try:
                mounts = plain(arguments.get("mounts") or [])
                arguments["rules"] = evaluate_selects(plain(rules), mounts, jmespath.search)
            except CriuError as error:
                raise AnsibleActionFail(str(error)) from error
        result = self._execute_module("fleet.criu.mount_map", arguments, task_vars=task_vars)
        return dict(result)
