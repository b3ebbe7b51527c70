#!/usr/bin/python
# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mount_map
short_description: Turn mounts and rules into the mount map for a target, with all gaps at once
version_added: 0.1.0
description:
  - Runs on the target. Takes the mounts of a workload, as M(fleet.criu.mount_info) read them on the source, and the
    rules of the target, and gives the map for C(criu dump), the map for C(criu restore), and every gap.
  - A gap is anything that would make the move fail or go wrong. Each has the mountpoint, the reason and what to write.
  - Checks on the target that each path exists, is a file or folder as it must be and no symlink, and that each
    mountpoint exists below the target's root.
  - Rules are tried in this order. One with O(rules[].mountpoint), then the one with the longest O(rules[].prefix),
    then one with O(rules[].select). A rule that names the workload goes before one of the same sort that does not.
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
    support: full
  action:
    description: Has an action plugin on the controller, which evaluates O(rules[].select).
    support: full
requirements:
  - The Python package C(jmespath) on the controller, if O(rules[].select) is used.
options:
  mounts:
    description:
      - The mounts of the workload, as M(fleet.criu.mount_info) returns them.
    type: list
    elements: dict
    required: true
  rules:
    description:
      - The rules of this target.
    type: list
    elements: dict
    default: []
    suboptions:
      mountpoint:
        description: The exact place inside the workload.
        type: str
      prefix:
        description: A path on the source host; the rule is for all mounts whose root is there or below.
        type: str
      select:
        description: A JMESPath expression over the fields of one mount, for example V(fstype == 'nfs4').
        type: str
      source:
        description: The path on the target, with O(rules[].mountpoint) or O(rules[].select).
        type: str
      device:
        description:
          - A block device of the target, with O(rules[].mountpoint), for a mount that is the whole file system of a
            block device. It is mounted anew, so the target need not have it mounted.
          - What else the workload has mounted of this file system, also one of its folders, comes with it and needs no
            rule.
        type: str
      replace:
        description: What comes in the place of O(rules[].prefix).
        type: str
      keep:
        description: Use the same path as on the source.
        type: bool
        default: false
      create:
        description:
          - What to make, empty, if the path is missing on the target and its contents are not copied. It has C(type)
            (V(directory) or V(file)), C(mode) (octal, in quotes), and C(owner) and C(group), V(root) by default. The
            folder that it lies in must exist. M(fleet.criu.handoff_receive) makes it, just before the move.
        type: dict
      key:
        description: The key in the images. The default is the mountpoint.
        type: str
      workload:
        description: Use this rule for the workload of this name alone.
        type: str
      mount_ids:
        description: The mounts that O(rules[].select) is true for. The action plugin writes it.
        type: list
        elements: int
  workload:
    description:
      - The name of the workload, for rules that name one.
    type: str
  keep_paths:
    description:
      - Use the source's path for each mount that no rule covers, instead of reporting a gap.
    type: bool
    default: false
  data:
    description:
      - How the contents of a mount get to the target, by mountpoint; V(/) is the root.
      - With V(present) they must be there already, which is the default; with V(shared) they are on storage that both
        hosts have; with V(sync) they will be copied, and the path may be missing as long as its folder exists.
    type: dict
    default: {}
  replace_contents:
    description:
      - Let a copy (V(sync)) replace contents at the target that did not come from an earlier move of this workload.
    type: bool
    default: false
  source_contents:
    description:
      - The C(contents) that M(fleet.criu.workload_info) returned on the source. With them it is noticed that what a
        copy (V(sync)) would replace is newer than what would come.
    type: dict
  severities:
    description:
      - Another severity for a code of RV(gaps) or RV(hazards), for example V(warning) for C(lost_read_only).
      - Each is V(error), V(warning) or V(ignore). What would make the restore itself fail cannot be lowered.
      - The codes that can be changed, and what each is by default, are in C(docs/hazards.md).
    type: dict
    default: {}
  fail_on_gaps:
    description:
      - Fail if there are gaps. Otherwise look at RV(gaps).
    type: bool
    default: true
seealso:
  - module: fleet.criu.mount_info
  - module: fleet.criu.dump
  - module: fleet.criu.restore
"""

EXAMPLES = r"""
- name: Plan the mounts of redis for this host
  fleet.criu.mount_map:
    mounts: "{{ redis.mounts }}"
    workload: redis
    rules:
      - mountpoint: /
        source: /srv/roots/redis
      - mountpoint: /data
        source: /srv/fast/data
      - prefix: /srv
        replace: /mnt/ssd/srv
      - select: "fstype == 'nfs4'"
        keep: true
    data:
      /: sync
      /data: sync
  become: true
  register: map
"""

RETURN = r"""
root:
  description: The workload's root folder on the target.
  returned: if no gap hides it
  type: str
  sample: /srv/roots/redis
dump_map:
  description: What M(fleet.criu.dump) needs.
  returned: always
  type: list
  elements: dict
  sample: [{"mountpoint": "/data", "key": "/data"}]
restore_map:
  description: What M(fleet.criu.restore) needs.
  returned: always
  type: list
  elements: dict
  sample: [{"key": "/data", "path": "/srv/fast/data"}]
entries:
  description: >-
    The root and each external mount with its path here, its key, the rule that decided and its data. V(copied_with) is
    the mountpoint of the mount whose copy brings this one's contents too, because it has the same folder, or one above
    it, here as on the source.
  returned: always
  type: list
  elements: dict
  sample: [{"mountpoint": "/data", "kind": "external", "type": "directory", "fstype": "ext4", "host_path": "/srv/data",
            "key": "/data", "path": "/srv/fast/data", "rule": "mountpoint: /data", "data": "sync", "device": null,
            "create": null, "copied_with": null}]
gaps:
  description: Everything that is missing or wrong.
  returned: always
  type: list
  elements: dict
  sample: [{"code": "no_rule", "mountpoint": "/data", "reason": "no rule says where …", "remedy": "Write …"}]
hazards:
  description: What does not keep the workload from moving, but should be known; like RV(gaps).
  returned: always
  type: list
  elements: dict
  sample: []
copies:
  description: What M(fleet.criu.handoff_send) has to copy from the source (data V(sync)).
  returned: always
  type: list
  elements: dict
  sample: [{"path": "/srv/data", "folder": "mount1", "file_name": null}]
folders:
  description: The folders here that M(fleet.criu.handoff_receive) lets be filled.
  returned: always
  type: dict
  sample: {"mount1": "/srv/fast/data"}
to_create:
  description: What O(rules[].create) asks for and is missing, for M(fleet.criu.handoff_receive).
  returned: always
  type: list
  elements: dict
  sample: [{"path": "/srv/fast/cache", "type": "directory", "mode": "0750", "owner": "root", "group": "root"}]
unused_rules:
  description: The rules that decided about no mount of this workload.
  returned: always
  type: list
  elements: str
  sample: []
"""

from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fleet.criu.plugins.module_utils._module import run_module
from ansible_collections.fleet.criu.plugins.module_utils._mounts.mount_map import mount_map


def plan(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    return mount_map(parameters)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "mounts": {"type": "list", "elements": "dict", "required": True},
            "rules": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "mountpoint": {"type": "str"},
                    "prefix": {"type": "str"},
                    "select": {"type": "str"},
                    "source": {"type": "str"},
                    "device": {"type": "str"},
                    "replace": {"type": "str"},
                    "keep": {"type": "bool", "default": False},
                    "create": {"type": "dict"},
                    "key": {"type": "str", "no_log": False},
                    "workload": {"type": "str"},
                    "mount_ids": {"type": "list", "elements": "int"},
                },
            },
            "workload": {"type": "str"},
            "keep_paths": {"type": "bool", "default": False},
            "data": {"type": "dict", "default": {}},
            "replace_contents": {"type": "bool", "default": False},
            "source_contents": {"type": "dict"},
            "severities": {"type": "dict", "default": {}},
            "fail_on_gaps": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    run_module(module, plan)


if __name__ == "__main__":
    main()
