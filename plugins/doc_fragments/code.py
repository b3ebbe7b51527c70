# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the option that names the code of the agents."""

from __future__ import annotations


class ModuleDocFragment:
    """The option of every module that starts an agent, or brings its code."""

    DOCUMENTATION = r"""
options:
  code:
    description:
      - The name of the agents' code. The controller's part of this module gives it, and brings the code to a host that
        does not have it with M(fleet.criu.handoff_agent).
    type: str
    default: ""
"""
