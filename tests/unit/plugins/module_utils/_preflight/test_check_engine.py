# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._preflight.check_engine import container, engine

IMAGE = "ab" * 32
SOURCE: dict[str, Any] = {
    "host": "node1",
    "criu": {"version": "4.1.1"},
    "engine": {
        "engine": "podman",
        "version": "podman version 5.4.2",
        "storage_driver": "overlay",
        "cgroup_version": "v2",
        "cgroup_manager": "systemd",
        "runtime": "crun",
        "image": "docker.io/library/redis:7",
        "image_id": IMAGE,
        "container": "web",
        "problems": [],
    },
}
TARGET: dict[str, Any] = {
    "host": "node2",
    "criu": {"version": "4.2"},
    "engine": {
        "engine": "podman",
        "version": "podman version 5.5.0",
        "storage_driver": "overlay",
        "cgroup_version": "v2",
        "cgroup_manager": "cgroupfs",
        "names": ["webserver"],
        "image_ids": [f"sha256:{'cd' * 32}", f"sha256:{IMAGE}"],
        "runtimes": ["runc", "crun"],
        "removal": "podman rm web",
        "error": "",
        "remedy": "",
    },
}
NO_ENGINE = {"host": "node1", "criu": {"version": "3.1"}, "engine": None}
# What runc and crun tell.
PLAIN_SOURCE = {**SOURCE, "engine": {"engine": "runc", "version": "runc 1.2", "container": "web", "problems": []}}
PLAIN_TARGET = {
    **TARGET,
    "engine": {
        "engine": "runc",
        "version": "runc 1.3",
        "names": [],
        "removal": "runc delete web",
        "error": "",
        "remedy": "",
    },
}
OPTIONS: dict[str, Any] = {}


def with_engine(facts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**facts, "engine": {**facts["engine"], **changes}}


def with_criu(facts: dict[str, Any], criu: dict[str, Any]) -> dict[str, Any]:
    return {**facts, "criu": criu}


# The container


def test_a_container_that_nothing_binds_passes() -> None:
    found = container(SOURCE, TARGET, OPTIONS)
    assert (found.result, found.code) == ("passed", "ok")
    assert found.reason == "Nothing binds the podman container web to node1."


def test_a_container_that_is_bound_fails_with_all_that_binds_it() -> None:
    bound = with_engine(SOURCE, problems=["it is part of a pod", "it has a terminal"])
    found = container(bound, TARGET, OPTIONS)
    assert (found.result, found.code) == ("failed", "container_bound")
    assert found.reason.startswith("podman cannot move web: ")
    assert "it is part of a pod" in found.reason
    assert "it has a terminal" in found.reason


@pytest.mark.parametrize("check", [container, engine])
def test_without_an_engine_there_is_nothing_to_check(check: Any) -> None:
    found = check(NO_ENGINE, {**TARGET, "engine": None}, OPTIONS)
    assert (found.result, found.code) == ("skipped", "not_applicable")


# The engine


@pytest.mark.parametrize(("source", "target"), [(SOURCE, TARGET), (PLAIN_SOURCE, PLAIN_TARGET)])
def test_an_engine_that_can_take_the_container_passes_whatever_its_version(
    source: dict[str, Any], target: dict[str, Any]
) -> None:
    found = engine(source, target, OPTIONS)
    assert (found.result, found.code) == ("passed", "ok")
    assert found.reason == f"node1 has {source['engine']['version']}, node2 has {target['engine']['version']}."


PROBLEMS = [
    (
        *(with_criu(SOURCE, {"version": "3.18.9"}), TARGET, "criu_too_old_for_engines"),
        *("CRIU 3.18.9 of node1 does not let anybody hold a container", "Install CRIU 3.19 or later on node1."),
    ),
    (
        *(SOURCE, with_criu(TARGET, {"version": "3.17"}), "criu_too_old_for_engines"),
        *("CRIU 3.17 of node2 does not let anybody hold a container", "Install CRIU 3.19 or later on node2."),
    ),
    (
        SOURCE,
        {
            **TARGET,
            "engine": {
                "engine": "podman",
                "error": "podman is not installed on this host.",
                "remedy": "Install podman.",
                "is_missing": True,
            },
        },
        "engine_missing",
        "node2: podman is not installed on this host.",
        "Install podman.",
    ),
    (
        SOURCE,
        {**TARGET, "engine": {"engine": "podman", "error": "podman info failed: x", "remedy": "Run it by hand."}},
        "engine_silent",
        "node2: podman info failed: x",
        "Run it by hand.",
    ),
    (
        *(SOURCE, with_engine(TARGET, names=["db", "web"]), "name_taken"),
        *("podman of node2 has a container web already", "podman rm web"),
    ),
    (
        *(PLAIN_SOURCE, with_engine(PLAIN_TARGET, names=["web"]), "name_taken"),
        *("runc of node2 has a container web already", "runc delete web"),
    ),
    (
        *(SOURCE, with_engine(TARGET, storage_driver="vfs"), "other_storage_driver"),
        *("podman has the storage driver overlay on node1, vfs there", "Set both hosts to the same storage driver."),
    ),
    (
        *(SOURCE, with_engine(TARGET, cgroup_version="v1"), "other_cgroup_version"),
        *("podman has the version of control groups v2 on node1, v1 there", "same version of control groups"),
    ),
    (
        *(SOURCE, with_engine(TARGET, runtimes=["runc"]), "runtime_missing"),
        *("web runs with crun, which node2 lacks", "Install crun on node2."),
    ),
    (
        *(SOURCE, with_engine(TARGET, image_ids=[f"sha256:{'cd' * 32}"]), "image_missing"),
        *("node2 has no image abababababab (docker.io/library/redis:7)", "podman save docker.io/library/redis:7"),
    ),
    (SOURCE, with_engine(TARGET, image_ids=[]), "image_missing", "node2 has no image", "podman load on node2"),
]


@pytest.mark.parametrize(("source", "target", "code", "reason", "remedy"), PROBLEMS)
def test_each_problem_has_its_code_and_its_remedy(
    source: dict[str, Any], target: dict[str, Any], code: str, reason: str, remedy: str
) -> None:
    found = engine(source, target, OPTIONS)
    assert (found.result, found.code) == ("failed", code)
    assert reason in found.reason
    assert remedy in found.remedy


@pytest.mark.parametrize("version", ["3.19", "3.19.0", "4.0"])
def test_criu_runs_scripts_for_engines_since_3_19(version: str) -> None:
    found = engine(with_criu(SOURCE, {"version": version}), with_criu(TARGET, {"version": version}), OPTIONS)
    assert found.result == "passed"


def test_a_host_without_criu_is_the_affair_of_another_check() -> None:
    found = engine(with_criu(SOURCE, {"usable": False}), with_criu(TARGET, {"usable": False}), OPTIONS)
    assert found.result == "passed"


def test_all_problems_are_told_at_once_by_the_code_of_the_first() -> None:
    there = with_engine(TARGET, names=["web"], storage_driver="vfs", runtimes=[], image_ids=[])
    found = engine(with_criu(SOURCE, {"version": "3.18"}), there, OPTIONS)
    assert found.code == "criu_too_old_for_engines"
    for said in ("CRIU 3.18", "container web already", "storage driver", "crun, which"):
        assert said in found.reason or "more" in found.reason
    assert "Install CRIU 3.19" in found.remedy


def test_an_engine_that_is_silent_is_asked_nothing_more() -> None:
    silent = {**TARGET, "engine": {"engine": "podman", "error": "x failed.", "remedy": "Mend it."}}
    found = engine(with_criu(SOURCE, {"version": "3.18"}), silent, OPTIONS)
    assert found.code == "criu_too_old_for_engines"
    assert "x failed." in found.reason
    assert "Mend it." in found.remedy


@pytest.mark.parametrize(
    ("version", "is_read_only", "code"),
    [("4.1.1", True, "read_only_root"), ("4.1.1", False, "ok"), ("4.2", True, "ok")],
)
def test_a_read_only_root_needs_a_criu_that_keeps_it(version: str, is_read_only: bool, code: str) -> None:
    source = {**PLAIN_SOURCE, "has_read_only_root": is_read_only}
    found = engine(source, with_criu(PLAIN_TARGET, {"version": version}), OPTIONS)
    assert found.code == code
    assert ("Install CRIU 4.2 or later on node2" in found.remedy) == (code != "ok")
