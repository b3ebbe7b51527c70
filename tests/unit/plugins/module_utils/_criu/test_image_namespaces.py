# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_file import (
    NAMESPACE_IDS,
    NETWORK_NAMESPACE,
    PID_NAMESPACE,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_namespaces import ImageNamespace, read_namespaces
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_wire import Message
from ansible_collections.fleet.criu.tests.unit.synthetic_images import (
    CRIU_IDS,
    OWN_IDS,
    Field,
    image,
    message,
    write_image_set,
)


def read(folder: Path, criu_ids: Sequence[Field] | None = tuple(CRIU_IDS)) -> list[ImageNamespace]:
    criu = None if criu_ids is None else Message(message(criu_ids), folder / "inventory.img", 0)
    return read_namespaces(folder, (1, 7), criu)


def test_own_namespaces_and_those_of_the_host(tmp_path: Path) -> None:
    found = read(write_image_set(tmp_path))
    assert [(namespace.type, namespace.id, namespace.own) for namespace in found] == [
        ("pid", 9, True),
        ("net", 2, False),
        ("ipc", 3, False),
        ("uts", 4, False),
        ("mnt", 10, True),
        ("user", 7, False),
        ("cgroup", 8, False),
        ("time", 5, False),
    ]
    assert {tuple(namespace.pids) for namespace in found} == {(1, 7)}
    assert found[0].as_dict() == {"type": "pid", "id": 9, "own": True, "key": None, "pids": [1, 7]}


def test_a_namespace_within_the_workload(tmp_path: Path) -> None:
    write_image_set(tmp_path)
    inner = [(field, 23 if field == 9 else number) for field, number in OWN_IDS]
    (tmp_path / "ids-7.img").write_bytes(image(NAMESPACE_IDS, inner))
    mounts = [(namespace.id, namespace.own, namespace.pids) for namespace in read(tmp_path) if namespace.type == "mnt"]
    assert mounts == [(10, True, [1]), (23, True, [7])]


def test_keys_of_external_namespaces(tmp_path: Path) -> None:
    write_image_set(tmp_path)
    (tmp_path / "pidns-9.img").write_bytes(image(PID_NAMESPACE, [(1, "outer")]))
    (tmp_path / "netns-2.img").write_bytes(image(NETWORK_NAMESPACE, [(1, 0), (8, "bridge")]))
    assert {namespace.type: namespace.key for namespace in read(tmp_path) if namespace.key} == {
        "pid": "outer",
        "net": "bridge",
    }


def test_a_dead_process_is_in_no_namespace(tmp_path: Path) -> None:
    write_image_set(tmp_path)
    (tmp_path / "ids-7.img").unlink()
    assert {tuple(namespace.pids) for namespace in read(tmp_path)} == {(1,)}


def test_images_that_do_not_tell_the_namespaces_of_criu(tmp_path: Path) -> None:
    assert {namespace.own for namespace in read(write_image_set(tmp_path), criu_ids=None)} == {None}
