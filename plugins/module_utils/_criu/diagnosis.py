# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From CRIU's error lines to what failed, where, why, and what to do."""

from __future__ import annotations

import re
import signal
from dataclasses import asdict, dataclass
from typing import Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.log_lines import ErrorLine
from ansible_collections.fleet.criu.plugins.module_utils._criu.messages import Match, find, is_cause
from ansible_collections.fleet.criu.plugins.module_utils._criu.places import Places

UNKNOWN = "unknown"
CRASHED = "crashed"
SILENT = "silent"

# "Dump files (pid: 236) failed with -1": which process an error before it was about.
_ABOUT = re.compile(r"\(pid: (?P<pid>[0-9]+)\)")


@dataclass(frozen=True)
class Diagnosis:
    """A cause: its `code`, CRIU's words, and ours for where, why and what to do. `where` and `remedy` may be empty."""

    code: str
    what: str
    where: str
    why: str
    remedy: str

    @property
    def sentence(self) -> str:
        """Where and why, for people."""
        words = f"{self.where}: {self.why}" if self.where else self.why
        return f"{words[0].upper()}{words[1:]}."

    def as_dict(self) -> dict[str, str]:
        """The diagnosis in plain JSON types."""
        return asdict(self)


def diagnose(errors: Sequence[ErrorLine], places: Places, exit_status: int) -> list[Diagnosis]:
    """The causes in the error lines, never none: the first one decides, those that tell little come last."""
    causes = [index for index, error in enumerate(errors) if is_cause(error.text)]
    matches = [(index, find(places.out_of_workshop(errors[index].text))) for index in causes]
    known = [(index, match) for index, match in matches if match is not None]
    known.sort(key=lambda found: found[1].message.general)
    if known:
        return _without_repetitions([_known(match, errors, index, places) for index, match in known])
    if causes:
        return [_unknown(errors[causes[0]])]
    return [_without_words(exit_status)]


def _known(match: Match, errors: Sequence[ErrorLine], index: int, places: Places) -> tuple[Diagnosis, list[str]]:
    parts = _where(match.places, errors, index, places)
    message = match.message
    diagnosis = Diagnosis(message.code, errors[index].text, ", ".join(parts), message.why, message.remedy)
    return diagnosis, parts


def _unknown(error: ErrorLine) -> Diagnosis:
    before = f"; the lines just before it: {' | '.join(error.before)}" if error.before else ""
    where = "" if error.process is None else _process(None, error.process)
    return Diagnosis(UNKNOWN, error.text, where, f"CRIU's message is not among those that we can explain{before}", "")


def _without_words(exit_status: int) -> Diagnosis:
    number = -exit_status if exit_status < 0 else exit_status - 128
    if number <= 0:
        return Diagnosis(SILENT, f"exit status {exit_status}", "", "CRIU gave no reason", "")
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return Diagnosis(
        CRASHED,
        f"ended by {name}",
        "",
        "CRIU itself was killed, or crashed",
        "Look into the kernel's log; if it says nothing of a lack of memory, try another version of CRIU.",
    )


def _without_repetitions(found: Sequence[tuple[Diagnosis, list[str]]]) -> list[Diagnosis]:
    # CRIU tells one failure at several levels, and knows the place better at some.
    kept: list[tuple[Diagnosis, list[str]]] = []
    for diagnosis, parts in found:
        for position, (other, other_parts) in enumerate(kept):
            if other.code == diagnosis.code and set(parts) <= set(other_parts):
                break
            if other.code == diagnosis.code and set(other_parts) < set(parts):
                kept[position] = (Diagnosis(**{**diagnosis.as_dict(), "what": other.what}), parts)
                break
        else:
            kept.append((diagnosis, parts))
    return [diagnosis for diagnosis, _parts in kept]


def _where(found: Mapping[str, str], errors: Sequence[ErrorLine], index: int, places: Places) -> list[str]:
    parts = []
    if "file" in found:
        parts.append(places.file(found["file"]))
    if "mount" in found or "mountpoint" in found:
        mount = int(found["mount"]) if "mount" in found else None
        parts.append(places.mount(mount, found.get("mountpoint")))
    if "host_path" in found:
        parts.append(places.host_path(found["host_path"]))
    if "root" in found:
        parts.append(f"root {found['root']}")
    if "thing" in found:
        parts.append(found["thing"])
    process = _of_process(found, errors, index)
    if "descriptor" in found:
        parts.append(f"descriptor {found['descriptor']}" + (f" of {process}" if process else ""))
    elif process and not ({"mount", "mountpoint", "host_path"} & set(found)):
        parts.append(process)
    return parts


def _of_process(found: Mapping[str, str], errors: Sequence[ErrorLine], index: int) -> str:
    pid = found.get("pid") or _told_later(errors[index + 1 :])
    inner = found.get("inner_pid") or errors[index].process
    return "" if pid is None and inner is None else _process(pid, inner)


def _told_later(errors: Sequence[ErrorLine]) -> str | None:
    # Another cause in between may belong to another process.
    for error in errors:
        match = _ABOUT.search(error.text)
        if match is not None:
            return match.group("pid")
        if is_cause(error.text) and find(error.text) is not None:
            return None
    return None


def _process(pid: str | int | None, inner_pid: str | int | None) -> str:
    if pid is None:
        return f"process {inner_pid} of the workload"
    return f"process {pid}" + ("" if inner_pid is None else f" ({inner_pid} in the workload)")
