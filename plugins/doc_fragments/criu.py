# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options that dump and restore share."""

from __future__ import annotations


class ModuleDocFragment:
    """What can be asked of CRIU on both sides."""

    DOCUMENTATION = r"""
options:
  images:
    description:
      - The folder of the image set on the host. It holds the memory of the workload, so it is made with mode V(0700).
    type: path
    required: true
  criu_path:
    description:
      - The path of the C(criu) program. The default looks in E(PATH) and the usual folders.
    type: path
  tcp_established:
    description:
      - Keep established TCP connections.
    type: bool
  tcp_close:
    description:
      - Drop established TCP connections; the workload sees them closed.
    type: bool
  shell_job:
    description:
      - Allow a workload that is a job of a shell, with a terminal outside of it.
    type: bool
  file_locks:
    description:
      - Keep file locks.
    type: bool
  ext_unix_sk:
    description:
      - Allow Unix sockets whose other end is outside the workload.
    type: bool
  manage_cgroups:
    description:
      - What to do about the cgroups of the workload, see C(--manage-cgroups) in criu(8).
    type: str
    choices: [none, props, soft, full, strict, ignore]
  extra_args:
    description:
      - Further arguments for CRIU, as they are. Anybody on the host can read them while CRIU runs.
    type: list
    elements: str
requirements:
  - CRIU 1.3 or later; 4.1.1 or later on recent kernels.
  - Root on the host (C(become)).
"""
