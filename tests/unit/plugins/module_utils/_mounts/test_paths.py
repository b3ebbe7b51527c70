# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import is_below, join, problem, relative


@pytest.mark.parametrize(
    ("path", "folder", "expected"),
    [
        ("/srv", "/srv", True),
        ("/srv/data", "/srv", True),
        ("/srv/data", "/srv/", True),
        ("/srvdata", "/srv", False),
        ("/srv", "/srv/data", False),
        ("/srv", "/", True),
        ("/", "/", True),
        ("/", "/srv", False),
    ],
)
def test_a_path_is_below_a_folder_at_component_boundaries(path: str, folder: str, expected: bool) -> None:
    assert is_below(path, folder) is expected


@pytest.mark.parametrize(
    ("path", "folder", "rest"),
    [
        ("/srv/data/a", "/srv", "data/a"),
        ("/srv/data/a", "/srv/", "data/a"),
        ("/srv", "/srv", ""),
        ("/srv", "/", "srv"),
        ("/", "/", ""),
    ],
)
def test_what_is_left_of_a_path_below_a_folder_joins_to_the_same_path(path: str, folder: str, rest: str) -> None:
    assert relative(path, folder) == rest
    assert join(folder, rest) == path


def test_nothing_joined_to_a_folder_adds_no_slash() -> None:
    assert join("/srv", "") == "/srv"
    assert join("/", "") == "/"
    assert join("/", "a") == "/a"
    assert join("/srv/", "a") == "/srv/a"


@pytest.mark.parametrize("path", ["/", "/data", "/a b/[c]:d", "/…", "/.hidden", "/a..b", "/..."])
def test_a_plain_absolute_path_has_no_problem(path: str) -> None:
    assert problem(path) is None


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "begin with"),
        ("data", "begin with"),
        ("./data", "begin with"),
        ("/a\nb", "newline"),
        ("/data/", "ends with"),
        ("/a//b", "'//'"),
        ("//a", "'//'"),
        ("/a/./b", "'//', '.' or '..'"),
        ("/a/../b", "'//', '.' or '..'"),
        ("/..", "'//', '.' or '..'"),
        ("/.", "'//', '.' or '..'"),
    ],
)
def test_a_path_that_criu_would_not_find_says_why(path: str, reason: str) -> None:
    assert reason in str(problem(path))
