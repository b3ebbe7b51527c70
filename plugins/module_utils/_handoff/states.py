# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The handoff as pure state machines: no I/O and no clock. docs/handoff.md tells the same in prose.

Each machine is a table: in a state, on an event, go to another state after doing these actions in this order. An event
that a state has no entry for changes nothing, so a message that comes twice or too late is harmless. machine.py steps
through the tables, for both agents (sender.py, receiver.py), which turn what happens into events and carry out the
actions, and for the tests that explore everything that can happen. If an agent dies in between, `settle_target` and
`settle_source` decide from the journals and from what still lives.

What an action that fails leads to is in the tables too (`REACTIONS`). A record that fails may still be there: a disk
can refuse to confirm what it has written. So after a `committed` that failed, the workload runs on only if `back` is
surely on disk; else it stays frozen. A link that is lost stays so: LOST comes again in each state after it.

Not knowing is never "no": a journal that is lost, rolled back or another machine's, a runtime folder that was emptied,
a peer that is out of reach leave a committed source frozen (`NO_RECORD`, `IN_DOUBT`, `UNKNOWN`).

The rule that keeps a workload from living twice: only the source sends `run`, only after it has recorded `committed`;
only the target lets its copy go, only after it has recorded `run`, and never after it has recorded `refused` or
`dropped`. The rule that keeps it from living nowhere: the source gives its copy up only when the target has said that
the other one runs, and keeps it frozen as long as it does not know. It is frozen for good before `committed` is
recorded, so that a copy which is gone after that record has not run on since the dump, and the images are the workload.
For the same reason `back` is recorded before the tasks run on.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Mapping, Sequence, Tuple


class Step(str, enum.Enum):
    """What a journal holds, in the order of a handoff that succeeds; then the ways out."""

    ARMED = "armed"
    FREEZING = "freezing"
    COMMITTED = "committed"
    DONE = "done"
    BACK = "back"

    RECEIVING = "receiving"
    COMPLETE = "complete"
    RUN = "run"
    RUNNING = "running"
    DROPPED = "dropped"
    REFUSED = "refused"
    CLEARED = "cleared"


class Source(enum.Enum):
    """The states of the sender. Frozen means that CRIU holds the tasks and will let them run on if we die."""

    LIVE = "the workload runs, the target is connected"
    FREEZING = "CRIU freezes and dumps, the images go to the target"
    HELD = "all is dumped; CRIU waits for us before it kills the tasks"
    CONFIRMING = "the target has everything and restores"
    COMMITTED = "the target may run; the tasks stay frozen even if we or CRIU die"
    UNSURE = (
        "whether `committed` is on disk is not known; nothing was sent, the tasks stay frozen until `back` is there"
    )
    DONE = "the target runs; the tasks are given up"
    BACK = "the workload runs on here"
    DOUBT = "the target may have been told to run, or `back` may not be on disk; the tasks stay frozen"


class Target(enum.Enum):
    """The states of the receiver."""

    ARMED = "waiting for the source"
    RECEIVING = "images come in"
    RESTORING = "the image set is complete and recorded; CRIU restores"
    READY = "all is restored and nothing runs; CRIU waits for us"
    STARTING = "recorded that it may run; CRIU lets it go"
    RUNNING = "the workload runs here"
    FAILED = "it did not run and never will; the images are kept until the source runs on"
    DROPPED = "the source was lost; nothing runs and nothing will, the images are kept"
    CLEARED = "nothing is left"


class Event(enum.Enum):
    """What can happen to a sender or receiver. LOST is a broken link or a peer that said nothing in time."""

    FREEZE = "all is prepared"
    DUMPED = "CRIU waits in its post-dump stage"
    SENT = "all images and files are with the target"
    READY = "the target has restored"
    RUNNING = "the target runs"
    FAILED = "the target failed, and nothing runs there"
    VETOED = "a hook failed, the dump failed or somebody asked us to stop"
    CRIU_ENDED = "CRIU ended before we told it to"
    LOST = "the link is broken"

    HELLO = "the source is there"
    RECEIVED = "all images are here and right, and to the source all files are"
    RESTORED = "CRIU waits in its post-restore stage, and all copies of files have ended well here too"
    RUN = "the source tells us to run"
    RESUMED = "CRIU has let the workload go"
    ABORT = "the source runs on"
    GONE = "the source's copy is dead"


class Action(enum.Enum):
    """What a machine asks to be done. RECORD_* is durable before the next action begins."""

    RECORD_FREEZING = Step.FREEZING
    RECORD_COMMITTED = Step.COMMITTED
    RECORD_DONE = Step.DONE
    RECORD_BACK = Step.BACK
    RECORD_RECEIVING = Step.RECEIVING
    RECORD_COMPLETE = Step.COMPLETE
    RECORD_RUN = Step.RUN
    RECORD_RUNNING = Step.RUNNING
    RECORD_DROPPED = Step.DROPPED
    RECORD_REFUSED = Step.REFUSED
    RECORD_CLEARED = Step.CLEARED

    DUMP = "start CRIU's dump and stream what it writes"
    SEND_IMAGES = "send what is left, and the digests"
    # Fails (CRIU_ENDED) if CRIU does not wait in post-dump any more when it is done: the tasks have then run on.
    KEEP_FROZEN = "leave the tasks frozen even if this agent or CRIU dies"
    SEND_RUN = "tell the target to run"
    GIVE_UP = "let CRIU kill the tasks, or kill them if CRIU is gone"
    RUN_ON = "let the tasks run on: undo KEEP_FROZEN, and refuse at CRIU's post-dump stage"
    SEND_ABORT = "tell the target that the source runs on"
    SEND_GONE = "tell the target that its copy is the only one"

    RESTORE = "start CRIU's restore"
    SEND_READY = "tell the source that all is restored"
    LET_GO = "let CRIU resume the tasks"
    SEND_RUNNING = "tell the source that the workload runs here"
    SEND_FAILED = "tell the source that nothing runs here"
    KILL = "end CRIU and what it has restored"
    REMOVE_IMAGES = "remove the images"


class Trouble(enum.Enum):
    """What can become of an action that is not simply done."""

    FAILED = "it was surely not done"
    MAYBE = "a record that may be on disk although writing it failed"
    LOST = "the link broke while it was done"


@dataclass(frozen=True)
class Reaction:
    """What follows an action in trouble: its transition ends in the state `to`, and `event` happens.

    Without `to` the machine returns to the state that it came from. `goes_on`: as if the action had been done.
    """

    to: Source | Target | None = None
    event: Event | None = None
    goes_on: bool = False


Entry = Tuple[object, Sequence[Action]]

_A, _E, _R, _S, _T = Action, Event, Trouble, Source, Target

# The record comes first: a host that crashes in between must not take images for the workload that are stale by then.
_RUNS_ON: Entry = (_S.BACK, (_A.RECORD_BACK, _A.RUN_ON, _A.SEND_ABORT))
_COMMITS: Entry = (_S.COMMITTED, (_A.KEEP_FROZEN, _A.RECORD_COMMITTED, _A.SEND_RUN))
_BEFORE_COMMIT = dict.fromkeys((_E.VETOED, _E.FAILED, _E.LOST, _E.CRIU_ENDED), _RUNS_ON)

SOURCE: Mapping[tuple[Source, Event], Entry] = {
    (_S.LIVE, _E.FREEZE): (_S.FREEZING, (_A.RECORD_FREEZING, _A.DUMP)),
    **{(_S.LIVE, event): entry for event, entry in _BEFORE_COMMIT.items()},
    (_S.FREEZING, _E.DUMPED): (_S.HELD, (_A.SEND_IMAGES,)),
    **{(_S.FREEZING, event): entry for event, entry in _BEFORE_COMMIT.items()},
    (_S.HELD, _E.SENT): (_S.CONFIRMING, ()),
    # The target may be ready before we see that all is sent.
    (_S.HELD, _E.READY): _COMMITS,
    **{(_S.HELD, event): entry for event, entry in _BEFORE_COMMIT.items()},
    (_S.CONFIRMING, _E.READY): _COMMITS,
    **{(_S.CONFIRMING, event): entry for event, entry in _BEFORE_COMMIT.items()},
    # CRIU_ENDED has no entry here: the tasks stay frozen without it.
    (_S.UNSURE, _E.VETOED): _RUNS_ON,
    (_S.COMMITTED, _E.RUNNING): (_S.DONE, (_A.RECORD_DONE, _A.GIVE_UP, _A.SEND_GONE)),
    (_S.COMMITTED, _E.FAILED): _RUNS_ON,
    (_S.COMMITTED, _E.LOST): (_S.DOUBT, ()),
    (_S.COMMITTED, _E.VETOED): (_S.DOUBT, ()),
}

_CLEARS: Entry = (_T.CLEARED, (_A.KILL, _A.REMOVE_IMAGES, _A.RECORD_CLEARED))
_FAILS: Entry = (_T.FAILED, (_A.RECORD_REFUSED, _A.KILL, _A.SEND_FAILED))
_DROPS: Entry = (_T.DROPPED, (_A.RECORD_DROPPED, _A.KILL))

TARGET: Mapping[tuple[Target, Event], Entry] = {
    (_T.ARMED, _E.HELLO): (_T.RECEIVING, (_A.RECORD_RECEIVING,)),
    **{(_T.ARMED, event): _CLEARS for event in (_E.LOST, _E.ABORT, _E.VETOED)},
    (_T.RECEIVING, _E.RECEIVED): (_T.RESTORING, (_A.RECORD_COMPLETE, _A.RESTORE)),
    (_T.RECEIVING, _E.VETOED): (_T.CLEARED, (_A.SEND_FAILED, *_CLEARS[1])),
    **{(_T.RECEIVING, event): _CLEARS for event in (_E.LOST, _E.ABORT)},
    (_T.RESTORING, _E.RESTORED): (_T.READY, (_A.SEND_READY,)),
    (_T.READY, _E.RUN): (_T.STARTING, (_A.RECORD_RUN, _A.LET_GO)),
    **{(state, event): _FAILS for state in (_T.RESTORING, _T.READY) for event in (_E.VETOED, _E.CRIU_ENDED)},
    # The source may be dead, and then this image set is all there is.
    **{(state, _E.LOST): _DROPS for state in (_T.RESTORING, _T.READY)},
    **{(state, _E.ABORT): _CLEARS for state in (_T.RESTORING, _T.READY, _T.FAILED)},
    (_T.FAILED, _E.LOST): (_T.DROPPED, ()),
    (_T.STARTING, _E.RESUMED): (_T.RUNNING, (_A.RECORD_RUNNING, _A.SEND_RUNNING)),
    # CRIU ended without letting the workload go: that is certain, see restorer.py.
    (_T.STARTING, _E.CRIU_ENDED): _FAILS,
    (_T.RUNNING, _E.GONE): (_T.RUNNING, (_A.REMOVE_IMAGES,)),
}


_GO_ON = Reaction(goes_on=True)
_GIVES_UP = Reaction(event=_E.VETOED)

# By the action and, where it matters, by the state that the transition came from. What is in neither is `_GIVES_UP`, or
# LOST in the new state if the link broke.
REACTIONS: Mapping[tuple[Action, Source | Target | None], Mapping[Trouble, Reaction]] = {
    # The source. Nothing of it is in the journal, so nobody will take the images for the workload.
    **{
        (_A.RECORD_COMMITTED, state): {
            _R.FAILED: Reaction(event=_E.VETOED),
            _R.MAYBE: Reaction(_S.UNSURE, _E.VETOED),
        }
        for state in (_S.HELD, _S.CONFIRMING)
    },
    # `committed` is on disk: from here on only the target's word counts.
    (_A.SEND_RUN, None): dict.fromkeys(_R, Reaction(_S.COMMITTED, _E.LOST)),
    # Without a `committed` in the journal a copy that is gone counts as one that may have run on: no need to wait.
    (_A.RECORD_BACK, None): dict.fromkeys(_R, _GO_ON),
    # With it, or perhaps with it, only a `back` that is surely on disk allows the workload to run on.
    **{(_A.RECORD_BACK, state): dict.fromkeys(_R, Reaction(_S.DOUBT)) for state in (_S.COMMITTED, _S.UNSURE)},
    # The settlement does it once more.
    (_A.RUN_ON, None): dict.fromkeys(_R, Reaction(_S.DOUBT)),
    # The target runs: `committed` and a copy that is gone say the same.
    (_A.RECORD_DONE, None): dict.fromkeys(_R, _GO_ON),
    (_A.GIVE_UP, None): dict.fromkeys(_R, _GO_ON),
    # The settlement tells the target.
    (_A.SEND_ABORT, None): dict.fromkeys(_R, _GO_ON),
    (_A.SEND_GONE, None): dict.fromkeys(_R, _GO_ON),
    # The target. To be armed and to receive are one to the settlement, and the source must hear of it.
    (_A.RECORD_RECEIVING, None): dict.fromkeys(_R, Reaction(_T.RECEIVING, _E.VETOED)),
    # The agent then ends CRIU, and that is the next event.
    (_A.LET_GO, None): dict.fromkeys(_R, Reaction(_T.STARTING)),
    # It runs. What is not recorded is seen by the settlement as long as the host lives.
    (_A.RECORD_RUNNING, None): dict.fromkeys(_R, _GO_ON),
    (_A.SEND_RUNNING, None): dict.fromkeys(_R, _GO_ON),
    # KILL comes after them, so that nothing runs, and the source records `back` before it runs on.
    (_A.RECORD_REFUSED, None): dict.fromkeys(_R, _GO_ON),
    (_A.RECORD_DROPPED, None): dict.fromkeys(_R, _GO_ON),
    # Then nobody may say that nothing runs.
    (_A.KILL, None): dict.fromkeys(_R, Reaction(_T.DROPPED)),
    (_A.SEND_FAILED, _T.RECEIVING): dict.fromkeys(_R, _GO_ON),
    (_A.SEND_FAILED, None): dict.fromkeys(_R, Reaction(_T.FAILED, _E.LOST)),
    # The settlement removes them.
    (_A.REMOVE_IMAGES, _T.RUNNING): dict.fromkeys(_R, _GO_ON),
    (_A.REMOVE_IMAGES, None): dict.fromkeys(_R, Reaction(_T.DROPPED)),
    (_A.RECORD_CLEARED, None): dict.fromkeys(_R, _GO_ON),
}


def reaction_to(action: Action, trouble: Trouble, before: Source | Target, after: Source | Target) -> Reaction:
    """What follows if an action of the transition between these states is in trouble."""
    row = REACTIONS.get((action, before)) or REACTIONS.get((action, None)) or {}
    if trouble in row:
        return row[trouble]
    return Reaction(after, _E.LOST) if trouble is _R.LOST else _GIVES_UP


class Outcome(str, enum.Enum):
    """What is certain of the other side when a handoff is settled."""

    RAN = "ran"  # the target: its copy has run
    NOT_RUN = "not_run"  # the target: its copy has not run, and from now on never will by this handoff
    BACK = "back"  # the source: its copy runs
    HELD = "held"  # the source: its copy is frozen, and stays so until the target's outcome is known
    GONE = "gone"  # the source: its copy does not exist any more, and has not run since it was dumped
    ENDED = "ended"  # the source: its copy does not exist any more, but may have run on after it was dumped
    IN_DOUBT = "in_doubt"  # the target: its copy may have run, or may run as something else; a person must decide
    NO_RECORD = "no_record"  # its journal is lost, rolled back or another machine's: it can say nothing
    UNKNOWN = "unknown"  # it cannot be reached


# From these nobody can tell whether the other side's copy has run.
TELLS_NOTHING = frozenset({Outcome.UNKNOWN, Outcome.IN_DOUBT, Outcome.NO_RECORD})


class Copy(str, enum.Enum):
    """What a host has of a workload."""

    NONE = "none"
    FROZEN = "frozen"  # source: held by CRIU or stopped; target: restored, but never let go
    RUNNING = "running"
    SUSPECT = "suspect"  # target: something lives that may be it, and what would prove it is lost


@dataclass(frozen=True)
class Settlement:
    """The decision for one side: what is to be done in this order, and what is certain after it.

    If an action fails, those after it are left out and nothing is certain, unless it is one that need not succeed.
    """

    outcome: Outcome
    actions: Sequence[Action] = ()
    need_not_succeed: frozenset[Action] = frozenset()


def settle_target(step: Step | None, copy: Copy, told: bool, images: bool, source: Outcome) -> Settlement:
    """What becomes of the target. The receiver and its CRIU must have ended before `copy` and `told` are looked at.

    `step` is the last one in its journal; `told` says whether CRIU may have let the copy go since RESTORE was done last
    (a mark that is made before CRIU is told; true as well if nobody can know: the host was booted since, or the folder
    that would have the mark is gone); `images` whether the image set is complete; `source` is UNKNOWN in the first
    call, whose outcome settles the source, and what that gave in the second. It may be called again with the same.
    """
    if step is None:
        return Settlement(Outcome.NO_RECORD)
    if step in (Step.RUNNING, Step.DONE) or (step is Step.RUN and copy is Copy.RUNNING):
        record = () if step in (Step.RUNNING, Step.DONE) else (_A.RECORD_RUNNING,)
        remove = (_A.REMOVE_IMAGES,) if source is Outcome.GONE else ()
        return Settlement(Outcome.RAN, (*record, *remove))
    if step is Step.CLEARED:
        return Settlement(Outcome.NOT_RUN)
    if copy in (Copy.RUNNING, Copy.SUSPECT):
        # The journal says that it never ran, or what runs cannot be told from it: one of them is wrong.
        return Settlement(Outcome.IN_DOUBT)
    if images and step in (Step.ARMED, Step.RECEIVING) and source is not Outcome.BACK:
        # An image set is complete only after `complete`: the journal was rolled back.
        return Settlement(Outcome.NO_RECORD)
    if source is Outcome.BACK or step in (Step.ARMED, Step.RECEIVING):
        return Settlement(Outcome.NOT_RUN, _CLEARS[1])
    if step is Step.RUN and told and copy is Copy.NONE:
        # It died before it ran or after. Whichever we assumed could cost the workload, or what it has done here.
        return Settlement(Outcome.IN_DOUBT)
    if source is Outcome.GONE and images:
        # Nothing lives but these images. Let nobody else decide at the same time: the record comes first.
        revive = (_A.KILL, _A.RECORD_RUN, _A.RESTORE, _A.LET_GO, _A.RECORD_RUNNING, _A.REMOVE_IMAGES)
        return Settlement(Outcome.RAN, revive)
    if step is Step.REFUSED and copy is Copy.NONE:
        return Settlement(Outcome.NOT_RUN)
    return Settlement(Outcome.NOT_RUN, (_A.RECORD_REFUSED, _A.KILL))


def settle_source(step: Step | None, copy: Copy, target: Outcome) -> Settlement:
    """What becomes of the source, when the target's outcome is known or not. Calling it again is harmless.

    The sender and its CRIU must have ended before `copy` is looked at.
    """
    if step is None:
        # Whoever has lost the journal knows of a copy that runs only if it is shown to him; then nothing is to be done.
        return Settlement(Outcome.BACK if copy is Copy.RUNNING else Outcome.NO_RECORD)
    if step is Step.DONE or (step is Step.COMMITTED and target is Outcome.RAN):
        record = () if step is Step.DONE else (_A.RECORD_DONE,)
        give_up = () if copy is Copy.NONE else (_A.GIVE_UP,)
        return Settlement(Outcome.GONE, (*record, *give_up), frozenset((_A.RECORD_DONE,)))
    if copy is Copy.NONE:
        if step is Step.COMMITTED:
            return Settlement(Outcome.GONE)
        # With the target's word nothing is left to be decided here.
        record = (_A.RECORD_BACK,) if target is Outcome.NOT_RUN and step is not Step.BACK else ()
        return Settlement(Outcome.ENDED, record, frozenset((_A.RECORD_BACK,)))
    if copy is Copy.RUNNING:
        return Settlement(Outcome.BACK, () if step is Step.BACK else (_A.RECORD_BACK,), frozenset((_A.RECORD_BACK,)))
    # What is frozen now is frozen for good, which is done before `committed` is recorded: so if that is not in the
    # journal, the sender died in that moment, or the journal was rolled back. Then too the target must be asked.
    if target is Outcome.RAN or (target in TELLS_NOTHING and step is not Step.BACK):
        return Settlement(Outcome.HELD)
    # `back` once more, because what can be read of it may not be on disk, and `committed` is before it.
    return Settlement(Outcome.BACK, (_A.RECORD_BACK, _A.RUN_ON))
