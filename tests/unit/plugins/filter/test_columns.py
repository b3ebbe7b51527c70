# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.fleet.criu.plugins.filter.columns import FilterModule, columns

ROWS = [{"mountpoint": "/", "path": "/srv/box", "x": 1}, {"mountpoint": "/etc/app.conf", "path": None}]


def test_the_filter_has_the_name_of_its_file() -> None:
    assert FilterModule().filters() == {"columns": columns}


def test_a_heading_and_a_line_for_each_row_line_up() -> None:
    assert columns(ROWS, ["mountpoint", "path", "x"]) == [
        "mountpoint     path      x",
        "/              /srv/box  1",
        "/etc/app.conf  -         -",
    ]


def test_the_columns_are_those_named_in_their_order() -> None:
    assert columns(ROWS, ["x", "mountpoint"]) == ["x  mountpoint", "1  /", "-  /etc/app.conf"]


def test_without_rows_there_is_the_heading() -> None:
    assert columns([], ["a", "long name"]) == ["a  long name"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        (0, "0"),
        (False, "False"),
        ("é", "é"),
        ("a\tb\nc", r"a\tb\nc"),
        ("\x1b[31m", r"\x1b[31m"),
    ],
)
def test_a_value_is_shown_on_one_line(value: Any, text: str) -> None:
    assert columns([{"a": value}], ["a"]) == ["a", text]


@pytest.mark.parametrize("rows", [["text"], [1], 5, None])
def test_what_is_no_list_of_dictionaries_is_refused(rows: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="columns needs a list of dictionaries"):
        columns(rows, ["a"])
