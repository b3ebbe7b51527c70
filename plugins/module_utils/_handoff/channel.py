# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One TLS connection between source and target, and the listener that lets nobody but the true peer in.

Both ends show a certificate and accept exactly the one that they were given by the controller. Neither host names nor
dates are checked: the certificate itself is what is known of the peer, and the clocks of two hosts may differ.

TLS runs in memory (ssl.SSLObject) over a socket that never blocks. So one deadline holds for a handshake and whatever
follows it, each direction can end by itself, and many records are read and written at a time.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import queue
import secrets
import select
import socket
import ssl
import threading
import time
from typing import Any, Callable, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.certificate import Identity
from ansible_collections.fleet.criu.plugins.module_utils._handoff.messages import (
    HEADER,
    MAXIMUM,
    MAXIMUM_HELLO,
    VERSION,
    Message,
    ProtocolError,
    body_length,
    decode,
    encode,
)

# X509_V_FLAG_NO_CHECK_TIME of <openssl/x509_vfy.h>; Python has no name for it.
_NO_CHECK_TIME = 0x200000

# As many bytes as are handed to TLS or the kernel at a time; twice as fast as one record (16 KiB) at a time.
_CHUNK = 256 * 1024
_RECORD = 16 * 1024

# Seconds without any progress after which a link is lost, also if the peer's kernel still answers.
_PATIENCE = 30.0
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
# The same where nothing but messages goes: whoever is there acknowledges them at once, however slow its disks are.
_CLOSE_PATIENCE = 10.0
_CLOSE_KEEPALIVE = {"TCP_KEEPIDLE": 4, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}

_PAUSE = 0.1
_BACKLOG = 64
_LONGEST_REASON = 1000
_TOO_LATE = "the peer did not answer in time"


class LinkLost(CriuError):
    """The connection broke, could not be made, or the peer said nothing in time."""


class Refused(CriuError):
    """The target heard us and does not let us in."""


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
        self._has_heard = False

    def send(self, message: Message) -> None:
        """Send a message. Raises LinkLost and ProtocolError."""
        self._send(message, None)

    def receive(self, timeout: float) -> Message:
        """The next message, waited for at most `timeout` seconds.

        Raises LinkLost, also at a clean end, and ProtocolError.
        """
        return self._receive(time.monotonic() + timeout, MAXIMUM)

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

    def close(self) -> None:
        """Drop the connection. Without `finish` before it, the peer will take it for a broken one."""
        self._socket.close()

    # Messages

    def _send(self, message: Message, deadline: float | None) -> None:
        self._encrypt(memoryview(encode(message)))
        self._flush(deadline)

    def _receive(self, deadline: float, maximum: int) -> Message:
        self._gather(HEADER, deadline)
        size = HEADER + body_length(bytes(self._plain[:HEADER]), maximum)
        self._gather(size, deadline)
        body = bytes(self._plain[HEADER:size])
        del self._plain[:size]
        return decode(body)

    def _gather(self, size: int, deadline: float) -> None:
        while len(self._plain) < size:
            data = self._read_record(size - len(self._plain))
            self._plain += data or b""
            if self._peer_ended:
                raise self._lost("the peer has ended it")
            if data is None and not self._fill():
                self._wait(select.POLLIN, deadline)

    # TLS

    def _handshake(self, expected: bytes, deadline: float) -> None:
        """Agree with the peer and compare its certificate with the expected one (DER).

        What we have to say last is not sent yet, so that the first message can go with it.
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
                raise self._lost(_why(error)) from error
        if self._tls.getpeercert(binary_form=True) != expected:
            raise self._lost("the peer has another certificate than the one that was given to us")

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
            raise self._lost(_why(error)) from error
        self._peer_ended = count == 0
        return count

    def _encrypt(self, view: memoryview) -> None:
        try:
            while view:
                view = view[self._tls.write(view) :]
        except ssl.SSLError as error:
            raise self._lost(_why(error)) from error

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
            raise self._lost(_why(error)) from error

    # The socket

    def _fill(self) -> bool:
        """Take what the socket has, without waiting. Says whether there was something."""
        try:
            count = self._socket.recv_into(self._buffer)
        except BlockingIOError:
            return False
        except OSError as error:
            raise self._lost(_why(error)) from error
        if count == 0:
            raise self._lost("it was cut without the peer's having ended it")
        self._has_heard = True
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
            raise self._lost(_why(error)) from error
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
            raise self._lost(_TOO_LATE)

    def _lost(self, why: str) -> LinkLost:
        return LinkLost(
            f"The connection with {self.peer} is lost: {why}.",
            "Check both hosts and the network between them.",
            {"peer": self.peer},
        )


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


def connect(
    address: str, port: int, identity: Identity, peer_certificate: str, hello: Message, timeout: float
) -> tuple[Channel, Message]:
    """Connect to a Listener and say hello. Gives the channel and the target's welcome.

    `peer_certificate` is PEM text, `timeout` in seconds for all of it. Raises Refused if the target does not let us in,
    LinkLost if it cannot be reached or is not the one with that certificate, ProtocolError.
    """
    context, expected = _context(False, identity, peer_certificate)
    deadline = time.monotonic() + timeout
    channel = _secured(address, port, context, expected, deadline)
    try:
        channel._send(hello, deadline)
        answer = channel._receive(deadline, MAXIMUM_HELLO)
        if answer.kind == "refused":
            raise Refused(
                f"The target {channel.peer} refused the connection: {answer.fields['reason']}.",
                "See the target's log; make the target ready again and start the handoff again.",
                {"peer": channel.peer},
            )
        if answer.kind != "welcome":
            raise ProtocolError(f"the target answered hello with {answer.kind}")
    except BaseException:
        channel.close()
        raise
    return channel, answer


class Listener:
    """The target's open port. It takes connections until `close`, in threads of its own.

    `address` is numeric, IPv4 or IPv6 ("::" is both); port 0 is any free one, `port` says which. `welcome` gives the
    fields of the welcome but the ticket; it and `log` are called in other threads, `log` in one at a time. A peer has
    `seconds` for handshake and hello together, and only `places` peers can be at that at a time.

    The control connection is accepted once and never again. Its welcome holds a ticket, which every other connection
    must show with a number that was not used before. Raises CriuError if the port cannot be opened.
    """

    def __init__(
        self,
        address: str,
        port: int,
        identity: Identity,
        peer_certificate: str,
        handoff: str,
        welcome: Callable[[], Mapping[str, Any]],
        log: Callable[[str], None],
        seconds: float = 5.0,
        places: int = 16,
    ) -> None:
        self._context, self._expected = _context(True, identity, peer_certificate)
        self._handoff = handoff
        self._welcome = welcome
        self._write_log = log
        self._seconds = seconds
        self._places = places
        self._ticket = secrets.token_hex(32)
        self._has_control = False
        self._numbers: set[int] = set()
        self._accepted: queue.Queue[tuple[Message, Channel]] = queue.Queue()
        self._greeting: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()
        self._log_lock = threading.Lock()
        self._is_closed = False
        self._socket = _listening(address, port)
        self.port = int(self._socket.getsockname()[1])
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._accept_all, name="handoff listener", daemon=True)
        self._thread.start()

    def accept(self, timeout: float) -> tuple[Message, Channel] | None:
        """The hello and the channel of the next peer that was let in, or None after `timeout` seconds."""
        try:
            return self._accepted.get(timeout=timeout)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Take no more connections, and drop those that nobody has asked for by `accept`."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            for connection in self._greeting.values():
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._wake.close()
        self._thread.join()
        for thread in list(self._greeting):
            thread.join()
        self._woken.close()
        self._socket.close()
        while True:
            try:
                self._accepted.get_nowait()[1].close()
            except queue.Empty:
                return

    def _accept_all(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while self._woken.fileno() not in [descriptor for descriptor, _event in poll.poll()]:
            try:
                connection, address = self._socket.accept()
            except BlockingIOError:
                continue
            except OSError as error:
                # Mostly too many open files; trying again at once would only keep a processor busy.
                self._log(f"a connection could not be taken: {_why(error)}")
                select.select([self._woken], [], [], _PAUSE)
                continue
            self._begin(connection, _text(address))

    def _begin(self, connection: socket.socket, peer: str) -> None:
        deadline = time.monotonic() + self._seconds
        thread = threading.Thread(target=self._greet, args=(connection, peer, deadline), name=peer, daemon=True)
        with self._lock:
            has_place = len(self._greeting) < self._places and not self._is_closed
            if has_place:
                self._greeting[thread] = connection
        if not has_place:
            connection.close()
            self._log(f"{peer} was refused: too many are at the door")
            return
        try:
            thread.start()
        except RuntimeError as error:
            self._leave(thread)
            connection.close()
            self._log(f"{peer} was refused: {error}")

    def _greet(self, connection: socket.socket, peer: str, deadline: float) -> None:
        try:
            channel = Channel(connection, self._context, True, peer)
            channel._handshake(self._expected, deadline)
            hello = self._hear(channel, deadline)
        except Exception as error:  # whatever it is, nobody else may be kept out by it
            connection.close()
            self._log(f"{peer} was refused: {_reason(error)}")
        else:
            self._hand_over(hello, channel)
        finally:
            self._leave(threading.current_thread())

    def _hand_over(self, hello: Message, channel: Channel) -> None:
        with self._lock:
            if self._is_closed:
                channel.close()
            else:
                self._accepted.put((hello, channel))

    def _leave(self, thread: threading.Thread) -> None:
        with self._lock:
            del self._greeting[thread]

    def _hear(self, channel: Channel, deadline: float) -> Message:
        """The peer's hello, answered with a welcome; raises what is wrong with it, after the peer was told."""
        try:
            hello = channel._receive(deadline, MAXIMUM_HELLO)
            self._judge(hello)
            answer = Message("welcome", {**self._welcome(), "ticket": self._ticket})
        except LinkLost:
            raise
        except CriuError as error:
            with contextlib.suppress(LinkLost):
                channel._send(Message("refused", {"reason": _reason(error)[:_LONGEST_REASON]}), deadline)
                channel.finish()
            raise
        channel._send(answer, deadline)
        return hello

    def _judge(self, hello: Message) -> None:
        if hello.kind != "hello":
            raise ProtocolError(f"the first message is {hello.kind} and not hello")
        said = hello.fields
        if said["version"] != VERSION:
            raise ProtocolError(f"version {said['version']} was spoken, and version {VERSION} is understood here")
        if said["handoff"] != self._handoff:
            raise ProtocolError(f"the handoff {said['handoff'][:80]!a} is not the one that is awaited here")
        with self._lock:
            if said["purpose"] == "control":
                if self._has_control:
                    raise ProtocolError("there was a control connection already")
                self._has_control = True
                return
            if not hmac.compare_digest(said["ticket"].encode("utf-8", "surrogatepass"), self._ticket.encode("ascii")):
                raise ProtocolError("the ticket is wrong")
            if said["number"] in self._numbers:
                raise ProtocolError(f"the number {said['number']} was used already")
            self._numbers.add(said["number"])

    def _log(self, text: str) -> None:
        # A full disk must not keep the true peer out.
        with self._log_lock, contextlib.suppress(Exception):
            self._write_log(text)


def _secured(address: str, port: int, context: ssl.SSLContext, expected: bytes, deadline: float) -> Channel:
    """A connection to the one with the expected certificate, to whom nothing was said yet.

    Tried again until the deadline while the target closes the connection at once: all its places are taken then.
    """
    while True:
        try:
            connection = socket.create_connection((address, port), max(0.001, deadline - time.monotonic()))
        except (OSError, OverflowError) as error:
            raise LinkLost(
                f"The target {_text((address, port))} cannot be reached: {_why(error)}.",
                "Check the address, that the port is open in the target's firewall, and that the target is ready.",
                {"peer": _text((address, port))},
            ) from error
        channel = Channel(connection, context, False, _text((address, port)))
        try:
            channel._handshake(expected, deadline)
            return channel
        except BaseException as error:
            channel.close()
            closed_at_once = isinstance(error, LinkLost) and not channel._has_heard
            if not closed_at_once or time.monotonic() + _PAUSE > deadline:
                raise
            time.sleep(_PAUSE)


def _context(server_side: bool, identity: Identity, peer_certificate: str) -> tuple[ssl.SSLContext, bytes]:
    """What TLS needs to accept that one peer, and the peer's certificate as DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= _NO_CHECK_TIME
    if server_side:
        context.num_tickets = 0
    try:
        if peer_certificate.count("-----BEGIN ") > 1:
            raise ValueError("there are several")
        expected = ssl.PEM_cert_to_DER_cert(peer_certificate.strip())
        context.load_verify_locations(cadata=expected)
    except (ValueError, ssl.SSLError) as error:
        raise CriuError(
            f"The peer's certificate is not one certificate: {error}.",
            "Give the certificate that the other host has made.",
        ) from error
    try:
        context.load_cert_chain(str(identity.certificate), str(identity.key), password="")
    except OSError as error:
        raise CriuError(
            f"Our own certificate {identity.certificate} cannot be used: {_why(error)}.", "Start the handoff again."
        ) from error
    return context, expected


def _listening(address: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _name, place = socket.getaddrinfo(
            address, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )[0]
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
            opened.bind((place[0], port, *place[2:]))
            opened.listen(_BACKLOG)
            opened.setblocking(False)
        except BaseException:
            opened.close()
            raise
    except (OSError, OverflowError) as error:
        raise CriuError(
            f"The port {_text((address, port))} cannot be opened: {_why(error)}.",
            "Give an address that this host has, and a port that is free.",
            {"address": address, "port": port},
        ) from error
    return opened


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


def _text(address: tuple[Any, ...]) -> str:
    host = str(address[0])
    if host.startswith("::ffff:"):
        host = host[len("::ffff:") :]
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


def _reason(error: Exception) -> str:
    """What went wrong, as a clause."""
    if isinstance(error, ProtocolError):
        return error.why
    return error.message.rstrip(".") if isinstance(error, CriuError) else f"{type(error).__name__}: {error}"


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not the one that was given to us ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {str(error.reason or error).replace('_', ' ').lower()}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
