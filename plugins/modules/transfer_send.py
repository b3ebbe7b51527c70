#!/usr/bin/python
# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: transfer_send
short_description: Copy folders and files straight to another host
version_added: 0.1.0
description:
  - Runs on the source. Makes an ssh key for one move, and copies with rsync what M(fleet.criu.transfer_receive) allows
    on the target. The contents do not pass through the controller, and neither host has to trust the other beyond it.
  - The target's host keys are those that M(fleet.criu.transfer_receive) returned; no other is accepted.
author:
  - The fleet.criu maintainers (@fleet-criu)
extends_documentation_fragment:
  - fleet.criu.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: O(state=sent) compares source and target each time, and reports a change.
requirements:
  - rsync and the OpenSSH client on the source.
options:
  name:
    description:
      - The name of the transfer, the same on both hosts.
    type: str
    required: true
  state:
    description:
      - V(prepared) makes the key and returns its public half, V(sent) copies, V(absent) removes the key.
    type: str
    choices: [prepared, sent, absent]
    default: sent
  copies:
    description:
      - What to copy. At the target, what the source does not have is removed.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The folder or file here.
        type: str
        required: true
      folder:
        description: The name that M(fleet.criu.transfer_receive) gave the folder at the target.
        type: str
        required: true
      file_name:
        description: For a file, its name in that folder.
        type: str
  address:
    description:
      - The target's address or name, as this host reaches it. Needed with O(state=sent).
    type: str
  port:
    description:
      - The port of the target's ssh server.
    type: int
    default: 22
  user:
    description:
      - The user to log in as.
    type: str
    default: root
  host_keys:
    description:
      - The target's public ssh keys. Needed with O(state=sent).
    type: list
    elements: str
  live:
    description:
      - The workload runs meanwhile, so files may change and vanish; another copy will follow when it is stopped.
    type: bool
    default: false
  workload:
    description:
      - The name of the workload whose contents these are. They are recorded as its own, so that it can come back here.
    type: str
seealso:
  - module: fleet.criu.transfer_receive
"""

EXAMPLES = r"""
- name: Make a key for this move
  fleet.criu.transfer_send:
    name: redis-4711
    state: prepared
  become: true
  register: sender

- name: Copy the data while redis runs
  fleet.criu.transfer_send:
    name: redis-4711
    address: 192.0.2.12
    host_keys: "{{ receiver.host_keys }}"
    copies:
      - path: /srv/data
        folder: data
    live: true
  become: true
"""

RETURN = r"""
public_key:
  description: The public half of the key.
  returned: with O(state=prepared), not in check mode
  type: str
  sample: ssh-ed25519 AAAA… fleet.criu:redis-4711
copies:
  description: What was copied.
  returned: with O(state=sent)
  type: list
  elements: dict
  contains:
    path:
      description: The path here.
      type: str
    bytes:
      description: The bytes that were sent.
      type: int
    seconds:
      description: How long it took.
      type: float
"""

from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fleet.criu.plugins.module_utils._module import run_module
from ansible_collections.fleet.criu.plugins.module_utils._runner import SubprocessRunner
from ansible_collections.fleet.criu.plugins.module_utils._transfer.contents import Contents
from ansible_collections.fleet.criu.plugins.module_utils._transfer.receive import transfer_folder
from ansible_collections.fleet.criu.plugins.module_utils._transfer.send import Copy, Receiving, forget, make_key, send


def transfer(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    name, state = parameters["name"], parameters["state"]
    runner = SubprocessRunner()
    exists = transfer_folder(name).exists()
    if state == "absent":
        return {"changed": exists if check_mode else forget(name, runner)}
    if state == "prepared":
        return {"changed": not exists} if check_mode else {"changed": not exists, "public_key": make_key(name, runner)}
    if check_mode:
        return {"changed": True, "copies": []}
    receiving = Receiving(parameters["address"], parameters["host_keys"], parameters["port"], parameters["user"])
    copies = [Copy(entry["path"], entry["folder"], entry["file_name"]) for entry in parameters["copies"]]
    if parameters["workload"] is not None:
        Contents().claim([copy.path for copy in copies], parameters["workload"])
    return {"changed": bool(copies), "copies": send(name, receiving, copies, parameters["live"], runner)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["prepared", "sent", "absent"], "default": "sent"},
            "copies": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "folder": {"type": "str", "required": True},
                    "file_name": {"type": "str"},
                },
            },
            "address": {"type": "str"},
            "port": {"type": "int", "default": 22},
            "user": {"type": "str", "default": "root"},
            "host_keys": {"type": "list", "elements": "str", "no_log": False},
            "live": {"type": "bool", "default": False},
            "workload": {"type": "str"},
        },
        required_if=[("state", "sent", ("address", "host_keys"))],
        supports_check_mode=True,
    )
    run_module(module, transfer)


if __name__ == "__main__":
    main()
