# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRIU accepts every mistake in the keys without a word; we refuse each, all at once."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._mounts.keys import check_keys, make_keys


def mount(mountpoint: str, kind: str = "external") -> dict[str, Any]:
    return {"mountpoint": mountpoint, "kind": kind}


MOUNTS = [mount("/", "root"), mount("/proc", "internal"), mount("/data"), mount("/more")]
GOOD = [{"mountpoint": "/data", "key": "a"}, {"mountpoint": "/more", "key": "b"}]


def test_a_map_that_fits_is_left_as_it_is() -> None:
    assert check_keys(GOOD, MOUNTS) == GOOD


def test_each_external_mount_gets_its_mountpoint_as_key() -> None:
    assert make_keys(MOUNTS) == [{"mountpoint": "/data", "key": "/data"}, {"mountpoint": "/more", "key": "/more"}]


@pytest.mark.parametrize(
    ("dump_map", "what", "names"),
    [
        (GOOD[:1], "without_key", ["/more"]),
        ([*GOOD, {"mountpoint": "/date", "key": "c"}], "matching_nothing", ["/date"]),
        ([*GOOD, {"mountpoint": "/proc", "key": "c"}], "matching_nothing", ["/proc"]),
        ([GOOD[0], {"mountpoint": "/more", "key": "a"}], "shared_keys", ["a"]),
        ([GOOD[0], {"mountpoint": "/more", "key": ""}], "unusable", [""]),
        ([GOOD[0], {"mountpoint": "/more", "key": "CRIU:x"}], "unusable", ["CRIU:x"]),
    ],
)
def test_a_map_that_does_not_fit_is_refused(dump_map: list[dict[str, str]], what: str, names: list[str]) -> None:
    with pytest.raises(CriuError, match="does not fit") as caught:
        check_keys(dump_map, MOUNTS)
    assert caught.value.facts[what] == names


def test_a_mount_over_one_with_a_key_is_refused() -> None:
    with pytest.raises(CriuError, match="several mounts") as caught:
        make_keys([*MOUNTS, mount("/data", "internal")])
    assert caught.value.facts["stacked"] == ["/data"]


def test_what_else_is_mounted_of_a_device_needs_no_key() -> None:
    mounts = [{**mount(name), "major": 8, "minor": minor} for name, minor in (("/disk", 17), ("/part", 17), ("/x", 1))]
    disk = {"mountpoint": "/disk", "key": "disk", "device": "8/17"}
    with pytest.raises(CriuError) as caught:
        check_keys([disk], mounts)
    assert caught.value.facts["without_key"] == ["/x"]
    assert check_keys([disk], mounts[:2]) == [disk]
    part = {"mountpoint": "/part", "key": "part"}
    assert check_keys([disk, part], mounts[:2]) == [disk, part]
