# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's own record of which image sets of a workload have lived, so that none comes to life twice by mistake.

Each dump that ends a workload begins a generation, a number that is greater than all before. A generation is spent when
its image set has come to life, or when the workload has lived on without it: revived then, the image set would be a
second copy, or one that has forgotten what was written since. 0 is an image set of something that does not count.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import locked, read_json, sync_folder, write_json

RECORD = Path("/var/lib/fleet.criu/generations.json")


class Generations:
    """The record in a JSON file: for each workload by name, the highest generation known and the highest one spent.

    Whatever changes it is durable before it returns. Raises CriuError if the record is damaged (it is never taken for
    an empty one) or cannot be written.
    """

    def __init__(self, path: Path = RECORD) -> None:
        self._path = path

    def current(self, name: str) -> int:
        """The highest generation known of this workload, 0 if none is."""
        return self._entry(name).generation

    def spent(self, name: str) -> int:
        """The highest generation that is spent, 0 if none is. All before it are spent too."""
        return self._entry(name).spent

    def is_spent(self, name: str, generation: int) -> bool:
        """Whether an image set of this generation may not be revived, except as a copy. Never true of generation 0."""
        return 0 < generation <= self.spent(name)

    def begin(self, name: str, at_least: int = 0) -> int:
        """A new generation, greater than any known here and than `at_least`, which is what other hosts know."""
        _before, after = self._change(
            name, lambda entry: replace(entry, generation=max(entry.generation, at_least) + 1)
        )
        return after.generation

    def learn(self, name: str, generation: int) -> None:
        """Note that this generation exists somewhere."""
        self._change(name, lambda entry: replace(entry, generation=max(entry.generation, generation)))

    def spend(self, name: str, generation: int) -> int:
        """Note that this generation, and all before it, have lived. Returns the highest that was spent before.

        Of several who spend the same generation at the same time, only one gets a number below it.
        """
        before, _after = self._change(name, lambda entry: _spent(entry, generation))
        return before.spent

    def give_back(self, name: str, generation: int, before: int) -> None:
        """Undo a `spend` that returned `before`, of an image set that did not come to life after all."""
        self._change(name, lambda entry: replace(entry, spent=before) if entry.spent == generation else entry)

    def _entry(self, name: str) -> _Entry:
        return self._read().get(name, _Entry())

    def _change(self, name: str, change: Callable[[_Entry], _Entry]) -> tuple[_Entry, _Entry]:
        try:
            with locked(self._path.with_suffix(".lock")):
                record = self._read()
                before = record.get(name, _Entry())
                after = change(before)
                if after != before:
                    self._write({**record, name: after})
                return before, after
        except OSError as error:
            raise CriuError(
                f"{self._path}, the record of which image sets have lived, cannot be written: {error}.",
                "Make room there and make it writable. Without it an image set could be brought to life twice.",
                {"record": str(self._path)},
            ) from error

    def _write(self, record: Mapping[str, _Entry]) -> None:
        is_first = not self._path.exists()
        write_json(self._path, {name: asdict(entry) for name, entry in record.items()})
        if is_first:
            # The folder may be new as well.
            sync_folder(self._path.parent.parent)

    def _read(self) -> dict[str, _Entry]:
        try:
            return _parsed(read_json(self._path))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise CriuError(
                f"{self._path}, this host's record of which image sets have lived, cannot be read: {error}.",
                "Bring it back from a backup. If there is none, see with workload_info what other hosts know, remove "
                "the file, and give restore (spent_generation) and dump (at_least_generation) the highest numbers.",
                {"record": str(self._path)},
            ) from error


@dataclass(frozen=True)
class _Entry:
    generation: int = 0
    spent: int = 0


def _spent(entry: _Entry, generation: int) -> _Entry:
    return _Entry(max(entry.generation, generation), max(entry.spent, generation))


def _parsed(record: Any) -> dict[str, _Entry]:
    if not isinstance(record, dict):
        raise ValueError("it is no JSON object")
    return {name: _parsed_entry(name, value) for name, value in record.items()}


def _parsed_entry(name: str, value: Any) -> _Entry:
    if not isinstance(value, dict) or set(value) != {"generation", "spent"}:
        raise ValueError(f"what it says of {name} is no pair of generation and spent")
    # True is an int too.
    if (
        any(isinstance(number, bool) or not isinstance(number, int) for number in value.values())
        or not 0 <= value["spent"] <= value["generation"]
    ):
        raise ValueError(f"what it says of {name} are no numbers that can be")
    return _Entry(**value)
