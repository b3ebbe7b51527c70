# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole of the module mount_map: mounts and rules in, maps and gaps out, checked on this host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._mounts.checks import check_plan, path_type
from ansible_collections.fleet.criu.plugins.module_utils._mounts.contents import Contents
from ansible_collections.fleet.criu.plugins.module_utils._mounts.hazards import find_hazards, with_severities
from ansible_collections.fleet.criu.plugins.module_utils._mounts.plan import (
    ERROR,
    PRESENT,
    SHARED,
    SYNC,
    WARNING,
    Entry,
    Gap,
    Mount,
    Plan,
    make_plan,
)
from ansible_collections.fleet.criu.plugins.module_utils._mounts.rules import parse_rules
from ansible_collections.fleet.criu.plugins.module_utils._mounts.sources import HostMounts
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import parse
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc


def mount_map(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The module's result for its parameters. Raises CriuError if there are gaps and they are to be failures."""
    _check_data(parameters["data"])
    try:
        mounts = [Mount.from_dict(mount) for mount in parameters["mounts"]]
    except TypeError as error:
        raise CriuError(f"'mounts' is not what mount_info returns: {error}.", "Pass its 'mounts' unaltered.") from error
    workload = parameters["workload"]
    rules = parse_rules(parameters["rules"], workload)
    unevaluated = [str(rule) for rule in rules if rule.select is not None and rule.mount_ids is None]
    if unevaluated:
        raise CriuError(
            f"The mount rule '{unevaluated[0]}' was not evaluated on the controller.",
            "Call the module by its full name fleet.criu.mount_map, so that its action plugin runs.",
        )
    plan = make_plan(mounts, rules, parameters["keep_paths"], parameters["data"])
    found = [
        *plan.gaps,
        *check_plan(
            plan,
            mounts,
            lambda path: _may_replace(path, workload, parameters),
            lambda entry: _newer(entry, workload, parameters),
        ),
        *find_hazards(plan.entries, HostMounts(parse(Proc().mountinfo("self"))), mounts),
    ]
    plan = replace(plan, gaps=with_severities(found, parameters.get("severities") or {}))
    errors = [gap for gap in plan.gaps if gap.severity == ERROR]
    if errors and parameters["fail_on_gaps"]:
        raise CriuError(describe_gaps(errors), facts=_result(plan))
    return _result(plan)


def describe_gaps(gaps: Sequence[Gap]) -> str:
    """All gaps as one text, a line each."""
    lines = [f"  {gap.mountpoint} [{gap.code}]: {gap.reason}. {gap.remedy}" for gap in gaps]
    count = "1 gap keeps" if len(gaps) == 1 else f"{len(gaps)} gaps keep"
    return "\n".join([f"{count} this workload from coming here:", *lines])


def _check_data(data: Mapping[str, Any]) -> None:
    for mountpoint, how in data.items():
        if how not in (PRESENT, SHARED, SYNC):
            raise CriuError(
                f"'data' says {how!r} for {mountpoint}, which is none of {PRESENT}, {SHARED} and {SYNC}.",
                "Correct it.",
            )


def _may_replace(path: str, workload: str | None, parameters: Mapping[str, Any]) -> bool:
    return bool(parameters["replace_contents"]) or (workload is not None and Contents().belongs_to(path, workload))


def _newer(entry: Entry, workload: str | None, parameters: Mapping[str, Any]) -> str | None:
    if parameters["replace_contents"]:
        return None
    there = parameters.get("source_contents")
    generation = None if there is None else int(there.get(entry.mount.host_path, 0))
    return Contents().problem(entry.path, workload, generation)


def _result(plan: Plan) -> dict[str, Any]:
    return {
        "root": plan.root,
        "dump_map": plan.dump_map,
        "restore_map": plan.restore_map,
        "entries": [entry.as_dict() for entry in plan.entries],
        "gaps": [gap.as_dict() for gap in plan.gaps if gap.severity == ERROR],
        "hazards": [gap.as_dict() for gap in plan.gaps if gap.severity == WARNING],
        "copies": plan.copies,
        "folders": plan.folders,
        "to_create": [
            {"path": entry.path, **entry.create.as_dict()}
            for entry in plan.entries
            if entry.create is not None and path_type(entry.path) is None
        ],
        "unused_rules": list(plan.unused_rules),
    }
