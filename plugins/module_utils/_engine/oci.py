# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runc and crun have in common: a bundle with a `config.json` (OCI runtime specification), and their commands."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._engine.base import (
    RUNNING,
    Arrival,
    Bind,
    Container,
    Engine,
    has_other_end,
    not_running,
    require_passed_on,
    require_sources,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json, write_json
from ansible_collections.fleet.criu.plugins.module_utils._mounts.checks import path_type
from ansible_collections.fleet.criu.plugins.module_utils._mounts.plan import OTHER
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command
from ansible_collections.fleet.criu.plugins.module_utils._trusted import make_folder

CONFIGURATION = "config.json"

# Where the copies of bundles are made; a runtime needs them as long as the container lives.
BUNDLES = Path("/var/lib/fleet.criu/bundles")

# What the engines read of their standard streams, beside the images.
_DESCRIPTORS = "descriptors.json"
_SYSTEMD = "systemd_cgroup"

# OCI runtime specification, section Mounts: a bind has one of these options or is of this type.
_BIND_OPTIONS = frozenset({"bind", "rbind"})

# OCI runtime specification, section Default Devices: those that every container has.
_DEVICES = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty"))

# The annotations by which higher engines mark what is theirs.
_OWNERS = {"io.container.manager": "", "io.kubernetes.cri.container-type": "containerd", "io.kubernetes.cri-o": "cri-o"}

_FURTHER_OPTIONS = frozenset({"shell_job", "ext_unix_sk", "manage_cgroups"})

# runc's own rule for a container's name; a bundle's folder is named after it.
_NAME = re.compile(r"[A-Za-z0-9_+.-]{1,1024}\Z")


@dataclass(frozen=True)
class Remembered:
    """What a runtime keeps of a container since its start: what its first three descriptors were, and who has made its
    control group.
    """

    descriptors: Sequence[str]
    is_systemd: bool


class OciRuntime(Engine):
    """An engine whose containers have a bundle each and whose commands are those of runc.

    `roots` are the folders that it may keep its state in (its option `--root`); the first is that of services.
    """

    roots: Sequence[str] = ()
    # What CRIU does about control groups if nobody has said it; without it the runtime's own default.
    default_cgroups_mode: str | None = None

    def is_present(self) -> bool:
        return shutil.which(self.name) is not None

    def version(self) -> str:
        return (self.ask([self.name, "--version"]).stdout.splitlines() or [""])[0]

    def containers(self) -> list[Container]:
        return [
            self._container(row, root)
            for root in self.roots
            if os.path.isdir(root)
            for row in self.ask_json([self.name, "--root", root, "list", "--format", "json"]) or []
        ]

    def facts(self, container: Container | None = None) -> dict[str, Any]:
        common = {"engine": self.name, "version": self.version()}
        return common if container is not None else {**common, "names": [each.name for each in self.containers()]}

    def remove(self, name: str) -> None:
        # To force it kills what still lives, and is content if there is nothing.
        for root in self.roots:
            if os.path.isdir(os.path.join(root, name)):
                self.ask([self.name, "--root", root, "delete", "--force", name], may_fail=True)
        # Its environment may be a secret.
        shutil.rmtree(str(self._bundle_of(name)), ignore_errors=True)

    def own_mountpoints(self, container: Container) -> frozenset[str]:
        configuration = self._configuration_of(container)
        made = [mount["destination"] for mount in configuration.get("mounts") or [] if not _is_bind(mount)]
        return frozenset([*made, *hidden_paths(configuration), *bound_devices(configuration)])

    def problems(self, container: Container) -> list[str]:
        found = []
        if container.owner:
            found.append(
                f"the container {container.name} belongs to {container.owner}, which would lose track of it. Write "
                f"engine: {container.owner} and the name that it has there"
            )
        if container.state != RUNNING:
            return [*found, not_running(container)]
        found += [
            has_other_end(bind, "Take the bind out of the container's configuration")
            for bind in container.binds
            if path_type(bind.source) == OTHER
        ]
        if (self._configuration_of(container).get("process") or {}).get("terminal"):
            found.append(
                "the container has a terminal (process.terminal), whose other end would be lost. Start it without one"
            )
        return found

    def configuration(self, container: Container) -> dict[str, Any]:
        configuration = self._configuration_of(container)
        linux = configuration.setdefault("linux", {})
        remembered = self._remembered(container)
        if not linux.get("cgroupsPath") and not remembered.is_systemd:
            # Then the runtime takes a path below its caller's, which is another one at the target. CRIU takes this one.
            linux["cgroupsPath"] = control_group(self._proc.control_groups(container.pid))
        return {
            "engine": self.name,
            CONFIGURATION: configuration,
            _DESCRIPTORS: list(remembered.descriptors),
            _SYSTEMD: remembered.is_systemd,
        }

    def checkpoint(self, container: Container, images: Path, options: Options, leave_running: bool = False) -> Command:
        require_passed_on(options, self.name, _FURTHER_OPTIONS)
        argv = [
            self.name,
            "--root",
            container.states,
            "checkpoint",
            "--image-path",
            str(images),
            "--work-path",
            str(images),
        ]
        argv += ["--leave-running"] if leave_running else []
        return Command([*argv, *self._flags(options), container.name])

    def restore(self, arrival: Arrival) -> Command:
        require_passed_on(arrival.options, self.name, _FURTHER_OPTIONS)
        bundle = self._make_bundle(arrival)
        arrival.images.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(arrival.images / _DESCRIPTORS, arrival.configuration[_DESCRIPTORS])
        argv = [self.name, "--root", self.roots[0]]
        argv += ["--systemd-cgroup"] if arrival.configuration[_SYSTEMD] else []
        argv += ["restore", "--detach", "--bundle", str(bundle)]
        argv += ["--image-path", str(arrival.images), "--work-path", str(arrival.images)]
        return Command([*argv, *self._flags(arrival.options), arrival.name])

    def read_state(self, container: Container, file_name: str) -> Mapping[str, Any]:
        """What the runtime has written of the container into this file of its state."""
        path = Path(container.states) / container.name / file_name
        try:
            state: Mapping[str, Any] = read_json(path)
        except (OSError, ValueError) as error:
            raise CriuError(
                f"{path}, what {self.name} keeps of {container.name}, cannot be read: {error}.",
                f"See whether the container still runs: {self.name} list.",
            ) from error
        return state

    @abstractmethod
    def _remembered(self, container: Container) -> Remembered:
        """What the runtime keeps of it."""

    def _container(self, row: Mapping[str, Any], root: str) -> Container:
        configuration = _read_configuration(row["bundle"])
        annotations = {**(configuration.get("annotations") or {}), **(row.get("annotations") or {})}
        return Container(
            engine=self.name,
            name=row["id"],
            identifier=row["id"],
            state=row["status"],
            pid=int(row.get("pid") or 0),
            bundle=row["bundle"],
            binds=[
                Bind(
                    os.path.normpath(os.path.join(row["bundle"], mount["source"])),
                    mount["destination"],
                    "ro" in (mount.get("options") or []),
                )
                for mount in configuration.get("mounts") or []
                if _is_bind(mount)
            ],
            states=root,
            owner=next((_owner(name, annotations[name]) for name in _OWNERS if name in annotations), ""),
        )

    def _configuration_of(self, container: Container) -> dict[str, Any]:
        configuration = _read_configuration(container.bundle)
        if not configuration:
            raise CriuError(
                f"The bundle {container.bundle} of the container {container.name} has no {CONFIGURATION} that can be "
                "read.",
                f"{self.name} needs it for a restore: put it back.",
            )
        return configuration

    def _make_bundle(self, arrival: Arrival) -> Path:
        if not _NAME.match(arrival.name) or arrival.name in (".", ".."):
            raise CriuError(f"{arrival.name!r} cannot be the name of a container.", "Use letters, digits and _+.-")
        configuration = remapped(arrival.configuration[CONFIGURATION], arrival.sources, arrival.root)
        bundle = self._bundle_of(arrival.name)
        make_folder(bundle)
        write_json(bundle / CONFIGURATION, configuration)
        return bundle

    def _bundle_of(self, name: str) -> Path:
        return BUNDLES / f"{self.name}-{name}"

    def _flags(self, options: Options) -> list[str]:
        flags = [
            flag
            for flag, is_wanted in (
                ("--tcp-established", options.tcp_established),
                ("--file-locks", options.file_locks),
                ("--shell-job", options.shell_job),
                ("--ext-unix-sk", options.ext_unix_sk),
            )
            if is_wanted
        ]
        mode = options.manage_cgroups or self.default_cgroups_mode
        return [*flags, *(["--manage-cgroups-mode", mode] if mode else [])]


def hidden_paths(configuration: Mapping[str, Any]) -> list[str]:
    """What a runtime covers or makes read-only, with mounts that are in no list of mounts."""
    linux = configuration.get("linux") or {}
    return [*(linux.get("maskedPaths") or []), *(linux.get("readonlyPaths") or [])]


def bound_devices(configuration: Mapping[str, Any]) -> list[str]:
    """Where a runtime binds devices of the host: in a user namespace, because no device can be made there."""
    linux = configuration.get("linux") or {}
    if not any(namespace.get("type") == "user" for namespace in linux.get("namespaces") or []):
        return []
    return [*_DEVICES, *(device["path"] for device in linux.get("devices") or [] if device.get("path"))]


def remapped(configuration: Mapping[str, Any], sources: Mapping[str, str], root: str | None) -> dict[str, Any]:
    """A copy of a bundle's configuration with another source for each destination in `sources`, and another root.

    Destinations stay: they are the keys in the images. Raises CriuError if a bind has no source.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(configuration))
    binds = [mount for mount in changed.get("mounts") or [] if _is_bind(mount)]
    require_sources([mount["destination"] for mount in binds], sources)
    for mount in binds:
        mount["source"] = sources[mount["destination"]]
    if root is not None:
        changed["root"] = {**(changed.get("root") or {}), "path": root}
    return changed


def control_group(control_groups: Mapping[str, str]) -> str:
    """The path of a container's control group, by controllers as cgroups(7) has them in /proc/PID/cgroup.

    With version 1 each controller has a path of its own; that of a container is the same for all it has been put into.
    """
    paths = [path for path in (control_groups.get(""), *control_groups.values()) if path and path != "/"]
    return paths[0] if paths else "/"


def _is_bind(mount: Mapping[str, Any]) -> bool:
    return mount.get("type") == "bind" or bool(_BIND_OPTIONS & set(mount.get("options") or []))


def _read_configuration(bundle: str) -> dict[str, Any]:
    try:
        value = read_json(Path(bundle) / CONFIGURATION)
    except (OSError, ValueError):
        return {}
    return value if _is_configuration(value) else {}


def _is_configuration(value: Any) -> bool:
    # Of what is read here. Whatever else is in it is the runtime's.
    if not isinstance(value, dict):
        return False
    linux, mounts = value.get("linux") or {}, value.get("mounts") or []
    if not isinstance(linux, dict) or not isinstance(value.get("root") or {}, dict):
        return False
    lists = [linux.get(name) or [] for name in ("maskedPaths", "readonlyPaths", "namespaces", "devices")]
    if not all(isinstance(rows, list) for rows in (*lists, mounts)):
        return False
    paths, rows = [*lists[0], *lists[1]], [*lists[2], *lists[3], *mounts]
    return (
        all(isinstance(path, str) for path in paths)
        and all(isinstance(row, dict) for row in rows)
        and all(isinstance(row.get("path") or "", str) for row in lists[3])
        and all(map(_is_mount, mounts))
    )


def _is_mount(row: Mapping[str, Any]) -> bool:
    options = row.get("options") or []
    return (
        isinstance(row.get("destination"), str)
        and isinstance(row.get("source") or "", str)
        and isinstance(options, list)
        and all(isinstance(option, str) for option in options)
    )


def _owner(annotation: str, value: str) -> str:
    owner = _OWNERS[annotation] or value
    return "podman" if owner == "libpod" else owner


def descriptors_in(text: str) -> list[str]:
    """The descriptors in what a runtime has noted of them as JSON. Raises CriuError."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise CriuError(
            "The runtime's note of the container's standard streams cannot be read.", "Restart the container."
        )
    return value
