# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unix sockets with their peers, which no file in /proc tells: asked of the kernel by sock_diag(7)."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import struct
from dataclasses import asdict, dataclass
from typing import Iterator

from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc

STREAM, DATAGRAM, SEQUENCED = 1, 2, 5
LISTENS = 10  # TCP_LISTEN of the kernel's <net/tcp_states.h>, which Unix sockets use too

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DONE, _ERROR = 3, 2
# <linux/unix_diag.h>
_SHOW_NAME, _SHOW_PEER, _SHOW_QUEUES = 1, 4, 16
_NAME, _PEER, _QUEUES = 0, 2, 4
_ALL_STATES = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
_QUESTION = struct.Struct("=BBHIIIII")
_ANSWER = struct.Struct("=BBBBIII")
_ATTRIBUTE = struct.Struct("=HH")
_NEW_NETWORK = 0x40000000
_SECONDS = 5.0
_MOST_BYTES = 1 << 24


@dataclass(frozen=True)
class UnixSocket:
    """A socket. `peer` is the inode of the one that it is connected to, or 0; `waiting` counts what nobody took yet:
    connections at a listener, bytes elsewhere. `name` is its address, "@" before an abstract one.
    """

    inode: int
    kind: int
    state: int
    peer: int
    name: str
    waiting: int


def unix_sockets(proc: Proc, pid: int) -> dict[int, UnixSocket]:
    """All Unix sockets of the network namespace of a process, by inode; none if the kernel does not tell."""
    namespace = proc.folder / str(pid) / "ns" / "net"
    if proc.namespace(pid, "net") == proc.namespace("self", "net"):
        found = _asked()
    else:
        found = _asked_elsewhere(str(namespace))
    return {entry.inode: entry for entry in found}


def parse(data: bytes) -> tuple[list[UnixSocket], bool]:
    """The sockets in what the kernel has answered, and whether that was the end of it."""
    found: list[UnixSocket] = []
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data, position)
        if kind in (_DONE, _ERROR) or length < _HEADER.size:
            return found, True
        if kind == _SOCK_DIAG_BY_FAMILY and length >= _HEADER.size + _ANSWER.size:
            found.append(_socket(data[position + _HEADER.size : position + length]))
        position += _aligned(length)
    return found, False


def _socket(data: bytes) -> UnixSocket:
    _family, kind, state, _pad, inode, _cookie, _cookie_too = _ANSWER.unpack_from(data)
    attributes = dict(_attributes(data[_ANSWER.size :]))
    name = attributes.get(_NAME, b"").decode("utf-8", "replace")
    (peer,) = struct.unpack("=I", attributes[_PEER][:4]) if len(attributes.get(_PEER, b"")) >= 4 else (0,)
    (waiting,) = struct.unpack("=I", attributes[_QUEUES][:4]) if len(attributes.get(_QUEUES, b"")) >= 4 else (0,)
    return UnixSocket(inode, kind, state, peer, f"@{name[1:]}" if name.startswith("\0") else name.rstrip("\0"), waiting)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[position + _ATTRIBUTE.size : position + length]
        position += _aligned(length)


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _asked() -> list[UnixSocket]:
    found: list[UnixSocket] = []
    taken = 0
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(_SECONDS)
            show = _SHOW_NAME | _SHOW_PEER | _SHOW_QUEUES
            question = _QUESTION.pack(socket.AF_UNIX, 0, 0, _ALL_STATES, 0, show, 0xFFFFFFFF, 0xFFFFFFFF)
            length = _HEADER.size + len(question)
            netlink.send(_HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + question)
            is_over = False
            while not is_over and taken < _MOST_BYTES:
                data = netlink.recv(1 << 16)
                taken += len(data)
                some, is_over = parse(data)
                found += some
    except OSError:  # a kernel without unix_diag
        return []
    return found


def _asked_elsewhere(namespace: str) -> list[UnixSocket]:
    # In a child, because nothing leads back for a process that has entered another namespace.
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reads)
            target = os.open(namespace, os.O_RDONLY)
            if ctypes.CDLL(None, use_errno=True).setns(target, _NEW_NETWORK) == 0:
                text = json.dumps([asdict(entry) for entry in _asked()])
                with os.fdopen(writes, "w") as stream:
                    stream.write(text)
        finally:
            os._exit(0)
    os.close(writes)
    try:
        with os.fdopen(reads) as stream:
            text = stream.read()
    finally:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
    return [UnixSocket(**entry) for entry in json.loads(text or "[]")]
