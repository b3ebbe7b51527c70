# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine has to be able to do, so that everything above it works the same for all.

An engine owns its containers: it checkpoints and restores them itself, or it loses track of them. CRIU is asked by the
engine then, and the engine is asked by us. What is CRIU's way to make us part of it, its stages, is the same for all
(stand_in.py).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError, WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed, Runner

RUNNING = "running"

_QUERY_SECONDS = 60.0

# What every engine passes on to CRIU, and what stand_in.py gives to it. Everything else is the engine's own choice.
_PASSED_ON = frozenset({"tcp_established", "file_locks"})
_GIVEN = frozenset({"link_remap", "network_lock", "ghost_limit", "timeout"})


@dataclass(frozen=True)
class Bind:
    """A mount that the container's configuration takes from the host: `source` there, `destination` inside.

    `volume` is the name of a named volume, which the engine finds itself.
    """

    source: str
    destination: str
    is_read_only: bool = False
    volume: str | None = None


@dataclass(frozen=True)
class Container:
    """A container as its engine knows it. `state` is the engine's word for it, V(running) is the same for all.

    `pid` is that of its init, 0 if it does not run. `owner` is another engine that it belongs to, `states` the folder
    that the engine keeps its state in, if it may be one of several.
    """

    engine: str
    name: str
    identifier: str
    state: str
    pid: int
    bundle: str = ""
    image: str = ""
    runtime: str = ""
    binds: Sequence[Bind] = ()
    owner: str = ""
    states: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The container in plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Arrival:
    """What the container `name` of a workload is to become at the target.

    `configuration` is what `Engine.configuration` gave at the source, `sources` has the path on this host for each
    destination, `images` is the folder that the images will be in, and `root` the container's root unless the
    engine has one of its own.
    """

    workload: str
    name: str
    configuration: Mapping[str, Any]
    sources: Mapping[str, str]
    images: Path
    root: str | None
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class Copy:
    """Something that the engine keeps itself and that has to be copied: `path` on this host, `name` for both hosts.

    What `is_late` is copied only when the workload is frozen.
    """

    name: str
    path: str
    is_late: bool = False


class Engine(ABC):
    """One engine on this host. Everything raises CriuError."""

    name = ""
    # What lists the containers, and which of them cannot be found; for people.
    listing = ""
    # Images that the engine wants to see before it begins; the real ones take their place.
    placeholders: Sequence[str] = ()
    # Whether all that makes a container is in its image set, so that it can be restored from that, now or later.
    keeps_image_sets = True

    def __init__(self, runner: Runner, proc: Proc) -> None:
        self._runner = runner
        self._proc = proc

    # On any host.

    @abstractmethod
    def is_present(self) -> bool:
        """Whether the engine is installed here."""

    @abstractmethod
    def version(self) -> str:
        """The version of the engine's program, for people."""

    @abstractmethod
    def containers(self) -> list[Container]:
        """Every container that this engine knows here, whatever its state."""

    def find(self, name: str) -> Container:
        """The container with this name. Raises WorkloadNotFound."""
        for container in self.containers():
            if container.name == name:
                return container
        raise self.unknown(name)

    def unknown(self, name: str) -> WorkloadNotFound:
        """The exception for a name that no container has."""
        return WorkloadNotFound(f"{self.name} knows no container {name} here.", f"Compare with: {self.listing}")

    @abstractmethod
    def facts(self, container: Container | None = None) -> dict[str, Any]:
        """What source and target have to have in common, in plain JSON types; of the container too, if there is one."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove what there is of a container with this name, alive or not, and nothing of its binds and volumes."""

    def removal(self, name: str) -> str:
        """The command that removes a container with this name, for people."""
        return f"{self.name} delete {name}"

    # At the source.

    @abstractmethod
    def own_mountpoints(self, container: Container) -> frozenset[str]:
        """Where the container has mounts that the engine itself makes again, wherever the container is restored."""

    @abstractmethod
    def problems(self, container: Container) -> list[str]:
        """Why this container cannot be moved at all, each with what to do about it, as sentences."""

    @abstractmethod
    def configuration(self, container: Container) -> dict[str, Any]:
        """All that the target has to know to make the container again, in plain JSON types. It may hold secrets."""

    @abstractmethod
    def checkpoint(self, container: Container, images: Path, options: Options, leave_running: bool = False) -> Command:
        """The command that checkpoints the container into a folder."""

    def forget_checkpoint(self, container: Container, images: Path) -> None:  # noqa: B027
        """Undo what `checkpoint` into this folder has prepared, after it was not done."""

    def log_folder(self, container: Container, images: Path) -> Path:
        """Where CRIU writes its log at a checkpoint into `images`."""
        return images

    def copies(self, container: Container) -> list[Copy]:
        """What the engine keeps for the container and is not in the images."""
        return []

    # At the target.

    @abstractmethod
    def restore(self, arrival: Arrival) -> Command:
        """Write what the engine reads, remapped and on a copy; gives the command that restores from it."""

    def environment(self, given: Mapping[str, str], folder: Path) -> Mapping[str, str]:
        """The environment that makes CRIU get `given`; files that are needed for it go into `folder`."""
        return given

    def criu_lines(self, configuration: Mapping[str, Any]) -> list[str]:
        """What CRIU must be told besides, and the engine does not: lines of a configuration file, see criu(8).

        `configuration` is what `configuration` gave; the lines are for its dump and its restore.
        """
        return []

    def folders(self, name: str) -> dict[str, str]:
        """Where this host has what `copies` names, once the engine asks for CRIU."""
        return {}

    # For engines.

    def ask(self, argv: Sequence[str], may_fail: bool = False) -> Completed:
        """Run a command of the engine. Raises CommandFailed if it does, unless it may."""
        completed = self._runner(Command(argv, timeout=_QUERY_SECONDS))
        if completed.returncode != 0 and not may_fail:
            said = (completed.stderr or completed.stdout).strip()[-500:]
            raise CommandFailed(
                f"{' '.join(argv[:4])} failed: {said}",
                f"Run it by hand on this host and see what is wrong with {self.name}.",
                {"argv": list(argv), "rc": completed.returncode},
            )
        return completed

    def ask_json(self, argv: Sequence[str]) -> Any:
        """What a command of the engine says in JSON."""
        text = self.ask(argv).stdout
        try:
            return json.loads(text) if text.strip() else None
        except ValueError as error:
            raise CommandFailed(
                f"{' '.join(argv[:4])} did not answer in JSON: {text.strip()[:200]}",
                f"Use a version of {self.name} that is supported.",
            ) from error


def not_running(container: Container) -> str:
    """Why a container that does not run cannot be moved."""
    return f"the container {container.name} is {container.state}, and only what runs can be moved. Start it"


def has_other_end(bind: Bind, advice: str) -> str:
    """Why a container with this bind, from what is neither a folder nor an ordinary file, cannot be moved."""
    return (
        f"{bind.destination} is bound from {bind.source}, which is a socket, a pipe or a device: what is at its other "
        f"end cannot be moved. {advice}"
    )


def require_sources(destinations: Sequence[str], sources: Mapping[str, str]) -> None:
    """Raises CriuError if one of the destinations has no source on this host."""
    missing = [destination for destination in destinations if destination not in sources]
    if missing:
        raise CriuError(
            f"There is no source on this host for what is bound at {', '.join(missing)}.",
            "Plan again with mount_map for this host.",
            {"mountpoints": missing},
        )


def require_passed_on(options: Options, engine: str, further: frozenset[str] = frozenset()) -> None:
    """Raises CriuError if CRIU is to have options that this engine cannot pass on; `further` are those it can."""
    default = Options()
    refused = [
        name
        for name in Options.__dataclass_fields__
        if name not in _PASSED_ON | _GIVEN | further and getattr(options, name) != getattr(default, name)
    ]
    if refused:
        raise CriuError(
            f"{engine} has no way to pass on these options to CRIU: {', '.join(sorted(refused))}.",
            "Leave them out of 'options' of the workload.",
            {"options": refused},
        )
