# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu import feature as subject
from ansible_collections.fleet.criu.plugins.module_utils._criu.feature import (
    FEATURES,
    Criu,
    check,
    find_criu,
    has_feature,
    inspect,
    require_root,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuMissing
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed
from ansible_collections.fleet.criu.tests.unit.fakes import FakeCriu, FakeProc, FakeRunner

CRIU = Criu("/sbin/criu", "4.1.1", (4, 1, 1))


@pytest.fixture
def criu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCriu:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return FakeCriu(tmp_path, FakeProc(tmp_path / "proc"))


@pytest.mark.parametrize(
    ("text", "version", "number"),
    [
        ("Version: 4.1.1\n", "4.1.1", (4, 1, 1)),
        ("Version: 4.2\nGitID: v4.2\n", "4.2", (4, 2)),
        ("Warn  (x)\nVersion: 3.17.1-2ubuntu1\n", "3.17.1-2ubuntu1", (3, 17, 1)),
        ("Version: 2.8\n", "2.8", (2, 8)),
        ("Version:\t3.10\n", "3.10", (3, 10)),
        ("Version: 10.0\n", "10.0", (10, 0)),
    ],
)
def test_the_version_is_read(criu: FakeCriu, text: str, version: str, number: tuple[int, ...]) -> None:
    runner = FakeRunner({(criu.path, "--version"): Completed(0, text)})
    assert find_criu(runner, criu.path) == Criu(criu.path, version, number)
    assert runner.argvs == [[criu.path, "--version"]]


@pytest.mark.parametrize("version", ["1.2", "0.9.1", "1.2.99"])
def test_a_criu_without_keys_is_too_old(criu: FakeCriu, version: str) -> None:
    criu.version = version
    with pytest.raises(CriuMissing, match=r"too old: mounts can be mapped by key from 1\.3 on") as caught:
        find_criu(criu, criu.path)
    assert caught.value.facts == {"version": version}


@pytest.mark.parametrize(
    ("completed", "said"),
    [
        (Completed(127, "", "libnet.so: not found\n"), "exit status 127): libnet.so: not found"),
        (Completed(0, "hello"), "exit status 0): hello"),
        (Completed(1, "", "x" * 9000), "x" * 500),
    ],
)
def test_a_criu_that_tells_no_version_does_not_run_here(criu: FakeCriu, completed: Completed, said: str) -> None:
    with pytest.raises(CriuMissing) as caught:
        find_criu(FakeRunner({(criu.path,): completed}), criu.path)
    assert caught.value.message.endswith(said)
    assert len(caught.value.message) < 1000


def test_a_criu_at_a_path_where_none_is_is_not_looked_for_elsewhere(
    criu: FakeCriu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(subject, "_SEARCH", str(tmp_path))
    with pytest.raises(CriuMissing, match=r"/nowhere/criu was not found"):
        find_criu(criu, "/nowhere/criu")


def test_criu_is_found_in_path_or_else_in_the_usual_folders(
    criu: FakeCriu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(subject, "_SEARCH", "/nowhere")
    assert find_criu(criu).path == criu.path
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CriuMissing, match=r"\(criu was not found\)"):
        find_criu(criu)
    monkeypatch.setattr(subject, "_SEARCH", str(tmp_path))
    assert find_criu(criu).path == criu.path


def test_the_usual_folders_include_those_of_the_superuser() -> None:
    assert {"/usr/sbin", "/usr/local/sbin", "/sbin"} <= set(subject._SEARCH.split(os.pathsep))


@pytest.mark.parametrize("user", [1, 1000])
def test_another_user_than_root_is_told_to_become_root(monkeypatch: pytest.MonkeyPatch, user: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(CriuMissing, match="needs root") as caught:
        require_root()
    assert "become" in caught.value.remedy


def test_root_is_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    require_root()


@pytest.mark.parametrize(("status", "there"), [(0, True), (1, False), (255, False)])
def test_a_feature_is_asked_of_criu(status: int, there: bool) -> None:
    runner = FakeRunner({("/sbin/criu", "check", "--feature", "uffd"): Completed(status)})
    assert has_feature(runner, CRIU, "uffd") is there


@pytest.mark.parametrize(
    ("completed", "problems"),
    [
        (Completed(0, "Looks good.\n", "Warn (x)\n"), []),
        (Completed(0, "", "Error (criu/a.c:1): harmless\n"), []),
        (Completed(1, "", "Warn (x)\nError (criu/a.c:1): no a\nError (criu/b.c:2): no b\n"), ["no a", "no b"]),
        (Completed(1, "Error (criu/a.c:1): said here\n"), ["said here"]),
        (Completed(1, "strange\n"), ["strange"]),
        (Completed(3), ["criu check ended with exit status 3"]),
    ],
)
def test_what_criu_check_complains_of(completed: Completed, problems: list[str]) -> None:
    assert list(check(FakeRunner({("/sbin/criu", "check"): completed}), CRIU)) == problems


def test_inspection_tells_all_features_and_what_missing_ones_rule_out(criu: FakeCriu) -> None:
    criu.missing_features = {"mem_dirty_track"}
    found = inspect(criu, criu.path, required=True)
    assert found["features"] == {name: name != "mem_dirty_track" for name in FEATURES}
    assert found["missing"] == [{"feature": "mem_dirty_track", "rules_out": FEATURES["mem_dirty_track"]}]
    assert (found["usable"], found["path"], found["version"], found["problems"]) == (True, criu.path, "4.1.1", [])


def test_features_are_not_asked_for_if_nobody_wants_them(criu: FakeCriu) -> None:
    found = inspect(criu, criu.path, required=True, ask_features=False)
    assert found == {"usable": True, "path": criu.path, "version": "4.1.1", "problems": []}
    assert [list(command.argv)[1:] for command in criu.commands] == [["--version"], ["check"]]


def test_complaints_fail_if_criu_is_required_and_are_told_otherwise(criu: FakeCriu) -> None:
    criu.complaints = "Error (criu/a.c:1): no a\n"
    with pytest.raises(CriuMissing, match="cannot work here: no a") as caught:
        inspect(criu, criu.path, required=True)
    assert caught.value.facts == {"version": "4.1.1"}
    found = inspect(criu, criu.path, required=False)
    assert (found["usable"], found["problems"], found["version"]) == (False, ["no a"], "4.1.1")


def test_no_criu_fails_if_required_and_is_told_otherwise(criu: FakeCriu) -> None:
    with pytest.raises(CriuMissing):
        inspect(criu, "/nowhere/criu", required=True)
    found = inspect(criu, "/nowhere/criu", required=False)
    assert found["usable"] is False
    assert "not found" in found["problems"][0]
    assert criu.commands == []


def test_without_root_nothing_is_run(criu: FakeCriu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert inspect(criu, criu.path, required=False)["usable"] is False
    with pytest.raises(CriuMissing):
        inspect(criu, criu.path, required=True)
    assert criu.commands == []
