#!/usr/bin/python
# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: transfer_receive
short_description: Let one source copy into named paths of this host
version_added: 0.1.0
description:
  - Runs on the target. Allows the holder of an ssh key, made by M(fleet.criu.transfer_send) for one move, to fill the
    named folders with rsync, and nothing else.
  - The key is restricted in C(authorized_keys) to rsync's daemon mode with these folders and expires by itself.
author:
  - The fleet.criu maintainers (@fleet-criu)
extends_documentation_fragment:
  - fleet.criu.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
    details: With O(state=present) the time at which the key expires moves on.
requirements:
  - rsync and an ssh server on the target.
options:
  name:
    description:
      - The name of the transfer, the same on both hosts.
    type: str
    required: true
  state:
    description:
      - V(present) allows the transfer, V(absent) takes away all that was made for it.
    type: str
    choices: [present, absent]
    default: present
  public_key:
    description:
      - The sender's public key, as M(fleet.criu.transfer_send) returned it. Needed with O(state=present).
    type: str
  folders:
    description:
      - The folders that may be filled, by the name that the sender uses for each. A missing one is made.
    type: dict
    default: {}
  workload:
    description:
      - The name of the workload whose contents come here. It is recorded for O(claims).
    type: str
  claims:
    description:
      - Paths that hold contents of O(workload) from now on, so that a later copy may replace them.
    type: list
    elements: str
    default: []
  user:
    description:
      - The user that the sender logs in as. It must be able to write the folders.
    type: str
    default: root
seealso:
  - module: fleet.criu.transfer_send
"""

EXAMPLES = r"""
- name: Let node1 fill the data folder of redis
  fleet.criu.transfer_receive:
    name: redis-4711
    public_key: "{{ sender.public_key }}"
    folders:
      data: /srv/fast/data
    workload: redis
    claims: [/srv/fast/data]
  become: true
  register: receiver

- name: Take the permission away
  fleet.criu.transfer_receive:
    name: redis-4711
    state: absent
  become: true
"""

RETURN = r"""
host_keys:
  description: The public ssh keys of this host.
  returned: with O(state=present), not in check mode
  type: list
  elements: str
  sample: ["ssh-ed25519 AAAA… root@node2"]
"""

from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fleet.criu.plugins.module_utils._module import run_module
from ansible_collections.fleet.criu.plugins.module_utils._runner import SubprocessRunner
from ansible_collections.fleet.criu.plugins.module_utils._transfer.contents import Contents
from ansible_collections.fleet.criu.plugins.module_utils._transfer.receive import Receiver, arm, disarm, is_armed


def receive(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    name, user = parameters["name"], parameters["user"]
    present = parameters["state"] == "present"
    before = is_armed(name, user)
    result = {"changed": before != present, "diff": {"before": {"allowed": before}, "after": {"allowed": present}}}
    if check_mode:
        return result
    if not present:
        disarm(name, user)
        return result
    host_keys = arm(Receiver(name, parameters["folders"], parameters["public_key"], user), SubprocessRunner())
    if parameters["workload"] is not None:
        Contents().claim(parameters["claims"], parameters["workload"])
    return {**result, "host_keys": host_keys}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "public_key": {"type": "str"},
            "folders": {"type": "dict", "default": {}},
            "workload": {"type": "str"},
            "claims": {"type": "list", "elements": "str", "default": []},
            "user": {"type": "str", "default": "root"},
        },
        required_if=[("state", "present", ("public_key",))],
        supports_check_mode=True,
    )
    run_module(module, receive)


if __name__ == "__main__":
    main()
