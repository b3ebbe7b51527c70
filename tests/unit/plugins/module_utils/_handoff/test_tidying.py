# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._handoff import tidying as subject
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import SOURCE, TARGET, Journal
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Step
from ansible_collections.fleet.criu.plugins.module_utils._handoff.tidying import remove_old, tidy
from ansible_collections.fleet.criu.tests.unit.redirection import redirect

KEPT = ["agent.json", "agent.log", "progress.json", "restored.json", "result.json", "stages"]
HOUR = 3600.0


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    redirect(tmp_path, monkeypatch.setattr)
    monkeypatch.setattr(subject, "may_be_alive", lambda folder: (folder / "lives").exists())
    return tmp_path / "run" / "handoff"


def left(runtime: Path, name: str, *steps: Step, side: str = SOURCE, age: float = 0.0) -> Path:
    """The folder of an agent that has ended."""
    folder = runtime / f"{name}.{side}"
    for path in ("stages/answer.post-dump", "identity/key.pem", "copy.3/rsyncd.conf", "agent.zip", "request.json"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("x")
    os.mkfifo(folder / "stages" / "request")
    (folder / "link").symlink_to("/etc")
    for path in KEPT[:-1]:
        (folder / path).write_text("{}\n")
    journal = Journal(name, side)
    if steps:
        journal.begin({})
    for step in steps:
        journal.record(step)
    when = time.time() - age
    os.utime(folder, (when, when))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("side", "step"),
    [(SOURCE, Step.DONE), (SOURCE, Step.BACK), (TARGET, Step.RUNNING), (TARGET, Step.CLEARED), (SOURCE, None)],
)
def test_of_a_settled_handoff_stays_how_it_ended(runtime: Path, side: str, step: Step | None) -> None:
    folder = left(runtime, "a", *([step] if step else []), side=side)
    tidy(folder)
    assert names(folder) == KEPT
    assert Path("/etc").is_dir()
    tidy(folder)
    assert names(folder) == KEPT


def test_a_criu_that_is_about_to_end_finds_its_answer(runtime: Path) -> None:
    folder = left(runtime, "a", Step.BACK)
    tidy(folder)
    assert (folder / "stages" / "answer.post-dump").exists()


@pytest.mark.parametrize(("side", "step"), [(SOURCE, Step.COMMITTED), (TARGET, Step.RUN), (TARGET, Step.COMPLETE)])
def test_an_open_handoff_keeps_all(runtime: Path, side: str, step: Step) -> None:
    folder = left(runtime, "a", step, side=side)
    before = names(folder)
    tidy(folder)
    remove_old(runtime)
    assert names(folder) == before


def test_a_damaged_journal_keeps_all(runtime: Path, tmp_path: Path) -> None:
    folder = left(runtime, "a", Step.DONE)
    (tmp_path / "lib" / "handoffs" / "a.source.jsonl").write_text("{\n")
    before = names(folder)
    tidy(folder)
    assert names(folder) == before
    tidy(runtime / "gone.source")


def test_of_a_long_log_stays_the_end(runtime: Path) -> None:
    folder = left(runtime, "a", Step.DONE)
    log = folder / "agent.log"
    log.write_text("".join(f"line {number}\n" for number in range(100_000)))
    tidy(folder)
    lines = log.read_text().splitlines()
    assert log.stat().st_size <= 32 << 10
    assert (lines[0].split()[0], lines[-1]) == ("line", "line 99999")
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_day_later_nothing_is_left(runtime: Path) -> None:
    old, new = left(runtime, "a", Step.DONE, age=25 * HOUR), left(runtime, "b", Step.DONE, age=23 * HOUR)
    living = left(runtime, "c", Step.DONE, age=25 * HOUR)
    (living / "lives").touch()
    os.utime(living, (0, 0))
    remove_old(runtime)
    assert [folder.exists() for folder in (old, new, living)] == [False, True, True]


def test_only_the_latest_results_stay(runtime: Path) -> None:
    folders = [left(runtime, f"h{number}", Step.DONE, age=number) for number in range(36)]
    # Whose agents are about to be started are no results.
    about = [left(runtime, f"n{number}", age=100.0 + number) for number in range(36)]
    for folder in about:
        (folder / "result.json").unlink()
        os.utime(folder, (time.time() - 100, time.time() - 100))
    remove_old(runtime)
    assert [folder.exists() for folder in folders] == [True] * 32 + [False] * 4
    assert all(folder.exists() for folder in about)


def test_without_any_handoff_there_is_nothing_to_do(tmp_path: Path) -> None:
    remove_old(tmp_path / "none")
