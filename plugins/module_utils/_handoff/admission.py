# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is let in: `connect` at the source, and at the target a `Listener` that takes nobody but the true peer.

Both ends show a certificate and accept exactly the one that they were given by the controller. Neither host names nor
dates are checked: the certificate itself is what is known of the peer, and the clocks of two hosts may differ.

The port is open to everybody. Whoever comes stands in a hall (hall.py) until it has knocked (knock.py); strangers get
no further, cost neither a thread nor TLS, and when the hall is full the one who has waited longest goes. No option of
the kernel for connections without data (TCP_DEFER_ACCEPT) is used: it would keep them where nobody can send them away.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import queue
import random
import secrets
import select
import selectors
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.certificate import Identity
from ansible_collections.fleet.criu.plugins.module_utils._handoff.channel import Channel, LinkLost, why
from ansible_collections.fleet.criu.plugins.module_utils._handoff.hall import Hall, Refusals, neighbourhood
from ansible_collections.fleet.criu.plugins.module_utils._handoff.knock import LENGTH, Knocks
from ansible_collections.fleet.criu.plugins.module_utils._handoff.messages import (
    MAXIMUM_HELLO,
    VERSION,
    Message,
    ProtocolError,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.port import PRIVILEGED, open_port

# X509_V_FLAG_NO_CHECK_TIME of <openssl/x509_vfy.h>; Python has no name for it.
_NO_CHECK_TIME = 0x200000

_PAUSE = 0.1
_LONGEST_REASON = 1000

_AT_ONCE = 64
_RESET = struct.pack("ii", 1, 0)

# Seconds of the first attempt to get in; each one after it has twice as long.
_FIRST_ATTEMPT = 0.5
_SHORT_PAUSE = 0.02
_PRIVILEGED_TRIES = 8


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
    knocks = Knocks(ssl.PEM_cert_to_DER_cert(identity.pem), expected)
    deadline = time.monotonic() + timeout
    attempt = 0
    while True:
        channel = None
        # The last but not the only chance of a privileged port: there may be a firewall that lets none through.
        is_privileged = attempt % 2 == 0
        until = min(deadline, time.monotonic() + _FIRST_ATTEMPT * 2 ** (attempt // 2))
        try:
            channel = _knocked(address, port, context, knocks, until, is_privileged)
            channel.handshake(expected, min(deadline, time.monotonic() + _FIRST_ATTEMPT * 2 ** (attempt // 2)))
            return channel, _greeted(channel, hello, deadline)
        except BaseException as error:
            if channel is not None:
                channel.close()
            if not _may_come_again(error, channel, is_privileged) or _is_over(deadline - _SHORT_PAUSE):
                raise
        time.sleep(_SHORT_PAUSE)
        attempt += 1


@dataclass(frozen=True, eq=False)
class _Stranger:
    """A connection of which nothing is proved; `heard` is what it has said before TLS."""

    connection: socket.socket
    peer: str
    neighbourhood: bytes
    deadline: float
    heard: bytearray


class Listener:
    """The target's open port. It takes connections until `stop`, in threads of its own.

    `address` is numeric, IPv4 or IPv6 ("::" is both); port 0 is any free one, `port` says which. `welcome` gives the
    fields of the welcome but the ticket; it and `log` are called in other threads, `log` in one at a time, and of those
    who are refused at most every `log_seconds`. A peer has `seconds` for knock, handshake and hello together. `hall`
    strangers can be there at a time, and `places` of those who have knocked.

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
        hall: int = 256,
        log_seconds: float = 1.0,
    ) -> None:
        self._context, self._expected = _context(True, identity, peer_certificate)
        self._knocks = Knocks(self._expected, ssl.PEM_cert_to_DER_cert(identity.pem))
        self._handoff = handoff
        self._welcome = welcome
        self._write_log = log
        self._seconds = seconds
        self._places = places
        self._ticket = secrets.token_hex(32)
        self._has_control = False
        self._numbers: set[int] = set()
        self._accepted: queue.Queue[tuple[Message, Channel]] = queue.Queue()
        self._hall: Hall[_Stranger] = Hall(hall)
        # Who has knocked, as long as it has not shown its certificate: from then on nobody takes its place.
        self._unproven: Hall[_Stranger] = Hall(places)
        self._greeting: dict[threading.Thread, _Stranger] = {}
        self._refusals = Refusals(self._log, log_seconds)
        self._lock = threading.Lock()
        self._is_stopped = False
        self._is_closed = False
        self._sockets = _opened(address, port)
        self.port = int(self._sockets[0].getsockname()[1])
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._work, name="handoff listener", daemon=True)
        self._thread.start()

    def accept(self, timeout: float) -> tuple[Message, Channel] | None:
        """The hello and the channel of the next peer that was let in, or None after `timeout` seconds."""
        try:
            return self._accepted.get(timeout=timeout)
        except queue.Empty:
            return None

    def stop(self) -> None:
        """Close the port. Those who were let in by then can still be had by `accept`. Harmless if it is closed."""
        with self._lock:
            if self._is_stopped:
                return
            self._is_stopped = True
            self._turn_out(self._unproven.all())
        self._wake.close()
        self._thread.join()
        for thread in list(self._greeting):
            thread.join()
        self._woken.close()
        self._refusals.finish()

    def close(self) -> None:
        """Take no more connections, and drop those that nobody has asked for by `accept`."""
        with self._lock:
            self._is_closed = True
            self._turn_out(list(self._greeting.values()))
        self.stop()
        while True:
            try:
                self._accepted.get_nowait()[1].close()
            except queue.Empty:
                return

    # The hall, in one thread.

    def _work(self) -> None:
        with self._selector as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            for listening in self._sockets:
                selector.register(listening, selectors.EVENT_READ)
            while not self._is_stopped:
                for key, _events in selector.select(self._seconds_of_rest()):
                    if isinstance(key.data, _Stranger):
                        self._hear_knock(key.data)
                    elif key.fileobj in self._sockets:
                        self._take_in(key.fileobj)
                for stranger in self._hall.late(time.monotonic()):
                    self._dismiss(stranger, "it did not answer in time")
                self._refusals.tell(time.monotonic())
            for stranger in self._hall.all():
                self._dismiss(stranger)
            for listening in self._sockets:
                listening.close()

    def _seconds_of_rest(self) -> float | None:
        times = [time for time in (self._hall.next_late(), self._refusals.next_due()) if time is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _take_in(self, listening: Any) -> None:
        for _turn in range(_AT_ONCE):
            try:
                connection, address = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._cannot_take(error)
                return
            connection.setblocking(False)
            deadline = time.monotonic() + self._seconds
            stranger = _Stranger(connection, _text(address), neighbourhood(address), deadline, bytearray())
            leaves = self._hall.enter(stranger, stranger.neighbourhood, deadline)
            if leaves is not None:
                self._turn_away(leaves, "too many are at the door")
            self._selector.register(connection, selectors.EVENT_READ, stranger)
            self._hear_knock(stranger)

    def _cannot_take(self, error: OSError) -> None:
        # Mostly too many open files; trying again at once would only keep a processor busy.
        self._refusals.note(f"a connection could not be taken: {why(error)}", time.monotonic())
        longest = next(iter(self._hall.all()), None)
        if longest is not None:
            self._dismiss(longest, "too many are at the door")
        else:
            select.select([self._woken], [], [], _PAUSE)

    def _hear_knock(self, stranger: _Stranger) -> None:
        if stranger not in self._hall:
            return  # it had to go while we were on our way to it
        try:
            heard = stranger.connection.recv(LENGTH - len(stranger.heard))
        except BlockingIOError:
            return
        except OSError as error:
            self._dismiss(stranger, why(error))
            return
        if not heard:
            self._dismiss(stranger, "it ended without a knock")
            return
        stranger.heard.extend(heard)
        if len(stranger.heard) < LENGTH:
            return
        if not self._knocks.is_known(bytes(stranger.heard)):
            self._dismiss(stranger, "it did not knock as the source does")
            return
        self._hall.leave(stranger)
        self._selector.unregister(stranger.connection)
        self._begin(stranger)

    def _dismiss(self, stranger: _Stranger, reason: str = "") -> None:
        self._hall.leave(stranger)
        self._turn_away(stranger, reason)

    def _turn_away(self, stranger: _Stranger, reason: str) -> None:
        self._selector.unregister(stranger.connection)
        # Nothing of it is to be kept by the kernel either.
        with contextlib.suppress(OSError):
            stranger.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        stranger.connection.close()
        if reason:
            self._refuse(stranger.peer, reason)

    # Those who have knocked, each in a thread.

    def _begin(self, stranger: _Stranger) -> None:
        thread = threading.Thread(target=self._greet, args=(stranger,), name=stranger.peer, daemon=True)
        with self._lock:
            has_place = len(self._greeting) < 2 * self._places and not self._is_stopped
            if has_place:
                self._greeting[thread] = stranger
                leaves = self._unproven.enter(stranger, stranger.neighbourhood, stranger.deadline)
                self._turn_out([leaves] if leaves is not None else [])
        if not has_place:
            stranger.connection.close()
            self._refuse(stranger.peer, "too many are at the door")
            return
        try:
            thread.start()
        except RuntimeError as error:
            self._leave(thread)
            stranger.connection.close()
            self._refuse(stranger.peer, str(error))

    def _greet(self, stranger: _Stranger) -> None:
        channel = None
        try:
            channel = Channel(stranger.connection, self._context, True, stranger.peer)
            channel.handshake(self._expected, stranger.deadline)
            with self._lock:
                stays = self._unproven.leave(stranger)
            if not stays:
                raise LinkLost("Too many are at the door.")
            hello = self._hear(channel, stranger.deadline)
        except Exception as error:  # whatever it is, nobody else may be kept out by it
            if channel is not None:
                # Who is cut off without an end comes again, because it had to go for somebody else.
                channel.end_at_once()
            stranger.connection.close()
            self._refuse(stranger.peer, _reason(error))
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
            self._unproven.leave(self._greeting.pop(thread))

    def _turn_out(self, strangers: list[_Stranger]) -> None:
        # Its thread notices, and leaves.
        for stranger in strangers:
            with contextlib.suppress(OSError):
                stranger.connection.shutdown(socket.SHUT_RDWR)

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

    def _refuse(self, peer: str, reason: str) -> None:
        self._refusals.note(f"{peer} was refused: {reason}", time.monotonic())

    def _log(self, text: str) -> None:
        # A full disk must not keep the true peer out.
        with contextlib.suppress(Exception):
            self._write_log(text)


class _Unreachable(LinkLost):
    """There is nobody, or no way."""


def _may_come_again(error: BaseException, channel: Channel | None, is_privileged: bool) -> bool:
    # Who had to go for somebody else is cut off, or hears nothing if the kernel had no place. Who is refused is told.
    if isinstance(error, _Unreachable):
        return is_privileged
    return isinstance(error, LinkLost) and (channel is None or channel.was_cut or channel.is_late)


def _knocked(
    address: str, port: int, context: ssl.SSLContext, knocks: Knocks, until: float, is_privileged: bool
) -> Channel:
    """A connection on which we have knocked. Raises LinkLost if there is none before that time."""
    peer = _text((address, port))
    try:
        connection = _connection(address, port, max(0.001, until - time.monotonic()), is_privileged)
        # A new connection takes as much without waiting.
        connection.sendall(knocks.new())
    except (OSError, OverflowError) as error:
        kind = LinkLost if isinstance(error, (socket.timeout, ConnectionResetError)) else _Unreachable
        raise kind(
            f"The target {peer} cannot be reached: {why(error)}.",
            "Check the address, that the port is open in the target's firewall, and that the target is ready.",
            {"peer": peer},
        ) from error
    return Channel(connection, context, False, peer)


def _connection(address: str, port: int, timeout: float, is_privileged: bool) -> socket.socket:
    if is_privileged:
        for number in random.sample(PRIVILEGED, _PRIVILEGED_TRIES):
            try:
                return socket.create_connection((address, port), timeout, ("", number))
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
                    raise
    return socket.create_connection((address, port), timeout)


def _greeted(channel: Channel, hello: Message, deadline: float) -> Message:
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
    return answer


def _is_over(deadline: float) -> bool:
    return time.monotonic() >= deadline


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


def _opened(address: str, port: int) -> list[socket.socket]:
    try:
        return open_port(address, port)
    except (OSError, OverflowError) as error:
        raise CriuError(
            f"The port {_text((address, port))} cannot be opened: {why(error)}.",
            "Give an address that this host has, and a port that is free.",
            {"address": address, "port": port},
        ) from error


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
