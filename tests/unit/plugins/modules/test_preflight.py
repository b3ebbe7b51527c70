# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from ansible_collections.fleet.criu.plugins.module_utils._preflight.checks import CHECKS
from ansible_collections.fleet.criu.plugins.modules import preflight
from ansible_collections.fleet.criu.tests.unit.fakes import FakeCriu, FakeProc

PID = 42


class Exited(Exception):
    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__()
        self.result = result


class Failed(Exited):
    pass


class Scene:
    """A host with a workload of pid 42 and a CRIU, which is source and target at once."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.proc = FakeProc(folder / "proc")
        self.proc.add(PID, ["redis"])
        self.criu = FakeCriu(folder, self.proc)
        monkeypatch.setattr(preflight, "Proc", lambda: self.proc)
        monkeypatch.setattr(preflight, "SubprocessRunner", lambda: self.criu)

    def run(self, check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
        given = {"criu_path": self.criu.path, **arguments}
        with patch_module_args({**given, "_ansible_check_mode": check_mode}), pytest.raises(Exited) as caught:
            preflight.main()
        if isinstance(caught.value, Failed):
            raise caught.value
        return caught.value.result

    def fails(self, **arguments: Any) -> dict[str, Any]:
        with pytest.raises(Failed) as caught:
            self.run(**arguments)
        return caught.value.result

    def facts(self, **arguments: Any) -> dict[str, Any]:
        """As they come from the other host."""
        facts: dict[str, Any] = json.loads(json.dumps(self.run(state="describe", pid=PID, **arguments)["facts"]))
        return facts


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    def exit_json(module: AnsibleModule, **result: Any) -> None:
        raise Exited(result)

    def fail_json(module: AnsibleModule, msg: str, **result: Any) -> None:
        raise Failed({"msg": msg, **result})

    monkeypatch.setattr(AnsibleModule, "exit_json", exit_json)
    monkeypatch.setattr(AnsibleModule, "fail_json", fail_json)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("platform.node", lambda: "node7")
    return Scene(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "missing required arguments: state"),
        ({"state": "query"}, "value of state must be one of: describe, check"),
        ({"state": "describe"}, "state is describe but all of the following are missing: pid"),
        ({"state": "check"}, "state is check but all of the following are missing: source"),
        ({"state": "describe", "pid": PID, "contents": "some"}, "value of contents must be one of"),
        ({"state": "describe", "pid": PID, "network_lock": "x"}, "value of network_lock must be one of"),
        ({"state": "describe", "pid": PID, "skip": ["cpus"]}, "node7: 'skip' names what is no check: cpus"),
        ({"state": "describe", "pid": 7}, "node7: There is no process 7"),
        ({"state": "check", "source": {"a": 1}}, "is not what state: describe returned"),
    ],
)
def test_arguments_are_checked(scene: Scene, arguments: dict[str, Any], said: str) -> None:
    assert said in scene.fails(**arguments)["msg"]


@pytest.mark.parametrize("check_mode", [False, True])
def test_both_calls_change_nothing_and_need_each_other_s_results_alone(scene: Scene, check_mode: bool) -> None:
    facts = scene.facts(check_mode=check_mode, images=f"{scene.folder}/images")
    found = scene.run(check_mode, state="check", source=facts, images=f"{scene.folder}/images")
    assert (found["changed"], found["failures"]) == (False, [])
    assert [check["name"] for check in found["checks"]] == list(CHECKS)
    assert all(set(check) == {"name", "code", "result", "reason", "remedy"} for check in found["checks"])
    assert not (scene.folder / "images").exists()


def test_whether_it_could_come_back_is_told_if_its_mounts_are_given(scene: Scene) -> None:
    mount = {"mount_id": 1, "mountpoint": "/", "kind": "root", "type": "directory", "fstype": "ext4"}
    assert "way_back" not in scene.run(state="describe", pid=PID)
    for path, expected in ((str(scene.folder), []), (None, ["/"])):
        found = scene.run(state="describe", pid=PID, mounts=[{**mount, "host_path": path}])
        assert [gap["mountpoint"] for gap in found["way_back"]] == expected
        assert "facts" in found


def test_a_failed_check_fails_the_task_unless_told_otherwise(scene: Scene) -> None:
    facts = scene.facts()
    facts["io_uring"] = ["process 42, descriptor 3"]
    failed = scene.fails(state="check", source=facts)
    assert failed["msg"].startswith("node7: 1 check keeps this workload from coming here:\n  io_uring [io_uring]: ")
    assert len(failed["checks"]) == len(CHECKS)
    found = scene.run(state="check", source=facts, fail_on_problems=False)
    assert [check["name"] for check in found["failures"]] == ["io_uring"]
    # Ansible takes a task with a true 'failed' for one that failed.
    assert "failed" not in found


def test_a_check_is_skipped_by_its_name(scene: Scene) -> None:
    facts = scene.facts()
    facts["io_uring"] = ["process 42, descriptor 3"]
    found = scene.run(state="check", source=facts, skip=["io_uring"])
    assert found["failures"] == []
    assert [check["name"] for check in found["checks"] if check["code"] == "asked"] == ["io_uring"]


def test_the_options_reach_the_checks(scene: Scene) -> None:
    facts = scene.facts()
    facts["cgroups"] = "hybrid"

    def result(**options: Any) -> str:
        checks = scene.run(state="check", source=facts, fail_on_problems=False, **options)["checks"]
        return next(str(check["result"]) for check in checks if check["name"] == "cgroups")

    assert result() == "failed"
    assert result(manage_cgroups="ignore") == "warning"


def test_the_map_says_which_contents_are_compared_and_where(scene: Scene) -> None:
    for name in ("here", "there"):
        (scene.folder / name).write_text(name)
    paths = {"host_path": f"{scene.folder}/there", "path": f"{scene.folder}/here"}
    entries = [{"mountpoint": "/conf", "kind": "external", "type": "file", "data": "present", **paths}]
    found = scene.run(
        state="check", source=scene.facts(map_entries=entries), map_entries=entries, fail_on_problems=False
    )
    assert [(check["name"], check["code"]) for check in found["failures"]] == [("contents", "contents_differ")]
    assert "/conf: it is a file of 5 bytes" in found["failures"][0]["reason"]
