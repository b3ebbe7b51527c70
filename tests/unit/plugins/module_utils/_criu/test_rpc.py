# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_wire import Message
from ansible_collections.fleet.criu.plugins.module_utils._criu.rpc import (
    IMAGES_DESCRIPTOR,
    Response,
    parse_response,
    restore_request,
    stage_answer,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet

MAP = [
    {"key": "data", "path": "/mnt/fast/data"},
    {"key": "disk", "path": "/dev/loop7", "device": "7:7"},
    {"key": "long", "path": f"/{'x' * 300}"},
]


def asked(root: str | None = "/srv/roots/redis", **options: Any) -> Message:
    """The options of the request, as CRIU reads them."""
    request = restore_request(root, MAP, Options(**options))
    assert request is not None
    whole = Message(request, Path("request"), 0)
    assert whole.number(1, "type") == 2
    found = whole.message(2, "opts")
    assert found is not None
    return found


def texts(message: Message, field: int) -> list[str]:
    return [value.decode() for value in message._fields.get(field, []) if isinstance(value, bytes)]


def test_a_restore_is_asked_for_with_all_that_the_command_line_would_say() -> None:
    request = asked()
    assert request.number(1, "images_dir_fd") == IMAGES_DESCRIPTOR
    assert request.number(9, "log_level") == 2
    assert request.text(10, "log_file") == "restore.log"
    assert request.flag(12, "notify_scripts")
    assert request.text(13, "root") == "/srv/roots/redis"
    assert texts(request, 37) == ["mnt[data]:/mnt/fast/data", "dev[disk]:/dev/loop7", f"mnt[long]:/{'x' * 300}"]


def test_without_a_root_none_is_given() -> None:
    assert asked(root=None).optional_text(13, "root") is None


@pytest.mark.parametrize(
    ("option", "field"),
    [
        ("ext_unix_sk", 4),
        ("tcp_established", 5),
        ("shell_job", 7),
        ("file_locks", 8),
        ("tcp_close", 52),
        ("mntns_compat_mode", 65),
    ],
)
def test_each_option_has_its_field(option: str, field: int) -> None:
    assert asked(**{option: True}).flag(field, option)
    assert field not in asked()._fields


def test_file_systems_are_enabled_by_name() -> None:
    assert texts(asked(enable_fs=("fuse", "overlay")), 32) == ["fuse", "overlay"]


@pytest.mark.parametrize(
    ("mode", "number"), [("ignore", 0), ("none", 1), ("props", 2), ("soft", 3), ("full", 4), ("strict", 5)]
)
def test_cgroups_are_managed_as_told(mode: str, number: int) -> None:
    request = asked(manage_cgroups=mode)
    assert request.flag(24, "manage_cgroups")
    assert request.number(34, "manage_cgroups_mode") == number
    assert 24 not in asked()._fields


@pytest.mark.parametrize("options", [{"extra_args": ("-v4",)}, {"external_auto": True}, {"manage_cgroups": "new"}])
def test_what_cannot_be_asked_for_in_this_way_is_left_to_the_command_line(options: dict[str, Any]) -> None:
    assert restore_request("/", MAP, Options(**options)) is None


def test_the_answer_at_a_stage_is_yes_or_no() -> None:
    yes, no = (Message(stage_answer(go_on), Path("answer"), 0) for go_on in (True, False))
    assert yes.number(1, "type") == no.number(1, "type") == 6
    assert yes.flag(3, "notify_success")
    assert not no.flag(3, "notify_success")


@pytest.mark.parametrize(
    ("data", "response"),
    [
        (b"\x08\x06\x10\x01\x2a\x11\x0a\x0cpost-restore\x10\xc8\x01", Response("post-restore", 200, True, "")),
        (b"\x08\x06\x10\x01\x2a\x0c\x0a\x0apre-resume", Response("pre-resume", 0, True, "")),
        (b"\x08\x02\x10\x01\x22\x03\x08\xc8\x01", Response(None, 0, True, "")),
        (b"\x08\x02\x10\x00\x4a\x03Bad", Response(None, 0, False, "Bad")),
        (b"\x08\x02\x10\x01\x98\x06\x01", Response(None, 0, True, "")),
    ],
)
def test_what_criu_says_is_a_stage_or_the_end(data: bytes, response: Response) -> None:
    assert parse_response(data) == response


@pytest.mark.parametrize("data", [b"", b"\x10\x01", b"\x08", b"\x08\x06\x10\x01\x2a\x00", b"\xff" * 20])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(BadImageSet):
        parse_response(data)
