#!/usr/bin/python
# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: handoff_settle
short_description: Bring a broken handoff to its one right end
version_added: 0.1.0
description:
  - Runs on either host of a handoff, also long after it and when no controller knows of it any more. Reads this host's
    journal, sees what lives, and does what the other side's outcome allows, so that exactly one copy of the workload
    lives.
  - Settle the target first, then the source with the target's outcome as O(peer), then the target again with the
    source's. If the target cannot be reached, the source alone settles what it can know, and holds the workload if it
    cannot.
  - Without O(handoff) it lists the handoffs of this host and changes nothing. A journal that is damaged is listed too,
    with what is wrong in RV(handoffs[].damaged).
author:
  - The fleet.criu maintainers (@fleet-criu)
extends_documentation_fragment:
  - fleet.criu.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: What changes is a process, not a state.
  idempotent:
    support: full
options:
  handoff:
    description:
      - The name of the handoff.
    type: str
  side:
    description:
      - Which side of it this host is. Needed with O(handoff).
    type: str
    choices: [source, target]
  peer:
    description:
      - The outcome that this module returned on the other host, or V(unknown) if it cannot be reached.
    type: str
    choices: [unknown, no_record, ran, not_run, in_doubt, back, held, gone, ended]
    default: unknown
  peer_journal:
    description:
      - The RV(journal) that this module returned with that outcome. An outcome from another journal than the one that
        this host has noted in the handoff, or from one that is older than that, counts as V(no_record).
      - Without it O(peer) is the word of a person, who knows it for sure. It is believed.
    type: dict
  pid:
    description:
      - The workload's process here, for a source whose own journal is lost. Needs O(start_time).
    type: int
  start_time:
    description:
      - When that process was started, in clock ticks after boot, as M(fleet.criu.workload_info) returns it.
    type: int
  timeout:
    description:
      - How many seconds an agent that is still at work may go on before it is asked to stop.
    type: float
    default: 5.0
seealso:
  - module: fleet.criu.handoff_send
  - module: fleet.criu.handoff_receive
"""

EXAMPLES = r"""
- name: Which handoffs did not come to an end here?
  fleet.criu.handoff_settle:
  become: true

- name: Settle the target
  fleet.criu.handoff_settle:
    handoff: redis-20260101T020000
    side: target
  delegate_to: node2
  become: true
  register: target

- name: Settle the source
  fleet.criu.handoff_settle:
    handoff: redis-20260101T020000
    side: source
    peer: "{{ target.outcome }}"
    peer_journal: "{{ target.journal }}"
  delegate_to: node1
  become: true
  register: source

- name: Settle the target for good
  fleet.criu.handoff_settle:
    handoff: redis-20260101T020000
    side: target
    peer: "{{ source.outcome }}"
    peer_journal: "{{ source.journal }}"
  delegate_to: node2
  become: true
"""

RETURN = r"""
outcome:
  description:
    - For the target, V(ran), V(not_run) or V(in_doubt) (its copy may have run and is not there any more, or something
      runs that may be it; a person must decide).
    - For both V(no_record). This host has no journal of the handoff, or one that was rolled back. So it knows nothing,
      and says nothing of what has run.
    - For the source, V(back) (it runs here), V(held) (it is frozen until the target's outcome is known), V(gone) (it is
      given up) or V(ended) (it is not here any more, but may have run on after the dump).
  returned: with O(handoff)
  type: str
  sample: back
pid:
  description: The pid of the copy on this host, or of what may be it.
  returned: with O(handoff), if there is one
  type: int
  sample: 4125
journal:
  description: Which journal this outcome is from, for O(peer_journal) on the other host; none if there is no journal.
  returned: with O(handoff)
  type: dict
  contains:
    machine: {description: The machine-id of the host., type: str, sample: 0f2e}
    journal: {description: The identity of this journal., type: str, sample: 5d1f}
    complete: {description: Whether it has ever come to the step V(complete)., type: bool, sample: true}
since:
  description: When the last step was recorded, in UTC; none if this host knows nothing of the handoff.
  returned: with O(handoff)
  type: str
  sample: "2026-01-01T02:00:00Z"
step:
  description: The last step in the journal; none if this host knows nothing of the handoff.
  returned: with O(handoff)
  type: str
  sample: committed
put_back:
  description:
    - What CRIU had changed or left behind on this host and was put back or removed, a line for each, for people.
  returned: with O(handoff)
  type: list
  elements: str
  sample: []
handoffs:
  description: All handoffs in this host's journals, the oldest first.
  returned: without O(handoff)
  type: list
  elements: dict
  contains:
    handoff: {description: Its name., type: str, sample: redis-20260101T020000}
    side: {description: Which side this host was., type: str, sample: source}
    workload: {description: The workload., type: str, sample: redis}
    source: {description: The source., type: str, sample: node1}
    target: {description: The target., type: str, sample: node2}
    step: {description: The last step., type: str, sample: done}
    settled: {description: Whether nothing is left to be decided., type: bool}
    damaged:
      description:
        - Which line of the journal cannot be read and what to do; empty if all can. The rest is what came before it.
      type: str
      sample: ""
    time: {description: When it began, type: float, sample: 1767225600.5}
"""

from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fleet.criu.plugins.module_utils._handoff.held import utc
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import Record, all_records
from ansible_collections.fleet.criu.plugins.module_utils._handoff.settle import Peer, settle
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Outcome
from ansible_collections.fleet.criu.plugins.module_utils._module import run_module
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity, Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import SubprocessRunner


def bring_to_its_end(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    if parameters["handoff"] is None:
        return {"handoffs": [_summary(record) for record in all_records()]}
    settled = settle(
        parameters["handoff"],
        parameters["side"],
        Peer(Outcome(parameters["peer"]), parameters["peer_journal"], _copy(parameters)),
        parameters["timeout"],
        Proc(),
        SubprocessRunner(),
        check_mode,
    )
    record = settled.record
    return {
        "changed": settled.changed,
        "outcome": settled.outcome.value,
        "pid": settled.pid,
        "journal": record.identity if record else None,
        "step": record.step.value if record and record.step else None,
        "since": utc(record.steps[-1][1]) if record and record.steps else None,
        "put_back": list(settled.put_back),
    }


def _copy(parameters: Mapping[str, Any]) -> Identity | None:
    return None if parameters["pid"] is None else Identity(parameters["pid"], parameters["start_time"])


def _summary(record: Record) -> dict[str, Any]:
    return {
        "handoff": record.handoff,
        "side": record.side,
        **{name: record.facts.get(name) for name in ("workload", "source", "target")},
        "step": record.step.value if record.step else None,
        "settled": record.is_settled,
        "damaged": str(record.damage or ""),
        "time": record.steps[0][1] if record.steps else None,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "handoff": {"type": "str"},
            "side": {"type": "str", "choices": ["source", "target"]},
            "peer": {
                "type": "str",
                "choices": ["unknown", "no_record", "ran", "not_run", "in_doubt", "back", "held", "gone", "ended"],
                "default": "unknown",
            },
            "peer_journal": {"type": "dict"},
            "pid": {"type": "int"},
            "start_time": {"type": "int"},
            "timeout": {"type": "float", "default": 5.0},
        },
        required_by={"handoff": "side"},
        required_together=[("pid", "start_time")],
        supports_check_mode=True,
    )
    run_module(module, bring_to_its_end)


if __name__ == "__main__":
    main()
