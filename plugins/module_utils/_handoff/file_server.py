# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target's end of copied files: rsync as a daemon on a stream, which reaches the planned folders alone."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Iterator, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import write_atomically
from ansible_collections.fleet.criu.plugins.module_utils._handoff.rsync import IDLE_SECONDS, Stream
from ansible_collections.fleet.criu.plugins.module_utils._mounts.pinned import Pinned

_END_SECONDS = 1.0
_LOOK_SECONDS = 0.0005
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")

_CONFIGURATION = """use chroot = yes
munge symlinks = no
uid = 0
gid = 0
read only = no
write only = yes
list = no
reverse lookup = no

"""


def serve(
    stream: Stream,
    module: str,
    modules: Mapping[str, str],
    folder: Path,
    timeout: float = IDLE_SECONDS,
    pinned: Pinned | None = None,
) -> None:
    """The target's end of one stream: let the source fill the folder that `modules` has for the name `module`.

    rsync runs in a chroot there and may only write, so that nothing outside can be reached whatever the source says.
    `folder` is for its configuration, and `pinned` has the modules' folders open. Returns when the stream has ended.
    Raises CriuError if the module is none, if rsync cannot be started or fails, if the stream breaks or is silent for
    `timeout` seconds; what a failure means the source decides, which hears of it from its own rsync, and which may also
    leave a stream that it has prepared.
    """
    with _kept(pinned) as kept:
        place = kept.folder(path_of(module, modules))
        _serve(stream, _configuration_file(module, place, folder), place, modules[module], timeout)


def _serve(stream: Stream, configuration: Path, place: int, path: str, timeout: float) -> None:
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as errors:
        with theirs:
            daemon = _start_daemon(configuration, place, theirs, errors.fileno())
        try:
            stream.pump(ours.fileno(), timeout)
        finally:
            ours.close()
            _end_group(daemon)
        if daemon.returncode != 0:
            errors.seek(0)
            said = " | ".join(os.fsdecode(errors.read()).strip().splitlines()[-4:])
            raise CommandFailed(
                f"rsync into {path} ended with exit status {daemon.returncode}: {said}",
                "Look at what the source says.",
                {"path": path, "rc": daemon.returncode},
            )


def set_folder_times(times: Mapping[str, int], modules: Mapping[str, str], pinned: Pinned | None = None) -> None:
    """At the target, after the last pass: give the folders of these modules the times (ns) that the source has.

    Raises CriuError for a module that is none.
    """
    with _kept(pinned) as kept:
        for module, nanoseconds in times.items():
            place = kept.folder(path_of(module, modules))
            folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)
            try:
                os.utime(folder, ns=(os.fstat(folder).st_atime_ns, nanoseconds))
            finally:
                os.close(folder)


@contextlib.contextmanager
def _kept(pinned: Pinned | None) -> Iterator[Pinned]:
    own = Pinned()
    try:
        yield pinned or own
    finally:
        own.close()


def path_of(module: str, modules: Mapping[str, str]) -> str:
    if module not in modules or not _NAME.match(module):
        raise CriuError(
            f"The source asks for the folder {module!r}, which is none of this handoff.",
            "Give both ends the same mount map.",
            {"folder": module},
        )
    return modules[module]


def _configuration_file(module: str, place: int, folder: Path) -> Path:
    # Of its name rsync would take %NAME% for a variable, and a newline for the end (rsyncd.conf(5)).
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    configuration = folder / f"{module}.conf"
    write_atomically(configuration, f"{_CONFIGURATION}[{module}]\npath = /proc/self/fd/{place}/\n")
    return configuration


def _start_daemon(configuration: Path, place: int, connection: socket.socket, errors: int) -> subprocess.Popen[bytes]:
    program = shutil.which("rsync")
    if program is None:
        raise CriuError("rsync is not installed here.", "Install the package rsync.")
    return subprocess.Popen(
        [program, "--server", "--daemon", f"--config={configuration}", "."],
        stdin=connection.fileno(),
        stdout=connection.fileno(),
        stderr=errors,
        cwd="/",
        env={"LC_ALL": "C"},
        pass_fds=[place],
        start_new_session=True,
    )


def _end_group(daemon: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _END_SECONDS
    # A workload may be frozen until this is known. Popen.wait(timeout) looks ever more seldom, at last after 50 ms.
    while daemon.poll() is None and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
    if daemon.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()
