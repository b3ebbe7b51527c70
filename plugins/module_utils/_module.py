# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that turns our results and errors into those of an Ansible module. Ansible itself is not imported."""

from __future__ import annotations

import platform
from typing import Any, Callable, Mapping, NoReturn, Protocol

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError


class Module(Protocol):
    """What we use of AnsibleModule."""

    params: dict[str, Any]
    check_mode: bool

    def exit_json(self, **result: Any) -> NoReturn: ...

    def fail_json(self, msg: str, **result: Any) -> NoReturn: ...


def run_module(module: Module, function: Callable[[Mapping[str, Any], bool], Mapping[str, Any]]) -> NoReturn:
    """Call `function(parameters, check_mode)` and end the module with its result, or with the error it raised."""
    try:
        result = function(module.params, module.check_mode)
    except CriuError as error:
        module.fail_json(msg=f"{platform.node()}: {error}", remedy=error.remedy, **error.facts)
    module.exit_json(**{"changed": False, **result})
