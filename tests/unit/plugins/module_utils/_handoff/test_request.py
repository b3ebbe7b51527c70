# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._handoff import request as subject
from ansible_collections.fleet.criu.plugins.module_utils._handoff.request import (
    ReceiveRequest,
    SendRequest,
    runtime_folder,
)

SEND = SendRequest("h", "w", 1, 2, "s", "t", "192.0.2.1", 5, "PEM", [{"mountpoint": "/d", "key": "k"}])
RECEIVE = ReceiveRequest("h", "w", "s", "t", "PEM", "/images", "/root", [{"key": "k", "path": "/p"}])


@pytest.mark.parametrize("request_", [SEND, RECEIVE])
def test_what_the_module_writes_the_agent_reads(request_: SendRequest | ReceiveRequest) -> None:
    again = type(request_)(**json.loads(json.dumps(asdict(request_))))
    assert asdict(again) == json.loads(json.dumps(asdict(request_)))


def test_each_side_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "RUN_FOLDER", Path("/run/x"))
    assert runtime_folder("h", "source") == Path("/run/x/h.source")
    assert runtime_folder("h", "target") == Path("/run/x/h.target")
