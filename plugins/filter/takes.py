# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter takes: who of a fleet can take workloads from whom."""

from __future__ import annotations

from typing import Any, Callable, Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.fleet.criu.plugins.module_utils._criu.matrix import takes as matrix

DOCUMENTATION = r"""
name: takes
short_description: Tell which hosts can take workloads from which
version_added: 0.1.0
author:
  - The fleet.criu maintainers (@fleet-criu)
description:
  - Compares what M(fleet.criu.criu_info) returned on each host with that of each other one (CRIU, kernel, architecture
    and what is known not to work together), and gives a row for each source.
  - Whether a certain workload can be moved M(fleet.criu.preflight) tells.
options:
  _input:
    description: What the module returned, by host. A host that could not be asked has anything without C(usable).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show who takes from whom
  ansible.builtin.debug:
    msg: "{{ infos | fleet.criu.takes | fleet.criu.columns(['from'] + infos | list) }}"
"""

RETURN = r"""
_value:
  description:
    - For each source its name in C(from), and by the name of each target V(yes), V(yes) with a reservation, or V(no)
      with the reason.
  type: list
  elements: dict
  sample: [{"from": "node1", "node1": "-", "node2": "yes (older kernel)"}]
"""


def takes(infos: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """The rows. Raises AnsibleFilterError if this is not what criu_info returned, by host."""
    try:
        return matrix(infos)
    except (AttributeError, TypeError, KeyError) as error:
        raise AnsibleFilterError(f"takes needs what criu_info returned, by host: {error!r}") from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"takes": takes}
