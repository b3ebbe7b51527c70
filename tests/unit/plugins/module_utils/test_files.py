# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils import _files as subject
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import (
    locked,
    read_json,
    sync_files,
    write_atomically,
    write_json,
)
from ansible_collections.fleet.criu.plugins.module_utils._trusted import Untrusted


def test_a_file_is_written_with_its_mode_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "é\n", 0o644)
    assert path.read_text("utf-8") == "é\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_is_for_its_owner_alone_unless_said_otherwise(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", "x")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_a_file_that_was_there_is_replaced_and_not_written_into(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old and longer")
    os.link(path, tmp_path / "reader")
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert (tmp_path / "reader").read_text() == "old and longer"


def test_a_write_that_fails_leaves_the_old_contents_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_the_file_is_synced_before_it_gets_its_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    replace, fsync = os.replace, os.fsync

    def watch_sync(descriptor: int) -> None:
        steps.append("sync folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "sync file")
        fsync(descriptor)

    def watch_replace(old: str, new: str, **folders: int) -> None:
        steps.append("rename")
        replace(old, new, **folders)

    monkeypatch.setattr(os, "fsync", watch_sync)
    monkeypatch.setattr(os, "replace", watch_replace)
    write_atomically(tmp_path / "file", "x")
    assert steps == ["sync file", "rename", "sync folder"]


def test_json_is_readable_and_reads_back(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"b": [1], "a": "\udcff"})
    assert (tmp_path / "file").read_text().startswith('{\n  "a": ')
    assert read_json(tmp_path / "file") == {"b": [1], "a": "\udcff"}


def test_json_that_is_missing_or_damaged_raises(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        read_json(tmp_path / "file")
    (tmp_path / "file").write_text("{")
    with pytest.raises(json.JSONDecodeError):
        read_json(tmp_path / "file")


def test_whoever_locks_the_same_path_waits(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    entered = threading.Event()

    def other() -> None:
        with locked(path):
            entered.set()

    with locked(path):
        waiting = threading.Thread(target=other)
        waiting.start()
        time.sleep(0.1)
        assert not entered.is_set()
    waiting.join(timeout=10)
    assert entered.is_set()


def test_a_lock_is_released_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path / "lock"):
        raise RuntimeError
    with locked(tmp_path / "lock"):
        pass


def test_a_folder_that_is_not_there_cannot_be_synced(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        subject.sync_folder(tmp_path / "none")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_lock_and_its_folder_are_for_root_alone(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    path.parent.mkdir(mode=0o755)
    path.touch(mode=0o644)  # of an earlier version
    with locked(path):
        assert [mode(path), mode(path.parent)] == [0o600, 0o700]
        assert path.read_text() == f"{os.getpid()}\n"


# Whoever has a file open for reading can lock it (flock(2)).
HOLD = """import fcntl, os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDONLY)
os.setuid(65534)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print(flush=True)
time.sleep(30)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_lock_that_another_user_holds_is_waited_for_until_the_deadline_and_the_holder_named(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("1\n")
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        began = time.monotonic()
        told = f"is locked by process {child.pid} for more than 0.2 s"
        with pytest.raises(CriuError, match=told) as caught, locked(path, 0.2):
            pass
        assert 0.2 <= time.monotonic() - began < 5
        assert caught.value.facts["pid"] == child.pid
        child.kill()
        child.wait()
        with locked(path, 0.2):
            pass


def test_a_holder_that_the_kernel_does_not_name_has_written_who_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_LOCKS", tmp_path / "none")
    path = tmp_path / "lock"
    with locked(path), pytest.raises(CriuError, match=f"by process {os.getpid()}\\."), locked(path, 0):
        pass


def test_a_lock_is_no_symlink(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), locked(tmp_path / "lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_in_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "lock").touch()
    with pytest.raises(Untrusted), locked(tmp_path / "lock"):
        pass


def test_a_file_in_a_folder_of_others_is_not_put_where_a_symlink_leads(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "run").symlink_to(tmp_path / "victim")
    with pytest.raises(Untrusted):
        write_atomically(tmp_path / "open" / "run" / "redis.pid", "7\n")
    assert os.listdir(tmp_path / "victim") == []
    write_atomically(tmp_path / "open" / "redis.pid", "7\n", 0o644)
    assert (tmp_path / "open" / "redis.pid").read_text() == "7\n"


def test_every_file_of_a_folder_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    sync_files(tmp_path)
    assert sorted(synced) == sorted(path.stat().st_ino for path in paths)
