# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleActionFail
from ansible.template import trust_as_template

from ansible_collections.fleet.criu.plugins.action import mount_map as subject

MOUNTS = ({"mount_id": 1, "mountpoint": "/", "fstype": "ext4"}, {"mount_id": 2, "mountpoint": "/d", "fstype": "nfs4"})
SELECT = {"select": "fstype == 'nfs4'", "keep": True}


class Action:
    """The action plugin with a module that gives back what it was called with."""

    def __init__(self) -> None:
        self.called: list[tuple[str, dict[str, Any]]] = []

    def run(self, **arguments: Any) -> dict[str, Any]:
        task = MagicMock(async_val=0, check_mode=False, args=arguments)
        plugin = subject.ActionModule(task, MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock())

        def execute(name: str, arguments: dict[str, Any], task_vars: Any = None) -> dict[str, Any]:
            self.called.append((name, arguments))
            return {"changed": False, "task_vars": task_vars}

        plugin._execute_module = execute
        return plugin.run(task_vars={"a": 1})

    def rules(self, *rules: Any, mounts: Any = MOUNTS) -> list[Any]:
        self.run(mounts=mounts, rules=list(rules))
        return self.called[-1][1]["rules"]


@pytest.fixture
def action() -> Action:
    return Action()


@pytest.fixture
def jmespath() -> Any:
    return pytest.importorskip("jmespath")


@pytest.mark.usefixtures("jmespath")
def test_select_rules_go_to_the_host_with_the_mounts_they_are_true_for(action: Action) -> None:
    other = {"mountpoint": "/x", "source": "/y"}
    assert action.rules(SELECT, other) == [{**SELECT, "mount_ids": [2]}, other]


@pytest.mark.usefixtures("jmespath")
def test_what_a_user_wrote_as_mount_ids_does_not_count(action: Action) -> None:
    assert action.rules({**SELECT, "mount_ids": [1]})[0]["mount_ids"] == [2]


def test_the_module_is_called_by_its_full_name_with_the_variables_and_its_result_is_ours(action: Action) -> None:
    assert action.run(mounts=MOUNTS, rules=[], keep_paths=True) == {"changed": False, "task_vars": {"a": 1}}
    assert action.called == [("fleet.criu.mount_map", {"mounts": MOUNTS, "rules": [], "keep_paths": True})]


@pytest.mark.parametrize("rules", [None, "text", [], [{"prefix": "/a", "keep": True}], [{"select": None}], ["text"]])
def test_without_select_rules_the_arguments_are_left_to_the_module(
    action: Action, rules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "HAS_JMESPATH", False)
    action.run(mounts=MOUNTS, rules=rules)
    assert action.called[0][1]["rules"] == rules


@pytest.mark.usefixtures("jmespath")
def test_the_task_s_own_arguments_are_not_changed(action: Action) -> None:
    rules = [dict(SELECT)]
    action.run(mounts=MOUNTS, rules=rules)
    assert rules == [SELECT]


def test_a_controller_without_jmespath_is_told_what_to_install(action: Action, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "HAS_JMESPATH", False)
    with pytest.raises(AnsibleActionFail, match="pip install jmespath"):
        action.run(mounts=MOUNTS, rules=[SELECT])
    assert action.called == []


@pytest.mark.usefixtures("jmespath")
def test_an_expression_that_cannot_be_used_fails_on_the_controller(action: Action) -> None:
    with pytest.raises(AnsibleActionFail, match="'select: fstype =='"):
        action.run(mounts=MOUNTS, rules=[{"select": "fstype ==", "keep": True}])
    assert action.called == []


@pytest.mark.usefixtures("jmespath")
@pytest.mark.parametrize("mounts", [None, []])
def test_without_mounts_a_select_rule_is_true_for_none(action: Action, mounts: Any) -> None:
    assert action.rules(SELECT, mounts=mounts)[0]["mount_ids"] == []


@pytest.mark.usefixtures("jmespath")
@pytest.mark.parametrize("expression", ["starts_with(mountpoint, '/d')", "contains(fstype, 'nfs')"])
def test_functions_work_on_mounts_that_were_written_in_a_playbook(action: Action, expression: str) -> None:
    tagged = [
        {name: trust_as_template(v) if isinstance(v, str) else v for name, v in mount.items()} for mount in MOUNTS
    ]
    assert action.rules({"select": expression, "keep": True}, mounts=tagged)[0]["mount_ids"] == [2]


@pytest.mark.usefixtures("jmespath")
def test_a_rule_that_is_no_dictionary_is_left_to_the_module(action: Action) -> None:
    assert action.rules(SELECT, "text")[1] == "text"
