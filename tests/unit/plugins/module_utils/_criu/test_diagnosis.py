# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.diagnosis import Diagnosis, diagnose
from ansible_collections.fleet.criu.plugins.module_utils._criu.log_lines import ErrorLine
from ansible_collections.fleet.criu.plugins.module_utils._criu.places import Places

PLACES = Places(
    [{"mount_id": 603, "mountpoint": "/"}, {"mount_id": 604, "mountpoint": "/data"}],
    [{"mountpoint": "/data", "key": "d", "path": "/srv/data"}],
    "/srv/root",
)


def of(*lines: str | ErrorLine, exit_status: int = 1) -> list[Diagnosis]:
    errors = [line if isinstance(line, ErrorLine) else ErrorLine(line) for line in lines]
    return diagnose(errors, PLACES, exit_status)


def codes(*lines: str | ErrorLine) -> list[str]:
    return [diagnosis.code for diagnosis in of(*lines)]


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        (["mnt: 604:./data doesn't have a proper root mount"], "mount /data (key d, path /srv/data, ID 604)"),
        (["mnt: No mapping for 604:(null) mountpoint"], "mount /data (key d, path /srv/data, ID 604)"),
        (["mnt-v2: Failed to open_tree /srv/data: No such file or directory"], "path /srv/data (key d, mount /data)"),
        (
            [
                "mnt-v2: Failed to move_mount from /srv/data to /tmp/.criu.mntns.MK/mnt-0000000604: Invalid argument",
                "mnt: Can't remove the directory /tmp/.criu.mntns.MK: Device or resource busy",
            ],
            "mount /data (key d, path /srv/data, ID 604), path /srv/data (key d, mount /data)",
        ),
        (
            ["mnt-v2: Can't stat mountpoint /tmp/.criu.mntns.MK/mnt-0000000603/data: No such file or directory"],
            "mount /data (key d, path /srv/data, ID 604)",
        ),
        (
            ["Can't lookup mount=571 for fd=50 path=/srv/x", "Dump files (pid: 236) failed with -1"],
            (
                "file /srv/x (/srv/root/srv/x on this host), mount ID 571, which is none of the workload's, "
                "descriptor 50 of process 236"
            ),
        ),
        (["A session leader of 202(1) is outside of its pid namespace"], "process 202 (1 in the workload)"),
        (["Timeout reached. Try to interrupt: 0"], ""),
        (["cg: Cgroup dir cpu/x doesn't exist"], "cpu/x"),
        (["mnt: The root task has another root than mntns: /srv/roots/a"], "root /srv/roots/a"),
        (
            ["Can't dump file 5 of that type [20666] (chr 10:232 /dev/kvm)", "Dump files (pid: 7) failed with -1"],
            "chr 10:232 /dev/kvm, descriptor 5 of process 7",
        ),
        (["Can't dump file 5 of that type [20666] (chr 10:232 /dev/kvm)"], "chr 10:232 /dev/kvm, descriptor 5"),
    ],
)
def test_the_place_is_told(lines: list[str], where: str) -> None:
    assert of(*lines)[0].where == where


def test_at_restore_the_process_is_the_one_that_the_line_begins_with() -> None:
    line = ErrorLine("File usr/bin/x has bad size 2 (expect 1)", 7)
    (diagnosis,) = of(line, ErrorLine("`- Can't open vma", 7))
    assert diagnosis.where == "file /usr/bin/x (/srv/root/usr/bin/x on this host), process 7 of the workload"


def test_the_process_of_another_cause_is_not_taken() -> None:
    first, second = of(
        "Can't dump file 5 of that type [1] (chr 1:1 a)",
        "Can't dump file 6 of that type [1] (chr 1:2 b)",
        "Dump files (pid: 8) failed with -1",
    )
    assert first.where == "chr 1:1 a, descriptor 5"
    assert second.where == "chr 1:2 b, descriptor 6 of process 8"


def test_what_follows_from_a_cause_is_not_diagnosed() -> None:
    lines = ["Locking network failed", "exited, status=1", "Dump files (pid: 7) failed with -1", "gremlins"]
    assert codes(*lines) == ["network_lock"]


def test_the_first_cause_comes_first() -> None:
    assert codes("Timeout reached", "Locking network failed") == ["timeout", "network_lock"]
    assert codes("Locking network failed", "gremlins", "Timeout reached") == ["network_lock", "timeout"]


def test_what_tells_little_by_itself_comes_last() -> None:
    assert codes("Can't make x: No space left on device", "Locking network failed") == ["network_lock", "no_space"]
    assert codes("gremlins", "Can't make x: No space left on device") == ["no_space"]


def test_one_failure_told_at_several_levels_is_one_diagnosis() -> None:
    twice = of(
        ErrorLine("Can't open file data/x on restore: No such file or directory", 1),
        ErrorLine("Can't open file data/x: No such file or directory", 1),
    )
    assert [(diagnosis.code, diagnosis.what) for diagnosis in twice] == [
        ("file_missing", "Can't open file data/x on restore: No such file or directory")
    ]


def test_of_one_failure_told_twice_the_better_place_is_kept_with_the_first_words() -> None:
    (diagnosis,) = of("Can't dump tmpfs content", "mnt: Unable to dump a file system for 604:./data")
    assert diagnosis.what == "Can't dump tmpfs content"
    assert diagnosis.where.startswith("mount /data")


def test_one_cause_at_two_places_is_two_diagnoses() -> None:
    found = of("File a has bad build-ID", "File b has bad build-ID")
    assert [diagnosis.where.split(" (")[0] for diagnosis in found] == ["file /a", "file /b"]


def test_an_unknown_error_is_told_with_the_lines_before() -> None:
    (diagnosis,) = of("Dump files (pid: 7) failed with -1", ErrorLine("gremlins", 3, ("one", "two")), "more")
    assert (diagnosis.code, diagnosis.what, diagnosis.remedy) == ("unknown", "gremlins", "")
    assert diagnosis.where == "process 3 of the workload"
    assert diagnosis.why.endswith("the lines just before it: one | two")
    assert not of("gremlins")[0].why.endswith(": ")


@pytest.mark.parametrize(
    ("status", "code", "what"),
    [
        (-11, "crashed", "ended by SIGSEGV"),
        (139, "crashed", "ended by SIGSEGV"),
        (-9, "crashed", "ended by SIGKILL"),
        (-99, "crashed", "ended by signal 99"),
        (1, "silent", "exit status 1"),
    ],
)
@pytest.mark.parametrize("lines", [(), ("Dumping FAILED.",)])
def test_an_end_without_words(lines: tuple[str, ...], status: int, code: str, what: str) -> None:
    (diagnosis,) = of(*lines, exit_status=status)
    assert (diagnosis.code, diagnosis.what) == (code, what)


def test_the_sentence_begins_with_the_place_if_there_is_one() -> None:
    assert Diagnosis("c", "", "mount /x", "it is so", "").sentence == "Mount /x: it is so."
    assert Diagnosis("c", "", "", "it is so", "").sentence == "It is so."
