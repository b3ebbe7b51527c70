# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What engines are called, for those who need no engine: every file that a module imports is sent to the host."""

from __future__ import annotations

from typing import Mapping

# A process tree that nobody owns: CRIU is called directly.
PROCESS = "process"

# See registry.py, which has an engine for each.
SUPPORTED = ("crun", "lxc", "podman", "runc")

# Engines that we know and cannot work with: why, and the way out.
UNSUPPORTED: Mapping[str, str] = {
    "docker": (
        "Docker's checkpoint is experimental, stays on its host and restores every bind from the path that it had: its "
        "containers cannot be moved to another host. Run the same image with podman, whose containers can be moved "
        "(podman run takes the same options; docker save and podman load bring the image over)."
    ),
}

# What a user may write; for those that are not supported there is a better answer than a list of the others.
NAMES = sorted([*SUPPORTED, *UNSUPPORTED])
