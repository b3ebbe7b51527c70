# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._mounts import mount_map
from ansible_collections.fleet.criu.plugins.module_utils._preflight.way_back import way_back
from ansible_collections.fleet.criu.tests.unit.fakes import FakeProc


@pytest.fixture(autouse=True)
def _source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc = FakeProc(tmp_path / "proc")
    monkeypatch.setattr(mount_map, "Proc", lambda: proc)
    (tmp_path / "box" / "data").mkdir(parents=True)
    (tmp_path / "data").mkdir()


def mount(mount_id: int, mountpoint: str, host_path: Path | None, **fields: Any) -> dict[str, Any]:
    return {
        "mount_id": mount_id,
        "mountpoint": mountpoint,
        "kind": "external",
        "type": "directory",
        "fstype": "ext4",
        "source": "/dev/vdb",
        "host_path": None if host_path is None else str(host_path),
        **fields,
    }


def mounts(folder: Path, data: Path | None) -> list[dict[str, Any]]:
    return [mount(1, "/", folder / "box", kind="root"), mount(2, "/data", data)]


def test_mounts_that_are_where_they_were_can_be_made_again(tmp_path: Path) -> None:
    assert way_back(mounts(tmp_path, tmp_path / "data"), [], "redis") == []


@pytest.mark.parametrize("path", [None, "gone"])
def test_a_mount_that_has_no_path_here_any_more_cannot(tmp_path: Path, path: str | None) -> None:
    (gap,) = way_back(mounts(tmp_path, None if path is None else tmp_path / path), [], "redis")
    assert gap["mountpoint"] == "/data"
    assert gap["reason"]


def test_what_is_dumped_as_a_device_has_to_come_back_from_its_own(tmp_path: Path) -> None:
    rows = mounts(tmp_path, tmp_path / "data")
    gaps = way_back(rows, [{"mountpoint": "/data", "device": "/dev/vdc"}], "redis")
    assert {gap["mountpoint"] for gap in gaps} == {"/data"}
    assert any("/dev/vdb" in gap["reason"] for gap in gaps), "no such device is here"
    assert way_back(rows, [{"mountpoint": "/data", "device": None}], "redis") == []


def test_what_is_no_mount_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CriuError, match="not what mount_info returns"):
        way_back([{"mountpoint": "/", "x": 1}], [], "redis")
