# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_file import CORE, PROCESS_TREE
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_processes import read_processes
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet
from ansible_collections.fleet.criu.tests.unit.synthetic_images import core, image, write_image_set


def test_the_tree(tmp_path: Path) -> None:
    init, worker = read_processes(write_image_set(tmp_path))
    assert init.as_dict() == {
        "pid": 1,
        "parent_pid": 0,
        "process_group": 1,
        "session": 1,
        "threads": [1, 2],
        "thread_count": 2,
        "command_name": "init",
        "state": "alive",
    }
    assert (worker.pid, worker.parent_pid, worker.process_group, worker.session) == (7, 1, 7, 1)
    assert (worker.threads, worker.command_name, worker.state) == ([7], "worker", "stopped")


@pytest.mark.parametrize(
    ("number", "name"), [(1, "alive"), (2, "dead"), (3, "stopped"), (6, "zombie"), (9, "unknown (9)")]
)
def test_states(tmp_path: Path, number: int, name: str) -> None:
    write_image_set(tmp_path)
    (tmp_path / "core-7.img").write_bytes(core("worker", number))
    assert read_processes(tmp_path)[1].state == name


def test_a_tree_without_processes(tmp_path: Path) -> None:
    write_image_set(tmp_path)
    (tmp_path / "pstree.img").write_bytes(image(PROCESS_TREE))
    with pytest.raises(BadImageSet, match=r"pstree.img is damaged at byte 8: it names no process"):
        read_processes(tmp_path)


def test_a_process_without_its_image(tmp_path: Path) -> None:
    write_image_set(tmp_path)
    (tmp_path / "core-7.img").unlink()
    with pytest.raises(BadImageSet, match=r"is incomplete: it has no core-7.img"):
        read_processes(tmp_path)


def test_a_thread_in_the_place_of_a_process(tmp_path: Path) -> None:
    write_image_set(tmp_path)
    (tmp_path / "core-7.img").write_bytes(image(CORE, [(1, 1)]))
    with pytest.raises(BadImageSet, match=r"core-7.img is damaged at byte 12: .* no field 3 \(tc\): it is of a thread"):
        read_processes(tmp_path)
