# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to step through the tables of states.py: for both agents, for the settlement, and for the tests.

`Machine` is a value: a state and the actions that are still to be done on the way to it. Whoever carries an action out
says `done` or what trouble there was, and gets the machine that follows. `Driver` does that for an agent.
"""

from __future__ import annotations

from collections import deque
from typing import Callable, Mapping, NamedTuple, Union

from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import (
    SOURCE,
    TARGET,
    Action,
    Entry,
    Event,
    Outcome,
    Reaction,
    Settlement,
    Source,
    Target,
    Trouble,
    reaction_to,
)

State = Union[Source, Target]
React = Callable[[Action, Trouble, State, State], Reaction]


class Table(NamedTuple):
    """What a machine goes by: the transitions, and the reactions to an action in trouble."""

    transitions: Mapping[tuple[State, Event], Entry]
    react: React = reaction_to


SOURCE_TABLE = Table({(state, event): entry for (state, event), entry in SOURCE.items()})
TARGET_TABLE = Table({(state, event): entry for (state, event), entry in TARGET.items()})


class Machine(NamedTuple):
    """A state, the actions still to be done on the way to it, and the state that they come from."""

    state: State
    pending: tuple[Action, ...] = ()
    before: State | None = None

    def fire(self, event: Event, table: Table) -> Machine:
        """The machine after an event. To be called when nothing is pending."""
        if self.pending:
            raise AssertionError
        if (self.state, event) not in table.transitions:
            return self
        following, actions = table.transitions[self.state, event]
        if not isinstance(following, (Source, Target)):
            raise AssertionError
        return Machine(following, tuple(actions), self.state if actions else None)

    def done(self) -> Machine:
        """The machine after its next action was done."""
        return Machine(self.state, self.pending[1:], self.before if self.pending[1:] else None)

    def troubled(self, trouble: Trouble, table: Table) -> Machine:
        """The machine after its next action was in trouble."""
        if self.before is None:
            raise AssertionError
        reaction = table.react(self.pending[0], trouble, self.before, self.state)
        if reaction.goes_on:
            return self.done()
        stopped = Machine(self.before if reaction.to is None else reaction.to)
        return stopped if reaction.event is None else stopped.fire(reaction.event, table)


class Driver:
    """A machine that carries its actions out by `do`, which raises; `trouble_of` says what an exception means.

    `changed` is told of each event that leads to another state. What happens while an action is being carried out comes
    after the actions that are pending.
    """

    def __init__(
        self,
        state: State,
        table: Table,
        do: Callable[[Action], None],
        trouble_of: Callable[[Exception], Trouble],
        changed: Callable[[Event, State], None],
    ) -> None:
        self._machine = Machine(state)
        self._table = table
        self._do = do
        self._trouble_of = trouble_of
        self._changed = changed
        self._events: deque[Event] = deque()
        self._is_busy = False

    @property
    def state(self) -> State:
        """The state that the machine is in, or on the way to."""
        return self._machine.state

    def fire(self, event: Event) -> None:
        """Let an event happen, and carry out what is to be done then."""
        self._events.append(event)
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._events:
                self._go(self._events.popleft())
        finally:
            self._is_busy = False

    def _go(self, event: Event) -> None:
        before = self._machine.state
        self._machine = self._machine.fire(event, self._table)
        if self._machine.state is not before:
            self._changed(event, self._machine.state)
        while self._machine.pending:
            try:
                self._do(self._machine.pending[0])
            except Exception as error:  # there must be a way on, whatever it is
                self._machine = self._machine.troubled(self._trouble_of(error), self._table)
            else:
                self._machine = self._machine.done()


class Progress(NamedTuple):
    """A settlement on its way: what is certain when the pending actions are done."""

    outcome: Outcome
    pending: tuple[Action, ...]
    need_not_succeed: frozenset[Action]

    def done(self) -> Progress:
        """The settlement after its next action was done."""
        return self._replace(pending=self.pending[1:])

    def troubled(self) -> Progress:
        """The settlement after its next action failed, surely or perhaps."""
        if self.pending[0] in self.need_not_succeed:
            return self.done()
        return Progress(Outcome.UNKNOWN, (), frozenset())


def begin(settlement: Settlement) -> Progress:
    """A settlement of which nothing was done yet."""
    return Progress(settlement.outcome, tuple(settlement.actions), settlement.need_not_succeed)


def carry_out(settlement: Settlement, do: Callable[[Action], None]) -> None:
    """Do what a settlement asks for. Raises what an action raises that must succeed; nothing is certain then."""
    progress = begin(settlement)
    while progress.pending:
        try:
            do(progress.pending[0])
        except Exception:
            progress = progress.troubled()
            if not progress.pending and progress.outcome is Outcome.UNKNOWN:
                raise
        else:
            progress = progress.done()
