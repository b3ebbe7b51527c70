# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of both hosts, for `checks` to compare: plain JSON, read-only, each host asked once."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._criu.network_lock import left_tables
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._mounts.plan import SYNC
from ansible_collections.fleet.criu.plugins.module_utils._preflight import occupied
from ansible_collections.fleet.criu.plugins.module_utils._preflight.contents import Effort
from ansible_collections.fleet.criu.plugins.module_utils._preflight.engine import source_engine, target_engine
from ansible_collections.fleet.criu.plugins.module_utils._preflight.holdings import missing_mountpoints
from ansible_collections.fleet.criu.plugins.module_utils._preflight.host import (
    ask_features,
    host_facts,
    network_locks,
)
from ansible_collections.fleet.criu.plugins.module_utils._preflight.left_out import LeftOut
from ansible_collections.fleet.criu.plugins.module_utils._preflight.mapped import files_here
from ansible_collections.fleet.criu.plugins.module_utils._preflight.route import route_to
from ansible_collections.fleet.criu.plugins.module_utils._preflight.units import owner_unit, supervisor
from ansible_collections.fleet.criu.plugins.module_utils._preflight.workload import (
    present_contents,
    workload_facts,
)
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Runner

FORMAT = 5

Facts = Mapping[str, Any]
# How it will be moved, as far as the checks have to know: `network_lock`, `manage_cgroups`, `transport`, `compression`,
# and in `options` what is asked of CRIU.
Options = Mapping[str, Any]


def source_facts(parameters: Mapping[str, Any], proc: Proc, runner: Runner) -> dict[str, Any]:
    """The source and the workload there. Raises WorkloadNotFound if it is gone."""
    workload = workload_facts(parameters["pid"], proc)
    host = host_facts(proc, runner, parameters["criu_path"], parameters["images"])
    effort = Effort(
        parameters["contents"] == "full", parameters["contents_max_files"], parameters["contents_max_bytes"]
    )
    entries = None if "contents" in parameters["skip"] else parameters["map_entries"]
    paths = parameters.get("contents_paths")
    return {
        "format": FORMAT,
        **host,
        **_name(parameters),
        **workload,
        "features": ask_features(host["criu"], workload["needs"], runner),
        "network_locks": _network_locks(host, workload, runner),
        "left_tables": left_tables(proc, runner) if locks_network(workload) else [],
        "effort": asdict(effort),
        "contents_paths": paths,
        "contents": None
        if entries is None
        else present_contents(entries, "host_path", effort, _left_out(parameters, proc), None, paths),
        "engine": source_engine(parameters["engine"], parameters["container"], proc, runner),
        "supervisor": supervisor(parameters["pid"], proc, runner),
        "route": route_to(parameters["address"], proc) if parameters["address"] else None,
    }


def target_facts(source: Facts, parameters: Mapping[str, Any], proc: Proc, runner: Runner) -> dict[str, Any]:
    """The target, as far as it matters to this workload. Raises CriuError if `source` is not what source_facts gave."""
    require_facts(source)
    entries, images = parameters["map_entries"], parameters["images"]
    wanted_sockets = [] if "net" in source["namespaces"] else source["sockets"]
    wanted_pids = [] if "pid" in source["namespaces"] else source["pids"]
    host = host_facts(proc, runner, parameters["criu_path"], images)
    paths = {entry["mountpoint"]: entry["path"] for entry in entries or () if entry["data"] != SYNC}
    has_no_engine = source["engine"] is None
    compares_contents = source["contents"] is not None and "contents" not in parameters["skip"]
    return {
        **host,
        **_name(parameters),
        "features": ask_features(host["criu"], source["needs"], runner),
        "network_locks": _network_locks(host, source, runner),
        "left_tables": left_tables(proc, runner) if locks_network(source) else [],
        "taken_pids": occupied.taken_pids(proc, wanted_pids),
        "pid_max": occupied.pid_max(proc),
        "pid_file": parameters["pid_file"] and occupied.pid_file_state(proc, parameters["pid_file"]),
        "live_copies": occupied.live_copies(proc, parameters["workload"], parameters["root"], images),
        "listeners": occupied.listeners_in_the_way(proc, wanted_sockets),
        "absent_addresses": occupied.absent_addresses(proc, wanted_sockets),
        "mapped_files": None if entries is None else files_here(source["mapped_files"], paths),
        "missing_mountpoints": missing_mountpoints(source["holdings"]),
        "contents": _contents_here(source, parameters, proc) if compares_contents else None,
        "id_maps": proc.id_maps("self"),
        "max_user_namespaces": occupied.max_user_namespaces(proc),
        "copied": [entry["mountpoint"] for entry in entries or () if entry["data"] == SYNC],
        "engine": target_engine(source["engine"], proc, runner),
        "owner_unit": owner_unit(parameters["workload"], parameters["unit"], runner) if has_no_engine else None,
    }


def require_facts(source: Facts) -> None:
    """Raises CriuError unless this is what `source_facts` of this version gave."""
    if source.get("format") != FORMAT:
        raise CriuError(
            f"'source' is not what state: describe returned as 'facts' (its format is {source.get('format')!r}, "
            f"not {FORMAT}).",
            "Pass the 'facts' unaltered, and use the same version of the collection for both calls.",
        )


def locks_network(source: Facts) -> bool:
    """Whether CRIU locks the network for this workload: it has a network namespace of its own, or connections."""
    return "net" in source["namespaces"] or any(
        socket["protocol"] == "tcp" and not socket["waits"] for socket in source["sockets"]
    )


def _name(parameters: Mapping[str, Any]) -> dict[str, str]:
    # The inventory's, which may be another than the host's own.
    return {"host": parameters["host"]} if parameters.get("host") else {}


def _contents_here(source: Facts, parameters: Mapping[str, Any], proc: Proc) -> dict[str, Any]:
    entries, effort, paths = parameters["map_entries"] or (), Effort(**source["effort"]), source["contents_paths"]
    return present_contents(entries, "path", effort, _left_out(parameters, proc), source["contents"], paths)


def _left_out(parameters: Mapping[str, Any], proc: Proc) -> LeftOut:
    return LeftOut(proc.mountinfo("self"), [parameters["images"]] if parameters["images"] else [])


def _network_locks(host: Facts, workload: Facts, runner: Runner) -> dict[str, bool]:
    return network_locks(host["criu"], runner) if locks_network(workload) else {}
