# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter mountinfo: the text of a mountinfo file as rows."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import is_decodable, parse

DOCUMENTATION = r"""
name: mountinfo
short_description: Read the text of a mountinfo file into rows
version_added: 0.1.0
author:
  - The fleet.criu maintainers (@fleet-criu)
description:
  - Reads the text of C(/proc/PID/mountinfo), see proc(5), into one dictionary for each mount.
  - Only the text is looked at. What a mount is for CRIU, and where its root is on the host, M(fleet.criu.mount_info)
    tells of a running process, and P(fleet.criu.external_map#filter) of rows.
  - Octal escapes are replaced by what they stand for, except in RV(_value[].super_options). A byte that is no UTF-8
    is shown as V(\\xNN).
options:
  _input:
    description: The text.
    type: str
    required: true
seealso:
  - plugin: fleet.criu.external_map
    plugin_type: filter
  - module: fleet.criu.mount_info
"""

EXAMPLES = r"""
- name: Read the mounts of the host's first process
  ansible.builtin.slurp:
    path: /proc/1/mountinfo
  register: mountinfo

- name: Show where NFS is mounted
  ansible.builtin.debug:
    msg: >-
      {{ mountinfo.content | b64decode | fleet.criu.mountinfo
         | selectattr('fstype', 'eq', 'nfs4') | map(attribute='mountpoint') }}

- name: Show the mountpoints and sources of shared mounts with a query
  ansible.builtin.debug:
    msg: >-
      {{ mountinfo.content | b64decode | fleet.criu.mountinfo
         | community.general.json_query('[?shared].{mountpoint: mountpoint, source: source}') }}
"""

RETURN = r"""
_value:
  description: The mounts in the order of the text. The fields have the names of proc(5).
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
      description: Where it is mounted, below the root of the process.
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
      description: Whether the root and the mountpoint are UTF-8, so that they can be given to CRIU as they are shown.
      type: bool
"""


def mountinfo(text: str) -> list[dict[str, Any]]:
    """The rows in plain JSON types. Raises AnsibleFilterError, which names the line that cannot be read."""
    if not isinstance(text, str):
        raise AnsibleFilterError(f"mountinfo needs the text of a mountinfo file, not a {type(text).__name__}.")
    try:
        return [
            {**row.as_dict(), "decodable": is_decodable(row.root) and is_decodable(row.mountpoint)}
            for row in parse(text)
        ]
    except CriuError as error:
        # Ansible would show the cause too, and with it the same text again.
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"mountinfo": mountinfo}
