# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One TLS connection between source and target. How it comes about: admission.py.

TLS runs in memory (ssl.SSLObject) over a socket that never blocks. So one deadline holds for a handshake and whatever
follows it, each direction can end by itself, and many records are read and written at a time.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import time
from typing import Mapping

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.messages import (
    HEADER,
    MAXIMUM,
    Message,
    body_length,
    decode,
    encode,
)

# As many bytes as are handed to TLS or the kernel at a time; twice as fast as one record (16 KiB) at a time.
_CHUNK = 256 * 1024
_RECORD = 16 * 1024

# Seconds without any progress after which a link is lost, also if the peer's kernel still answers.
_PATIENCE = 30.0
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
# The same where nothing but messages goes: whoever is there acknowledges them at once, however slow its disks are.
_CLOSE_PATIENCE = 10.0
_CLOSE_KEEPALIVE = {"TCP_KEEPIDLE": 4, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}

_TOO_LATE = "the peer did not answer in time"


class LinkLost(CriuError):
    """The connection broke, could not be made, or the peer said nothing in time."""


class Channel:
    """A TLS connection to the peer, for one thread at a time. `peer` is its address as text.

    What breaks or takes too long raises LinkLost, and the channel is good for nothing but `close` then; only a
    `receive` that timed out may be called again, and goes on where it was.
    """

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, server_side: bool, peer: str) -> None:
        _prepare(connection)
        self.peer = peer
        self._socket = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._buffer = memoryview(bytearray(_CHUNK))
        self._plain = bytearray()
        self._unsent = memoryview(b"")
        self._peer_ended = False
        # Whether the peer's end of the connection is gone, without a word in TLS.
        self.was_cut = False
        # Whether the peer had not said by the deadline what it had to.
        self.is_late = False

    def handshake(self, expected: bytes, deadline: float) -> None:
        """Agree with the peer and compare its certificate with the expected one (DER).

        What we have to say last is not sent yet, so that the first message can go with it. Raises LinkLost.
        """
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush(deadline)
                self._wait(select.POLLIN, deadline)
                self._fill()
            except ssl.SSLError as error:
                with contextlib.suppress(LinkLost):
                    self._push()  # the peer should know why
                raise self._lost(why(error)) from error
        if self._tls.getpeercert(binary_form=True) != expected:
            raise self._lost("the peer has another certificate than the one that was given to us")

    def send(self, message: Message) -> None:
        """Send a message. Raises LinkLost and ProtocolError."""
        self.send_until(message, None)

    def receive(self, timeout: float) -> Message:
        """The next message, waited for at most `timeout` seconds.

        Raises LinkLost, also at a clean end, and ProtocolError.
        """
        return self.receive_until(time.monotonic() + timeout, MAXIMUM)

    def send_until(self, message: Message, deadline: float | None) -> None:
        """Send a message before the deadline (time.monotonic()), or as long as some of it is taken."""
        self._encrypt(memoryview(encode(message)))
        self._flush(deadline)

    def receive_until(self, deadline: float, maximum: int) -> Message:
        """The next message, which must be there before the deadline and have no more bytes than `maximum`."""
        self._gather(HEADER, deadline)
        size = HEADER + body_length(bytes(self._plain[:HEADER]), maximum)
        self._gather(size, deadline)
        body = bytes(self._plain[HEADER:size])
        del self._plain[:size]
        return decode(body)

    def send_bytes(self, data: bytes | memoryview) -> None:
        """Send bytes that are no message. Raises LinkLost."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _CHUNK):
            self._encrypt(view[start : start + _CHUNK])
            self._flush()

    def receive_into(self, view: memoryview, timeout: float) -> int:
        """Fill the view with what is there, and wait at most `timeout` seconds only if nothing is.

        Gives the number of bytes; 0 is the clean end. Raises LinkLost.
        """
        view = view.cast("B")
        deadline = time.monotonic() + timeout
        count = self._take(view)
        while count is None:
            self._wait(select.POLLIN, deadline)
            count = self._take(view)
        return count

    def pump(self, descriptor: int | socket.socket, timeout: float) -> None:
        """Carry bytes between the peer and a local socket, both ways at once, until both have ended.

        The end of one direction is passed on and leaves the other open. `timeout` is in seconds without a byte in
        either direction. The local socket stays open. Raises LinkLost.
        """
        _set_option(self._socket, "TCP_USER_TIMEOUT", int(timeout * 1000))
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        with socket.socket(fileno=os.dup(number)) as local:
            inward, outward = _Inward(self, local), _Outward(self, local)
            while not (inward.ended and outward.ended):
                # Each has its turn, whatever the other one did.
                moved = [inward.step(), outward.step()]
                if not any(moved):
                    self._wait_for_any([*inward.waits_for(), *outward.waits_for()], timeout)

    def watch_closely(self) -> None:
        """Notice within 10 s instead of 30 s that the peer's host is out of reach. For a channel of messages alone."""
        _notice_silence(self._socket, _CLOSE_PATIENCE, _CLOSE_KEEPALIVE)

    def fileno(self) -> int:
        """For select and poll; ask `has_pending` first."""
        return self._socket.fileno()

    def has_pending(self) -> bool:
        """Whether something was taken from the socket already that `receive` or `receive_into` will give."""
        if not self._plain:
            self._plain += self._read_record() or b""
        return bool(self._plain) or self._peer_ended

    def finish(self) -> None:
        """Tell the peer that nothing more comes from us; it may go on. Raises LinkLost."""
        self._end_outgoing()
        self._flush()

    def end_at_once(self) -> None:
        """Tell the peer that nothing more comes, if that needs no waiting and the handshake is over."""
        with contextlib.suppress(LinkLost, ssl.SSLError, ValueError):
            if self._tls.version() is not None and not self.was_cut:
                self._end_outgoing()
                self._push()

    def close(self) -> None:
        """Drop the connection. Without `finish` before it, the peer will take it for a broken one."""
        self._socket.close()

    # Messages

    def _gather(self, size: int, deadline: float) -> None:
        while len(self._plain) < size:
            data = self._read_record(size - len(self._plain))
            self._plain += data or b""
            if self._peer_ended:
                raise self._lost("the peer has ended it")
            if data is None and not self._fill():
                self._wait(select.POLLIN, deadline)

    # TLS

    def _take(self, view: memoryview) -> int | None:
        """Fill the view without waiting: the number of bytes, 0 at the clean end, None if nothing is there."""
        count = min(len(view), len(self._plain))
        view[:count] = self._plain[:count]
        del self._plain[:count]
        while count < len(view):
            got = self._decrypt(view[count:])
            if got == 0 or (got is None and not self._fill()):
                return count or got
            count += got or 0
        return count

    def _read_record(self, most: int = _RECORD) -> bytes | None:
        """Some bytes of what was taken from the socket, b"" at the clean end, None if nothing is there."""
        data = bytearray(min(most, _RECORD))
        count = self._decrypt(memoryview(data))
        return None if count is None else bytes(data[:count])

    def _decrypt(self, view: memoryview) -> int | None:
        if self._peer_ended:
            return 0
        if not self._incoming.pending and not self._tls.pending():
            return None  # without the exception, which takes longer than a record
        try:
            count = int(self._tls.read(len(view), view))
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            count = 0
        except ssl.SSLError as error:
            raise self._lost(why(error)) from error
        self._peer_ended = count == 0
        return count

    def _encrypt(self, view: memoryview) -> None:
        try:
            while view:
                view = view[self._tls.write(view) :]
        except ssl.SSLError as error:
            raise self._lost(why(error)) from error

    def _end_outgoing(self) -> None:
        # unwrap also tries to read the peer's end, and would take data that comes before it for a fault.
        while not self._peer_ended:
            data = self._read_record()
            if data is None:
                break
            self._plain += data
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # ours is said, the peer's has not come yet
        except ssl.SSLError as error:
            raise self._lost(why(error)) from error

    # The socket

    def _fill(self) -> bool:
        """Take what the socket has, without waiting. Says whether there was something."""
        try:
            count = self._socket.recv_into(self._buffer)
        except BlockingIOError:
            return False
        except OSError as error:
            self.was_cut = True
            raise self._lost(why(error)) from error
        if count == 0:
            self.was_cut = True
            raise self._lost("it was cut without the peer's having ended it")
        self._incoming.write(self._buffer[:count])
        return True

    def _push(self) -> bool:
        """Give the socket what it takes, without waiting. Says whether it took something."""
        if not self._has_unsent():
            return False
        if not self._unsent:
            self._unsent = memoryview(self._outgoing.read())
        try:
            count = self._socket.send(self._unsent)
        except BlockingIOError:
            return False
        except OSError as error:
            self.was_cut = True
            raise self._lost(why(error)) from error
        self._unsent = self._unsent[count:]
        return True

    def _has_unsent(self) -> bool:
        return bool(self._unsent) or self._outgoing.pending > 0

    def _flush(self, deadline: float | None = None) -> None:
        """Send all. Without a deadline, each bit of progress buys more time."""
        while self._has_unsent():
            if not self._push():
                self._wait(select.POLLOUT, time.monotonic() + _PATIENCE if deadline is None else deadline)

    def _wait(self, event: int, deadline: float) -> None:
        left = deadline - time.monotonic()
        # Not even for what is there already: a peer that trickles would never be late.
        if left <= 0:
            self.is_late = True
            raise self._lost(_TOO_LATE)
        self._wait_for_any([(self._socket.fileno(), event)], left)

    def _wait_for_any(self, waits: list[tuple[int, int]], timeout: float) -> None:
        events: dict[int, int] = {}
        for descriptor, event in waits:
            events[descriptor] = events.get(descriptor, 0) | event
        poll = select.poll()
        for descriptor, event in events.items():
            poll.register(descriptor, event)
        if not poll.poll(timeout * 1000):
            self.is_late = True
            raise self._lost(_TOO_LATE)

    def _lost(self, why: str) -> LinkLost:
        return LinkLost(
            f"The connection with {self.peer} is lost: {why}.",
            "Check both hosts and the network between them.",
            {"peer": self.peer},
        )


def why(error: Exception) -> str:
    """What went wrong with a socket or with TLS, as a clause."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not the one that was given to us ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {str(error.reason or error).replace('_', ' ').lower()}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


class _Inward:
    """Of a pump: from the peer to the local socket."""

    def __init__(self, channel: Channel, local: socket.socket) -> None:
        self.ended = False
        self._channel = channel
        self._local = local
        self._buffer = memoryview(bytearray(_CHUNK))
        self._unsent = self._buffer[:0]
        self._is_deaf = False

    def step(self) -> bool:
        """Do what can be done without waiting. Says whether that was anything."""
        if self.ended:
            return False
        if self._unsent:
            return self._hand_over()
        count = self._channel._take(self._buffer)
        if count is None:
            return False
        self._unsent = self._buffer[:count]
        if count == 0:
            self.ended = True
            with contextlib.suppress(OSError):
                self._local.shutdown(socket.SHUT_WR)
        return True

    def waits_for(self) -> list[tuple[int, int]]:
        """What `step` needs, as poll(2) has it."""
        if self.ended:
            return []
        return [(self._local.fileno(), select.POLLOUT) if self._unsent else (self._channel.fileno(), select.POLLIN)]

    def _hand_over(self) -> bool:
        if not self._is_deaf:
            try:
                sent = self._local.send(self._unsent, socket.MSG_DONTWAIT)
                self._unsent = self._unsent[sent:]
                return True
            except BlockingIOError:
                return False
            except OSError:
                # The peer must get rid of the rest, or it would never come to its end.
                self._is_deaf = True
        self._unsent = self._buffer[:0]
        return True


class _Outward:
    """Of a pump: from the local socket to the peer."""

    def __init__(self, channel: Channel, local: socket.socket) -> None:
        self._channel = channel
        self._local = local
        self._buffer = memoryview(bytearray(_CHUNK))
        self._local_ended = False

    @property
    def ended(self) -> bool:
        return self._local_ended and not self._channel._has_unsent()

    def step(self) -> bool:
        """Do what can be done without waiting. Says whether that was anything."""
        if self._channel._has_unsent():
            return self._channel._push()
        if self._local_ended:
            return False
        try:
            count = self._local.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            count = 0
        if count:
            self._channel._encrypt(self._buffer[:count])
        else:
            self._local_ended = True
            self._channel._end_outgoing()
        return True

    def waits_for(self) -> list[tuple[int, int]]:
        """What `step` needs, as poll(2) has it."""
        if self._channel._has_unsent():
            return [(self._channel.fileno(), select.POLLOUT)]
        return [] if self._local_ended else [(self._local.fileno(), select.POLLIN)]


def _prepare(connection: socket.socket) -> None:
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    _set_option(connection, "TCP_NODELAY", 1)
    _notice_silence(connection, _PATIENCE, _KEEPALIVE)


def _notice_silence(connection: socket.socket, seconds: float, keepalive: Mapping[str, int]) -> None:
    # tcp(7): the first is for what was sent and not acknowledged, the second for a connection without traffic.
    _set_option(connection, "TCP_USER_TIMEOUT", int(seconds * 1000))
    for name, value in keepalive.items():
        _set_option(connection, name, value)


def _set_option(connection: socket.socket, name: str, value: int) -> None:
    option = getattr(socket, name, None)
    if option is not None:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
