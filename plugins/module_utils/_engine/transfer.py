# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container on its way: what its engine has to do at the source and at the target, with us in CRIU's place.

At the target the engine begins before the freeze. It does all its own work and then waits in stand_in.py for the
images, so whatever it does not like about the container it says while that still runs at the source.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._criu.feature import ENGINE_VERSION, Criu
from ansible_collections.fleet.criu.plugins.module_utils._criu.stage import MakeCommand, Stages
from ansible_collections.fleet.criu.plugins.module_utils._engine.base import (
    RUNNING,
    Arrival,
    Container,
    Copy,
    Engine,
)
from ansible_collections.fleet.criu.plugins.module_utils._engine.registry import ENGINES, engine_named
from ansible_collections.fleet.criu.plugins.module_utils._engine.stand_in import make_stand_in
from ansible_collections.fleet.criu.plugins.module_utils._errors import (
    BadImageSet,
    CriuError,
    CriuMissing,
    WorkloadNotFound,
)
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Runner

# Beside the images: what the engine has to know to restore them. It may hold secrets, as they do.
ENGINE = "engine.json"

_STAND_IN = "stand-in"


class Leaving:
    """A container at the source."""

    def __init__(self, wanted: Mapping[str, Any], pid: int, runner: Runner, proc: Proc) -> None:
        self.engine: Engine = engine_named(wanted["name"], runner, proc)
        self.container: Container = self.engine.find(wanted["container"])
        if self.container.pid != pid:
            raise WorkloadNotFound(
                f"The {self.engine.name} container {self.container.name} does not run here as process {pid}.",
                "Look for it again with workload_info, and pass its pid and start_time.",
            )
        problems = self.engine.problems(self.container)
        if problems:
            raise CriuError(f"{self.container.name} cannot be moved: {'; '.join(problems)}.")
        self.own_mountpoints = self.engine.own_mountpoints(self.container)

    def configuration(self) -> dict[str, Any]:
        """What the target has to know. It may hold secrets."""
        return self.engine.configuration(self.container)

    def copies(self) -> list[Copy]:
        """What is to be copied and only the engine knows of."""
        return self.engine.copies(self.container)

    def log_folder(self, images: Path) -> Path:
        """Where CRIU writes its log."""
        return self.engine.log_folder(self.container, images)

    def run_on(self, images: Path) -> None:
        """Undo what was prepared for a checkpoint into this folder that was not done."""
        self.engine.forget_checkpoint(self.container, images)

    def command(
        self,
        images: Path,
        options: Options,
        criu: Criu,
        stages: Stages,
        waits: bool,
        leave_running: bool = False,
    ) -> Command:
        """What dumps the container and asks at the stages; if it `waits`, at `stand_in.READY` before CRIU begins."""
        require_scripts(criu)
        command = self.engine.checkpoint(self.container, images, options, leave_running)
        return _with_stand_in(self.engine, self.configuration(), command, criu, options, stages, waits)

    def remove(self) -> None:
        """Remove what the engine still has of it, now that it lives elsewhere."""
        self.engine.remove(self.container.name)


class Arriving:
    """A container at the target."""

    def __init__(self, workload: str, wanted: Mapping[str, Any], runner: Runner, proc: Proc) -> None:
        self.engine: Engine = engine_named(wanted["name"], runner, proc)
        self._has_begun = False
        self._workload = workload
        self.name = str(wanted["container"])
        self._sources = dict(wanted["sources"])

    def command(
        self,
        configuration: Mapping[str, Any],
        images: Path,
        root: str | None,
        options: Options,
        criu: Criu,
        stages: Stages,
        waits: bool,
    ) -> Command:
        """What restores the container. If it `waits`, then at the stage `stand_in.READY` for the images."""
        require_scripts(criu)
        if configuration.get("engine") != self.engine.name:
            raise CriuError(
                f"{self.engine.name} cannot restore the images of a container of {configuration.get('engine')}.",
                "Name the same engine on both hosts.",
            )
        self._require_free_name()
        self._has_begun = True
        arrival = Arrival(self._workload, self.name, configuration, self._sources, images, root, options)
        try:
            command = self.engine.restore(arrival)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise BadImageSet(
                f"What came with the images is no configuration of a container of {self.engine.name} "
                f"({type(error).__name__}: {str(error)[:80]}).",
                "Dump it again, with the same version of fleet.criu on both hosts.",
            ) from error
        return _with_stand_in(self.engine, configuration, command, criu, options, stages, waits)

    def maker(self, images: Path, root: str, criu: Criu) -> MakeCommand:
        """What makes the command for an image set that is complete; the configuration lies in it."""
        try:
            configuration = read_json(images / ENGINE)
            if not isinstance(configuration, dict):
                raise ValueError("it is no JSON object")
        except (OSError, ValueError) as error:
            raise BadImageSet(
                f"{images} is not the image set of a container: {ENGINE} cannot be read ({error}).",
                "Name the folder of a dump that was made with the same engine.",
            ) from error
        return lambda options, stages: self.command(
            configuration, images, root or None, options, criu, stages, waits=False
        )

    def folders(self) -> dict[str, str]:
        """Where this host has what the engine keeps itself, once the engine waits for the images."""
        return self.engine.folders(self.name)

    def remove(self) -> None:
        """Remove what the engine has of it, alive or not, if it is ours."""
        if self._has_begun:
            self.engine.remove(self.name)

    def _require_free_name(self) -> None:
        try:
            found = self.engine.find(self.name)
        except WorkloadNotFound:
            return
        raise CriuError(
            f"{self.engine.name} has a container {self.name} here already ({found.state}).",
            f"If nobody needs it, remove it: {self.engine.removal(self.name)}.",
            {"container": found.as_dict()},
        )


def require_image_sets(name: str) -> None:
    """Raises CriuError if an engine's containers are more than an image set."""
    if name in ENGINES and not ENGINES[name].keeps_image_sets:
        raise CriuError(
            f"An image set is not all that makes a container of {name}: what was changed in it and its volumes are not "
            "in the images.",
            f"Move it while it runs (migrate), or use {name}'s own checkpoint and restore.",
        )


def forget_checkpoint(wanted: Mapping[str, Any], images: Path, runner: Runner, proc: Proc) -> None:
    """Undo what was prepared for a checkpoint into this folder, of a container that lives on."""
    with contextlib.suppress(WorkloadNotFound):
        engine = engine_named(wanted["name"], runner, proc)
        engine.forget_checkpoint(engine.find(wanted["container"]), images)


def remove_leftovers(wanted: Mapping[str, Any], pid: int | None, runner: Runner, proc: Proc) -> None:
    """Remove what an engine has of a container that is not to live here, unless it lives with another pid than ours."""
    try:
        engine = engine_named(wanted["name"], runner, proc)
        found = engine.find(wanted["container"])
    except WorkloadNotFound:
        return
    if found.state != RUNNING or found.pid == pid:
        engine.remove(found.name)


def require_scripts(criu: Criu) -> None:
    """Raises CriuMissing if this CRIU does not ask us when an engine has started it."""
    if criu.number < ENGINE_VERSION:
        raise CriuMissing(
            f"CRIU {criu.version} does not run an action script for an engine, so that a container could not be held.",
            "Install CRIU 3.19 or later.",
            {"criu_version": criu.version},
        )


def _with_stand_in(
    engine: Engine,
    configuration: Mapping[str, Any],
    command: Command,
    criu: Criu,
    options: Options,
    stages: Stages,
    waits: bool,
) -> Command:
    folder = Path(stages.script).parent / _STAND_IN
    environment = make_stand_in(
        folder,
        criu.path,
        stages.script,
        options,
        stages.folder if waits else None,
        engine.criu_lines(configuration),
    )
    return replace(command, environment={**command.environment, **engine.environment(environment, folder)})
