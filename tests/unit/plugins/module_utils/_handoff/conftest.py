# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._handoff.certificate import Identity, make_identity
from ansible_collections.fleet.criu.plugins.module_utils._runner import SubprocessRunner
from ansible_collections.fleet.criu.tests.unit.plugins.module_utils._handoff.pair import Pair


@pytest.fixture(scope="session")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    """The key and certificate of both ends; making them takes longer than a handoff."""
    folder = tmp_path_factory.mktemp("ends")
    return {side: make_identity(folder / side, side, SubprocessRunner()) for side in ("source", "target")}


@pytest.fixture
def pair(ends: dict[str, Identity]) -> Iterator[Pair]:
    # A test's own folder can be too long for the address of a socket (unix(7)).
    with tempfile.TemporaryDirectory(prefix="pair.") as folder:
        made = Pair(Path(folder), ends)
        yield made
        made.kill()
