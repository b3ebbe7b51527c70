# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every container of every engine on this host, so that nobody has to know beforehand what runs where."""

from __future__ import annotations

from typing import Any

from ansible_collections.fleet.criu.plugins.module_utils._engine.base import Container, Engine
from ansible_collections.fleet.criu.plugins.module_utils._engine.names import UNSUPPORTED
from ansible_collections.fleet.criu.plugins.module_utils._engine.registry import ENGINES, has_unsupported
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc, memory_bytes
from ansible_collections.fleet.criu.plugins.module_utils._runner import Runner


def discover(runner: Runner, proc: Proc) -> dict[str, Any]:
    """`engines` that are installed here and `workloads` that they have, in plain JSON types.

    See the return values of the module workload_info. An engine that cannot answer has a `problem` and hides no other.
    """
    engines: list[dict[str, Any]] = []
    workloads: list[dict[str, Any]] = []
    for name in sorted(ENGINES):
        engine = ENGINES[name](runner, proc)
        if not engine.is_present():
            continue
        try:
            found = [_workload(engine, container, proc) for container in engine.containers()]
            engines.append({"name": name, "version": engine.version(), "is_supported": True, "problem": ""})
            workloads += found
        except CriuError as error:
            engines.append({"name": name, "version": "", "is_supported": True, "problem": str(error)})
    engines += [
        {"name": name, "version": "", "is_supported": False, "problem": UNSUPPORTED[name]}
        for name in sorted(UNSUPPORTED)
        if has_unsupported(name)
    ]
    # What belongs to a higher engine is listed there.
    return {"engines": engines, "workloads": [workload for workload in workloads if not workload["owner"]]}


def _workload(engine: Engine, container: Container, proc: Proc) -> dict[str, Any]:
    is_alive = container.pid > 0 and proc.stat(container.pid) is not None
    return {
        **container.as_dict(),
        "memory_bytes": memory_bytes(proc, proc.tree(container.pid)) if is_alive else 0,
        "problems": _problems(engine, container) if not container.owner else [],
    }


def _problems(engine: Engine, container: Container) -> list[str]:
    try:
        return engine.problems(container)
    except CriuError as error:
        return [str(error)]
