# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real certificates and real connections on loopback: who gets in, and what becomes of those who do not."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff import admission
from ansible_collections.fleet.criu.plugins.module_utils._handoff import channel as subject
from ansible_collections.fleet.criu.plugins.module_utils._handoff.admission import Listener, Refused, connect
from ansible_collections.fleet.criu.plugins.module_utils._handoff.certificate import Identity, make_identity
from ansible_collections.fleet.criu.plugins.module_utils._handoff.channel import Channel, LinkLost
from ansible_collections.fleet.criu.plugins.module_utils._handoff.knock import LENGTH, Knocks
from ansible_collections.fleet.criu.plugins.module_utils._handoff.messages import (
    MAXIMUM,
    VERSION,
    Message,
    ProtocolError,
    encode,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.port import PRIVILEGED, open_port
from ansible_collections.fleet.criu.plugins.module_utils._runner import SubprocessRunner

# Seconds for handshake and hello where somebody is late; whatever else is waited for may take long on a busy machine.
LIMIT = 0.3
SLACK = 4.0

MIB = 1024 * 1024
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
WELCOME = {"generation": 3, "criu_version": "4.1.1", "machine": "0f2e", "journal": "5d1f"}


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    folder = tmp_path_factory.mktemp("identities")
    return {name: make_identity(folder / name, name, SubprocessRunner()) for name in ("source", "target", "stranger")}


class Door:
    """A listener, its log, and the ways to its port."""

    def __init__(self, identities: Mapping[str, Identity], address: str = "127.0.0.1", **more: Any) -> None:
        self.identities = identities
        self.address = address
        self.log: list[str] = []
        self.channels: list[Channel] = []
        self.ticket = ""
        settings = {
            "identity": identities["target"],
            "peer_certificate": identities["source"].pem,
            "handoff": "redis",
            "welcome": lambda: WELCOME,
            "log": self.log.append,
            "log_seconds": 0,
            **more,
        }
        self.knocks = Knocks(*(ssl.PEM_cert_to_DER_cert(identities[name].pem) for name in ("source", "target")))
        self.listener = Listener(address, 0, **settings)

    def connect(self, identity: str = "source", peer: str = "target", address: str = "", **fields: Any) -> Message:
        """What the target answers to this hello. Whoever says it knows how the source knocks."""
        channel, answer = connect(
            address or self.address,
            self.listener.port,
            replace(self.identities[identity], pem=self.identities["source"].pem),
            self.identities[peer].pem,
            hello(**fields),
            10,
        )
        self.channels.append(channel)
        return answer

    def enter(self, address: str = "", **fields: Any) -> tuple[Channel, Channel]:
        """The true peer comes in: the channel as the source has it and as the target has it."""
        if not self.ticket:
            self.ticket = self.connect(address=address).fields["ticket"]
            said = hello()
            if fields:
                assert self._accepted() == said
        if fields:
            said = hello(**{"ticket": self.ticket, **fields})
            self.connect(address=address, **said.fields)
        assert self._accepted() == said
        return self.channels[-2], self.channels[-1]

    def _accepted(self) -> Message:
        found = self.listener.accept(10)
        assert found is not None
        self.channels.append(found[1])
        return found[0]

    def raw(self, knocks: bool = True) -> socket.socket:
        """A connection, of one who knows how to knock or of a stranger."""
        connection = socket.create_connection((self.address, self.listener.port), 10)
        if knocks:
            connection.sendall(self.knocks.new())
        return connection

    def speak(self, data: bytes = b"") -> ssl.SSLSocket:
        """The true peer, but it says what it wants."""
        connection = client_context(self.identities["source"]).wrap_socket(self.raw())
        connection.sendall(data)
        return connection

    def logged(self, text: str, count: int = 1) -> bool:
        until = time.monotonic() + SLACK
        while sum(text in line for line in list(self.log)) < count and time.monotonic() < until:
            time.sleep(0.01)
        return sum(text in line for line in self.log) == count

    def close(self) -> None:
        self.listener.close()
        for channel in self.channels:
            channel.close()


@pytest.fixture
def open_door(identities: dict[str, Identity]) -> Iterator[Callable[..., Door]]:
    with contextlib.ExitStack() as stack:

        def open_one(*arguments: Any, **settings: Any) -> Door:
            door = Door(identities, *arguments, **settings)
            stack.callback(door.close)
            return door

        yield open_one


@pytest.fixture
def door(open_door: Callable[..., Door]) -> Iterator[Door]:
    """Whoever was refused in a test: it was logged with an address, no secret was, and the true peer still gets in."""
    door = open_door()
    yield door
    check(door)


@pytest.fixture
def hasty_door(open_door: Callable[..., Door]) -> Iterator[Door]:
    """The same where nobody has long to say hello, until the true peer comes in the end."""
    door = open_door(seconds=LIMIT)
    yield door
    door.listener._seconds = 5
    check(door)


def check(door: Door) -> None:
    door.enter(**({"purpose": "copy", "number": 1000} if door.ticket else {}))
    for line in door.log:
        assert line.startswith("127.0.0.1:")
        assert " was refused: " in line
        assert door.ticket not in line


@pytest.fixture
def pair(open_door: Callable[..., Door]) -> tuple[Channel, Channel]:
    return open_door().enter()


def hello(**fields: Any) -> Message:
    said = {"version": VERSION, "handoff": "redis", "purpose": "control", "ticket": "", "number": 0, "folder": ""}
    return Message("hello", {**said, **fields})


def client_context(identity: Identity | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        context.load_cert_chain(str(identity.certificate), str(identity.key))
    return context


@contextlib.contextmanager
def server(context: ssl.SSLContext) -> Iterator[tuple[int, list[bytes]]]:
    """Somebody who takes one connection and keeps what is said to him."""
    heard: list[bytes] = []

    def serve() -> None:
        connection, _peer = listening.accept()
        with connection, contextlib.suppress(OSError):
            heard.append(b"")
            connection.recv(LENGTH, socket.MSG_WAITALL)
            with context.wrap_socket(connection, server_side=True) as secured:
                heard.append(secured.recv(4096))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1], heard
        finally:
            thread.join()


def ended(connection: socket.socket, within: float = SLACK) -> bool:
    """Whether the target closes the connection within that time."""
    connection.settimeout(within)
    try:
        while connection.recv(65536):
            pass
    except socket.timeout:
        return False
    except OSError:
        pass
    return True


def openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def signed(folder: Path, signer: Identity, name: str) -> Identity:
    """A certificate that is signed by another one."""
    key, request, certificate = folder / f"{name}.key", folder / f"{name}.csr", folder / f"{name}.pem"
    openssl("req", "-new", *NEW_KEY, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
    options = ["-CA", signer.certificate, "-CAkey", signer.key, "-set_serial", "7"]
    openssl("x509", "-req", "-in", request, *options, "-out", certificate)
    return Identity(certificate, key, certificate.read_text())


def authority(folder: Path) -> Identity:
    """A certificate that may sign others, as a careless controller could have given it to us."""
    key, certificate = folder / "ca.key", folder / "ca.pem"
    options = [*NEW_KEY, "-subj", "/CN=ca", "-addext", "keyUsage=keyCertSign,digitalSignature"]
    openssl("req", "-x509", *options, "-keyout", key, "-out", certificate)
    return Identity(certificate, key, certificate.read_text())


# The good way


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_the_true_peer_gets_in_and_both_can_speak(open_door: Callable[..., Door]) -> None:
    door = open_door()
    source, target = door.enter()
    source.send(Message("run"))
    target.send(Message("running", {"pid": 7, "timings": {"restore": 0.5}}))
    assert target.receive(10) == Message("run")
    assert source.receive(10) == Message("running", {"pid": 7, "timings": {"restore": 0.5}})
    assert source.peer == f"127.0.0.1:{door.listener.port}"
    assert target.peer.startswith("127.0.0.1:")
    assert door.log == []


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
@pytest.mark.parametrize(("listens", "reached"), [("::1", "::1"), ("::", "::1"), ("::", "127.0.0.1")])
def test_ipv6_is_as_good(open_door: Callable[..., Door], listens: str, reached: str) -> None:
    door = open_door(listens)
    source, target = door.enter(address=reached)
    source.send(Message("gone"))
    assert target.receive(10) == Message("gone")
    assert target.peer.rpartition(":")[0] == (f"[{reached}]" if ":" in reached else reached)


def test_the_welcome_has_a_new_ticket_and_what_the_target_says_of_itself(open_door: Callable[..., Door]) -> None:
    answers = [open_door().connect().fields for _turn in range(2)]
    for answer in answers:
        assert {**answer, "ticket": ""} == {**WELCOME, "ticket": ""}
        assert len(bytes.fromhex(answer["ticket"])) == 32
    assert answers[0]["ticket"] != answers[1]["ticket"]


def test_other_connections_come_in_with_ticket_and_number(door: Door) -> None:
    for number, purpose in enumerate(("images", "copy", "images")):
        source, target = door.enter(purpose=purpose, number=number, folder="a/b")
        source.send_bytes(b"x")
        view = memoryview(bytearray(9))
        assert target.receive_into(view, 10) == 1
    assert door.log == []


def test_a_certificate_from_the_future_is_accepted(
    tmp_path: Path, identities: dict[str, Identity], open_door: Callable[..., Door]
) -> None:
    (tmp_path / "index").touch()
    (tmp_path / "ca.cnf").write_text(
        f"[ca]\ndefault_ca = d\n[d]\nnew_certs_dir = {tmp_path}\ndatabase = {tmp_path}/index\nrand_serial = yes\n"
        "default_md = sha256\npolicy = p\n[p]\ncommonName = supplied\n"
    )
    key, request, certificate = identities["source"].key, tmp_path / "csr", tmp_path / "pem"
    openssl("req", "-new", "-key", key, "-subj", "/CN=late", "-out", request)
    dates = ["-startdate", "20900101000000Z", "-enddate", "20910101000000Z"]
    configuration = ["-config", tmp_path / "ca.cnf", "-keyfile", key, "-notext"]
    openssl("ca", "-selfsign", "-batch", *configuration, *dates, "-in", request, "-out", certificate)
    late = Identity(certificate, key, certificate.read_text())
    names = {"source": late, "target": late}
    door = open_door(identity=late, peer_certificate=late.pem)
    door.identities = names
    door.enter()


# Who does not get in


def test_a_peer_without_a_certificate(door: Door) -> None:
    with client_context().wrap_socket(door.raw()) as connection:
        connection.sendall(encode(hello()))
        assert ended(connection)
    assert door.logged("peer did not return a certificate")


def test_a_peer_with_another_certificate(door: Door) -> None:
    with pytest.raises(LinkLost, match="unknown ca"):
        door.connect("stranger")
    assert door.logged("its certificate is not the one that was given to us")


def test_a_peer_with_a_certificate_that_the_true_one_has_signed(
    tmp_path: Path, identities: dict[str, Identity], open_door: Callable[..., Door]
) -> None:
    true = authority(tmp_path)
    door = open_door(peer_certificate=true.pem)
    door.identities = {**identities, "false": signed(tmp_path, true, "false"), "source": true}
    with pytest.raises(LinkLost):
        door.connect("false")
    assert door.logged("another certificate")
    door.enter()


def test_a_man_in_the_middle_hears_nothing(identities: dict[str, Identity]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(identities["stranger"].certificate), str(identities["stranger"].key))
    with server(context) as (port, heard):
        started = time.monotonic()
        with pytest.raises(LinkLost, match="its certificate is not the one"):
            connect("127.0.0.1", port, identities["source"], identities["target"].pem, hello(), 10)
        assert time.monotonic() - started < SLACK
    assert heard == [b""]


def test_a_man_in_the_middle_with_a_certificate_that_the_true_one_has_signed_hears_nothing(
    tmp_path: Path, identities: dict[str, Identity]
) -> None:
    true = authority(tmp_path)
    false = signed(tmp_path, true, "false")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(false.certificate), str(false.key))
    with server(context) as (port, heard), pytest.raises(LinkLost, match="another certificate"):
        connect("127.0.0.1", port, identities["source"], true.pem, hello(), 10)
    assert heard == [b""]


def test_an_older_tls(door: Door) -> None:
    context = client_context(door.identities["source"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with door.raw() as connection, pytest.raises(ssl.SSLError):
        context.wrap_socket(connection)
    assert door.logged("unsupported protocol")


def test_there_is_nothing_to_resume_a_session_with(door: Door) -> None:
    with door.speak(encode(hello(handoff="other"))) as connection:
        assert connection.version() == "TLSv1.3"
        assert connection.recv(4096)
        assert connection.session is None or not connection.session.has_ticket


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", encode(hello()), b"SSH-2.0-x\r\n", b"\0" * 100_000])
def test_a_peer_without_tls(door: Door, data: bytes) -> None:
    with door.raw() as connection:
        connection.sendall(data)
        assert ended(connection)
    assert door.logged("TLS: ")


def test_a_second_control_connection(door: Door) -> None:
    door.enter()
    for ticket in ("", door.ticket):
        with pytest.raises(Refused, match="there was a control connection already"):
            door.connect(ticket=ticket, number=1)
    assert door.logged("there was a control connection already", 2)


def test_the_control_connection_is_accepted_once_even_if_two_ask_at_the_same_time(door: Door) -> None:
    results: list[str] = []

    def come() -> None:
        try:
            results.append(door.connect().kind)
        except Refused:
            results.append("refused")

    threads = [threading.Thread(target=come) for _turn in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["refused"] * 7 + ["welcome"]
    assert door._accepted() == hello()
    assert door.listener.accept(0.05) is None
    door.ticket = door.listener._ticket


@pytest.mark.parametrize("purpose", ["images", "copy"])
@pytest.mark.parametrize("ticket", ["", "0" * 64, "\u00e9", "\udc80"])
def test_a_wrong_ticket(door: Door, purpose: str, ticket: str) -> None:
    with pytest.raises(Refused, match="the ticket is wrong"):
        door.connect(purpose=purpose, ticket=ticket)
    door.enter()
    with pytest.raises(Refused, match="the ticket is wrong"):
        door.connect(purpose=purpose, ticket=ticket)
    assert door.logged("the ticket is wrong", 2)


def test_a_number_that_was_used(door: Door) -> None:
    door.enter(purpose="copy", number=5)
    for purpose in ("copy", "images"):
        with pytest.raises(Refused, match="the number 5 was used already"):
            door.connect(purpose=purpose, number=5, ticket=door.ticket)
    assert door.logged("the number 5 was used already", 2)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"handoff": "postgres"}, "the handoff 'postgres' is not the one"),
        ({"handoff": "red\nis"}, r"the handoff 'red\\nis' is not the one"),
        ({"version": 0}, f"version 0 was spoken, and version {VERSION} is understood"),
        ({"version": VERSION + 1}, f"version {VERSION + 1} was spoken, and version {VERSION} is understood"),
    ],
)
def test_another_handoff_or_version(door: Door, said: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        door.connect(**said)
    assert door.logged(why.replace("\\\\", "\\"))


LONG = b'{"kind":"hello","x":"' + b"x" * 4100 + b'"}'


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff\xff\xff\xff", "a message has 4294967295 bytes and may have 4096"),
        (b"\0\x80\0\0", "a message has 8388608 bytes and may have 4096"),
        (len(LONG).to_bytes(4, "big") + LONG, "a message has 4123 bytes and may have 4096"),
        (b"\0\0\0\x08nonsense", "no proper JSON"),
        (b"\0\0\0\0", "no proper JSON"),
        (b"\0\0\0\x02{}", "does not say its kind"),
        (encode(Message("run")), "the first message is run and not hello"),
        (encode(Message("welcome", {"ticket": "", **WELCOME})), "the first message is welcome and not hello"),
    ],
)
def test_a_hello_that_is_none(door: Door, data: bytes, why: str) -> None:
    started = time.monotonic()
    with door.speak(data) as connection:
        assert ended(connection)
    assert door.logged(why)
    assert "in time" not in door.log[0]
    assert time.monotonic() - started < SLACK


def test_whoever_is_refused_is_told_why_and_sees_a_clean_end(door: Door) -> None:
    with door.speak(encode(hello(version=9))) as connection:
        connection.suppress_ragged_eofs = False
        connection.settimeout(10)
        told = connection.recv(4096)
        assert b'"kind":"refused"' in told
        assert b"version 9" in told
        assert connection.recv(4096) == b""


# Those who hold up


def trickle(connection: socket.socket, data: bytes) -> bool:
    """Send a byte now and then; says whether the target has ended it, long before all was said."""
    until = time.monotonic() + SLACK
    connection.settimeout(0.02)
    for place in range(len(data)):
        try:
            connection.send(data[place : place + 1])
            if connection.recv(1) == b"":
                return True
        except (socket.timeout, ssl.SSLWantReadError):
            pass
        except OSError:
            return True
        if time.monotonic() > until:
            return False
    return False


def client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    tls = client_context().wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def test_a_peer_that_says_nothing(hasty_door: Door) -> None:
    with hasty_door.raw() as connection:
        assert ended(connection)
    assert hasty_door.logged("did not answer in time")


def test_a_peer_that_trickles_its_handshake(hasty_door: Door) -> None:
    with hasty_door.raw() as connection:
        assert trickle(connection, client_hello())
    assert hasty_door.logged("did not answer in time")


def test_a_peer_that_shakes_hands_and_says_nothing(hasty_door: Door) -> None:
    with hasty_door.speak() as connection:
        assert ended(connection)
    assert hasty_door.logged("did not answer in time")


def test_a_peer_that_trickles_its_hello(hasty_door: Door) -> None:
    with hasty_door.speak() as connection:
        assert trickle(connection, encode(hello()))
    assert hasty_door.logged("did not answer in time")


def test_handshake_and_hello_have_one_limit_together(open_door: Callable[..., Door]) -> None:
    door = open_door(seconds=1)
    started = time.monotonic()
    with door.raw() as connection:
        time.sleep(0.7)
        with client_context(door.identities["source"]).wrap_socket(connection) as secured:
            assert ended(secured)
    assert 0.9 < time.monotonic() - started < 1.6


def test_what_is_there_after_the_deadline_is_too_late(pair: tuple[Channel, Channel]) -> None:
    source, target = pair
    source.send_bytes(b"x")
    target._wait(select.POLLIN, time.monotonic() + 10)
    with pytest.raises(LinkLost, match="in time"):
        target._wait(select.POLLIN, time.monotonic())


def test_of_those_who_knock_and_say_no_more_the_oldest_goes_for_the_next(open_door: Callable[..., Door]) -> None:
    door = open_door(seconds=60)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(door.raw()) for _turn in range(17)]
        assert ended(idle[0]), "the first had to go for the seventeenth"
        assert not ended(idle[1], 0.05)
        started = time.monotonic()
        door.enter()
        assert time.monotonic() - started < SLACK
        assert ended(idle[1]), "the second had to go for the true peer"
        assert not ended(idle[16], 0.05)
    door.enter(purpose="copy", number=1)


def test_sixteen_connections_are_not_too_many(open_door: Callable[..., Door]) -> None:
    door = open_door(seconds=10)
    with contextlib.ExitStack() as stack:
        for _turn in range(15):
            stack.enter_context(door.raw())
        door.enter()
    assert not any("too many" in line for line in door.log)


# Strangers: those who cannot knock


def test_strangers_never_come_to_tls_and_the_true_one_finds_a_place(open_door: Callable[..., Door]) -> None:
    door = open_door(seconds=60, hall=40)
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(door.raw(knocks=False)) for _turn in range(100)]
        started = time.monotonic()
        door.enter()
        assert time.monotonic() - started < 1
        assert all(ended(connection) for connection in idle[:60])
        assert not ended(idle[99], 0.05)
        assert threading.active_count() == before
        assert len(door.listener._hall) <= 40
    assert all("too many are at the door" in line for line in door.log if "without a knock" not in line)


@pytest.mark.parametrize("data", [client_hello(), b"GET / HTTP/1.1\r\n\r\n" * 4, b"\0" * 48])
def test_a_stranger_who_says_something_else_is_out_at_once(door: Door, data: bytes) -> None:
    with door.raw(knocks=False) as connection:
        connection.sendall(data)
        assert ended(connection)
    assert door.logged("it did not knock as the source does")


def test_a_stranger_with_an_own_certificate_cannot_knock(door: Door) -> None:
    stranger, target = door.identities["stranger"], door.identities["target"]
    with pytest.raises(LinkLost):
        connect("127.0.0.1", door.listener.port, stranger, target.pem, hello(), 0.3)
    assert "it did not knock as the source does" in door.log[0]
    assert not any("certificate" in line for line in door.log)


def test_a_stranger_who_trickles_is_out_in_time(hasty_door: Door) -> None:
    with hasty_door.raw(knocks=False) as connection:
        assert trickle(connection, b"x" * 40)
    assert hasty_door.logged("did not answer in time")


def test_a_knock_opens_once(door: Door) -> None:
    knock = door.knocks.new()
    assert len(knock) == LENGTH
    with door.raw(knocks=False) as first, door.raw(knocks=False) as second:
        first.sendall(knock)
        with client_context(door.identities["source"]).wrap_socket(first):
            second.sendall(knock)
            assert ended(second)
    assert door.logged("it did not knock as the source does")


def test_a_knock_for_another_target_or_with_a_changed_bit_opens_nothing(identities: dict[str, Identity]) -> None:
    source, target, other = (
        ssl.PEM_cert_to_DER_cert(identities[name].pem) for name in ("source", "target", "stranger")
    )
    door = Knocks(source, target)
    assert door.is_known(Knocks(source, target).new())
    assert not door.is_known(Knocks(source, other).new())
    assert not door.is_known(Knocks(other, target).new())
    knock = bytearray(door.new())
    knock[20] ^= 1
    assert not door.is_known(bytes(knock))


def test_whoever_had_to_go_comes_again_at_once(open_door: Callable[..., Door], monkeypatch: pytest.MonkeyPatch) -> None:
    door = open_door()
    turned_out: list[Any] = []

    def greet(self: Listener, stranger: Any) -> None:
        if len(turned_out) < 3:
            turned_out.append(stranger)
            with self._lock:
                self._turn_out([stranger])
                self._unproven.leave(stranger)
        original(self, stranger)

    original = Listener._greet
    monkeypatch.setattr(Listener, "_greet", greet)
    started = time.monotonic()
    door.enter()
    assert len(turned_out) == 3
    assert time.monotonic() - started < 1


def test_one_line_a_second_tells_of_all_who_were_refused(open_door: Callable[..., Door]) -> None:
    door = open_door(log_seconds=0.5)
    for _turn in range(50):
        with door.raw(knocks=False) as connection:
            connection.sendall(b"x" * LENGTH)
            assert ended(connection)
    assert door.logged("(4", 1), "the second line, after half a second, counts the others"
    assert len(door.log) in (2, 3)
    counts = [int(line.partition("(")[2].split()[0]) + 1 if "(" in line else 1 for line in door.log]
    assert sum(counts) == 50


def test_the_port_can_be_closed_before_those_who_came_in_are_asked_for(open_door: Callable[..., Door]) -> None:
    door = open_door()
    door.connect()
    door.connect(purpose="copy", number=1, ticket=door.listener._ticket)
    with door.raw(knocks=False) as idle:
        door.listener.stop()
        assert ended(idle)
    with pytest.raises(ConnectionRefusedError):
        door.raw()
    assert door._accepted() == hello()
    assert door._accepted().fields["number"] == 1
    assert door.listener.accept(0) is None
    door.listener.stop()


FLOOD = """
import resource, socket, sys, time
port, address, end = int(sys.argv[1]), sys.argv[2], time.monotonic() + float(sys.argv[3])
ring, count = [], 0
while time.monotonic() < end:
    connection = socket.socket()
    connection.setblocking(False)
    connection.bind((address, 0))
    try:
        connection.connect(("127.0.0.1", port))
    except BlockingIOError:
        pass
    except OSError:
        continue
    ring.append(connection)
    count += 1
    if len(ring) > 50:
        if count % 2:
            try:
                ring[0].send(b"x" * 100)
            except OSError:
                pass
        ring.pop(0).close()
print(count)
"""


def test_in_a_flood_the_true_one_is_in_within_a_second(open_door: Callable[..., Door]) -> None:
    door = open_door(log_seconds=1.0)
    sources = ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3"]
    argv = [sys.executable, "-S", "-c", FLOOD, str(door.listener.port)]
    flood = [subprocess.Popen([*argv, source, "1.5"], stdout=subprocess.PIPE) for source in sources]
    time.sleep(0.4)
    seconds = []
    for number in range(3):
        started = time.monotonic()
        door.enter(purpose="copy", number=number)
        seconds.append(time.monotonic() - started)
    strangers = sum(int(process.communicate()[0]) for process in flood)
    assert strangers > 500
    # One may be late because this machine is busy otherwise.
    assert sorted(seconds)[1] < 1
    assert len(door.log) < 10
    assert len(door.listener._hall) <= 256


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::", pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no ::1"))]
)
def test_who_comes_from_a_privileged_port_has_a_queue_of_its_own(address: str) -> None:
    to = "::1" if address == "::1" else "127.0.0.1"
    with contextlib.ExitStack() as stack:
        queues = [stack.enter_context(queue) for queue in open_port(address, 0)]
        port = queues[0].getsockname()[1]
        if len(queues) == 1 or os.geteuid() != 0:
            pytest.skip("the kernel has no such filter, or we are not root")

        def queue_of(source: str, is_privileged: bool = False, options: bytes = b"") -> int:
            with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET) as connection:
                if options:
                    connection.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
                for number in random.sample(PRIVILEGED, 200) if is_privileged else [0]:
                    with contextlib.suppress(OSError):  # somebody else has it
                        connection.bind((source, number))
                        break
                connection.connect((to, port))
                (ready, *others), _written, _failed = select.select(queues, [], [], 10)
                assert others == []
                ready.accept()[0].close()
                return queues.index(ready)

        assert [queue_of(to, True) for _turn in range(3)] == [0] * 3
        assert queue_of(to) >= 1
        if to == "127.0.0.1":
            # The salt is random, so not every one of the queues must be among them.
            others_queues = {queue_of(f"127.0.{number}.{number}") for number in range(1, 100)}
            assert 0 not in others_queues
            assert len(others_queues) >= 4
            # Two options that look like a privileged port to one who does not count the header.
            assert queue_of(to, options=b"\1\1\1\0") >= 1
        with pytest.raises(OSError, match="in use"):
            open_port(address, port)


def test_a_port_of_our_own_that_nobody_lets_through_is_not_needed(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    original, tried = socket.create_connection, []

    def create(address: Any, timeout: float, source: Any = None) -> socket.socket:
        tried.append(source)
        if source is not None:
            raise OSError(113, "No route to host")
        return original(address, timeout)

    monkeypatch.setattr(socket, "create_connection", create)
    door.connect()
    assert [source is None for source in tried] == [False, True]
    monkeypatch.undo()
    door.ticket = door.listener._ticket
    assert door._accepted() == hello()


# The target's own faults


def test_what_the_target_cannot_say_of_itself_is_told(open_door: Callable[..., Door]) -> None:
    def fail() -> Mapping[str, Any]:
        raise CriuError("CRIU is gone.", "Install it.")

    door = open_door(welcome=fail)
    with pytest.raises(Refused, match=r"CRIU is gone\."):
        door.connect()
    assert door.logged("CRIU is gone")


def test_no_fault_in_welcome_or_log_ends_the_listener(open_door: Callable[..., Door]) -> None:
    calls: list[str] = []

    def welcome() -> Mapping[str, Any]:
        calls.append("welcome")
        if len(calls) == 1:
            raise KeyError("x")
        return WELCOME

    def log(text: str) -> None:
        calls.append(text)
        raise OSError("no space")

    door = open_door(welcome=welcome, log=log)
    with pytest.raises(LinkLost):
        door.connect()
    with pytest.raises(Refused):
        door.connect()
    door.connect(purpose="copy", ticket=door.listener._ticket)
    assert any("KeyError" in call for call in calls)


def test_a_port_that_is_taken_is_told(open_door: Callable[..., Door], identities: dict[str, Identity]) -> None:
    door = open_door()
    for address, port in (("127.0.0.1", door.listener.port), ("192.0.2.1", 0), ("nonsense", 0), ("127.0.0.1", 70000)):
        with pytest.raises(CriuError, match="cannot be opened") as caught:
            Listener(address, port, identities["target"], identities["source"].pem, "redis", dict, print)
        assert caught.value.remedy


@pytest.mark.parametrize(
    "text", ["", "nonsense", "two", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"]
)
def test_a_peers_certificate_that_is_none_is_told(identities: dict[str, Identity], text: str) -> None:
    pem = identities["source"].pem + identities["stranger"].pem if text == "two" else text
    with pytest.raises(CriuError, match="The peer's certificate is not one certificate"):
        Listener("127.0.0.1", 0, identities["target"], pem, "redis", dict, print)
    with pytest.raises(CriuError, match="The peer's certificate is not one certificate"):
        connect("127.0.0.1", 1, identities["source"], pem, hello(), 1)


def test_closing_ends_all_that_the_listener_has(identities: dict[str, Identity]) -> None:
    before = threading.active_count()
    door = Door(identities, seconds=60)
    door.connect()
    with door.raw() as idle:
        time.sleep(0.05)
        started = time.monotonic()
        door.listener.close()
        door.listener.close()
        assert ended(idle)
        assert time.monotonic() - started < SLACK
        assert threading.active_count() == before
        with pytest.raises(ConnectionRefusedError):
            door.raw()
        with pytest.raises(LinkLost):
            door.channels[0].receive(10)
    assert door.listener.accept(0) is None
    door.close()


# The source's side


def test_a_target_that_is_not_there_is_told_at_once(identities: dict[str, Identity]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(LinkLost, match=f"127.0.0.1:{port} cannot be reached") as caught:
        connect("127.0.0.1", port, identities["source"], identities["target"].pem, hello(), 30)
    assert caught.value.remedy
    assert time.monotonic() - started < SLACK


def test_a_target_that_says_nothing_is_left_in_time(identities: dict[str, Identity]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(LinkLost, match="did not answer in time"):
            connect("127.0.0.1", silent.getsockname()[1], identities["source"], identities["target"].pem, hello(), 0.2)
        assert 0.2 <= time.monotonic() - started < SLACK


@pytest.mark.parametrize(
    ("data", "error", "why"),
    [
        (encode(Message("run")), ProtocolError, "answered hello with run"),
        (b"\0\x80\0\0", ProtocolError, "may have 4096"),
        (encode(Message("refused", {"reason": "not now"})), Refused, r"refused the connection: not now\."),
        (b"", LinkLost, "the peer has ended it"),
    ],
)
def test_an_answer_that_is_no_welcome(
    identities: dict[str, Identity], data: bytes, error: type[CriuError], why: str
) -> None:
    context, _expected = admission._context(True, identities["target"], identities["source"].pem)

    def serve() -> None:
        connection, _peer = listening.accept()
        connection.recv(LENGTH, socket.MSG_WAITALL)
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(4096)
            secured.sendall(data)
            with contextlib.suppress(OSError):
                secured.unwrap()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        port = listening.getsockname()[1]
        with pytest.raises(error, match=why):
            connect("127.0.0.1", port, identities["source"], identities["target"].pem, hello(), 10)
        thread.join()


# A channel


def test_a_cut_without_an_end_is_a_lost_link(pair: tuple[Channel, Channel]) -> None:
    source, target = pair
    source.send_bytes(b"abc")
    source.close()
    view = memoryview(bytearray(3))
    assert target.receive_into(view, 10) == 3
    for _turn in range(2):
        with pytest.raises(LinkLost, match="without the peer's having ended it") as caught:
            target.receive_into(view, 10)
        assert caught.value.remedy
        with pytest.raises(LinkLost):
            target.receive(10)


def test_an_end_is_seen_and_stays_while_the_other_direction_is_open(pair: tuple[Channel, Channel]) -> None:
    source, target = pair
    target.send(Message("bye", {"timings": {}, "put_back": ""}))
    time.sleep(0.05)
    source.send_bytes(b"abc")
    source.finish()
    view = memoryview(bytearray(100))
    assert target.receive_into(view, 10) == 3
    for _turn in range(2):
        assert target.receive_into(view, 10) == 0
    assert target.has_pending()
    with pytest.raises(LinkLost, match="ended"):
        target.receive(10)
    target.send(Message("gone"))
    target.finish()
    assert [source.receive(10).kind for _turn in range(2)] == ["bye", "gone"]
    assert source.receive_into(view, 10) == 0


def test_what_had_come_before_our_end_is_not_lost(pair: tuple[Channel, Channel]) -> None:
    source, target = pair
    data = os.urandom(150_000)
    target.send_bytes(b"x" + data)
    time.sleep(0.1)
    one = memoryview(bytearray(1))
    assert source.receive_into(one, 10) == 1
    source.finish()
    target.send(Message("gone"))
    view, count = memoryview(bytearray(len(data))), 0
    while count < len(data):
        got = source.receive_into(view[count:], 10)
        assert got
        count += got
    assert bytes(view) == data
    assert source.receive(10) == Message("gone")


def test_a_receive_that_was_too_early_goes_on_where_it_was(pair: tuple[Channel, Channel]) -> None:
    source, target = pair
    data = encode(Message("abort", {"reason": "x" * 50_000}))
    started = time.monotonic()
    for part in (data[:2], data[2:30_000]):
        source.send_bytes(part)
        with pytest.raises(LinkLost, match="in time"):
            target.receive(0.1)
    assert 0.2 <= time.monotonic() - started < SLACK
    source.send_bytes(data[30_000:])
    assert encode(target.receive(10)) == data


def test_messages_and_bytes_may_follow_each_other(pair: tuple[Channel, Channel]) -> None:
    source, target = pair
    source.send_bytes(encode(Message("freezing")) + b"bytes" + encode(Message("gone")))
    assert target.receive(10) == Message("freezing")
    assert target.has_pending()
    view = memoryview(bytearray(5))
    assert target.receive_into(view, 10) == 5
    assert bytes(view) == b"bytes"
    assert target.receive(10) == Message("gone")
    assert not target.has_pending()


def test_a_length_in_a_header_takes_no_memory(pair: tuple[Channel, Channel]) -> None:
    source, target = pair
    source.send_bytes(MAXIMUM.to_bytes(4, "big") + b"x" * 1000)
    tracemalloc.start()
    try:
        with pytest.raises(LinkLost, match="in time"):
            target.receive(0.1)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    source.send_bytes(b"x" * 100)


def test_a_longer_message_than_any_is_refused_by_its_header(pair: tuple[Channel, Channel]) -> None:
    source, target = pair
    source.send_bytes((MAXIMUM + 1).to_bytes(4, "big"))
    with pytest.raises(ProtocolError, match="may have 8388608"):
        target.receive(10)


def test_big_data_comes_out_as_it_went_in_many_records_at_a_time(pair: tuple[Channel, Channel]) -> None:
    source, target = pair
    data = os.urandom(5 * MIB + 12345)
    thread = threading.Thread(target=lambda: (source.send_bytes(memoryview(data)), source.finish()))
    thread.start()
    view, digest, most = memoryview(bytearray(MIB)), hashlib.sha256(), 0
    time.sleep(0.1)
    while True:
        count = target.receive_into(view, 10)
        if count == 0:
            break
        most = max(most, count)
        digest.update(view[:count])
    thread.join()
    assert digest.digest() == hashlib.sha256(data).digest()
    assert most >= 4 * 16384


def test_what_is_there_is_given_without_waiting_for_more(pair: tuple[Channel, Channel]) -> None:
    source, target = pair
    source.send_bytes(b"abc")
    started = time.monotonic()
    assert target.receive_into(memoryview(bytearray(100)), 10) == 3
    assert time.monotonic() - started < SLACK
    with pytest.raises(LinkLost, match="in time"):
        target.receive_into(memoryview(bytearray(100)), 0.1)


def test_a_peer_that_takes_nothing_is_left_in_time(
    pair: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_PATIENCE", 0.2)
    with pytest.raises(LinkLost, match="in time"):
        pair[0].send_bytes(bytes(64 * MIB))


class Counting:
    """A socket that counts what is given to it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.sent: list[int] = []

    def send(self, data: memoryview) -> int:
        self.sent.append(len(data))
        return self.connection.send(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


def test_a_message_is_one_write(pair: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = pair
    counting = Counting(source._socket)
    monkeypatch.setattr(source, "_socket", counting)
    source.send(Message("abort", {"reason": "x" * 40_000}))
    assert target.receive(10).kind == "abort"
    assert len(counting.sent) == 1


def test_hello_goes_with_the_end_of_the_handshake(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    counters: list[Counting] = []
    make = Channel.__init__

    def count(self: Channel, connection: socket.socket, *arguments: Any) -> None:
        make(self, connection, *arguments)
        if arguments[1] is False:
            counters.append(Counting(connection))
            self._socket = counters[-1]  # type: ignore[assignment]

    monkeypatch.setattr(Channel, "__init__", count)
    door.enter()
    assert len(counters[0].sent) == 2


def test_the_connection_is_quick_and_notices_a_dead_peer(pair: tuple[Channel, Channel]) -> None:
    for channel in pair:
        assert channel._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert channel._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert channel._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        assert channel._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
        assert not channel._socket.get_inheritable()


def test_a_channel_of_messages_notices_it_sooner(pair: tuple[Channel, Channel]) -> None:
    source, target = pair
    source.watch_closely()
    assert source._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
    probes = [(socket.TCP_KEEPIDLE, 4), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 3)]
    assert [source._socket.getsockopt(socket.IPPROTO_TCP, name) for name, _value in probes] == [4, 2, 3]
    assert target._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


def test_it_can_be_polled(pair: tuple[Channel, Channel]) -> None:
    source, target = pair
    assert target.fileno() >= 0
    assert not target.has_pending()
    source.send(Message("run"))
    select.select([target], [], [], 10)
    assert target.receive(0) == Message("run")


# Pump


@pytest.fixture
def pumped(pair: tuple[Channel, Channel]) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two far ends of sockets that a channel connects; both pumps must come to their end by themselves."""
    failures: list[BaseException] = []

    def pump(channel: Channel, local: int | socket.socket) -> None:
        try:
            channel.pump(local, 10)
        except BaseException as error:
            failures.append(error)

    left, left_inner = socket.socketpair()
    right, right_inner = socket.socketpair()
    # One as a socket, one as a descriptor.
    jobs: list[tuple[Channel, int | socket.socket]] = [(pair[0], left_inner), (pair[1], right_inner.fileno())]
    threads = [threading.Thread(target=pump, args=job) for job in jobs]
    with left, left_inner, right, right_inner:
        left.settimeout(10)
        right.settimeout(10)
        for thread in threads:
            thread.start()
        yield left, right
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        assert failures == []
        assert left_inner.fileno() >= 0


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while True:
        part = connection.recv(MIB)
        if not part:
            return b"".join(parts)
        parts.append(part)


def write_all(connection: socket.socket, data: bytes) -> threading.Thread:
    def write() -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def test_big_data_both_ways_at_once(pumped: tuple[socket.socket, socket.socket]) -> None:
    left, right = pumped
    there, back = os.urandom(10 * MIB), os.urandom(10 * MIB + 1)
    writers = [write_all(left, there), write_all(right, back)]
    # Nobody reads for a while: all buffers on the way are full in both directions.
    time.sleep(0.2)
    assert hashlib.sha256(read_all(left)).digest() == hashlib.sha256(back).digest()
    assert hashlib.sha256(read_all(right)).digest() == hashlib.sha256(there).digest()
    for writer in writers:
        writer.join()


def test_one_direction_goes_on_while_the_other_is_full(pumped: tuple[socket.socket, socket.socket]) -> None:
    left, right = pumped
    writer = write_all(left, bytes(10 * MIB))
    time.sleep(0.1)
    for _turn in range(20):
        right.sendall(b"x" * 1000)
        assert left.recv(1000, socket.MSG_WAITALL) == b"x" * 1000
    right.shutdown(socket.SHUT_WR)
    assert read_all(left) == b""
    assert len(read_all(right)) == 10 * MIB
    writer.join()


def test_an_end_is_passed_on_and_an_answer_still_comes(pumped: tuple[socket.socket, socket.socket]) -> None:
    left, right = pumped
    left.sendall(b"question")
    left.shutdown(socket.SHUT_WR)
    assert read_all(right) == b"question"
    right.sendall(b"answer")
    assert left.recv(6, socket.MSG_WAITALL) == b"answer"
    right.shutdown(socket.SHUT_WR)
    assert read_all(left) == b""


def test_a_local_end_that_dies_is_passed_on_and_holds_up_nobody(pumped: tuple[socket.socket, socket.socket]) -> None:
    left, right = pumped
    right.close()
    writer = write_all(left, bytes(10 * MIB))
    assert read_all(left) == b""
    writer.join()


def test_a_pump_gives_what_had_come_already(pair: tuple[Channel, Channel]) -> None:
    source, target = pair
    source.send_bytes(encode(Message("run")) + b"more")
    source.finish()
    assert target.receive(10) == Message("run")
    near, far = socket.socketpair()
    with near, far:
        far.shutdown(socket.SHUT_WR)
        target.pump(near, 10)
        assert read_all(far) == b"more"


def test_a_pump_does_not_wait_for_ever(pair: tuple[Channel, Channel]) -> None:
    near, far = socket.socketpair()
    with near, far:
        before = time.process_time()
        with pytest.raises(LinkLost, match="in time"):
            pair[0].pump(near, 0.3)
        assert time.process_time() - before < 0.2, "it waits and does not spin"


def test_a_pump_notices_a_cut(pair: tuple[Channel, Channel]) -> None:
    near, far = socket.socketpair()
    with near, far:
        pair[1].close()
        with pytest.raises(LinkLost, match="without the peer's having ended it"):
            pair[0].pump(near, 10)
