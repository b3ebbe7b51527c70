# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that can happen to a handoff, as a small world that is explored from its beginning to every one of its ends.

A `World` holds both hosts, the link between them and the settlement. `steps` gives every world that can come next. A
transition's actions are carried out one at a time, so that everything can happen between two of them. `explore` visits
all worlds once and judges each step and each end; what must never be is a `Violation` with the path that leads there.

How CRIU and the agents behave when one of them dies:
- The sender dies while CRIU dumps or waits in post-dump: nobody answers, so CRIU undoes the dump and the tasks run on.
- CRIU dies while it holds the tasks: they run on. Tasks that are frozen for good stay stopped in both cases.
- The receiver dies while CRIU restores or waits in post-restore: nobody answers, so CRIU kills what it has restored.
- CRIU dies before it was told to let the copy go: the copy hangs until it is killed. If it dies while it lets it go,
  the copy runs, hangs or dies with it.
- A host that crashes keeps its journal and loses all else. The images at the target are in memory.
"""

from __future__ import annotations

from typing import Callable, List, NamedTuple, Sequence, Tuple

from ansible_collections.fleet.criu.plugins.module_utils._handoff import states
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import (
    Action,
    Copy,
    Event,
    Outcome,
    Settlement,
    Source,
    Step,
    Target,
)

RUNNING, HELD, STOPPED, GONE = "running", "held", "stopped", "gone"  # the source's copy; stopped is frozen for good
NONE, RESTORED = "none", "restored"  # the target's copy, besides RUNNING
PARTIAL, COMPLETE = "partial", "complete"  # the images, besides NONE
WORKING, WAITING, TOLD, RESUMED, DEAD = "working", "waiting", "told", "resumed", "dead"  # CRIU, besides NONE

SETTLEMENT = "settlement"
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
    """What is judged: the functions of states.py, or a mutant of them."""

    source_after: Callable[[Source, Event], tuple[Source, Sequence[Action]]] = states.source_after
    target_after: Callable[[Target, Event], tuple[Target, Sequence[Action]]] = states.target_after
    settle_source: Callable[..., Settlement] = states.settle_source
    settle_target: Callable[..., Settlement] = states.settle_target


class Agent(NamedTuple):
    """A living agent: its state, the actions still to be done, and the state it returns to if one of them fails."""

    state: Source | Target
    actions: tuple[Action, ...] = ()
    before: Source | Target | None = None


class Message(NamedTuple):
    """A message in flight; `again` if it is a duplicate."""

    event: Event
    again: bool = False


class Settling(NamedTuple):
    """A settlement under way.

    `phase` 0 ends the receiver, 1 settles the target, 2 ends the sender, 3 settles the source, 4 the target once more.
    """

    reach: str
    phase: int = 0
    asked: bool = False
    target: Outcome = Outcome.UNKNOWN
    source: Outcome = Outcome.UNKNOWN
    actions: tuple[Action, ...] | None = None


class World(NamedTuple):
    """Everything there is. `ran_on`: the source's copy ran after the dump, so the images are stale. `has_run`: the
    target's copy has run, so everything else is stale. `told`: the mark that CRIU may have let the copy go."""

    faults: int
    sender: Agent | None = Agent(Source.LIVE)
    source_step: Step | None = Step.ARMED
    source_copy: str = RUNNING
    source_criu: str = NONE
    ran_on: bool = False
    source_crashed: bool = False
    receiver: Agent | None = Agent(Target.ARMED)
    target_step: Step | None = Step.ARMED
    target_copy: str = NONE
    target_criu: str = NONE
    has_run: bool = False
    told: bool = False
    images: str = NONE
    target_crashed: bool = False
    cut: bool = False
    source_lost: bool = False
    target_lost: bool = False
    to_target: tuple[Message, ...] = (Message(Event.HELLO),)
    to_source: tuple[Message, ...] = ()
    settling: Settling | None = None
    settled: Settling | None = None
    out_of_reach: bool = False


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


def explore(faults: int, judge_end: Callable[[World], None], machines: Machines = STANDARD) -> Exploration:
    """Visit every world that up to `faults` faults can lead to, and let `judge_end` assert what holds at the ends.

    Raises Violation. The paths are counted, not walked: a world has as many as the worlds that follow it together.
    """
    start = World(faults)
    visits = [_Visit("the beginning", start, steps(start, machines))]
    paths: dict[World, int] = {}
    on_path = {start}
    rests: list[World] = []
    ends: list[World] = []
    taken = 0
    try:
        while visits:
            visit = visits[-1]
            for name, world in visit.following:
                taken += 1
                judge_step(name, visit.world, world)
                if world not in paths:
                    assert world not in on_path, f"a path without end, by {name}"
                    visits.append(_Visit(name, world, steps(world, machines)))
                    on_path.add(world)
                    break
                visit.paths += paths[world]
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
    return Exploration(len(paths), taken, paths[start], rests, ends)


def judge_step(name: str, before: World, after: World) -> None:
    """Assert what must never happen, whatever went wrong before."""
    assert not (after.source_copy == RUNNING and after.target_copy == RUNNING), f"two copies run, by {name}"
    forgets = after.source_copy == RUNNING and after.has_run
    assert not forgets, f"the source's copy runs and has forgotten what the target's did, by {name}"
    starts = after.target_copy == RUNNING != before.target_copy
    assert not (starts and (before.ran_on or before.has_run)), f"the target runs stale images, by {name}"
    lost = exists(before) and not exists(after)
    assert not lost or _unavoidable(name, before), f"nothing is left of the workload, by {name}"


def exists(world: World) -> bool:
    """Whether the workload runs, or can be made to run, with nothing forgotten."""
    if world.target_copy == RUNNING:
        return True
    return not world.has_run and (world.source_copy != GONE or (world.images == COMPLETE and not world.ran_on))


def _unavoidable(name: str, before: World) -> bool:
    """The only ways to lose a workload: its host crashes while it is nowhere else.

    - The source crashes before the target has a complete image set on record, or after its copy ran on, or after the
      target crashed too.
    - The target crashes while the copy runs there. (Nothing else in the world is fresh then.)
    - The target crashes with the images after the source crashed with the tasks.
    """
    if name == "source crashes":
        return before.images != COMPLETE or before.ran_on
    if name == "target crashes":
        return before.target_copy == RUNNING or before.source_crashed
    return False


def steps(world: World, machines: Machines) -> Steps:
    """All that can happen next. Only a settled world with both hosts in reach has nothing more to come."""
    if world.settled:
        return []
    found = [*_sender_steps(world, machines), *_receiver_steps(world, machines), *_criu_steps(world)]
    if world.settling:
        found += _settlement_steps(world, machines)
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
    return found


# The sender


def _sender_steps(world: World, machines: Machines) -> Steps:
    agent = world.sender
    if not agent:
        return []
    if agent.actions:
        return [(f"source {agent.actions[0].name}", _source_action(world, agent, machines))]
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
    state = world.sender.state
    assert isinstance(state, Source)
    following, actions = machines.source_after(state, event)
    return world._replace(sender=Agent(following, tuple(actions), state if actions else None))


def _source_loses(world: World, machines: Machines) -> World:
    return _source_event(world._replace(cut=True, source_lost=True, to_source=()), Event.LOST, machines)


def _source_action(world: World, agent: Agent, machines: Machines) -> World:
    action, rest = agent.actions[0], agent.actions[1:]
    if action is Action.KEEP_FROZEN and world.source_criu != WAITING:
        # CRIU was gone before the tasks were frozen for good, so they have run on: this fails.
        failed = world._replace(sender=Agent(agent.before or agent.state), source_copy=STOPPED, source_criu=NONE)
        return _source_event(failed, Event.CRIU_ENDED, machines)
    world = world._replace(sender=Agent(agent.state, rest, agent.before if rest else None))
    if action in TO_TARGET:
        message = Message(TO_TARGET[action])
        return world if world.cut or not world.receiver else world._replace(to_target=(*world.to_target, message))
    return act_on_source(world, action)


def act_on_source(world: World, action: Action) -> World:
    """What an action does at the source, whoever carries it out."""
    if isinstance(action.value, Step):
        return world._replace(source_step=action.value)
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
    if agent.actions:
        return [(f"target {agent.actions[0].name}", _target_action(world, agent))]
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
    state = world.receiver.state
    assert isinstance(state, Target)
    following, actions = machines.target_after(state, event)
    return world._replace(receiver=Agent(following, tuple(actions), state if actions else None))


def _target_loses(world: World, machines: Machines) -> World:
    return _target_event(world._replace(cut=True, target_lost=True, to_target=()), Event.LOST, machines)


def _target_action(world: World, agent: Agent) -> World:
    action, rest = agent.actions[0], agent.actions[1:]
    if action is Action.LET_GO and not world.told:
        return world._replace(told=True)
    world = world._replace(receiver=Agent(agent.state, rest, agent.before if rest else None))
    if action in TO_SOURCE:
        message = Message(TO_SOURCE[action])
        return world if world.cut or not world.sender else world._replace(to_source=(*world.to_source, message))
    if action is Action.RESTORE:
        return world._replace(target_criu=WORKING, told=False)
    return act_on_target(world, action)


def act_on_target(world: World, action: Action) -> World:
    """What an action does at the target, whoever carries it out."""
    if action is Action.RECORD_COMPLETE:
        return world._replace(target_step=Step.COMPLETE, images=COMPLETE)
    if isinstance(action.value, Step):
        return world._replace(target_step=action.value)
    if action is Action.RESTORE:
        assert world.images == COMPLETE, "an incomplete image set is restored"
        return world._replace(target_criu=WAITING, target_copy=RESTORED, told=False)
    if action is Action.LET_GO:
        return world._replace(told=True, target_criu=TOLD if world.target_criu == WAITING else world.target_criu)
    if action is Action.KILL:
        return world._replace(target_criu=NONE, target_copy=NONE)
    if action is Action.REMOVE_IMAGES:
        return world._replace(images=NONE)
    raise AssertionError(f"{action} is not for a target")


def _without_receiver(world: World) -> World:
    return world._replace(receiver=None, cut=True, target_lost=True, to_target=())


def _expect_nothing(before: Agent, after: Agent | None) -> None:
    unchanged = after and after.state is before.state and set(after.actions) <= {Action.REMOVE_IMAGES}
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
    settling = world.settling
    return bool(settling and settling.phase == 4 and settling.actions)


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
    if not world.source_crashed:
        found.append(("source crashes", _source_crashes(world)))
    if not world.target_crashed:
        found.append(("target crashes", _target_crashes(world)))
    if world.settling:
        found.append(("settlement dies", world._replace(settling=None)))
    return found


def _sender_faults(world: World, machines: Machines) -> Steps:
    agent = world.sender
    found = [("sender dies", _without_sender(world))] if agent else []
    if agent and not agent.actions and agent.state not in FINAL:
        found.append(("source VETOED", _source_event(world, Event.VETOED, machines)))
        if not world.cut:
            # It gives up, but what the other side says may still arrive.
            found.append(("source times out", _source_event(world, Event.LOST, machines)))
    return found


def _receiver_faults(world: World, machines: Machines) -> Steps:
    agent = world.receiver
    found = [("receiver dies", _without_receiver(world))] if agent else []
    if agent and not agent.actions and agent.state not in FINAL:
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


def _source_crashes(world: World) -> World:
    lost = _without_sender(world)
    return lost._replace(source_copy=GONE, source_criu=NONE, source_crashed=True, settling=None)


def _target_crashes(world: World) -> World:
    # The mark that CRIU was told does not outlive the host, so it counts as there.
    lost = _without_receiver(world)._replace(target_crashed=True, settling=None, told=True)
    return lost._replace(target_copy=NONE, target_criu=NONE, images=NONE)


# The settlement


def _begin_settlement(world: World) -> Steps:
    found = [(SETTLEMENT, world._replace(settling=Settling(BOTH)))]
    if not world.out_of_reach:
        later = world._replace(out_of_reach=True)
        found.append(("settlement without the target", later._replace(settling=Settling(NO_TARGET, 2))))
        found.append(("settlement without the source", later._replace(settling=Settling(NO_SOURCE))))
    return found


def _settlement_steps(world: World, machines: Machines) -> Steps:
    settling = world.settling
    assert settling
    if settling.phase == 0:
        return _end_receiver(world, settling, machines)
    if settling.phase == 2:
        return _end_sender(world, settling, machines)
    if settling.actions is None:
        return [_look(world, settling, machines)]
    if settling.actions:
        return _settlement_action(world, settling)
    return [_next_phase(world, settling)]


def _end_receiver(world: World, settling: Settling, machines: Machines) -> Steps:
    agent = world.receiver
    if agent and not agent.actions and not settling.asked:
        asked = world._replace(settling=settling._replace(asked=True))
        return [("settlement asks the receiver to stop", _target_event(asked, Event.VETOED, machines))]
    if agent and not agent.actions:
        return [("settlement ends the receiver", _without_receiver(world))]
    if not agent and world.target_criu == TOLD:
        return _target_criu_dies(world)
    if not agent and world.target_criu == NONE:
        return [("settlement comes to the target", world._replace(settling=Settling(settling.reach, 1)))]
    return []


def _end_sender(world: World, settling: Settling, machines: Machines) -> Steps:
    agent = world.sender
    if agent and not agent.actions and not settling.asked:
        asked = world._replace(settling=settling._replace(asked=True))
        return [("settlement asks the sender to stop", _source_event(asked, Event.VETOED, machines))]
    if agent and not agent.actions:
        return [("settlement ends the sender", _without_sender(world))]
    if not agent and world.source_criu == NONE:
        return [("settlement comes to the source", world._replace(settling=settling._replace(phase=3, asked=False)))]
    return []


def _look(world: World, settling: Settling, machines: Machines) -> tuple[str, World]:
    if settling.phase == 3:
        decision = machines.settle_source(world.source_step, source_copy(world), settling.target)
        settling = settling._replace(source=decision.outcome, actions=tuple(decision.actions))
        return f"source is {decision.outcome.name}", world._replace(settling=settling)
    images = world.images == COMPLETE
    decision = machines.settle_target(world.target_step, target_copy(world), world.told, images, settling.source)
    settling = settling._replace(target=decision.outcome, actions=tuple(decision.actions))
    return f"target is {decision.outcome.name}", world._replace(settling=settling)


def source_copy(world: World) -> Copy:
    return {RUNNING: Copy.RUNNING, HELD: Copy.FROZEN, STOPPED: Copy.FROZEN, GONE: Copy.NONE}[world.source_copy]


def target_copy(world: World) -> Copy:
    return {RUNNING: Copy.RUNNING, RESTORED: Copy.FROZEN, NONE: Copy.NONE}[world.target_copy]


def _settlement_action(world: World, settling: Settling) -> Steps:
    assert settling.actions
    action, rest = settling.actions[0], settling.actions[1:]
    if action is Action.RECORD_RUNNING and world.target_criu == TOLD:
        return []
    if action is Action.RECORD_RUNNING and world.target_criu == DEAD:
        return [("settlement fails", world._replace(settling=None))]
    name = f"settlement {action.name}"
    if action is Action.LET_GO and not world.told:
        return [(name, world._replace(told=True))]
    if settling.phase == 4 and action is Action.RECORD_RUNNING:
        world = world._replace(target_criu=NONE)
    act = act_on_source if settling.phase == 3 else act_on_target
    return [(name, act(world, action)._replace(settling=settling._replace(actions=rest)))]


def _next_phase(world: World, settling: Settling) -> tuple[str, World]:
    if settling.phase == 1 and settling.reach == BOTH:
        following: Settling | None = settling._replace(phase=2, actions=None)
    elif settling.phase == 3 and settling.reach == BOTH:
        following = settling._replace(phase=4, actions=None)
    elif settling.reach == BOTH:
        return "settled", world._replace(settling=None, settled=settling)
    else:
        following = None
    return "settlement goes on", world._replace(settling=following)


def settle_again(world: World, machines: Machines = STANDARD) -> World:
    """One more settlement, undisturbed, of a world that is settled already."""
    world = world._replace(settled=None, settling=Settling(BOTH))
    while world.settling:
        _name, world = [*_criu_steps(world), *_settlement_steps(world, machines)][0]
    return world._replace(settled=None)
