# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which engines there are. A new one is a file of its own, a line here, and its name in names.py."""

from __future__ import annotations

import os
from typing import Mapping

from ansible_collections.fleet.criu.plugins.module_utils._engine.base import Engine
from ansible_collections.fleet.criu.plugins.module_utils._engine.crun import Crun
from ansible_collections.fleet.criu.plugins.module_utils._engine.lxc import Lxc
from ansible_collections.fleet.criu.plugins.module_utils._engine.names import PROCESS, UNSUPPORTED
from ansible_collections.fleet.criu.plugins.module_utils._engine.podman import Podman
from ansible_collections.fleet.criu.plugins.module_utils._engine.runc import Runc
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError, EngineMissing
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Runner

ENGINES: Mapping[str, type[Engine]] = {engine.name: engine for engine in (Runc, Crun, Lxc, Podman)}

# The program `docker` itself may be podman's.
_SIGNS = {"docker": ("/run/docker.sock", "/usr/bin/dockerd")}


def has_unsupported(name: str) -> bool:
    """Whether one of the engines that are not supported is on this host."""
    return any(os.path.exists(path) for path in _SIGNS[name])


def engine_named(name: str, runner: Runner, proc: Proc) -> Engine:
    """The engine with this name on this host.

    Raises CriuError if there is none such or if it is not supported, EngineMissing if it is not installed.
    """
    if name in UNSUPPORTED:
        raise CriuError(UNSUPPORTED[name])
    if name not in ENGINES:
        raise CriuError(f"There is no engine {name}.", f"Use one of {', '.join([PROCESS, *sorted(ENGINES)])}.")
    engine = ENGINES[name](runner, proc)
    if not engine.is_present():
        raise EngineMissing(f"{name} is not installed on this host.", f"Install {name}, or use another host.")
    return engine
