# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mounts of a running process, read, judged and located on its host."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ansible_collections.fleet.criu.plugins.module_utils._errors import SharedMountNamespace, WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._mounts.checks import path_type
from ansible_collections.fleet.criu.plugins.module_utils._mounts.sources import HostMounts, prefer
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import (
    MountRow,
    check_tree,
    is_decodable,
    parse,
    printable,
)
from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import (
    ENGINE,
    EXTERNAL,
    FATAL,
    INTERNAL,
    Settings,
    Verdict,
    classify,
    predict,
    predict_all,
    root_mount,
)
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc


@dataclass(frozen=True)
class Owned:
    """What the engine of a workload knows of its mounts: those that it makes again itself, and those that it binds."""

    own: frozenset[str] = frozenset()
    bound: frozenset[str] | None = None


def read_mounts(
    pid: int, proc: Proc, settings: Settings | None = None, owned: Owned | None = None
) -> list[dict[str, Any]]:
    """All mounts of a process in plain JSON types; see the return values of the module mount_info.

    The verdicts are what `criu dump` will decide with these settings, by default with no key at all. `owned` is for a
    workload that has an engine.

    Raises WorkloadNotFound if the process is gone, MalformedMountinfo if its table cannot be understood.
    """
    rows = parse(proc.mountinfo(pid))
    if not rows:
        raise WorkloadNotFound(f"Process {pid} has no mounts to read: it is gone.", "Look for the workload again.")
    host_rows = parse(proc.mountinfo("self"))
    for table in (rows, host_rows):
        check_tree(table)
    host = HostMounts(host_rows)
    predicted = predict(rows, host_rows, settings or Settings())
    mounts = [
        {
            **_mount(row, verdict, host, pid, proc),
            "verdict": prediction.kind,
            "verdict_reason": prediction.reason,
            "auto_path": prediction.path,
        }
        for row, verdict, prediction in zip(rows, classify(rows, host_rows), predicted)
    ]
    return mounts if owned is None else [_with_engine(mount, owned) for mount in mounts]


def _with_engine(mount: dict[str, Any], owned: Owned) -> dict[str, Any]:
    mountpoint = mount["mountpoint"]
    if mountpoint in owned.own:
        reason = "the engine makes it again, wherever the workload is restored"
        return {**mount, "kind": ENGINE, "reason": reason, "verdict": ENGINE, "verdict_reason": reason}
    is_known = mount["kind"] != EXTERNAL or owned.bound is None or mountpoint in owned.bound
    return mount if is_known else {**mount, "configured": False}


def require_own_mount_namespace(pid: int, proc: Proc) -> None:
    """Raises SharedMountNamespace if the process is in our own mount namespace, where CRIU would run too."""
    if proc.namespace(pid, "mnt") == proc.namespace("self", "mnt"):
        raise SharedMountNamespace(
            f"Process {pid} is in the host's own mount namespace, where CRIU ignores every mount mapping.",
            "Start the workload in a mount namespace and a root of its own (unshare --mount and pivot_root, or an "
            "engine).",
        )


def root_folder(pid: int, proc: Proc) -> str | None:
    """The folder on the host that is the root of the process, or None if it cannot be seen from the host."""
    root = root_mount(parse(proc.mountinfo(pid)))
    if root is None:
        return None
    visible = [path for path in HostMounts(parse(proc.mountinfo("self"))).candidates(root) if not path.hidden]
    return printable(visible[0].path) if visible else None


def nested_problems(pid: int, proc: Proc, settings: Settings) -> list[dict[str, Any]]:
    """The mounts of nested mount namespaces of a workload that would make `criu dump` fail, in plain JSON types.

    No key can be given for them: they have `pid` (one process in that namespace), `mountpoint`, `verdict` and `reason`.
    """
    own = proc.namespace(pid, "mnt")
    others: dict[str, int] = {}
    for other in proc.tree(pid):
        namespace = proc.namespace(other, "mnt")
        if namespace is not None and namespace != own:
            others.setdefault(namespace, other)
    tables = [parse(proc.mountinfo(each)) for each in (pid, *others.values())]
    judged = predict_all(tables, parse(proc.mountinfo("self")), settings)
    return [
        {
            "pid": other,
            "mountpoint": printable(row.mountpoint),
            "verdict": verdict.kind,
            "reason": verdict.reason,
        }
        for other, rows, verdicts in zip(others.values(), tables[1:], judged[1:])
        for row, verdict in zip(rows, verdicts)
        if verdict.kind in FATAL
    ]


def _mount(row: MountRow, verdict: Verdict, host: HostMounts, pid: int, proc: Proc) -> dict[str, Any]:
    inside = proc.root(pid, row.mountpoint)
    paths = []
    if verdict.kind != INTERNAL:
        paths = prefer(host.candidates(row), lambda path: is_same_file(path, inside))
    visible = [path for path in paths if not path.hidden]
    return {
        **row.as_dict(),
        "decodable": is_decodable(row.root) and is_decodable(row.mountpoint),
        "shared_with_host": host.has_peer_group(row.shared),
        "kind": verdict.kind,
        "reason": verdict.reason,
        "type": path_type(inside) or "directory",
        "host_path": visible[0].as_dict()["path"] if visible else None,
        "host_paths": [path.as_dict() for path in paths],
    }


def is_same_file(one: str, other: str) -> bool:
    """Whether two paths lead to the same inode; False if one of them leads nowhere."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def is_device_of(device: str, path: str) -> bool:
    """Whether the file system at `path` is that of this block device; False if one of them leads nowhere."""
    try:
        return os.stat(device).st_rdev == os.stat(path).st_dev
    except OSError:
        return False
