# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter external_map: mounts and rules as the mount map. No file system is asked."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._mounts.plan import DIRECTORY, FILE, OTHER, Mount, make_plan
from ansible_collections.fleet.criu.plugins.module_utils._mounts.rules import Rule, parse_rules
from ansible_collections.fleet.criu.plugins.module_utils._mounts.select import evaluate_selects, plain
from ansible_collections.fleet.criu.plugins.module_utils._mounts.sources import HostMounts
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import MountRow
from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import EXTERNAL, INTERNAL, ROOT, classify

try:
    import jmespath

    HAS_JMESPATH = True
except ImportError:
    HAS_JMESPATH = False

DOCUMENTATION = r"""
name: external_map
short_description: Turn mounts and rules into the mount map, without asking a host
version_added: 0.1.0
author:
  - The fleet.criu maintainers (@fleet-criu)
description:
  - Gives each external mount its key and its path on the target, by the same rules as M(fleet.criu.mount_map).
  - No host and no file system is asked, so a map can be planned, compared and tested before there is a target. Whether
    the paths exist there and are what they must be, only M(fleet.criu.mount_map) can tell.
  - A map may be used only if RV(_value.gaps) is empty.
positional: rules
options:
  _input:
    description:
      - The mounts of the workload, as RV(fleet.criu.mount_info#module:mounts) has them; or, with O(host), rows as
        P(fleet.criu.mountinfo#filter) gives them.
      - A row that does not say its V(type) counts as a V(directory).
    type: list
    elements: dict
    required: true
  rules:
    description:
      - The rules of the target, as O(fleet.criu.mount_map#module:rules) takes them.
    type: list
    elements: dict
    default: []
  host:
    description:
      - The rows of the source host's mountinfo. With them it is found out which mounts are external and where on the
        host their roots can be seen; what the mounts say about that themselves does not count then.
      - It must be the mountinfo of a process in the host's first mount namespace, read at the same time.
    type: list
    elements: dict
  workload:
    description:
      - The name of the workload, for rules that name one.
    type: str
  keep_paths:
    description:
      - Use the source's path for each mount that no rule covers, instead of reporting a gap.
    type: bool
    default: false
requirements:
  - The Python package C(jmespath), if a rule has V(select).
seealso:
  - module: fleet.criu.mount_map
  - plugin: fleet.criu.mountinfo
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read the mounts of redis
  fleet.criu.mount_info:
    pid_file: /run/workloads/redis.pid
  become: true
  register: redis

- name: Stop here if a mount of redis has no place on one of the targets
  ansible.builtin.assert:
    that: (redis.mounts | fleet.criu.external_map(hostvars[item].criu_mount_rules, workload='redis')).gaps == []
  loop: "{{ groups['targets'] }}"

- name: Show the map for two mountinfo files that were kept
  ansible.builtin.debug:
    msg: >-
      {{ lookup('ansible.builtin.file', 'redis.mountinfo') | fleet.criu.mountinfo
         | fleet.criu.external_map([{'prefix': '/srv', 'replace': '/mnt/ssd/srv'}],
                                   host=lookup('ansible.builtin.file', 'host.mountinfo') | fleet.criu.mountinfo) }}

- name: Show what still needs a rule, and the rule to write, with a query
  ansible.builtin.debug:
    msg: >-
      {{ redis.mounts | fleet.criu.external_map(criu_mount_rules)
         | community.general.json_query("gaps[?code == 'no_rule'].{mountpoint: mountpoint, write: remedy}") }}
"""

RETURN = r"""
_value:
  description: The map and what is wrong with it.
  type: dict
  contains:
    root:
      description: The workload's root folder on the target; null if a gap hides it.
      type: str
      sample: /srv/roots/redis
    dump_map:
      description: What M(fleet.criu.dump) needs.
      type: list
      elements: dict
      sample: [{"mountpoint": "/data", "key": "/data"}]
    restore_map:
      description: What M(fleet.criu.restore) needs.
      type: list
      elements: dict
      sample: [{"key": "/data", "path": "/mnt/ssd/srv/data"}]
    entries:
      description: The root and each external mount with its path on the target, its key and the rule that decided.
      type: list
      elements: dict
      sample: [{"mountpoint": "/data", "kind": "external", "type": "directory", "fstype": "ext4",
                "host_path": "/srv/data", "key": "/data", "path": "/mnt/ssd/srv/data", "rule": "prefix: /srv",
                "data": "present", "device": null, "create": null, "copied_with": null}]
    gaps:
      description: Everything that is missing or wrong, as far as it can be known without asking the target.
      type: list
      elements: dict
      sample: [{"code": "no_rule", "mountpoint": "/data", "reason": "no rule says where …", "remedy": "Write …",
                "severity": "error"}]
    unused_rules:
      description: The rules that decided about no mount of this workload.
      type: list
      elements: str
      sample: []
"""

# What the module mount_map takes, so that a rule means the same here and there.
_RULE_OPTIONS = {
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
}
_OPTIONS = {
    "rules": {"type": "list", "elements": "dict", "default": [], "options": _RULE_OPTIONS},
    "workload": {"type": "str"},
    "keep_paths": {"type": "bool", "default": False},
}
_MOUNT_OPTIONS = {
    "mount_id": {"type": "int", "required": True},
    "mountpoint": {"type": "str", "required": True},
    "kind": {"type": "str", "required": True, "choices": [ROOT, INTERNAL, EXTERNAL]},
    "type": {"type": "str", "default": DIRECTORY, "choices": [DIRECTORY, FILE, OTHER]},
    "fstype": {"type": "str", "required": True},
    "host_path": {"type": "str"},
    "root": {"type": "str", "default": "/"},
    "deleted": {"type": "bool", "default": False},
}


def external_map(
    mounts: Sequence[Mapping[str, Any]],
    rules: Sequence[Mapping[str, Any]] | None = None,
    host: Sequence[Mapping[str, Any]] | None = None,
    workload: str | None = None,
    keep_paths: bool = False,
) -> dict[str, Any]:
    """The map in plain JSON types. Raises AnsibleFilterError for mounts, rules or expressions that are not usable."""
    mounts = _dictionaries("mounts", mounts)
    options = _checked(
        _OPTIONS, {"rules": plain(rules or []), "workload": plain(workload), "keep_paths": keep_paths}, ""
    )
    try:
        if host is not None:
            mounts = _judged(mounts, _dictionaries("host", host))
        plan = make_plan([_mount(mount) for mount in mounts], _rules(options, mounts), options["keep_paths"])
    except CriuError as error:
        # Ansible would show the causes too, and with them the same text again.
        raise AnsibleFilterError(str(error)) from None
    return {
        "root": plan.root,
        "dump_map": plan.dump_map,
        "restore_map": plan.restore_map,
        "entries": [entry.as_dict() for entry in plan.entries],
        "gaps": [gap.as_dict() for gap in plan.gaps],
        "unused_rules": list(plan.unused_rules),
    }


def _judged(mounts: Sequence[Mapping[str, Any]], host: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows, host_rows = [MountRow.from_dict(mount) for mount in mounts], [MountRow.from_dict(mount) for mount in host]
    host_mounts = HostMounts(host_rows)
    judged = []
    for mount, row, verdict in zip(mounts, rows, classify(rows, host_rows)):
        paths = host_mounts.candidates(row) if verdict.kind != INTERNAL else []
        visible = [path for path in paths if not path.hidden]
        judged.append(
            {
                **mount,
                "shared_with_host": host_mounts.has_peer_group(row.shared),
                "kind": verdict.kind,
                "reason": verdict.reason,
                "host_path": visible[0].path if visible else None,
                "host_paths": [path.as_dict() for path in paths],
            }
        )
    return judged


def _mount(mount: Mapping[str, Any]) -> Mount:
    if mount.get("kind") is None:
        raise AnsibleFilterError(
            f"external_map cannot tell whether the mount at {mount.get('mountpoint')} is external: "
            "give mounts as the module fleet.criu.mount_info returns them, "
            "or the rows of the host's mountinfo as 'host'."
        )
    known = {name: mount[name] for name in _MOUNT_OPTIONS if name in mount}
    return Mount.from_dict({**mount, **_checked(_MOUNT_OPTIONS, known, f"the mount at {mount.get('mountpoint')}: ")})


def _rules(options: Mapping[str, Any], mounts: Sequence[Mapping[str, Any]]) -> list[Rule]:
    rules = options["rules"]
    if any(rule["select"] for rule in rules):
        if not HAS_JMESPATH:
            raise AnsibleFilterError(
                "A mount rule has 'select', but the controller has no Python package jmespath. "
                "Install it there (pip install jmespath) for the Python that runs Ansible."
            )
        rules = evaluate_selects(rules, mounts, jmespath.search)
    return parse_rules(rules, options["workload"])


def _checked(options: Mapping[str, Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    result = ArgumentSpecValidator(dict(options)).validate(dict(given))
    if result.error_messages:
        raise AnsibleFilterError(f"external_map: {where}{'; '.join(result.error_messages)}.")
    return dict(result.validated_parameters)


def _dictionaries(name: str, value: Any) -> list[dict[str, Any]]:
    parts = plain(value)
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise AnsibleFilterError(f"external_map needs a list of dictionaries as '{name}'.")
    return parts


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"external_map": external_map}
