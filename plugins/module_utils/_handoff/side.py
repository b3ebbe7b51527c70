# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both agents of a handoff do alike: they keep a journal, hear the other one, call hooks and say how it ended."""

from __future__ import annotations

import os
import traceback
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Callable, Generic, Mapping, TypeVar

from ansible_collections.fleet.criu.plugins.module_utils._criu.stage import Stages
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.agent import Report, hold_lock
from ansible_collections.fleet.criu.plugins.module_utils._handoff.certificate import destroy
from ansible_collections.fleet.criu.plugins.module_utils._handoff.channel import Channel, LinkLost
from ansible_collections.fleet.criu.plugins.module_utils._handoff.hooks import parse
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import Journal, RecordFailed
from ansible_collections.fleet.criu.plugins.module_utils._handoff.loop import Loop
from ansible_collections.fleet.criu.plugins.module_utils._handoff.machine import Driver, State, Table
from ansible_collections.fleet.criu.plugins.module_utils._handoff.messages import Message
from ansible_collections.fleet.criu.plugins.module_utils._handoff.request import (
    ReceiveRequest,
    SendRequest,
    lock_path,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Action, Event, Step, Trouble
from ansible_collections.fleet.criu.plugins.module_utils._handoff.tidying import tidy
from ansible_collections.fleet.criu.plugins.module_utils._handoff.timing import Timings
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Runner

_MESSAGE_SECONDS = 10.0

Request = TypeVar("Request", SendRequest, ReceiveRequest)


class Side(ABC, Generic[Request]):
    """One end of a handoff."""

    # As in journals.
    name = ""

    def __init__(
        self,
        request: Request,
        folder: Path,
        report: Report,
        runner: Runner,
        proc: Proc,
        state: State,
        table: Table,
    ) -> None:
        self._driver = Driver(state, table, self._do, self._trouble, self._changed)
        self._request: Request = request
        self._folder = folder
        self._report = report
        self._runner = runner
        self._proc = proc
        self._journal = Journal(request.handoff, self.name)
        self._hooks = parse(request.hooks, request.hook_environment)
        self._timings = Timings()
        self._reason: CriuError | None = None
        self._hook_results: list[dict[str, Any]] = []
        self._loop: Loop
        self._control: Channel | None = None
        self._stages: Stages | None = None
        self._criu_runs = False
        self._actions: dict[Action, Callable[[], None]] = {}

    @abstractmethod
    def run(self) -> None:
        """The whole handoff. Returns when this end is at rest."""

    @abstractmethod
    def result(self) -> dict[str, Any]:
        """What became of it, in plain JSON types."""

    # For each end.

    @abstractmethod
    def _take(self, message: Message) -> None:
        """The other end says something."""

    @abstractmethod
    def _silence(self) -> str:
        """What is to be said if the other end does not."""

    @abstractmethod
    def _place(self) -> Mapping[str, Any]:
        """The pid of the workload here and the port of the target, as far as they are known."""

    def _link_is_lost(self) -> None:
        """Nothing will be heard of the other end any more."""

    def _facts_of(self, _step: Step) -> Mapping[str, Any]:
        """What is to be recorded with a step."""
        return {}

    # For both.

    def _happen(self, event: Event) -> None:
        """Go to the following state, and do what is to be done on the way."""
        self._driver.fire(event)

    def _changed(self, event: Event, state: State) -> None:
        self._report.log(f"{event.name.lower()}: {state.name.lower()}")

    def _do(self, action: Action) -> None:
        if not isinstance(action.value, Step):
            self._actions[action]()
            return
        self._journal.record(action.value, self._facts_of(action.value))
        try:
            # Any step may be watched; the public moments have places of their own. The step is recorded in any case.
            self._run_hooks(action.value.value)
        except CriuError as error:
            self._report.log(f"{type(error).__name__}: {error}")

    def _trouble(self, error: Exception) -> Trouble:
        self._note(error)
        if isinstance(error, LinkLost):
            return Trouble.LOST
        return Trouble.MAYBE if isinstance(error, RecordFailed) and error.may_be_there else Trouble.FAILED

    def _fail(self, error: Exception) -> None:
        self._note(error)
        self._happen(Event.LOST if isinstance(error, LinkLost) else Event.VETOED)

    def _note(self, error: Exception) -> None:
        self._report.log(f"{type(error).__name__}: {error}")
        if self._reason is None:
            self._reason = error if isinstance(error, CriuError) else CriuError(f"{type(error).__name__}: {error}.")

    def _stop(self) -> None:
        self._fail(CriuError("The handoff was asked to stop."))

    def _too_late(self) -> None:
        self._fail(LinkLost(self._silence(), "Look at its journal with handoff_settle."))

    def _heard(self, _descriptor: int) -> None:
        if self._control is None:
            raise AssertionError
        try:
            message = self._control.receive(_MESSAGE_SECONDS)
        except LinkLost as error:
            self._link_is_lost()
            self._loop.forget(self._control)
            self._fail(error)
            return
        self._take(message)

    def _run_hooks(self, moment: str) -> None:
        request, place = self._request, self._place()
        environment = {
            "CRIU_HANDOFF_WORKLOAD": request.workload,
            "CRIU_HANDOFF_SIDE": self.name,
            "CRIU_HANDOFF_SOURCE": request.source,
            "CRIU_HANDOFF_TARGET": request.target,
            "CRIU_HANDOFF_PID": str(place["pid"]),
            "CRIU_HANDOFF_PORT": str(place["port"]),
            "CRIU_HANDOFF_AGENT_PID": str(os.getpid()),
        }
        self._hook_results += self._hooks.run(moment, environment, self._runner, self._report.log)


def carry_out(
    folder: Path, report: Report, workload: str, name: str, begin: Callable[[], Side[Any]], without: str
) -> str:
    """Be that end of the handoff, and say how it ended. Gives the outcome; `without` is that if it has not begun."""
    try:
        with hold_lock(lock_path(workload, name)):
            side = begin()
            side.run()
            result = side.result()
    except CriuError as error:
        result = {"outcome": without, "reason": error.message, "remedy": error.remedy, "facts": error.facts}
    except Exception as error:  # whoever waits must hear of it
        report.log(traceback.format_exc())
        result = {"outcome": without, "reason": f"{type(error).__name__}: {error}", "remedy": "", "facts": {}}
    finally:
        destroy(folder / "identity")
    report.finish(result)
    tidy(folder)
    return str(result["outcome"])
