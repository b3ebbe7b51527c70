# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that a handoff runs besides CRIU, and the packages that bring them."""

from __future__ import annotations

import shutil
from typing import Mapping, Sequence

# By name, the package of Debian.
PACKAGES = {"openssl": "openssl", "rsync": "rsync", "zstd": "zstd", "lz4": "lz4"}


def installed() -> dict[str, bool]:
    """Whether each of these programs is there. It is looked for as the handoff itself does: in PATH."""
    return {name: shutil.which(name) is not None for name in PACKAGES}


def needed(copied: Sequence[str], compression: str) -> Mapping[str, str]:
    """The programs that both hosts need, and what each is to do.

    `copied` are the mountpoints whose contents are copied, `compression` is `none` or the name of a program.
    """
    programs = {"openssl": "make its certificate"}
    if copied:
        programs["rsync"] = f"copy {', '.join(copied)}"
    if compression != "none":
        programs[compression] = "compress the images"
    return programs
