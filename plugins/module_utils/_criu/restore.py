# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`criu restore` as a transaction: either the workload runs with the mounts that were intended, or nothing runs."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.cgroup_mount import kept
from ansible_collections.fleet.criu.plugins.module_utils._criu.command import RESTORE_LOG, Options, restore_command
from ansible_collections.fleet.criu.plugins.module_utils._criu.feature import Criu, find_criu, require_root
from ansible_collections.fleet.criu.plugins.module_utils._criu.folder import remove_log
from ansible_collections.fleet.criu.plugins.module_utils._criu.generation import Generations
from ansible_collections.fleet.criu.plugins.module_utils._criu.log import failure
from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import (
    RESTORED,
    Manifest,
    read_manifest,
    verify_files,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.places import Places
from ansible_collections.fleet.criu.plugins.module_utils._criu.sharing import shared
from ansible_collections.fleet.criu.plugins.module_utils._criu.stage import POST_RESTORE, MakeCommand, Stages
from ansible_collections.fleet.criu.plugins.module_utils._criu.timers import seconds_of, set_right
from ansible_collections.fleet.criu.plugins.module_utils._errors import BadImageSet, CriuError, WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json, write_atomically, write_json
from ansible_collections.fleet.criu.plugins.module_utils._mounts.checks import is_block_device, path_type
from ansible_collections.fleet.criu.plugins.module_utils._mounts.compare import COMPARED_OPTIONS, differences
from ansible_collections.fleet.criu.plugins.module_utils._mounts.live import is_device_of, is_same_file, read_mounts
from ansible_collections.fleet.criu.plugins.module_utils._mounts.pinned import Pinned
from ansible_collections.fleet.criu.plugins.module_utils._mounts.private import PrivateMounts
from ansible_collections.fleet.criu.plugins.module_utils._mounts.sources import HostMounts
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import parse
from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import ROOT
from ansible_collections.fleet.criu.plugins.module_utils._pid_file import process_of
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity, Proc, lives
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Runner
from ansible_collections.fleet.criu.plugins.module_utils._trusted import (
    make_in,
    opened_parent,
    remove_file,
    require_trusted,
)


@dataclass(frozen=True)
class RestoreRequest:
    """What to restore and how. `restore_map` has a path for each key, `options` override those of the image set.

    `root` is empty if the engine of the workload makes one itself.

    `spent_generation` is the highest generation that is spent by the record of any other host; `allow_copy` revives an
    image set although its generation is spent. `is_verified` says that a check has just compared the digests of all
    images, which takes long for large ones.
    """

    images: Path
    root: str
    restore_map: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any]
    pid_file: Path | None = None
    criu_path: str | None = None
    allow_auto: bool = False
    allow_copy: bool = False
    spent_generation: int = 0
    is_verified: bool = False


@dataclass(frozen=True)
class Restored:
    """A workload that runs. `changed` is False if it did so already; `seconds` is how long CRIU ran.

    After a mere check there is no `pid`. `put_back` says for people what the restore had changed on the host and was
    put back.
    """

    pid: int | None
    changed: bool
    manifest: Manifest
    seconds: float = 0.0
    put_back: Sequence[str] = ()


def restore_workload(
    request: RestoreRequest,
    proc: Proc,
    runner: Runner,
    generations: Generations,
    check_only: bool = False,
    before_run: Callable[[int], None] | None = None,
    stages_folder: Path | None = None,
    make_command: MakeCommand | None = None,
    private: PrivateMounts | None = None,
) -> Restored:
    """Restore the workload, unless it runs already. Raises CriuError; then no copy of it was let run here.

    The live mounts are compared with the intended ones in CRIU's post-restore stage, before the first instruction of
    the workload runs: a copy with wrong mounts never writes anything. In the same stage the generation of the image
    set is spent in `generations`, this host's record; a restore that CRIU gives up is repeatable. The last thing in
    that stage is `before_run` with the pid of the workload's init; if it raises, nothing runs. In a `stages_folder` the
    answer that CRIU got stays behind. `make_command` is for a workload whose engine restores it; otherwise CRIU gets
    its root, which must be a mount point, and its binds at the places of `private`.
    """
    require_root()
    require_trusted(request.images)
    manifest = read_manifest(request.images)
    running = _find_running(request, manifest, proc)
    if running is not None:
        return running
    _check_generation(request, manifest, generations.spent(manifest.workload.name))
    criu = find_criu(runner, request.criu_path)
    if not request.is_verified:
        verify_files(request.images, manifest)
    check_paths(request, manifest)
    _check_auto(request, manifest)
    if check_only:
        return Restored(None, True, manifest)
    with kept(proc, runner) as put_back, contextlib.closing(Pinned()) as pinned:
        pinned.add(bound_paths(request))

        def criu_s_own(options: Options, stages: Stages) -> Command:
            asked = request if private is None else bound(request, manifest.mounts, manifest.mount_map, private, pinned)
            wanted = root_options(request.root, manifest.mounts, proc)
            if private is not None and wanted is not None:
                private.set_options(request.root, wanted)
            return criu_restore(asked, criu, options, stages)

        how = make_command or criu_s_own
        restored = _restore(
            request, manifest, how, proc, runner, generations, before_run, stages_folder, pinned, private
        )
    return replace(restored, put_back=tuple(put_back))


def bound(
    request: RestoreRequest,
    mounts: Sequence[Mapping[str, Any]],
    mount_map: Sequence[Mapping[str, Any]],
    private: PrivateMounts,
    pinned: Pinned,
) -> RestoreRequest:
    """The same, with the places where CRIU finds what was pinned at these paths. Raises CriuError.

    `mounts` and `mount_map` are those of the manifest. If several mounts are slaves of one, CRIU copies what they share
    from the mount that the path of one of them is on, and the kernel wants the others' roots inside the root of that
    (move_mount(2), MOVE_MOUNT_SET_GROUP). A place is a mount of its own, so these keep their paths.
    """
    masters = Counter(mount["master"] for mount in mounts if mount["master"] is not None)
    groups = {mount["mountpoint"] for mount in mounts if masters[mount["master"]] > 1}
    keep = {entry["key"] for entry in mount_map if entry.get("device") or entry["mountpoint"] in groups}
    places = [
        entry if entry["key"] in keep else {**entry, "path": private.place(entry["path"], pinned)}
        for entry in request.restore_map
    ]
    return replace(request, root=private.place(request.root, pinned), restore_map=places)


def criu_restore(request: RestoreRequest, criu: Criu, options: Options, stages: Stages) -> Command:
    """CRIU's own restore of a workload that no engine owns; it asks at these stages."""
    argv = restore_command(
        criu.path,
        str(request.images),
        request.root,
        request.restore_map,
        options,
        stages.script,
        legacy=criu.is_legacy,
    )
    return Command(argv)


def root_options(root: str, mounts: Sequence[Mapping[str, Any]], proc: Proc) -> list[str] | None:
    """What the root must be mounted with on this host, so that it comes back as it was; None if it is so already.

    `mounts` are those of the workload, as mount_info returns them. Raises MalformedMountinfo.
    """
    here = HostMounts(parse(proc.mountinfo("self"))).mount_at(os.path.realpath(root))
    intended = next((mount["mount_options"] for mount in mounts if mount["kind"] == ROOT), None)
    if here is None or intended is None:
        return None
    wanted, found = ([name for name in COMPARED_OPTIONS if name in given] for given in (intended, here.mount_options))
    return wanted if wanted != found else None


def _find_running(request: RestoreRequest, manifest: Manifest, proc: Proc) -> Restored | None:
    # The copy that an earlier restore of this image set started, or the process of the pid file.
    for identity in (recorded(request.images, proc), _left_running(manifest, proc)):
        if identity is not None and lives(identity, proc):
            return Restored(identity.pid, False, manifest)
    if request.pid_file is not None:
        try:
            return Restored(process_of(request.pid_file, proc).pid, False, manifest)
        except WorkloadNotFound:
            pass
    return None


def _left_running(manifest: Manifest, proc: Proc) -> Identity | None:
    # A dump with leave_running leaves the workload itself alive, on this boot of this host or elsewhere.
    if manifest.boot_id != proc.boot_id():
        return None
    return Identity(manifest.workload.pid, manifest.workload.start_time)


def _check_generation(request: RestoreRequest, manifest: Manifest, spent_here: int) -> None:
    name, generation = manifest.workload.name, manifest.generation
    spent = max(spent_here, request.spent_generation)
    if request.allow_copy or not 0 < generation <= spent:
        return
    record = "this host" if spent_here >= generation else "another host"
    raise BadImageSet(
        f"The image set {request.images} is of generation {generation} of {name}, which is spent: by the record of "
        f"{record}, generations up to {spent} have lived. Revived again, it would be a second copy of {name}, or one "
        "that has forgotten what was written since.",
        f"Use the image set of the latest dump of {name}. If you want a second copy of {name}, or know that "
        "nothing has run (a restore that was cut off at its very end counts as one), set allow_copy: true.",
        {"generation": generation, "spent_generation": spent},
    )


def _restore(
    request: RestoreRequest,
    manifest: Manifest,
    make_command: MakeCommand,
    proc: Proc,
    runner: Runner,
    generations: Generations,
    before_run: Callable[[int], None] | None,
    stages_folder: Path | None,
    pinned: Pinned,
    private: PrivateMounts | None,
) -> Restored:
    options = restore_options(request, manifest)
    remove_log(request.images / RESTORE_LOG)
    name, generation = manifest.workload.name, manifest.generation
    identity: Identity | None = None
    spent_before = 0

    def confirm(pid: int) -> None:
        nonlocal identity, spent_before
        check_mounts(request, manifest, pid, proc, pinned)
        set_right(request.images, pid, seconds_of(manifest.created), proc)
        stat = proc.stat(pid)
        if stat is None:
            raise CriuError(f"Process {pid} was restored, but is gone.")
        spent_before = generations.spend(name, generation)
        # Somebody else may have revived it since the first look.
        _check_generation(request, manifest, spent_before)
        identity = Identity(pid, stat.start_time)
        record_restored(request, identity, proc)
        if before_run is not None:
            before_run(pid)

    try:
        with Stages({POST_RESTORE: confirm}, stages_folder) as stages:
            command = make_command(options, stages)
            started = time.monotonic()
            with shared(request.images, manifest.image_group):
                completed = runner(command, stages.serve)
            seconds = time.monotonic() - started
            if stages.refusal is not None:
                raise CriuError(
                    f"The restore of {manifest.workload.name} was given up before it ran: {stages.refusal}",
                    facts=getattr(stages.refusal, "facts", {}),
                ) from stages.refusal
        if completed.returncode != 0 or identity is None:
            raise failure(
                f"The restore of {manifest.workload.name}",
                completed,
                request.images / RESTORE_LOG,
                places_of(request, manifest, private),
            )
    except BaseException as error:
        if identity is not None and not lives(identity, proc):
            remove_record(request)
            # Only if CRIU has said that it failed: it may have let the workload run if we were interrupted.
            if isinstance(error, CriuError):
                generations.give_back(name, generation, spent_before)
        raise
    return Restored(identity.pid, True, manifest, seconds)


def restore_options(request: RestoreRequest, manifest: Manifest) -> Options:
    """The options of the image set, overridden by those of the request."""
    given = {name: value for name, value in request.options.items() if value is not None}
    kept = dict(manifest.options)
    for one, other in (("tcp_established", "tcp_close"), ("tcp_close", "tcp_established")):
        if given.get(one):
            kept[other] = False
    return Options.from_dict({**kept, **given})


def check_paths(request: RestoreRequest, manifest: Manifest) -> None:
    """Raises BadImageSet, with every problem, if the map does not fit the image set or this host."""
    given = {entry["key"]: entry["path"] for entry in request.restore_map}
    devices = [entry["key"] for entry in request.restore_map if entry.get("device")]
    types = {
        entry["key"]: mount["type"]
        for entry in manifest.mount_map
        for mount in manifest.mounts
        if mount["mountpoint"] == entry["mountpoint"]
    }
    problems = [f"key {key} has no path" for key in manifest.keys if key not in given]
    problems += [f"the image set has no key {key}" for key in given if key not in manifest.keys]
    problems += [
        f"{path} (for key {key}) is {path_type(path) or 'missing'}, not a {types[key]}"
        for key, path in given.items()
        if key in types and key not in devices and path_type(path) != types[key]
    ]
    problems += [
        f"{given[key]} (for key {key}) is no block device" for key in devices if not is_block_device(given[key])
    ]
    if request.root and path_type(request.root) != "directory":
        problems.append(f"the root {request.root} is no folder")
    if problems:
        raise BadImageSet(
            f"The image set {request.images} cannot be restored with this map: {'; '.join(problems)}.",
            "Plan again with mount_map for this host, and use the root and the restore map that it gives.",
            {"problems": problems},
        )


def bound_paths(request: RestoreRequest) -> list[str]:
    """The paths of this host that the workload will have mounted: its root and the sources of its binds."""
    sources = [entry["path"] for entry in request.restore_map if not entry.get("device")]
    return [*sources, *([request.root] if request.root else [])]


def places_of(request: RestoreRequest, manifest: Manifest, private: PrivateMounts | None) -> Places:
    """What a diagnosis of CRIU's log has to know of the mounts."""
    by_key = {entry["key"]: entry["path"] for entry in request.restore_map}
    entries = [{**entry, "path": by_key.get(entry["key"], "")} for entry in manifest.mount_map]
    return Places(manifest.mounts, entries, request.root, {} if private is None else private.paths)


def _check_auto(request: RestoreRequest, manifest: Manifest) -> None:
    baked = [f"{mount['mountpoint']} from {mount['auto_path']}" for mount in manifest.mounts if mount.get("auto_path")]
    if baked and manifest.host != platform.node() and not request.allow_auto:
        raise BadImageSet(
            f"The image set {request.images} was made with auto detection on {manifest.host}, so it has the paths of "
            f"that host in it: {', '.join(baked)}.",
            "Dump with explicit keys (external: explicit). To bind what is at these paths here, set allow_auto.",
            {"auto_paths": baked},
        )


def check_mounts(
    request: RestoreRequest, manifest: Manifest, pid: int, proc: Proc, pinned: Pinned | None = None
) -> None:
    """Raises CriuError, with every difference, if the live mounts of a process are not the intended ones.

    `pinned` has what was at the paths when they were checked, if that was kept.
    """
    is_at = is_same_file if pinned is None else pinned.is_at
    by_key = {entry["key"]: entry["path"] for entry in request.restore_map}
    paths = {entry["mountpoint"]: by_key[entry["key"]] for entry in manifest.mount_map}
    paths.update({mount["mountpoint"]: mount["auto_path"] for mount in manifest.mounts if mount.get("auto_path")})
    devices = {entry["mountpoint"] for entry in manifest.mount_map if entry.get("device")}
    found = differences(
        manifest.mounts,
        read_mounts(pid, proc),
        {**paths, **({"/": request.root} if request.root else {})},
        lambda path, mountpoint: (
            is_device_of(path, proc.root(pid, mountpoint))
            if mountpoint in devices
            else is_at(path, proc.root(pid, mountpoint))
        ),
    )
    if found:
        raise CriuError(
            f"the restored mounts are not what was intended: {'; '.join(found)}.",
            "Correct the paths, or mount them at this host with the same options, and restore again.",
            {"differences": found},
        )


def record_restored(request: RestoreRequest, identity: Identity, proc: Proc) -> None:
    """Note in the image folder, and in the pid file if there is to be one, which process was restored."""
    record = {"pid": identity.pid, "start_time": identity.start_time, "boot_id": proc.boot_id()}
    write_json(request.images / RESTORED, record)
    if request.pid_file is not None:
        _make_public_folder(request.pid_file.parent)
        write_atomically(request.pid_file, f"{identity.pid}\n", 0o644)


def recorded(images: Path, proc: Proc) -> Identity | None:
    """The process that record_restored has noted in this image folder, if it was on this boot of this host."""
    try:
        record = read_json(images / RESTORED)
        return Identity(int(record["pid"]), int(record["start_time"])) if record["boot_id"] == proc.boot_id() else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def remove_record(request: RestoreRequest) -> None:
    """Take back what record_restored has noted."""
    for path in (request.images / RESTORED, request.pid_file):
        if path is not None:
            remove_file(path)


def _make_public_folder(folder: Path) -> None:
    # Whatever our umask is: who is not root reads pid files too.
    if not folder.exists():
        _make_public_folder(folder.parent)
        with contextlib.suppress(FileExistsError), opened_parent(folder) as parent:
            made = make_in(parent, folder.name)
            try:
                os.fchmod(made, 0o755)
            finally:
                os.close(made)
