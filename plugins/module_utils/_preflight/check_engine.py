# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what the engine of a workload needs on both hosts. Pure comparisons."""

from __future__ import annotations

from typing import Iterator, Tuple

from ansible_collections.fleet.criu.plugins.module_utils._criu.feature import ENGINE_VERSION
from ansible_collections.fleet.criu.plugins.module_utils._criu.known_pairs import numbers
from ansible_collections.fleet.criu.plugins.module_utils._preflight.facts import Facts, Options
from ansible_collections.fleet.criu.plugins.module_utils._preflight.finding import (
    Finding,
    failed,
    listed,
    not_applicable,
    passed,
)

# Code, reason and remedy.
_Problem = Tuple[str, str, str]

# The first version that mounts a root as it was. For a workload without an engine we do that ourselves.
_CRIU_FOR_READ_ONLY_ROOT = (4, 2, 0)

# What must be the same on both hosts, and what it is called.
_SAME = {
    "storage_driver": "storage driver",
    "cgroup_version": "version of control groups",
}


def container(source: Facts, target: Facts, options: Options) -> Finding:
    """The engine can let the container go, and nothing of it is bound to its host."""
    found = source["engine"]
    if found is None:
        return not_applicable("No engine owns the workload.")
    if found["problems"]:
        reason = f"{found['engine']} cannot move {found['container']}: {listed(found['problems'])}."
        return failed("container_bound", reason, "Do so, and plan again.")
    return passed(f"Nothing binds the {found['engine']} container {found['container']} to {source['host']}.")


def engine(source: Facts, target: Facts, options: Options) -> Finding:
    """The same engine is at the target, can take the container, and has none of its name."""
    if source["engine"] is None:
        return not_applicable("No engine owns the workload.")
    problems = list(_problems(source, target))
    if problems:
        code = problems[0][0]
        return failed(
            code, listed([reason for _code, reason, _remedy in problems]), listed([row[2] for row in problems])
        )
    here, there = source["engine"]["version"], target["engine"]["version"]
    return passed(f"{source['host']} has {here}, {target['host']} has {there}.")


def _problems(source: Facts, target: Facts) -> Iterator[_Problem]:
    here, there = source["engine"], target["engine"]
    for host in (source, target):
        version = host["criu"].get("version")
        if version is not None and numbers(version) < ENGINE_VERSION:
            yield (
                "criu_too_old_for_engines",
                f"CRIU {version} of {host['host']} does not let anybody hold a container while an engine dumps it.",
                f"Install CRIU 3.19 or later on {host['host']}.",
            )
    if there["error"]:
        code = "engine_missing" if there.get("is_missing") else "engine_silent"
        yield code, f"{target['host']}: {there['error']}", there["remedy"]
        return
    if here["container"] in there["names"]:
        yield (
            "name_taken",
            f"{here['engine']} of {target['host']} has a container {here['container']} already.",
            f"If nobody needs it, remove it there: {there['removal']}.",
        )
    yield from _differences(source, target)
    yield from _lost_read_only_root(source, target)


def _lost_read_only_root(source: Facts, target: Facts) -> Iterator[_Problem]:
    version, name = target["criu"].get("version"), source["engine"]["container"]
    if source.get("has_read_only_root") and version is not None and numbers(version) < _CRIU_FOR_READ_ONLY_ROOT:
        yield (
            "read_only_root",
            f"{name} has a read-only root, which CRIU {version} of {target['host']} would make writable.",
            f"Install CRIU 4.2 or later on {target['host']}, or start the container with a writable root.",
        )


def _differences(source: Facts, target: Facts) -> Iterator[_Problem]:
    here, there = source["engine"], target["engine"]
    for name, what in _SAME.items():
        if here.get(name) != there.get(name):
            yield (
                f"other_{name}",
                f"{here['engine']} has the {what} {here.get(name)} on {source['host']}, {there.get(name)} there.",
                f"Set both hosts to the same {what}.",
            )
    runtime, image = here.get("runtime"), here.get("image_id")
    if runtime is not None and runtime not in there["runtimes"]:
        yield (
            "runtime_missing",
            f"{here['container']} runs with {runtime}, which {target['host']} lacks; no other can restore its images.",
            f"Install {runtime} on {target['host']}.",
        )
    if image is not None and image not in [identifier.replace("sha256:", "") for identifier in there["image_ids"]]:
        yield (
            "image_missing",
            f"{target['host']} has no image {image[:12]} ({here['image']}), which {here['container']} was made from.",
            f"Bring it there: podman save {here['image']} on {source['host']}, podman load on {target['host']}.",
        )
