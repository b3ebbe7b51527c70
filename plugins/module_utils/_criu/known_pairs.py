# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pairs of kernel and CRIU that are known not to work together, as data: what neither tells before it is too late."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Iterator

DUMP, RESTORE = "dump", "restore"
SOCKETS = "sockets"


@dataclass(frozen=True)
class Pair:
    """From this kernel on, a CRIU before that version fails at `operation`; `needs` says of which workloads, "" of all.

    `what` is a clause, `source` where it is known from.
    """

    code: str
    kernel: tuple[int, ...]
    criu: tuple[int, ...]
    operation: str
    needs: str
    what: str
    source: str

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return f"Install CRIU {_text(self.criu)} or later, or use a kernel before {_text(self.kernel)}."

    def as_dict(self) -> dict[str, Any]:
        """The pair in plain JSON types."""
        return {**asdict(self), "kernel": _text(self.kernel), "criu": _text(self.criu), "remedy": self.remedy}


PAIRS = (
    Pair(
        "sockets_not_dumpable",
        (6, 16),
        (4, 2),
        DUMP,
        SOCKETS,
        "CRIU before 4.2 cannot dump TCP and UDP sockets on Linux 6.16 or later",
        "release notes of CRIU 4.2; seen with 4.1.1 on Linux 6.18",
    ),
    Pair(
        "dump_fails",
        (7, 1),
        (4, 2, 1),
        DUMP,
        "",
        "every dump by CRIU before 4.2.1 fails on Linux 7.1 or later",
        "release notes of CRIU 4.2.1",
    ),
    Pair(
        "mounts_not_restorable",
        (6, 16),
        (4, 1, 1),
        RESTORE,
        "",
        "CRIU before 4.1.1 cannot restore mounts on kernels since the middle of 2025",
        "release notes of CRIU 4.1.1",
    ),
    Pair(
        "vdso_unknown",
        (6, 18),
        (3, 18),
        DUMP,
        "",
        "CRIU before 3.18 does not even start on Linux 6.18 (Unexpected rt vDSO area bounds)",
        "seen with CRIU 3.17.1 of Debian 12",
    ),
)


def known_problems(kernel: str, criu: str) -> Iterator[Pair]:
    """The rows for a kernel (its release) and a CRIU (its version) on one host."""
    for pair in PAIRS:
        if numbers(kernel) >= pair.kernel and numbers(criu) < pair.criu:
            yield pair


def stands_against(kernel: str, criu: str, operation: str) -> Iterator[Pair]:
    """Those of them by which no workload at all can be dumped, or restored, there."""
    return (pair for pair in known_problems(kernel, criu) if pair.operation == operation and not pair.needs)


def numbers(version: str) -> tuple[int, ...]:
    """The first three numbers of a version or a kernel release, to be compared: (6, 12, 0) for `6.12.0-1-amd64`."""
    match = re.match(r"[0-9]+(?:\.[0-9]+){0,2}", version)
    found = [int(part) for part in match.group(0).split(".")] if match else []
    return tuple([*found, 0, 0, 0][:3])


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
