# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.template import trust_as_template

from ansible_collections.fleet.criu.plugins.filter import external_map as subject
from ansible_collections.fleet.criu.plugins.filter.external_map import FilterModule, external_map
from ansible_collections.fleet.criu.plugins.filter.mountinfo import mountinfo
from ansible_collections.fleet.criu.plugins.modules import mount_map

HOST = mountinfo(
    """\
21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 8:2 / /srv rw - ext4 /dev/sdb1 rw
23 21 0:50 / /roots/box rw - overlay overlay rw
24 21 8:3 / /covered rw - ext4 /dev/sdc1 rw
25 24 0:70 / /covered rw - tmpfs tmpfs rw
"""
)
ROWS = mountinfo(
    """\
90 1 0:50 / / rw - overlay overlay rw
91 90 8:2 /data /data rw - ext4 /dev/sdb1 rw
92 90 8:1 /etc/app.conf /conf rw - ext4 /dev/sda1 rw
93 90 0:60 / /proc rw - proc proc rw
"""
)
HIDDEN = mountinfo("94 90 8:3 /x /hidden rw - ext4 /dev/sdc1 rw")
MOUNTS = [
    {**ROWS[0], "kind": "root", "host_path": "/roots/box"},
    {**ROWS[1], "kind": "external", "host_path": "/srv/data"},
    {**ROWS[2], "kind": "external", "host_path": "/etc/app.conf", "type": "file"},
    {**ROWS[3], "kind": "internal", "host_path": None},
]
RULES: list[dict[str, Any]] = [
    {"mountpoint": "/", "keep": True},
    {"prefix": "/srv", "replace": "/ssd/srv"},
    {"mountpoint": "/conf", "source": "/etc/new.conf", "key": "conf"},
]


def tagged(value: Any) -> Any:
    """As Ansible gives a filter what was written in a playbook."""
    if isinstance(value, dict):
        return {tagged(name): tagged(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [tagged(inner) for inner in value]
    return trust_as_template(value) if isinstance(value, str) else value


def test_the_filter_has_the_name_of_its_file() -> None:
    assert FilterModule().filters() == {"external_map": external_map}
    assert yaml.safe_load(subject.DOCUMENTATION)["name"] == "external_map"


def test_each_external_mount_has_its_key_and_its_path_by_the_rules() -> None:
    found = external_map(MOUNTS, RULES)
    assert found["root"] == "/roots/box"
    assert found["dump_map"] == [{"mountpoint": "/data", "key": "/data"}, {"mountpoint": "/conf", "key": "conf"}]
    assert found["restore_map"] == [{"key": "/data", "path": "/ssd/srv/data"}, {"key": "conf", "path": "/etc/new.conf"}]
    assert found["gaps"] == []
    assert found["unused_rules"] == []
    assert found["entries"][2] == {
        "mountpoint": "/conf",
        "kind": "external",
        "type": "file",
        "fstype": "ext4",
        "host_path": "/etc/app.conf",
        "key": "conf",
        "path": "/etc/new.conf",
        "rule": "mountpoint: /conf",
        "data": "present",
        "device": None,
        "create": None,
        "copied_with": None,
    }
    assert [entry["type"] for entry in found["entries"]] == ["directory", "directory", "file"]


def test_the_result_is_the_documented_one() -> None:
    documented = yaml.safe_load(subject.RETURN)["_value"]["contains"]
    found = external_map(MOUNTS, RULES)
    assert list(found) == list(documented)
    assert list(found["entries"][1]) == list(documented["entries"]["sample"][0])
    assert list(external_map(MOUNTS)["gaps"][0]) == list(documented["gaps"]["sample"][0])


def test_no_file_system_is_asked(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    found = external_map(MOUNTS[:1], [{"mountpoint": "/", "source": missing}])
    assert (found["root"], found["gaps"]) == (missing, [])


def test_rows_are_judged_by_the_rows_of_their_host() -> None:
    found = external_map(ROWS, RULES, host=HOST)
    assert found == external_map([{**mount, "type": "directory"} for mount in MOUNTS], RULES)


def test_what_mounts_say_themselves_does_not_count_beside_the_rows_of_a_host() -> None:
    wrong = [{**mount, "kind": "internal", "host_path": "/wrong"} for mount in MOUNTS]
    found = external_map(wrong, RULES, host=HOST)
    assert [entry["host_path"] for entry in found["entries"]] == ["/roots/box", "/srv/data", "/etc/app.conf"]


def test_a_root_that_is_covered_on_the_host_has_no_path_there() -> None:
    found = external_map(HIDDEN, keep_paths=True, host=HOST)
    assert found["entries"] == []
    assert [gap["code"] for gap in found["gaps"]] == ["no_host_path"]


def test_a_mount_without_a_rule_is_a_gap_unless_paths_are_kept() -> None:
    found = external_map(MOUNTS[:2])
    assert [gap["mountpoint"] for gap in found["gaps"]] == ["/", "/data"]
    assert found["gaps"][1]["code"] == "no_rule"
    assert found["restore_map"] == []
    kept = external_map(MOUNTS[:2], keep_paths=True)
    assert (kept["gaps"], kept["restore_map"]) == ([], [{"key": "/data", "path": "/srv/data"}])


def test_rules_of_another_workload_are_left_out() -> None:
    rules = [{"mountpoint": "/data", "source": "/theirs", "workload": "theirs"}]
    assert external_map(MOUNTS[1:2], rules, workload="theirs")["gaps"] == []
    assert external_map(MOUNTS[1:2], rules, workload="mine")["gaps"] != []


def test_rules_that_decide_about_nothing_are_listed() -> None:
    rules = [*RULES, {"mountpoint": "/nowhere", "source": "/x"}]
    assert external_map(MOUNTS, rules)["unused_rules"] == ["mountpoint: /nowhere"]


@pytest.mark.parametrize(
    "expression", ["fstype == 'ext4'", "starts_with(mountpoint, '/d')", "major == `8`", "kind == 'external'"]
)
def test_select_is_evaluated_over_all_fields_as_ansible_gives_them(expression: str) -> None:
    pytest.importorskip("jmespath")
    rules = [{"select": expression, "source": "/selected"}]
    assert external_map(tagged(MOUNTS[1:2]), tagged(rules))["restore_map"] == [{"key": "/data", "path": "/selected"}]


def test_select_sees_what_the_rows_of_a_host_tell() -> None:
    pytest.importorskip("jmespath")
    found = external_map(ROWS[1:2], [{"select": "host_path == '/srv/data'", "keep": True}], host=HOST)
    assert found["restore_map"] == [{"key": "/data", "path": "/srv/data"}]


def test_the_result_is_of_plain_types() -> None:
    found = external_map(tagged(MOUNTS), tagged(RULES), tagged(HOST))
    assert {type(value) for entry in found["entries"] for value in entry.values()} == {str, type(None)}


def test_what_was_given_is_not_changed() -> None:
    rules = [{"prefix": "/srv", "keep": "yes"}]
    mounts = [dict(mount) for mount in MOUNTS]
    external_map(mounts, rules, HOST)
    assert rules == [{"prefix": "/srv", "keep": "yes"}]
    assert mounts == MOUNTS


def test_options_are_taken_as_the_module_takes_them() -> None:
    rules = [{"prefix": "/srv", "keep": "yes", "key": 5}]
    assert external_map(MOUNTS[1:2], rules)["restore_map"] == [{"key": "5", "path": "/srv/data"}]
    rule = {"mountpoint": "/data", "source": "/new", "keep": "no"}
    assert external_map(MOUNTS[1:2], [rule])["restore_map"] == [{"key": "/data", "path": "/new"}]


def test_the_options_of_a_rule_are_those_of_the_module() -> None:
    documented = yaml.safe_load(mount_map.DOCUMENTATION)["options"]["rules"]["suboptions"]
    assert set(documented) - {"mount_ids"} == set(subject._RULE_OPTIONS)
    for name, option in subject._RULE_OPTIONS.items():
        assert (documented[name]["type"], documented[name].get("default")) == (option["type"], option.get("default"))


def test_select_without_jmespath_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "HAS_JMESPATH", False)
    assert external_map(MOUNTS, RULES)["gaps"] == []
    with pytest.raises(AnsibleFilterError, match="pip install jmespath"):
        external_map(MOUNTS, [{"select": "shared", "keep": True}])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            [{"mountpoint": "/data"}],
            r"Mount rule 1 .* exactly one of 'source', 'device' and 'keep'.* Write \{mountpoint, source\}",
        ),
        ([{"mountpoint": "data", "source": "/x"}], "does not begin with '/'"),
        ([{"mountpoint": "/data", "colour": "red"}], "external_map: rules.colour. Supported parameters include"),
        ([{"select": "true", "keep": True, "mount_ids": [1]}], "external_map: rules.mount_ids. Supported"),
        ([{"prefix": "/srv", "keep": "perhaps"}], "external_map: .*not a valid boolean"),
        (["text"], "external_map: "),
        (5, "external_map: "),
    ],
)
def test_rules_that_are_not_usable_are_refused(rules: Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        external_map(MOUNTS, rules)


@pytest.mark.parametrize("expression", ["fstype ==", "nothing()", "abs(fstype)"])
def test_an_expression_that_is_not_usable_is_named(expression: str) -> None:
    pytest.importorskip("jmespath")
    with pytest.raises(AnsibleFilterError) as caught:
        external_map(MOUNTS, [{"select": expression, "keep": True}])
    assert f"'select: {expression}' is not usable" in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("mounts", "message"),
    [
        (ROWS, "cannot tell whether the mount at / is external: .* 'host'"),
        ([{**MOUNTS[0], "kind": "extrenal"}], "the mount at /: value of kind must be one of: root, internal, external"),
        ([{**MOUNTS[0], "mount_id": "x"}], "the mount at /: .*mount_id"),
        ([{"kind": "root"}], "missing required arguments"),
        ("text", "list of dictionaries as 'mounts'"),
        (["text"], "list of dictionaries as 'mounts'"),
        ([None], "list of dictionaries as 'mounts'"),
        (None, "list of dictionaries as 'mounts'"),
        ({"a": 1}, "list of dictionaries as 'mounts'"),
    ],
)
def test_mounts_that_are_not_usable_are_refused(mounts: Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        external_map(mounts, RULES)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("text", "list of dictionaries as 'host'"),
        ([{}], "None as 'mount_id'"),
        ([{**HOST[0], "mountpoint": 5}], "5 as 'mountpoint'"),
        ([{**HOST[0], "mount_options": "rw"}], "'rw' as 'mount_options'"),
        ([{**HOST[0], "optional_fields": [1]}], r"\[1\] as 'optional_fields'"),
    ],
)
def test_rows_of_a_host_that_are_not_usable_are_refused(host: Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        external_map(ROWS, RULES, host)


def test_the_query_of_the_examples_finds_what_it_says() -> None:
    jmespath = pytest.importorskip("jmespath")
    query = "gaps[?code == 'no_rule'].{mountpoint: mountpoint, write: remedy}"
    assert query in subject.EXAMPLES
    assert jmespath.search(query, external_map(MOUNTS[1:2])) == [
        {
            "mountpoint": "/data",
            "write": "Write in criu_mount_rules of the target: {mountpoint: '/data', source: PATH}",
        }
    ]
