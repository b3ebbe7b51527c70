# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import BadRule
from ansible_collections.fleet.criu.plugins.module_utils._mounts.select import evaluate_selects

MOUNTS = [
    {"mount_id": 1, "mountpoint": "/", "fstype": "ext4", "shared": None, "mount_options": [], "major": 8},
    {"mount_id": 2, "mountpoint": "/data", "fstype": "nfs4", "shared": 0, "mount_options": ["ro"], "major": 0},
]


@pytest.mark.parametrize(
    ("value", "is_true"),
    [
        (True, True),
        ("x", True),
        ([0], True),
        ({"a": None}, True),
        (1, True),
        (0, True),
        (0.0, True),
        (False, False),
        (None, False),
        ("", False),
        ([], False),
        ({}, False),
    ],
)
def test_true_is_what_jmespath_calls_true(value: Any, is_true: bool) -> None:
    (rule,) = evaluate_selects([{"select": "anything", "keep": True}], MOUNTS[:1], lambda expression, mount: value)
    assert rule == {"select": "anything", "keep": True, "mount_ids": [1] if is_true else []}


def test_other_rules_are_left_as_they_are() -> None:
    rules: list[dict[str, Any]] = [{"mountpoint": "/a", "source": "/b"}, {"prefix": "/a", "keep": True, "select": None}]

    def fail(expression: str, mount: Any) -> Any:
        raise AssertionError("not to be called")

    found = evaluate_selects(rules, MOUNTS, fail)
    assert found == rules
    assert found[0] is not rules[0]


def test_what_the_search_raises_is_a_bad_rule_that_names_the_expression() -> None:
    def search(expression: str, mount: Any) -> Any:
        raise RuntimeError("no such function")

    with pytest.raises(BadRule, match=r"'select: foo\(\)' is not usable: no such function"):
        evaluate_selects([{"select": "foo()"}], MOUNTS, search)


@pytest.mark.parametrize(
    ("expression", "mount_ids"),
    [
        ("fstype == 'nfs4'", [2]),
        ("fstype != 'nfs4'", [1]),
        ("starts_with(mountpoint, '/')", [1, 2]),
        ("contains(mount_options, 'ro')", [2]),
        ("mount_options", [2]),
        ("shared", [2]),
        ("major > `0`", [1]),
        ("no_such_field", []),
    ],
)
def test_expressions_are_jmespath_over_the_fields_of_one_mount(expression: str, mount_ids: list[int]) -> None:
    jmespath = pytest.importorskip("jmespath")
    assert evaluate_selects([{"select": expression}], MOUNTS, jmespath.search)[0]["mount_ids"] == mount_ids


@pytest.mark.parametrize("expression", ["fstype ==", "[", "nothing()", "abs(fstype)"])
def test_an_expression_that_jmespath_refuses_is_a_bad_rule(expression: str) -> None:
    jmespath = pytest.importorskip("jmespath")
    with pytest.raises(BadRule) as caught:
        evaluate_selects([{"select": expression}], MOUNTS, jmespath.search)
    assert f"'select: {expression}'" in caught.value.message
    assert "fstype == 'nfs4'" in caught.value.remedy
