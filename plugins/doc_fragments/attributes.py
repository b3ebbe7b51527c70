# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that all modules share: what they support."""

from __future__ import annotations


class ModuleDocFragment:
    """The attributes; each module says how far it supports them."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and tell what would be done, without changing anything.
  diff_mode:
    description: Shows what has changed, or would change in check mode, when run in diff mode.
  idempotent:
    description: When run twice in a row with the same arguments, the second run changes nothing.
  platform:
    description: The operating systems it can be used on.
    platforms: linux
    support: full
  action_group:
    description: Use C(group/fleet.criu.criu) in C(module_defaults) to set defaults for it.
    membership:
      - fleet.criu.criu
    support: full
requirements:
  - Python 3.8 or later on the host; no further Python package.
"""
