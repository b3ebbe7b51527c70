# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRIU's remote procedure calls, as far as a restore needs them: what is asked and what is answered, in bytes.

The messages and their fields are those of CRIU's images/rpc.proto, the encoding is protobuf's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import RESTORE_LOG, Options
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_wire import Message

# The descriptor of the images folder, in the process that speaks with CRIU.
IMAGES_DESCRIPTOR = 9

_RESTORE, _NOTIFY = 2, 6
_CGROUP_MODES = {"ignore": 0, "none": 1, "props": 2, "soft": 3, "full": 4, "strict": 5}
_VARINT, _COUNTED = 0, 2


@dataclass(frozen=True)
class Response:
    """What CRIU says: that it has come to a stage (`stage`, and `pid` of the workload's init), or how it ended."""

    stage: str | None
    pid: int
    is_success: bool
    message: str


def restore_request(root: str | None, restore_map: Sequence[Mapping[str, Any]], options: Options) -> bytes | None:
    """The request for what `command.restore_command` would do; None if it cannot be asked for in this way."""
    if options.extra_args or options.external_auto or options.manage_cgroups not in {None, *_CGROUP_MODES}:
        return None
    fields = [
        _number(1, IMAGES_DESCRIPTOR),
        _number(9, 2),
        _text(10, RESTORE_LOG),
        _number(12, 1),
        *([_text(13, root)] if root is not None else []),
        *(
            _text(37, f"{'dev' if entry.get('device') else 'mnt'}[{entry['key']}]:{entry['path']}")
            for entry in restore_map
        ),
        *(_text(32, name) for name in options.enable_fs),
    ]
    for number, is_wanted in (
        (4, options.ext_unix_sk),
        (5, options.tcp_established),
        (7, options.shell_job),
        (8, options.file_locks),
        (52, options.tcp_close),
        (65, options.mntns_compat_mode),
    ):
        if is_wanted:
            fields.append(_number(number, 1))
    if options.manage_cgroups is not None:
        fields += [_number(24, 1), _number(34, _CGROUP_MODES[options.manage_cgroups])]
    return _number(1, _RESTORE) + _counted(2, b"".join(fields))


def stage_answer(go_on: bool) -> bytes:
    """What CRIU waits for at each stage."""
    return _number(1, _NOTIFY) + _number(3, int(go_on))


def parse_response(data: bytes) -> Response:
    """What CRIU has said. Raises BadImageSet if it is none of its messages."""
    message = Message(data, Path("rpc"), 0)
    notification = message.message(5, "notify")
    said = message.optional_text(9, "cr_errmsg") or ""
    if message.number(1, "type") == _NOTIFY and notification is not None:
        pid = notification.optional_number(2, "pid") or 0
        return Response(notification.text(1, "script"), pid, True, said)
    return Response(None, 0, message.flag(2, "success"), said)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _counted(field, value.encode("utf-8", "surrogateescape"))


def _counted(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _COUNTED) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
