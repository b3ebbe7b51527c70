# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

from ansible_collections.fleet.criu.plugins.module_utils._preflight.mapped import (
    file_identity,
    files_here,
    mapped_files,
)
from ansible_collections.fleet.criu.tests.unit.fakes import FakeProc

MOUNTS = """\
100 90 8:1 /srv/box / rw - ext4 /dev/sda1 rw
101 100 8:1 /srv/data /data rw - ext4 /dev/sda1 rw
102 100 0:9 / /tmp rw - tmpfs tmpfs rw
103 100 0:8 / /sys rw - sysfs sysfs rw
"""
MAPS = """\
55d0-55d1 r-xp 00000000 08:01 11 {head}/bin/redis
55d1-55d2 rw-p 00001000 08:01 11 {head}/bin/redis
55d2-55d3 rw-p 00000000 00:00 0 [heap]
7f00-7f01 r--p 00000000 08:01 12 /data/with blank
7f01-7f02 r--p 00000000 08:01 13 /data/gone (deleted)
7f02-7f03 r--p 00000000 08:01 14 /data/none
7f03-7f04 rw-s 00000000 00:0e 15 /tmp/shared
7f04-7f05 rw-s 00000000 00:01 16 /dev/zero (deleted)
7f05-7f06 rw-s 00000000 00:08 17 /sys/resource0
7f05-7f06 rw-p 00000000 00:00 0
"""


def scene(tmp_path: Path) -> FakeProc:
    box = tmp_path / "box"
    for name in ("bin/redis", "data/with blank", "tmp/shared", "sys/resource0"):
        (box / name).parent.mkdir(parents=True)
        (box / name).write_text(name)
    proc = FakeProc(tmp_path / "proc")
    for pid in (42, 43):
        proc.add(pid, mounts=MOUNTS, root=box)
        (proc.folder / str(pid) / "maps").write_text(MAPS.format(head=""))
    proc.add(44, mounts=MOUNTS, root=box)
    return proc


def test_each_file_that_is_not_the_kernel_s_is_there_once_with_its_mount(tmp_path: Path) -> None:
    assert mapped_files(scene(tmp_path), 42, [42, 43, 44]) == [
        {"path": "/bin/redis", "mountpoint": "/", "size": 9, "build_id": None},
        {"path": "/data/with blank", "mountpoint": "/data", "size": 15, "build_id": None},
        {"path": "/tmp/shared", "mountpoint": "/tmp", "size": 10, "build_id": None},
    ]


def test_the_same_files_are_looked_up_here(tmp_path: Path) -> None:
    files = mapped_files(scene(tmp_path), 42, [42])
    here = tmp_path / "here"
    (here / "bin").mkdir(parents=True)
    (here / "bin/redis").write_text("1")
    assert files_here(files, {"/": str(here), "/data": "/nowhere"}) == [
        {"path": "/bin/redis", "host_path": f"{here}/bin/redis", "found": {"size": 1, "build_id": None}},
        {"path": "/data/with blank", "host_path": "/nowhere/with blank", "found": None},
    ]


def test_only_regular_files_have_an_identity(tmp_path: Path) -> None:
    assert file_identity(str(tmp_path)) is None
    assert file_identity("/dev/null") is None
