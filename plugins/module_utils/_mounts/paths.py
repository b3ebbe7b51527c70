# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Absolute paths compared and joined at component boundaries; text only, the file system is not asked."""

from __future__ import annotations


def is_below(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or inside it: `/srv/data` is below `/srv`, `/srvdata` is not."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def folders_of(path: str) -> list[str]:
    """Every folder that `path` is below, from `/` to `path` itself: to look them up, instead of comparing with each."""
    found = ["/"] if path.startswith("/") else []
    end = path.find("/", 1)
    while end != -1:
        found.append(path[:end])
        end = path.find("/", end + 1)
    if path != "/":
        found.append(path)
    return found


def relative(path: str, folder: str) -> str:
    """What comes after `folder` in a `path` below it, with no leading slash; empty if they are equal."""
    return path[len(folder.rstrip("/")) :].lstrip("/")


def join(folder: str, rest: str) -> str:
    """`rest` (relative, may be empty) put below `folder`."""
    return folder.rstrip("/") + "/" + rest if rest else folder


def problem(path: str) -> str | None:
    """Why CRIU would not find a mount by this path, or None: it compares exact text (criu(8), `--external`)."""
    if not path.startswith("/"):
        return "it does not begin with '/'"
    if "\n" in path:
        return "it contains a newline, which CRIU's --external cannot carry"
    if path != "/" and path.endswith("/"):
        return "it ends with '/'"
    if "//" in path or any(part in (".", "..") for part in path.split("/")):
        return "it contains '//', '.' or '..'"
    return None
