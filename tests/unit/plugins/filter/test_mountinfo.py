# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.template import trust_as_template

from ansible_collections.fleet.criu.plugins.filter.mountinfo import (
    DOCUMENTATION,
    EXAMPLES,
    RETURN,
    FilterModule,
    mountinfo,
)
from ansible_collections.fleet.criu.plugins.modules import mount_info

TEXT = r"""
36 35 98:0 /srv/a\040b//deleted /mnt rw,noatime shared:2 master:1 - ext3 /dev/root rw,errors=continue
37 36 0:5 / /mnt/x ro - tmpfs  rw,size=1k
"""
ROWS = [
    {
        "mount_id": 36,
        "parent_id": 35,
        "major": 98,
        "minor": 0,
        "root": "/srv/a b",
        "mountpoint": "/mnt",
        "mount_options": ["rw", "noatime"],
        "optional_fields": ["shared:2", "master:1"],
        "shared": 2,
        "master": 1,
        "propagate_from": None,
        "unbindable": False,
        "fstype": "ext3",
        "source": "/dev/root",
        "super_options": ["rw", "errors=continue"],
        "deleted": True,
        "decodable": True,
    },
    {
        "mount_id": 37,
        "parent_id": 36,
        "major": 0,
        "minor": 5,
        "root": "/",
        "mountpoint": "/mnt/x",
        "mount_options": ["ro"],
        "optional_fields": [],
        "shared": None,
        "master": None,
        "propagate_from": None,
        "unbindable": False,
        "fstype": "tmpfs",
        "source": "",
        "super_options": ["rw", "size=1k"],
        "deleted": False,
        "decodable": True,
    },
]


def test_the_filter_has_the_name_of_its_file() -> None:
    assert FilterModule().filters() == {"mountinfo": mountinfo}
    assert yaml.safe_load(DOCUMENTATION)["name"] == "mountinfo"


def test_each_line_is_a_row_with_the_fields_of_proc_5() -> None:
    assert mountinfo(TEXT) == ROWS
    assert mountinfo("") == []


def test_a_text_that_ansible_has_marked_gives_the_same() -> None:
    assert mountinfo(trust_as_template(TEXT)) == ROWS


def test_bytes_that_are_no_utf8_are_shown() -> None:
    (row,) = mountinfo(r"1 0 8:1 /\377 / rw - ext4 a rw")
    assert (row["root"], row["decodable"]) == (r"/\xff", False)


def test_the_fields_are_the_documented_ones_and_mount_info_has_them_too() -> None:
    documented = list(yaml.safe_load(RETURN)["_value"]["contains"])
    assert list(mountinfo(TEXT)[0]) == documented
    assert set(documented) <= set(yaml.safe_load(mount_info.RETURN)["mounts"]["contains"])


def test_a_malformed_line_fails_with_its_number_and_what_to_do() -> None:
    with pytest.raises(AnsibleFilterError, match=r"Line 2 .*separator '-' is missing.* unaltered") as caught:
        mountinfo("36 35 98:0 / / rw - ext3 a rw\nx\n")
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("value", [None, 5, ["36 35 98:0 / / rw - ext3 a rw"], b"x"])
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(AnsibleFilterError, match=f"not a {type(value).__name__}"):
        mountinfo(value)


def test_the_query_of_the_examples_finds_what_it_says() -> None:
    jmespath = pytest.importorskip("jmespath")
    query = "[?shared].{mountpoint: mountpoint, source: source}"
    assert query in EXAMPLES
    assert jmespath.search(query, mountinfo(TEXT)) == [{"mountpoint": "/mnt", "source": "/dev/root"}]
