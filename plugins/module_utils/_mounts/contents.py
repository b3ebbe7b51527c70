# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's own record of which paths hold a workload's contents, so that a copy never replaces what should stay.

That is what belongs to somebody else, and what is newer than what would come: the workload has run with it here and was
never handed over, or it was handed over from here in a later generation (generation.py) than the one that it had at the
source. What is not known is nobody's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import locked, read_json, write_json

RECORD = Path("/var/lib/fleet.criu/contents.json")

# A copy, or the beginning of one; the workload has run with it here; it runs elsewhere with what was here.
COPIED, HERE, HANDED_OVER = "copied", "here", "handed_over"
_STATES = (COPIED, HERE, HANDED_OVER)


@dataclass(frozen=True)
class _Entry:
    """Whose contents a path has, since which generation, and the handoff that may be changing this, if one is."""

    workload: str
    state: str = COPIED
    generation: int = 0
    handoff: str = ""
    next_generation: int = 0
    arrives: bool = False


class Contents:
    """The record in a JSON file. Everything raises CriuError if it cannot be read or written."""

    def __init__(self, path: Path = RECORD) -> None:
        self._path = path

    def claim(self, paths: Iterable[str], workload: str) -> None:
        """Note durably that these paths hold contents of this workload, if nothing better is known."""

        def claimed(record: Mapping[str, _Entry]) -> dict[str, _Entry]:
            new = {path for path in paths if path not in record or record[path].workload != workload}
            return {**record, **{path: _Entry(workload) for path in new}}

        self._change(claimed)

    def begin(self, paths: Iterable[str], workload: str, generation: int, handoff: str, arrives: bool) -> None:
        """Note durably that this handoff gives the contents of these paths the generation, or takes them away."""

        def begun(record: Mapping[str, _Entry]) -> dict[str, _Entry]:
            before = {path: record[path] if _is_of(record, path, workload) else _Entry(workload) for path in paths}
            return {
                **record,
                **{
                    path: replace(entry, handoff=handoff, next_generation=generation, arrives=arrives)
                    for path, entry in before.items()
                },
            }

        self._change(begun)

    def conclude(self, handoff: str, moved: bool) -> None:
        """Note durably what became of this handoff. Harmless if nothing waits for it."""
        self._change(lambda record: {path: _concluded(entry, handoff, moved) for path, entry in record.items()})

    def belongs_to(self, path: str, workload: str) -> bool:
        """Whether what is at the path came from this workload."""
        return _is_of(self._read(), path, workload)

    def generations(self, workload: str) -> dict[str, int]:
        """The generation of the workload's contents by path, as far as they have one."""
        record = self._read()
        return {
            path: entry.generation for path, entry in record.items() if entry.workload == workload and entry.generation
        }

    def problem(self, path: str, workload: str | None, generation: int | None = None, handoff: str = "") -> str | None:
        """Why a copy of the workload may not replace what is at the path: a clause; None if it may.

        `generation` is that of the contents at the source, None if it is not known yet. `handoff` is the one that asks.
        """
        entry = self._read().get(path)
        if entry is None or entry.workload != workload:
            return "has contents that did not come from a move of this workload"
        if entry.handoff not in ("", handoff):
            return f"has contents of which is not known whether the handoff {entry.handoff} has made them newer"
        if entry.state == HERE:
            return (
                f"has what the workload itself has written here since generation {entry.generation}, which was never "
                "handed over"
            )
        if entry.state == HANDED_OVER and generation is not None and generation < entry.generation:
            return (
                f"has contents that were handed over from here in generation {entry.generation}, which is newer than "
                f"what would come (generation {generation})"
            )
        return None

    def _change(self, change: Callable[[Mapping[str, _Entry]], dict[str, _Entry]]) -> None:
        try:
            with locked(self._path.with_suffix(".lock")):
                record = self._read()
                wanted = change(record)
                if wanted != record:
                    write_json(self._path, {path: asdict(entry) for path, entry in wanted.items()})
        except OSError as error:
            raise _unusable(self._path, "written", error) from error

    def _read(self) -> dict[str, _Entry]:
        try:
            record = read_json(self._path)
        except (FileNotFoundError, ValueError, RecursionError):
            return {}
        except OSError as error:
            raise _unusable(self._path, "read", error) from error
        entries = record.items() if isinstance(record, dict) else ()
        return {path: entry for path, value in entries for entry in [_parsed(value)] if entry is not None}


def _concluded(entry: _Entry, handoff: str, moved: bool) -> _Entry:
    if not handoff or entry.handoff != handoff:
        return entry
    settled = _Entry(entry.workload, entry.state, entry.generation)
    if moved:
        return replace(settled, state=HERE if entry.arrives else HANDED_OVER, generation=entry.next_generation)
    # At the source it has run and runs on.
    return settled if entry.arrives else replace(settled, state=HERE)


def _is_of(record: Mapping[str, _Entry], path: str, workload: str) -> bool:
    return path in record and record[path].workload == workload


def _parsed(value: Any) -> _Entry | None:
    if isinstance(value, str):  # as 0.1.0 wrote it
        return _Entry(value)
    if not isinstance(value, dict) or set(value) != {field.name for field in fields(_Entry)}:
        return None
    numbers = (value["generation"], value["next_generation"])
    # True is an int too.
    is_sound = (
        all(isinstance(value[name], str) for name in ("workload", "handoff"))
        and all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers)
        and value["state"] in _STATES
        and isinstance(value["arrives"], bool)
    )
    return _Entry(**value) if is_sound else None


def _unusable(path: Path, what: str, error: OSError) -> CriuError:
    return CriuError(
        f"{path}, this host's record of whose contents its paths have, cannot be {what}: {error}.",
        "Make it a file of root's in a folder with room.",
        {"record": str(path)},
    )
