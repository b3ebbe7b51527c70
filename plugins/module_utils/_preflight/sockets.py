# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Internet sockets and addresses, from /proc/PID/net (see proc(5)): no program, no netlink."""

from __future__ import annotations

import ipaddress
import sys
from dataclasses import asdict, dataclass
from typing import Any, Iterable, Iterator, Sequence, Union

from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

_TABLES = ("tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6")
# States of a socket in the kernel's <net/tcp_states.h>, which its UDP tables use too.
_LISTEN = "0A"
_CLOSE = "07"


@dataclass(frozen=True)
class Socket:
    """A socket: `waits` for whoever comes, as a listening TCP or an unconnected UDP socket does, or is connected.

    An IPv4 address that an IPv6 socket has (`::ffff:…`) is shown as IPv4.
    """

    protocol: str
    address: str
    port: int
    waits: bool
    inode: int

    def __str__(self) -> str:
        return f"{self.protocol} {f'[{self.address}]' if ':' in self.address else self.address}:{self.port}"

    def as_dict(self) -> dict[str, Any]:
        """The socket in plain JSON types."""
        return asdict(self)


def sockets(proc: Proc, pid: int | str) -> list[Socket]:
    """All sockets of the network namespace of a process."""
    found: list[Socket] = []
    for table in _TABLES:
        try:
            text = (proc.folder / str(pid) / "net" / table).read_text("ascii", "replace")
        except OSError:
            continue  # a kernel without IPv6 has half of them
        found.extend(parse_table(text, table[:-1] if table.endswith("6") else table))
    return found


def parse_table(text: str, protocol: str) -> Iterator[Socket]:
    """The rows of a table such as /proc/net/tcp."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10:
            continue
        local, remote, state = fields[1:4]
        address, port = local.split(":")
        waits = state == _LISTEN if protocol == "tcp" else state == _CLOSE and remote.endswith(":0000")
        yield Socket(protocol, str(_address(address)), int(port, 16), waits, int(fields[9]))


def local_networks(proc: Proc) -> list[Network]:
    """Everything that is an address of this host, as networks: 127.0.0.0/8 is one, 10.0.0.1/32 another."""
    return [*_local_ipv4(_lines(proc, "fib_trie")), *_local_ipv6(_lines(proc, "if_inet6"))]


def is_local(address: str, networks: Sequence[Network]) -> bool:
    """Whether a socket can be bound to this address; to the wildcard and to a multicast group it always can."""
    parsed = ipaddress.ip_address(address)
    return parsed.is_unspecified or parsed.is_multicast or any(parsed in network for network in networks)


def overlaps(one: str, other: str) -> bool:
    """Whether sockets bound to the same port of these addresses can be in each other's way.

    The wildcard of IPv6 is taken to cover IPv4 too: whether it does is not to be seen from outside (ipv6(7)).
    """
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    if first == second:
        return True
    return any(
        wildcard.is_unspecified and (wildcard.version == 6 or wildcard.version == covered.version)
        for wildcard, covered in ((first, second), (second, first))
    )


def conflicts(wanted: Iterable[Socket], here: Sequence[Socket]) -> Iterator[tuple[Socket, Socket]]:
    """Each waiting socket that is wanted, with one that is there already at that port."""
    for socket in wanted:
        for other in here:
            same_port = (socket.protocol, socket.port) == (other.protocol, other.port)
            if socket.waits and other.waits and same_port and overlaps(socket.address, other.address):
                yield socket, other
                break


def _address(text: str) -> Address:
    # Words of 32 bits, each printed as the number that the machine reads from memory in its own byte order.
    words = (int(text[start : start + 8], 16) for start in range(0, len(text), 8))
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    if len(packed) == 4:
        return ipaddress.IPv4Address(packed)
    address = ipaddress.IPv6Address(packed)
    return address.ipv4_mapped or address


def _lines(proc: Proc, name: str) -> list[str]:
    try:
        return (proc.folder / "self" / "net" / name).read_text("ascii", "replace").splitlines()
    except OSError:
        return []


def _local_ipv4(lines: Iterable[str]) -> Iterator[Network]:
    leaf = ""
    for line in lines:
        words = line.split()
        if words[:1] == ["|--"]:
            leaf = words[1]
        elif words[1:3] == ["host", "LOCAL"]:
            yield ipaddress.IPv4Network(leaf + words[0], strict=False)


def _local_ipv6(lines: Iterable[str]) -> Iterator[Network]:
    for line in lines:
        yield ipaddress.IPv6Network(int(line.split()[0], 16))
