# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options that name a container."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of every module that works on containers too."""

    DOCUMENTATION = r"""
options:
  engine:
    description:
      - The engine that owns the workload. It dumps and restores its containers itself, so that it does not lose track
        of them.
      - V(docker) is known and refused, with the way out.
    type: str
    choices: [crun, docker, lxc, podman, runc]
  container:
    description:
      - The name of the container, as O(engine) knows it. Needed with O(engine), and the other way round.
    type: str
"""
