# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What source and target say to each other, byte by byte: a length of 4 bytes, big-endian, then one JSON object.

`KINDS` is the whole protocol: a message that does not fit its row exactly is refused, so that no other place has to
check what came over the network.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.compression import METHODS

VERSION = 2

HEADER = 4
MAXIMUM = 8 * 1024 * 1024
MAXIMUM_HELLO = 4096

PURPOSES = ("control", "images", "copy")

# Python needs quadratic time for the digits of a number; no honest number has more than 64 bits.
_MOST_DIGITS = 20


class ProtocolError(CriuError):
    """What the peer said is no message of this protocol, or not one that belongs here. `why` is a clause."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(
            f"The two ends of the handoff do not understand each other: {why}.",
            "Check that both hosts have the same version of the collection, then start the handoff again.",
        )


@dataclass(frozen=True)
class Message:
    """One message: its kind and the fields that `KINDS` has for it."""

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)


def encode(message: Message) -> bytes:
    """The bytes of a message, header included. Raises ProtocolError if the peer would refuse it."""
    _check(message.kind, message.fields)
    try:
        # ASCII alone: a path that is no valid UTF-8 is text with surrogates, which only an escape can carry.
        text = json.dumps({"kind": message.kind, **message.fields}, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"a {message.kind} message cannot be put into JSON ({error})") from error
    body = text.encode("ascii")
    _check_length(len(body), MAXIMUM_HELLO if message.kind == "hello" else MAXIMUM)
    return len(body).to_bytes(HEADER, "big") + body


def body_length(header: bytes, maximum: int = MAXIMUM) -> int:
    """How many bytes follow a header. Raises ProtocolError if they are more than `maximum`."""
    length = int.from_bytes(header, "big")
    _check_length(length, maximum)
    return length


def decode(body: bytes) -> Message:
    """The message in the bytes that follow a header. Raises ProtocolError."""
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_short,
        )
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a message is no proper JSON ({_cause(error)})") from None
    if not isinstance(value, dict):
        raise ProtocolError("a message is no JSON object")
    kind = value.pop("kind", None)
    if not isinstance(kind, str):
        raise ProtocolError("a message does not say its kind")
    _check(kind, value)
    return Message(kind, value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_wholes(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_whole, value))


def _is_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_text, value))


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_differing(value: Any) -> bool:
    checks = {"is_known": _is_flag, "names": _is_texts, "is_complete": _is_flag, "rsync": _is_wholes}
    return isinstance(value, dict) and set(value) == set(checks) and all(checks[name](value[name]) for name in value)


def _is_compression(value: Any) -> bool:
    return isinstance(value, str) and value in METHODS


def _is_purpose(value: Any) -> bool:
    return isinstance(value, str) and value in PURPOSES


def _is_checksums(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(entry, (list, tuple))
        and len(entry) in (1, 2)
        and all(map(_is_whole, entry))
        and entry[-1] < 1 << (32 if len(entry) == 2 else 63)
        for entry in value.values()
    )


def _is_times(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_whole(entry) and entry < 1 << 63 for entry in value.values())


_HELLO = {
    "version": _is_whole,
    "handoff": _is_text,
    "purpose": _is_purpose,
    "ticket": _is_text,
    "number": _is_whole,
    "folder": _is_text,
}

KINDS: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    # Source to target.
    "hello": _HELLO,
    # `engine` is what the engine of the workload has to know at the target, nothing if it has none.
    "prepare": {"memory": _is_wholes, "manifest": _is_object, "compression": _is_compression, "engine": _is_object},
    # What the engine reads is there: it may begin.
    "engine": {},
    # Before a folder, or a file in one, is copied: `copy` is the one after which both have noted how the files look,
    # `generation` that of the workload's contents here, 0 if it is not known.
    "compare": {"folder": _is_text, "file_name": _is_text, "copy": _is_text, "generation": _is_whole},
    # The copies over the connections of these numbers have ended well here, or the other end must say why not.
    "copied": {"connections": _is_wholes},
    # Note how the files look now. `copy` is the name for what is copied in this handoff; no other has it.
    "note": {"copy": _is_text},
    "freezing": {},
    # `connections` are those of the last copies, which have ended well here.
    "complete": {"checksums": _is_checksums, "folder_times": _is_times, "connections": _is_wholes},
    "run": {},
    "abort": {"reason": _is_text},
    "gone": {},
    # Target to source.
    # `machine` and `journal` say whose word the source takes in the end (journal.py).
    "welcome": {
        "ticket": _is_text,
        "generation": _is_whole,
        "criu_version": _is_text,
        "machine": _is_text,
        "journal": _is_text,
    },
    "refused": {"reason": _is_text},
    "prepared": {},
    # To `compare`: see `same_files.Differing`.
    "differing": {"files": _is_differing},
    "ready": {"pid": _is_whole, "start_time": _is_whole, "timings": _is_object},
    "running": {"pid": _is_whole, "timings": _is_object},
    "failed": {"reason": _is_text, "remedy": _is_text, "facts": _is_object},
    # Both. `put_back` has a line for each thing that CRIU had done to the host and is undone.
    "bye": {"timings": _is_object, "put_back": _is_text},
}


def _check(kind: str, fields: Mapping[str, Any]) -> None:
    if kind not in KINDS:
        raise ProtocolError(f"there is no message of the kind {_shown(kind)}")
    row = KINDS[kind]
    for name in fields:
        if name not in row:
            raise ProtocolError(f"a {kind} message has no field {_shown(name)}")
    for name, fits in row.items():
        if name not in fields:
            raise ProtocolError(f"a {kind} message lacks its field {name}")
        # The value may be a secret: it is not shown.
        if not fits(fields[name]):
            raise ProtocolError(f"the field {name} of a {kind} message has a value that does not belong there")


def _check_length(length: int, maximum: int) -> None:
    if length > maximum:
        raise ProtocolError(f"a message has {length} bytes and may have {maximum}")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name comes twice")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _short(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError("a number is too large")
    return int(digits)


def _cause(error: Exception) -> str:
    # An error in decoding holds the bytes themselves.
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _shown(text: str) -> str:
    return ascii(text[:40])
