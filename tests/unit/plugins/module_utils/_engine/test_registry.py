# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ansible_collections.fleet.criu.plugins.doc_fragments.engine import ModuleDocFragment
from ansible_collections.fleet.criu.plugins.module_utils._engine import registry as subject
from ansible_collections.fleet.criu.plugins.module_utils._engine.names import NAMES, PROCESS, SUPPORTED, UNSUPPORTED
from ansible_collections.fleet.criu.plugins.module_utils._engine.registry import ENGINES, engine_named, has_unsupported
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError, EngineMissing, WorkloadNotFound
from ansible_collections.fleet.criu.tests.unit.fakes import FakeProc, FakeRunner


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


def test_the_engines_are_these() -> None:
    assert sorted(ENGINES) == sorted(SUPPORTED) == ["crun", "lxc", "podman", "runc"]
    assert NAMES == ["crun", "docker", "lxc", "podman", "runc"]
    assert PROCESS not in NAMES


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_an_engine_that_is_installed_is_given_with_its_runner(
    name: str, proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "shutil.which", lambda program: f"/usr/bin/{program}" if program in (name, f"{name}-checkpoint") else None
    )
    runner = FakeRunner()
    engine = engine_named(name, runner, proc)
    assert (engine.name, type(engine)) == (name, ENGINES[name])
    assert runner.argvs == []


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_an_engine_that_is_not_installed_has_no_workload_here(
    name: str, proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None if program.startswith(name) else f"/usr/bin/{program}")
    with pytest.raises(EngineMissing, match=f"{name} is not installed on this host") as caught:
        engine_named(name, FakeRunner(), proc)
    assert isinstance(caught.value, WorkloadNotFound)


def test_an_engine_that_is_not_supported_is_refused_with_the_way_out(proc: FakeProc) -> None:
    with pytest.raises(CriuError, match=r"stays on its host.*Run the same image with podman") as caught:
        engine_named("docker", FakeRunner(), proc)
    assert not isinstance(caught.value, WorkloadNotFound), "it may well run here"


def test_an_engine_that_nobody_knows_is_refused(proc: FakeProc) -> None:
    with pytest.raises(CriuError, match="There is no engine lxd") as caught:
        engine_named("lxd", FakeRunner(), proc)
    assert caught.value.remedy == "Use one of process, crun, lxc, podman, runc."


def test_an_engine_that_is_not_supported_is_noticed_by_any_of_its_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signs = (str(tmp_path / "socket"), str(tmp_path / "program"))
    monkeypatch.setattr(subject, "_SIGNS", {"docker": signs})
    assert not has_unsupported("docker")
    (tmp_path / "program").touch()
    assert has_unsupported("docker")
    assert sorted(UNSUPPORTED) == ["docker"]


def test_modules_document_every_engine() -> None:
    assert yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]["engine"]["choices"] == NAMES
