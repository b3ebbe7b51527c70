# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error family of the collection."""

from __future__ import annotations

from typing import Any, Mapping


class CriuError(Exception):
    """Something that stops us, said so that a person can act on it.

    `message` says what happened, `remedy` what to do about it, `facts` holds what a playbook may want to read
    (plain JSON types only). `_module.run_module` turns it into `fail_json`.
    """

    def __init__(self, message: str, remedy: str = "", facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.facts: dict[str, Any] = dict(facts or {})

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class MalformedMountinfo(CriuError):
    """A line that is no mountinfo line as proc(5) describes it."""


class BadRule(CriuError):
    """A mount rule that cannot be understood, whatever the mounts are."""


class WorkloadNotFound(CriuError):
    """No running process is what the user described."""


class EngineMissing(WorkloadNotFound):
    """The engine that was named is not installed here, so it has no workload here either."""


class AmbiguousWorkload(CriuError):
    """More than one process fits, or one of which it is unsure whether it is the right one."""


class SharedMountNamespace(CriuError):
    """The workload has no mount namespace of its own, so CRIU would ignore every mapping."""


class CriuMissing(CriuError):
    """CRIU is absent, too old, or cannot work here."""


class BadImageSet(CriuError):
    """An image set that is incomplete, altered or of a format we do not know."""


class CommandFailed(CriuError):
    """A command that we ran ended with a failure."""
