# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what the handoff needs: programs, streaming, systemd units, a route. Pure comparisons."""

from __future__ import annotations

from ansible_collections.fleet.criu.plugins.module_utils._criu.known_pairs import numbers
from ansible_collections.fleet.criu.plugins.module_utils._preflight.facts import Facts, Options
from ansible_collections.fleet.criu.plugins.module_utils._preflight.finding import (
    Finding,
    failed,
    listed,
    not_applicable,
    passed,
    warning,
)
from ansible_collections.fleet.criu.plugins.module_utils._preflight.programs import PACKAGES, needed

# The first version with `criu dump --stream`.
_CRIU_FOR_STREAMING = (3, 15, 0)
_SHARED = "shared"


def programs(source: Facts, target: Facts, options: Options) -> Finding:
    """Both have what the handoff runs besides CRIU."""
    purposes = needed(target["copied"], options["compression"])
    lacking = [(host["host"], name) for host in (source, target) for name in purposes if not host["programs"].get(name)]
    if lacking:
        reason = listed([f"{host} has no {name}, which is to {purposes[name]}" for host, name in lacking])
        remedy = listed([f"{PACKAGES[name]} on {host}" for host, name in lacking])
        return failed("program_missing", f"{reason}.", f"Install the packages (names of Debian): {remedy}.")
    return passed(f"Both have {', '.join(purposes)}.")


def streaming(source: Facts, target: Facts, options: Options) -> Finding:
    """CRIU on the source can send the images while it writes them, unless they go to storage that both have."""
    if options["transport"] == _SHARED:
        return not_applicable("The images are written to storage that both hosts have.")
    if source["engine"] is not None:
        return not_applicable("An engine cannot have CRIU stream the images; they are sent from a folder.")
    version = source["criu"].get("version")
    if version is None:
        return not_applicable(f"{source['host']} has no CRIU.")
    if numbers(version) < _CRIU_FOR_STREAMING:
        return failed(
            "cannot_stream",
            f"CRIU {version} of {source['host']} cannot stream images (criu dump --stream came with 3.15).",
            f"Install CRIU 3.15 or later on {source['host']}, or use storage that both hosts have (transport: shared).",
        )
    return passed(f"CRIU {version} of {source['host']} can stream images.")


def supervisor(source: Facts, target: Facts, options: Options) -> Finding:
    """systemd would not start the workload anew when it is killed at the source."""
    found = source["supervisor"]
    if found is None:
        return not_applicable(f"No systemd runs on {source['host']}.")
    if found["error"]:
        return failed("systemd_silent", found["error"]["message"], _or_skip(found["error"]["remedy"], "supervisor"))
    if found["problem"]:
        remedy = f"Do so on {source['host']} before the move, or start the workload outside of that unit."
        return failed("would_start_anew", found["problem"], remedy)
    if found.get("later"):
        return warning("starts_later", found["later"], f"Do so on {source['host']} after the move.")
    return passed(f"systemd will not start it anew on {source['host']} when it is gone there.")


def owner_unit(source: Facts, target: Facts, options: Options) -> Finding:
    """The unit that the workload is to live in is free at the target."""
    found = target["owner_unit"]
    if found is None:
        return not_applicable(
            f"No systemd runs on {target['host']}, the workload's engine takes care of it, or it has no name."
        )
    if found["error"]:
        return failed("unit_unusable", found["error"]["message"], _or_skip(found["error"]["remedy"], "owner_unit"))
    if found["problem"]:
        remedy = f"Do so on {target['host']}; the option for another unit is 'unit' (owner_unit in the inventory)."
        return failed("unit_taken", found["problem"], remedy)
    return passed(f"It will live in {found['unit']} on {target['host']}, where no unit of this name is.")


def route(source: Facts, target: Facts, options: Options) -> Finding:
    """The source knows where the target's address is, and has a route to it. Ports are not tried."""
    found = source["route"]
    if found is None:
        return not_applicable(f"No address was given that {source['host']} has to reach.")
    address, here, there = found["address"], source["host"], target["host"]
    otherwise = f"another address of {there} (criu_address), or go through the controller (transport: relay)"
    if not found["resolved"]:
        reason = f"{here} does not know where {address} is: {found['problem']}."
        return failed("name_unknown", reason, f"Enter it in DNS or in /etc/hosts of {here}, name {otherwise}.")
    if found["reached"] is None:
        reason = f"{here} has no route to {_named(address, ', '.join(found['resolved']))}: {found['problem']}."
        return failed("no_route", reason, f"Set a route, name {otherwise}.")
    reached = _named(address, found["reached"])
    if found["is_own"]:
        return warning(
            "own_address",
            f"{reached} is an address of {here} itself, not of {there}.",
            f"Name {otherwise}, unless a tunnel of your own begins there.",
        )
    return passed(f"{here} has a route to {reached}, from its address {found['own_end']}.")


def _or_skip(remedy: str, check: str) -> str:
    return f"{remedy} If it is known to be right, skip {check}.".strip()


def _named(address: str, resolved: str) -> str:
    return address if address == resolved else f"{address} ({resolved})"
