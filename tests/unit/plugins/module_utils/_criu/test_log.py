# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.log import (
    MOST_LINES,
    error_lines,
    failure,
    remedy_for,
)
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed

LOG = """\
(00.000081) Version: 4.1.1 (gitid 0)
(00.002341)    101: Error (criu/mount.c:753): mnt: 101:/data doesn't have a proper root mount
(00.002342) Warn  (criu/mount.c:1): Error in a warning
(00.002343) Error (criu/cr-dump.c:2128): Dumping FAILED.
"""


def test_error_lines_are_without_time_pid_and_source_position() -> None:
    assert error_lines(LOG) == ["mnt: 101:/data doesn't have a proper root mount", "Dumping FAILED."]


@pytest.mark.parametrize(
    "line",
    [
        "(00.1) Error (criu/a.c:1): text",
        "(12.345678)      1: Error (criu/a.c:1): text",
        "(12.345678) 12345: Error (compel/src/lib/infect.c:99): text",
        "Error (criu/a.c:1): text",
        "     1: Error (criu/a.c:1): text",
        "(00.1) Error (criu/a.c:1): text   ",
    ],
)
def test_forms_of_error_lines(line: str) -> None:
    assert error_lines(line) == ["text"]


@pytest.mark.xfail(reason="error lines of the restorer begin with 'pie: PID:'")
def test_error_lines_of_the_restorer() -> None:
    assert error_lines("(00.054878) pie: 33928: Error (criu/pie/restorer.c:1832): Unable to create a thread") == [
        "Unable to create a thread"
    ]


@pytest.mark.parametrize(
    "line",
    ["(00.1) Warn  (criu/a.c:1): text", "(00.1) Error text", "x Error (criu/a.c:1): text", "", "(00.1) Errors (a): b"],
)
def test_other_lines_are_none(line: str) -> None:
    assert error_lines(line) == []


@pytest.mark.parametrize("text", ["Can't setup RLIMIT_NOFILE for self", "cg: cgroupd: recv req error -1"])
def test_errors_that_are_never_the_cause_are_left_out(text: str) -> None:
    assert error_lines(f"(00.1) Error (a.c:1): {text}\n(00.2) Error (a.c:2): the cause\n") == ["the cause"]


def test_an_error_that_is_repeated_is_told_once_at_its_first_place() -> None:
    text = "Error (a.c:1): one\nError (a.c:2): two\n(00.1) Error (a.c:3): one\n"
    assert error_lines(text) == ["one", "two"]


@pytest.mark.parametrize(
    ("error", "word"),
    [
        ("mnt: 101:/data doesn't have a proper root mount", "mount_info"),
        ("mnt: Mount 1 /x (master_id: 2 shared_id: 0) has unreachable sharing. Try --enable-external-masters.", "key"),
        ("Can't lookup mount=5 for fd=1 path=/dev/pts/0", "standard output"),
        ("The root task has another root than mntns", "pivot_root"),
        ("mnt: No mapping for ID:(null) mountpoint", "restore map"),
        ("mnt-v2: Failed to open_tree /srv/x: No such file or directory", "missing on this host"),
        ("mnt-v2: Failed to move_mount from 1 to 2: Invalid argument", "symlink"),
        ("mnt: Can't stat mountpoint /x: No such file or directory", "create it"),
        ("inet: Can't get 1:16 opt: Operation not supported", "CRIU 4.2"),
        ("inet: Connected TCP socket, consider using --tcp-established", "tcp_established"),
        ("inet: Can't bind inet socket (id 3): Cannot assign requested address", "listens"),
        ("sk unix: External socket is used. Consider using --ext-unix-sk option.", "ext_unix_sk"),
        ("Some file locks are hold by dumping tasks! You can try --file-locks to dump them.", "file_locks"),
        ("Can't dump ghost file /x of 2000000 size, increase limit", "ghost_limit"),
        ("Can't create link remap for /x. Use link-remap option.", "link_remap"),
        ("File x has bad size 1 (expect 2)", "copy it again"),
        ("File x has bad build-ID", "same package"),
        ("files: Can't open file x on restore: No such file or directory", "copy the root"),
        ("Locking network failed", "network_lock"),
        ('execvp("iptables-restore", ...) failed: No such file or directory', "nftables"),
        ("Pid 5 do not match expected 4", "pid namespace"),
        ("Can't fork for 5: File exists", "in use"),
        ("tty: 5 is not a session leader", "setsid"),
        ("A session leader of 3(3) is outside of its pid namespace", "setsid inside"),
        ("cg: Cgroup dir cpu/x doesn't exist", "manage_cgroups"),
        ("Can't write: No space left on device", "space"),
        ("Timeout reached. Try to interrupt: 5", "timeout"),
    ],
)
def test_an_error_that_we_know_has_a_remedy(error: str, word: str) -> None:
    assert word in remedy_for(["something else", error, "Dumping FAILED."])


def test_the_first_error_that_we_know_decides() -> None:
    assert remedy_for(["Timeout reached", "Locking network failed"]) == remedy_for(["Timeout reached"])
    assert remedy_for(["Locking network failed", "Timeout reached"]) == remedy_for(["Locking network failed"])


def test_an_unknown_error_has_no_remedy() -> None:
    assert remedy_for(["gremlins"]) == ""
    assert remedy_for([]) == ""


def test_a_failure_carries_criu_s_words_the_remedy_and_where_the_log_is(tmp_path: Path, host: Path) -> None:
    log = tmp_path / "dump.log"
    log.write_text(LOG)
    kept = host / "log" / f"{tmp_path.name}-dump.log"
    error = failure("The dump of redis", Completed(1, "out", "err"), log)
    assert error.message == (
        "The dump of redis failed (exit status 1). CRIU says: mnt: 101:/data doesn't have a proper root mount | "
        f"Dumping FAILED.. The log is {kept}."
    )
    assert error.remedy.startswith("An external mount has no key")
    assert error.facts == {
        "criu_errors": ["mnt: 101:/data doesn't have a proper root mount", "Dumping FAILED."],
        "log": str(kept),
        "rc": 1,
    }


def test_the_log_outlives_the_image_folder_and_is_for_its_owner_alone(tmp_path: Path, host: Path) -> None:
    images = tmp_path / "redis"
    images.mkdir()
    (images / "restore.log").write_text(LOG)
    failure("It", Completed(1), images / "restore.log")
    kept = host / "log" / "redis-restore.log"
    assert kept.read_text() == LOG
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert (images / "restore.log").exists()


def test_the_log_of_a_later_failure_replaces_the_one_before(tmp_path: Path, host: Path) -> None:
    log = tmp_path / "dump.log"
    for text in ("first and longer", "second"):
        log.write_text(text)
        failure("It", Completed(1), log)
    assert (host / "log" / f"{tmp_path.name}-dump.log").read_text() == "second"


def test_a_log_that_cannot_be_kept_is_told_where_it_is(tmp_path: Path, host: Path) -> None:
    (host / "log").touch()
    log = tmp_path / "dump.log"
    log.write_text(LOG)
    error = failure("It", Completed(1), log)
    assert error.facts["log"] == str(log)
    assert error.message.endswith(f" The log is {log}.")


def test_without_a_log_what_criu_printed_is_shown(tmp_path: Path, host: Path) -> None:
    for completed in (Completed(2, "", "Locking network failed\n"), Completed(2, "Locking network failed\n", "")):
        error = failure("It", completed, tmp_path / "none.log")
        assert error.message == "It failed (exit status 2). CRIU says: Locking network failed."
        assert error.facts == {"criu_errors": ["Locking network failed"], "log": None, "rc": 2}
        assert "network_lock" in error.remedy
    assert not (host / "log").exists()


@pytest.mark.parametrize(
    ("text", "shown"),
    [("1\n2\n\n3\n4\n \n", ["1", "3", "4"]), ("1\n2\n3", ["1", "2", "3"]), ("1\n 2\n", ["1", "2"]), ("1", ["1"])],
)
def test_without_error_lines_the_first_and_the_last_are_shown(tmp_path: Path, text: str, shown: list[str]) -> None:
    assert failure("It", Completed(2, "", text), tmp_path / "none.log").facts["criu_errors"] == shown
    (tmp_path / "log").write_text(text)
    assert failure("It", Completed(2, "", "other"), tmp_path / "log").facts["criu_errors"] == shown


def test_silence_is_called_so(tmp_path: Path) -> None:
    assert "CRIU says: nothing." in failure("It", Completed(139), tmp_path / "none.log").message


def test_only_so_many_errors_are_shown_but_all_are_searched_for_a_remedy(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = [f"Error (a.c:1): number {number}\n" for number in range(MOST_LINES + 5)]
    log.write_text("".join([*lines, "Error (a.c:1): Timeout reached\n"]))
    error = failure("It", Completed(1), log)
    assert len(error.facts["criu_errors"]) == MOST_LINES
    assert error.remedy == "Raise timeout."


def test_undecodable_bytes_in_a_log_do_no_harm(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"Error (a.c:1): file \xff\n")
    assert failure("It", Completed(1), log).facts["criu_errors"] == ["file \ufffd"]
