# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of crun."""

from __future__ import annotations

import re
from typing import Any, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._engine.base import Container
from ansible_collections.fleet.criu.plugins.module_utils._engine.oci import (
    CONFIGURATION,
    OciRuntime,
    Remembered,
    bound_devices,
    descriptors_in,
)

# What a line of CRIU's configuration can carry without quotes.
_PLAIN = re.compile(r"/[A-Za-z0-9/_.+-]+\Z")


class Crun(OciRuntime):
    """crun(1), with its default root."""

    name = "crun"
    listing = "crun list. The name must be exact."

    # With XDG_RUNTIME_DIR, which a session of root has, it takes the second.
    roots = ("/run/crun", "/run/user/0/crun")
    # It makes the control group itself and starts CRIU in it. What is in the images are all of the host's hierarchies,
    # and on hosts that have version 1 too they are refused there.
    default_cgroups_mode = "ignore"

    def criu_lines(self, configuration: Mapping[str, Any]) -> list[str]:
        return external_devices(configuration[CONFIGURATION])

    def _remembered(self, container: Container) -> Remembered:
        status = self.read_state(container, "status")
        return Remembered(descriptors_in(str(status.get("external_descriptors"))), bool(status.get("systemd-cgroup")))


def external_devices(configuration: Mapping[str, Any]) -> list[str]:
    """Lines that tell CRIU of the devices that crun has bound, which it tells CRIU nothing of (seen with 1.21)."""
    return [f"external mnt[{path}]:{path}" for path in bound_devices(configuration) if _PLAIN.match(path)]
