#!/usr/bin/python
# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: criu_info
short_description: Tell which CRIU a host has and what it can do there
version_added: 0.1.0
description:
  - Finds the C(criu) program, its version and the features that it and the kernel support together.
  - Says what a missing feature rules out.
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
options:
  criu_path:
    description:
      - The path of the C(criu) program. The default looks in E(PATH) and the usual folders.
    type: path
  images:
    description:
      - A folder where image sets would be put; RV(free_bytes) is about its file system. It need not exist.
    type: path
  features:
    description:
      - Ask for every feature that C(criu check) knows, which takes a moment for each.
    type: bool
    default: true
  required:
    description:
      - Fail if there is no usable CRIU. Otherwise RV(usable) tells.
    type: bool
    default: true
seealso:
  - module: fleet.criu.workload_info
"""

EXAMPLES = r"""
- name: See what CRIU can do here
  fleet.criu.criu_info:
  become: true
  register: criu

- name: Refuse hosts that cannot lock the network with nftables
  ansible.builtin.assert:
    that: criu.features.network_lock_nftables
"""

RETURN = r"""
usable:
  description: Whether there is a CRIU that C(criu check) is content with.
  returned: always
  type: bool
  sample: true
path:
  description: The path of the program.
  returned: if CRIU was found
  type: str
  sample: /usr/sbin/criu
version:
  description: Its version.
  returned: if CRIU was found
  type: str
  sample: 4.1.1
features:
  description: For each feature that can be asked for, whether CRIU and the kernel have it.
  returned: if CRIU was found and O(features=true)
  type: dict
  sample: {"mem_dirty_track": false, "network_lock_nftables": true}
missing:
  description: The features that are missing, and what that rules out.
  returned: if CRIU was found and O(features=true)
  type: list
  elements: dict
  sample: [{"feature": "mem_dirty_track", "rules_out": "pre-copy (pre-dump with memory tracking)"}]
problems:
  description: What C(criu check) complains of, or why there is no usable CRIU.
  returned: always
  type: list
  elements: str
  sample: []
known_problems:
  description: What this CRIU is known to fail at on this kernel, with what to do about it and where it is known from.
  returned: if CRIU was found
  type: list
  elements: dict
  sample:
    - code: sockets_not_dumpable
      operation: dump
      needs: sockets
      what: CRIU before 4.2 cannot dump TCP and UDP sockets on Linux 6.16 or later
      kernel: "6.16"
      criu: "4.2"
      remedy: Install CRIU 4.2 or later, or use a kernel before 6.16.
      source: release notes of CRIU 4.2; seen with 4.1.1 on Linux 6.18
host:
  description: The host's own name, as it is in the manifests of its image sets.
  returned: always
  type: str
  sample: node1
kernel:
  description: The release of the kernel.
  returned: always
  type: str
  sample: 6.12.0-1-amd64
architecture:
  description: The machine's architecture.
  returned: always
  type: str
  sample: x86_64
free_bytes:
  description: The bytes free where O(images) is or would be.
  returned: if O(images) is given
  type: int
  sample: 123456789
"""

import platform
from pathlib import Path
from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fleet.criu.plugins.module_utils._criu.feature import inspect
from ansible_collections.fleet.criu.plugins.module_utils._criu.folder import free_bytes
from ansible_collections.fleet.criu.plugins.module_utils._criu.known_pairs import known_problems
from ansible_collections.fleet.criu.plugins.module_utils._module import run_module
from ansible_collections.fleet.criu.plugins.module_utils._runner import SubprocessRunner


def info(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    result = inspect(SubprocessRunner(), parameters["criu_path"], parameters["required"], parameters["features"])
    if parameters["images"] is not None:
        result["free_bytes"] = free_bytes(Path(parameters["images"]))
    if result.get("version"):
        found = known_problems(platform.release(), result["version"])
        result["known_problems"] = [pair.as_dict() for pair in found]
    return {"host": platform.node(), "kernel": platform.release(), "architecture": platform.machine(), **result}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "criu_path": {"type": "path"},
            "images": {"type": "path"},
            "features": {"type": "bool", "default": True},
            "required": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    run_module(module, info)


if __name__ == "__main__":
    main()
