# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A few of the inputs that `make fuzz` tries many of, the same each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.tests.unit import foreign_readers as subject


@pytest.mark.parametrize("reader", subject.READERS, ids=lambda reader: reader.name)
def test_what_somebody_else_has_written_is_read_or_refused_in_our_words(reader: subject.Reader, tmp_path: Path) -> None:
    read, refused = subject.try_inputs(reader, range(150), tmp_path)
    assert read + refused == 150


@pytest.mark.parametrize("error", [KeyError, RecursionError, MemoryError, OSError])
def test_an_input_that_ends_otherwise_is_a_fault(tmp_path: Path, error: type[Exception]) -> None:
    good = subject.READERS[1]
    calls: list[Path] = []

    def read(folder: Path) -> None:
        calls.append(folder)
        if len(calls) == 3:
            raise CriuError("This is refused.")
        if len(calls) == 4:
            raise error

    with pytest.raises(subject.Fault, match=rf"x, input 2 .*{error.__name__}"):
        subject.try_inputs(subject.Reader("x", good.begin, read, good.change), range(9), tmp_path)
