# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of LXC, of root.

lxc-checkpoint(1) starts `criu dump` and `criu restore` with arguments of its own. A restore is left to it: it is the
container's monitor from then on, and the stand-in of CRIU waits in CRIU's place. At a dump it does nothing but choose
the arguments, and it cannot do that for a container that it has restored before (until LXC 7;
https://github.com/lxc/lxc/issues/4643). So the dump is CRIU's, with the same arguments: in both cases the monitor sees
that its container has ended.

The container of the target is a new one with the same name: its configuration is written anew, with what the old one
includes in it and the sources of that host. LXC starts a container again from its configuration (at boot, or by hand),
so that of a container that lives elsewhere now must not stay: it is put aside.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path
from typing import Any

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import DUMP_LOG, Options
from ansible_collections.fleet.criu.plugins.module_utils._engine.base import (
    RUNNING,
    Arrival,
    Bind,
    Container,
    Engine,
    has_other_end,
    not_running,
    require_passed_on,
)
from ansible_collections.fleet.criu.plugins.module_utils._engine.lxc_configuration import (
    ROOT,
    Setting,
    last,
    mount_entries,
    read_settings,
    remapped_settings,
    settings_in,
    settings_text,
    without_missing,
)
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError, WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._files import write_atomically
from ansible_collections.fleet.criu.plugins.module_utils._foreign import read_text
from ansible_collections.fleet.criu.plugins.module_utils._mounts.checks import path_type
from ansible_collections.fleet.criu.plugins.module_utils._mounts.plan import OTHER
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import parse
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command

CONFIGURATION = "config"

# Beside it: what it was before the container was moved away.
PUT_ASIDE = "config.moved"

_MADE_BY_US = "Made by fleet.criu, of the container that came from another host."

_STOPPED = "stopped"
_STOP_SECONDS = "10"

# Below them LXC makes mounts by itself (lxc.mount.auto, lxc.autodev).
_LXCS_OWN = ("/proc", "/sys", "/dev")

# What lxc-checkpoint of LXC 6 gives to `criu dump` for every container, but for the control group's freezer (CRIU stops
# the tasks one by one without) and roots of controllers (there are none of version 1).
_LXCS_ARGUMENTS = [
    "--tcp-established",
    "--file-locks",
    "--link-remap",
    "--skip-in-flight",
    "--force-irmap",
    "--manage-cgroups=full",
    "--ext-mount-map",
    "auto",
    "--enable-external-sharing",
    "--enable-external-masters",
    "--enable-fs",
    "hugetlbfs",
    "--enable-fs",
    "tracefs",
]

# cgroups(7): only version 2 has it.
_UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers")

# Of lxc.net.N.type: what CRIU can make again.
_NETWORKS = frozenset({"none", "empty", "veth", "macvlan"})

_TYPE_OF_NETWORK = re.compile(r"lxc\.net\.\d+\.type\Z")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,255}\Z")


class Lxc(Engine):
    """lxc(7), with its default folder."""

    name = "lxc"
    listing = (
        "lxc-ls --fancy, as root. The name must be exact. Containers of LXD and Incus, and those of other users, "
        "are not found."
    )

    def is_present(self) -> bool:
        return shutil.which("lxc-checkpoint") is not None

    def version(self) -> str:
        return self.ask(["lxc-checkpoint", "--version"]).stdout.strip()

    def containers(self) -> list[Container]:
        folder = self._folder()
        rows = self.ask(["lxc-ls", "--fancy", "--fancy-format", "NAME,STATE,PID"]).stdout.split("\n")[1:]
        return [self._container(folder, *row.split()[:3]) for row in rows if len(row.split()) > 2]

    def facts(self, container: Container | None = None) -> dict[str, Any]:
        common = {
            "engine": self.name,
            "version": self.version(),
            "cgroup_version": "v2" if _UNIFIED.exists() else "v1",
        }
        return common if container is not None else {**common, "names": [each.name for each in self.containers()]}

    def removal(self, name: str) -> str:
        return f"lxc-destroy --name {name} (with its root)"

    def remove(self, name: str) -> None:
        try:
            container = self.find(name)
        except WorkloadNotFound:
            return
        if container.state != _STOPPED:
            self.ask(["lxc-stop", "--kill", "--name", name], may_fail=True)
            self.ask(["lxc-wait", "--state", "STOPPED", "--timeout", _STOP_SECONDS, "--name", name], may_fail=True)
        path = Path(container.bundle) / CONFIGURATION
        with contextlib.suppress(FileNotFoundError):
            if read_text(path, 1 << 20, follow=True).startswith(f"# {_MADE_BY_US}"):
                path.unlink()
            else:
                path.replace(path.with_name(PUT_ASIDE))
        # Its root may be in there.
        with contextlib.suppress(OSError):
            Path(container.bundle).rmdir()

    def own_mountpoints(self, container: Container) -> frozenset[str]:
        bound = {bind.destination for bind in container.binds}
        rows = parse(self._proc.mountinfo(container.pid))
        return frozenset(
            row.mountpoint for row in rows if row.mountpoint.startswith(_LXCS_OWN) and row.mountpoint not in bound
        )

    def problems(self, container: Container) -> list[str]:
        if container.state != RUNNING:
            return [not_running(container)]
        settings = self._settings(container)
        root = last(settings, ROOT)
        networks = [value for key, value in settings if _TYPE_OF_NETWORK.match(key)]
        found = [
            has_other_end(bind, "Take the entry out of the container's configuration")
            for bind in container.binds
            if path_type(bind.source) == OTHER
        ]
        found += [
            f"the mount entry for {entry.destination} has an absolute path in it, and LXC tells CRIU another one. "
            "Write it without the slash in front (below the container's root)"
            for entry in mount_entries(settings)
            if entry.is_bind and not entry.is_relative
        ]
        for is_so, reason in (
            (
                not _UNIFIED.exists(),
                "this host has control groups of version 1. Boot it with systemd.unified_cgroup_hierarchy=1",
            ),
            (
                last(settings, "lxc.console.path") != "none",
                "it has a console, whose other end would be lost. Set lxc.console.path = none",
            ),
            (
                last(settings, "lxc.tty.max") not in ("", "0"),
                "it has terminals, whose other ends would be lost. Set lxc.tty.max = 0",
            ),
            (
                bool(last(settings, "lxc.mount.fstab")),
                "LXC does not tell CRIU of the mounts in lxc.mount.fstab. Write them as lxc.mount.entry",
            ),
            (
                not root.startswith(("/", "dir:/")),
                f"its root is {root}, and only that of a folder can be made again elsewhere. Use dir:",
            ),
            (
                any(key == "lxc.idmap" and value for key, value in settings),
                "it has a user namespace (lxc.idmap), which LXC cannot restore. Use a container without",
            ),
            (
                not _NETWORKS.issuperset(networks),
                f"CRIU cannot make its network again ({', '.join(networks)}). Use veth, or empty",
            ),
        ):
            if is_so:
                found.append(reason)
        return found

    def configuration(self, container: Container) -> dict[str, Any]:
        return {"engine": self.name, CONFIGURATION: [list(setting) for setting in self._settings(container)]}

    def checkpoint(self, container: Container, images: Path, options: Options, leave_running: bool = False) -> Command:
        require_passed_on(options, self.name)
        # By its name: the stand-in comes first in PATH.
        argv = ["criu", "dump", "--tree", str(container.pid), "--images-dir", str(images), "--log-file", DUMP_LOG]
        argv += ["-v4", *_LXCS_ARGUMENTS, *(["--leave-running"] if leave_running else [])]
        keys = [(bind.destination, bind.destination[1:]) for bind in container.binds]
        return Command([*argv, *(word for place, key in keys for word in ("--ext-mount-map", f"{place}:{key}"))])

    def restore(self, arrival: Arrival) -> Command:
        require_passed_on(arrival.options, self.name)
        if not _NAME.match(arrival.name) or arrival.name in (".", ".."):
            raise CriuError(f"{arrival.name!r} cannot be the name of a container.", "Use letters, digits and _.-")
        if arrival.root is None:
            raise CriuError("There is no root for the container on this host.", "Add a rule for the mountpoint '/'.")
        settings = settings_in(arrival.configuration.get(CONFIGURATION))
        text = settings_text(remapped_settings(settings, arrival.sources, arrival.root), _MADE_BY_US)
        folder = self._folder() / arrival.name
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        # Its environment may be a secret.
        write_atomically(folder / CONFIGURATION, text, 0o600)
        arrival.images.mkdir(mode=0o700, parents=True, exist_ok=True)
        images = ["--checkpoint-dir", str(arrival.images)]
        return Command(["lxc-checkpoint", "--restore", "--name", arrival.name, *images, "--verbose"])

    def _folder(self) -> Path:
        return Path(self.ask(["lxc-config", "lxc.lxcpath"]).stdout.strip())

    def _settings(self, container: Container) -> list[Setting]:
        return without_missing(read_settings(Path(container.bundle) / CONFIGURATION))

    def _container(self, folder: Path, name: str, state: str, pid: str) -> Container:
        bundle = folder / name
        try:
            entries = mount_entries(without_missing(read_settings(bundle / CONFIGURATION)))
        except CriuError:  # `problems` says so
            entries = []
        return Container(
            engine=self.name,
            name=name,
            identifier=name,
            state=state.lower(),
            pid=int(pid) if pid.isdecimal() else 0,
            bundle=str(bundle),
            binds=[Bind(entry.source, entry.destination, "ro" in entry.options) for entry in entries if entry.is_bind],
        )
