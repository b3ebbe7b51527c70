#!/usr/bin/python
# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: workload_info
short_description: Find a workload on a host and describe it
version_added: 0.1.0
description:
  - Finds the init process of a workload by pid, pid file, systemd unit or exact command line.
  - Tells which generations of it this host knows, see M(fleet.criu.dump).
  - Tells its root folder on the host, which namespaces are its own, and how much memory a dump has to write.
author:
  - The fleet.criu maintainers (@fleet-criu)
extends_documentation_fragment:
  - fleet.criu.attributes
  - fleet.criu.workload
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  name:
    description:
      - The name of the workload. With it RV(generation) and RV(spent_generation) are returned.
    type: str
  required:
    description:
      - Fail if the workload does not run here. Otherwise RV(found) tells.
    type: bool
    default: true
seealso:
  - module: fleet.criu.mount_info
"""

EXAMPLES = r"""
- name: Find redis by its pid file
  fleet.criu.workload_info:
    pid_file: /run/workloads/redis.pid
  become: true
  register: redis

- name: See on which hosts a unit runs
  fleet.criu.workload_info:
    unit: gauge.service
    required: false
  become: true
  register: gauge

- name: Ask what this host knows of the image sets of redis
  fleet.criu.workload_info:
    name: redis
    pid_file: /run/workloads/redis.pid
    required: false
  become: true
  register: redis
"""

RETURN = r"""
found:
  description: Whether the workload runs here.
  returned: always
  type: bool
  sample: true
reason:
  description: Why it was not found.
  returned: if it was not found
  type: str
generation:
  description: The highest generation of the workload that this host knows, 0 if none.
  returned: if O(name) is given
  type: int
  sample: 7
spent_generation:
  description: The highest generation that is spent by this host's record, 0 if none. All before it are spent too.
  returned: if O(name) is given
  type: int
  sample: 6
pid:
  description: The pid of the workload's init process, as the host sees it.
  returned: if it was found
  type: int
  sample: 4711
start_time:
  description: When that process started, in clock ticks after boot. With the pid it tells the process from all others.
  returned: if it was found
  type: int
  sample: 123456
command:
  description: Its command line.
  returned: if it was found
  type: list
  elements: str
  sample: ["redis-server", "/etc/redis/redis.conf"]
root:
  description: The folder on the host that is the workload's root; null if it cannot be seen from the host.
  returned: if it was found
  type: str
  sample: /srv/roots/redis
namespaces:
  description: For each kind of namespace V(own) or V(host).
  returned: if it was found
  type: dict
  sample: {"mnt": "own", "net": "host", "pid": "own"}
processes:
  description: How many processes the workload has.
  returned: if it was found
  type: int
  sample: 1
uids:
  description: The user IDs of its processes, as the host sees them.
  returned: if it was found
  type: list
  elements: int
  sample: [0]
memory_bytes:
  description: The memory that a dump has to write, about (anonymous, shared and swapped pages).
  returned: if it was found
  type: int
  sample: 134217728
"""

from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fleet.criu.plugins.module_utils import _arguments
from ansible_collections.fleet.criu.plugins.module_utils._criu.generation import Generations
from ansible_collections.fleet.criu.plugins.module_utils._engine.process import Description, describe, find
from ansible_collections.fleet.criu.plugins.module_utils._errors import WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._module import run_module
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import SubprocessRunner


def info(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    proc = Proc()
    known = _known_generations(parameters["name"])
    try:
        identity = find(Description.from_dict(parameters), proc, SubprocessRunner())
    except WorkloadNotFound as error:
        if parameters["required"]:
            raise
        return {"found": False, "reason": error.message, **known}
    return {"found": True, **describe(identity, proc), **known}


def _known_generations(name: str | None) -> dict[str, int]:
    if name is None:
        return {}
    generations = Generations()
    return {"generation": generations.current(name), "spent_generation": generations.spent(name)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_arguments.workload(),
            "name": {"type": "str"},
            "required": {"type": "bool", "default": True},
        },
        mutually_exclusive=[_arguments.WORKLOAD_CHOICES],
        required_one_of=[_arguments.WORKLOAD_CHOICES],
        supports_check_mode=True,
    )
    run_module(module, info)


if __name__ == "__main__":
    main()
