# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one check found, in the manner of vzmigrate: passed, failed, a warning, or not done at all."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Sequence

PASSED = "passed"
FAILED = "failed"
WARNING = "warning"
SKIPPED = "skipped"

# More than these would bury the rest of the table.
_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """The result of the check `name`. `code` says for a playbook what `reason` says for a person, in sentences with the
    figures; `remedy` is what to do about it. If there are several, each has a line of its own in both.
    """

    result: str
    code: str
    reason: str
    remedy: str = ""
    name: str = ""

    def named(self, name: str) -> Finding:
        """The same, as the result of the check of this name."""
        return replace(self, name=name)

    def as_dict(self) -> dict[str, str]:
        """The finding in plain JSON types."""
        return asdict(self)


def passed(reason: str) -> Finding:
    """It was looked at and is as it must be."""
    return Finding(PASSED, "ok", reason)


def failed(code: str, reason: str, remedy: str) -> Finding:
    """The move would fail, or go wrong silently."""
    return Finding(FAILED, code, reason, remedy)


def warning(code: str, reason: str, remedy: str) -> Finding:
    """The move may go wrong; a person should know."""
    return Finding(WARNING, code, reason, remedy)


def not_applicable(reason: str) -> Finding:
    """There is nothing to look at for this workload, or the means to do so were not given."""
    return Finding(SKIPPED, "not_applicable", reason)


def listed(texts: Sequence[str], shown: int = _SHOWN) -> str:
    """The first few of them as one text, and how many more there are."""
    more = f"; and {len(texts) - shown} more" if len(texts) > shown else ""
    return "; ".join(texts[:shown]) + more
