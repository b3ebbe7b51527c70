#!/usr/bin/python
# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mount_info
short_description: List the mounts of a workload and tell which are external
version_added: 0.1.0
description:
  - Reads the mountinfo of a workload's init process and says of each mount whether it is the workload's root, internal
    (CRIU restores it by itself) or external (CRIU must be told of it), and why.
  - For the root and for each external mount it looks for the paths on the host where its root can be seen.
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
  mount_map:
    description:
      - Keys that CRIU would be told of. RV(mounts[].verdict) is what it decides with these.
    type: list
    elements: dict
    default: []
    suboptions:
      mountpoint:
        description: The mountpoint, compared as exact text.
        type: str
        required: true
      key:
        description: The key.
        type: str
        required: true
      device:
        description: The device number, V(MAJOR/MINOR), of a whole file system that is mounted anew from a block device.
        type: str
  external:
    description:
      - V(auto) tells what CRIU would decide with auto detection too.
    type: str
    choices: [explicit, auto]
    default: explicit
  external_shared:
    description:
      - Let auto detection take shared mounts (flag C(s)).
    type: bool
    default: false
  external_masters:
    description:
      - Let auto detection take slave mounts (flag C(m)).
    type: bool
    default: false
  skip_mnt:
    description:
      - Mountpoints that CRIU would be told to skip.
    type: list
    elements: str
    default: []
  enable_fs:
    description:
      - File systems that CRIU would be told to know.
    type: list
    elements: str
    default: []
seealso:
  - module: fleet.criu.mount_map
"""

EXAMPLES = r"""
- name: Read the mounts of redis
  fleet.criu.mount_info:
    pid_file: /run/workloads/redis.pid
  become: true
  register: redis

- name: Show the external ones
  ansible.builtin.debug:
    msg: "{{ redis.mounts | selectattr('kind', 'eq', 'external') | map(attribute='mountpoint') }}"
"""

RETURN = r"""
pid:
  description: The pid of the workload's init process.
  returned: always
  type: int
  sample: 4711
nested:
  description:
    - The mounts in nested mount namespaces of the workload that would make C(criu dump) fail. No key can be given for
      them. It is taken for granted that every external mount of the root mount namespace has a key.
  returned: always
  type: list
  elements: dict
  contains:
    pid:
      description: A process in that namespace.
      type: int
    mountpoint:
      description: Where it is mounted.
      type: str
    verdict:
      description: As in RV(mounts[].verdict).
      type: str
    reason:
      description: The reason, in words.
      type: str
mounts:
  description: The mounts in the order of C(/proc/PID/mountinfo). The first fields have the names of proc(5).
  returned: always
  type: list
  elements: dict
  contains:
    mount_id:
      description: The mount's ID.
      type: int
    parent_id:
      description: The ID of the mount above.
      type: int
    major:
      description: The superblock's major device number.
      type: int
    minor:
      description: The superblock's minor device number.
      type: int
    root:
      description: The path in the file system that is this mount's root.
      type: str
    mountpoint:
      description: Where it is mounted, below the workload's root.
      type: str
    mount_options:
      description: The options of the mount.
      type: list
      elements: str
    optional_fields:
      description: The optional fields as they are.
      type: list
      elements: str
    shared:
      description: The peer group, if it is shared.
      type: int
    master:
      description: The peer group that it is a slave of.
      type: int
    propagate_from:
      description: The nearest dominant peer group.
      type: int
    unbindable:
      description: Whether it refuses to be bound.
      type: bool
    fstype:
      description: The type of the file system.
      type: str
    source:
      description: The mount source, for example a device.
      type: str
    super_options:
      description: The options of the superblock, as the kernel prints them.
      type: list
      elements: str
    deleted:
      description: Whether the bound file or folder has been replaced or removed since.
      type: bool
    decodable:
      description: Whether root and mountpoint are UTF-8. Bytes that are not are shown as C(\\xNN).
      type: bool
    kind:
      description: V(root), V(internal), V(external), or V(engine) if the engine of the workload makes it again itself.
      type: str
    configured:
      description: V(false) if the engine of the workload knows nothing of it. Otherwise it is left out.
      type: bool
    reason:
      description: Why it is of this kind.
      type: str
    type:
      description: V(directory), V(file) or V(other).
      type: str
    shared_with_host:
      description: Whether a mount of the host is in the same peer group.
      type: bool
    verdict:
      description:
        - What C(criu dump) will decide about it, with the options given. V(root), V(internal), V(external), V(auto),
          V(engine), V(device) or V(skipped); or why it will fail, V(no_proper_root), V(unsupported),
          V(unreachable_sharing) or V(stacked).
      type: str
    verdict_reason:
      description: The reason, in words.
      type: str
    auto_path:
      description: The path of this host that auto detection would write into the images.
      type: str
    host_path:
      description: >-
        The best path on the host where its root can be seen; null if there is none. It is the one through the mount of
        the file system itself, or of the host's root, unless that is covered there; then one through a bind.
      type: str
    host_paths:
      description: All such paths, the best first, each with V(path), V(mount_id), V(hidden) and V(reason).
      type: list
      elements: dict
"""

from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fleet.criu.plugins.module_utils import _arguments
from ansible_collections.fleet.criu.plugins.module_utils._engine.mounts import workload_mounts
from ansible_collections.fleet.criu.plugins.module_utils._engine.process import (
    Description,
    find_with_owner,
)
from ansible_collections.fleet.criu.plugins.module_utils._module import run_module
from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import Auto, Settings
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import SubprocessRunner


def info(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    proc, runner = Proc(), SubprocessRunner()
    identity, owner = find_with_owner(Description.from_dict(parameters), proc, runner)
    auto = Auto(parameters["external_shared"], parameters["external_masters"])
    settings = Settings(
        keys={entry["mountpoint"]: entry["key"] for entry in parameters["mount_map"] if not entry["device"]},
        devices=frozenset(entry["device"].replace("/", ":") for entry in parameters["mount_map"] if entry["device"]),
        auto=auto if parameters["external"] == "auto" else None,
        skipped=frozenset(parameters["skip_mnt"]),
        enabled_file_systems=frozenset(parameters["enable_fs"]),
    )
    return {"pid": identity.pid, **workload_mounts(identity.pid, proc, settings, owner)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_arguments.workload(),
            **_arguments.external(),
            "mount_map": {**_arguments.dump_map(), "default": []},
        },
        mutually_exclusive=[_arguments.WORKLOAD_CHOICES],
        required_one_of=[_arguments.WORKLOAD_CHOICES],
        required_together=[_arguments.WORKLOAD_TOGETHER],
        supports_check_mode=True,
    )
    run_module(module, info)


if __name__ == "__main__":
    main()
