# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import BadRule, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._mounts import mount_map as subject
from ansible_collections.fleet.criu.plugins.module_utils._mounts.contents import Contents
from ansible_collections.fleet.criu.plugins.module_utils._mounts.mount_map import describe_gaps, mount_map
from ansible_collections.fleet.criu.plugins.module_utils._mounts.plan import Gap
from ansible_collections.fleet.criu.tests.unit.fakes import FakeProc


@pytest.fixture(autouse=True)
def _target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc = FakeProc(tmp_path / "proc")
    monkeypatch.setattr(subject, "Proc", lambda: proc)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    (tmp_path / "box" / "data").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    return tmp_path / "box"


def mount(mount_id: int, mountpoint: str, kind: str = "external", **fields: Any) -> dict[str, Any]:
    return {
        "mount_id": mount_id,
        "mountpoint": mountpoint,
        "kind": kind,
        "type": "directory",
        "fstype": "ext4",
        "host_path": f"/src{mountpoint}",
        **fields,
    }


def call(box: Path, *rules: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    return mount_map(
        {
            "mounts": [mount(1, "/", "root"), mount(2, "/data")],
            "rules": [{"mountpoint": "/", "source": str(box)}, *rules],
            "workload": "redis",
            "keep_paths": False,
            "data": {},
            "replace_contents": False,
            "fail_on_gaps": True,
            **parameters,
        }
    )


def test_mounts_and_rules_become_both_maps(box: Path, tmp_path: Path) -> None:
    found = call(box, {"mountpoint": "/data", "source": f"{tmp_path}/data"}, {"prefix": "/unused", "keep": True})
    assert {name: found[name] for name in ("root", "dump_map", "restore_map", "gaps", "unused_rules")} == {
        "root": str(box),
        "dump_map": [{"mountpoint": "/data", "key": "/data"}],
        "restore_map": [{"key": "/data", "path": f"{tmp_path}/data"}],
        "gaps": [],
        "unused_rules": ["prefix: /unused"],
    }
    assert [entry["path"] for entry in found["entries"]] == [str(box), f"{tmp_path}/data"]


def test_what_is_to_be_copied_is_told_to_both_sides(box: Path, tmp_path: Path) -> None:
    rule = {"mountpoint": "/data", "source": f"{tmp_path}/data"}
    found = call(box, rule, data={"/data": "sync"})
    assert found["copies"] == [{"path": "/src/data", "folder": "mount1", "file_name": None}]
    assert found["folders"] == {"mount1": f"{tmp_path}/data"}


def test_gaps_of_the_plan_and_of_the_file_system_fail_together(box: Path) -> None:
    with pytest.raises(CriuError) as caught:
        call(box, {"prefix": "/x", "keep": True}, mounts=[mount(1, "/", "root"), mount(2, "/data"), mount(3, "/gone")])
    assert [gap["code"] for gap in caught.value.facts["gaps"]] == ["no_rule", "no_rule", "missing_mountpoint"]
    assert caught.value.facts["unused_rules"] == ["prefix: /x"]
    lines = caught.value.message.splitlines()
    assert lines[0] == "3 gaps keep this workload from coming here:"
    assert lines[1].startswith("  /data [no_rule]: no rule says where")
    assert len(lines) == 4


def test_gaps_may_be_asked_for_instead_of_failing(box: Path) -> None:
    found = call(box, fail_on_gaps=False)
    assert [(gap["code"], gap["mountpoint"]) for gap in found["gaps"]] == [("no_rule", "/data")]


def test_one_gap_is_one() -> None:
    text = describe_gaps([Gap("code", "/m", "why", "What to do.")])
    assert text == "1 gap keeps this workload from coming here:\n  /m [code]: why. What to do."


def test_keep_paths_is_passed_on(box: Path) -> None:
    found = call(box, keep_paths=True, fail_on_gaps=False)
    assert [(gap["code"], gap["mountpoint"]) for gap in found["gaps"]] == [("missing_path", "/data")]


def test_rules_for_another_workload_are_not_used(box: Path, tmp_path: Path) -> None:
    rule = {"mountpoint": "/data", "source": f"{tmp_path}/data", "workload": "postgres"}
    assert call(box, rule, fail_on_gaps=False)["gaps"][0]["code"] == "no_rule"
    assert call(box, rule, workload="postgres")["gaps"] == []


def test_a_bad_rule_fails_even_if_gaps_do_not(box: Path) -> None:
    with pytest.raises(BadRule):
        call(box, {"mountpoint": "data", "keep": True}, fail_on_gaps=False)


@pytest.mark.parametrize("how", ["copy", "", None, True])
def test_data_must_be_said_in_words_that_are_known(box: Path, how: Any) -> None:
    with pytest.raises(CriuError, match="which is none of present, shared and sync"):
        call(box, data={"/data": how})


def test_mounts_that_are_not_those_of_mount_info_are_refused(box: Path) -> None:
    with pytest.raises(CriuError, match="not what mount_info returns"):
        call(box, mounts=[{"mountpoint": "/"}])


def test_a_select_rule_that_the_controller_did_not_evaluate_is_refused(box: Path) -> None:
    with pytest.raises(CriuError, match="'select: x' was not evaluated on the controller") as caught:
        call(box, {"select": "x", "keep": True})
    assert "fleet.criu.mount_map" in caught.value.remedy


def test_a_select_rule_that_was_true_for_no_mount_was_evaluated(box: Path) -> None:
    found = call(box, {"select": "x", "keep": True, "mount_ids": []}, fail_on_gaps=False)
    assert found["unused_rules"] == ["select: x"]


@pytest.mark.parametrize(
    ("owner", "workload", "replace", "codes"),
    [
        (None, "redis", False, ["foreign_contents"]),
        ("redis", "redis", False, []),
        ("postgres", "redis", False, ["foreign_contents"]),
        ("postgres", "redis", True, []),
        (None, None, False, ["foreign_contents"]),
    ],
)
def test_contents_may_be_replaced_if_they_are_the_workload_s_or_if_so_asked(
    box: Path,
    tmp_path: Path,
    owner: str | None,
    workload: str | None,
    replace: bool,
    codes: list[str],
) -> None:
    path = tmp_path / "data"
    (path / "file").touch()
    if owner is not None:
        Contents().claim([str(path)], owner)
    found = call(
        box,
        {"mountpoint": "/data", "source": str(path)},
        data={"/data": "sync"},
        workload=workload,
        replace_contents=replace,
        fail_on_gaps=False,
    )
    assert [gap["code"] for gap in found["gaps"]] == codes


@pytest.mark.parametrize(
    ("arrives", "there", "replace", "codes"),
    [
        (True, 9, False, ["newer_contents"]),
        (True, None, False, ["newer_contents"]),
        (True, 9, True, []),
        (False, 4, False, ["newer_contents"]),
        (False, 0, False, ["newer_contents"]),
        (False, 5, False, []),
        (False, None, False, []),
    ],
)
def test_contents_that_are_newer_than_those_of_the_source_are_not_replaced(
    box: Path, tmp_path: Path, arrives: bool, there: int | None, replace: bool, codes: list[str]
) -> None:
    path = tmp_path / "data"
    (path / "file").touch()
    Contents().begin([str(path)], "redis", 5, "h5", arrives)
    Contents().conclude("h5", moved=True)
    found = call(
        box,
        {"mountpoint": "/data", "source": str(path)},
        data={"/data": "sync"},
        workload="redis",
        replace_contents=replace,
        fail_on_gaps=False,
        **({} if there is None else {"source_contents": {"/src/data": there} if there else {}}),
    )
    assert [gap["code"] for gap in found["gaps"]] == codes
    assert all("5" in gap["reason"] and "replace_contents" in gap["remedy"] for gap in found["gaps"])
