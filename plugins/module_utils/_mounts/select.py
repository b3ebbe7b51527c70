# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`select` rules evaluated, with a JMESPath function that is given: only a controller needs the package jmespath."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import BadRule


def evaluate_selects(
    rules: Iterable[Mapping[str, Any]],
    mounts: Sequence[Mapping[str, Any]],
    search: Callable[[str, Any], Any],
) -> list[Any]:
    """The same rules, each `select` rule with the `mount_ids` that its expression is true for.

    `mounts` are as the module mount_info returns them, `search` is `jmespath.search`. True is what JMESPath calls
    true: not false, not null, not empty. Raises BadRule for an expression that does not parse or cannot be applied.
    """
    return [_evaluated(rule, mounts, search) for rule in rules]


def plain(value: Any) -> Any:
    """The value in exactly the plain types of JSON, as `evaluate_selects` needs mounts and rules."""
    # JMESPath asks for a value's very class, and ansible-core hands on subclasses, which know where they come from.
    if isinstance(value, Mapping):
        return {plain(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(inner) for inner in value]
    for kind in (str, int, float):
        if isinstance(value, kind) and not isinstance(value, bool):
            return kind(value)
    return value


def _evaluated(rule: Any, mounts: Sequence[Mapping[str, Any]], search: Callable[[str, Any], Any]) -> Any:
    # A rule that is no dictionary is for the module to refuse, with its place and what to write.
    if not isinstance(rule, Mapping) or not rule.get("select"):
        return dict(rule) if isinstance(rule, Mapping) else rule
    return {**rule, "mount_ids": _matching(str(rule["select"]), mounts, search)}


def _matching(expression: str, mounts: Sequence[Mapping[str, Any]], search: Callable[[str, Any], Any]) -> list[int]:
    try:
        return [mount["mount_id"] for mount in mounts if _is_true(search(expression, mount))]
    except Exception as error:  # jmespath's error classes are not to be imported here
        raise BadRule(
            f"The JMESPath expression of the mount rule 'select: {expression}' is not usable: {error}",
            "Write an expression over one mount's fields, for example \"fstype == 'nfs4'\".",
        ) from error


def _is_true(value: Any) -> bool:
    return bool(value) or (value == 0 and value is not False and isinstance(value, (int, float)))
