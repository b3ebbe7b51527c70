#!/usr/bin/python
# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: handoff_agent
short_description: Bring the code of the agents to a host
version_added: 0.1.0
description:
  - Sender and receiver of a handoff live longer than the modules that start them, so their code is kept on the host, in
    C(/var/lib/fleet.criu/code), compiled and for root alone. What nobody has used for 30 days is removed when other
    code comes.
  - M(fleet.criu.handoff_receive) and M(fleet.criu.handoff_send) call this module themselves for a host that does not
    have the code yet. Called beforehand, when hosts are set up, the first handoff need not wait for it.
author:
  - The fleet.criu maintainers (@fleet-criu)
extends_documentation_fragment:
  - fleet.criu.attributes
  - fleet.criu.code
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: What changes is one file that nobody reads.
  idempotent:
    support: full
seealso:
  - module: fleet.criu.handoff_receive
  - module: fleet.criu.handoff_send
"""

EXAMPLES = r"""
- name: Have the agents' code ready on every host
  fleet.criu.handoff_agent:
  become: true
"""

RETURN = r"""
path:
  description: The archive that agents import from.
  returned: always
  type: str
  sample: /var/lib/fleet.criu/code/5f0c2b7e9a1d4c38b6e2f7a09d1c4e53.zip
"""

from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fleet.criu.plugins.module_utils import _arguments
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff import receiver, sender
from ansible_collections.fleet.criu.plugins.module_utils._handoff.archive import keep, kept_path
from ansible_collections.fleet.criu.plugins.module_utils._module import run_module
from ansible_collections.fleet.criu.plugins.module_utils._own_folders import require_folders

# What is imported here is the code that is kept.
AGENTS = (receiver, sender)


def bring(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    code = parameters["code"]
    if not code:
        raise CriuError("The code has no name.", "Call this module through Ansible, whose action plugin names it.")
    is_new = not kept_path(code).exists()
    if is_new:
        require_folders(is_dry=check_mode)
    if is_new and not check_mode:
        keep(code)
    return {"changed": is_new, "path": str(kept_path(code))}


def main() -> None:
    module = AnsibleModule(argument_spec=_arguments.code(), supports_check_mode=True)
    run_module(module, bring)


if __name__ == "__main__":
    main()
