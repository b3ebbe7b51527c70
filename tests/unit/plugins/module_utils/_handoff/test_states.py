# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import sys
from typing import Any, Callable, Mapping, Sequence

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._handoff import machine
from ansible_collections.fleet.criu.plugins.module_utils._handoff.machine import SOURCE_TABLE, TARGET_TABLE, Machine
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import (
    SOURCE,
    TARGET,
    Action,
    Copy,
    Event,
    Outcome,
    Reaction,
    Settlement,
    Source,
    Step,
    Target,
    Trouble,
    reaction_to,
    settle_source,
    settle_target,
)
from ansible_collections.fleet.criu.tests.unit.plugins.module_utils._handoff.world import (
    COMPLETE,
    GONE,
    NONE,
    RUNNING,
    STOPPED,
    Exploration,
    Machines,
    Violation,
    World,
    exists,
    explore,
    settle_again,
)

# How deep to go: few (seconds), some (`make unit`), all (minutes).
DEPTH = os.environ.get("EXPLORE", "few")

# Up to so many faults and lies in one handoff; see world.py.
FEW = {
    "faults": World(2),
    "a lie": World(0, 1),
    "a machine that is rolled back": World(0, snapshots=1),
}
SOME = {
    **FEW,
    "faults": World(3),
    "a fault and a lie": World(1, 1),
    "two lies": World(0, 2),
    "images on disk": World(2, on_disk=True),
    "a lie, images on disk": World(0, 1, on_disk=True),
}
ALL = {
    **SOME,
    "two faults and a lie": World(2, 1),
    "a fault and two lies": World(1, 2),
    "three lies": World(0, 3),
    "two faults and a lie, images on disk": World(2, 1, on_disk=True),
    "a fault, a machine that is rolled back": World(1, snapshots=1),
}
BUDGETS = {"few": FEW, "some": SOME, "all": ALL}[DEPTH]
deep = pytest.mark.skipif(DEPTH == "few", reason="EXPLORE=some is for it")

# What a settlement may end with where no copy runs. Everywhere else exactly one does.
NOBODY_KNOWS_HELD = (Outcome.IN_DOUBT, Outcome.HELD)
NOBODY_KNOWS_GONE = (Outcome.IN_DOUBT, Outcome.GONE)
SOURCE_CRASHED = (Outcome.NOT_RUN, Outcome.ENDED)
BOTH_CRASHED = (Outcome.NOT_RUN, Outcome.GONE)
RAN_AND_CRASHED = (Outcome.RAN, Outcome.GONE)


def judge_end(world: World) -> None:
    """What holds after a settlement that reached both hosts."""
    assert world.sender is None
    assert world.receiver is None
    assert (world.source_criu, world.target_criu) == (NONE, NONE)
    assert world.settled
    verdict = (world.settled.target, world.settled.source)
    if world.source_copy == RUNNING:
        assert (verdict, world.target_copy) == ((Outcome.NOT_RUN, Outcome.BACK), NONE)
        assert world.images == NONE, "images are left that nobody needs"
    elif world.target_copy == RUNNING:
        assert (verdict, world.source_copy) == ((Outcome.RAN, Outcome.GONE), GONE)
        assert world.images == NONE, "images are left that nobody needs"
    else:
        judge_end_without_running_copy(world, verdict)
    judge_again(world)


def judge_again(world: World) -> None:
    again = settle_again(world)
    # Where the target was restored in the settlement, the source learns only now that it is done.
    is_committed = world.source_journal.step is Step.COMMITTED
    expected = again.source_journal if is_committed else world.source_journal
    left = world._replace(source_journal=expected, faults=0, lies=0, snapshots=0)
    assert again == left._replace(settled=again.settled), "a second settlement changes something"
    judge_is_stable(again)


def judge_is_stable(world: World) -> None:
    again = settle_again(world)
    assert again == world._replace(settled=again.settled), "a third settlement changes something"


def judge_end_without_running_copy(world: World, verdict: tuple[Outcome, Outcome]) -> None:
    assert world.target_copy == NONE
    assert world.images in (COMPLETE, NONE), "half an image set is left"
    if verdict == NOBODY_KNOWS_HELD:
        assert (world.target_journal.step, world.told, world.source_copy) == (Step.RUN, True, STOPPED)
    elif verdict == NOBODY_KNOWS_GONE:
        assert (world.target_journal.step, world.told, world.source_crashed) == (Step.RUN, True, True)
        assert world.images == COMPLETE or world.target_crashed
    elif verdict == SOURCE_CRASHED:
        # Images that may be fresh are kept: a person knows whether they are of use.
        assert world.source_crashed
        assert world.images == COMPLETE or not exists(world)
    elif verdict == BOTH_CRASHED:
        assert world.source_crashed
        assert world.target_crashed
    else:
        assert verdict == RAN_AND_CRASHED
        assert world.target_crashed
        assert world.has_run


def judge_end_after_lies(world: World) -> None:
    """What holds where a disk, a journal or a folder may have lied: what is not known for sure is frozen.

    It may have lied after the settlement had looked at it, so one more is judged.
    """
    assert world.sender is None
    assert world.receiver is None
    world = settle_again(world)
    assert (world.source_criu, world.target_criu) == (NONE, NONE)
    assert world.settled
    target, source = world.settled.target, world.settled.source
    if source is Outcome.BACK:
        assert world.source_copy == RUNNING
    if target is Outcome.NOT_RUN:
        assert world.target_copy == NONE
    if world.source_copy == STOPPED:
        assert source in (Outcome.HELD, Outcome.NO_RECORD), "it stays frozen for no reason"
        knows_why = target in (Outcome.IN_DOUBT, Outcome.NO_RECORD) or Step.COMMITTED not in world.source_journal.steps
        assert source is Outcome.NO_RECORD or knows_why
    if source is Outcome.GONE:
        assert world.source_copy == GONE
    judge_is_stable(settle_again(world))


def judge_of(world: World) -> Callable[[World], None]:
    return judge_end if not world.lies and not world.snapshots and not world.on_disk else judge_end_after_lies


@pytest.fixture(scope="module")
def found() -> dict[str, Exploration]:
    return {name: explore(world, judge_of(world)) for name, world in BUDGETS.items()}


def test_nothing_makes_two_copies_or_none_and_every_path_ends(found: dict[str, Exploration]) -> None:
    for name, one in found.items():
        kept = sum(end.source_copy != RUNNING != end.target_copy and not end.moved_on for end in one.ends)
        sys.stdout.write(
            f"handoff, {name}: {one.paths} paths, {one.worlds} worlds, {one.steps} steps, "
            f"{len(one.ends)} ends, {kept} of them without a running copy\n"
        )
    assert all(one.paths >= 10_000 for one in found.values())
    if DEPTH != "few":
        assert found["faults"].worlds >= 50_000


def test_without_a_fault_the_workload_moves_and_nothing_is_left_to_settle() -> None:
    rests = [world for world in explore(World(0), judge_end).rests if not world.out_of_reach]
    assert rests
    for world in rests:
        assert (world.source_copy, world.target_copy, world.images) == (GONE, RUNNING, NONE)
        assert (world.source_journal.step, world.target_journal.step) == (Step.DONE, Step.RUNNING)


def test_only_a_crash_or_the_moment_of_resuming_leaves_one_fault_to_a_person() -> None:
    ends = [end for end in explore(World(1), judge_end).ends if RUNNING not in (end.source_copy, end.target_copy)]
    assert {"crash" if end.source_crashed or end.target_crashed else end.target_journal.step for end in ends} == {
        "crash",
        Step.RUN,
    }


def test_a_record_that_fails_leaves_the_workload_to_nobody_but_a_disk_that_fails_twice() -> None:
    """One record that fails, and nothing else: it runs at one of the two."""
    for end in explore(World(0, 1), judge_end_after_lies).ends:
        journals_are_whole = Step.ARMED in end.source_journal.steps and Step.COMPLETE in end.target_journal.steps
        if journals_are_whole and not (end.marks_lost or end.moved_on):
            assert RUNNING in (end.source_copy, end.target_copy)


@deep
def test_every_verdict_without_a_running_copy_is_reached(found: dict[str, Exploration]) -> None:
    ends = [end for end in found["faults"].ends if RUNNING not in (end.source_copy, end.target_copy)]
    assert {(end.settled.target, end.settled.source) for end in ends if end.settled} == {
        NOBODY_KNOWS_HELD,
        NOBODY_KNOWS_GONE,
        SOURCE_CRASHED,
        BOTH_CRASHED,
        RAN_AND_CRASHED,
    }


def test_a_person_can_end_the_doubt() -> None:
    assert settle_source(Step.COMMITTED, Copy.FROZEN, Outcome.NOT_RUN).outcome is Outcome.BACK
    assert settle_source(Step.COMMITTED, Copy.FROZEN, Outcome.RAN).outcome is Outcome.GONE
    assert settle_target(Step.RUN, Copy.NONE, True, True, Outcome.BACK) == Settlement(
        Outcome.NOT_RUN, (Action.KILL, Action.REMOVE_IMAGES, Action.RECORD_CLEARED)
    )


@pytest.mark.parametrize("peer", [Outcome.UNKNOWN, Outcome.IN_DOUBT, Outcome.NO_RECORD])
def test_not_knowing_is_never_no(peer: Outcome) -> None:
    assert settle_source(Step.COMMITTED, Copy.FROZEN, peer) == Settlement(Outcome.HELD)
    assert settle_target(None, Copy.NONE, False, False, peer) == Settlement(Outcome.NO_RECORD)
    assert settle_source(None, Copy.FROZEN, peer) == Settlement(Outcome.NO_RECORD)


# The order in which a journal is written: the first must be done before the second, in every transition and settlement.
ORDER = [
    (Action.KEEP_FROZEN, Action.RECORD_COMMITTED),
    (Action.RECORD_FREEZING, Action.DUMP),
    (Action.RECORD_COMMITTED, Action.SEND_RUN),
    (Action.RECORD_DONE, Action.GIVE_UP),
    (Action.GIVE_UP, Action.SEND_GONE),
    (Action.RECORD_BACK, Action.RUN_ON),
    (Action.RUN_ON, Action.SEND_ABORT),
    (Action.RECORD_COMPLETE, Action.RESTORE),
    (Action.RECORD_RUN, Action.LET_GO),
    (Action.LET_GO, Action.RECORD_RUNNING),
    (Action.RECORD_RUNNING, Action.SEND_RUNNING),
    (Action.RECORD_RUNNING, Action.REMOVE_IMAGES),
    (Action.RECORD_REFUSED, Action.KILL),
    (Action.RECORD_REFUSED, Action.SEND_FAILED),
    (Action.RECORD_DROPPED, Action.KILL),
    (Action.KILL, Action.REMOVE_IMAGES),
    (Action.REMOVE_IMAGES, Action.RECORD_CLEARED),
]
# These always have the first of their pair in the same transition, the others may have had it in an earlier one.
TOGETHER = {
    Action.RECORD_COMMITTED,
    Action.SEND_RUN,
    Action.DUMP,
    Action.SEND_GONE,
    Action.SEND_ABORT,
    Action.LET_GO,
    Action.SEND_RUNNING,
    Action.RECORD_CLEARED,
}


def all_action_lists() -> list[tuple[str, Sequence[Action]]]:
    found = [(f"{state} {event}", entry[1]) for (state, event), entry in [*SOURCE.items(), *TARGET.items()]]
    for step in [None, *Step]:
        for copy in Copy:
            for outcome in Outcome:
                found.append((f"source {step} {copy} {outcome}", settle_source(step, copy, outcome).actions))
                for told in (False, True):
                    for images in (False, True):
                        decision = settle_target(step, copy, told, images, outcome)
                        found.append((f"target {step} {copy} {told} {images} {outcome}", decision.actions))
    return found


@pytest.mark.parametrize(("first", "second"), ORDER)
def test_a_record_comes_before_the_action_that_needs_it(first: Action, second: Action) -> None:
    lists = [(name, list(actions)) for name, actions in all_action_lists() if second in actions]
    both = [(name, actions) for name, actions in lists if first in actions]
    assert both or second in (Action.RESTORE, Action.GIVE_UP, Action.RECORD_RUNNING)
    for name, actions in both:
        assert actions.index(first) < actions.index(second), name
    if second in TOGETHER:
        assert lists == both


def test_every_action_is_done_once_in_a_list_of_actions() -> None:
    for name, actions in all_action_lists():
        assert len(set(actions)) == len(actions), name


SOURCE_EVENTS = [
    Event.FREEZE,
    Event.DUMPED,
    Event.SENT,
    Event.READY,
    Event.RUNNING,
    Event.FAILED,
    Event.VETOED,
    Event.CRIU_ENDED,
    Event.LOST,
]
TARGET_EVENTS = [
    Event.HELLO,
    Event.RECEIVED,
    Event.RESTORED,
    Event.RUN,
    Event.RESUMED,
    Event.ABORT,
    Event.GONE,
    Event.VETOED,
    Event.CRIU_ENDED,
    Event.LOST,
]

S, T, E = Source, Target, Event
IGNORED: Mapping[str, set[tuple[Any, Event]]] = {
    "it has happened before, and comes twice or too late": {
        *((state, E.FREEZE) for state in Source if state not in (S.LIVE, S.UNSURE)),
        *((state, E.DUMPED) for state in Source if state not in (S.LIVE, S.FREEZING, S.UNSURE)),
        *((state, E.SENT) for state in (S.CONFIRMING, S.COMMITTED, S.DONE, S.BACK, S.DOUBT)),
        *((state, E.READY) for state in (S.COMMITTED, S.DONE, S.BACK, S.DOUBT)),
        *((state, E.RUNNING) for state in (S.DONE, S.DOUBT)),
        *((state, E.HELLO) for state in Target if state is not T.ARMED),
        *((state, E.RECEIVED) for state in Target if state not in (T.ARMED, T.RECEIVING)),
        *((state, E.RESTORED) for state in Target if state not in (T.ARMED, T.RECEIVING, T.RESTORING)),
        *((state, E.RUN) for state in (T.STARTING, T.RUNNING)),
        (T.RUNNING, E.RESUMED),
    },
    "what it answers has not happened yet, so nobody can say it": {
        (S.LIVE, E.DUMPED),
        *((state, E.SENT) for state in (S.LIVE, S.FREEZING)),
        *((state, E.READY) for state in (S.LIVE, S.FREEZING)),
        *((state, E.RUNNING) for state in (S.LIVE, S.FREEZING, S.HELD, S.CONFIRMING, S.BACK)),
        (T.ARMED, E.RECEIVED),
        *((state, E.RESTORED) for state in (T.ARMED, T.RECEIVING)),
        *((state, E.RUN) for state in (T.ARMED, T.RECEIVING, T.RESTORING)),
        *((state, E.RESUMED) for state in (T.ARMED, T.RECEIVING, T.RESTORING, T.READY)),
        *((state, E.CRIU_ENDED) for state in (T.ARMED, T.RECEIVING)),
        *((state, E.GONE) for state in (T.ARMED, T.RECEIVING, T.RESTORING, T.READY, T.STARTING)),
    },
    "the source never runs on in these": {(T.STARTING, E.ABORT), (T.RUNNING, E.ABORT)},
    "CRIU has let the workload go, or must first say that it never will": {
        (T.STARTING, E.LOST),
        (T.STARTING, E.VETOED),
    },
    "the workload runs here whatever else happens": {
        (T.RUNNING, E.LOST),
        (T.RUNNING, E.VETOED),
        (T.RUNNING, E.CRIU_ENDED),
        *((S.BACK, event) for event in (E.FAILED, E.VETOED, E.CRIU_ENDED, E.LOST)),
    },
    "the tasks stay frozen without CRIU": {(S.COMMITTED, E.CRIU_ENDED), (S.DOUBT, E.CRIU_ENDED)},
    "only the settlement decides now, whatever is heard": {
        *((S.DOUBT, event) for event in (E.FAILED, E.VETOED, E.LOST)),
    },
    "the workload is given up": {(S.DONE, event) for event in (E.FAILED, E.VETOED, E.CRIU_ENDED, E.LOST)},
    "nothing runs here and nothing will": {
        *((state, E.RUN) for state in (T.FAILED, T.DROPPED, T.CLEARED)),
        *((state, event) for state in (T.FAILED, T.DROPPED, T.CLEARED) for event in (E.RESUMED, E.GONE)),
        *((state, event) for state in (T.FAILED, T.DROPPED, T.CLEARED) for event in (E.VETOED, E.CRIU_ENDED)),
        *((state, E.LOST) for state in (T.DROPPED, T.CLEARED)),
        (T.CLEARED, E.ABORT),
    },
    "the link is given up; the settlement removes the images": {(T.DROPPED, E.ABORT)},
    "it is over at once: VETOED comes with it": {(S.UNSURE, event) for event in SOURCE_EVENTS if event is not E.VETOED},
}


def test_each_state_has_an_entry_for_each_event_or_ignores_it_for_a_reason() -> None:
    everything: set[tuple[Any, Event]] = {(state, event) for state in Source for event in SOURCE_EVENTS}
    everything |= {(state, event) for state in Target for event in TARGET_EVENTS}
    ignored = [pair for pairs in IGNORED.values() for pair in pairs]
    assert len(ignored) == len(set(ignored)), "two reasons for one"
    assert {*SOURCE, *TARGET}.isdisjoint(ignored)
    assert {*SOURCE, *TARGET, *ignored} == everything


def test_what_is_ignored_changes_nothing() -> None:
    for state, event in (pair for pairs in IGNORED.values() for pair in pairs):
        table = SOURCE_TABLE if isinstance(state, Source) else TARGET_TABLE
        assert Machine(state).fire(event, table) == Machine(state)


# Mutants: each is a mistake that the exploration must find.

Table = Mapping[Any, Any]
A = Action


def with_entries(source: Table | None = None, target: Table | None = None) -> Machines:
    return Machines(
        machine.Table({**SOURCE_TABLE.transitions, **(source or {})}),
        machine.Table({**TARGET_TABLE.transitions, **(target or {})}),
    )


def with_reaction(action: Action, before: Any, wrong: Reaction, *troubles: Trouble) -> Machines:
    """In one of these troubles something else follows."""

    def react(done: Action, trouble: Trouble, came_from: Any, after: Any) -> Reaction:
        if done is action and came_from in (before or (came_from,)) and trouble in (troubles or Trouble):
            return wrong
        return reaction_to(done, trouble, came_from, after)

    return Machines(machine.Table(SOURCE_TABLE.transitions, react), machine.Table(TARGET_TABLE.transitions, react))


def with_order(*wanted: Action) -> Machines:
    """Wherever all of these are done, they are done in this order."""

    def reordered(actions: Sequence[Action]) -> tuple[Action, ...]:
        if not set(wanted) <= set(actions):
            return tuple(actions)
        following = iter(wanted)
        return tuple(next(following) if action in wanted else action for action in actions)

    return with_actions(reordered)


def without(action: Action, *beside: Action) -> Machines:
    """The action is never done, or never where these are done too."""
    return with_actions(
        lambda actions: tuple(kept for kept in actions if kept is not action or not set(beside) <= set(actions))
    )


def with_actions(changed: Callable[[Sequence[Action]], Sequence[Action]]) -> Machines:
    def entries(table: machine.Table) -> machine.Table:
        return machine.Table({key: (state, changed(actions)) for key, (state, actions) in table.transitions.items()})

    def settle(function: Callable[..., Settlement]) -> Callable[..., Settlement]:
        def call(*arguments: Any) -> Settlement:
            decision = function(*arguments)
            return Settlement(decision.outcome, changed(decision.actions), decision.need_not_succeed)

        return call

    return Machines(entries(SOURCE_TABLE), entries(TARGET_TABLE), settle(settle_source), settle(settle_target))


def with_target_outcome(step: Step | None, wrong: Settlement) -> Machines:
    return Machines(
        settle_target=lambda *arguments: wrong if arguments[0] is step else settle_target(*arguments),
        knows_journals=False,
    )


def with_source_outcome(step: Step | None, copy: Copy, wrong: Settlement, target: Outcome | None = None) -> Machines:
    def call(*arguments: Any) -> Settlement:
        return wrong if arguments[:2] == (step, copy) and target in (None, arguments[2]) else settle_source(*arguments)

    return Machines(settle_source=call)


def with_doubt_as(wrong: Settlement) -> Machines:
    def call(*arguments: Any) -> Settlement:
        decision = settle_target(*arguments)
        return wrong if decision.outcome is Outcome.IN_DOUBT else decision

    return Machines(settle_target=call)


RUNS_ON = (S.BACK, (A.RECORD_BACK, A.RUN_ON, A.SEND_ABORT))
FAILS = (T.FAILED, (A.RECORD_REFUSED, A.KILL, A.SEND_FAILED))
CLEARS = (T.CLEARED, (A.KILL, A.REMOVE_IMAGES, A.RECORD_CLEARED))
DROPS = (T.DROPPED, (A.RECORD_DROPPED, A.KILL))

MUTANTS: Mapping[str, Machines] = {
    "not frozen for good": without(A.KEEP_FROZEN),
    "frozen for good after the record": with_order(A.RECORD_COMMITTED, A.KEEP_FROZEN),
    "run is sent before the record": with_order(A.SEND_RUN, A.RECORD_COMMITTED),
    "the source commits without a record": without(A.RECORD_COMMITTED),
    "the source runs on before the record": with_order(A.RUN_ON, A.RECORD_BACK),
    "the source runs on without a record": without(A.RECORD_BACK),
    "the source does not run on": without(A.RUN_ON, A.SEND_ABORT),
    "the source runs on when a committed link is lost": with_entries({(S.COMMITTED, E.LOST): RUNS_ON}),
    "the source runs on when it is stopped after it committed": with_entries({(S.COMMITTED, E.VETOED): RUNS_ON}),
    "the source gives up as soon as the target is ready": with_entries(
        {(S.CONFIRMING, E.READY): (S.COMMITTED, (A.KEEP_FROZEN, A.RECORD_COMMITTED, A.GIVE_UP, A.SEND_RUN))}
    ),
    "the source misses that the target is ready": with_entries({(S.HELD, E.READY): (S.HELD, ())}),
    "the source commits when the target is in doubt": with_entries({(S.DOUBT, E.FAILED): (S.DONE, (A.GIVE_UP,))}),
    "the target runs without a record": without(A.RECORD_RUN),
    "the target runs before the record": with_order(A.LET_GO, A.RECORD_RUN),
    "the target runs when it is ready": with_entries(
        target={(T.RESTORING, E.RESTORED): (T.STARTING, (A.SEND_READY, A.RECORD_RUN, A.LET_GO))}
    ),
    "the target runs though it has dropped": with_entries(
        target={(T.DROPPED, E.RUN): (T.STARTING, (A.RECORD_RUN, A.RESTORE, A.LET_GO))}
    ),
    "the target runs when the link is lost": with_entries(
        target={(T.READY, E.LOST): (T.STARTING, (A.RECORD_RUN, A.LET_GO))}
    ),
    "the images go when the link is lost": with_entries(target={(T.READY, E.LOST): CLEARS}),
    "the images go when the restore fails": with_entries(
        target={(T.READY, E.CRIU_ENDED): (T.FAILED, (*FAILS[1], A.REMOVE_IMAGES))}
    ),
    "a lost link is not noticed": with_entries(target={(T.READY, E.LOST): (T.READY, ())}),
    "the target is stopped while CRIU lets it go": with_entries(target={(T.STARTING, E.VETOED): FAILS}),
    "the target is killed when the link is lost": with_entries(target={(T.STARTING, E.LOST): DROPS}),
    "the end of CRIU is not noticed": with_entries(target={(T.STARTING, E.CRIU_ENDED): (T.STARTING, ())}),
    "failed is sent before the record": with_order(A.SEND_FAILED, A.RECORD_REFUSED),
    "nothing is refused": without(A.RECORD_REFUSED),
    "nothing is killed": without(A.KILL, A.RECORD_REFUSED),
    "no images are removed": without(A.REMOVE_IMAGES),
    "cleared before the images are removed": with_order(A.RECORD_CLEARED, A.REMOVE_IMAGES),
    "images stay after a restore in the settlement": without(A.REMOVE_IMAGES, A.RESTORE),
    "unknown counts as not run": with_source_outcome(
        Step.COMMITTED, Copy.FROZEN, Settlement(Outcome.BACK, (A.RECORD_BACK, A.RUN_ON)), Outcome.UNKNOWN
    ),
    "unknown counts as run": with_source_outcome(
        Step.COMMITTED, Copy.FROZEN, Settlement(Outcome.GONE, (A.RECORD_DONE, A.GIVE_UP)), Outcome.UNKNOWN
    ),
    "a doubt counts as run": with_doubt_as(Settlement(Outcome.RAN, (A.RECORD_RUNNING,))),
    "a doubt counts as not run": with_doubt_as(Settlement(Outcome.NOT_RUN, (A.RECORD_REFUSED, A.KILL))),
    "a copy that ran on counts as frozen to its end": with_source_outcome(
        Step.FREEZING, Copy.NONE, Settlement(Outcome.GONE)
    ),
    "a copy that is back counts as frozen to its end": with_source_outcome(
        Step.BACK, Copy.NONE, Settlement(Outcome.GONE)
    ),
    "a copy that is lost counts as running": with_source_outcome(Step.BACK, Copy.NONE, Settlement(Outcome.BACK)),
    # What a review has found, each as it was.
    "a lost journal at the target counts as not run": with_target_outcome(None, Settlement(Outcome.NOT_RUN)),
    "an emptied /run counts as not told": Machines(knows_of_lost_marks=False),
    "anybody may answer for the target": Machines(knows_journals=False),
    "a workload in doubt is handed on": Machines(knows_open_records=False),
    "the source runs on after a committed that may be there": with_reaction(
        A.RECORD_COMMITTED, (S.HELD, S.CONFIRMING), Reaction(event=E.VETOED), Trouble.MAYBE
    ),
    "the source runs on without a back that is on disk": with_reaction(
        A.RECORD_BACK, (S.COMMITTED, S.UNSURE), Reaction(goes_on=True)
    ),
    # Of the same kind.
    "the settlement takes what it can read for what is on disk": with_source_outcome(
        Step.BACK, Copy.FROZEN, Settlement(Outcome.BACK, (A.RUN_ON,))
    ),
    "the target lets go without a record": with_reaction(A.RECORD_RUN, None, Reaction(goes_on=True)),
    "the source commits though CRIU does not hold the tasks": with_reaction(
        A.KEEP_FROZEN, None, Reaction(goes_on=True)
    ),
    "a source without a record counts as one whose copy is gone": with_source_outcome(
        None, Copy.NONE, Settlement(Outcome.GONE)
    ),
    "a source without a record counts as one that runs on": with_source_outcome(
        None, Copy.FROZEN, Settlement(Outcome.BACK, (A.RUN_ON,))
    ),
    "a copy that is given up counts as one that ran on": with_source_outcome(
        Step.COMMITTED, Copy.NONE, Settlement(Outcome.ENDED)
    ),
}


# Of most mistakes a fault or a lie is enough; these need more.
DEEP_MUTANTS: Mapping[str, World] = {
    "failed is sent before the record": World(3),
    "the settlement takes what it can read for what is on disk": World(1, 2),
}


@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in DEEP_MUTANTS])
def test_the_exploration_finds(name: str) -> None:
    with pytest.raises(Violation):
        explore_from_none(MUTANTS[name])


def explore_from_none(mutant: Machines) -> None:
    """With nothing that goes wrong first, then with more and more: most mistakes are found soon."""
    for world in (World(0), World(1), World(0, 1), World(2), World(1, 1)):
        explore(world, judge_of(world), mutant)


@deep
@pytest.mark.parametrize("name", DEEP_MUTANTS)
def test_a_deeper_exploration_finds(name: str) -> None:
    world = DEEP_MUTANTS[name]
    with pytest.raises(Violation):
        explore(world, judge_of(world), MUTANTS[name])
