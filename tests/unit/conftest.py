# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No test may write where the collection keeps things on a real host."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.fleet.criu.tests.unit.redirection import redirect, trust_temporary_folders

# What several tests share is made before any of them begins.
trust_temporary_folders()


@pytest.fixture(autouse=True)
def host(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the host's /run, /var/lib and /var/log."""
    folder = tmp_path_factory.mktemp("host")
    redirect(folder, monkeypatch.setattr)
    return folder
