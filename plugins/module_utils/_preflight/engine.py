# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine of a workload says on both hosts, for `check_engine` to compare."""

from __future__ import annotations

from typing import Any

from ansible_collections.fleet.criu.plugins.module_utils._engine.registry import engine_named
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError, EngineMissing
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Runner


def source_engine(name: str | None, container: str | None, proc: Proc, runner: Runner) -> dict[str, Any] | None:
    """The engine at the source, its container and what stands against moving it; None without an engine."""
    if name is None or container is None:
        return None
    engine = engine_named(name, runner, proc)
    found = engine.find(container)
    return {**engine.facts(found), "container": found.name, "problems": engine.problems(found)}


def target_engine(source: dict[str, Any] | None, proc: Proc, runner: Runner) -> dict[str, Any] | None:
    """The same engine at the target, with an `error` if it is not there or does not answer."""
    if source is None:
        return None
    try:
        engine = engine_named(source["engine"], runner, proc)
        return {**engine.facts(), "removal": engine.removal(source["container"]), "error": "", "remedy": ""}
    except EngineMissing as error:
        return {"engine": source["engine"], "error": error.message, "remedy": error.remedy, "is_missing": True}
    except CriuError as error:
        return {"engine": source["engine"], "error": error.message, "remedy": error.remedy}
