# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`criu dump` as a transaction: either the workload is gone and an image set is complete, or nothing has changed."""

from __future__ import annotations

import datetime
import platform
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.cgroup_mount import kept
from ansible_collections.fleet.criu.plugins.module_utils._criu.command import DUMP_LOG, Options, dump_command
from ansible_collections.fleet.criu.plugins.module_utils._criu.feature import (
    SKIP_LOCK_VERSION,
    Criu,
    find_criu,
    has_feature,
    require_root,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.folder import (
    prepare_folder,
    remove_images,
    remove_log,
    require_empty,
    require_own,
    require_space,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.generation import Generations
from ansible_collections.fleet.criu.plugins.module_utils._criu.log import failure
from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import (
    Manifest,
    Workload,
    digests,
    read_manifest,
    write_manifest,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.places import Places
from ansible_collections.fleet.criu.plugins.module_utils._criu.stage import POST_DUMP, MakeCommand, Stages
from ansible_collections.fleet.criu.plugins.module_utils._errors import (
    BadImageSet,
    CriuError,
    WorkloadNotFound,
)
from ansible_collections.fleet.criu.plugins.module_utils._files import write_json
from ansible_collections.fleet.criu.plugins.module_utils._mounts.keys import check_keys, make_keys
from ansible_collections.fleet.criu.plugins.module_utils._mounts.live import (
    Owned,
    nested_problems,
    read_mounts,
    require_own_mount_namespace,
    root_folder,
)
from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import FATAL, SKIPPED, Auto, Settings
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity, Proc, lives, memory_bytes
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Runner
from ansible_collections.fleet.criu.plugins.module_utils._trusted import require_trusted

AUTO = "auto"
NFTABLES = "nftables"
SKIP = "skip"


@dataclass(frozen=True)
class DumpRequest:
    """What to dump and where to. `dump_map` None gives each external mount its mountpoint as key.

    `at_least_generation` is the highest generation that any other host knows of the workload. The mounts at
    `own_mountpoints` need no key, because the engine of the workload makes them again itself.
    """

    name: str
    pid: int
    images: Path
    start_time: int | None = None
    dump_map: Sequence[Mapping[str, str]] | None = None
    options: Options = field(default_factory=Options)
    leave_running: bool = False
    replace: bool = False
    criu_path: str | None = None
    at_least_generation: int = 0
    own_mountpoints: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Dumped:
    """A complete image set. `changed` is False if it had been there already; `seconds` is how long CRIU ran.

    `put_back` says for people what the dump had changed on the host and was put back.
    """

    manifest: Manifest
    changed: bool
    seconds: float = 0.0
    put_back: Sequence[str] = ()


def dump_workload(
    request: DumpRequest,
    proc: Proc,
    runner: Runner,
    generations: Generations,
    check_only: bool = False,
    make_command: MakeCommand | None = None,
    beside: Mapping[str, Any] | None = None,
) -> Dumped:
    """Dump the workload, unless an earlier dump did it and it is gone. Raises CriuError; then the workload runs on.

    `generations` is this host's record. A check tells the generation that the dump would have, and begins none.
    `make_command` is for a workload whose engine dumps it; `beside` has more files for the image set, as JSON by name.
    """
    require_root()
    stat = proc.stat(request.pid)
    if stat is None or request.start_time not in (None, stat.start_time):
        earlier = _earlier(request, proc)
        if earlier is not None:
            return Dumped(earlier, changed=False)
        raise WorkloadNotFound(
            f"The workload {request.name} does not run here as process {request.pid}.",
            "Look for it again with workload_info, and pass its pid and start_time.",
        )
    identity = Identity(stat.pid, stat.start_time)
    require_trusted(request.images)
    criu = find_criu(runner, request.criu_path)
    manifest = plan_dump(request, identity, criu, proc, runner)
    require_space(request.images, memory_bytes(proc, proc.tree(identity.pid)))
    manifest = replace(manifest, generation=_expected_generation(request, generations))
    if request.replace:
        _require_replaceable(request, identity, proc)
    else:
        require_empty(request.images)
    if check_only:
        return Dumped(manifest, changed=True)
    manifest = replace(manifest, generation=_begin_generation(request, generations))
    if request.replace and request.images.is_dir():
        remove_images(request.images)
    how = make_command or (lambda options, stages: criu_dump(request, manifest, criu, options, stages))
    with kept(proc, runner) as put_back:
        dumped = _dump(request, manifest, identity, how, beside or {}, proc, runner)
    return replace(dumped, put_back=tuple(put_back))


def criu_dump(request: DumpRequest, manifest: Manifest, criu: Criu, options: Options, stages: Stages) -> Command:
    """CRIU's own dump of a workload that no engine owns, planned as this manifest; it asks at these stages."""
    argv = dump_command(
        criu.path,
        request.pid,
        str(request.images),
        manifest.root,
        manifest.mount_map,
        options,
        request.leave_running,
        stages.script,
        legacy=criu.is_legacy,
    )
    return Command(argv)


def plan_dump(request: DumpRequest, identity: Identity, criu: Criu, proc: Proc, runner: Runner) -> Manifest:
    """The manifest that the dump will have, but for the files. Changes nothing; raises CriuError if it would fail."""
    require_own_mount_namespace(identity.pid, proc)
    mount_map, mounts = _told(request, identity.pid, proc)
    root = root_folder(identity.pid, proc)
    if root is None:
        raise CriuError(
            f"The root of workload {request.name} (pid {identity.pid}) cannot be seen in the host's mount namespace.",
            "Mount it on the host too, so that CRIU can be told of it with --root.",
        )
    return Manifest(
        workload=Workload(request.name, identity.pid, identity.start_time, proc.command(identity.pid)),
        host=platform.node(),
        boot_id=proc.boot_id(),
        kernel=platform.release(),
        architecture=platform.machine(),
        criu_version=criu.version,
        created="",
        root=root,
        mount_map=mount_map,
        mounts=mounts,
        options=_with_network_lock(request.options, identity.pid, criu, proc, runner).as_dict(),
        leave_running=request.leave_running,
        id_maps=_own_id_maps(request.name, identity.pid, proc),
    )


def _own_id_maps(name: str, pid: int, proc: Proc) -> dict[str, list[list[int]]] | None:
    if proc.namespace(pid, "user") == proc.namespace("self", "user"):
        return None
    maps = proc.id_maps(pid)
    rootless = [kind for kind, rows in maps.items() if not any(inside == 0 for inside, _outside, _count in rows)]
    if rootless:
        raise CriuError(
            f"The user namespace of {name} has no root ({', '.join(rootless)} of process {pid} maps no ID to 0), so "
            "that CRIU could not restore it.",
            "Start the workload with a map for ID 0.",
        )
    return maps


def _told(request: DumpRequest, pid: int, proc: Proc) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    # The keys, and the mounts with what CRIU will decide when it is told of these keys.
    options = request.options
    left = [
        mount
        for mount in read_mounts(pid, proc)
        if mount["mountpoint"] not in {*options.skip_mnt, *request.own_mountpoints}
        and mount["fstype"] not in options.enable_fs
    ]
    if options.external_auto:
        mount_map = check_keys(request.dump_map or [], left, all_needed=False)
    else:
        mount_map = make_keys(left) if request.dump_map is None else check_keys(request.dump_map, left)
    auto = Auto(options.external_shared, options.external_masters)
    settings = Settings(
        keys={
            **{mountpoint: mountpoint for mountpoint in request.own_mountpoints},
            **{entry["mountpoint"]: entry["key"] for entry in mount_map if "device" not in entry},
        },
        devices=frozenset(entry["device"].replace("/", ":") for entry in mount_map if "device" in entry),
        auto=auto if options.external_auto else None,
        skipped=frozenset(options.skip_mnt),
        enabled_file_systems=frozenset(options.enable_fs),
    )
    owned = Owned(request.own_mountpoints) if request.own_mountpoints else None
    mounts = [mount for mount in read_mounts(pid, proc, settings, owned) if mount["verdict"] != SKIPPED]
    fatal = [f"{mount['mountpoint']}: {mount['verdict_reason']}" for mount in mounts if mount["verdict"] in FATAL]
    fatal += [
        f"{mount['mountpoint']} of process {mount['pid']}: {mount['reason']}"
        for mount in nested_problems(pid, proc, settings)
    ]
    if fatal:
        raise CriuError(
            f"CRIU would refuse the mounts of {request.name}: {'; '.join(fatal)}.",
            "Run mount_info and mount_map again, and use the dump map that they give.",
            {"refused_mounts": fatal},
        )
    return mount_map, mounts


def _expected_generation(request: DumpRequest, generations: Generations) -> int:
    # What _begin_generation would give. Changes nothing.
    known = max(generations.current(request.name), request.at_least_generation, 0)
    return max(known, 1) if request.leave_running else known + 1


def _begin_generation(request: DumpRequest, generations: Generations) -> int:
    # Before the freeze, so that it costs no downtime. A dump that fails leaves a number that no image set has.
    if request.leave_running:
        # The workload lives on as this generation, so the image set is a copy from the beginning.
        generations.learn(request.name, request.at_least_generation)
        generation = generations.current(request.name) or generations.begin(request.name)
        generations.spend(request.name, generation)
        return generation
    generation = generations.begin(request.name, request.at_least_generation)
    # The workload lives, so what was dumped of it before is overtaken, even if it was never revived.
    generations.spend(request.name, generation - 1)
    return generation


def _earlier(request: DumpRequest, proc: Proc) -> Manifest | None:
    try:
        manifest = read_manifest(request.images)
    except BadImageSet:
        return None
    is_same = (
        manifest.boot_id == proc.boot_id()
        and manifest.workload.name == request.name
        and manifest.workload.pid == request.pid
        and request.start_time in (None, manifest.workload.start_time)
        and not manifest.leave_running
    )
    return manifest if is_same else None


def _require_replaceable(request: DumpRequest, identity: Identity, proc: Proc) -> None:
    require_own(request.images)
    try:
        manifest = read_manifest(request.images)
    except BadImageSet:
        return
    owner = Identity(manifest.workload.pid, manifest.workload.start_time)
    if manifest.boot_id != proc.boot_id() or owner != identity:
        raise BadImageSet(
            f"{request.images} has a complete image set of another process ({manifest.workload.name}, dumped on "
            f"{manifest.host}), which is not replaced.",
            "Name another folder for this dump, or remove the old one if nobody needs it.",
        )


def _dump(
    request: DumpRequest,
    manifest: Manifest,
    identity: Identity,
    make_command: MakeCommand,
    beside: Mapping[str, Any],
    proc: Proc,
    runner: Runner,
) -> Dumped:
    # The manifest is written in CRIU's post-dump stage, when all images are there and the tasks still are: there is no
    # moment with neither a workload nor a complete image set.
    prepare_folder(request.images, memory_bytes(proc, proc.tree(identity.pid)))
    remove_log(request.images / DUMP_LOG)

    def complete(pid: int) -> None:
        nonlocal manifest
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")
        manifest = replace(manifest, created=now, files=digests(request.images))
        for name, value in beside.items():
            write_json(request.images / name, value)
        write_manifest(request.images, manifest)

    try:
        with Stages({POST_DUMP: complete}) as stages:
            command = make_command(Options.from_dict(manifest.options), stages)
            started = time.monotonic()
            completed = runner(command, stages.serve)
            seconds = time.monotonic() - started
            if stages.refusal is not None:
                raise CriuError(
                    f"The dump of {request.name} was given up before the workload was let go, and it runs on: "
                    f"{stages.refusal}"
                ) from stages.refusal
        if completed.returncode != 0:
            raise failure(
                f"The dump of {request.name} (pid {identity.pid})",
                completed,
                request.images / DUMP_LOG,
                Places(manifest.mounts, manifest.mount_map),
            )
        if not manifest.files:
            raise CriuError(
                f"CRIU ended the dump of {request.name} well, but never asked at its post-dump stage.",
                "Check that /run or /var/lib is mounted without noexec.",
            )
    except BaseException:
        if lives(identity, proc):
            remove_images(request.images)
        raise
    return Dumped(manifest, changed=True, seconds=seconds)


def _with_network_lock(options: Options, pid: int, criu: Criu, proc: Proc, runner: Runner) -> Options:
    if options.network_lock != AUTO:
        return options
    if criu.number >= SKIP_LOCK_VERSION and not _has_network_to_lock(options, pid, proc):
        return replace(options, network_lock=SKIP)
    # CRIU's own default is iptables, which fails where that program is not installed.
    method = NFTABLES if has_feature(runner, criu, f"network_lock_{NFTABLES}") else None
    return replace(options, network_lock=method)


def _has_network_to_lock(options: Options, pid: int, proc: Proc) -> bool:
    # In the host's network namespace CRIU locks TCP connections only, and refuses them unless it is told to keep or to
    # close them. It would make its table all the same, leave it behind at the source, and at the target wait some 15 ms
    # for the kernel to find out that there is none.
    return options.tcp_established or options.tcp_close or proc.namespace(pid, "net") != proc.namespace("self", "net")
