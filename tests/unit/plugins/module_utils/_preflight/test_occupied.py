# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._preflight import occupied
from ansible_collections.fleet.criu.tests.unit.fakes import BOOT_ID, FakeProc

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LISTENER = "   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 0\n"
WANTED = {"protocol": "tcp", "address": "10.0.0.5", "port": 80, "waits": True, "inode": 1}


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    proc = FakeProc(tmp_path / "proc")
    proc.add(42, ["redis", "--port", "0"], start_time=5000)
    return proc


def test_pids_that_are_taken_are_named(proc: FakeProc) -> None:
    assert occupied.taken_pids(proc, [41, 42]) == ["process 42 (redis --port 0)"]


def test_limits_of_the_kernel(proc: FakeProc) -> None:
    assert (occupied.pid_max(proc), occupied.max_user_namespaces(proc)) == (0, 0)
    (proc.folder / "sys/kernel/pid_max").write_text("32768\n")
    assert occupied.pid_max(proc) == 32768


@pytest.mark.parametrize(
    ("text", "process"), [("42\n", "process 42 (redis --port 0)"), ("43\n", None), ("x", None), ("", None)]
)
def test_the_pid_file(proc: FakeProc, tmp_path: Path, text: str, process: str | None) -> None:
    path = tmp_path / "redis.pid"
    path.write_text(text)
    assert occupied.pid_file_state(proc, str(path)) == {"path": str(path), "text": text.strip(), "process": process}


def test_no_pid_file(proc: FakeProc, tmp_path: Path) -> None:
    assert occupied.pid_file_state(proc, f"{tmp_path}/none")["text"] is None
    assert occupied.pid_file_state(proc, str(tmp_path))["text"] == "Is a directory"


def test_a_process_in_the_root_is_a_copy(proc: FakeProc, tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    proc.add(43, ["redis"], root=tmp_path / "box")
    found = occupied.live_copies(proc, "redis", f"{tmp_path}/box", None)
    assert found == [f"process 43 (redis) has its root in {tmp_path}/box"]
    assert occupied.live_copies(proc, "redis", f"{tmp_path}/none", None) == []


@pytest.mark.parametrize(
    ("changes", "count"),
    [({}, 1), ({"start_time": 4999}, 0), ({"boot_id": "other"}, 0), ({"pid": 41}, 0), ({"pid": None}, 0)],
)
def test_what_was_restored_from_images_and_lives_is_a_copy(
    proc: FakeProc, tmp_path: Path, changes: dict[str, Any], count: int
) -> None:
    images = tmp_path / "images" / "redis-1-2"
    images.mkdir(parents=True)
    record = {"pid": 42, "start_time": 5000, "boot_id": BOOT_ID, **changes}
    (images / "restored.json").write_text(json.dumps(record))
    (images / "manifest.json").write_text(json.dumps({"workload": {"name": "redis"}}))
    new = str(tmp_path / "images" / "redis-3-4")
    found = occupied.live_copies(proc, "redis", None, new)
    assert found == [f"process 42 (redis --port 0) was restored from {images}"] * count
    assert occupied.live_copies(proc, "postgres", None, new) == []
    (images / "manifest.json").write_text("{")
    assert occupied.live_copies(proc, "redis", None, new) == []


def test_a_listener_is_named_with_its_process(proc: FakeProc) -> None:
    (proc.folder / "self/net").mkdir()
    (proc.folder / "self/net/tcp").write_text(HEAD + LISTENER)
    assert occupied.listeners_in_the_way(proc, [WANTED]) == ["tcp 10.0.0.5:80 (tcp 0.0.0.0:80 is open in the kernel)"]
    (proc.folder / "42/fd").mkdir()
    (proc.folder / "42/fd/3").symlink_to("socket:[77]")
    assert "open in process 42 (redis --port 0)" in occupied.listeners_in_the_way(proc, [WANTED])[0]
    assert occupied.listeners_in_the_way(proc, [{**WANTED, "port": 81}]) == []


def test_addresses_that_the_host_does_not_have(proc: FakeProc) -> None:
    assert occupied.absent_addresses(proc, [WANTED, {**WANTED, "address": "0.0.0.0"}]) == ["tcp 10.0.0.5:80"]
