# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.image import read_image_set
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_file import INVENTORY, MOUNTPOINTS, NAMESPACE_IDS
from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import (
    Manifest,
    Workload,
    digests,
    write_manifest,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet, CriuError
from ansible_collections.fleet.criu.tests.unit.synthetic_images import (
    CRIU_IDS,
    OWN_IDS,
    PAGE,
    image,
    message,
    mount,
    write_image_set,
)

FUZZ_ROUNDS = 1500


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_image_set(tmp_path / "images")


def seal(images: Path) -> None:
    manifest = Manifest(
        Workload("w", 1, 2), "h", "b", "k", "x86_64", "4.1.1", "", "/", [], [], {}, files=digests(images)
    )
    write_manifest(images, manifest)


def error_of(images: Path) -> CriuError | None:
    """The error of reading the set, if there is one; it must name the file and a way out."""
    try:
        read_image_set(images).as_dict()
    except CriuError as caught:
        error = caught
    else:
        return None
    assert error.facts["file"] in error.message
    assert error.remedy
    return error


def test_a_whole_set(images: Path) -> None:
    found = read_image_set(images).as_dict()
    assert found["images"] == str(images)
    assert found["manifest"]["present"] is False
    assert found["inventory"] == {
        "version": 2,
        "security_module": "none",
        "network_lock": "nftables",
        "tcp_close": False,
    }
    assert [process["command_name"] for process in found["processes"]] == ["init", "worker"]
    assert len(found["namespaces"]) == 8
    assert [(row["mountpoint"], row["key"], row["namespace"]) for row in found["mounts"]] == [
        ("/data", "data", 10),
        ("/", None, 10),
    ]
    assert found["memory"]["bytes"] == 3 * PAGE
    assert found["statistics"]["dump"]["frozen_time"] == 125516
    assert found["statistics"]["restore"] is None


def test_with_a_manifest(images: Path) -> None:
    seal(images)
    assert read_image_set(images).manifest.intact is True
    assert read_image_set(images, compare_files=False).manifest.intact is None


def test_an_altered_file_that_can_be_read_is_no_failure(images: Path) -> None:
    seal(images)
    (images / "pages-2.img").write_bytes(b"x" * PAGE)
    (images / "core-9.img").touch()
    found = read_image_set(images)
    assert (found.manifest.altered, found.manifest.added) == (["pages-2.img"], ["core-9.img"])
    assert found.memory.bytes == 3 * PAGE


def test_the_manifest_s_report_goes_with_the_error_of_a_damaged_image(images: Path) -> None:
    seal(images)
    (images / "core-7.img").write_bytes((images / "core-7.img").read_bytes()[:20])
    (images / "ids-1.img").unlink()
    with pytest.raises(BadImageSet, match=r"core-7.img is damaged at byte 12") as caught:
        read_image_set(images)
    assert (caught.value.facts["file"], caught.value.facts["offset"]) == ("core-7.img", 12)
    assert caught.value.facts["manifest"]["altered"] == ["core-7.img"]
    assert caught.value.facts["manifest"]["missing"] == ["ids-1.img"]


def test_every_own_mount_namespace_and_no_other(images: Path) -> None:
    inner = [(field, 23 if field == 9 else number) for field, number in OWN_IDS]
    (images / "ids-7.img").write_bytes(image(NAMESPACE_IDS, inner))
    (images / "mountpoints-23.img").write_bytes(image(MOUNTPOINTS, mount(mnt_id=400)))
    assert [(row.namespace, row.mount_id) for row in read_image_set(images).mounts] == [(10, 351), (10, 350), (23, 400)]
    for pid in (1, 7):
        (images / f"ids-{pid}.img").write_bytes(image(NAMESPACE_IDS, CRIU_IDS))
    assert read_image_set(images).mounts == []


@pytest.mark.parametrize("version", [0, 3, 1 << 31])
def test_a_set_of_another_version_is_refused(images: Path, version: int) -> None:
    (images / "inventory.img").write_bytes(image(INVENTORY, [(1, version)]))
    with pytest.raises(BadImageSet, match=f"is of version {version}, says inventory.img; versions 1 and 2 are known"):
        read_image_set(images)


def test_a_set_of_version_1(images: Path) -> None:
    for path in images.glob("*.img"):
        if path.name.startswith(("core", "ids", "mountpoints", "pstree", "pagemap")):
            path.write_bytes(path.read_bytes()[4:])
    (images / "stats-dump").unlink()
    (images / "inventory.img").write_bytes(image(INVENTORY, [(1, 1), (3, message(CRIU_IDS))]))
    found = read_image_set(images)
    assert (found.inventory.version, found.inventory.security_module, found.inventory.network_lock) == (1, None, None)
    assert len(found.mounts) == 2


def test_what_a_newer_criu_may_write(images: Path) -> None:
    fields = [(1, 2), (3, message(CRIU_IDS)), (6, 9), (10, 1), (11, 9), (99, "new")]
    (images / "inventory.img").write_bytes(image(INVENTORY, fields))
    found = read_image_set(images).inventory
    assert (found.security_module, found.network_lock, found.tcp_close) == ("unknown (9)", "unknown (9)", True)


@pytest.mark.parametrize("name", ["inventory.img", "pstree.img", "core-1.img", "mountpoints-10.img", "pages-1.img"])
def test_a_missing_image_is_named(images: Path, name: str) -> None:
    (images / name).unlink()
    with pytest.raises(BadImageSet, match=f"is incomplete: it has no {name}"):
        read_image_set(images)


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadImageSet, match="nowhere cannot be read: No such file"):
        read_image_set(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(BadImageSet, match="file cannot be read: Not a directory"):
        read_image_set(tmp_path / "file")


def test_every_truncation_is_refused_by_name_or_leaves_whole_records(images: Path) -> None:
    for path in sorted(images.iterdir()):
        whole = path.read_bytes()
        for length in range(0, len(whole), max(1, len(whole) // 200)):
            path.write_bytes(whole[:length])
            error = error_of(images)
            # A cut between two records cannot be seen; the manifest is there for that.
            assert error is not None or path.name in ("pstree.img", "mountpoints-10.img")
        path.write_bytes(whole)
    read_image_set(images)


def test_random_damage_is_refused_or_read_but_never_a_crash(images: Path) -> None:
    chance = random.Random(20261121)  # the same each time
    wholes = {path: path.read_bytes() for path in sorted(images.iterdir()) if not path.name.startswith("pages-")}
    refused = 0
    for _round in range(FUZZ_ROUNDS):
        path = chance.choice(list(wholes))
        damaged = bytearray(wholes[path])
        for _flip in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        if chance.random() < 0.2:
            damaged = damaged[: chance.randrange(len(damaged) + 1)]
        if chance.random() < 0.1:
            damaged += bytes(chance.randrange(256) for _byte in range(chance.randrange(20)))
        path.write_bytes(damaged)
        refused += error_of(images) is not None
        path.write_bytes(wholes[path])
    assert FUZZ_ROUNDS / 4 < refused < FUZZ_ROUNDS
