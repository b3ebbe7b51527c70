# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_manifest import report_manifest
from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import (
    Manifest,
    Workload,
    digests,
    write_manifest,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("a.img", "b.img", "c.img"):
        (tmp_path / name).write_text(name)
    manifest = Manifest(
        workload=Workload("redis", 42, 5000, ["redis-server"]),
        host="source",
        boot_id="b",
        kernel="6.12",
        architecture="x86_64",
        criu_version="4.1.1",
        created="2026-01-01T00:00:00+00:00",
        root="/srv/box",
        mount_map=[],
        mounts=[],
        options={},
        files=digests(tmp_path),
    )
    write_manifest(tmp_path, manifest)
    return tmp_path


def alter(images: Path, **changes: Any) -> None:
    value = json.loads((images / "manifest.json").read_text())
    (images / "manifest.json").write_text(json.dumps({**value, **changes}))


def test_an_intact_set(images: Path) -> None:
    assert report_manifest(images).as_dict() == {
        "present": True,
        "intact": True,
        "missing": [],
        "added": [],
        "altered": [],
        "told": {
            "workload": {"name": "redis", "pid": 42, "start_time": 5000, "command": ["redis-server"]},
            "host": "source",
            "kernel": "6.12",
            "architecture": "x86_64",
            "criu_version": "4.1.1",
            "created": "2026-01-01T00:00:00+00:00",
            "root": "/srv/box",
            "leave_running": False,
        },
    }


def test_every_difference_is_reported(images: Path) -> None:
    (images / "a.img").unlink()
    (images / "b.img").write_text("B.img")
    (images / "d.img").touch()
    found = report_manifest(images)
    assert (found.present, found.intact) == (True, False)
    assert (found.missing, found.altered, found.added) == (["a.img"], ["b.img"], ["d.img"])
    assert found.told is not None
    assert found.told["host"] == "source"


def test_files_that_are_not_compared(images: Path) -> None:
    (images / "a.img").unlink()
    found = report_manifest(images, compare_files=False)
    assert (found.present, found.intact, found.missing) == (True, None, [])
    assert found.told is not None


def test_no_manifest_is_reported(images: Path) -> None:
    (images / "manifest.json").unlink()
    assert report_manifest(images).as_dict() == {
        "present": False,
        "intact": None,
        "missing": [],
        "added": [],
        "altered": [],
        "told": None,
    }


def test_a_manifest_of_a_newer_format_is_refused(images: Path) -> None:
    alter(images, format=2, seal="x")
    with pytest.raises(BadImageSet, match=r"manifest.json is of format 2; .* knows format 1\. Use the version of"):
        report_manifest(images)


@pytest.mark.parametrize(
    "files",
    [[1], {"a.img": 3}, {"a.img": {"sha256": "x"}}, {"a.img": {"size": 5, "sha256": 1}}, {"a.img": None}, 7, None],
)
def test_a_malformed_list_of_files_is_refused(images: Path, files: Any) -> None:
    alter(images, files=files)
    with pytest.raises(BadImageSet, match=r"manifest.json cannot be read: its list of files is malformed"):
        report_manifest(images)


def test_a_manifest_that_leads_nowhere_is_not_called_absent(images: Path) -> None:
    (images / "manifest.json").unlink()
    (images / "manifest.json").symlink_to("gone")
    with pytest.raises(BadImageSet):
        report_manifest(images)


def test_a_file_that_cannot_be_read(images: Path) -> None:
    (images / "a.img").unlink()
    (images / "a.img").mkdir()
    alter(images, files={"a.img": {"size": (images / "a.img").stat().st_size, "sha256": "x"}})
    with pytest.raises(BadImageSet, match=r"cannot be compared with the manifest: .*Is a directory"):
        report_manifest(images)
