# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A row of the table of CRIU's error messages (messages.py)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """One cause. `general` ones tell little by themselves: anything else in the same log goes before them.

    `vague` ones tell so little that CRIU's own words in the very same line go before them too.
    """

    code: str
    texts: tuple[str, ...]
    why: str
    remedy: str
    general: bool = False
    vague: bool = False
