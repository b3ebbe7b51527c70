# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes in an image set: `pstree.img`, with the name and the state of each from its `core-PID.img`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.fleet.criu.plugins.module_utils._criu.image_file import (
    CORE,
    PROCESS_TREE,
    read_record,
    read_records,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_wire import Message, damaged

# The numbers that CRIU itself writes. crit 4.1 calls 3 a zombie and 6 stopped.
_STATES = {1: "alive", 2: "dead", 3: "stopped", 6: "zombie"}


@dataclass(frozen=True)
class ImageProcess:
    """One process. All ids are those inside the workload's pid namespace; the parent of its init is 0.

    CRIU writes "dead" for a process that its parent has not waited for yet; the id of its one thread is then garbage
    (seen with 4.1.1).
    """

    pid: int
    parent_pid: int
    process_group: int
    session: int
    threads: list[int]
    command_name: str
    state: str

    def as_dict(self) -> dict[str, Any]:
        """The process in plain JSON types, with the number of its threads."""
        return {**asdict(self), "thread_count": len(self.threads)}


def read_processes(images: Path) -> list[ImageProcess]:
    """All processes, parents first, as the image has them. Raises BadImageSet."""
    path = images / "pstree.img"
    records = read_records(path, PROCESS_TREE)
    if not records:
        raise damaged(path, path.lstat().st_size, "it names no process")
    seen: set[int] = set()
    for record in records:
        pid = record.number(1, "pid")
        if pid in seen:  # else each of many rows could have the same large file read
            raise damaged(path, record.offset, f"it names process {pid} twice")
        seen.add(pid)
    return [_process(images, record) for record in records]


def _process(images: Path, record: Message) -> ImageProcess:
    pid = record.number(1, "pid")
    task = _task(images / f"core-{pid}.img")
    state = task.number(1, "task_state")
    return ImageProcess(
        pid=pid,
        parent_pid=record.number(2, "ppid"),
        process_group=record.number(3, "pgid"),
        session=record.number(4, "sid"),
        threads=record.numbers(5, "threads"),
        command_name=task.text(6, "comm"),
        state=_STATES.get(state, f"unknown ({state})"),
    )


def _task(path: Path) -> Message:
    record = read_record(path, CORE)
    task = record.message(3, "tc")
    if task is None:
        raise damaged(path, record.offset, "the record has no field 3 (tc): it is of a thread, not of a process")
    return task
