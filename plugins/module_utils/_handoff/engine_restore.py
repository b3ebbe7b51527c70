# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine's restore at the target: begun before the freeze, waiting for the images, then let go or undone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable

from ansible_collections.fleet.criu.plugins.module_utils._criu.restorer import find_restoring, kill_half_restored
from ansible_collections.fleet.criu.plugins.module_utils._criu.stage import Stages, given_answer
from ansible_collections.fleet.criu.plugins.module_utils._engine.stand_in import READY
from ansible_collections.fleet.criu.plugins.module_utils._engine.transfer import Arriving
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.loop import Loop
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed, Runner

_END_SECONDS = 15.0
_LOOK_SECONDS = 1.0
_LONGEST_WORDS = 1000


class EngineRestore:
    """One run of an engine. `when_over` is called with what is wrong if it ends before it was let go."""

    def __init__(
        self,
        arriving: Arriving,
        images: Path,
        loop: Loop,
        stages: Stages,
        runner: Runner,
        proc: Proc,
        when_over: Callable[[CriuError], None],
    ) -> None:
        self.arriving = arriving
        # Whether it has done all that it can do without the images.
        self.is_ready = False
        self._images = images
        self._proc = proc
        self._loop = loop
        self._stages = stages
        self._runner = runner
        self._when_over = when_over
        self._runs = False
        self._completed: Completed | None = None

    def begin(self, command: Command) -> None:
        """Start it. It comes to the stage `stand_in.READY` or to its end."""
        self._runs = True
        self._loop.in_background(lambda: self._runner(command), self._ended)

    def folders(self) -> dict[str, str]:
        """Where this host has what the engine keeps itself, as far as it has made it."""
        return self.arriving.folders() if self.is_ready else {}

    def let_go(self, while_running: Callable[[], None]) -> Completed:
        """The images are there: let CRIU begin, and wait for the engine's end."""
        self._stages.answer(READY, True)
        look_at = time.monotonic() + _LOOK_SECONDS
        while self._runs:
            while_running()
            if time.monotonic() > look_at:
                self._look_for_orphans()
                look_at = time.monotonic() + _LOOK_SECONDS
        return self._completed or Completed(1)

    def undo(self) -> None:
        """Nothing runs here: what it has made so far must not be in the way of another attempt. Raises CriuError."""
        if given_answer(self._stages.folder, READY) is None:
            self._stages.answer(READY, False)
        self._look_for_orphans()
        until = time.monotonic() + _END_SECONDS
        while self._runs and time.monotonic() < until:
            self._loop.turn(0.1)
        self.arriving.remove()

    def _look_for_orphans(self) -> None:
        # If CRIU was killed, what it had begun to restore holds the connection open that its engine waits at.
        if find_restoring(self._images, self._proc) is None:
            kill_half_restored(self._images, self._proc)

    def _ended(self, completed: Completed | None, error: Exception | None) -> None:
        self._runs = False
        self._completed = completed or Completed(1, "", str(error))
        if given_answer(self._stages.folder, READY) is None:
            said = (self._completed.stderr or self._completed.stdout).strip()[-_LONGEST_WORDS:]
            self._when_over(
                CriuError(
                    f"{self.arriving.engine.name} cannot take the container {self.arriving.name}: {said}",
                    "The container runs on at the source. Mend what is wrong here, and start the handoff again.",
                )
            )
