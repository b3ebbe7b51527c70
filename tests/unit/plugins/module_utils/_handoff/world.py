# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that can happen to a handoff, as a small world that is explored from its beginning to every one of its ends.

A `World` holds both hosts, the link between them and up to two settlements at a time. `steps` gives every world that
can come next. The agents in it are the machines of machine.py, the settlements its `Progress`: the same code that runs
on hosts. A transition's actions are carried out one at a time, so that everything can happen between two of them.
`explore` visits all worlds once and judges each step and each end; what must never be is a `Violation` with the path
that leads there.

How CRIU and the agents behave when one of them dies:
- The sender dies while CRIU dumps or waits in post-dump: nobody answers, so CRIU undoes the dump and the tasks run on.
- CRIU dies while it holds the tasks: they run on. Tasks that are frozen for good stay stopped in both cases.
- The receiver dies while CRIU restores or waits in post-restore: nobody answers, so CRIU kills what it has restored.
- CRIU dies before it was told to let the copy go: the copy hangs until it is killed. If it dies while it lets it go,
  the copy runs, hangs or dies with it.
- A host that crashes keeps of its journal what is on disk and loses all else. The images at the target are in memory
  (`on_disk`: they are not).

Two budgets pay for what goes wrong. `faults`: something dies, is cut, crashes, is asked to stop, comes twice, or a
settlement is begun too early. `lies`: a disk, a journal or a folder does not hold what it should, an action fails, or
somebody else comes in between:
- A record fails: it is surely not there, or it can be read and is not on disk, or it is there although it failed. It
  may be the first of many: then all that follow fail too, until the host crashes or somebody mends the disk.
- Any other action fails.
- A journal is lost, or rolled back to an earlier step, also while its agent lives. Another machine that answers for a
  host is the same: it does not have that journal. Not among them is a journal that is rolled back to the very moment
  between `complete` and `run`, or between `committed` and `back`: it says what the journal of a host says that crashed
  then, and nothing on earth can tell the two apart.
- `/run` is emptied within a boot: the marks and the images in memory are gone.
- The workload is handed on by a second handoff, as far as nothing holds it.
- A second settlement is begun beside the first one. On one host they wait for each other.
- A virtual machine is rolled back to a snapshot (`snapshots`), memory and disk. If the workload lived there, it lives
  again, whatever anybody has written down since: that is left out.
"""

from __future__ import annotations

from typing import Callable, List, NamedTuple, Tuple

from ansible_collections.fleet.criu.plugins.module_utils._handoff import machine as subject
from ansible_collections.fleet.criu.plugins.module_utils._handoff import states
from ansible_collections.fleet.criu.plugins.module_utils._handoff.machine import Machine, Progress, Table
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import (
    Action,
    Copy,
    Event,
    Outcome,
    Settlement,
    Source,
    Step,
    Target,
    Trouble,
)

RUNNING, HELD, STOPPED, GONE = "running", "held", "stopped", "gone"  # the source's copy; stopped is frozen for good
NONE, RESTORED = "none", "restored"  # the target's copy, besides RUNNING
PARTIAL, COMPLETE = "partial", "complete"  # the images, besides NONE
WORKING, WAITING, TOLD, RESUMED, DEAD = "working", "waiting", "told", "resumed", "dead"  # CRIU, besides NONE

SETTLEMENT = "settlement"
ROLLED_BACK = "the target is rolled back"
TO_LIFE = "to where the workload lived"
SETTLING, BESIDE = "settling", "beside"  # the fields of a world that hold a settlement
BOTH, NO_TARGET, NO_SOURCE = "both", "no target", "no source"  # whom the settlement reaches

FINAL = {Source.BACK, Source.DONE, Source.DOUBT, Target.DROPPED, Target.CLEARED}
TO_TARGET = {
    Action.SEND_IMAGES: Event.RECEIVED,
    Action.SEND_RUN: Event.RUN,
    Action.SEND_ABORT: Event.ABORT,
    Action.SEND_GONE: Event.GONE,
}
TO_SOURCE = {
    Action.SEND_READY: Event.READY,
    Action.SEND_RUNNING: Event.RUNNING,
    Action.SEND_FAILED: Event.FAILED,
}


class Machines(NamedTuple):
    """What is judged: the tables and functions of states.py, or a mutant of them."""

    source: Table = subject.SOURCE_TABLE
    target: Table = subject.TARGET_TABLE
    settle_source: Callable[..., Settlement] = states.settle_source
    settle_target: Callable[..., Settlement] = states.settle_target
    # Whether a settlement takes an emptied folder for one that may have had the mark that CRIU was told.
    knows_of_lost_marks: bool = True
    # Whether the source looks at whose journal, and how old, the target's outcome is from.
    knows_journals: bool = True
    # Whether a handoff looks for open records of others.
    knows_open_records: bool = True


class Message(NamedTuple):
    """A message in flight; `again` if it is a duplicate."""

    event: Event
    again: bool = False


class Journal(NamedTuple):
    """The steps that can be read, and how many of them are on disk."""

    steps: tuple[Step, ...] = (Step.ARMED,)
    durable: int = 1

    @property
    def step(self) -> Step | None:
        return self.steps[-1] if self.steps else None

    def with_step(self, step: Step) -> Journal:
        # Doing something again leaves the last step as it is; so the world has an end.
        steps = self.steps if self.step is step else (*self.steps, step)
        return Journal(steps, len(steps))


class Settling(NamedTuple):
    """A settlement under way.

    `phase` 0 ends the receiver, 1 settles the target, 2 ends the sender, 3 settles the source, 4 the target once more.
    """

    reach: str
    phase: int = 0
    asked: bool = False
    target: Outcome = Outcome.UNKNOWN
    source: Outcome = Outcome.UNKNOWN
    progress: Progress | None = None


class Snapshot(NamedTuple):
    """What a virtual machine was when its snapshot was taken: the fields of one host, by their names."""

    side: str
    fields: tuple[object, ...]


SOURCE_FIELDS = ("sender", "source_journal", "source_copy", "source_criu", "ran_on")
TARGET_FIELDS = ("receiver", "target_journal", "target_copy", "target_criu", "has_run", "told", "marks_lost", "images")


class World(NamedTuple):
    """Everything there is. `ran_on`: the source's copy ran after the dump, so the images are stale. `has_run`: the
    target's copy has run, so everything else is stale. `told`: the mark that CRIU may have let the copy go.
    `marks_lost`: `/run` was emptied at the target. `moved_on`: a second handoff has brought it to a third host."""

    faults: int
    lies: int = 0
    snapshots: int = 0
    on_disk: bool = False
    sender: Machine | None = Machine(Source.LIVE)
    source_journal: Journal = Journal()
    source_copy: str = RUNNING
    source_criu: str = NONE
    hold_lost: bool = False
    source_disk_fails: bool = False
    target_disk_fails: bool = False
    ran_on: bool = False
    source_crashed: bool = False
    receiver: Machine | None = Machine(Target.ARMED)
    target_journal: Journal = Journal()
    target_copy: str = NONE
    target_criu: str = NONE
    has_run: bool = False
    told: bool = False
    marks_lost: bool = False
    images: str = NONE
    target_crashed: bool = False
    images_lost: bool = False
    moved_on: bool = False
    cut: bool = False
    source_lost: bool = False
    target_lost: bool = False
    to_target: tuple[Message, ...] = (Message(Event.HELLO),)
    to_source: tuple[Message, ...] = ()
    settling: Settling | None = None
    beside: Settling | None = None
    settled: Settling | None = None
    out_of_reach: bool = False
    snapshot: Snapshot | None = None
    rolled_back: str = ""


Steps = List[Tuple[str, World]]


class Violation(AssertionError):
    """Something that must never be, with the steps that led there."""


class Exploration(NamedTuple):
    """How much was visited, the worlds at rest that were not settled before, and the ends."""

    worlds: int
    steps: int
    paths: int
    rests: list[World]
    ends: list[World]


class _Visit:
    """A world on the path that is being explored, what still has to be tried in it, and the paths found so far."""

    def __init__(self, name: str, world: World, following: Steps) -> None:
        self.name = name
        self.world = world
        self.following = iter(following)
        self.paths = 0 if following else 1
        self.rests = bool(following) and following[0][0] == SETTLEMENT


STANDARD = Machines()


def explore(world: World, judge_end: Callable[[World], None], machines: Machines = STANDARD) -> Exploration:
    """Visit every world that this one can lead to with its budgets, and let `judge_end` assert what holds at the ends.

    Raises Violation. The paths are counted, not walked: a world has as many as the worlds that follow it together.
    """
    visits = [_Visit("the beginning", world, steps(world, machines))]
    paths: dict[World, int] = {}
    on_path = {world}
    rests: list[World] = []
    ends: list[World] = []
    taken = 0
    try:
        while visits:
            visit = visits[-1]
            for name, following in visit.following:
                taken += 1
                judge_step(name, visit.world, following)
                if following not in paths:
                    assert following not in on_path, f"a path without end, by {name}"
                    visits.append(_Visit(name, following, steps(following, machines)))
                    on_path.add(following)
                    break
                visit.paths += paths[following]
            else:
                if visit.rests:
                    rests.append(visit.world)
                if visit.world.settled:
                    judge_end(visit.world)
                    ends.append(visit.world)
                paths[visit.world] = visit.paths
                on_path.discard(visit.world)
                visits.pop()
                if visits:
                    visits[-1].paths += visit.paths
    except AssertionError as error:
        story = "\n  ".join(visit.name for visit in visits)
        raise Violation(f"{error}\n  {story}\n{visits[-1].world}") from error
    return Exploration(len(paths), taken, paths[world], rests, ends)


def judge_step(name: str, before: World, after: World) -> None:
    """Assert what must never happen, whatever went wrong before."""
    copies = (after.source_copy == RUNNING) + (after.target_copy == RUNNING) + after.moved_on
    assert copies < 2, f"{copies} copies run, by {name}"
    forgets = after.source_copy == RUNNING and after.has_run
    assert not forgets, f"the source's copy runs and has forgotten what the target's did, by {name}"
    starts = after.target_copy == RUNNING != before.target_copy
    assert not (starts and (before.ran_on or before.has_run)), f"the target runs stale images, by {name}"
    assert not (after.moved_on and after.has_run), f"a third host runs what the target's copy has overtaken, by {name}"
    lost = exists(before) and not exists(after)
    assert not lost or _unavoidable(name, before), f"nothing is left of the workload, by {name}"


def exists(world: World) -> bool:
    """Whether the workload runs, or can be made to run, with nothing forgotten."""
    if world.target_copy == RUNNING or world.moved_on:
        return True
    return not world.has_run and (world.source_copy != GONE or (world.images == COMPLETE and not world.ran_on))


def _unavoidable(name: str, before: World) -> bool:
    """The only ways to lose a workload: its host crashes while it is nowhere else.

    - The source crashes before the target has a complete image set on record, or after its copy ran on, or after the
      target lost the images.
    - The target crashes while the copy runs there. (Nothing else in the world is fresh then.)
    - The target crashes with the images in memory, or loses them, or is rolled back to before it had them, after the
      source lost the tasks, or just before it gives them up.
    """
    if name == "source crashes":
        return before.images != COMPLETE or before.ran_on
    if name == "target crashes":
        return before.target_copy == RUNNING or before.source_copy == GONE
    if name.endswith("GIVE_UP"):
        return before.rolled_back != ""
    return name in ("/run is emptied at the target", ROLLED_BACK) and before.source_copy == GONE


def steps(world: World, machines: Machines) -> Steps:
    """All that can happen next. Only a settled world with both hosts in reach has nothing more to come."""
    if world.settled or world.rolled_back == TO_LIFE:
        return []
    found = [*_sender_steps(world, machines), *_receiver_steps(world, machines), *_criu_steps(world)]
    if world.settling:
        found += _settlement_steps(world, SETTLING, machines)
        found += _settlement_steps(world, BESIDE, machines) if world.beside else []
    elif not found:
        assert not world.sender, "the sender waits for nothing"
        assert not world.receiver, "the receiver waits for nothing"
        found += _begin_settlement(world)
    assert found, "the settlement waits for nothing"
    if world.faults:
        left = world._replace(faults=world.faults - 1)
        found += _faults(left, machines)
        if not world.settling:
            found += _begin_settlement(left)
    if world.lies:
        found += _lies(world._replace(lies=world.lies - 1), machines)
    return [*found, *_snapshots(world)]


# The sender


def _sender_steps(world: World, machines: Machines) -> Steps:
    agent = world.sender
    if not agent:
        return []
    if agent.pending:
        return _source_action(world, agent, machines)
    found: Steps = []
    if world.to_source:
        message, *rest = world.to_source
        after = _source_event(world._replace(to_source=tuple(rest)), message.event, machines)
        if message.again:
            _expect_nothing(agent, after.sender)
        found.append((f"source gets {message.event.name}", after))
    if world.cut and _source_loses(world, machines) != world:
        found.append(("source LOST", _source_loses(world, machines)))
    if agent.state in FINAL and (world.cut or not world.to_target):
        found.append(("sender ends", _without_sender(world)))
    return found + _sender_progress(world, machines)


def _sender_progress(world: World, machines: Machines) -> Steps:
    """What the sender sees on its own host."""
    found: Steps = []
    assert world.sender
    state = world.sender.state
    if state is Source.LIVE and not world.to_target and not world.cut:
        found.append(("FREEZE", _source_event(world, Event.FREEZE, machines)))
    if state is Source.FREEZING and world.source_criu == WAITING:
        found.append(("DUMPED", _source_event(world, Event.DUMPED, machines)))
    if state is Source.HELD:
        found.append(("SENT", _source_event(world, Event.SENT, machines)))
    if world.source_criu == DEAD:
        found.append(("source CRIU_ENDED", _source_event(world._replace(source_criu=NONE), Event.CRIU_ENDED, machines)))
    return found


def _source_event(world: World, event: Event, machines: Machines) -> World:
    assert world.sender
    return world._replace(sender=world.sender.fire(event, machines.source))


def _source_loses(world: World, machines: Machines) -> World:
    return _source_event(world._replace(cut=True, source_lost=True, to_source=()), Event.LOST, machines)


def _source_action(world: World, agent: Machine, machines: Machines) -> Steps:
    """The next action, as it is and, if there is a lie left, as it may fail."""
    action = agent.pending[0]
    name = f"source {action.name}"
    failed = world._replace(sender=agent.troubled(Trouble.FAILED, machines.source))
    if action is Action.KEEP_FROZEN and (world.source_criu != WAITING or world.hold_lost):
        # CRIU was gone before the tasks were frozen for good, so they have run on; or it cannot be made to wait.
        return [(f"{name} fails", failed._replace(source_copy=STOPPED))]
    if isinstance(action.value, Step) and (world.source_disk_fails or not world.source_journal.steps):
        return [(f"{name} fails", failed)]
    if action is Action.RUN_ON and world.hold_lost and world.source_criu == WAITING:
        # CRIU cannot be told, and is refused when we are gone.
        return [(f"{name} fails", failed)]
    done = world._replace(sender=agent.done())
    if action in TO_TARGET:
        message = Message(TO_TARGET[action])
        sent = world.receiver and not world.cut
        return [(name, done._replace(to_target=(*world.to_target, message)) if sent else done)]
    found = [(name, act_on_source(done, action))]
    if not world.lies:
        return found
    failed = failed._replace(lies=world.lies - 1)
    if isinstance(action.value, Step):
        maybe = world._replace(sender=agent.troubled(Trouble.MAYBE, machines.source), lies=world.lies - 1)
        found += _records_that_fail(name, "source", action.value, failed, maybe)
    elif action is Action.KEEP_FROZEN:
        found.append((f"{name} fails", failed._replace(source_copy=STOPPED)))
    elif action in (Action.GIVE_UP, Action.RUN_ON):
        found.append((f"{name} fails", failed))
    return found


def _records_that_fail(name: str, side: str, step: Step, failed: World, maybe: World) -> Steps:
    before: Journal = getattr(maybe, f"{side}_journal")
    there = before.with_step(step)
    found = [
        (f"{name} fails", failed),
        (
            f"{name} may be there and is not on disk",
            maybe._replace(**{f"{side}_journal": there._replace(durable=before.durable)}),
        ),
        (f"{name} may be there and is", maybe._replace(**{f"{side}_journal": there})),
    ]
    for_good = [(f"{how}, as all that follow", world._replace(**{f"{side}_disk_fails": True})) for how, world in found]
    return [*found, *for_good]


def act_on_source(world: World, action: Action) -> World:
    """What an action does at the source, whoever carries it out."""
    if isinstance(action.value, Step):
        return world._replace(source_journal=world.source_journal.with_step(action.value))
    if action is Action.DUMP:
        streams = world.receiver and world.receiver.state is Target.RECEIVING and not world.cut
        return world._replace(source_copy=HELD, source_criu=WORKING, images=PARTIAL if streams else world.images)
    if action is Action.KEEP_FROZEN:
        return world._replace(source_copy=STOPPED)
    if action is Action.GIVE_UP:
        return world._replace(source_copy=GONE, source_criu=NONE)
    if action is Action.RUN_ON:
        return _runs_on(world._replace(source_criu=NONE))
    raise AssertionError(f"{action} is not for a source")


def _runs_on(world: World) -> World:
    return world._replace(source_copy=RUNNING, ran_on=True) if world.source_copy in (HELD, STOPPED) else world


def _without_sender(world: World) -> World:
    return world._replace(sender=None, cut=True, source_lost=True, to_source=())


# The receiver


def _receiver_steps(world: World, machines: Machines) -> Steps:
    agent = world.receiver
    if not agent:
        return []
    if agent.pending:
        return _target_action(world, agent, machines)
    found: Steps = []
    if world.to_target:
        message, *rest = world.to_target
        after = _target_event(world._replace(to_target=tuple(rest)), message.event, machines)
        if message.again:
            _expect_nothing(agent, after.receiver)
        found.append((f"target gets {message.event.name}", after))
    if world.cut and _target_loses(world, machines) != world:
        found.append(("target LOST", _target_loses(world, machines)))
    ended = agent.state is Target.RUNNING and (world.target_lost or world.images == NONE)
    if (agent.state in FINAL or ended) and (world.cut or not world.to_source):
        found.append(("receiver ends", _without_receiver(world)))
    return found + _receiver_progress(world, machines)


def _receiver_progress(world: World, machines: Machines) -> Steps:
    """What the receiver sees on its own host."""
    found: Steps = []
    assert world.receiver
    state, seen = world.receiver.state, world._replace(target_criu=NONE)
    if state is Target.RESTORING and world.target_criu == WAITING:
        found.append(("RESTORED", _target_event(world, Event.RESTORED, machines)))
    if state is Target.STARTING and world.target_criu == RESUMED:
        found.append(("RESUMED", _target_event(seen, Event.RESUMED, machines)))
    if world.target_criu == DEAD:
        found.append(("target CRIU_ENDED", _target_event(seen, Event.CRIU_ENDED, machines)))
    return found


def _target_event(world: World, event: Event, machines: Machines) -> World:
    assert world.receiver
    return world._replace(receiver=world.receiver.fire(event, machines.target))


def _target_loses(world: World, machines: Machines) -> World:
    return _target_event(world._replace(cut=True, target_lost=True, to_target=()), Event.LOST, machines)


def _target_action(world: World, agent: Machine, machines: Machines) -> Steps:
    """The next action, as it is and, if there is a lie left, as it may fail."""
    action = agent.pending[0]
    name = f"target {action.name}"
    failed = world._replace(receiver=agent.troubled(Trouble.FAILED, machines.target))
    if isinstance(action.value, Step) and (world.target_disk_fails or not world.target_journal.steps):
        return [(f"{name} fails", failed)]
    if action is Action.RESTORE and world.images_lost:
        done = world._replace(receiver=agent.done())
        return [(f"{name} fails", done._replace(target_criu=DEAD))]
    if action is Action.LET_GO and not world.told and not world.marks_lost:
        found = [(name, world._replace(told=True))]
        return found + ([(f"{name} fails", _without_criu(_paid(failed)))] if world.lies else [])
    if action is Action.LET_GO and world.marks_lost and not world.told:
        return [(f"{name} fails", _without_criu(failed))]
    done = world._replace(receiver=agent.done())
    if action in TO_SOURCE:
        message = Message(TO_SOURCE[action])
        sent = world.sender and not world.cut
        return [(name, done._replace(to_source=(*world.to_source, message)) if sent else done)]
    if action is Action.RESTORE:
        return [(name, done._replace(target_criu=WORKING, told=False))]
    found = [(name, act_on_target(done, action))]
    if not world.lies:
        return found
    if isinstance(action.value, Step):
        maybe = _paid(world)._replace(receiver=agent.troubled(Trouble.MAYBE, machines.target))
        found += _records_that_fail(name, "target", action.value, _paid(failed), maybe)
    elif action in (Action.KILL, Action.REMOVE_IMAGES):
        found.append((f"{name} fails", _paid(failed)))
    return found


def _paid(world: World) -> World:
    return world._replace(lies=world.lies - 1)


def _without_criu(world: World) -> World:
    """The receiver has killed CRIU, which was not told: what it has restored hangs."""
    return world._replace(target_criu=DEAD) if world.target_criu == WAITING else world


def act_on_target(world: World, action: Action) -> World:
    """What an action does at the target, whoever carries it out."""
    if isinstance(action.value, Step):
        images = COMPLETE if action is Action.RECORD_COMPLETE and not world.images_lost else world.images
        return world._replace(target_journal=world.target_journal.with_step(action.value), images=images)
    if action is Action.RESTORE:
        assert world.images == COMPLETE, "an incomplete image set is restored"
        return world._replace(target_criu=WAITING, target_copy=RESTORED, told=False, marks_lost=False)
    if action is Action.LET_GO:
        return world._replace(told=True, target_criu=TOLD if world.target_criu == WAITING else world.target_criu)
    if action is Action.KILL:
        return world._replace(target_criu=NONE, target_copy=NONE)
    if action is Action.REMOVE_IMAGES:
        return world._replace(images=NONE)
    raise AssertionError(f"{action} is not for a target")


def _without_receiver(world: World) -> World:
    return world._replace(receiver=None, cut=True, target_lost=True, to_target=())


def _expect_nothing(before: Machine, after: Machine | None) -> None:
    unchanged = after and after.state is before.state and set(after.pending) <= {Action.REMOVE_IMAGES}
    assert unchanged, f"a duplicate changes {before} to {after}"


# CRIU


def _criu_steps(world: World) -> Steps:
    found: Steps = []
    if world.source_criu == WORKING and world.sender:
        found.append(("CRIU has dumped", world._replace(source_criu=WAITING)))
    if world.source_criu in (WORKING, WAITING) and not world.sender:
        found.append(("CRIU is refused at the source", _source_criu_ends(world, NONE)))
    if world.source_criu == DEAD and not world.sender:
        found.append(("nobody sees", world._replace(source_criu=NONE)))
    if world.target_criu == WORKING:
        found.append(("CRIU has restored", world._replace(target_criu=WAITING, target_copy=RESTORED)))
    if world.target_criu == WAITING and not world.receiver and not _settlement_holds(world):
        found.append(("CRIU is refused at the target", world._replace(target_criu=NONE, target_copy=NONE)))
    if world.target_criu == TOLD:
        found.append(("CRIU lets go", world._replace(target_criu=RESUMED, target_copy=RUNNING, has_run=True)))
    if world.target_criu in (DEAD, RESUMED) and not world.receiver and not _settlement_holds(world):
        found.append(("nobody sees", world._replace(target_criu=NONE)))
    return found


def _settlement_holds(world: World) -> bool:
    return any(
        settling and settling.phase == 4 and settling.progress and settling.progress.pending
        for settling in (world.settling, world.beside)
    )


def _source_criu_ends(world: World, state: str) -> World:
    world = world._replace(source_criu=state)
    return _runs_on(world) if world.source_copy == HELD else world


def _target_criu_dies(world: World) -> Steps:
    dead = world._replace(target_criu=DEAD)
    if world.target_criu == WAITING:
        return [("target CRIU dies", dead)]
    hangs, dies = dead._replace(target_copy=RESTORED), dead._replace(target_copy=NONE)
    return [("target CRIU dies, the copy hangs", hangs), ("target CRIU dies with the copy", dies)]


# Faults


def _faults(world: World, machines: Machines) -> Steps:
    """Each fault that can happen now. `world` has paid for it."""
    found = [*_sender_faults(world, machines), *_receiver_faults(world, machines), *_duplicates(world)]
    if not world.cut:
        found.append(("the link is cut", world._replace(cut=True)))
    if world.source_criu in (WORKING, WAITING):
        found.append(("source CRIU dies", _source_criu_ends(world, DEAD)))
    if world.target_criu in (WORKING, WAITING, TOLD):
        found += _target_criu_dies(world)
    found += [("source crashes", after) for after in _source_crashes(world)]
    found += [("target crashes", after) for after in _target_crashes(world)]
    if world.settling:
        # If there is another one, that goes on alone.
        found.append(("settlement dies", world._replace(settling=world.beside, beside=None)))
    return found


def _sender_faults(world: World, machines: Machines) -> Steps:
    agent = world.sender
    found = [("sender dies", _without_sender(world))] if agent else []
    if agent and not agent.pending and agent.state not in FINAL:
        found.append(("source VETOED", _source_event(world, Event.VETOED, machines)))
        if not world.cut:
            # It gives up, but what the other side says may still arrive.
            found.append(("source times out", _source_event(world, Event.LOST, machines)))
    return found


def _receiver_faults(world: World, machines: Machines) -> Steps:
    agent = world.receiver
    found = [("receiver dies", _without_receiver(world))] if agent else []
    if agent and not agent.pending and agent.state not in FINAL:
        found.append(("target VETOED", _target_event(world, Event.VETOED, machines)))
        if not world.cut:
            found.append(("target times out", _target_event(world, Event.LOST, machines)))
    return found


def _duplicates(world: World) -> Steps:
    found: Steps = []
    if world.to_target and not world.to_target[-1].again:
        twice = (*world.to_target, Message(world.to_target[0].event, True))
        found.append(("a message to the target comes twice", world._replace(to_target=twice)))
    if world.to_source and not world.to_source[-1].again:
        twice = (*world.to_source, Message(world.to_source[0].event, True))
        found.append(("a message to the source comes twice", world._replace(to_source=twice)))
    return found


def _after_crash(journal: Journal) -> list[Journal]:
    """What was readable and not on disk may get there in the last moment, or not."""
    found = {journal.steps[: journal.durable], journal.steps}
    return [Journal(steps, len(steps)) for steps in sorted(found, key=len)]


def _source_crashes(world: World) -> list[World]:
    lost = _without_sender(world)._replace(source_copy=GONE, source_criu=NONE, source_crashed=True, settling=None)
    lost = lost._replace(source_disk_fails=False)
    # It has nothing that another crash could take away, unless something is left to be written to disk.
    changed = [
        lost._replace(source_journal=journal, beside=None, hold_lost=False)
        for journal in _after_crash(world.source_journal)
    ]
    return [after for after in changed if after != world]


def _target_crashes(world: World) -> list[World]:
    # The mark that CRIU was told does not outlive the host, so it counts as there.
    lost = _without_receiver(world)._replace(target_crashed=True, settling=None, beside=None, told=True)
    images = world.images if world.on_disk else NONE
    lost = lost._replace(target_copy=NONE, target_criu=NONE, images=images, marks_lost=False, images_lost=False)
    lost = lost._replace(target_disk_fails=False)
    changed = [lost._replace(target_journal=journal) for journal in _after_crash(world.target_journal)]
    return [after for after in changed if after != world]


# Lies


def _lies(world: World, machines: Machines) -> Steps:
    """What else a disk, a folder or somebody can do now. `world` has paid for it."""
    found: Steps = []
    for name in ("source_journal", "target_journal"):
        journal = getattr(world, name)
        for length in range(len(journal.steps)):
            if not _cannot_be_told(journal, length):
                earlier = world._replace(**{name: Journal(journal.steps[:length], length)})
                found.append((f"{name} is rolled back to {length} steps", earlier))
    if not world.marks_lost and world.target_journal.step is not Step.ARMED:
        lost = world._replace(marks_lost=True, images=world.images if world.on_disk else NONE)
        found.append(("/run is emptied at the target", lost._replace(images_lost=not world.on_disk)))
    if not world.hold_lost and world.source_criu != NONE:
        found.append(("/run is emptied at the source", world._replace(hold_lost=True)))
    if not world.moved_on and _can_be_handed_on(world, machines):
        found.append(("a second handoff", world._replace(moved_on=True, source_copy=GONE, ran_on=True)))
    if world.settling and not world.beside:
        found.append(("another settlement", world._replace(beside=Settling(BOTH))))
    return found


def _cannot_be_told(journal: Journal, length: int) -> bool:
    """Whether it then says what a host's journal says that crashed, and has lived on since."""
    now, then = set(journal.steps), set(journal.steps[:length])
    forgets_run = Step.RUN in now - then and Step.COMPLETE in then
    return forgets_run or (Step.BACK in now - then and Step.COMMITTED in then)


def _can_be_handed_on(world: World, machines: Machines) -> bool:
    if world.sender or world.source_criu != NONE or world.source_copy == GONE:
        return False
    is_open = world.source_journal.step not in (None, Step.DONE, Step.BACK)
    # What is stopped is refused, whatever the journal says.
    return world.source_copy == RUNNING and not is_open if machines.knows_open_records else True


def _snapshots(world: World) -> Steps:
    """A snapshot of either machine is taken, or it is rolled back to it: its memory and its disk."""
    if world.snapshot is None:
        if not world.snapshots:
            return []
        return [
            (f"a snapshot of the {side}", world._replace(snapshot=_snapshot(world, side), snapshots=0))
            for side in ("source", "target")
        ]
    names = SOURCE_FIELDS if world.snapshot.side == "source" else TARGET_FIELDS
    if _snapshot(world, world.snapshot.side) == world.snapshot or world.rolled_back or world.settling:
        return []
    after = world._replace(**dict(zip(names, world.snapshot.fields)), snapshot=None, cut=True, rolled_back="yes")
    if _brings_to_life(world.snapshot.side, after):
        # Nothing on that machine can know better, and nothing is explored after it.
        return [("a machine is rolled back to where the workload lived", world._replace(rolled_back=TO_LIFE))]
    if world.snapshot.side == "source":
        return [("the source is rolled back", after._replace(to_source=(), source_lost=False))]
    # What the copy has done since then, whoever rolled it back has undone.
    return [(ROLLED_BACK, after._replace(to_target=(), target_lost=False))]


def _brings_to_life(side: str, after: World) -> bool:
    """Whether the machine, as it was, has a copy that runs or will run by itself."""
    if side == "source":
        runs_on = after.sender is not None and after.sender.state is Source.BACK
        is_committed = after.source_journal.step in (Step.COMMITTED, Step.DONE)
        return after.source_copy != GONE and (runs_on or not is_committed)
    starts = after.receiver is not None and after.receiver.state in (Target.STARTING, Target.RUNNING)
    return after.target_copy == RUNNING or (after.target_copy != NONE and (starts or after.target_criu == TOLD))


def _snapshot(world: World, side: str) -> Snapshot:
    names = SOURCE_FIELDS if side == "source" else TARGET_FIELDS
    return Snapshot(side, tuple(getattr(world, name) for name in names))


# The settlement


def _begin_settlement(world: World) -> Steps:
    found = [(SETTLEMENT, world._replace(settling=Settling(BOTH)))]
    if not world.out_of_reach:
        later = world._replace(out_of_reach=True)
        found.append(("settlement without the target", later._replace(settling=Settling(NO_TARGET, 2))))
        found.append(("settlement without the source", later._replace(settling=Settling(NO_SOURCE))))
    return found


def _settlement_steps(world: World, slot: str, machines: Machines) -> Steps:
    settling: Settling = getattr(world, slot)
    if _is_locked(world, slot, settling):
        return []
    if settling.phase in (0, 2):
        end = _end_receiver if settling.phase == 0 else _end_sender
        return end(world, slot, settling, machines)
    if settling.progress is None:
        # Another settlement may have started a CRIU here since, and died.
        if settling.phase != 3 and not world.receiver and world.target_criu != NONE:
            return _target_criu_dies(world) if world.target_criu == TOLD else []
        return [_look(world, slot, settling, machines)]
    if settling.progress.pending:
        return _settlement_action(world, slot, settling)
    return [_next_phase(world, slot, settling)]


def _is_locked(world: World, slot: str, settling: Settling) -> bool:
    """Whether the other settlement is at work on the same host."""
    other = world.beside if slot == SETTLING else world.settling
    if other is None or other.progress is None or not other.progress.pending:
        return False
    return (other.phase == 3) == (settling.phase in (2, 3))


def _end_receiver(world: World, slot: str, settling: Settling, machines: Machines) -> Steps:
    agent = world.receiver
    if agent and not agent.pending and not settling.asked:
        asked = world._replace(**{slot: settling._replace(asked=True)})
        return [("settlement asks the receiver to stop", _target_event(asked, Event.VETOED, machines))]
    if agent and not agent.pending:
        return [("settlement ends the receiver", _without_receiver(world))]
    if not agent and world.target_criu == TOLD:
        return _target_criu_dies(world)
    if not agent and world.target_criu == NONE:
        following = Settling(settling.reach, 1)
        return [("settlement comes to the target", world._replace(**{slot: following}))]
    return []


def _end_sender(world: World, slot: str, settling: Settling, machines: Machines) -> Steps:
    agent = world.sender
    if agent and not agent.pending and not settling.asked:
        asked = world._replace(**{slot: settling._replace(asked=True)})
        return [("settlement asks the sender to stop", _source_event(asked, Event.VETOED, machines))]
    if agent and not agent.pending:
        return [("settlement ends the sender", _without_sender(world))]
    if not agent and world.source_criu == NONE:
        following = settling._replace(phase=3, asked=False)
        return [("settlement comes to the source", world._replace(**{slot: following}))]
    return []


def _look(world: World, slot: str, settling: Settling, machines: Machines) -> tuple[str, World]:
    if settling.phase == 3:
        decision = machines.settle_source(world.source_journal.step, source_copy(world), settling.target)
        settling = settling._replace(source=decision.outcome, progress=subject.begin(decision))
        return f"source is {decision.outcome.name}", world._replace(**{slot: settling})
    told, copy = world.told, target_copy(world)
    if world.marks_lost:
        # What lives is found by other means, and cannot be proved to be it.
        told = machines.knows_of_lost_marks
        copy = copy if copy is not Copy.RUNNING else Copy.SUSPECT if machines.knows_of_lost_marks else Copy.NONE
    images = world.images == COMPLETE
    decision = machines.settle_target(world.target_journal.step, copy, told, images, settling.source)
    settling = settling._replace(target=decision.outcome, progress=subject.begin(decision))
    # A source that is frozen for good has heard `ready`, so the target's journal must have come to `complete`.
    if machines.knows_journals and world.source_copy == STOPPED and Step.COMPLETE not in world.target_journal.steps:
        settling = settling._replace(target=Outcome.NO_RECORD)
    return f"target is {settling.target.name}", world._replace(**{slot: settling})


def source_copy(world: World) -> Copy:
    return {RUNNING: Copy.RUNNING, HELD: Copy.FROZEN, STOPPED: Copy.FROZEN, GONE: Copy.NONE}[world.source_copy]


def target_copy(world: World) -> Copy:
    return {RUNNING: Copy.RUNNING, RESTORED: Copy.FROZEN, NONE: Copy.NONE}[world.target_copy]


def _settlement_action(world: World, slot: str, settling: Settling) -> Steps:
    assert settling.progress
    action = settling.progress.pending[0]
    if action is Action.RECORD_RUNNING and world.target_criu == TOLD:
        return []
    troubled = world._replace(**{slot: settling._replace(progress=settling.progress.troubled())})
    if action is Action.RECORD_RUNNING and world.target_criu == DEAD:
        return [("settlement fails", troubled)]
    name = f"settlement {action.name}"
    side = "source" if settling.phase == 3 else "target"
    fails = getattr(world, f"{side}_disk_fails") or not getattr(world, f"{side}_journal").steps
    if isinstance(action.value, Step) and fails:
        return [(f"{name} fails", troubled)]
    if action is Action.RESTORE and world.images != COMPLETE and world.images_lost:
        return [(f"{name} fails", troubled)]
    if action is Action.LET_GO and not world.told:
        return [(name, world._replace(told=True))]
    done = world._replace(**{slot: settling._replace(progress=settling.progress.done())})
    if settling.phase == 4 and action is Action.RECORD_RUNNING:
        done = done._replace(target_criu=NONE)
    act = act_on_source if settling.phase == 3 else act_on_target
    found = [(name, act(done, action))]
    if world.lies and isinstance(action.value, Step):
        found += _records_that_fail(name, side, action.value, _paid(troubled), _paid(troubled))
    elif world.lies and action is not Action.LET_GO:
        found.append((f"{name} fails", _paid(troubled)))
    return found


def _next_phase(world: World, slot: str, settling: Settling) -> tuple[str, World]:
    assert settling.progress
    if settling.progress.outcome is Outcome.UNKNOWN:
        # Something failed there: the other side is told that nothing is known.
        which = "source" if settling.phase == 3 else "target"
        settling = settling._replace(**{which: Outcome.UNKNOWN})
    following: Settling | None = None
    if settling.phase == 1 and settling.reach == BOTH:
        following = settling._replace(phase=2, progress=None)
    elif settling.phase == 3 and settling.reach == BOTH:
        following = settling._replace(phase=4, progress=None)
    if following is not None:
        return "settlement goes on", world._replace(**{slot: following})
    is_over = settling.phase == 4 and Outcome.UNKNOWN not in (settling.source, settling.target)
    if world.beside is not None:
        # The other one goes on alone.
        return "one settlement ends", world._replace(
            settling=world.beside if slot == SETTLING else world.settling, beside=None
        )
    # Who reads what it has said mends the disk.
    ended = world._replace(settling=None, settled=settling if is_over else None)
    ended = ended._replace(source_disk_fails=False, target_disk_fails=False)
    return "settled" if is_over else "settlement ends", ended


def settle_again(world: World, machines: Machines = STANDARD) -> World:
    """One more settlement, undisturbed, of a world that is settled already."""
    world = world._replace(settled=None, settling=Settling(BOTH), faults=0, lies=0, snapshots=0)
    while world.settling:
        _name, world = [*_criu_steps(world), *_settlement_steps(world, SETTLING, machines)][0]
    return world
