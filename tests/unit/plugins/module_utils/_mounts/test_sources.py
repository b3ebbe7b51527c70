# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import join, relative
from ansible_collections.fleet.criu.plugins.module_utils._mounts.sources import HostMounts, HostPath, prefer
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import MountRow, parse

HOST = """\
21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 8:2 / /srv rw - ext4 /dev/sdb1 rw
23 22 8:2 /data /srv/alias rw - ext4 /dev/sdb1 rw
24 21 0:21 / /run rw - tmpfs tmpfs rw
"""


def mount(line: str) -> MountRow:
    return parse(line)[0]


def paths(host: str, line: str) -> list[tuple[str, bool]]:
    return [(found.path, found.hidden) for found in HostMounts(parse(host)).candidates(mount(line))]


def id_at(host: str, path: str) -> int | None:
    found = HostMounts(parse(host)).mount_at(path)
    return found.mount_id if found else None


def test_a_root_is_seen_below_every_mount_of_its_superblock_with_a_parent_root_binds_last() -> None:
    assert paths(HOST, "9 1 8:2 /data/db /var/db rw - ext4 a rw") == [("/srv/data/db", False), ("/srv/alias/db", False)]


def test_an_equal_root_is_the_mountpoint_itself() -> None:
    assert paths(HOST, "9 1 8:2 /data /d rw - ext4 a rw") == [("/srv/data", False), ("/srv/alias", False)]
    assert paths(HOST, "9 1 0:21 / /run rw - tmpfs a rw") == [("/run", False)]
    assert paths(HOST, "9 1 8:1 / /host rw - ext4 a rw") == [("/", False)]


def test_a_root_above_a_host_mount_s_root_or_beside_it_is_not_seen_there() -> None:
    host = "21 1 8:1 / / rw - ext4 a rw\n22 21 8:2 /data /srv rw - ext4 a rw"
    assert paths(host, "9 1 8:2 / /d rw - ext4 a rw") == []
    assert paths(host, "9 1 8:2 /database /d rw - ext4 a rw") == []


def test_another_superblock_is_no_candidate() -> None:
    assert paths(HOST, "9 1 0:99 / /d rw - tmpfs a rw") == []
    assert paths(HOST, "9 1 82:1 / /d rw - ext4 a rw") == []


def test_of_equal_roots_the_shorter_path_is_first() -> None:
    host = (
        "21 1 8:1 / / rw - ext4 a rw\n22 21 8:2 / /long/way rw - ext4 a rw\n"
        "23 21 8:2 / /mnt rw - ext4 a rw\n24 21 8:2 / /srv/x rw - ext4 a rw"
    )
    assert [path for path, _hidden in paths(host, "9 1 8:2 /d /d rw - ext4 a rw")] == [
        "/mnt/d",
        "/srv/x/d",
        "/long/way/d",
    ]


@pytest.mark.parametrize(
    ("host", "root", "expected"),
    [
        # A bind of the folder itself, of one in it, of one above it, wherever.
        ("22 21 8:1 /srv/data /opt/export rw - ext4 a rw", "/srv/data", ["/srv/data", "/opt/export"]),
        ("22 21 8:1 /srv/data /x rw - ext4 a rw", "/srv/data/db", ["/srv/data/db", "/x/db"]),
        ("22 21 8:1 /srv /x rw - ext4 a rw", "/srv/data", ["/srv/data", "/x/data"]),
        ("22 21 8:1 / /x rw shared:1 - ext4 a rw", "/srv", ["/srv", "/x/srv"]),
        # A folder that is bound onto itself, and elsewhere.
        (
            "22 21 8:1 /srv/data /x rw - ext4 a rw\n23 21 8:1 /srv/data /srv/data rw - ext4 a rw",
            "/srv/data/db",
            ["/srv/data/db", "/x/db", "/srv/data/db"],
        ),
        # If the plain path is covered, the next best one counts: of binds that of the outermost folder.
        (
            (
                "22 21 0:9 / /srv/data rw - tmpfs a rw\n23 21 8:1 /srv/data /x rw - ext4 a rw\n"
                "24 21 8:1 /srv /opt/export rw - ext4 a rw"
            ),
            "/srv/data",
            ["/opt/export/data", "/x", "/srv/data"],
        ),
    ],
)
def test_a_bind_is_no_better_than_the_folder_itself(host: str, root: str, expected: list[str]) -> None:
    # The root of the host is a folder of a larger file system, too, if it is a container.
    for above in ("", "/machines/one"):
        rows = [mount(line) for line in f"21 1 8:1 / / rw shared:1 - ext4 a rw\n{host}".splitlines()]
        rows = [row._replace(root=join(above, relative(row.root, "/")) or "/") for row in rows]
        row = mount("9 1 8:1 / /d rw - ext4 a rw")._replace(root=above + root)
        assert [found.path for found in HostMounts(rows).candidates(row)] == expected


def test_a_bind_of_a_whole_file_system_is_told_by_its_peer_group() -> None:
    disk = "21 1 8:1 / / rw - ext4 a rw\n22 21 8:2 / /srv/long/way rw shared:7 - ext4 a rw\n"
    row = "9 1 8:2 /d /d rw - ext4 a rw"
    assert paths(f"{disk}23 21 8:2 / /x rw shared:7 - ext4 a rw", row) == [("/srv/long/way/d", False), ("/x/d", False)]
    assert paths(f"{disk}23 21 8:2 / /x rw shared:8 - ext4 a rw", row) == [("/x/d", False), ("/srv/long/way/d", False)]


def test_a_subvolume_that_is_mounted_is_nearer_than_the_whole_file_system() -> None:
    host = (
        "21 1 0:30 /@ / rw - btrfs /dev/sda rw,subvolid=256,subvol=/@\n"
        "22 21 0:30 / /b rw - btrfs /dev/sda rw,subvolid=5,subvol=/\n"
        "23 21 0:30 /@data/one /x rw - btrfs /dev/sda rw,subvolid=257,subvol=/@data\n"
        "24 21 0:30 /@data /mnt/data rw - btrfs /dev/sda rw,subvolid=257,subvol=/@data"
    )
    row = "9 1 0:30 /@data/one /d rw - btrfs /dev/sda rw"
    assert [path for path, _hidden in paths(host, row)] == ["/mnt/data/one", "/b/@data/one", "/x"]


def test_the_folders_of_an_ostree_deployment_are_at_their_ordinary_places() -> None:
    host = (
        "21 1 8:1 /ostree/deploy/os/deploy/1.0 / rw - xfs a rw\n22 21 8:1 / /sysroot ro - xfs a rw\n"
        "23 21 8:1 /ostree/deploy/os/var /var rw - xfs a rw"
    )
    row = "9 1 8:1 /ostree/deploy/os/var/lib/data /d rw - xfs a rw"
    assert [path for path, _hidden in paths(host, row)] == ["/var/lib/data", "/sysroot/ostree/deploy/os/var/lib/data"]


def test_a_path_under_a_later_mount_is_hidden_and_comes_last() -> None:
    host = HOST + "25 23 0:30 / /srv/alias/db rw - tmpfs tmpfs rw\n"
    found = HostMounts(parse(host)).candidates(mount("9 1 8:2 /data/db /var/db rw - ext4 a rw"))
    assert [(path.path, path.hidden, path.mount_id) for path in found] == [
        ("/srv/data/db", False, 22),
        ("/srv/alias/db", True, 23),
    ]
    assert found[1].reason.endswith("but another mount covers it")
    assert "8:2 is mounted at /srv with root /" in found[0].reason
    assert "covers" not in found[0].reason


def test_a_mount_stacked_on_another_hides_it() -> None:
    host = HOST + "25 22 8:3 / /srv rw - xfs a rw\n"
    assert paths(host, "9 1 8:2 /data /d rw - ext4 a rw") == [("/srv/data", True), ("/srv/alias", True)]
    assert paths(host, "9 1 8:3 /data /d rw - xfs a rw") == [("/srv/data", False)]


@pytest.mark.parametrize(
    ("path", "mount_id"),
    [
        ("/", 21),
        ("/etc", 21),
        ("/srv", 22),
        ("/srv/data", 22),
        ("/srvdata", 21),
        ("/srv/alias", 23),
        ("/srv/alias/a/b", 23),
        ("/srv/alias2", 22),
    ],
)
def test_a_path_leads_to_the_innermost_mount(path: str, mount_id: int) -> None:
    assert id_at(HOST, path) == mount_id


def test_of_stacked_mounts_a_path_leads_to_the_topmost() -> None:
    assert id_at(HOST + "25 22 8:3 / /srv rw - xfs a rw\n26 25 8:4 / /srv rw - xfs a rw\n", "/srv/x") == 26


def test_a_mount_over_a_parent_folder_cuts_off_those_below() -> None:
    # 27 was mounted at / of 21 later than 22: the way to /srv goes no further than through 27.
    assert id_at(HOST + "27 21 8:5 / / rw - ext4 a rw\n", "/srv/alias") == 27


def test_ids_that_refer_to_each_other_in_a_loop_do_not_hang() -> None:
    loop = "21 1 8:1 / / rw - ext4 a rw\n22 23 8:1 / /a rw - ext4 a rw\n23 22 8:1 / /a rw - ext4 a rw"
    assert id_at(loop, "/a") == 21
    assert id_at("22 23 8:1 / /a rw - ext4 a rw\n23 22 8:1 / /a rw - ext4 a rw", "/a") is None


def test_equal_ids_in_a_tampered_table_do_not_hang() -> None:
    assert id_at("21 21 8:1 / / rw - ext4 a rw", "/") == 21
    twice = "21 1 8:1 / / rw - ext4 a rw\n22 21 8:1 / /a rw - ext4 a rw\n21 22 8:1 / /a rw - ext4 a rw"
    assert id_at(twice, "/a") in (21, 22)


def test_an_empty_table_leads_nowhere() -> None:
    assert id_at("", "/") is None
    assert paths("", "9 1 8:2 / /d rw - ext4 a rw") == []


def test_a_candidate_in_plain_types_is_printable() -> None:
    found = HostMounts(parse("21 1 8:1 / / rw - ext4 a rw")).candidates(mount("9 1 8:1 /\udcff /d rw - ext4 a rw"))
    assert found[0].path == "/\udcff"
    assert found[0].as_dict() == {
        "path": r"/\xff",
        "mount_id": 21,
        "hidden": False,
        "reason": "superblock 8:1 is mounted at / with root /",
    }


def test_the_very_same_file_is_preferred_but_never_a_hidden_path() -> None:
    one, two, hidden = (HostPath(path, 1, path == "/hidden", "") for path in ("/one", "/two", "/hidden"))
    assert prefer([one, two, hidden], lambda path: path in ("/two", "/hidden")) == [two, one, hidden]
    assert prefer([one, two], lambda path: False) == [one, two]
