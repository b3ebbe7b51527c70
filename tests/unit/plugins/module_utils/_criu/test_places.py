# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.places import Places, inside

MOUNTS = [
    {"mount_id": 603, "mountpoint": "/"},
    {"mount_id": 604, "mountpoint": "/data"},
    {"mount_id": 605, "mountpoint": "/tmp"},
    {"mount_id": 606, "mountpoint": "/tmp"},
    {"mount_id": 607, "mountpoint": "/with space"},
]
AT_DUMP = Places(MOUNTS, [{"mountpoint": "/data", "key": "d"}])
AT_RESTORE = Places(MOUNTS, [{"mountpoint": "/data", "key": "d", "path": "/srv/data"}], "/srv/root")
NOTHING = Places()


@pytest.mark.parametrize(
    ("places", "mount_id", "mountpoint", "words"),
    [
        (AT_DUMP, 604, None, "mount /data (key d, ID 604)"),
        (AT_DUMP, 604, "./data", "mount /data (key d, ID 604)"),
        (AT_DUMP, None, "./data", "mount /data (key d, ID 604)"),
        (AT_RESTORE, 604, None, "mount /data (key d, path /srv/data, ID 604)"),
        (AT_DUMP, 605, None, "mount /tmp (ID 605)"),
        (AT_DUMP, None, "/tmp", "mount /tmp (ID 606)"),
        (AT_DUMP, None, "/other", "mount /other"),
        (AT_DUMP, 9, None, "mount ID 9, which is none of the workload's"),
        (AT_DUMP, 9, "./other", "mount /other (ID 9)"),
        (NOTHING, 9, None, "mount ID 9"),
        (NOTHING, None, ".", "mount /"),
        (NOTHING, None, "/tmp/.criu.mntns.PdsvIy/mnt-0000000147/for/x", "/for/x in mount ID 147"),
        (NOTHING, None, "/tmp/.criu.mntns.PdsvIy/mnt-0000000147", "mount ID 147"),
        (
            AT_DUMP,
            None,
            "/tmp/.criu.mntns.PdsvIy/mnt-0000000147/for/x",
            "/for/x in mount ID 147, which is none of the workload's",
        ),
    ],
)
def test_a_mount_is_told_with_its_mountpoint_and_key(
    places: Places, mount_id: int | None, mountpoint: str | None, words: str
) -> None:
    assert places.mount(mount_id, mountpoint) == words


@pytest.mark.parametrize(
    ("places", "path", "words"),
    [
        (AT_RESTORE, "data/x", "file /data/x (/srv/data/x on this host)"),
        (AT_RESTORE, "/data", "file /data (/srv/data/ on this host)"),
        (AT_RESTORE, "usr/bin/x", "file /usr/bin/x (/srv/root/usr/bin/x on this host)"),
        (AT_RESTORE, "database", "file /database (/srv/root/database on this host)"),
        (AT_RESTORE, "tmp/x", "file /tmp/x"),
        (AT_DUMP, "/data/x", "file /data/x"),
        (NOTHING, "data/x", "file /data/x"),
        (Places([{"mount_id": 1, "mountpoint": "/"}], (), "/"), "/x", "file /x"),
    ],
)
def test_a_file_is_told_with_its_path_on_this_host(places: Places, path: str, words: str) -> None:
    assert places.file(path) == words


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/srv/data", "path /srv/data (key d, mount /data)"),
        ("/srv/data/below", "path /srv/data/below (key d, mount /data)"),
        ("/srv/database", "path /srv/database"),
    ],
)
def test_a_path_on_this_host_is_told_with_its_key(path: str, words: str) -> None:
    assert AT_RESTORE.host_path(path) == words
    assert AT_DUMP.host_path(path) == NOTHING.host_path(path) == f"path {path}"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("stat /tmp/.criu.mntns.PdsvIy/mnt-0000000603/data: No", "stat /data: No"),
        ("to /tmp/.criu.mntns.PdsvIy/mnt-0000000604: Invalid", "to /data: Invalid"),
        ("stat /tmp/.criu.mntns.PdsvIy/mnt-0000000604/a/b: No", "stat /data/a/b: No"),
        ("at /tmp/.criu.mntns.PdsvIy/mnt-0000000603 (id=603)", "at / (id=603)"),
        ("at /tmp/.criu.mntns.PdsvIy/9-0000000000/data: No", "at /data: No"),
        ("at /tmp/.criu.mntns.PdsvIy/9-0000000000: No", "at /: No"),
        ("at /tmp/.criu.mntns.PdsvIy/mnt-0000000999/x: No", "at /tmp/.criu.mntns.PdsvIy/mnt-0000000999/x: No"),
        ("the directory /tmp/.criu.mntns.PdsvIy: busy", "the directory /tmp/.criu.mntns.PdsvIy: busy"),
    ],
)
def test_paths_in_criu_s_temporary_folders_are_those_that_the_workload_sees(text: str, seen: str) -> None:
    assert AT_DUMP.out_of_workshop(text) == seen


@pytest.mark.parametrize(
    ("path", "absolute"),
    [("./data", "/data"), (".", "/"), ("usr/x", "/usr/x"), ("/x", "/x"), ("./", "/"), (".hidden", "/.hidden")],
)
def test_paths_of_the_workload_are_made_absolute(path: str, absolute: str) -> None:
    assert inside(path) == absolute
