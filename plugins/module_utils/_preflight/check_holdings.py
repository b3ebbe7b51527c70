# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of what a workload holds, and the options that are taken for it without being asked for. Pure."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._preflight.facts import Facts, Options
from ansible_collections.fleet.criu.plugins.module_utils._preflight.finding import (
    Finding,
    failed,
    listed,
    passed,
    warning,
)
from ansible_collections.fleet.criu.plugins.module_utils._preflight.kinds import (
    IMPOSSIBLE,
    KINDS,
    OPTION,
    Kind,
)

# Options that an engine hands on to CRIU.
_OF_ENGINES = frozenset({"file_locks", "ghost_limit", "link_remap", "tcp_established"})
_ROUNDED = 1 << 20


def holdings(source: Facts, target: Facts, options: Options) -> Finding:
    """All that the workload holds moves with it, with the options that are set or taken.

    Reason and remedy have a line for each kind of what does not.
    """
    given = {**_given(options), **taken_options(source, options)}
    found = _by_kind(source, target)
    problems = [kind for kind in found if kind.verdict == IMPOSSIBLE or _lacks_option(kind, found[kind], given, source)]
    # An option is no way out as long as something else has none.
    problems.sort(key=lambda kind: kind.verdict != IMPOSSIBLE)
    notes = [kind for kind in found if kind not in problems and kind.verdict != OPTION]
    if problems:
        return failed(problems[0].code, _sentences(problems, found), _remedies(problems, source))
    if notes:
        return warning(notes[0].code, _sentences(notes, found), _remedies(notes, source))
    kept = [f"{kind.what} with {kind.option}" for kind in found]
    return passed(f"All that it holds moves with it{f': {listed(kept)}' if kept else ''}.")


def taken_options(source: Facts, options: Options) -> dict[str, Any]:
    """The options that are set without being asked for: what they keep concerns nobody but the workload."""
    given, has_engine = _given(options), source["engine"] is not None
    taken: dict[str, Any] = {}
    for kind in KINDS:
        found = [holding for holding in source["holdings"] if holding["kind"] == kind.code]
        if not found or not kind.safe or (has_engine and kind.option not in _OF_ENGINES):
            continue
        if kind.code == "large_removed_file":
            taken[kind.option] = -(-max(holding["bytes"] for holding in found) // _ROUNDED) * _ROUNDED
        elif kind.code == "watch_by_path":
            paths = sorted({holding["path"] for holding in found})
            if all(paths):
                scans = [word for path in paths for word in ("--irmap-scan-path", path)]
                taken[kind.option] = [*given.get("extra_args", ()), "--force-irmap", *scans]
        else:
            taken[kind.option] = True
    return {name: value for name, value in taken.items() if name not in given or name == "extra_args"}


def _given(options: Options) -> dict[str, Any]:
    return {name: value for name, value in (options.get("options") or {}).items() if value is not None}


def _by_kind(source: Facts, target: Facts) -> dict[Kind, list[Mapping[str, Any]]]:
    missing = set(target["missing_mountpoints"])
    found: dict[Kind, list[Mapping[str, Any]]] = {}
    for kind in KINDS:
        if source["engine"] is not None and not kind.by_engine:
            continue
        here = [holding for holding in source["holdings"] if holding["kind"] == kind.code]
        if kind.code == "missing_mountpoint":
            here = [holding for holding in here if holding["path"] in missing]
        if here:
            found[kind] = here
    return found


def _lacks_option(kind: Kind, found: Sequence[Mapping[str, Any]], given: Mapping[str, Any], source: Facts) -> bool:
    if kind.verdict != OPTION:
        return False
    value = given.get(kind.option)
    if kind.code == "tcp_connection":
        return not (value or given.get("tcp_close"))
    if kind.code == "large_removed_file":
        return not value or int(value) < max(holding["bytes"] for holding in found)
    if kind.code == "watch_by_path":
        return "--force-irmap" not in (value or ())
    return not value


def _sentences(kinds: Sequence[Kind], found: Mapping[Kind, Sequence[Mapping[str, Any]]]) -> str:
    words = []
    for kind in kinds:
        places = [str(holding["where"]) for holding in found[kind]]
        words.append(f"It has {kind.what} ({listed(places)}): {kind.why}.")
    return "\n".join(words)


def _remedies(kinds: Sequence[Kind], source: Facts) -> str:
    words = []
    for kind in kinds:
        if kind.verdict == OPTION and source["engine"] is not None and kind.option not in _OF_ENGINES:
            words.append("Engines do not hand that option on to CRIU: have the workload let go of them.")
        else:
            words.append(kind.remedy)
    return "\n".join(words) if any(words) else ""
