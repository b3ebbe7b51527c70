# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table of checks, and how it is gone through. No host is asked here: two sets of facts are compared."""

from __future__ import annotations

from typing import Callable, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._preflight import (
    check_engine,
    check_handoff,
    check_holdings,
    check_hosts,
    check_workload,
)
from ansible_collections.fleet.criu.plugins.module_utils._preflight.facts import Facts, Options
from ansible_collections.fleet.criu.plugins.module_utils._preflight.finding import FAILED, SKIPPED, Finding

# By name, in the order of the report. Each gets the facts of source and target, and what the move will be told.
CHECKS: Mapping[str, Callable[[Facts, Facts, Options], Finding]] = {
    "criu_version": check_hosts.criu_version,
    "criu_features": check_hosts.criu_features,
    "kernel": check_hosts.kernel,
    "known_pairs": check_hosts.known_pairs,
    "architecture": check_hosts.architecture,
    "cpu": check_hosts.cpu,
    "security_module": check_hosts.security_module,
    "cgroups": check_hosts.cgroups,
    "network_lock": check_hosts.network_lock,
    "disk_space": check_hosts.disk_space,
    "records": check_hosts.records,
    "memory": check_hosts.memory,
    "sockets": check_workload.sockets,
    "io_uring": check_workload.io_uring,
    "holdings": check_holdings.holdings,
    "pids": check_workload.pids,
    "pid_file": check_workload.pid_file,
    "name": check_workload.name,
    "addresses": check_workload.addresses,
    "mapped_files": check_workload.mapped_files,
    "contents": check_workload.contents,
    "id_maps": check_workload.id_maps,
    "container": check_engine.container,
    "engine": check_engine.engine,
    "programs": check_handoff.programs,
    "streaming": check_handoff.streaming,
    "supervisor": check_handoff.supervisor,
    "owner_unit": check_handoff.owner_unit,
    "route": check_handoff.route,
}


def run_checks(source: Facts, target: Facts, options: Options, skip: Sequence[str] = ()) -> list[Finding]:
    """What every check found, in the order of the table; those named by `skip` are not done."""
    return [
        _asked_not_to().named(name) if name in skip else check(source, target, options).named(name)
        for name, check in CHECKS.items()
    ]


def require_known(names: Sequence[str]) -> None:
    """Raises CriuError if one of these is not the name of a check: a misspelled one would silently be done."""
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        raise CriuError(
            f"'skip' names what is no check: {', '.join(unknown)}.", f"The checks are {', '.join(CHECKS)}.", {}
        )


def failures(findings: Sequence[Finding]) -> list[Finding]:
    """Those that failed."""
    return [finding for finding in findings if finding.result == FAILED]


def describe_failures(findings: Sequence[Finding]) -> str:
    """All that failed as one text, a line each."""
    lines = [f"  {finding.name} [{finding.code}]: {_in_one_line(finding)}" for finding in findings]
    count = "1 check keeps" if len(findings) == 1 else f"{len(findings)} checks keep"
    return "\n".join([f"{count} this workload from coming here:", *lines])


def _in_one_line(finding: Finding) -> str:
    return f"{finding.reason} {finding.remedy}".replace("\n", " ")


def _asked_not_to() -> Finding:
    return Finding(SKIPPED, "asked", "It was asked not to be done (skip).")
