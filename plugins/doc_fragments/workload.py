# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options that say which workload is meant."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of every module that finds a workload."""

    DOCUMENTATION = r"""
options:
  pid:
    description:
      - The pid of the workload's init process, as the host sees it.
    type: int
  pid_file:
    description:
      - A file on the host that holds the pid of the workload's init process.
      - A file that is older than the process is refused, because the pid may have been used again since.
    type: path
  unit:
    description:
      - The systemd unit whose main process is the workload's init process.
    type: str
  command:
    description:
      - The exact and whole command line of the workload's init process, argument by argument.
    type: list
    elements: str
"""
