# SPDX-License-Identifier: GPL-3.0-or-later
"""A clean copy of the checkout under the folder names that Python and ansible-test expect."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def stage(checkout: Path, copy: Path) -> None:
    """Make ``copy`` hold what git would commit from ``checkout``, as a git repository of its own.

    Files that git ignores in the copy (caches, test output) stay.
    """
    if not (copy / ".git").is_dir():
        copy.mkdir(parents=True, exist_ok=True)
        subprocess.check_call(["git", "init", "--quiet", str(copy)])
    wanted = committable(checkout)
    for name in committable(copy) - wanted:
        remove(copy / name)
    for name in sorted(wanted):
        copy_file(checkout / name, copy / name)
    subprocess.check_call(["git", "-C", str(copy), "add", "--all"])


def committable(repository: Path) -> set[str]:
    """Names of the files in the work tree that git tracks or would track."""
    command = ["git", "-C", str(repository), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.check_output(command, text=True).split("\0")
    return {name for name in names if name and is_file_or_link(repository / name)}


def remove(path: Path) -> None:
    """Remove a file and the folders that it leaves empty."""
    path.unlink()
    for folder in path.parents:
        if any(folder.iterdir()):
            return
        folder.rmdir()


def copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_file_or_link(target):
        target.unlink()
    shutil.copy2(source, target, follow_symlinks=False)


def is_file_or_link(path: Path) -> bool:
    return path.is_symlink() or path.is_file()
