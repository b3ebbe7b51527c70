# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP port with several queues in the kernel, so that a crowd in one of them is in nobody's way in the others.

While more connect than are accepted, the kernel drops who comes, and to come again takes a second. One queue is for
those who come from a privileged port, which on no host of ours a user but root can do (ip(7)). For all others the
source's address decides: through a tunnel nobody comes from a privileged port. It is a way past a crowd and nothing
else. Where the kernel knows no such filter (before Linux 4.6) there is one queue.
"""

from __future__ import annotations

import contextlib
import ctypes
import secrets
import socket
import struct

PRIVILEGED = range(512, 1024)

# Connections in one queue, each of which takes some KiB of the kernel's memory.
_BACKLOG = 512
_QUEUES_BY_ADDRESS = 8

# <asm-generic/socket.h>, the same on all architectures of CRIU; Python has no name for it.
_SO_ATTACH_REUSEPORT_CBPF = 51
# <linux/filter.h>: offsets from here on are into the IP header.
_IP = 0xFFF00000
_LOAD_BYTE, _LOAD_HALF, _LOAD_WORD = 0x30, 0x28, 0x20
_IF_EQUAL, _IF_AT_LEAST = 0x15, 0x35
_TIMES, _PLUS, _SHIFTED_RIGHT_BY, _PLUS_KEPT, _XOR_KEPT, _KEEP = 0x24, 0x04, 0x74, 0x0C, 0xAC, 0x07
_RETURN, _RETURN_IT = 0x06, 0x16
_INSTRUCTION = struct.Struct("HBBI")
_WORD_BITS = 32


def open_port(address: str, port: int) -> list[socket.socket]:
    """Listen at a numeric address, IPv4 or IPv6 ("::" is both), and at any free port if it is 0.

    Gives one socket for each queue, that for privileged ports first. They do not block. Raises OSError, OverflowError.
    """
    with contextlib.ExitStack() as opened:
        first = opened.enter_context(_bound(address, port, False))
        # Not before it is bound: it would share the port with another handoff's.
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.listen(_BACKLOG)
        sockets = [first]
        with contextlib.suppress(OSError):
            _choose_queue(first)
            for _queue in range(_QUEUES_BY_ADDRESS):
                further = opened.enter_context(_bound(address, first.getsockname()[1], True))
                further.listen(_BACKLOG)
                sockets.append(further)
        opened.pop_all()
        return sockets


def _bound(address: str, port: int, is_shared: bool) -> socket.socket:
    family, kind, protocol, _name, place = socket.getaddrinfo(
        address, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(is_shared))
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        made.bind((place[0], port, *place[2:]))
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


def _choose_queue(listening: socket.socket) -> None:
    program = _program(secrets.randbits(_WORD_BITS) | 1, secrets.randbits(_WORD_BITS) | 1)
    code = b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)
    place = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: the number of instructions, and where they are.
    pointed = struct.pack("HP", len(program), ctypes.addressof(place))
    listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, pointed)


def _program(salt: int, other_salt: int) -> list[tuple[int, int, int, int]]:
    # What is done, how many instructions to pass over if it is so and if not, operand. Salted, or a crowd could choose
    # addresses that fill the queue of another one; twice, or one product may be all but the same for neighbours.
    queue_by_address = [
        (_TIMES, 0, 0, salt),
        (_KEEP, 0, 0, 0),
        (_SHIFTED_RIGHT_BY, 0, 0, _WORD_BITS // 2),
        (_XOR_KEPT, 0, 0, 0),
        (_TIMES, 0, 0, other_salt),
        (_SHIFTED_RIGHT_BY, 0, 0, _WORD_BITS - (_QUEUES_BY_ADDRESS - 1).bit_length()),
        (_PLUS, 0, 0, 1),
        (_RETURN_IT, 0, 0, 0),
    ]
    # With options or further headers the port is elsewhere, and any user can have those.
    version_4 = [
        (_LOAD_HALF, 0, 0, _IP + 20),
        (_IF_AT_LEAST, 1, 0, PRIVILEGED.stop),
        (_RETURN, 0, 0, 0),
        (_LOAD_WORD, 0, 0, _IP + 12),
        *queue_by_address,
    ]
    version_6 = [
        (_LOAD_BYTE, 0, 0, _IP + 6),
        (_IF_EQUAL, 0, 3, socket.IPPROTO_TCP),
        (_LOAD_HALF, 0, 0, _IP + 40),
        (_IF_AT_LEAST, 1, 0, PRIVILEGED.stop),
        (_RETURN, 0, 0, 0),
        (_LOAD_WORD, 0, 0, _IP + 8),
        (_TIMES, 0, 0, other_salt),
        (_KEEP, 0, 0, 0),
        (_LOAD_WORD, 0, 0, _IP + 12),
        (_PLUS_KEPT, 0, 0, 0),
        *queue_by_address,
    ]
    return [
        (_LOAD_BYTE, 0, 0, _IP),
        (_IF_EQUAL, 0, len(version_4), 0x45),
        *version_4,
        (_SHIFTED_RIGHT_BY, 0, 0, 4),
        (_IF_EQUAL, 1, 0, 6),
        (_RETURN, 0, 0, 1),
        *version_6,
    ]
