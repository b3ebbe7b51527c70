#!/usr/bin/python
# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: handoff_receive
short_description: Make the target of a handoff ready for the source
version_added: 0.1.0
description:
  - Runs on the target. Starts a receiver that lives on when the module has ended. It opens a port that only the one
    source of this one handoff gets into, checks the map and the root once more when the source is there, takes images
    and files, and restores the workload up to the point where nothing runs yet. It lets it run only when the source
    says so.
  - If the workload has an engine, that begins its restore before the freeze and waits for the images, so whatever it
    does not like it says while the workload still runs at the source.
  - If the source is lost before that, nothing runs here and nothing ever will by this handoff.
  - Where systemd runs, the workload lives in a unit of its own afterwards.
author:
  - The fleet.criu maintainers (@fleet-criu)
extends_documentation_fragment:
  - fleet.criu.attributes
  - fleet.criu.code
  - fleet.criu.engine
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: What changes is a process, not a state.
  idempotent:
    support: none
    details: A handoff has one life. Each attempt gets another name.
requirements:
  - CRIU 3.15 or later, openssl and, for O(folders), rsync on the target.
options:
  handoff:
    description:
      - The name of the handoff, the same on both hosts, for one attempt alone.
    type: str
    required: true
  workload:
    description:
      - The name of the workload.
    type: str
    required: true
  source:
    description:
      - The name of the source, for journals, hooks and messages.
    type: str
    required: true
  target:
    description:
      - The name of this host, likewise.
    type: str
    required: true
  certificate:
    description:
      - The certificate of the source, as M(fleet.criu.handoff_send) returned it with
        O(fleet.criu.handoff_send#module:state=prepared).
    type: str
    required: true
  images:
    description:
      - The folder for the images. In memory, which is below C(/run/fleet.criu/images), the workload is frozen for a
        shorter time.
      - It must be in a folder that only root may write, with all of its parents.
      - With O(transport=shared) it is where the source writes them, as this host calls it.
    type: path
    required: true
  root:
    description:
      - The folder that becomes the root of the workload, as M(fleet.criu.mount_map) returned it. Leave it out if the
        engine makes one itself.
    type: path
    default: ""
  sources:
    description:
      - With O(engine), the path on this host for each mountpoint that the container's configuration binds from its
        host. They take the place of the sources in the engine's own configuration, in a copy.
    type: dict
    default: {}
  mount_map:
    description:
      - The restore map, as M(fleet.criu.mount_map) returned it.
    type: list
    elements: dict
    required: true
    suboptions:
      key:
        description: The key in the images.
        type: str
        required: true
      path:
        description: The path on this host.
        type: str
        required: true
      device:
        description: Whether the path is a block device whose file system is mounted anew.
        type: bool
        default: false
  folders:
    description:
      - The folders that the source may fill, by the name that it uses for each. A missing one is made.
    type: dict
    default: {}
  create:
    description:
      - What is to be made, as M(fleet.criu.mount_map) returned it in RV(fleet.criu.mount_map#module:to_create). What is
        there already stays as it is.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The path. Its folder must exist.
        type: str
        required: true
      type:
        description: What it will be.
        type: str
        choices: [directory, file]
        required: true
      mode:
        description: The mode in octal digits.
        type: str
        required: true
      owner:
        description: The name or number of the user that owns it.
        type: str
        default: root
      group:
        description: The name or number of the group that owns it.
        type: str
        default: root
  claims:
    description:
      - Paths that hold contents of O(workload) from now on, so that a later copy may replace them.
    type: list
    elements: str
    default: []
  replace_contents:
    description:
      - Let copies replace what O(claims) have now, also if it did not come from an earlier move of the workload or is
        newer than what comes. Otherwise this is refused, whatever was planned.
    type: bool
    default: false
  transport:
    description:
      - V(direct) takes the images over the network, V(shared) from storage that both hosts have.
    type: str
    choices: [direct, shared]
    default: direct
  address:
    description:
      - The address to listen at, numeric. V(::) is all of IPv6 and IPv4.
    type: str
    default: "::"
  port:
    description:
      - The port to listen at. V(0) is any that is free.
    type: int
    default: 0
  options:
    description:
      - Options for CRIU, as M(fleet.criu.restore) has them, where they differ from those at the dump.
    type: dict
    default: {}
  hooks:
    description:
      - Commands at named moments, by moment, V(before_freeze), V(held), V(before_run), V(after_run) or V(rolled_back).
        Each has C(command) (a list of words), C(timeout) (seconds, 10 by default) and C(required) (true by default).
      - A required hook that fails before the workload runs stops the handoff, and the workload runs on at the source.
    type: dict
    default: {}
  hook_environment:
    description:
      - Variables for all of the hooks, by name. This is the place for a password or a token. The values are in no
        argument list, result or log, and are replaced in what a hook says when it fails.
    type: dict
    default: {}
  unit:
    description:
      - The systemd unit that the workload lives in afterwards. C(criu-WORKLOAD.service) by default.
    type: str
  pid_file:
    description:
      - A file that gets the pid of the workload's init.
    type: path
  criu_path:
    description:
      - The criu to use. By default that on the path.
    type: path
  keep_images:
    description:
      - Keep the images when the workload runs. They hold its memory.
    type: bool
    default: false
  arm_timeout:
    description:
      - How many seconds to wait for the source.
    type: float
    default: 600.0
seealso:
  - module: fleet.criu.handoff_send
  - module: fleet.criu.handoff_settle
  - module: fleet.criu.handoff_agent
"""

EXAMPLES = r"""
- name: Make node2 ready
  fleet.criu.handoff_receive:
    handoff: redis-20260101T020000
    workload: redis
    source: node1
    target: node2
    certificate: "{{ sender.certificate }}"
    images: /run/fleet.criu/images/redis-20260101T020000
    root: "{{ map.root }}"
    mount_map: "{{ map.restore_map }}"
    folders: "{{ map.folders }}"
    hooks:
      before_run:
        - command: [ip, address, add, 192.0.2.7/24, dev, eth0]
          timeout: 5
  delegate_to: node2
  become: true
  register: receiver
"""

RETURN = r"""
port:
  description: The port that the receiver listens at.
  returned: not in check mode
  type: int
  sample: 41873
certificate:
  description: The certificate of the receiver, for M(fleet.criu.handoff_send). It is no secret.
  returned: not in check mode
  type: str
unit:
  description: The systemd unit that the workload will live in; empty where no systemd runs.
  returned: not in check mode
  type: str
  sample: criu-redis.service
"""

from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fleet.criu.plugins.module_utils import _arguments
from ansible_collections.fleet.criu.plugins.module_utils._handoff.owner import has_systemd, unit_name
from ansible_collections.fleet.criu.plugins.module_utils._handoff.request import ReceiveRequest
from ansible_collections.fleet.criu.plugins.module_utils._handoff.start import arm
from ansible_collections.fleet.criu.plugins.module_utils._module import run_module
from ansible_collections.fleet.criu.plugins.module_utils._runner import SubprocessRunner

_RENAMED = ("mount_map", "arm_timeout", "engine", "container", "sources", "code")


def receive(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    request = ReceiveRequest(
        restore_map=parameters["mount_map"],
        arm_seconds=parameters["arm_timeout"],
        engine={**_arguments.engine_of(parameters), "sources": parameters["sources"]} if parameters["engine"] else {},
        **{name: value for name, value in parameters.items() if name not in _RENAMED},
    )
    if check_mode:
        return {"changed": True}
    port, certificate = arm(request, parameters["code"], SubprocessRunner())
    unit = unit_name(request.workload, request.unit) if has_systemd() and not request.engine else ""
    return {"changed": True, "port": port, "certificate": certificate, "unit": unit}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_arguments.handoff(),
            "certificate": {"type": "str", "required": True},
            "images": {"type": "path", "required": True},
            "root": {"type": "path", "default": ""},
            "sources": {"type": "dict", "default": {}},
            "mount_map": _arguments.restore_map(),
            "folders": {"type": "dict", "default": {}},
            "create": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "type": {"type": "str", "choices": ["directory", "file"], "required": True},
                    "mode": {"type": "str", "required": True},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                },
            },
            "claims": {"type": "list", "elements": "str", "default": []},
            "replace_contents": {"type": "bool", "default": False},
            "address": {"type": "str", "default": "::"},
            "port": {"type": "int", "default": 0},
            "unit": {"type": "str"},
            "keep_images": {"type": "bool", "default": False},
            "arm_timeout": {"type": "float", "default": 600.0},
            **_arguments.code(),
        },
        required_together=[_arguments.WORKLOAD_TOGETHER],
        supports_check_mode=True,
    )
    run_module(module, receive)


if __name__ == "__main__":
    main()
