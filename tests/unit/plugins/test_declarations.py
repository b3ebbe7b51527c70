# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic

PLUGINS = Path(importlib.import_module("ansible_collections.fleet.criu.plugins.module_utils._module").__file__).parents[
    1
]
MODULES = sorted(path.stem for path in (PLUGINS / "modules").glob("*.py") if path.stem != "__init__")
KEPT = ("type", "elements", "required", "choices", "default")
DEFAULTS = {"type": "str", "required": False}


class Declared(Exception):
    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        self.spec = spec


def imported(kind: str, name: str) -> Any:
    return importlib.import_module(f"ansible_collections.fleet.criu.plugins.{kind}.{name}")


def documentation(module: str) -> dict[str, Any]:
    """The module's documentation with the options of its fragments."""
    documented = yaml.safe_load(imported("modules", module).DOCUMENTATION)
    options = dict(documented.get("options", {}))
    for fragment in documented["extends_documentation_fragment"]:
        name = fragment.rpartition(".")[2]
        options.update(yaml.safe_load(imported("doc_fragments", name).ModuleDocFragment.DOCUMENTATION)["options"])
    return {**documented, "options": options}


def argument_spec(module: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    def declare(argument_spec: dict[str, Any], **options: Any) -> None:
        raise Declared(argument_spec)

    subject = imported("modules", module)
    monkeypatch.setattr(subject, "AnsibleModule", declare)
    with pytest.raises(Declared) as caught:
        subject.main()
    return caught.value.spec


def comparable(options: dict[str, Any], inner: str) -> dict[str, Any]:
    found = {}
    for name, option in options.items():
        kept = {**DEFAULTS, **{key: option[key] for key in KEPT if option.get(key) is not None}}
        kept["choices"] = list(option.get("choices") or [])
        found[name] = {**kept, "options": comparable(option.get(inner) or {}, inner)}
    return found


def test_there_are_modules() -> None:
    assert "dump" in MODULES
    assert basic.AnsibleModule is not None


def test_the_action_group_lists_every_module() -> None:
    runtime = PLUGINS.parent / "meta" / "runtime.yml"
    assert sorted(yaml.safe_load(runtime.read_text())["action_groups"]["criu"]) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_the_argument_spec_is_what_the_documentation_says(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = comparable(argument_spec(module, monkeypatch), "options")
    assert spec == comparable(documentation(module)["options"], "suboptions")


@pytest.mark.parametrize("module", MODULES)
def test_the_documentation_has_the_module_s_name_its_attributes_and_examples(module: str) -> None:
    documented = documentation(module)
    assert documented["module"] == module
    assert documented["version_added"]
    assert "fleet.criu.attributes" in documented["extends_documentation_fragment"]
    assert {"check_mode", "diff_mode", "idempotent"} <= set(documented["attributes"])
    examples = yaml.safe_load(imported("modules", module).EXAMPLES)
    assert any(f"fleet.criu.{module}" in task for task in examples)
    assert yaml.safe_load(imported("modules", module).RETURN)


@pytest.mark.parametrize("module", MODULES)
def test_examples_use_options_that_exist(module: str) -> None:
    options = set(documentation(module)["options"])
    for task in yaml.safe_load(imported("modules", module).EXAMPLES):
        given = task.get(f"fleet.criu.{module}") or {}
        assert set(given) <= options


def test_an_action_plugin_is_for_a_module_of_its_name() -> None:
    actions = {path.stem for path in (PLUGINS / "action").glob("*.py") if path.stem != "__init__"}
    assert actions <= set(MODULES)
