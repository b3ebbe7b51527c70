# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which CRIU is here, and what it can do on this kernel."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from typing import Any, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import check_command, version_command
from ansible_collections.fleet.criu.plugins.module_utils._criu.log_lines import error_lines
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuMissing
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Runner

# The first version that can map mounts by key (--ext-mount-map).
MINIMUM_VERSION = (1, 3)
# The first version that takes `--external mnt[MOUNTPOINT]:KEY` instead.
EXTERNAL_VERSION = (2, 8)
# The first version that takes `--network-lock skip`.
SKIP_LOCK_VERSION = (3, 19)
# Since then CRIU runs the scripts of its configuration files for an engine too.
ENGINE_VERSION = (3, 19)

# Feature names of `criu check --feature`, and what cannot be done without each.
FEATURES = {
    "aio_remap": "workloads with asynchronous I/O (AIO) rings",
    "apparmor_stacking": "workloads with stacked AppArmor profiles",
    "autofs": "workloads with autofs mounts",
    "can_map_vdso": "restoring without a helper process for the vDSO",
    "cgroupns": "workloads with a cgroup namespace",
    "clone3_set_tid": "restoring pids without racing for them",
    "compat_cr": "32-bit workloads",
    "external_net_ns": "keeping a network namespace outside the images",
    "fdinfo_lock": "workloads with file locks",
    "get_rseq_conf": "workloads that use restartable sequences (any recent C library)",
    "ipv6_freebind": "sockets with the IPv6 option FREEBIND",
    "kcmp_epoll": "workloads whose epoll descriptors were duplicated",
    "link_nsid": "network devices that cross network namespaces",
    "loginuid": "keeping login user IDs",
    "mem_dirty_track": "pre-copy (pre-dump with memory tracking)",
    "memfd_hugetlb": "workloads with huge-page memory files",
    "mnt_id": "telling on which mount an open file is",
    "move_mount_set_group": "restoring shared and slave mounts (mount-v2)",
    "net_diag_raw": "workloads with raw sockets",
    "network_lock_nftables": "locking the network with nftables",
    "newifindex": "keeping the index of network devices",
    "nftables": "keeping nftables rules of a network namespace",
    "ns_pid": "workloads with nested pid namespaces",
    "nsid": "workloads with several network namespaces",
    "openat2": "opening files without following symlinks",
    "overlayfs_maps": "mapped files on overlayfs",
    "pagemap_scan": "fast scanning for memory pages",
    "pidfd_store": "telling a reused pid in pre-dumps",
    "seccomp_filters": "workloads with seccomp filters",
    "seccomp_suspend": "dumping workloads with seccomp filters",
    "sk_ns": "sockets of several network namespaces",
    "sk_unix_file": "Unix sockets bound on mounts that are covered",
    "sockopt_buf_lock": "sockets with locked buffer sizes",
    "tcp_half_closed": "half-closed TCP connections",
    "timens": "workloads with a time namespace",
    "timerfd": "workloads with timer descriptors",
    "tun": "TUN and TAP devices",
    "tun_ns": "TUN and TAP devices of several network namespaces",
    "uffd": "lazy migration (post-copy)",
    "uffd-noncoop": "lazy migration of workloads with several processes",
    "userns": "workloads with a user namespace",
}

_VERSION = re.compile(r"^Version:\s*(\S+)", re.MULTILINE)
_NUMBERS = re.compile(r"[0-9]+")
_SEARCH = os.pathsep.join(("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"))


@dataclass(frozen=True)
class Criu:
    """A CRIU that is there: its path and its version, as text and as numbers."""

    path: str
    version: str
    number: tuple[int, ...]

    @property
    def is_legacy(self) -> bool:
        """Whether it knows `--ext-mount-map` alone."""
        return self.number < EXTERNAL_VERSION


def find_criu(runner: Runner, path: str | None = None) -> Criu:
    """The CRIU at `path`, or else the one that PATH or the usual folders hold.

    Raises CriuMissing if there is none, if it does not run, or if it is older than MINIMUM_VERSION.
    """
    found = shutil.which(path or "criu") or (shutil.which("criu", path=_SEARCH) if path is None else None)
    if found is None:
        raise CriuMissing(
            f"CRIU is not installed here ({path or 'criu'} was not found).",
            "Install the package criu (Debian 13 has 4.1.1), or name its path with criu_path.",
        )
    completed = runner(Command(version_command(found)))
    match = _VERSION.search(completed.stdout)
    if match is None:
        raise CriuMissing(
            f"{found} --version did not tell a version (exit status {completed.returncode}): "
            f"{(completed.stderr or completed.stdout).strip()[:500]}",
            "Install a CRIU that runs on this kernel.",
        )
    version = match.group(1)
    number = tuple(int(part) for part in _NUMBERS.findall(version)[:3])
    if number < MINIMUM_VERSION:
        needed = ".".join(str(part) for part in MINIMUM_VERSION)
        raise CriuMissing(
            f"{found} is CRIU {version}, which is too old: mounts can be mapped by key from {needed} on.",
            f"Install CRIU {needed} or later; 4.1.1 or later on recent kernels.",
            {"version": version},
        )
    return Criu(found, version, number)


def require_root() -> None:
    """Raises CriuMissing unless we are root: CRIU needs nearly every capability."""
    if os.geteuid() != 0:
        raise CriuMissing("This needs root, but the task runs as another user.", "Set become: true.")


def has_feature(runner: Runner, criu: Criu, feature: str) -> bool:
    """Whether `criu check --feature` finds it."""
    return runner(Command(check_command(criu.path, feature))).returncode == 0


def check(runner: Runner, criu: Criu) -> Sequence[str]:
    """The complaints of `criu check`; none if it says that all looks good."""
    completed = runner(Command(check_command(criu.path)))
    text = completed.stdout + completed.stderr
    if completed.returncode == 0:
        return []
    return error_lines(text) or [text.strip()[-500:] or f"criu check ended with exit status {completed.returncode}"]


def inspect(runner: Runner, path: str | None, required: bool, ask_features: bool = True) -> dict[str, Any]:
    """All that is to be known of the CRIU here, in plain JSON types; see the return values of the module criu_info.

    Raises CriuMissing if `required` and there is none that works.
    """
    try:
        require_root()
        criu = find_criu(runner, path)
    except CriuMissing as error:
        if required:
            raise
        return {"usable": False, "problems": [str(error)]}
    problems = check(runner, criu)
    if required and problems:
        raise CriuMissing(
            f"criu check finds that CRIU {criu.version} cannot work here: {' | '.join(problems[:5])}",
            "Use a CRIU that is made for this kernel, and a host that has all capabilities.",
            {"version": criu.version},
        )
    result: dict[str, Any] = {
        "usable": not problems,
        "path": criu.path,
        "version": criu.version,
        "problems": list(problems),
    }
    if ask_features:
        features = {name: has_feature(runner, criu, name) for name in FEATURES}
        missing = [{"feature": name, "rules_out": FEATURES[name]} for name, there in features.items() if not there]
        result.update(features=features, missing=missing)
    return result
