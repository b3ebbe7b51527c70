# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to come by a folder that we trust, and by what lies in the folders of others.

A path is walked from the root folder, component by component, each opened in the one before without following a
symlink (openat(2), O_NOFOLLOW). A folder is *trusted* if all of them belong to root and nobody else may write any of
them. Then nobody but root can make the path lead elsewhere afterwards, and it may be used by its name. That a folder
is sticky does not help: who comes first may make in it what we look for. An access control list shows in the mode,
whose bits for the group are its mask (acl(5)). A symlink of root in a trusted folder is as good as what it leads to.

The paths of a workload may lead through folders of its user. They are opened once, and the descriptor is used from then
on. From the first component on that others can alter, no symlink is followed.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError

# Where the walk begins, which is taken as given. The unit tests' own folder lies in one that all users may write.
TOP = "/"

PRIVATE = 0o700

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS = 40
_ACCESS_LIST = "system.posix_acl_access"
_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Untrusted(CriuError):
    """Others than root can make a path lead elsewhere.

    Among the facts are `path`, the `component` that they can alter, its `owner` and `mode`.
    """


@dataclass(frozen=True)
class _Step:
    """A component that was opened: where it is, without symlinks, and whether root alone can alter the way to it."""

    descriptor: int
    place: str
    is_ours: bool


def make_folder(path: Path) -> Path:
    """Make a folder for root alone (0700), or close the one that is there to others; missing parents are made too.

    Gives its path without symlinks, which is root's alone to alter from then on. Raises Untrusted, also if others could
    have put there what is in it, and OSError.
    """
    with _walked(path, makes=True, needs_trust=True, closes=True) as step:
        return Path(step.place)


def require_trusted(path: Path) -> None:
    """Raises Untrusted if others could alter the path, as far as it exists, and OSError. Changes nothing."""
    with contextlib.suppress(FileNotFoundError), _walked(path, needs_trust=True):
        pass


def open_place(path: str, makes: bool = False) -> int:
    """A descriptor (O_PATH) of whatever is at the path, which may lead through folders of others.

    With `makes`, folders that are missing are made (0700). Raises Untrusted for a symlink that others could have made,
    and OSError.
    """
    with _walked(Path(path), makes=makes) as step:
        return os.dup(step.descriptor)


def open_with_place(path: str) -> tuple[int, str]:
    """The same, for what is there, and its path without symlinks."""
    with _walked(Path(path)) as step:
        return os.dup(step.descriptor), step.place


def open_with_others(path: str) -> tuple[int, list[tuple[str, os.stat_result]]]:
    """The same, and each component on the way that others than root may alter, the last one included."""
    found: list[tuple[str, os.stat_result]] = []

    def look(place: str, status: os.stat_result) -> None:
        if not _is_ours(status):
            found.append((place, status))

    with _walked(Path(path), look=look) as step:
        return os.dup(step.descriptor), found


@contextlib.contextmanager
def opened_parent(path: Path) -> Iterator[int]:
    """A descriptor of the folder that a file is in or is to be put into, come by as `open_place` does."""
    descriptor = open_place(str(path.parent))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_in(parent: int, name: str) -> int:
    """Make a folder (0700) in one that may be somebody else's, and give its descriptor. Raises OSError."""
    os.mkdir(name, PRIVATE, dir_fd=parent)
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    status = os.fstat(descriptor)
    # Whose the parent is may have put another one there since.
    if status.st_uid != os.geteuid() or status.st_mode & 0o777 != PRIVATE or os.listdir(descriptor):
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "somebody has put another one there", name)
    return descriptor


def remove_file(path: Path) -> None:
    """Remove a file whose folder may be somebody else's; harmless if it is not there. Raises Untrusted and OSError."""
    with contextlib.suppress(FileNotFoundError), opened_parent(path) as folder:
        os.unlink(path.name, dir_fd=folder)


def who_may_alter(path: str) -> str | None:
    """The first component above the path that others than root may alter, with its owner and mode; None if none is.

    What is not there counts as not alterable.
    """
    found: list[str] = []

    def look(place: str, status: os.stat_result) -> None:
        if not _is_ours(status):
            found.append(f"{place}, which {_described(status)}")

    try:
        with _walked(Path(path).parent, look=look):
            pass
    except Untrusted as error:
        return found[0] if found else str(error.facts.get("component", path))
    except OSError:
        pass
    return found[0] if found else None


@contextlib.contextmanager
def _walked(
    path: Path,
    makes: bool = False,
    needs_trust: bool = False,
    closes: bool = False,
    look: Callable[[str, os.stat_result], None] = lambda place, status: None,
) -> Iterator[_Step]:
    step = _beginning(os.path.abspath(path))
    names = _names(os.path.relpath(os.path.abspath(path), step.place))
    links = 0
    try:
        step = _judged(step, path, needs_trust, look)
        while names:
            name = names.pop()
            child = _child(step.descriptor, name, makes)
            status = os.fstat(child)
            if stat.S_ISLNK(status.st_mode):
                place, to = os.path.join(step.place, name), os.readlink("", dir_fd=child)
                os.close(child)
                links += 1
                if not step.is_ours or not _is_own(status):
                    raise _untrusted(path, place, status, f"is a symlink that {_belongs(status)}", _link_remedy(to))
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
                following = _beginning(to) if os.path.isabs(to) else step
                names += _names(os.path.relpath(to, following.place) if os.path.isabs(to) else to)
            else:
                following = _Step(child, os.path.normpath(os.path.join(step.place, name)), step.is_ours)
            if following is not step:
                os.close(step.descriptor)
                step = following
                if closes and not names:
                    _close_to_others(step, path)
                step = _judged(step, path, needs_trust, look)
        yield step
    finally:
        os.close(step.descriptor)


def _beginning(path: str) -> _Step:
    top = TOP if (path + "/").startswith(TOP.rstrip("/") + "/") else "/"
    return _Step(os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), top, True)


def _names(path: str) -> list[str]:
    # The next one last.
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _child(folder: int, name: str, makes: bool) -> int:
    while True:
        try:
            return os.open(name, _STEP, dir_fd=folder)
        except FileNotFoundError:
            if not makes:
                raise
            # Somebody else may make it, and remove it, at the same time.
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, PRIVATE, dir_fd=folder)


def _judged(step: _Step, path: Path, needs_trust: bool, look: Callable[[str, os.stat_result], None]) -> _Step:
    status = os.fstat(step.descriptor)
    if step.place == TOP != "/":
        return step
    look(step.place, status)
    if _is_ours(status):
        return step
    if needs_trust:
        raise _untrusted(path, step.place, status, _described(status), _remedy(step.place, status))
    return _Step(step.descriptor, step.place, False)


def _close_to_others(step: _Step, path: Path) -> None:
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=step.descriptor)
    try:
        before = os.fstat(folder)
        if not _is_own(before) or stat.S_IMODE(before.st_mode) == PRIVATE:
            return
        os.fchmod(folder, PRIVATE)
        if not _is_ours(before) and os.listdir(folder):
            what = f"is not empty, and before it was closed it {_described(before)}"
            raise _untrusted(path, step.place, before, what, f"See who has put it there, and empty {step.place}.")
    finally:
        os.close(folder)


def _is_own(status: os.stat_result) -> bool:
    # As whom we run, who in the tests may be somebody else than root.
    return status.st_uid in (0, os.geteuid())


def _is_ours(status: os.stat_result) -> bool:
    return _is_own(status) and not status.st_mode & _OTHERS_MAY_WRITE


def _untrusted(path: Path, place: str, status: os.stat_result, what: str, remedy: str) -> Untrusted:
    subject = "it" if place == str(path) else place
    facts: dict[str, Any] = {
        "path": str(path),
        "component": place,
        "owner": _name_of_user(status.st_uid),
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
    }
    return Untrusted(f"{path} cannot be trusted: {subject} {what}.", remedy, facts)


def _described(status: os.stat_result) -> str:
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    if not _is_own(status):
        return f"{_belongs(status)} (mode {mode})"
    return f"may be written by others than root (mode {mode}, group {_name_of_group(status.st_gid)})"


def _belongs(status: os.stat_result) -> str:
    return f"belongs to {_name_of_user(status.st_uid)}"


def _remedy(place: str, status: os.stat_result) -> str:
    other = "name a path below a folder that only root may write, such as /run/fleet.criu or /var/lib/fleet.criu"
    if status.st_mode & stat.S_ISVTX:  # it is for all users
        return f"{other[:1].upper()}{other[1:]}."
    mend = f"chmod go-w {place}" if _is_own(status) else f"chown root {place}"
    return f"If nobody else needs it, take it back ({mend}) and empty it; otherwise {other}."


def _link_remedy(target: str) -> str:
    return f"If that is right, name what it leads to ({target}) instead."


def _name_of_user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"the user {number}"


def _name_of_group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
