# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu import room as subject
from ansible_collections.fleet.criu.plugins.module_utils._criu.room import Room


@pytest.mark.parametrize(
    ("available", "wanted", "pieces"), [(100 << 20, 100 << 20, 6), (100 << 20, 101 << 20, 0), (100 << 20, 0, 0)]
)
def test_room_is_made_of_what_is_available(
    monkeypatch: pytest.MonkeyPatch, available: int, wanted: int, pieces: int
) -> None:
    monkeypatch.setattr(subject, "_available_bytes", lambda: available)
    monkeypatch.setattr(subject, "_set_killed_first", lambda value: value)
    room, held = Room(wanted), threading.Event()
    thread = threading.Thread(target=room.hold, args=[held.set])
    thread.start()
    assert held.wait(10)
    assert len(room.pieces) == pieces
    room.give_back()
    thread.join(10)
    assert room.pieces == []


def test_no_more_room_is_made_once_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_available_bytes", lambda: 1 << 40)
    monkeypatch.setattr(subject, "_set_killed_first", lambda value: value)
    held = []
    room = Room(1 << 40)
    room.give_back()
    room.hold(lambda: held.append(len(room.pieces)))
    assert held == [0]
