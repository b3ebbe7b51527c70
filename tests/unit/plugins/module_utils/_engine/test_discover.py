# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Sequence

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._engine import discover as subject
from ansible_collections.fleet.criu.plugins.module_utils._engine.base import Bind, Container, Engine
from ansible_collections.fleet.criu.plugins.module_utils._engine.discover import discover
from ansible_collections.fleet.criu.plugins.module_utils._engine.runc import Runc
from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed
from ansible_collections.fleet.criu.tests.unit.fakes import FakeProc, FakeRunner
from ansible_collections.fleet.criu.tests.unit.plugins.module_utils._engine.test_oci import Bench

PID = 42


def engine(
    engine_name: str,
    containers: Sequence[Container] = (),
    is_there: bool = True,
    error: Exception | None = None,
    complaints: Sequence[str] = (),
) -> Any:
    """A kind of engine with these containers."""

    class Known:
        name = engine_name

        def __init__(self, runner: Any, proc: Any) -> None:
            assert isinstance(runner, FakeRunner)
            assert isinstance(proc, FakeProc)

        def is_present(self) -> bool:
            return is_there

        def version(self) -> str:
            return f"{engine_name} 1.0"

        def containers(self) -> list[Container]:
            assert is_there, "nobody answers"
            if error is not None:
                raise error
            return list(containers)

        def problems(self, container: Container) -> list[str]:
            assert not container.owner, "its owner knows"
            return list(complaints)

    return Known


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    made = FakeProc(tmp_path / "proc")
    made.add(PID, status="RssAnon:\t 2 kB\n")
    made.add(PID + 1, parent=PID, status="RssAnon:\t 3 kB\n")
    return made


@pytest.fixture(autouse=True)
def _no_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "has_unsupported", lambda name: False)


def found(proc: FakeProc, monkeypatch: pytest.MonkeyPatch, *kinds: type[Engine]) -> dict[str, Any]:
    monkeypatch.setattr(subject, "ENGINES", {kind.name: kind for kind in kinds})
    result = discover(FakeRunner(), proc)
    json.dumps(result)
    return result


def test_every_container_is_listed_with_what_is_known_of_it(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    web = Container("podman", "web", "4f", "running", PID, image="redis", binds=[Bind("/srv", "/data")])
    old = Container("podman", "old", "5e", "exited", 0)
    result = found(proc, monkeypatch, engine("podman", [web, old], complaints=["it has a terminal"]))
    assert result["engines"] == [{"name": "podman", "version": "podman 1.0", "is_supported": True, "problem": ""}]
    first, second = result["workloads"]
    assert first == {**web.as_dict(), "memory_bytes": 5 * 1024, "problems": ["it has a terminal"]}
    assert first["binds"] == [{"source": "/srv", "destination": "/data", "is_read_only": False, "volume": None}]
    assert (second["name"], second["memory_bytes"]) == ("old", 0)


def test_a_process_that_has_just_gone_needs_no_memory(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Container("runc", "web", "web", "running", 999)
    (workload,) = found(proc, monkeypatch, engine("runc", [gone]))["workloads"]
    assert workload["memory_bytes"] == 0


def test_what_belongs_to_a_higher_engine_is_listed_once(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = Container("runc", "4f", "4f", "running", PID, owner="podman")
    web = Container("podman", "web", "4f", "running", PID)
    result = found(proc, monkeypatch, engine("runc", [theirs]), engine("podman", [web]))
    assert [(each["engine"], each["name"]) for each in result["workloads"]] == [("podman", "web")]
    assert [each["name"] for each in result["engines"]] == ["podman", "runc"]


def test_an_engine_that_cannot_answer_hides_no_other(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    web = Container("runc", "web", "web", "running", PID)
    broken = engine("crun", error=CommandFailed("crun list failed.", "Mend it."))
    result = found(proc, monkeypatch, broken, engine("runc", [web]))
    assert [(each["name"], each["version"], each["problem"]) for each in result["engines"]] == [
        ("crun", "", "crun list failed. Mend it."),
        ("runc", "runc 1.0", ""),
    ]
    assert [each["name"] for each in result["workloads"]] == ["web"]


def test_an_engine_that_is_not_installed_is_not_listed(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(proc, monkeypatch, engine("runc", is_there=False)) == {"engines": [], "workloads": []}


def test_an_engine_that_is_not_supported_is_listed_with_the_reason(
    proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "has_unsupported", lambda name: name == "docker")
    (docker,) = found(proc, monkeypatch)["engines"]
    assert (docker["name"], docker["is_supported"]) == ("docker", False)
    assert "podman" in docker["problem"]


def test_a_container_without_a_bundle_hides_no_other(tmp_path: Path, monkeypatch: Any) -> None:
    bench = Bench(Runc, tmp_path, monkeypatch)
    bench.runner.answers["runc", "--version"] = Completed(0, "runc 1.2\n")
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(subject, "ENGINES", {"runc": Runc})
    monkeypatch.setattr(subject, "has_unsupported", lambda name: False)
    bench.list([bench.row(), bench.row(id="old", bundle="/gone")])
    found = discover(bench.runner, bench.proc)
    assert [each["name"] for each in found["workloads"]] == ["web", "old"]
