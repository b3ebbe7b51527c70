# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of runc."""

from __future__ import annotations

import json

from ansible_collections.fleet.criu.plugins.module_utils._engine.base import Container
from ansible_collections.fleet.criu.plugins.module_utils._engine.oci import OciRuntime, Remembered, descriptors_in


class Runc(OciRuntime):
    """runc(8), with its default root."""

    name = "runc"
    listing = "runc list. The name must be exact."

    roots = ("/run/runc",)

    def _remembered(self, container: Container) -> Remembered:
        state = self.read_state(container, "state.json")
        is_systemd = bool(state.get("config", {}).get("cgroups", {}).get("Systemd"))
        return Remembered(descriptors_in(json.dumps(state.get("external_descriptors"))), is_systemd)
