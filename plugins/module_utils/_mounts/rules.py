# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules a user writes about paths, and which of them decides about a mount.

Exact mountpoint before source prefix before select; among prefixes the longest wins, at component boundaries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import BadRule
from ansible_collections.fleet.criu.plugins.module_utils._mounts.creation import Creation
from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import is_below, join, problem, relative

_OUTCOMES = {
    "mountpoint": ("source", "device", "keep"),
    "prefix": ("replace", "keep"),
    "select": ("source", "keep"),
}


@dataclass(frozen=True)
class Rule:
    """One rule: exactly one of `mountpoint`, `prefix` and `select` says which mounts, the rest says what of them.

    `device` is a block device of the target whose file system is mounted anew. `mount_ids` are the mounts that `select`
    was true for; the expression itself is evaluated elsewhere. `create` says what may be made where nothing is.
    """

    mountpoint: str | None = None
    prefix: str | None = None
    select: str | None = None
    source: str | None = None
    device: str | None = None
    replace: str | None = None
    keep: bool = False
    key: str | None = None
    workload: str | None = None
    mount_ids: frozenset[int] | None = None
    create: Creation | None = None

    def target_path(self, host_path: str | None) -> str | None:
        """The path on the target, for a mount whose root is at `host_path` on the source; None if it has none."""
        if self.source is not None or self.device is not None:
            return self.source or self.device
        if host_path is None or self.keep:
            return host_path
        return join(str(self.replace), relative(host_path, str(self.prefix)))

    def __str__(self) -> str:
        for name in ("mountpoint", "prefix", "select"):
            value = getattr(self, name)
            if value is not None:
                return f"{name}: {value}"
        return "empty rule"


@dataclass(frozen=True)
class Decision:
    """The rule that decides about a mount (None if none does), and those that contradict it."""

    rule: Rule | None
    contradicting: Sequence[Rule] = ()


def parse_rules(entries: Iterable[Mapping[str, Any]], workload: str | None = None) -> list[Rule]:
    """Checked rules from what the user wrote, without those of another workload than `workload`.

    Raises BadRule, which names the rule.
    """
    rules = [_parse_rule(entry, number) for number, entry in enumerate(entries, 1)]
    return [rule for rule in rules if rule.workload is None or workload is None or rule.workload == workload]


def decide(rules: Sequence[Rule], mount_id: int, mountpoint: str, host_path: str | None) -> Decision:
    """Which rule decides about the mount with this ID and mountpoint, whose root is at `host_path` on the source.

    A rule that names the workload goes before one of the same sort that is for all.
    """
    for fitting in (
        [rule for rule in rules if rule.mountpoint == mountpoint],
        _longest([rule for rule in rules if _covers(rule.prefix, host_path)]),
        [rule for rule in rules if rule.mount_ids is not None and mount_id in rule.mount_ids],
    ):
        if fitting:
            return _one_of(_most_specific(fitting), host_path)
    return Decision(None)


def _covers(prefix: str | None, host_path: str | None) -> bool:
    return prefix is not None and host_path is not None and is_below(host_path, prefix)


def _longest(rules: Sequence[Rule]) -> list[Rule]:
    longest = max((len(str(rule.prefix)) for rule in rules), default=0)
    return [rule for rule in rules if len(str(rule.prefix)) == longest]


def _most_specific(rules: Sequence[Rule]) -> Sequence[Rule]:
    return [rule for rule in rules if rule.workload is not None] or rules


def _one_of(rules: Sequence[Rule], host_path: str | None) -> Decision:
    first = rules[0]
    return Decision(
        first,
        [
            rule
            for rule in rules[1:]
            if (rule.target_path(host_path), rule.key) != (first.target_path(host_path), first.key)
        ],
    )


def _parse_rule(entry: Mapping[str, Any], number: int) -> Rule:
    given = {name: value for name, value in entry.items() if value is not None and value is not False}
    unknown = sorted(set(given) - set(Rule.__dataclass_fields__))
    if unknown:
        raise _bad(entry, number, f"it has the unknown key '{unknown[0]}'")
    which = [name for name in ("mountpoint", "prefix", "select") if name in given]
    if len(which) != 1:
        raise _bad(entry, number, "it must have exactly one of 'mountpoint', 'prefix' and 'select'")
    allowed = _OUTCOMES[which[0]]
    outcome = [name for name in ("source", "device", "replace", "keep") if name in given]
    if len(outcome) != 1 or outcome[0] not in allowed:
        choice = ", ".join(repr(name) for name in allowed[:-1]) + f" and {allowed[-1]!r}"
        raise _bad(entry, number, f"a rule with '{which[0]}' must have exactly one of {choice}")
    for name in ("mountpoint", "prefix", "source", "device", "replace"):
        reason = problem(str(given[name])) if name in given else None
        if reason is not None:
            raise _bad(entry, number, f"its '{name}' cannot be used as a path: {reason}")
    mount_ids = given.pop("mount_ids", None)
    try:
        creation = Creation.parse(given.pop("create")) if "create" in given else None
    except ValueError as error:
        raise _bad(entry, number, str(error)) from error
    return Rule(**given, mount_ids=None if mount_ids is None else frozenset(mount_ids), create=creation)


def _bad(entry: Mapping[str, Any], number: int, reason: str) -> BadRule:
    shown = {name: value for name, value in entry.items() if value not in (None, False)}
    return BadRule(
        f"Mount rule {number} ({shown}) is not usable: {reason}.",
        "Write {mountpoint, source}, {prefix, replace} or {select, keep: true} with absolute paths.",
        {"rule_number": number},
    )
