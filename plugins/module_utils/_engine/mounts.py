# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mounts of a workload, with what is known of those that its engine makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.fleet.criu.plugins.module_utils._engine.base import Container, Engine
from ansible_collections.fleet.criu.plugins.module_utils._mounts.live import (
    Owned,
    nested_problems,
    read_mounts,
    require_own_mount_namespace,
)
from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import EXTERNAL, Settings
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc


def workload_mounts(
    pid: int, proc: Proc, settings: Settings | None = None, owner: tuple[Engine, Container] | None = None
) -> dict[str, Any]:
    """`mounts` and `nested` of the workload with this init, as the module mount_info returns them.

    The verdicts are those of `criu dump` with these settings, by default with no key at all. `owner` is the engine with
    the container, if it has one. Raises SharedMountNamespace, WorkloadNotFound, MalformedMountinfo.
    """
    require_own_mount_namespace(pid, proc)
    given = settings or Settings()
    owned = Owned(owner[0].own_mountpoints(owner[1]), _destinations(owner[1])) if owner is not None else None
    mounts = read_mounts(pid, proc, given, owned)
    # That they need keys is no news of nested namespaces.
    own_keys = {mount["mountpoint"]: mount["mountpoint"] for mount in mounts if mount["kind"] == EXTERNAL}
    nested = nested_problems(pid, proc, replace(given, keys={**own_keys, **given.keys}))
    return {"mounts": mounts, "nested": nested}


def _destinations(container: Container) -> frozenset[str]:
    return frozenset(bind.destination for bind in container.binds)
