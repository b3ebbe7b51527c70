# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu import image_file
from ansible_collections.fleet.criu.plugins.module_utils._criu.network_lock import (
    left_tables,
    note_namespace,
    note_run_id,
    remove_noted,
    run_id_of,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed
from ansible_collections.fleet.criu.tests.unit.fakes import HOST_MOUNTS, FakeProc, FakeRunner
from ansible_collections.fleet.criu.tests.unit.synthetic_images import image

PID = 42
RUN_ID = "05f66735-8a31-4e96-a1b2-c3d4e5f60718"
OWN = f"CRIU-{RUN_ID[:21]}"
INVENTORY = image(image_file.INVENTORY, [(1, 2), (13, RUN_ID)])
# Of another dump, too short to be told from another's, of a later CRIU's longer name, no name of CRIU's.
OTHERS = ["CRIU-05f66735-8a31-4e96-a2", "CRIU-05f6", "CRIU-42", f"CRIU-{RUN_ID}x", "CRIU-a b", "filter"]


def listed(*names: str, family: str = "inet") -> str:
    rows: list[Any] = [{"table": {"family": family, "name": name, "handle": 1}} for name in names]
    return json.dumps({"nftables": [{"metainfo": {"version": "1.1.3"}}, *rows]})


def nft(*names: str, way: tuple[str, ...] = (), **changes: Any) -> FakeRunner:
    return FakeRunner(
        {
            (*way, "nft", "-j", "list", "tables"): Completed(0, listed(*names)),
            (*way, "nft", "delete"): Completed(0),
            **changes,
        }
    )


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    found = FakeProc(tmp_path / "proc")
    found.add(PID)
    return found


def noted(folder: Path, proc: FakeProc, inventory: bytes = INVENTORY) -> Path:
    note_namespace(folder, PID, proc)
    note_run_id(folder, inventory)
    return folder


def test_only_the_table_of_this_dump_is_removed(tmp_path: Path, proc: FakeProc) -> None:
    runner = nft(*OTHERS, OWN, f"CRIU-{RUN_ID}")
    assert remove_noted(noted(tmp_path, proc), proc, runner) == [
        f"Removed CRIU's table inet {OWN} of nftables.",
        f"Removed CRIU's table inet CRIU-{RUN_ID} of nftables.",
    ]
    assert [argv[-1] for argv in runner.argvs[1:]] == [OWN, f"CRIU-{RUN_ID}"]


def test_a_table_of_another_family_is_not_criu_s(tmp_path: Path, proc: FakeProc) -> None:
    runner = FakeRunner({("nft",): Completed(0, listed(OWN, family="ip"))})
    assert remove_noted(noted(tmp_path, proc), proc, runner) == []


@pytest.mark.parametrize("inventory", [b"", b"inventory", image(image_file.INVENTORY, [(1, 2)]), INVENTORY[:20]])
def test_without_a_run_id_nothing_is_removed(tmp_path: Path, proc: FakeProc, inventory: bytes) -> None:
    assert run_id_of(inventory) is None
    assert remove_noted(noted(tmp_path, proc, inventory), proc, FakeRunner()) == []


def test_without_a_note_nothing_is_removed(tmp_path: Path, proc: FakeProc) -> None:
    assert remove_noted(tmp_path, proc, FakeRunner()) == []
    note_namespace(tmp_path, PID, proc)
    assert remove_noted(tmp_path, proc, FakeRunner()) == [], "the dump did not come to its end"
    (tmp_path / "network_lock.json").write_text("[]")
    assert remove_noted(tmp_path, proc, FakeRunner()) == []


def test_a_namespace_that_lasts_is_entered(tmp_path: Path, proc: FakeProc) -> None:
    proc.add(PID + 1, own_namespaces=["mnt", "pid", "net"])
    note_namespace(tmp_path, PID + 1, proc)
    note_run_id(tmp_path, INVENTORY)
    assert remove_noted(tmp_path, proc, FakeRunner()) == [], "it has gone, with its tables"
    namespace = proc.namespace(PID + 1, "net")
    row = f"40 23 0:4 {namespace} /run/netns/blue rw shared:9 - nsfs nsfs rw\n"
    (proc.folder / "self" / "mountinfo").write_text(HOST_MOUNTS + row)
    way = ("nsenter", "--net=/run/netns/blue", "--")
    runner = nft(OWN, way=way)
    assert remove_noted(tmp_path, proc, runner) == [f"Removed CRIU's table inet {OWN} of nftables."]
    assert runner.argvs[1] == [*way, "nft", "delete", "table", "inet", OWN]


def test_a_table_that_cannot_be_removed_is_named(tmp_path: Path, proc: FakeProc) -> None:
    runner = nft(OWN)
    runner.answers["nft", "delete"] = Completed(1, "", "Error: busy\n")
    assert remove_noted(noted(tmp_path, proc), proc, runner) == [
        f"Could not remove CRIU's table inet {OWN} of nftables (Error: busy). Run: nft delete table inet {OWN}"
    ]


def test_tables_that_dumps_have_left(proc: FakeProc) -> None:
    assert left_tables(proc, nft("CRIU-4711", OWN, "filter", "CRIU-a;b")) == ["CRIU-4711", OWN]
    assert left_tables(proc, FakeRunner({("nft",): Completed(1, "", "no")})) == []
    assert left_tables(proc, FakeRunner({("nft",): Completed(0, "{}")})) == []

    def missing(_command: Command) -> Completed:
        raise CommandFailed("nft could not be started.")

    assert left_tables(proc, FakeRunner({("nft",): missing})) == []


@pytest.mark.parametrize("command", [["/usr/sbin/criu", "dump", "--tree", "5"], ["criu /run/images", "swrk", "7"]])
def test_while_a_criu_is_at_work_no_table_is_called_left(proc: FakeProc, command: list[str]) -> None:
    proc.add(PID + 1, command)
    assert left_tables(proc, FakeRunner()) == []


LOCAL, REMOTE = ("192.0.2.7", 6379), ("192.0.2.9", 40000)
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 070200C0:18EB 090200C0:9C40 01 00000000:00000000 00:00000000 00000000     0        0 777 1 0 20 4 30 10 -1
   1: 070200C0:18EB 0A0200C0:9C41 01 00000000:00000000 00:00000000 00000000     0        0 888 1 0 20 4 30 10 -1
"""
TCP6 = """\
  sl  local_address remote_address st
   0: 0000000000000000FFFF0000070200C0:18EC 0000000000000000FFFF0000090200C0:9C42 01 0:0 00:0 0 0 0 778 1
   1: B80D0120000000000000000001000000:18EB B80D0120000000000000000002000000:9C40 01 0:0 00:0 0 0 0 779 1
"""


def locked(*connections: tuple[tuple[str, int], tuple[str, int]]) -> Completed:
    elements = [
        {"concat": [*one, *other]} for here, there in connections for one, other in ((here, there), (there, here))
    ]
    rows: list[Any] = [
        {"metainfo": {}},
        {"set": {"name": "conns4", **({"elem": elements} if elements else {})}},
        {"set": {"name": "conns6"}},
    ]
    return Completed(0, json.dumps({"nftables": rows}))


@pytest.fixture
def workload(proc: FakeProc) -> FakeProc:
    """Its child has three connections; a fourth one is another's."""
    child = proc.folder / str(PID + 1)
    proc.add(PID + 1, parent=PID)
    (child / "fd").mkdir()
    for number, inode in enumerate((777, 778, 779), 3):
        (child / "fd" / str(number)).symlink_to(f"socket:[{inode}]")
    (child / "fd" / "0").symlink_to("/dev/null")
    (proc.folder / str(PID) / "net").mkdir()
    (proc.folder / str(PID) / "net" / "tcp").write_text(TCP)
    (proc.folder / str(PID) / "net" / "tcp6").write_text(TCP6)
    return proc


MAPPED = (("192.0.2.7", 6380), ("192.0.2.9", 40002))
SIX = (("2001:db8::1", 6379), ("2001:db8::2", 40000))


@pytest.mark.parametrize("connections", [[(LOCAL, REMOTE)], [MAPPED], [SIX], [(LOCAL, REMOTE), MAPPED, SIX]])
def test_the_table_of_a_criu_that_was_killed_is_known_by_what_it_locks(
    tmp_path: Path, workload: FakeProc, connections: list[Any]
) -> None:
    note_namespace(tmp_path, PID, workload)
    runner = nft("CRIU-of-nobody-knows-whom")
    runner.answers["nft", "-j", "list", "table"] = locked(*connections)
    assert remove_noted(tmp_path, workload, runner) == [], "it does not run on here"
    said = remove_noted(tmp_path, workload, runner, PID)
    assert said == ["Removed CRIU's table inet CRIU-of-nobody-knows-whom of nftables."]


@pytest.mark.parametrize(
    "connections",
    [[], [(LOCAL, ("192.0.2.10", 40001))], [(LOCAL, REMOTE), (LOCAL, ("192.0.2.10", 40001))]],
)
def test_the_table_of_another_workload_is_left_alone(
    tmp_path: Path, workload: FakeProc, connections: list[Any]
) -> None:
    note_namespace(tmp_path, PID, workload)
    runner = nft("CRIU-of-nobody-knows-whom")
    runner.answers["nft", "-j", "list", "table"] = locked(*connections)
    assert remove_noted(tmp_path, workload, runner, PID) == []


def test_a_table_that_cannot_be_read_is_left_alone(tmp_path: Path, workload: FakeProc) -> None:
    note_namespace(tmp_path, PID, workload)
    runner = nft("CRIU-of-nobody-knows-whom")
    runner.answers["nft", "-j", "list", "table"] = Completed(1, "", "gone")
    assert remove_noted(tmp_path, workload, runner, PID) == []
