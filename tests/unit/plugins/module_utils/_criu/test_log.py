# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.log import MOST_LINES, failure
from ansible_collections.fleet.criu.plugins.module_utils._criu.places import Places
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed

PLACES = Places([{"mount_id": 101, "mountpoint": "/data"}], [{"mountpoint": "/data", "key": "data"}])

LOG = """\
(00.000081) Version: 4.1.1 (gitid 0)
(00.002341)    101: Error (criu/mount.c:753): mnt: 101:/data doesn't have a proper root mount
(00.002342) Warn  (criu/mount.c:1): Error in a warning
(00.002343) Error (criu/cr-dump.c:2128): Dumping FAILED.
"""


def test_a_failure_carries_criu_s_words_the_diagnosis_and_where_the_log_is(tmp_path: Path, host: Path) -> None:
    log = tmp_path / "dump.log"
    log.write_text(LOG)
    kept = host / "log" / f"{tmp_path.name}-dump.log"
    error = failure("The dump of redis", Completed(1, "out", "err"), log, PLACES)
    (diagnosis,) = error.facts["diagnosis"]
    assert diagnosis["what"] == "mnt: 101:/data doesn't have a proper root mount"
    assert "/data" in diagnosis["where"]
    assert error.message.startswith("The dump of redis failed (exit status 1). ")
    assert diagnosis["where"].lower() in error.message.lower()
    assert diagnosis["why"] in error.message
    assert error.message.endswith(f" CRIU says: mnt: 101:/data doesn't have a proper root mount. The log is {kept}.")
    assert error.remedy == diagnosis["remedy"]
    assert error.remedy
    assert error.facts == {
        "criu_errors": ["mnt: 101:/data doesn't have a proper root mount"],
        "diagnosis": [diagnosis],
        "log": str(kept),
        "rc": 1,
    }


def test_without_places_ids_are_told_as_they_are(tmp_path: Path) -> None:
    log = tmp_path / "restore.log"
    log.write_text("Error (criu/mount.c:3130): mnt: No mapping for 604:(null) mountpoint\n")
    assert failure("It", Completed(1), log).facts["diagnosis"][0]["where"] == "mount ID 604"
    assert failure("It", Completed(1), log, PLACES).facts["diagnosis"][0]["where"].startswith("mount ID 604, which")


@pytest.mark.parametrize("time", ["", "(00.012345) "])
def test_an_unknown_error_is_shown_with_the_lines_just_before_it(tmp_path: Path, time: str) -> None:
    log = tmp_path / "dump.log"
    lines = [
        "too early",
        "one",
        "Warn  (criu/a.c:1): two",
        "Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted",
        "Error (criu/b.c:7): Collect files (pid: 7) failed with -1",
        "     1: Error (criu/c.c:9): gremlins",
        "Error (criu/cr-dump.c:2111): Dumping FAILED.",
    ]
    log.write_text("".join(f"{time}{line}\n" for line in lines))
    error = failure("It", Completed(1), log)
    assert error.facts["criu_errors"] == ["Collect files (pid: 7) failed with -1", "gremlins"]
    (diagnosis,) = error.facts["diagnosis"]
    assert (diagnosis["code"], diagnosis["what"]) == ("unknown", "gremlins")
    assert diagnosis["where"] == "process 1 of the workload"
    before = "one | Warn  (criu/a.c:1): two | Collect files (pid: 7) failed with -1"
    assert diagnosis["why"].endswith(f"the lines just before it: {before}")
    assert diagnosis["remedy"] == error.remedy == ""
    assert "gremlins" in error.message
    assert before in error.message


def test_an_error_line_that_was_printed_goes_before_a_log_without_any(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    log.write_text("Warn  (criu/a.c:1): something else\n")
    error = failure("It", Completed(1, "", "other words\nError (criu/net.c:1): Locking network failed\n"), log)
    assert error.facts["criu_errors"] == ["Locking network failed"]
    assert failure("It", Completed(1), log).facts["criu_errors"] == ["Warn  (criu/a.c:1): something else"]


def test_a_log_with_nothing_but_that_it_failed_shows_what_criu_printed(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    log.write_text("Error (criu/cr-dump.c:2111): Dumping FAILED.\n")
    error = failure("It", Completed(1, "", "criu: unrecognized option '--gremlin'\n"), log)
    assert error.facts["diagnosis"][0]["code"] == "option_unknown"
    assert error.facts["diagnosis"][0]["where"] == "--gremlin"
    error = failure("It", Completed(1), log)
    assert error.facts["criu_errors"] == []
    assert [cause["code"] for cause in error.facts["diagnosis"]] == ["silent"]


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


def test_the_log_of_a_handoff_s_dump_is_named_after_the_handoff(tmp_path: Path, host: Path) -> None:
    # All of them lie in a folder of this name, so that each would take the place of the last one's.
    folder = tmp_path / "redis-20261129T101112-0f0f.source" / "dump"
    folder.mkdir(parents=True)
    (folder / "dump.log").write_text(LOG)
    error = failure("The dump of redis", Completed(1), folder / "dump.log")
    assert error.facts["log"] == str(host / "log" / "redis-20261129T101112-0f0f.source-dump.log")


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
        assert error.message.startswith("It failed (exit status 2). The network could not be locked")
        assert error.message.endswith("CRIU says: Locking network failed.")
        assert error.facts["criu_errors"] == ["Locking network failed"]
        assert error.facts["diagnosis"][0]["code"] == "network_lock"
        assert (error.facts["log"], error.facts["rc"]) == (None, 2)
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
    shown = error.facts["criu_errors"]
    assert len(shown) == MOST_LINES
    assert (shown[0], shown[-1]) == ("number 0", "Timeout reached")
    assert error.remedy == "Raise timeout."


def test_undecodable_bytes_in_a_log_do_no_harm(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"Error (a.c:1): file \xff\n")
    assert failure("It", Completed(1), log).facts["criu_errors"] == ["file \ufffd"]
