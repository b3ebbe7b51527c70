# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journals of a host, and what a record in one means for whoever wants to begin something with its workload.

Pure but for `read_all`. As long as a record is open, nothing else may begin with its workload on its host; only what is
over, or can be brought to its end with certainty and without asking anybody, is an exception (`standing`).
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import (
    FOLDER,
    SOURCE,
    TARGET,
    Record,
    all_records,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Copy, Step


class Standing(enum.Enum):
    """What a record means for whoever wants to begin something with its workload."""

    OVER = "nothing of it is left to be decided or done"
    ALONE = "this host can bring it to its end without asking anybody"
    HOLDS = "nothing else may begin"


@dataclass(frozen=True)
class Life:
    """What lives here of a handoff: whether its agent does, and what there is of the workload."""

    agent: bool
    copy: Copy


def standing(record: Record, life: Life) -> Standing:
    """What the record means, with what lives here of its handoff. A step that is not named here holds."""
    if record.step is None:
        return Standing.OVER  # the host died before anything was begun
    if record.side == SOURCE:
        return _source_standing(record.step, life)
    return _target_standing(record.step, life)


def _source_standing(step: Step, life: Life) -> Standing:
    if life.agent:
        return Standing.HOLDS
    if step in (Step.ARMED, Step.FREEZING):
        # The target was never told to run, and only this agent could have told it.
        return {Copy.NONE: Standing.OVER, Copy.RUNNING: Standing.ALONE}.get(life.copy, Standing.HOLDS)
    if step is Step.BACK:
        return Standing.HOLDS if life.copy is Copy.FROZEN else Standing.OVER
    if step is Step.DONE:
        return Standing.OVER if life.copy is Copy.NONE else Standing.HOLDS
    return Standing.HOLDS


def _target_standing(step: Step, life: Life) -> Standing:
    if step is Step.RUNNING:
        return Standing.OVER  # an agent that still lives has only to clean up
    if life.agent:
        return Standing.HOLDS
    if step in (Step.ARMED, Step.RECEIVING):
        # The source commits only when the target has said that it is ready.
        return Standing.ALONE
    return Standing.OVER if step is Step.CLEARED else Standing.HOLDS


def names_workload(record: Record) -> bool:
    """Whether it can be told of which workload it is."""
    return isinstance(record.facts.get("workload"), str)


def read_all(folder: Path = FOLDER) -> list[Record]:
    """What every journal of this host says, with `damage` also where it does not say whose it is.

    Raises CriuError if the folder is unreadable.
    """
    if os.path.lexists(folder) and not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        raise CriuError(
            f"The journals in {folder} cannot be read.",
            "Set become: true. Without them nobody knows what is open here.",
            {"folder": str(folder)},
        )
    return [_sound(record, folder) for record in all_records(folder)]


def _sound(record: Record, folder: Path) -> Record:
    is_ours = record.side in (SOURCE, TARGET)
    if is_ours and (_are_facts(record.facts) or not (record.steps or record.damage)):
        return record
    path = folder / f"{record.handoff}.{record.side}.jsonl"
    damage = record.damage or CriuError(f"The journal {path} does not say whose it is.", facts={"journal": str(path)})
    return replace(record, facts={}, damage=damage)


def _are_facts(facts: Mapping[str, Any]) -> bool:
    if not isinstance(facts.get("workload"), str):
        return False
    numbers = [facts[name] for name in ("pid", "start_time") if facts.get(name) is not None]
    return all(isinstance(number, int) for number in numbers) and isinstance(facts.get("engine") or {}, dict)
