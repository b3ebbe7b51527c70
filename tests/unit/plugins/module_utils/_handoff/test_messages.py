# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._handoff.messages import (
    HEADER,
    KINDS,
    MAXIMUM,
    MAXIMUM_HELLO,
    VERSION,
    Message,
    ProtocolError,
    body_length,
    decode,
    encode,
)

HELLO = {"version": 1, "handoff": "redis", "purpose": "control", "ticket": "", "number": 0, "folder": ""}

DIFFERING = {"is_known": True, "names": ["a\udcff"], "is_complete": False, "rsync": [3, 2, 7]}

GOOD = [
    Message("hello", HELLO),
    Message(
        "welcome", {"ticket": "ab", "generation": 1, "criu_version": "4.1.1", "machine": "0f2e", "journal": "5d1f"}
    ),
    Message("refused", {"reason": "no"}),
    Message(
        "prepare", {"memory": [1 << 40, 0], "manifest": {"files": ["a"]}, "compression": "zstd", "engine": {"a": 1}}
    ),
    Message("engine"),
    Message("prepared"),
    Message("freezing"),
    Message(
        "complete",
        {
            "checksums": {"core-1.img": [96, (1 << 32) - 1], "pages-1.img": [1 << 40]},
            "folder_times": {"data": 1 << 60},
            "connections": [3, 7],
        },
    ),
    Message("compare", {"folder": "k1", "file_name": "", "copy": "ab/k1/", "generation": 4}),
    Message("differing", {"files": DIFFERING}),
    Message("copied", {"connections": [1, 2]}),
    Message("note", {"copy": "ab"}),
    Message("ready", {"pid": 7, "start_time": 1, "timings": {"restore": 0.25}}),
    Message("run"),
    Message("running", {"pid": 7, "timings": {}}),
    Message("failed", {"reason": "no", "remedy": "do", "facts": {"rc": -1}}),
    Message("abort", {"reason": "no"}),
    Message("gone"),
    Message("bye", {"timings": {}, "put_back": "nsdelegate"}),
]


def body(kind: str, **fields: Any) -> bytes:
    return json.dumps({"kind": kind, **fields}).encode()


def test_the_version_and_the_limits_are_what_peers_agreed_on() -> None:
    assert (VERSION, HEADER, MAXIMUM, MAXIMUM_HELLO) == (2, 4, 8 * 1024 * 1024, 4096)


def test_every_kind_is_tried_here() -> None:
    assert {message.kind for message in GOOD} == set(KINDS)


@pytest.mark.parametrize("message", GOOD, ids=lambda message: message.kind)
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    data = encode(message)
    assert body_length(data[:HEADER]) == len(data) - HEADER
    assert decode(data[HEADER:]) == message


def test_the_bytes_are_length_and_compact_json() -> None:
    assert encode(Message("abort", {"reason": "\u00e9"})) == b"\0\0\0\x22" + b'{"kind":"abort","reason":"\\u00e9"}'


def test_text_that_is_no_utf_8_survives() -> None:
    message = Message("abort", {"reason": "/srv/a\udcff"})
    assert decode(encode(message)[HEADER:]) == message


@pytest.mark.parametrize("message", [one for one in GOOD if one.fields], ids=lambda message: message.kind)
def test_a_missing_field_is_refused_on_both_ends(message: Message) -> None:
    for name in message.fields:
        rest = {key: value for key, value in message.fields.items() if key != name}
        with pytest.raises(ProtocolError, match=f"lacks its field {name}"):
            decode(body(message.kind, **rest))
        with pytest.raises(ProtocolError, match=f"lacks its field {name}"):
            encode(Message(message.kind, rest))


@pytest.mark.parametrize("message", GOOD, ids=lambda message: message.kind)
def test_a_surplus_field_is_refused_on_both_ends(message: Message) -> None:
    with pytest.raises(ProtocolError, match="no field 'more'"):
        decode(body(message.kind, **message.fields, more=1))
    with pytest.raises(ProtocolError, match="no field 'more'"):
        encode(Message(message.kind, {**message.fields, "more": 1}))


@pytest.mark.parametrize("wrong", [True, None, 1.5, ["x"], -1, 1 << 63], ids=str)
@pytest.mark.parametrize("message", [one for one in GOOD if one.fields], ids=lambda message: message.kind)
def test_a_field_of_another_type_is_refused_on_both_ends(message: Message, wrong: Any) -> None:
    for name in message.fields:
        fields = {**message.fields, name: wrong}
        with pytest.raises(ProtocolError, match=f"the field {name} of a {message.kind} message"):
            decode(body(message.kind, **fields))
        with pytest.raises(ProtocolError, match=f"the field {name} of a {message.kind} message"):
            encode(Message(message.kind, fields))


@pytest.mark.parametrize(
    ("kind", "name", "wrong"),
    [
        ("hello", "version", "1"),
        ("hello", "handoff", {}),
        ("hello", "purpose", "shell"),
        ("ready", "timings", "none"),
        ("prepare", "manifest", "none"),
        ("prepare", "memory", [1, -1]),
        ("prepare", "memory", ["1"]),
        ("prepare", "compression", "gzip"),
        ("prepare", "engine", "podman"),
        *(("complete", "connections", wrong) for wrong in ([-1], ["1"], None, 1)),
        *(("differing", "files", {**DIFFERING, "names": wrong}) for wrong in ([1], "a", None, [None])),
        *(("differing", "files", {**DIFFERING, "rsync": wrong}) for wrong in (["3"], 3, [-1])),
        *(("differing", "files", wrong) for wrong in ({**DIFFERING, "is_known": 1}, {**DIFFERING, "more": 1}, {})),
        *(("complete", "folder_times", wrong) for wrong in ({"a": -1}, {"a": 1 << 63}, {"a": 1.0}, [1], None)),
        *(
            ("complete", "checksums", {"a": wrong})
            for wrong in ([], [1 << 63], [1, 2, 3], [True, 1], [1, 1.0], [-1, 1], [1, 1 << 32], {"size": 1}, None, "ab")
        ),
    ],
)
def test_a_wrong_value_is_refused(kind: str, name: str, wrong: Any) -> None:
    fields = next(message.fields for message in GOOD if message.kind == kind)
    decode(body(kind, **fields))
    with pytest.raises(ProtocolError, match=f"the field {name} "):
        decode(body(kind, **{**fields, name: wrong}))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no proper JSON"),
        (b"nonsense", "no proper JSON"),
        (b'{"kind":"run"} ,', "no proper JSON"),
        (b'{"kind":"run"', "no proper JSON"),
        (b"\xff\xfe", "not UTF-8"),
        ('{"kind":"run"}'.encode("utf-16"), "no proper JSON|not UTF-8"),
        (b'\xef\xbb\xbf{"kind":"run"}', "no proper JSON"),
        (b"[" * 100_000, "no proper JSON"),
        (b"[]", "no JSON object"),
        (b'"run"', "no JSON object"),
        (b"null", "no JSON object"),
        (b"{}", "does not say its kind"),
        (b'{"kind":1}', "does not say its kind"),
        (b'{"kind":["run"]}', "does not say its kind"),
        (b'{"kind":"rum"}', "no message of the kind 'rum'"),
        (b'{"kind":"run","kind":"gone"}', "a name comes twice"),
        (b'{"kind":"bye","timings":{"a":1,"a":2}}', "a name comes twice"),
        (b'{"kind":"bye","timings":{"a":NaN}}', "NaN is no number"),
        (b'{"kind":"bye","timings":{"a":Infinity}}', "Infinity is no number"),
        (b'{"kind":"bye","timings":{"a":-Infinity}}', "-Infinity is no number"),
        (b'{"kind":"bye","timings":{"a":1e999}}', "too large"),
        (b'{"kind":"bye","timings":{"a":' + b"9" * 100_000 + b"}}", "too large"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why) as caught:
        decode(data)
    assert caught.value.remedy
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x"])
def test_what_json_does_not_have_is_not_sent(value: Any) -> None:
    with pytest.raises(ProtocolError, match="cannot be put into JSON"):
        encode(Message("bye", {"timings": {"a": value}, "put_back": ""}))


def test_an_error_shows_neither_a_value_nor_more_than_a_bit_of_a_name() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(body("hello", **{**HELLO, "ticket": ["secret"]}))
    assert "secret" not in str(caught.value)
    with pytest.raises(ProtocolError) as caught:
        decode(body("x\n" * 1000))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_lengths_up_to_the_limit_and_no_more() -> None:
    assert body_length(b"\0\0\x10\0", MAXIMUM_HELLO) == 4096
    with pytest.raises(ProtocolError, match="4097 bytes and may have 4096"):
        body_length(b"\0\0\x10\1", MAXIMUM_HELLO)
    assert body_length(b"\0\x80\0\0") == MAXIMUM
    with pytest.raises(ProtocolError):
        body_length(b"\xff\xff\xff\xff")


def test_what_the_peer_would_refuse_as_too_long_is_not_sent() -> None:
    empty = len(encode(Message("hello", HELLO))) - HEADER
    encode(Message("hello", {**HELLO, "folder": "x" * (MAXIMUM_HELLO - empty)}))
    with pytest.raises(ProtocolError, match="may have 4096"):
        encode(Message("hello", {**HELLO, "folder": "x" * (MAXIMUM_HELLO - empty + 1)}))
    encode(Message("abort", {"reason": "x" * MAXIMUM_HELLO}))
    with pytest.raises(ProtocolError, match="may have 8388608"):
        encode(Message("abort", {"reason": "x" * MAXIMUM}))
