# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter columns: rows of a table as lines of text that line up."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: columns
short_description: Lay out a list of dictionaries as lines of text in columns
version_added: 0.1.0
author:
  - The fleet.criu maintainers (@fleet-criu)
description:
  - Makes a heading and a line for each dictionary, each column as wide as its widest value.
  - A value that is missing or null is shown as V(-).
positional: names
options:
  _input:
    description: The rows.
    type: list
    elements: dict
    required: true
  names:
    description: The keys to show, in this order; they are the headings too.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show where each mount goes
  ansible.builtin.debug:
    msg: "{{ map.entries | fleet.criu.columns(['mountpoint', 'host_path', 'path']) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""


def columns(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """The heading and a line for each row. Raises AnsibleFilterError if the rows are no list of dictionaries."""
    try:
        cells = [list(names), *([_text(row.get(name)) for name in names] for row in rows)]
    except (AttributeError, TypeError) as error:
        raise AnsibleFilterError(f"columns needs a list of dictionaries: {error}") from error
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]


def _text(value: Any) -> str:
    text = "-" if value is None or value == "" else str(value)
    # A tab or a newline in a path must not break the layout.
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"columns": columns}
