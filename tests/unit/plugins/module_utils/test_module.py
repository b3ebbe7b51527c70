# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import platform
from typing import Any, Mapping

import pytest

from ansible_collections.fleet.criu.plugins.module_utils import _errors
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._module import run_module


class Ended(Exception):
    """A module has ended, as exit_json and fail_json do."""


class FakeModule:
    def __init__(self, check_mode: bool = False) -> None:
        self.params = {"name": "redis"}
        self.check_mode = check_mode
        self.failed = False
        self.result: dict[str, Any] = {}

    def exit_json(self, **result: Any) -> Any:
        self.result = result
        raise Ended

    def fail_json(self, msg: str, **result: Any) -> Any:
        self.failed, self.result = True, {"msg": msg, **result}
        raise Ended


def run(result: Mapping[str, Any] | Exception, check_mode: bool = False) -> tuple[FakeModule, list[Any]]:
    asked = []

    def function(parameters: Mapping[str, Any], check: bool) -> Mapping[str, Any]:
        asked.append((parameters, check))
        if isinstance(result, Exception):
            raise result
        return result

    module = FakeModule(check_mode)
    with pytest.raises(Ended):
        run_module(module, function)
    return module, asked


@pytest.mark.parametrize("check_mode", [True, False])
def test_the_function_gets_parameters_and_check_mode(check_mode: bool) -> None:
    _module, asked = run({}, check_mode)
    assert asked == [({"name": "redis"}, check_mode)]


def test_a_result_is_unchanged_unless_it_says_so() -> None:
    module, _asked = run({"pid": 42})
    assert (module.failed, module.result) == (False, {"changed": False, "pid": 42})
    assert run({"changed": True})[0].result == {"changed": True}


def test_an_error_carries_host_message_remedy_and_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "node7")
    module, _asked = run(CriuError("It broke.", "Mend it.", {"pids": [1, 2]}))
    assert module.failed
    assert module.result == {"msg": "node7: It broke. Mend it.", "remedy": "Mend it.", "pids": [1, 2]}


def test_an_error_without_remedy_ends_with_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "node7")
    assert run(CriuError("It broke."))[0].result == {"msg": "node7: It broke.", "remedy": ""}


def test_other_errors_are_not_ours_to_hide() -> None:
    with pytest.raises(ZeroDivisionError):
        run_module(FakeModule(), lambda parameters, check: {"x": 1 // 0})


def test_all_errors_are_of_one_family() -> None:
    classes = [value for value in vars(_errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(classes) > 5
    assert all(issubclass(found, CriuError) for found in classes)
