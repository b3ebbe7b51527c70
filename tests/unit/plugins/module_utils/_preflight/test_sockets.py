# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._preflight.sockets import (
    Socket,
    conflicts,
    is_local,
    local_networks,
    overlaps,
    parse_table,
    sockets,
)
from ansible_collections.fleet.criu.tests.unit.fakes import FakeProc

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.0.0.0
        /24 link UNICAST
Local:
  +-- 0.0.0.0/1 2 0 2
     |-- 10.0.0.5
        /32 host LOCAL
     |-- 10.0.0.255
        /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
"""
IF_INET6 = "00000000000000000000000000000001 01 80 10 80       lo\nfe80000000000000ccc7bdfffe1e6f74 02 40 20 80 eth0\n"


def address(text: str) -> str:
    """As the kernel prints it: each word of 32 bits as a number in the machine's byte order."""
    packed = ipaddress.ip_address(text).packed
    words = (packed[start : start + 4] for start in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


def row(local: str, port: int, state: str, inode: int, remote: str = "0.0.0.0", remote_port: int = 0) -> str:
    ends = f"{address(local)}:{port:04X} {address(remote)}:{remote_port:04X}"
    return f"   0: {ends} {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0 100 0 0 10 0\n"


def test_rows_are_read() -> None:
    text = HEAD + row("127.0.0.1", 6379, "0A", 77) + row("10.0.0.5", 22, "01", 78, "10.0.0.9", 4711) + "  broken\n"
    assert list(parse_table(text, "tcp")) == [
        Socket("tcp", "127.0.0.1", 6379, True, 77),
        Socket("tcp", "10.0.0.5", 22, False, 78),
    ]


def test_an_unconnected_udp_socket_waits() -> None:
    text = HEAD + row("0.0.0.0", 53, "07", 1) + row("10.0.0.5", 999, "01", 2, "10.0.0.9", 53)
    assert [socket.waits for socket in parse_table(text, "udp")] == [True, False]


@pytest.mark.parametrize(
    ("given", "shown"), [("::1", "tcp [::1]:80"), ("::", "tcp [::]:80"), ("::ffff:10.0.0.5", "tcp 10.0.0.5:80")]
)
def test_addresses_of_ipv6_are_read(given: str, shown: str) -> None:
    (socket,) = parse_table(HEAD + row(given, 80, "0A", 1, "::"), "tcp")
    assert str(socket) == shown


def test_all_tables_of_a_namespace_are_read(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path / "proc")
    folder = proc.folder / "42/net"
    folder.mkdir(parents=True)
    (folder / "tcp").write_text(HEAD + row("0.0.0.0", 80, "0A", 1))
    (folder / "udp6").write_text(HEAD + row("::1", 53, "07", 2, "::"))
    assert [(found.protocol, found.port) for found in sockets(proc, 42)] == [("tcp", 80), ("udp", 53)]
    assert sockets(proc, 43) == []


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ("10.0.0.5", True),
        ("10.0.0.255", False),
        ("10.0.0.6", False),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("0.0.0.0", True),
        ("224.0.0.251", True),
        ("::", True),
        ("::1", True),
        ("fe80::ccc7:bdff:fe1e:6f74", True),
        ("2001:db8::1", False),
    ],
)
def test_addresses_of_the_host(tmp_path: Path, wanted: str, there: bool) -> None:
    proc = FakeProc(tmp_path / "proc")
    (proc.folder / "self/net").mkdir()
    (proc.folder / "self/net/fib_trie").write_text(FIB_TRIE)
    (proc.folder / "self/net/if_inet6").write_text(IF_INET6)
    assert is_local(wanted, local_networks(proc)) is there


def test_a_host_that_tells_nothing_has_no_address(tmp_path: Path) -> None:
    assert local_networks(FakeProc(tmp_path / "proc")) == []


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("10.0.0.5", "10.0.0.5", True),
        ("10.0.0.5", "10.0.0.6", False),
        ("0.0.0.0", "10.0.0.5", True),
        ("::", "10.0.0.5", True),
        ("::", "::1", True),
        ("0.0.0.0", "::1", False),
        ("0.0.0.0", "::", True),
    ],
)
def test_addresses_overlap_in_both_directions(one: str, other: str, expected: bool) -> None:
    for first, second in ((one, other), (other, one)):
        assert overlaps(first, second) is expected


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Socket("tcp", "0.0.0.0", 80, True, 2), True),
        (Socket("udp", "0.0.0.0", 80, True, 2), False),
        (Socket("tcp", "0.0.0.0", 81, True, 2), False),
        (Socket("tcp", "10.0.0.5", 80, False, 2), False),
    ],
)
def test_who_is_in_the_way(other: Socket, expected: bool) -> None:
    wanted = Socket("tcp", "10.0.0.5", 80, True, 1)
    assert list(conflicts([wanted], [other, other])) == ([(wanted, other)] if expected else [])
    connected = Socket("tcp", "10.0.0.5", 80, False, 1)
    assert list(conflicts([connected], [other])) == []
