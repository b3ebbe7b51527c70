# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is let in: `connect` at the source, and at the target a `Listener` that takes nobody but the true peer.

Both ends show a certificate and accept exactly the one that they were given by the controller. Neither host names nor
dates are checked: the certificate itself is what is known of the peer, and the clocks of two hosts may differ.
"""

from __future__ import annotations

import contextlib
import hmac
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
from ansible_collections.fleet.criu.plugins.module_utils._handoff.channel import Channel, LinkLost, why
from ansible_collections.fleet.criu.plugins.module_utils._handoff.messages import (
    MAXIMUM_HELLO,
    VERSION,
    Message,
    ProtocolError,
)

# X509_V_FLAG_NO_CHECK_TIME of <openssl/x509_vfy.h>; Python has no name for it.
_NO_CHECK_TIME = 0x200000

_PAUSE = 0.1
_BACKLOG = 64
_LONGEST_REASON = 1000


class Refused(CriuError):
    """The target heard us and does not let us in."""


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
        channel.send_until(hello, deadline)
        answer = channel.receive_until(deadline, MAXIMUM_HELLO)
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
                self._log(f"a connection could not be taken: {why(error)}")
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
            channel.handshake(self._expected, deadline)
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
            hello = channel.receive_until(deadline, MAXIMUM_HELLO)
            self._judge(hello)
            answer = Message("welcome", {**self._welcome(), "ticket": self._ticket})
        except LinkLost:
            raise
        except CriuError as error:
            with contextlib.suppress(LinkLost):
                channel.send_until(Message("refused", {"reason": _reason(error)[:_LONGEST_REASON]}), deadline)
                channel.finish()
            raise
        channel.send_until(answer, deadline)
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
                f"The target {_text((address, port))} cannot be reached: {why(error)}.",
                "Check the address, that the port is open in the target's firewall, and that the target is ready.",
                {"peer": _text((address, port))},
            ) from error
        channel = Channel(connection, context, False, _text((address, port)))
        try:
            channel.handshake(expected, deadline)
            return channel
        except BaseException as error:
            channel.close()
            closed_at_once = isinstance(error, LinkLost) and not channel.has_heard
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
            f"Our own certificate {identity.certificate} cannot be used: {why(error)}.", "Start the handoff again."
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
            f"The port {_text((address, port))} cannot be opened: {why(error)}.",
            "Give an address that this host has, and a port that is free.",
            {"address": address, "port": port},
        ) from error
    return opened


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
