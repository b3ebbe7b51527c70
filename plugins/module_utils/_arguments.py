# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argument specs that several modules share. The documentation of each is in the fragment of the same name."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._engine.names import NAMES

WORKLOAD_CHOICES = ("pid", "pid_file", "unit", "command", "container")
WORKLOAD_TOGETHER = ("container", "engine")


def workload() -> dict[str, Any]:
    """Which workload is meant: the fragment `workload`."""
    return {
        "pid": {"type": "int"},
        "pid_file": {"type": "path"},
        "unit": {"type": "str"},
        "command": {"type": "list", "elements": "str"},
        **engine(),
    }


def engine() -> dict[str, Any]:
    """A container: the fragment `engine`. Both or none are given, see WORKLOAD_TOGETHER."""
    return {"engine": {"type": "str", "choices": NAMES}, "container": {"type": "str"}}


def criu() -> dict[str, Any]:
    """What dump and restore share: the fragment `criu`."""
    return {
        "images": {"type": "path", "required": True},
        "criu_path": {"type": "path"},
        "tcp_established": {"type": "bool"},
        "tcp_close": {"type": "bool"},
        "shell_job": {"type": "bool"},
        "file_locks": {"type": "bool"},
        "ext_unix_sk": {"type": "bool"},
        "manage_cgroups": {"type": "str", "choices": ["none", "props", "soft", "full", "strict", "ignore"]},
        "extra_args": {"type": "list", "elements": "str"},
    }


def dump_map() -> dict[str, Any]:
    """The keys for a dump."""
    return {
        "type": "list",
        "elements": "dict",
        "options": {
            "mountpoint": {"type": "str", "required": True},
            "key": {"type": "str", "required": True, "no_log": False},
            "device": {"type": "str"},
        },
    }


def external() -> dict[str, Any]:
    """How external mounts are told to CRIU, at dump."""
    return {
        "external": {"type": "str", "choices": ["explicit", "auto"], "default": "explicit"},
        "external_shared": {"type": "bool", "default": False},
        "external_masters": {"type": "bool", "default": False},
        "skip_mnt": {"type": "list", "elements": "str", "default": []},
        "enable_fs": {"type": "list", "elements": "str", "default": []},
    }


def restore_map() -> dict[str, Any]:
    """The paths for a restore."""
    return {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "key": {"type": "str", "required": True, "no_log": False},
            "path": {"type": "str", "required": True},
            "device": {"type": "bool", "default": False},
        },
    }


def handoff() -> dict[str, Any]:
    """What both ends of a handoff are told."""
    return {
        "handoff": {"type": "str", "required": True},
        "workload": {"type": "str", "required": True},
        "source": {"type": "str", "required": True},
        "target": {"type": "str", "required": True},
        "transport": {"type": "str", "choices": ["direct", "shared"], "default": "direct"},
        "options": {"type": "dict", "default": {}},
        "hooks": {"type": "dict", "default": {}},
        "hook_environment": {"type": "dict", "default": {}, "no_log": True},
        "pid_file": {"type": "path"},
        "criu_path": {"type": "path"},
        **engine(),
    }


def code() -> dict[str, Any]:
    """Which code an agent has: the fragment `code`. It is a name, no secret."""
    return {"code": {"type": "str", "default": "", "no_log": False}}


def engine_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The engine of a handoff's workload, as a request has it."""
    if parameters["engine"] is None:
        return {}
    return {"name": parameters["engine"], "container": parameters["container"]}
