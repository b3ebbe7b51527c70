# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import (
    Manifest,
    Workload,
    digests,
    digests_from,
    read_manifest,
    verify_files,
    write_manifest,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet

MANIFEST = Manifest(
    workload=Workload("redis", 42, 5000, ["redis-server", "*:6379"]),
    host="source",
    boot_id="b",
    kernel="6.12",
    architecture="x86_64",
    criu_version="4.1.1",
    created="2026-01-01T00:00:00+00:00",
    root="/srv/box",
    mount_map=[{"mountpoint": "/data", "key": "k"}, {"mountpoint": "/b", "key": "/b"}],
    mounts=[{"mountpoint": "/data", "kind": "external"}],
    options={"tcp_close": True},
    leave_running=True,
    generation=7,
)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "pages-1.img").write_text("memory")
    (tmp_path / "inventory.img").write_text("")
    (tmp_path / "dump.log").write_text("log")
    write_manifest(tmp_path, replace(MANIFEST, files=digests(tmp_path)))
    return tmp_path


def problems(images: Path) -> dict[str, Any]:
    with pytest.raises(BadImageSet) as caught:
        verify_files(images, read_manifest(images))
    return caught.value.facts


def test_a_manifest_that_is_written_is_read_the_same(images: Path) -> None:
    found = read_manifest(images)
    assert replace(found, files={}) == MANIFEST
    assert found.keys == ["k", "/b"]
    assert found.size == 6


def test_a_manifest_of_before_generations_is_of_none(images: Path) -> None:
    value = json.loads((images / "manifest.json").read_text())
    del value["generation"]
    (images / "manifest.json").write_text(json.dumps(value))
    assert read_manifest(images).generation == 0


def test_a_manifest_is_for_its_owner_alone(images: Path) -> None:
    assert (images / "manifest.json").stat().st_mode & 0o777 == 0o600


def test_digests_are_of_the_image_files_alone(images: Path) -> None:
    assert digests(images) == {
        "inventory.img": {"sha256": hashlib.sha256(b"").hexdigest(), "size": 0},
        "pages-1.img": {"sha256": hashlib.sha256(b"memory").hexdigest(), "size": 6},
    }


def test_the_digest_of_a_large_image_is_of_all_of_it(tmp_path: Path) -> None:
    contents = b"a" * (1 << 20) + b"b" * 17
    (tmp_path / "pages-1.img").write_bytes(contents)
    assert digests(tmp_path)["pages-1.img"] == {"sha256": hashlib.sha256(contents).hexdigest(), "size": len(contents)}


def test_a_folder_without_manifest_is_no_complete_image_set(tmp_path: Path) -> None:
    with pytest.raises(BadImageSet, match=r"no complete image set: it has no manifest.json"):
        read_manifest(tmp_path)
    with pytest.raises(BadImageSet):
        read_manifest(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"format": 1}',
        "[]",
        "null",
        '"x"',
        '{"format": 1, "workload": 3}',
        "\x00",
        '{"format": 1, "workload": {}}',
    ],
)
def test_a_damaged_manifest_cannot_be_read(images: Path, text: str) -> None:
    (images / "manifest.json").write_text(text)
    with pytest.raises(BadImageSet, match="cannot be read") as caught:
        read_manifest(images)
    assert caught.value.remedy == "Use another copy of this image set."


def test_a_manifest_that_is_no_text_cannot_be_read(images: Path) -> None:
    (images / "manifest.json").write_bytes(b"\xff\xfe")
    with pytest.raises(BadImageSet, match="cannot be read"):
        read_manifest(images)


@pytest.mark.parametrize("number", [2, 0, None, "1"])
def test_a_manifest_of_another_format_is_named_so(images: Path, number: Any) -> None:
    value = {**json.loads((images / "manifest.json").read_text()), "format": number, "new_field": 1}
    (images / "manifest.json").write_text(json.dumps(value))
    with pytest.raises(BadImageSet, match=f"is of format {number!r}; this version knows format 1"):
        read_manifest(images)


def test_a_manifest_with_a_field_that_we_do_not_know_is_not_guessed_at(images: Path) -> None:
    value = {**json.loads((images / "manifest.json").read_text()), "new_field": 1}
    (images / "manifest.json").write_text(json.dumps(value))
    with pytest.raises(BadImageSet, match="new_field"):
        read_manifest(images)


def test_untouched_files_are_verified(images: Path) -> None:
    verify_files(images, read_manifest(images))


def test_a_missing_file_is_named(images: Path) -> None:
    (images / "pages-1.img").unlink()
    assert problems(images) == {"missing": ["pages-1.img"], "altered": [], "added": []}


@pytest.mark.parametrize("text", ["memorx", "memory2", ""])
def test_an_altered_file_is_named(images: Path, text: str) -> None:
    (images / "pages-1.img").write_text(text)
    assert problems(images) == {"missing": [], "altered": ["pages-1.img"], "added": []}


def test_an_added_image_is_named(images: Path) -> None:
    (images / "core-7.img").touch()
    assert problems(images) == {"missing": [], "altered": [], "added": ["core-7.img"]}


def test_everything_that_is_wrong_is_named_at_once(images: Path) -> None:
    (images / "pages-1.img").unlink()
    (images / "inventory.img").write_text("x")
    (images / "b.img").touch()
    (images / "a.img").touch()
    with pytest.raises(BadImageSet, match=r"missing: pages-1.img; altered: inventory.img; added: a.img, b.img\."):
        verify_files(images, read_manifest(images))


@pytest.mark.parametrize("name", ["stats-dump", "stats-restore", "stats-dump.img", "dump.log", "restored.json"])
def test_what_criu_and_we_write_later_is_no_addition(images: Path, name: str) -> None:
    (images / name).write_text("later")
    verify_files(images, read_manifest(images))


@pytest.mark.parametrize(
    ("sums", "entry"),
    [([5, 907060870], {"size": 5, "crc32": 907060870}), ([5], {"size": 5})],
)
def test_a_set_that_came_by_a_handoff_has_what_was_known_on_the_way(
    tmp_path: Path, sums: list[int], entry: dict[str, int]
) -> None:
    (tmp_path / "a.img").write_bytes(b"hello")
    files = digests_from({"a.img": sums})
    assert files == {"a.img": entry}
    manifest = replace(MANIFEST, files=files)
    verify_files(tmp_path, manifest)
    (tmp_path / "a.img").write_bytes(b"hallo")
    if len(sums) > 1:
        with pytest.raises(BadImageSet, match=r"altered: a\.img"):
            verify_files(tmp_path, manifest)
    (tmp_path / "a.img").write_bytes(b"hell")
    with pytest.raises(BadImageSet, match=r"altered: a\.img"):
        verify_files(tmp_path, manifest)
