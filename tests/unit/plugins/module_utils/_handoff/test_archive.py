# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is packed here is a module of the collection that only these tests have."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
import types
import zipfile
from pathlib import Path
from typing import Callable

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff import archive as subject

CODE = "ansible_collections.fleet.criu.plugins.module_utils"
ENTRY = f"{CODE}._handoff.entry_for_a_test"
ENTRY_FILE = f"{ENTRY.replace('.', '/')}.py"
SOURCE = "def main():\n    raise ValueError('é')\n"


class Bench:
    """A host that keeps compiled code, and the folder of an agent with a name that has everything in it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept = folder / "lib" / "code"
        self.folder = folder / "é $HOME %n"
        self.folder.mkdir(mode=0o700)
        self.entry = folder / "entry.py"
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(subject, "CODE_FOLDER", self.kept)
        self.write(SOURCE)

    def write(self, source: str) -> None:
        self.entry.write_text(source, "utf-8")
        spec = importlib.util.spec_from_file_location(ENTRY, self.entry)
        assert spec is not None
        self.monkeypatch.setitem(sys.modules, ENTRY, importlib.util.module_from_spec(spec))

    def archives(self) -> list[Path]:
        return sorted(self.kept.iterdir())

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run Python code that can import from the archive and from nowhere else."""
        lines = f"import sys; sys.path.insert(0, sys.argv[1]); {program}"
        argv = [sys.executable, "-I", "-S", "-c", lines, str(self.folder / "agent.zip"), *arguments]
        return subprocess.run(argv, capture_output=True, check=False, cwd="/")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_the_archive_is_all_that_is_needed(bench: Bench) -> None:
    assert subject.install(bench.folder) == bench.folder / "agent.zip"
    completed = bench.run(f"import {CODE}._handoff.agent as a; print(a.__file__)")
    assert os.fsdecode(completed.stdout).startswith(str(bench.folder / "agent.zip")), completed.stderr
    with zipfile.ZipFile(bench.folder / "agent.zip") as bundle:
        names = bundle.namelist()
        assert bundle.read(ENTRY_FILE).decode("utf-8") == SOURCE
        assert bundle.read("ansible_collections/__init__.py") == b""
    assert f"{CODE.replace('.', '/')}/_handoff/__init__.py" in names
    assert not [name for name in names if "/tests/" in name]


def test_nothing_in_it_is_compiled_again(bench: Bench) -> None:
    subject.install(bench.folder)
    completed = bench.run(f"import {CODE}._handoff.agent as a; print(a.__file__)")
    assert completed.stdout.decode().strip().endswith("_handoff/agent.pyc"), completed.stderr


def test_an_error_in_it_is_shown_with_its_line(bench: Bench) -> None:
    subject.install(bench.folder)
    completed = bench.run(f"import {ENTRY} as e; e.main()")
    assert f'File "{ENTRY_FILE}", line 2, in main'.encode() in completed.stderr


def test_the_archive_is_for_its_owner_alone_and_the_same_each_time(bench: Bench) -> None:
    subject.install(bench.folder)
    first = (bench.folder / "agent.zip").read_bytes()
    subject.install(bench.folder)
    assert (bench.folder / "agent.zip").read_bytes() == first
    assert [path.name for path in bench.folder.iterdir()] == ["agent.zip"]
    for path, mode in ((bench.folder / "agent.zip", 0o600), (bench.kept, 0o700), (bench.archives()[0], 0o600)):
        assert path.stat().st_mode & 0o777 == mode


def test_what_was_compiled_is_used_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    subject.install(bench.folder)
    (kept,) = bench.archives()
    os.utime(kept, (1, 1))
    monkeypatch.setattr("builtins.compile", None)
    subject.install(bench.folder)
    assert bench.archives() == [kept]
    assert kept.stat().st_mtime > time.time() - 60, "it counts as used"


def test_other_code_or_another_python_gets_another_archive(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    subject.install(bench.folder)
    bench.write(SOURCE.replace("é", "è"))
    subject.install(bench.folder)
    assert len(bench.archives()) == 2
    with zipfile.ZipFile(bench.folder / "agent.zip") as bundle:
        assert "è" in bundle.read(ENTRY_FILE).decode("utf-8")
    monkeypatch.setattr(sys, "version", "4.0")
    subject.install(bench.folder)
    assert len(bench.archives()) == 3


def test_what_nobody_has_used_for_long_is_removed(bench: Bench) -> None:
    subject.install(bench.folder)
    (old,) = bench.archives()
    bench.write("")
    subject.install(bench.folder)
    assert old.exists()
    os.utime(old, (1, 1))
    bench.write("x = 1")
    subject.install(bench.folder)
    assert not old.exists()
    assert len(bench.archives()) == 2


def test_code_that_was_brought_once_is_placed_by_its_name(bench: Bench) -> None:
    assert subject.keep("c1")
    assert bench.archives() == [subject.kept_path("c1")]
    assert subject.place("c1", bench.folder) == bench.folder / "agent.zip"
    completed = bench.run(f"import {ENTRY} as e; e.main()")
    assert "ValueError: é" in completed.stderr.decode("utf-8")


def test_code_that_is_here_is_not_brought_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    subject.keep("c1")
    monkeypatch.setattr("builtins.compile", None)
    assert not subject.keep("c1")
    subject.require("c1")


@pytest.mark.parametrize("ask", [subject.require, lambda code: subject.place(code, Path("/nowhere"))])
def test_code_that_is_not_here_is_asked_for(bench: Bench, ask: Callable[[str], object]) -> None:
    subject.keep("c1")
    for code in ("c2", ""):
        with pytest.raises(CriuError, match="not on this host") as caught:
            ask(code)
        assert caught.value.facts == {"code_missing": True}
        assert "handoff_agent" in caught.value.remedy


def test_code_that_another_python_compiled_is_not_here(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    subject.keep("c1")
    monkeypatch.setattr(sys, "version", "4.0")
    with pytest.raises(CriuError):
        subject.require("c1")


def test_no_name_leads_out_of_the_folder(bench: Bench) -> None:
    assert subject.kept_path("../../etc/passwd").parent == bench.kept


def test_code_in_an_archive_can_be_handed_on(bench: Bench, tmp_path: Path) -> None:
    subject.install(bench.folder)
    second = tmp_path / "second"
    second.mkdir()
    program = (
        f"from pathlib import Path; import {ENTRY}, {CODE}._handoff.archive as a; "
        f"from {CODE} import _trusted; _trusted.TOP = sys.argv[4]; "
        "a.CODE_FOLDER = Path(sys.argv[3]); a.install(Path(sys.argv[2]))"
    )
    completed = bench.run(program, str(second), str(bench.kept), str(tmp_path))
    assert completed.returncode == 0, completed.stderr
    with zipfile.ZipFile(second / "agent.zip") as bundle:
        assert bundle.read(ENTRY_FILE).decode("utf-8") == SOURCE


def test_a_module_without_source_is_an_error(bench: Bench) -> None:
    bench.monkeypatch.setitem(sys.modules, f"{CODE}._no_source", types.ModuleType("_no_source"))
    with pytest.raises(CriuError, match=r"The source of .*_no_source cannot be read") as caught:
        subject.install(bench.folder)
    assert caught.value.remedy
    assert list(bench.folder.iterdir()) == []
