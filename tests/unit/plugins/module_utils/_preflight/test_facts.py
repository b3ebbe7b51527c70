# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.known_pairs import numbers
from ansible_collections.fleet.criu.plugins.module_utils._engine import registry
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError, EngineMissing, WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._preflight import engine, units
from ansible_collections.fleet.criu.plugins.module_utils._preflight.facts import source_facts, target_facts
from ansible_collections.fleet.criu.tests.unit import playing_engine
from ansible_collections.fleet.criu.tests.unit.fake_engine import FakeEngine
from ansible_collections.fleet.criu.tests.unit.fakes import FakeCriu, FakeProc


class Host:
    """A host with a CRIU, and a folder for /conf."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.proc = FakeProc(folder / "proc")
        self.criu = FakeCriu(folder, self.proc)
        self.conf = folder / "conf"
        self.conf.write_text("a=1\n")

    def parameters(self, entries: Any, **more: Any) -> dict[str, Any]:
        names = ("pid", "images", "root", "pid_file", "workload", "address", "unit", "engine", "container")
        given: dict[str, Any] = dict.fromkeys(names)
        limits = {"contents": "quick", "contents_max_files": 9, "contents_max_bytes": 99}
        return {**given, **limits, "criu_path": self.criu.path, "map_entries": entries, "skip": [], **more}


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Host, Host]:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name, path=None: name)
    monkeypatch.setattr(units, "has_systemd", lambda: False)
    return Host(tmp_path / "source"), Host(tmp_path / "target")


def entry(source: Host, target: Host) -> dict[str, Any]:
    paths = {"host_path": str(source.conf), "path": str(target.conf)}
    return {"mountpoint": "/conf", "kind": "external", "data": "present", **paths}


def test_both_look_at_the_same_things(hosts: tuple[Host, Host]) -> None:
    source, target = hosts
    source.proc.add(42, own_namespaces=["net"])
    source.criu.tables = ["CRIU-42"]
    entries = [entry(source, target)]
    there = source_facts(source.parameters(entries, pid=42, contents="full"), source.proc, source.criu)
    assert there["effort"] == {"full": True, "files": 9, "bytes": 99}
    carried = json.loads(json.dumps(there))
    here = target_facts(carried, target.parameters(entries), target.proc, target.criu)
    assert there["contents"] == here["contents"]
    assert there["network_locks"] == here["network_locks"] == {"nftables": True, "iptables": True}
    assert (there["left_tables"], here["left_tables"]) == (["CRIU-42"], [])
    json.dumps(here)


def test_the_target_looks_at_the_paths_that_the_source_was_asked_for(hosts: tuple[Host, Host]) -> None:
    source, target = hosts
    source.proc.add(42)
    entries = [entry(source, target)]
    for paths, files in ((["/conf"], 1), (["/other"], 0)):
        there = source_facts(source.parameters(entries, pid=42, contents_paths=paths), source.proc, source.criu)
        here = target_facts(there, target.parameters(entries), target.proc, target.criu)
        assert (there["contents_paths"], here["contents"]["/conf"]["files"]) == (paths, files)


def test_the_images_are_no_contents(hosts: tuple[Host, Host]) -> None:
    source, target = hosts
    source.proc.add(42)
    entries = [entry(source, target)]
    there = source_facts(source.parameters(entries, pid=42, images=str(source.conf)), source.proc, source.criu)
    assert there["contents"]["/conf"]["left_out"] == {"": "of this collection"}
    here = target_facts(there, target.parameters(entries, images=str(target.conf)), target.proc, target.criu)
    assert here["contents"]["/conf"]["left_out"] == {"": "of this collection"}


def test_contents_are_not_read_if_they_are_skipped_or_unknown(hosts: tuple[Host, Host]) -> None:
    source, target = hosts
    source.proc.add(42)
    entries = [entry(source, target)]
    for given in (source.parameters(None, pid=42), source.parameters(entries, pid=42, skip=["contents"])):
        there = source_facts(given, source.proc, source.criu)
        assert there["contents"] is None
        assert target_facts(there, target.parameters(entries), target.proc, target.criu)["contents"] is None
    there = source_facts(source.parameters(entries, pid=42), source.proc, source.criu)
    skipping = target.parameters(entries, skip=["contents"])
    assert target_facts(there, skipping, target.proc, target.criu)["contents"] is None


def test_pids_and_sockets_matter_only_in_the_host_s_namespaces(hosts: tuple[Host, Host]) -> None:
    source, target = hosts
    target.proc.add(42, ["sshd"])
    for own, taken in (([], ["process 42 (sshd)"]), (["pid", "net"], [])):
        source.proc.add(42, own_namespaces=own)
        there = source_facts(source.parameters(None, pid=42), source.proc, source.criu)
        assert target_facts(there, target.parameters(None), target.proc, target.criu)["taken_pids"] == taken
        source.proc.remove(42)


def test_what_the_handoff_needs_is_looked_up_where_it_is_needed(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = hosts
    source.proc.add(42)
    monkeypatch.setattr(units, "has_systemd", lambda: True)
    monkeypatch.setattr(units, "supervisor_problem", lambda pid, proc, runner: f"{pid} at {proc is source.proc}")
    monkeypatch.setattr(units, "unit_problem", lambda unit, runner: f"{unit} by {runner is target.criu}")
    there = source_facts(source.parameters(None, pid=42, address="127.0.0.1"), source.proc, source.criu)
    assert there["supervisor"]["problem"] == "42 at True"
    assert there["route"]["resolved"] == ["127.0.0.1"]
    entries = [{**entry(source, target), "data": data, "mountpoint": f"/{data}"} for data in ("present", "sync")]
    here = target_facts(there, target.parameters(entries, workload="redis", unit="u"), target.proc, target.criu)
    assert here["owner_unit"]["problem"] == "u.service by True"
    assert here["copied"] == ["/sync"]
    named = target_facts(there, target.parameters(None, workload="redis"), target.proc, target.criu)
    assert (named["owner_unit"]["unit"], named["copied"]) == ("criu-redis.service", [])
    json.dumps([there, here])


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> type[FakeEngine]:
    monkeypatch.setattr(registry, "ENGINES", {"fake": FakeEngine})
    monkeypatch.setattr(FakeCriu, "folder", property(lambda criu: Path(criu.path).parent), raising=False)
    return FakeEngine


def test_without_an_engine_there_is_none_to_ask(hosts: tuple[Host, Host], engines: type[FakeEngine]) -> None:
    source, target = hosts
    source.proc.add(42)
    there = source_facts(source.parameters(None, pid=42), source.proc, source.criu)
    here = target_facts(there, target.parameters(None), target.proc, target.criu)
    assert (there["format"], there["engine"], here["engine"]) == (5, None, None)


def test_the_engines_of_both_hosts_are_asked(
    hosts: tuple[Host, Host], engines: type[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = hosts
    monkeypatch.setattr(engines, "complaints", ("it has a terminal",))
    monkeypatch.setattr(units, "has_systemd", lambda: True)
    monkeypatch.setattr(units, "supervisor_problem", lambda pid, proc, runner: None)
    source.proc.add(42)
    engines(source.criu, source.proc)
    playing_engine.put(Path(source.criu.path).parent / "engine", "web", "running", 42)
    given = source.parameters(None, pid=42, engine="fake", container="web")
    there = source_facts(given, source.proc, source.criu)
    common = {"engine": "fake", "version": "fake 1.0"}
    assert there["engine"] == {**common, "container": "web", "problems": ["it has a terminal"]}
    here = target_facts(there, target.parameters(None, workload="redis"), target.proc, target.criu)
    assert here["engine"] == {**common, "removal": "fake erase web", "error": "", "remedy": ""}
    assert here["owner_unit"] is None, "the engine takes care of it"
    json.dumps([there, here])


def test_a_container_that_is_not_at_the_source_is_said_so(hosts: tuple[Host, Host], engines: type[FakeEngine]) -> None:
    source, _target = hosts
    source.proc.add(42)
    given = source.parameters(None, pid=42, engine="fake", container="web")
    with pytest.raises(WorkloadNotFound, match="fake knows no container web here"):
        source_facts(given, source.proc, source.criu)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (EngineMissing("It is not here.", "Install it."), {"is_missing": True}),
        (CriuError("It is not here.", "Install it."), {}),
    ],
)
def test_an_engine_that_is_not_at_the_target_is_a_fact(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch, error: CriuError, expected: dict[str, Any]
) -> None:
    def fail(*_arguments: Any) -> Any:
        raise error

    target = hosts[1]
    monkeypatch.setattr(engine, "engine_named", fail)
    found = engine.target_engine({"engine": "runc"}, target.proc, target.criu)
    assert found == {"engine": "runc", "error": "It is not here.", "remedy": "Install it.", **expected}


@pytest.mark.parametrize("source", [{}, {"format": 1}, {"format": 2}, {"format": "3"}])
def test_facts_of_another_format_are_refused(hosts: tuple[Host, Host], source: dict[str, Any]) -> None:
    target = hosts[1]
    with pytest.raises(CriuError, match="is not what state: describe returned"):
        target_facts(source, target.parameters(None), target.proc, target.criu)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4.1.1", (4, 1, 1)),
        ("4.2", (4, 2, 0)),
        ("6.12.0-1-amd64", (6, 12, 0)),
        ("6.18.44-fc", (6, 18, 44)),
        ("7-rc1", (7, 0, 0)),
        ("v4", (0, 0, 0)),
        ("", (0, 0, 0)),
    ],
)
def test_versions_are_compared_by_their_first_numbers(text: str, expected: tuple[int, ...]) -> None:
    assert numbers(text) == expected
