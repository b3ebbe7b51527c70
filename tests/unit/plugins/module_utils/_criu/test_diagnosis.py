# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.diagnosis import MOST_ERRORS, Diagnosis, diagnose
from ansible_collections.fleet.criu.plugins.module_utils._criu.log_lines import ErrorLine, first_and_last
from ansible_collections.fleet.criu.plugins.module_utils._criu.messages import MESSAGES, find
from ansible_collections.fleet.criu.plugins.module_utils._criu.places import Places

GENERAL_LINES = {
    "timeout": "Timeout reached. Try to interrupt: 0",
    "no_space": "Can't make x: No space left on device",
    "no_memory": "Can't make x: Cannot allocate memory",
    "too_many_files": "Can't make x: Too many open files",
    "process_crashed": "77 killed by signal 11: Segmentation fault",
    "process_killed": "77 killed by signal 9: Killed",
    "script_failed": "Script /x exited with 1",
    "read_only": "Can't make x: Read-only file system",
    "access_denied": "Can't make x: Permission denied",
    "in_use": "Can't make x: File exists",
    "not_permitted": "Can't make x: Operation not permitted",
}

PLACES = Places(
    [{"mount_id": 603, "mountpoint": "/"}, {"mount_id": 604, "mountpoint": "/data"}],
    [{"mountpoint": "/data", "key": "d", "path": "/srv/data"}],
    "/srv/root",
)


def of(*lines: str | ErrorLine, exit_status: int = 1) -> list[Diagnosis]:
    errors = [line if isinstance(line, ErrorLine) else ErrorLine(line) for line in lines]
    return diagnose(errors, PLACES, exit_status)


def find_code(line: str) -> str:
    match = find(line)
    assert match is not None
    return match.message.code


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
    assert codes("A root task is dead", "Locking network failed") == ["root_process_ended", "network_lock"]
    assert codes("Locking network failed", "gremlins", "A root task is dead") == ["network_lock", "root_process_ended"]


def test_what_tells_little_by_itself_comes_last() -> None:
    assert codes("Can't make x: No space left on device", "Locking network failed") == ["network_lock", "no_space"]
    assert codes("Timeout reached", "Locking network failed") == ["network_lock", "timeout"]
    assert codes("Can't make x: No space left on device") == ["no_space"]


@pytest.mark.parametrize("general", GENERAL_LINES.values(), ids=GENERAL_LINES)
def test_a_general_row_never_speaks_over_criu_s_own_words(general: str) -> None:
    code = find_code(general)
    for lines in (["net: The gremlin refused", general], [general, "net: The gremlin refused"]):
        first, second = of(*lines)
        assert (first.code, first.what) == ("unknown", "net: The gremlin refused")
        assert "net: The gremlin refused" in first.sentence
        assert second.code == code
        assert first.remedy == second.remedy
    (alone,) = of(general)
    assert alone.code == code
    assert general in alone.sentence


def test_each_general_row_has_a_line_here() -> None:
    assert {message.code for message in MESSAGES if message.general} == set(GENERAL_LINES)


def test_words_that_speak_for_themselves_are_the_cause_with_their_place_and_nothing_is_made_up() -> None:
    (diagnosis,) = of("mnt: The mount 604 has readonly sb")
    assert (diagnosis.code, diagnosis.what) == ("own_words", "mnt: The mount 604 has readonly sb")
    assert diagnosis.where == "mount /data (key d, path /srv/data, ID 604)"
    assert (diagnosis.why, diagnosis.remedy) == (diagnosis.what, "")


@pytest.mark.parametrize("error", ["Operation not permitted", "Permission denied", "File exists"])
def test_words_that_speak_for_themselves_go_before_a_vague_error_of_the_kernel(error: str) -> None:
    (diagnosis,) = of(f"Can't attach to init: {error}")
    assert (diagnosis.code, diagnosis.why) == ("own_words", f"Can't attach to init: {error}")


def test_an_error_of_the_kernel_that_leaves_no_doubt_goes_before_words_that_speak_for_themselves() -> None:
    assert codes("Can't write img file: No space left on device") == ["no_space"]
    assert codes("Can't write img file: Input/output error") == ["own_words"]


def test_what_the_table_explains_goes_before_words_that_speak_for_themselves() -> None:
    assert codes("Can't attach to init: No such process", "Locking network failed") == ["network_lock"]


@pytest.mark.parametrize("text", ["gremlin {}", "File {} has bad build-ID", "Can't make {}: Operation not permitted"])
def test_very_many_lines_take_no_more_time_and_the_first_and_last_are_read(text: str) -> None:
    many = [text.format(number) for number in range(50 * MOST_ERRORS)]
    found = of("Locking network failed", *many, "A root task is dead")
    assert found[0].code == "network_lock"
    assert "root_process_ended" in {diagnosis.code for diagnosis in found}
    assert len(found) <= MOST_ERRORS


def test_a_process_that_cannot_be_stopped_is_no_reason_to_wait_longer() -> None:
    lines = ["zombie found while seizing", "Timeout reached. Try to interrupt: 0"]
    assert codes(*lines) == codes(*reversed(lines)) == ["process_not_stopped"]


def test_the_probe_of_iptables_is_never_the_cause() -> None:
    probe = 'execvp("iptables-restore", ...) failed: No such file or directory'
    assert codes(probe, "gremlins") == ["unknown"]
    assert of(probe, "gremlins")[0].what == "gremlins"
    assert codes(probe, "exited, status=1", "File a has bad build-ID") == ["file_build_differs"]


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


def test_an_unknown_error_is_told_with_criu_s_last_error_lines() -> None:
    (diagnosis,) = of("gremlins", "one", "two", "three", "four")
    assert diagnosis.what == "gremlins"
    assert diagnosis.why.endswith(": gremlins; its last lines: two | three | four")
    assert "last lines" not in of("gremlins")[0].why


def test_if_each_error_line_follows_from_something_else_the_last_lines_are_shown() -> None:
    (diagnosis,) = of("exited, status=1", ErrorLine("Restorer fail 1", 1, ("one", "exited, status=1")))
    assert (diagnosis.code, diagnosis.what, diagnosis.remedy) == ("unknown", "Restorer fail 1", "")
    assert diagnosis.why == "CRIU gave no reason; its last lines: one | exited, status=1 | Restorer fail 1"


def test_without_any_error_line_the_last_lines_are_shown() -> None:
    (diagnosis,) = diagnose(first_and_last("one\ntwo\nthree\nfour\n"), PLACES, 1)
    assert (diagnosis.code, diagnosis.what) == ("unknown", "four")
    assert diagnosis.why.endswith("four; its last lines: one | three")


def test_a_crash_without_any_error_line_is_told_with_the_last_lines() -> None:
    (diagnosis,) = diagnose(first_and_last("one\ntwo\n"), PLACES, -11)
    assert (diagnosis.code, diagnosis.what) == ("crashed", "ended by SIGSEGV")
    assert diagnosis.why.endswith("its last lines: one | two")


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
