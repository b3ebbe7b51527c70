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
  - Finds the init process of a workload by pid, pid file, systemd unit, exact command line, or by engine and container.
  - With none of them it lists every container of every engine on the host, so one ad-hoc command discovers a fleet.
  - Tells which generations of it this host knows, see M(fleet.criu.dump).
  - Tells its root folder on the host, which namespaces are its own, and how much memory a dump has to write.
author:
  - The fleet.criu maintainers (@fleet-criu)
extends_documentation_fragment:
  - fleet.criu.attributes
  - fleet.criu.engine
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
      - Where systemd runs, the workload is then looked for also in the unit that a move or a restore puts it into,
        C(criu-NAME.service), unless it is described by O(pid) or O(container). If it runs here more than once, that is
        an error.
    type: str
  owner_unit:
    description:
      - Another unit that a move or a restore may have put the workload into. Needs O(name).
    type: str
  required:
    description:
      - Fail if the workload does not run here. Otherwise RV(found) tells.
    type: bool
    default: true
  mounts:
    description:
      - Return also the mounts of the workload, as M(fleet.criu.mount_info) does without keys. One call instead of two.
    type: bool
    default: false
seealso:
  - module: fleet.criu.mount_info
"""

EXAMPLES = r"""
- name: List all containers that run somewhere (ansible all -b -m fleet.criu.workload_info)
  fleet.criu.workload_info:
  become: true
  register: everything

- name: Find a container of podman
  fleet.criu.workload_info:
    engine: podman
    container: web
  become: true
  register: web

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

- name: Find redis where it was started, and where a move has put it
  fleet.criu.workload_info:
    name: redis
    unit: redis-server.service
    owner_unit: redis-moved.service
  become: true
  register: redis

- name: Ask what this host knows of the image sets of redis
  fleet.criu.workload_info:
    name: redis
    pid_file: /run/workloads/redis.pid
    required: false
  become: true
  register: redis
"""

RETURN = r"""
engines:
  description: The engines on this host.
  returned: if no workload is named
  type: list
  elements: dict
  contains:
    name:
      description: The name of the engine.
      type: str
    version:
      description: What it says of its version.
      type: str
    is_supported:
      description: Whether its containers can be moved at all.
      type: bool
    problem:
      description: Why it cannot be used, if it cannot, and what to do.
      type: str
workloads:
  description: The containers of all engines on this host, those that do not run too.
  returned: if no workload is named
  type: list
  elements: dict
  contains:
    engine:
      description: The engine that owns it.
      type: str
    name:
      description: Its name.
      type: str
    identifier:
      description: Its ID, if the engine has one, or its name.
      type: str
    state:
      description: The engine's word for its state, V(running) if it runs.
      type: str
    pid:
      description: The pid of its init process, 0 if it does not run.
      type: int
    bundle:
      description: The folder with its OCI configuration.
      type: str
    image:
      description: Its image, if it has one.
      type: str
    runtime:
      description: The runtime that its engine uses, if it uses another one.
      type: str
    owner:
      description: The engine above that it belongs to; such a container is listed there alone.
      type: str
    states:
      description: The folder that its engine keeps its state in, if it may be one of several.
      type: str
    binds:
      description: What it has from its host, each with V(source), V(destination), V(is_read_only) and V(volume).
      type: list
      elements: dict
    memory_bytes:
      description: The memory that a dump has to write, about.
      type: int
    problems:
      description: Why it cannot be moved, if it cannot.
      type: list
      elements: str
found:
  description: Whether the workload runs here.
  returned: if a workload is named
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
contents:
  description:
    - The paths on this host of which is known since which generation they have contents of the workload.
    - For O(fleet.criu.mount_map#module:source_contents).
  returned: if O(name) is given
  type: dict
  sample: {"/srv/data/redis": 7}
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
handoff:
  description:
    - The open handoff that holds the workload here, so that nothing else may begin with it, or null if none does. Also
      returned if the workload was not found, because a target may have been told to run it.
  returned: if a workload is named
  type: dict
  contains:
    name: {description: Its name., type: str}
    side: {description: V(source) or V(target)., type: str}
    step: {description: The last step in its journal; null if that cannot be read., type: str}
    state: {description: What that means., type: str}
    since: {description: When it came there (UTC)., type: str}
    other_host: {description: The host at its other end., type: str}
    at_work: {description: Whether its agent lives., type: bool}
    command: {description: What brings it to its end., type: str}
  sample:
    name: redis-20260102T030405-9f3c
    side: source
    step: committed
    state: the target may have been told to run it, so it is held here until that is known
    since: "2026-01-02T03:04:07Z"
    other_host: node2
    at_work: false
    command: ansible-playbook fleet.criu.settle -e handoff=redis-20260102T030405-9f3c
mounts:
  description: The RV(fleet.criu.mount_info#module:mounts) of M(fleet.criu.mount_info).
  returned: if it was found, O(mounts) was asked for and they could be read
  type: list
  elements: dict
nested:
  description: The RV(fleet.criu.mount_info#module:nested) of M(fleet.criu.mount_info).
  returned: as RV(mounts)
  type: list
  elements: dict
"""

import contextlib
from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fleet.criu.plugins.module_utils import _arguments
from ansible_collections.fleet.criu.plugins.module_utils._criu.generation import Generations
from ansible_collections.fleet.criu.plugins.module_utils._engine.discover import discover
from ansible_collections.fleet.criu.plugins.module_utils._engine.mounts import workload_mounts
from ansible_collections.fleet.criu.plugins.module_utils._engine.process import (
    Description,
    describe,
    find_with_owner,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError, WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._handoff.holding import holder
from ansible_collections.fleet.criu.plugins.module_utils._handoff.marks import Marks, container_of
from ansible_collections.fleet.criu.plugins.module_utils._handoff.owner import has_systemd, owner_units
from ansible_collections.fleet.criu.plugins.module_utils._module import run_module
from ansible_collections.fleet.criu.plugins.module_utils._mounts.contents import Contents
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity, Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import SubprocessRunner


def info(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    proc = Proc()
    if all(parameters[choice] is None for choice in _arguments.WORKLOAD_CHOICES):
        return discover(SubprocessRunner(), proc)
    known = _known_generations(parameters["name"])
    try:
        identity, owner = find_with_owner(_description(parameters), proc, SubprocessRunner())
    except WorkloadNotFound as error:
        if parameters["required"]:
            raise
        return {"found": False, "reason": error.message, **known, "handoff": _holder(parameters, None, proc)}
    result = {"found": True, **describe(identity, proc), **known, "handoff": _holder(parameters, identity, proc)}
    if parameters["mounts"]:
        # Where it runs is told all the same; what is wrong with its mounts says mount_info to who asks for them.
        with contextlib.suppress(CriuError):
            result.update(workload_mounts(identity.pid, proc, owner=owner))
    return result


def _description(parameters: Mapping[str, Any]) -> Description:
    name = parameters["name"]
    units = owner_units(name, parameters["owner_unit"]) if name is not None and has_systemd() else []
    return Description.from_dict(parameters, units)


def _holder(parameters: Mapping[str, Any], identity: Identity | None, proc: Proc) -> dict[str, Any] | None:
    unit = parameters["unit"] and owner_units("", parameters["unit"])[-1]
    marks = Marks(
        parameters["name"],
        frozenset() if identity is None else frozenset({identity}),
        container_of(_arguments.engine_of(parameters)),
        pid_file=parameters["pid_file"],
        unit=unit,
    )
    return holder(marks, proc)


def _known_generations(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    generations = Generations()
    return {
        "generation": generations.current(name),
        "spent_generation": generations.spent(name),
        "contents": Contents().generations(name),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_arguments.workload(),
            "name": {"type": "str"},
            "owner_unit": {"type": "str"},
            "required": {"type": "bool", "default": True},
            "mounts": {"type": "bool", "default": False},
        },
        mutually_exclusive=[_arguments.WORKLOAD_CHOICES],
        required_together=[_arguments.WORKLOAD_TOGETHER],
        required_by={"owner_unit": ["name"]},
        supports_check_mode=True,
    )
    run_module(module, info)


if __name__ == "__main__":
    main()
