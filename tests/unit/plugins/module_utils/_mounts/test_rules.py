# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Mapping

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import BadRule
from ansible_collections.fleet.criu.plugins.module_utils._mounts.rules import Rule, decide, parse_rules

EXACTLY_ONE_WHICH = "exactly one of 'mountpoint', 'prefix' and 'select'"
EXACT_OUTCOME = "a rule with 'mountpoint' must have exactly one of 'source', 'device' and 'keep'"
PREFIX_OUTCOME = "a rule with 'prefix' must have exactly one of 'replace' and 'keep'"
SELECT_OUTCOME = "a rule with 'select' must have exactly one of 'source' and 'keep'"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"mountpoint": "/a", "source": "/b"}, Rule(mountpoint="/a", source="/b")),
        ({"mountpoint": "/a", "keep": True}, Rule(mountpoint="/a", keep=True)),
        ({"prefix": "/a", "replace": "/b"}, Rule(prefix="/a", replace="/b")),
        ({"prefix": "/a", "keep": True}, Rule(prefix="/a", keep=True)),
        ({"select": "x", "keep": True}, Rule(select="x", keep=True)),
        ({"select": "x", "source": "/b"}, Rule(select="x", source="/b")),
        ({"select": "x", "keep": True, "mount_ids": [3, 4]}, Rule(select="x", keep=True, mount_ids=frozenset({3, 4}))),
        ({"select": "x", "keep": True, "mount_ids": []}, Rule(select="x", keep=True, mount_ids=frozenset())),
        (
            {"mountpoint": "/a", "source": "/b", "key": "k", "workload": "w", "keep": False, "prefix": None},
            Rule(mountpoint="/a", source="/b", key="k", workload="w"),
        ),
    ],
)
def test_a_good_rule_is_read(entry: Mapping[str, Any], expected: Rule) -> None:
    assert parse_rules([entry], "w") == [expected]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({}, EXACTLY_ONE_WHICH),
        ({"source": "/b"}, EXACTLY_ONE_WHICH),
        ({"mountpoint": "/a", "prefix": "/a", "source": "/b"}, EXACTLY_ONE_WHICH),
        ({"mountpoint": "/a", "select": "x", "source": "/b"}, EXACTLY_ONE_WHICH),
        ({"prefix": "/a", "select": "x", "keep": True}, EXACTLY_ONE_WHICH),
        ({"mountpoint": "/a", "prefix": "/a", "select": "x", "keep": True}, EXACTLY_ONE_WHICH),
        ({"mountpoint": "/a"}, EXACT_OUTCOME),
        ({"mountpoint": "/a", "keep": False}, EXACT_OUTCOME),
        ({"mountpoint": "/a", "replace": "/b"}, EXACT_OUTCOME),
        ({"mountpoint": "/a", "source": "/b", "keep": True}, EXACT_OUTCOME),
        ({"mountpoint": "/a", "source": "/b", "replace": "/b"}, EXACT_OUTCOME),
        ({"prefix": "/a"}, PREFIX_OUTCOME),
        ({"prefix": "/a", "source": "/b"}, PREFIX_OUTCOME),
        ({"prefix": "/a", "replace": "/b", "keep": True}, PREFIX_OUTCOME),
        ({"prefix": "/a", "replace": "/b", "source": "/b"}, PREFIX_OUTCOME),
        ({"select": "x"}, SELECT_OUTCOME),
        ({"select": "x", "replace": "/b"}, SELECT_OUTCOME),
        ({"select": "x", "source": "/b", "keep": True}, SELECT_OUTCOME),
        ({"mountpoint": "/a", "source": "/b", "colour": "red"}, "the unknown key 'colour'"),
        ({"mountpoint": "a", "source": "/b"}, "its 'mountpoint' cannot be used as a path: it does not begin with '/'"),
        ({"mountpoint": "/a/", "source": "/b"}, "its 'mountpoint' cannot be used as a path: it ends with '/'"),
        ({"mountpoint": "/a", "source": "b"}, "its 'source' cannot be used as a path: it does not begin"),
        ({"mountpoint": "/a", "source": "/b/../c"}, "its 'source' cannot be used as a path: it contains"),
        ({"mountpoint": "/a", "source": "/b\n"}, "its 'source' cannot be used as a path: it contains a newline"),
        ({"prefix": "/a//b", "replace": "/b"}, "its 'prefix' cannot be used as a path: it contains"),
        ({"prefix": "/a/", "replace": "/b"}, "its 'prefix' cannot be used as a path: it ends"),
        ({"prefix": "/a", "replace": "b"}, "its 'replace' cannot be used as a path: it does not begin"),
        ({"prefix": "/a", "replace": "/b/"}, "its 'replace' cannot be used as a path: it ends"),
    ],
)
def test_a_bad_rule_is_named_with_its_number_and_reason(entry: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(BadRule, match=r"^Mount rule 2 \(\{") as caught:
        parse_rules([{"mountpoint": "/good", "keep": True}, entry])
    assert reason in caught.value.message
    assert caught.value.facts == {"rule_number": 2}
    assert "{mountpoint, source}" in caught.value.remedy


def test_a_bad_rule_of_another_workload_is_reported_too() -> None:
    with pytest.raises(BadRule):
        parse_rules([{"mountpoint": "/a", "workload": "other"}], "mine")


def test_a_bad_rule_is_shown_without_what_was_not_given() -> None:
    with pytest.raises(BadRule) as caught:
        parse_rules([{"mountpoint": "/a", "prefix": None, "keep": False}])
    assert caught.value.message.startswith("Mount rule 1 ({'mountpoint': '/a'}) is not usable")


def test_rules_of_another_workload_are_left_out() -> None:
    entries = [
        {"mountpoint": "/a", "source": "/1", "workload": "other"},
        {"mountpoint": "/a", "source": "/2"},
        {"mountpoint": "/a", "source": "/3", "workload": "mine"},
    ]
    assert [rule.source for rule in parse_rules(entries, "mine")] == ["/2", "/3"]
    assert [rule.source for rule in parse_rules(entries, None)] == ["/1", "/2", "/3"]


@pytest.mark.parametrize(
    ("rule", "host_path", "path"),
    [
        (Rule(mountpoint="/a", source="/b"), "/srv/x", "/b"),
        (Rule(mountpoint="/a", source="/b"), None, "/b"),
        (Rule(mountpoint="/a", keep=True), "/srv/x", "/srv/x"),
        (Rule(mountpoint="/a", keep=True), None, None),
        (Rule(prefix="/srv", replace="/mnt/ssd"), "/srv/x/y", "/mnt/ssd/x/y"),
        (Rule(prefix="/srv", replace="/mnt/ssd"), "/srv", "/mnt/ssd"),
        (Rule(prefix="/srv", replace="/"), "/srv/x", "/x"),
        (Rule(prefix="/", replace="/mnt"), "/srv/x", "/mnt/srv/x"),
        (Rule(prefix="/srv", keep=True), "/srv/x", "/srv/x"),
        (Rule(select="x", source="/b"), "/srv/x", "/b"),
    ],
)
def test_a_rule_gives_the_path_on_the_target(rule: Rule, host_path: str | None, path: str | None) -> None:
    assert rule.target_path(host_path) == path


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Rule(mountpoint="/a", source="/b"), "mountpoint: /a"),
        (Rule(prefix="/a", keep=True), "prefix: /a"),
        (Rule(select="x", keep=True), "select: x"),
        (Rule(), "empty rule"),
    ],
)
def test_a_rule_is_named_by_what_it_is_for(rule: Rule, text: str) -> None:
    assert str(rule) == text


EXACT = Rule(mountpoint="/data", source="/exact")
PREFIX = Rule(prefix="/srv", replace="/prefix")
SELECT = Rule(select="x", source="/select", mount_ids=frozenset({7}))


def chosen(*rules: Rule, mountpoint: str = "/data", host_path: str | None = "/srv/data") -> Rule | None:
    return decide(rules, 7, mountpoint, host_path).rule


def test_exact_goes_before_prefix_before_select_in_whatever_order_they_are_written() -> None:
    assert chosen(SELECT, PREFIX, EXACT) == EXACT
    assert chosen(EXACT, PREFIX, SELECT) == EXACT
    assert chosen(SELECT, PREFIX) == PREFIX
    assert chosen(SELECT) == SELECT
    assert chosen() is None


def test_an_exact_rule_is_for_the_mountpoint_alone() -> None:
    assert chosen(EXACT, mountpoint="/data/below") is None
    assert chosen(EXACT, mountpoint="/") is None


def test_the_longest_prefix_wins_in_whatever_order_they_are_written() -> None:
    longer = Rule(prefix="/srv/data", replace="/longer")
    other = Rule(prefix="/srv/data/deep", replace="/deep")
    assert chosen(PREFIX, longer, other) == longer
    assert chosen(other, longer, PREFIX) == longer


def test_a_prefix_ends_at_a_component_boundary() -> None:
    assert chosen(PREFIX, host_path="/srvdata") is None
    assert chosen(PREFIX, host_path="/srv") == PREFIX
    assert chosen(Rule(prefix="/", replace="/x"), host_path="/srvdata") == Rule(prefix="/", replace="/x")


def test_a_prefix_is_held_against_the_host_path_and_not_the_mountpoint() -> None:
    assert chosen(PREFIX, mountpoint="/srv/data", host_path="/elsewhere") is None
    assert chosen(PREFIX, mountpoint="/srv/data", host_path=None) is None


def test_a_select_rule_is_for_the_mounts_it_was_true_for() -> None:
    assert chosen(Rule(select="x", source="/s", mount_ids=frozenset({8}))) is None
    assert chosen(Rule(select="x", source="/s", mount_ids=frozenset())) is None
    assert chosen(Rule(select="x", source="/s")) is None


@pytest.mark.parametrize(
    "common",
    [EXACT, PREFIX, SELECT],
)
def test_a_rule_for_the_workload_goes_before_one_of_the_same_sort_for_all(common: Rule) -> None:
    specific = Rule(**{**vars(common), "workload": "mine", "source": None, "replace": None, "keep": True})
    for rules in ([common, specific], [specific, common]):
        decision = decide(rules, 7, "/data", "/srv/data")
        assert decision.rule == specific
        assert list(decision.contradicting) == []


def test_a_longer_prefix_for_all_goes_before_a_shorter_one_for_the_workload() -> None:
    longer = Rule(prefix="/srv/data", replace="/longer")
    assert chosen(Rule(prefix="/srv", replace="/mine", workload="mine"), longer) == longer


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (EXACT, Rule(mountpoint="/data", source="/other")),
        (EXACT, Rule(mountpoint="/data", source="/exact", key="other")),
        (EXACT, Rule(mountpoint="/data", keep=True)),
        (PREFIX, Rule(prefix="/srv", replace="/other")),
        (SELECT, Rule(select="y", source="/other", mount_ids=frozenset({7}))),
    ],
)
def test_rules_of_the_same_sort_that_differ_contradict_each_other(first: Rule, second: Rule) -> None:
    decision = decide([first, second], 7, "/data", "/srv/data")
    assert decision.rule == first
    assert list(decision.contradicting) == [second]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (EXACT, EXACT),
        (EXACT, Rule(mountpoint="/data", source="/exact", workload="mine")),
        (PREFIX, Rule(prefix="/srv", replace="/prefix")),
        (Rule(prefix="/srv", replace="/srv"), Rule(prefix="/srv", keep=True)),
        (SELECT, Rule(select="y", source="/select", mount_ids=frozenset({7, 8}))),
        (EXACT, PREFIX),
    ],
)
def test_rules_that_come_to_the_same_or_are_of_different_sorts_do_not_contradict(first: Rule, second: Rule) -> None:
    assert list(decide([first, second], 7, "/data", "/srv/data").contradicting) == []
