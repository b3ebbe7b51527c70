# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of podman, of root.

Podman restores on another host what its checkpoint has exported: an archive of the container's configuration, the
images, and the files that were changed in it, of which it forgets some. So we make the archive ourselves, before the
freeze and with the configuration alone. Podman imports it, prepares everything, starts its runtime, and that comes to
the stand-in of CRIU and waits. What the archive would have had in it goes directly: the images to the folder that the
archive has a link to, changed files by rsync into the root that podman has mounted.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._engine.base import (
    RUNNING,
    Arrival,
    Bind,
    Container,
    Copy,
    Engine,
    has_other_end,
    not_running,
    require_passed_on,
)
from ansible_collections.fleet.criu.plugins.module_utils._engine.crun import Crun, external_devices
from ansible_collections.fleet.criu.plugins.module_utils._engine.oci import bound_devices, hidden_paths, remapped
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError, WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json
from ansible_collections.fleet.criu.plugins.module_utils._mounts.checks import path_type
from ansible_collections.fleet.criu.plugins.module_utils._mounts.contents import Contents
from ansible_collections.fleet.criu.plugins.module_utils._mounts.plan import DIRECTORY, FILE
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Runner

# The names in podman's archives.
_CONFIGURATION, _SPECIFICATION, _CHECKPOINT = "config.dump", "spec.dump", "checkpoint"
# Podman asks only whether it is there; CRIU's own takes its place.
_INVENTORY = "inventory.img"
_DESCRIPTORS = "descriptors.json"

_ROOT, _SHARED_MEMORY, _VOLUME = "podman-root", "podman-shm", "podman-volume-"
_SHARED_MEMORY_MOUNTPOINT = "/dev/shm"

_NETWORKS = frozenset({"none", "host", "bridge"})


class Podman(Engine):
    """podman(1), as root."""

    name = "podman"
    listing = "podman ps --all, as root. A container of another user (rootless) cannot be dumped: start it as root."
    placeholders = (_INVENTORY,)
    # What was changed in the container and its volumes are not in it.
    keeps_image_sets = False

    def __init__(self, runner: Runner, proc: Proc) -> None:
        super().__init__(runner, proc)
        # What podman has said last of each container: to ask costs a tenth of a second.
        self._rows: dict[str, dict[str, Any]] = {}

    def is_present(self) -> bool:
        return shutil.which("podman") is not None

    def version(self) -> str:
        return self.ask(["podman", "--version"]).stdout.strip()

    def containers(self) -> list[Container]:
        identifiers = self.ask(["podman", "ps", "--all", "--quiet", "--no-trunc"]).stdout.split()
        return [_container(row) for row in self._inspect(identifiers)] if identifiers else []

    def find(self, name: str) -> Container:
        # Podman also takes the beginning of an ID for a name.
        exists = self.ask(["podman", "container", "exists", name], may_fail=True).returncode == 0
        rows = self._inspect([name]) if exists else []
        if not rows or rows[0]["Name"] != name:
            raise self.unknown(name)
        return _container(rows[0])

    def facts(self, container: Container | None = None) -> dict[str, Any]:
        information = self.ask_json(["podman", "info", "--format", "json"])
        common = {
            "engine": self.name,
            "version": self.version(),
            "storage_driver": information["store"]["graphDriverName"],
            "cgroup_version": information["host"]["cgroupVersion"],
            "cgroup_manager": information["host"]["cgroupManager"],
        }
        if container is not None:
            image = self._row(container)["Image"]
            return {**common, "runtime": container.runtime, "image": container.image, "image_id": image}
        return {
            **common,
            "names": [each.name for each in self.containers()],
            "image_ids": self.ask(["podman", "images", "--all", "--quiet", "--no-trunc"]).stdout.split(),
            "runtimes": [name for name in ("runc", "crun") if shutil.which(name)],
        }

    def removal(self, name: str) -> str:
        return f"podman rm {name}"

    def remove(self, name: str) -> None:
        try:
            identifier = self.find(name).identifier
        except WorkloadNotFound:
            return
        self.ask(["podman", "rm", "--force", "--ignore", "--time", "0", identifier])

    def own_mountpoints(self, container: Container) -> frozenset[str]:
        specification = _specification(container)
        bound = {bind.destination for bind in container.binds if bind.volume is None}
        made = [
            mount["destination"] for mount in specification.get("mounts") or [] if mount["destination"] not in bound
        ]
        return frozenset(["/", *made, *hidden_paths(specification), *bound_devices(specification)])

    def problems(self, container: Container) -> list[str]:
        if container.state != RUNNING:
            return [not_running(container)]
        row = self._row(container)
        found = [
            has_other_end(bind, "Start the container without it")
            for bind in container.binds
            if path_type(bind.source) not in (DIRECTORY, FILE)
        ]
        network = row["HostConfig"]["NetworkMode"]
        for is_so, reason in (
            (
                bool(bound_devices(_specification(container))),
                "it has a user namespace (--userns, --uidmap), with which podman's restore fails. Start it without",
            ),
            (bool(row.get("Pod")), "it is part of a pod. Move what is in the pod as single containers"),
            (bool(row.get("Dependencies")), "it depends on other containers. Start it without"),
            (row["Config"]["Tty"], "it has a terminal, whose other end would be lost. Start it without --tty"),
            (row["HostConfig"]["AutoRemove"], "podman removes it as soon as it stops (--rm). Start it without --rm"),
            (bool(row.get("ExecIDs")), "somebody works in it (podman exec). Let that end first"),
            (network not in _NETWORKS, f"its network is {network}, of which podman makes no other. Use bridge or none"),
        ):
            if is_so:
                found.append(reason)
        found += [
            f"the volume {mount['Name']} is one of the driver {mount['Driver']}, which is not copied. Use a bind mount"
            for mount in row["Mounts"]
            if mount["Type"] == "volume" and mount["Driver"] != "local"
        ]
        return found

    def configuration(self, container: Container) -> dict[str, Any]:
        return {
            "engine": self.name,
            "identifier": container.identifier,
            _CONFIGURATION: self._stored_configuration(container),
            _SPECIFICATION: _specification(container),
            _DESCRIPTORS: _descriptors(container),
            "volumes": {bind.destination: bind.volume for bind in container.binds if bind.volume is not None},
        }

    def checkpoint(self, container: Container, images: Path, options: Options, leave_running: bool = False) -> Command:
        require_passed_on(options, self.name)
        link = Path(container.bundle) / _CHECKPOINT
        if link.is_symlink():
            link.unlink()
        if link.exists():
            raise CriuError(
                f"The container {container.name} has a checkpoint of its own already, {link}.",
                "Remove that folder if nobody needs it.",
            )
        link.symlink_to(images)
        argv = ["podman", "container", "checkpoint", "--keep", *_flags(options)]
        return Command([*argv, *(["--leave-running"] if leave_running else []), container.name])

    def forget_checkpoint(self, container: Container, images: Path) -> None:
        link = Path(container.bundle) / _CHECKPOINT
        # It may be that of a later checkpoint.
        if link.is_symlink() and os.readlink(link) == str(images):
            link.unlink()

    def log_folder(self, container: Container, images: Path) -> Path:
        return Path(container.bundle)

    def copies(self, container: Container) -> list[Copy]:
        specification = _specification(container)
        memory = _source_at(specification, _SHARED_MEMORY_MOUNTPOINT)
        return [
            Copy(_ROOT, specification["root"]["path"]),
            *([Copy(_SHARED_MEMORY, memory, is_late=True)] if memory is not None else []),
            *(Copy(f"{_VOLUME}{bind.volume}", bind.source) for bind in container.binds if bind.volume is not None),
        ]

    def restore(self, arrival: Arrival) -> Command:
        require_passed_on(arrival.options, self.name)
        configuration = arrival.configuration
        volumes = self._make_volumes(configuration["volumes"], arrival)
        # Podman gives no answer about a container while it restores it, so all that is needed is asked before.
        store = self.ask_json(["podman", "info", "--format", "json"])["store"]
        containers = Path(store["graphRoot"]) / f"{store['graphDriverName']}-containers"
        self._bundle = containers / configuration["identifier"] / "userdata"
        self._volumes = volumes
        made = {mount["destination"]: mount.get("source", "") for mount in configuration[_SPECIFICATION]["mounts"]}
        by_volume = {place: volumes[volume] for place, volume in configuration["volumes"].items()}
        sources = {**made, **by_volume, **arrival.sources}
        archive = arrival.images / "podman.tar"
        arrival.images.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_archive(archive, configuration, remapped(configuration[_SPECIFICATION], sources, None), arrival.images)
        argv = ["podman", "container", "restore", "--import", str(archive), "--ignore-volumes", "--ignore-rootfs"]
        return Command([*argv, *_flags(arrival.options)])

    def criu_lines(self, configuration: Mapping[str, Any]) -> list[str]:
        is_crun_s = os.path.basename(str(configuration[_CONFIGURATION].get("runtime"))) == Crun.name
        return external_devices(configuration[_SPECIFICATION]) if is_crun_s else []

    def environment(self, given: Mapping[str, str], folder: Path) -> Mapping[str, str]:
        # Podman starts the runtime through conmon, which gets a PATH of its own; see containers.conf(5).
        override = folder / "containers.conf"
        override.write_text(f"[engine]\nconmon_env_vars = [{json.dumps('PATH=' + given['PATH'])}]\n", "utf-8")
        return {**given, "CONTAINERS_CONF_OVERRIDE": str(override)}

    def folders(self, name: str) -> dict[str, str]:
        specification = json.loads((self._bundle / "config.json").read_text("utf-8"))
        memory = _source_at(specification, _SHARED_MEMORY_MOUNTPOINT)
        return {
            _ROOT: specification["root"]["path"],
            **({_SHARED_MEMORY: memory} if memory is not None else {}),
            **{f"{_VOLUME}{volume}": path for volume, path in self._volumes.items()},
        }

    def _inspect(self, names: Sequence[str]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.ask_json(["podman", "container", "inspect", *names])
        self._rows.update({row["Id"]: row for row in rows})
        return rows

    def _row(self, container: Container) -> dict[str, Any]:
        return self._rows.get(container.identifier) or self._inspect([container.identifier])[0]

    def _stored_configuration(self, container: Container) -> dict[str, Any]:
        # Podman writes it into an archive, but tells nobody before. It is one row of its database.
        import sqlite3  # noqa: PLC0415  (every module would wait for it)

        root = self.ask_json(["podman", "info", "--format", "json"])["store"]["graphRoot"]
        path = Path(root) / "db.sql"
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
                row = database.execute(
                    "SELECT JSON FROM ContainerConfig WHERE ID = ?", (container.identifier,)
                ).fetchone()
            configuration: dict[str, Any] = json.loads(row[0])
        except (sqlite3.Error, TypeError, ValueError) as error:
            raise CriuError(
                f"The configuration of {container.name} cannot be read from podman's database {path}: {error}.",
                "Use podman 5, or 4.8 or later with its sqlite database (podman info: databaseBackend).",
            ) from error
        return configuration

    def _make_volumes(self, volumes: Mapping[str, str], arrival: Arrival) -> dict[str, str]:
        made = {}
        for volume in volumes.values():
            self.ask(["podman", "volume", "create", "--ignore", volume])
            path = self.ask(["podman", "volume", "inspect", "--format", "{{.Mountpoint}}", volume]).stdout.strip()
            if os.listdir(path) and not Contents().belongs_to(path, arrival.workload):
                raise CriuError(
                    f"The volume {volume} has contents here ({path}) that did not come with {arrival.workload}, and "
                    "would be replaced.",
                    f"Remove it if nobody needs it: podman volume rm {volume}.",
                )
            problem = Contents().problem(path, arrival.workload) if os.listdir(path) else None
            if problem is not None:
                raise CriuError(
                    f"The volume {volume} here ({path}) would be replaced, but {problem}.",
                    f"Remove it if nobody needs it: podman volume rm {volume}.",
                )
            Contents().claim([path], arrival.workload)
            made[volume] = path
        return made


def _container(row: Mapping[str, Any]) -> Container:
    return Container(
        engine=Podman.name,
        name=row["Name"],
        identifier=row["Id"],
        state=row["State"]["Status"],
        pid=int(row["State"]["Pid"]),
        # Of a container that was never started podman knows less.
        bundle=os.path.dirname(row["OCIConfigPath"]) if row.get("OCIConfigPath") else row.get("StaticDir", ""),
        image=row["ImageName"],
        runtime=os.path.basename(row.get("OCIRuntime", "")),
        binds=[
            Bind(mount["Source"], mount["Destination"], not mount["RW"], mount.get("Name") or None)
            for mount in row["Mounts"]
            if mount["Type"] in ("bind", "volume")
        ],
    )


def _specification(container: Container) -> dict[str, Any]:
    path = Path(container.bundle) / "config.json"
    try:
        specification: dict[str, Any] = read_json(path)
    except (OSError, ValueError) as error:
        raise CriuError(f"{path}, which podman has made for {container.name}, cannot be read: {error}.") from error
    return specification


def _descriptors(container: Container) -> list[str]:
    # proc(5), /proc/PID/fd: what conmon has given it.
    try:
        return [os.readlink(f"/proc/{container.pid}/fd/{number}") for number in range(3)]
    except OSError as error:
        raise WorkloadNotFound(f"The container {container.name} has just ended: {error}.") from error


def _source_at(specification: Mapping[str, Any], destination: str) -> str | None:
    for mount in specification.get("mounts") or []:
        if mount["destination"] == destination and str(mount.get("source", "")).startswith("/"):
            return str(mount["source"])
    return None


def _flags(options: Options) -> list[str]:
    return [
        flag
        for flag, is_wanted in (
            ("--tcp-established", options.tcp_established),
            ("--file-locks", options.file_locks),
        )
        if is_wanted
    ]


def _write_archive(
    path: Path, configuration: Mapping[str, Any], specification: Mapping[str, Any], images: Path
) -> None:
    import tarfile  # noqa: PLC0415  (every module would wait for it)

    descriptor = os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for name, value in ((_CONFIGURATION, configuration[_CONFIGURATION]), (_SPECIFICATION, specification)):
            data = json.dumps(value).encode("ascii")
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o600
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo(_CHECKPOINT)
        link.type, link.linkname = tarfile.SYMTYPE, str(images)
        archive.addfile(link)
    (images / _INVENTORY).touch(mode=0o600)
    (images / _DESCRIPTORS).write_text(json.dumps(configuration[_DESCRIPTORS]), "ascii")
