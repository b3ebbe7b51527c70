# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From CRIU's error lines to what failed, where, why, and what to do."""

from __future__ import annotations

import re
import signal
from dataclasses import asdict, dataclass, replace
from typing import AbstractSet, Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.log_lines import ErrorLine, says_nothing
from ansible_collections.fleet.criu.plugins.module_utils._criu.messages import (
    Match,
    find,
    find_own_words,
    is_cause,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.places import Places

LAST_LINES = 3
# A workload may make CRIU write any number of lines; the cause is in the first or the last of them.
MOST_ERRORS = 400
# CRIU tells the process soon after the cause, on its way out of the functions that it was in.
_LINES_AFTER = 20

UNKNOWN = "unknown"
OWN_WORDS = "own_words"
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
    """The causes in the error lines, never none: the first one decides, those that tell little come last.

    What the table explains goes first; else CRIU's words that speak for themselves; else the first line that is not in
    the table, with the last lines; and a general row, which knows no more than an error of the kernel, after those.
    """
    if len(errors) > MOST_ERRORS:
        errors = [*errors[: MOST_ERRORS // 2], *errors[-MOST_ERRORS // 2 :]]
    causes = [index for index, error in enumerate(errors) if is_cause(error.text)]
    matches = [(index, find(places.out_of_workshop(errors[index].text))) for index in causes]
    matched = [(index, match) for index, match in matches if match is not None]
    general = [(index, match) for index, match in matched if match.message.general]
    found = [_known(match, errors, index, places) for index, match in matched if not match.message.general]
    if not found:
        # An error of the kernel that leaves no doubt, such as too little space, says more than the words before it.
        clear = {index for index, match in general if not match.message.vague}
        found = _in_own_words([index for index in causes if index not in clear], errors, places)
    untold = [index for index, match in matches if match is None and errors[index].is_error]
    if general and untold and not found:
        found = [(_unknown(errors, untold[0], general[0][1].message.remedy), [])]
    told = {diagnosis.code for diagnosis, _parts in found}
    found += [
        _in_general(match, errors, index, places)
        for index, match in general
        if not _follows(match.message.code, told)
        and not (match.message.vague and find_own_words(errors[index].text) is not None)
    ]
    if found:
        return _without_repetitions(found)
    killed = _signal_of(exit_status)
    if causes and (errors[causes[0]].is_error or killed is None):
        # Without any error line the last one tells most.
        return [_unknown(errors, causes[0] if errors[causes[0]].is_error else causes[-1])]
    telling = [error for error in errors if not says_nothing(error.text)]
    if telling and killed is None:
        return [_only_consequences(telling)]
    return [_without_words(exit_status, errors)]


def _follows(code: str, told: AbstractSet[str]) -> bool:
    # To wait longer for a process that cannot be stopped helps nobody. What CRIU has restored it kills on its way out.
    return (code == "timeout" and "process_not_stopped" in told) or (
        code == "process_killed" and bool(told - {UNKNOWN})
    )


def _known(match: Match, errors: Sequence[ErrorLine], index: int, places: Places) -> tuple[Diagnosis, list[str]]:
    parts = _where(match.places, errors, index, places)
    message = match.message
    diagnosis = Diagnosis(message.code, errors[index].text, ", ".join(parts), message.why, message.remedy)
    return diagnosis, parts


def _in_general(match: Match, errors: Sequence[ErrorLine], index: int, places: Places) -> tuple[Diagnosis, list[str]]:
    # Such a row fits many lines: what CRIU was about is in its words alone.
    diagnosis, parts = _known(match, errors, index, places)
    return replace(diagnosis, why=f"{diagnosis.why} (CRIU's words: {diagnosis.what})"), parts


def _in_own_words(
    causes: Sequence[int], errors: Sequence[ErrorLine], places: Places
) -> list[tuple[Diagnosis, list[str]]]:
    diagnoses = []
    for index in causes:
        text = errors[index].text
        found = find_own_words(places.out_of_workshop(text))
        if found is not None:
            parts = _where(found, errors, index, places)
            diagnoses.append((Diagnosis(OWN_WORDS, text, ", ".join(parts), text, ""), [*parts, text]))
    return diagnoses


def _unknown(errors: Sequence[ErrorLine], index: int, remedy: str = "") -> Diagnosis:
    error = errors[index]
    why = f"CRIU's message is not among those that we can explain: {error.text}"
    last = [text for text in _last(errors) if text != error.text]
    why += f"; its last lines: {' | '.join(last)}" if last else ""
    why += f"; the lines just before it: {' | '.join(error.before)}" if error.before else ""
    return Diagnosis(UNKNOWN, error.text, _of_process({}, errors, index), why, remedy)


def _only_consequences(errors: Sequence[ErrorLine]) -> Diagnosis:
    # Each error line is one that follows from another or comes in good runs too, so the lines around tell the most.
    last = list(dict.fromkeys([*errors[-1].before, errors[-1].text]))
    return Diagnosis(UNKNOWN, errors[-1].text, "", f"CRIU gave no reason; its last lines: {' | '.join(last)}", "")


def _last(errors: Sequence[ErrorLine]) -> list[str]:
    return list(dict.fromkeys(error.text for error in errors))[-LAST_LINES:]


def _signal_of(exit_status: int) -> int | None:
    number = -exit_status if exit_status < 0 else exit_status - 128
    return number if number > 0 else None


def _without_words(exit_status: int, errors: Sequence[ErrorLine]) -> Diagnosis:
    number = _signal_of(exit_status)
    if number is None:
        return Diagnosis(SILENT, f"exit status {exit_status}", "", "CRIU gave no reason", "")
    last = _last(errors)
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return Diagnosis(
        CRASHED,
        f"ended by {name}",
        "",
        "CRIU itself was killed, or crashed" + (f"; its last lines: {' | '.join(last)}" if last else ""),
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
    if "image" in found:
        parts.append(f"image {found['image']}")
    if "root" in found:
        parts.append(f"root {found['root']}")
    if "thing" in found:
        parts.append(found["thing"])
    process = _of_process(found, errors, index)
    if int(found.get("descriptor", 0)) < 0:
        parts.append("mapped or held without a descriptor" + (f" by {process}" if process else ""))
    elif "descriptor" in found:
        parts.append(f"descriptor {found['descriptor']}" + (f" of {process}" if process else ""))
    elif process and not ({"mount", "mountpoint", "host_path", "image"} & set(found)):
        parts.append(process)
    return parts


def _of_process(found: Mapping[str, str], errors: Sequence[ErrorLine], index: int) -> str:
    pid = found.get("pid") or _told_later(errors[index + 1 : index + 1 + _LINES_AFTER])
    inner = found.get("inner_pid") or errors[index].process
    return "" if pid is None and inner is None else _process(pid, inner)


def _told_later(errors: Sequence[ErrorLine]) -> str | None:
    # Another cause in between may belong to another process.
    for error in errors:
        match = _ABOUT.search(error.text)
        if match is not None:
            return match.group("pid")
        other = find(error.text) if is_cause(error.text) else None
        if other is not None and not other.message.general:
            return None
    return None


def _process(pid: str | int | None, inner_pid: str | int | None) -> str:
    if pid is None:
        return f"process {inner_pid} of the workload"
    return f"process {pid}" + ("" if inner_pid is None else f" ({inner_pid} in the workload)")
