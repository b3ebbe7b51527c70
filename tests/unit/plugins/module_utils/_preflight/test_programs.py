# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._preflight.programs import PACKAGES, installed, needed


def test_programs_are_looked_for_in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed() == dict.fromkeys(("openssl", "rsync", "zstd", "lz4"), False)
    (tmp_path / "rsync").touch(0o755)
    (tmp_path / "zstd").touch(0o644)
    assert [name for name, there in installed().items() if there] == ["rsync"]


@pytest.mark.parametrize(
    ("copied", "compression", "programs"),
    [
        ([], "none", ["openssl"]),
        (["/data", "/log"], "none", ["openssl", "rsync"]),
        ([], "zstd", ["openssl", "zstd"]),
        (["/data"], "lz4", ["openssl", "rsync", "lz4"]),
    ],
)
def test_what_is_needed_depends_on_the_move(copied: list[str], compression: str, programs: list[str]) -> None:
    found = needed(copied, compression)
    assert list(found) == programs
    assert set(found) <= set(PACKAGES)
    assert all(mountpoint in found["rsync"] for mountpoint in copied)
