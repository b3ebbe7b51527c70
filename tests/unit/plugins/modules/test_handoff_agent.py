# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff import start
from ansible_collections.fleet.criu.plugins.modules import handoff_agent as subject


def test_both_agents_can_be_started_from_what_was_brought(host: Path) -> None:
    first = subject.bring({"code": "c1"}, False)
    assert first["changed"]
    assert subject.bring({"code": "c1"}, False) == {**first, "changed": False}
    program = (
        "import importlib, sys; sys.path.insert(0, sys.argv[1]); "
        "print([callable(importlib.import_module(name).main) for name in sys.argv[2:]])"
    )
    argv = [sys.executable, "-I", "-S", "-c", program, first["path"], start.RECEIVER, start.SENDER]
    completed = subprocess.run(argv, capture_output=True, check=False, cwd="/", encoding="utf-8")
    assert completed.stdout.strip() == "[True, True]", completed.stderr


def test_check_mode_brings_nothing(host: Path) -> None:
    result = subject.bring({"code": "c1"}, True)
    assert result["changed"]
    assert not Path(result["path"]).exists()


def test_code_without_a_name_is_refused(host: Path) -> None:
    with pytest.raises(CriuError, match="has no name"):
        subject.bring({"code": ""}, False)
