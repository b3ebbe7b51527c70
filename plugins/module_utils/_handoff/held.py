# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A handoff that holds a workload on this host: what a person and a playbook are told of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import SOURCE, TARGET, Record
from ansible_collections.fleet.criu.plugins.module_utils._handoff.open_records import names_workload
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Step

SETTLE = "ansible-playbook fleet.criu.settle -e handoff="


@dataclass(frozen=True)
class Held:
    """A handoff that holds a workload here. `shared` is by what it was found."""

    record: Record
    agent: bool = False
    shared: str = ""

    @property
    def facts(self) -> Mapping[str, Any]:
        """As given when it was begun; empty if they cannot be read."""
        return self.record.facts

    def as_dict(self) -> dict[str, Any]:
        """What a playbook may want to know of it, in plain JSON types."""
        record = self.record
        other = "target" if record.side == SOURCE else "source"
        return {
            "name": record.handoff,
            "side": record.side,
            "step": None if record.step is None or record.damage else record.step.value,
            "state": self.state,
            "since": utc(record.steps[-1][1]) if record.steps else None,
            "other_host": record.facts.get(other),
            "at_work": self.agent,
            "command": self.command,
        }

    @property
    def state(self) -> str:
        """How far it is, for a person."""
        if self.record.damage:
            return "its journal cannot be read"
        if self.agent:
            return "its agent is at work"
        record = self.record
        return _STATES.get((record.side, record.step), f"its last step here is {record.step}")

    @property
    def may_pass(self) -> bool:
        """Whether it may be over in a moment: CRIU lets the tasks run on when it finds that its agent is dead."""
        record = self.record
        return not self.agent and not self.record.damage and record.step in (Step.ARMED, Step.FREEZING)

    @property
    def command(self) -> str:
        """What brings it to its end."""
        return f"{SETTLE}{self.record.handoff}"

    def error(self, what: str) -> CriuError:
        """Why `what` cannot begin, and what to do."""
        if self.record.damage is not None:
            return self._damage(self.record.damage, what)
        told = self.as_dict()
        message = (
            f"{what} cannot begin: the handoff {told['name']} ({self.facts.get('source')} -> "
            f"{self.facts.get('target')}) of {self.facts.get('workload')} is open on this host, its {told['side']}, "
            f"since {told['since']} ({told['step']}): {told['state']}. It has {self.shared}."
        )
        wait = "Wait until it has ended. If it hangs" if self.agent else "Nothing was begun. To end it"
        return CriuError(message, f"{wait}: {self.command}{self._last_resort()}", {"open_handoff": told})

    def _last_resort(self) -> str:
        if self.agent or self.record.side != TARGET or self.record.step is Step.RUN:
            return ""
        return (
            f" (if {self.facts.get('source')} can never answer again: with -e source_as=gone the images are run here, "
            "with -e source_as=back they are removed)"
        )

    def _damage(self, damage: CriuError, what: str) -> CriuError:
        path = damage.facts["journal"]
        whose = f"It has {self.shared}" if names_workload(self.record) else "It cannot be told of which workload it is"
        return CriuError(
            f"{what} cannot begin: {damage.message} {whose}, and that handoff may be open.",
            f"Nothing was begun. Find out on {_ends(self.facts)} where its workload runs and whether a copy is held "
            f"(find, workload_info, ps), bring that in order, and then move {path} away.",
            {"open_handoff": self.as_dict(), "journal": path},
        )


# In the words of states.Source and states.Target, for somebody who has not read them.
_STATES: Mapping[tuple[str, Step | None], str] = {
    (SOURCE, Step.ARMED): "it was being prepared, and its workload is stopped",
    (SOURCE, Step.FREEZING): "it was being dumped, and its workload is stopped",
    (TARGET, Step.ARMED): "it was waiting for the source, and it is not sure that nothing runs",
    (TARGET, Step.RECEIVING): "its images were coming in, and it is not sure that nothing runs",
    (SOURCE, Step.COMMITTED): "the target may have been told to run it, so it is held here until that is known",
    (SOURCE, Step.DONE): "it runs at the target, and a copy that is to be given up is still here",
    (SOURCE, Step.BACK): "it is to run on here, and is still held",
    (TARGET, Step.COMPLETE): "its images are complete here and it was not let run; they are kept",
    (TARGET, Step.RUN): "it may have been let run here",
    (TARGET, Step.DROPPED): "it was not let run here; its images are kept because the source was lost",
    (TARGET, Step.REFUSED): "it was not let run here; its images are kept until the source is known to run on",
}


def _ends(facts: Mapping[str, Any]) -> str:
    return " and ".join(str(facts[end]) for end in ("source", "target") if facts.get(end)) or "all hosts"


def utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
