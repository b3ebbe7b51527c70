# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is: kernel, processor, security module, cgroups, memory, CRIU, programs. The same on both hosts."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any, Iterable

from ansible_collections.fleet.criu.plugins.module_utils._criu.feature import Criu, has_feature, inspect
from ansible_collections.fleet.criu.plugins.module_utils._criu.folder import free_bytes
from ansible_collections.fleet.criu.plugins.module_utils._criu.memory_folder import is_in_memory
from ansible_collections.fleet.criu.plugins.module_utils._mounts.sources import file_system
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import parse
from ansible_collections.fleet.criu.plugins.module_utils._own_folders import folder_problems
from ansible_collections.fleet.criu.plugins.module_utils._preflight.programs import installed
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Runner
from ansible_collections.fleet.criu.plugins.module_utils._trusted import Untrusted, require_trusted

SYS = Path("/sys")

_SEARCH = os.pathsep.join(("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"))
# The names that processors of x86 and of ARM have for the row of features in /proc/cpuinfo.
_FLAG_ROWS = ("flags", "Features")
# The security modules that give processes a label, of which CRIU must restore it (criu(8), --lsm-profile).
_LABELLING = ("apparmor", "selinux")


def host_facts(
    proc: Proc, runner: Runner, criu_path: str | None, images: str | None, sys: Path = SYS
) -> dict[str, Any]:
    """The facts in plain JSON types. Sizes are in bytes; what cannot be found out is null or empty."""
    memory = proc.meminfo()
    return {
        "host": platform.node(),
        "criu": inspect(runner, criu_path, required=False, ask_features=False),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu_flags": cpu_flags(proc),
        "security_module": security_module(sys),
        "cgroups": cgroup_layout(proc),
        "free_bytes": None if images is None else free_bytes(Path(images)),
        "images": images,
        "images_problem": None if images is None else _untrusted(images),
        "images_in_memory": images is not None and _is_in_memory(images, proc),
        "memory_available": memory.get("MemAvailable"),
        "swap_free": memory.get("SwapFree", 0),
        "programs": installed(),
        "folder_problems": folder_problems(),
    }


def ask_features(criu: dict[str, Any], names: Iterable[str], runner: Runner) -> dict[str, bool]:
    """For each of these features whether the CRIU that was found has it here; empty if there is none to ask."""
    if "path" not in criu:
        return {}
    program = Criu(criu["path"], criu["version"], ())
    return {name: has_feature(runner, program, name) for name in names}


def network_locks(criu: dict[str, Any], runner: Runner) -> dict[str, bool]:
    """For `nftables` and `iptables` whether CRIU can lock the network with it here; empty without CRIU.

    For the second CRIU runs the program iptables-restore, and has no feature that could be asked for.
    """
    if "path" not in criu:
        return {}
    return {
        "nftables": ask_features(criu, ["network_lock_nftables"], runner)["network_lock_nftables"],
        "iptables": shutil.which("iptables-restore", path=_SEARCH) is not None,
    }


def cpu_flags(proc: Proc) -> list[str]:
    """What the first processor can do, in alphabetical order."""
    for line in _read(proc.folder / "cpuinfo").splitlines():
        name, _colon, value = line.partition(":")
        if name.strip() in _FLAG_ROWS:
            return sorted(value.split())
    return []


def security_module(sys: Path = SYS) -> str | None:
    """The security module that labels processes, `none`, or None if the kernel does not tell (no securityfs)."""
    modules = _read(sys / "kernel/security/lsm").strip().split(",")
    if modules == [""]:
        return None
    return next((name for name in _LABELLING if name in modules), "none")


def cgroup_layout(proc: Proc) -> str:
    """`v1`, `v2`, `hybrid` (both are mounted) or `none`, by what the host has mounted."""
    types = {row.fstype for row in parse(proc.mountinfo("self"))}
    if "cgroup" in types:
        return "hybrid" if "cgroup2" in types else "v1"
    return "v2" if "cgroup2" in types else "none"


def _untrusted(images: str) -> dict[str, str] | None:
    try:
        require_trusted(Path(images))
    except Untrusted as error:
        return {"message": error.message, "remedy": error.remedy}
    except OSError as error:
        return {"message": f"{images} cannot be reached: {error.strerror}.", "remedy": "Name another path."}
    return None


def _is_in_memory(images: str, proc: Proc) -> bool:
    return is_in_memory(Path(images)) or file_system(images, proc.mountinfo("self")) in ("tmpfs", "ramfs")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
