# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who of a fleet can take workloads from whom, by what is known of CRIU, kernel and processor. Pure."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._criu.known_pairs import (
    DUMP,
    RESTORE,
    known_problems,
    numbers,
    stands_against,
)

YES = "yes"

Info = Mapping[str, Any]


def takes(infos: Mapping[str, Info]) -> list[dict[str, str]]:
    """A row for each source, by the names of `infos`, with `from` and for each target whether it takes from there.

    An info is what the module criu_info returns, or anything without `usable` for a host that could not be asked.
    """
    return [
        {
            "from": source,
            **{target: "-" if target == source else _whether(infos[source], infos[target]) for target in infos},
        }
        for source in infos
    ]


def _whether(source: Info, target: Info) -> str:
    for info, side in ((source, "there"), (target, "here")):
        if not info.get("usable"):
            return f"no: {'no CRIU' if 'usable' in info else 'not asked'} {side}"
    if source["architecture"] != target["architecture"]:
        return "no: other architecture"
    for info, operation in ((source, DUMP), (target, RESTORE)):
        for pair in stands_against(info["kernel"], info["version"], operation):
            return f"no: {pair.code}"
    if numbers(target["version"]) < numbers(source["version"]):
        return "no: older CRIU"
    return YES + _reservations(source, target)


def _reservations(source: Info, target: Info) -> str:
    found = ["older kernel"] if numbers(target["kernel"]) < numbers(source["kernel"]) else []
    found += [f"no {pair.needs}" for pair in known_problems(source["kernel"], source["version"]) if pair.needs]
    return f" ({', '.join(found)})" if found else ""
