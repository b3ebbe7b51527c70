# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import parse
from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import (
    EXTERNAL,
    INTERNAL,
    ROOT,
    Verdict,
    classify,
    root_mount,
)

HOST = """\
21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 0:20 / /proc rw - proc proc rw
23 21 0:21 / /run rw - tmpfs tmpfs rw
24 21 0:60 / /var/lib/merged rw - overlay overlay rw
25 21 0:6 / /dev rw - devtmpfs udev rw
"""
ROOT_LINE = "100 90 8:1 /srv/box / rw - ext4 /dev/sda1 rw"


def verdict(line: str, root: str = ROOT_LINE) -> Verdict:
    return classify(parse(f"{root}\n{line}"), parse(HOST))[1]


def test_the_root_is_the_mount_at_slash() -> None:
    assert [found.kind for found in classify(parse(ROOT_LINE), parse(HOST))] == [ROOT]


def test_of_mounts_stacked_at_slash_the_last_one_is_the_root() -> None:
    rows = parse(f"99 90 0:2 / / rw - rootfs none rw\n{ROOT_LINE}")
    assert root_mount(rows) is rows[1]
    assert [found.kind for found in classify(rows, [])] == [EXTERNAL, ROOT]


def test_without_a_mount_at_slash_there_is_no_root() -> None:
    rows = parse("101 100 8:1 / /data rw - ext4 a rw")
    assert root_mount(rows) is None
    assert classify(rows, [])[0].kind == EXTERNAL


@pytest.mark.parametrize(
    ("line", "kind", "reason"),
    [
        # binds
        ("101 100 8:1 /srv/box/a /b rw - ext4 /dev/sda1 rw", INTERNAL, "inside the workload's root"),
        ("101 100 8:1 /srv/box /b rw - ext4 /dev/sda1 rw", INTERNAL, "inside the workload's root"),
        ("101 100 8:1 /srv/box2/a /b rw - ext4 /dev/sda1 rw", EXTERNAL, "/srv/box2/a lies outside"),
        ("101 100 8:1 /srv /b rw - ext4 /dev/sda1 rw", EXTERNAL, "lies outside"),
        ("101 100 8:1 /other /b rw - ext4 /dev/sda1 rw", EXTERNAL, "on superblock 8:1"),
        ("101 100 8:2 /srv/box/a /b rw - ext4 /dev/sdb1 rw", EXTERNAL, "on superblock 8:2"),
        # whole file systems
        ("101 100 8:2 / /b rw - ext4 /dev/sdb1 rw", EXTERNAL, "cannot recreate a whole ext4"),
        ("101 100 0:50 / /b rw - nfs4 nas:/b rw", EXTERNAL, "cannot recreate a whole nfs4"),
        ("101 100 0:51 / /b rw - fuse.sshfs a:/b rw", EXTERNAL, "cannot recreate a whole fuse.sshfs"),
        # the workload's own and the host's
        ("101 100 0:52 / /tmp rw - tmpfs tmpfs rw", INTERNAL, "of the workload's own"),
        ("101 100 0:21 / /run rw - tmpfs tmpfs rw", EXTERNAL, "private copy"),
        ("101 100 0:61 / /m rw - overlay overlay rw", INTERNAL, "of the workload's own"),
        ("101 100 0:60 / /m rw - overlay overlay rw", EXTERNAL, "private copy"),
        ("101 100 0:62 / /m rw - autofs systemd-1 rw", INTERNAL, "of the workload's own"),
        ("101 100 0:21 /lock /run/lock rw - tmpfs tmpfs rw", EXTERNAL, "/lock lies outside"),
        # the kernel's, whoever has them mounted
        ("101 100 0:20 / /proc rw - proc proc rw", INTERNAL, "CRIU mounts proc anew"),
        ("101 100 0:53 / /proc rw - proc proc rw", INTERNAL, "CRIU mounts proc anew"),
        ("101 100 0:54 / /sys rw - sysfs sysfs rw", INTERNAL, "CRIU mounts sysfs anew"),
        ("101 100 0:6 / /dev rw - devtmpfs udev rw", INTERNAL, "CRIU mounts devtmpfs anew"),
        ("101 100 0:6 /null /dev/null rw - devtmpfs udev rw", EXTERNAL, "/null lies outside"),
        ("101 100 0:20 /sys /proc/sys ro - proc proc rw", EXTERNAL, "/sys lies outside"),
    ],
)
def test_a_mount_is_judged_as_criu_does_with_the_reason(line: str, kind: str, reason: str) -> None:
    found = verdict(line)
    assert found.kind == kind
    assert reason in found.reason


@pytest.mark.parametrize(
    "fstype", ["binfmt_misc", "devpts", "pstore", "mqueue", "securityfs", "fusectl", "debugfs", "cgroup", "cgroup2"]
)
def test_file_systems_of_the_kernel_are_mounted_anew(fstype: str) -> None:
    assert verdict(f"101 100 0:20 / /k rw - {fstype} none rw").kind == INTERNAL


def test_a_root_that_is_a_whole_file_system_holds_all_binds_of_it() -> None:
    root = "100 90 0:61 / / rw - overlay overlay rw"
    assert verdict("101 100 0:61 /etc /e rw - overlay overlay rw", root).kind == INTERNAL
    assert verdict("101 100 8:1 /etc /e rw - ext4 a rw", root).kind == EXTERNAL


@pytest.mark.xfail(reason="binds of the workload's own tmpfs or proc are judged external")
@pytest.mark.parametrize(
    ("whole", "bind"),
    [
        ("101 100 0:52 / /run rw - tmpfs tmpfs rw", "102 100 0:52 /lock /var/lock rw - tmpfs tmpfs rw"),
        ("101 100 0:53 / /proc rw - proc proc rw", "102 101 0:53 /sys /proc/sys ro - proc proc rw"),
    ],
)
def test_a_bind_from_an_internal_mount_of_the_whole_file_system_is_internal(whole: str, bind: str) -> None:
    rows = parse(f"{ROOT_LINE}\n{whole}\n{bind}")
    assert [found.kind for found in classify(rows, parse(HOST))] == [ROOT, INTERNAL, INTERNAL]
