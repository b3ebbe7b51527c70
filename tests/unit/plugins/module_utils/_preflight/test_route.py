# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._preflight.route import route_to
from ansible_collections.fleet.criu.tests.unit.fakes import FakeProc

# ip(7): a socket that is not set to broadcast cannot be connected there, wherever there is a route to it.
REFUSED = "255.255.255.255"
LOOPBACK = "        +-- 127.0.0.0/8 2 0 2\n           |-- 127.0.0.0\n              /8 host LOCAL\n"


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    """A host that has no address, not even that of its loopback device."""
    proc = FakeProc(tmp_path / "proc")
    (proc.folder / "self/net").mkdir()
    return proc


def resolve(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def getaddrinfo(name: str, port: int, **_options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", (address, port)) for address in addresses]

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)


def test_the_route_and_our_end_of_it_are_found(proc: FakeProc) -> None:
    assert route_to("127.0.0.1", proc) == {
        "address": "127.0.0.1",
        "resolved": ["127.0.0.1"],
        "reached": "127.0.0.1",
        "own_end": "127.0.0.1",
        "is_own": False,
        "problem": None,
    }


def test_nothing_is_sent(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving:
        receiving.bind(("127.0.0.1", 0))
        monkeypatch.setattr(
            "ansible_collections.fleet.criu.plugins.module_utils._preflight.route._SOME_PORT",
            receiving.getsockname()[1],
        )
        assert route_to("127.0.0.1", proc)["reached"] == "127.0.0.1"
        receiving.setblocking(False)
        with pytest.raises(BlockingIOError):
            receiving.recv(1)


def test_an_address_of_this_host_is_told(proc: FakeProc) -> None:
    (proc.folder / "self/net/fib_trie").write_text(LOOPBACK)
    assert route_to("127.0.1.1", proc)["is_own"] is True


def test_no_route(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, REFUSED)
    found = route_to("node2", proc)
    assert (found["resolved"], found["reached"], found["own_end"]) == ([REFUSED], None, None)
    assert found["problem"] == "Permission denied"


def test_one_address_with_a_route_is_enough(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, REFUSED, "127.0.0.1", "127.0.0.2")
    found = route_to("node2", proc)
    assert found["resolved"] == [REFUSED, "127.0.0.1", "127.0.0.2"]
    assert (found["reached"], found["problem"]) == ("127.0.0.1", None)


def test_a_name_that_is_not_known(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_arguments: Any, **_options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    found = route_to("node2", proc)
    assert (found["address"], found["resolved"], found["reached"]) == ("node2", [], None)
    assert found["problem"] == "Name or service not known"


@pytest.mark.parametrize("name", ["a..b", "x" * 64, "a\0b"])
def test_what_can_be_no_name(proc: FakeProc, name: str) -> None:
    found = route_to(name, proc)
    assert found["reached"] is None
    assert found["problem"]
