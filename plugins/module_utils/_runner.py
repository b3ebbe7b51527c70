# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How commands are run: a Protocol, so that tests can give a fake, and the real one."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from typing import IO, Callable, Mapping, Protocol, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed

# From <sched.h> and <sys/mount.h>; Python has no names for them before 3.12.
_CLONE_NEWNS = 0x00020000
_MS_REMOUNT = 32
_MS_BIND = 4096
_MS_REC = 16384
_MS_SLAVE = 1 << 19
_MOUNT_FLAGS = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8}


@dataclass(frozen=True)
class Command:
    """What to run.

    `bind_root` is a folder that must be a mount point while the command runs (CRIU asks this of `--root`). It is bound
    onto itself in a mount namespace that ends with the command, so that nothing is left behind on the host, even if
    the command is killed. That namespace is a slave of the host's: a slave mount can still find its master.
    `root_options` is for `set_root_options`, if that is to be done. `descriptors` are those that the command inherits.
    """

    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    bind_root: str | None = None
    root_options: Sequence[str] | None = None
    timeout: float | None = None
    descriptors: Sequence[int] = ()


@dataclass(frozen=True)
class Completed:
    """How a command ended. `stdout` and `stderr` are text, undecodable bytes as surrogates."""

    returncode: int
    stdout: str = ""
    stderr: str = ""


class Runner(Protocol):
    """Runs a command to its end. Raises CommandFailed only if it could not be started or did not end in time."""

    def __call__(self, command: Command, while_running: Callable[[], None] | None = None) -> Completed: ...


class SubprocessRunner:
    """The real runner: no shell, `LC_ALL=C`, no standard input, the soft open-file limit raised to the hard one.

    `while_running` is called again and again (it should wait a little by itself) until the command ends: this is how
    CRIU's action scripts are answered. Who has called `prepare_process` and `bind_root_here` before says so: a process
    with threads must not run code of its own between fork and exec, and without it a command starts sooner.
    """

    def __init__(self, is_prepared: bool = False) -> None:
        self._is_prepared = is_prepared

    def __call__(self, command: Command, while_running: Callable[[], None] | None = None) -> Completed:
        # Files and not pipes: a restored process must never hold the other end of a pipe that we wait for.
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            returncode = self._run(command, stdout, stderr, while_running)
            return Completed(returncode, _content(stdout), _content(stderr))

    def _run(
        self, command: Command, stdout: IO[bytes], stderr: IO[bytes], while_running: Callable[[], None] | None
    ) -> int:
        try:
            process = subprocess.Popen(
                list(command.argv),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd="/",
                env={**os.environ, "LC_ALL": "C", **command.environment},
                start_new_session=True,
                pass_fds=command.descriptors,
                preexec_fn=None if self._is_prepared else _preparation(command.bind_root, command.root_options),  # noqa: PLW1509
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise CommandFailed(
                f"{command.argv[0]} could not be started: {error}.",
                "Check that it is installed and that the task runs as root (become: true).",
                {"argv": list(command.argv)},
            ) from error
        try:
            until = None if command.timeout is None else time.monotonic() + command.timeout
            while while_running is not None and process.poll() is None:
                if until is not None and time.monotonic() > until:
                    raise subprocess.TimeoutExpired(list(command.argv), command.timeout or 0)
                while_running()
            return process.wait(timeout=command.timeout)
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(
                f"{command.argv[0]} did not end within {command.timeout} seconds and was killed.",
                facts={"argv": list(command.argv)},
            ) from error
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _content(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode("utf-8", "surrogateescape")


def prepare_process() -> None:
    """Raise our own soft open-file limit to the hard one, and keep others out of the files that we and ours make."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Images hold memory. CRIU gives each restored process its own umask back.
    os.umask(0o077)


def bind_root_here(folder: str) -> None:
    """Take a mount namespace of our own, a slave of the one before, and bind the folder onto itself in it.

    Only for a process with one thread. Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, what: str) -> None:
        if result != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"{what}: {os.strerror(code)}")

    path = os.fsencode(folder)
    check(libc.unshare(_CLONE_NEWNS), "unshare")
    check(libc.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None), "mount --make-rslave /")
    check(libc.mount(path, path, None, _MS_BIND, None), f"mount --bind {folder}")


def set_root_options(folder: str, options: Sequence[str]) -> None:
    """Mount what `bind_root_here` has bound with those of these options that say what may be done there, and no other.

    They are `ro`, `nosuid`, `nodev` and `noexec`. A root gets them from the bind that CRIU is given with `--root`:
    before CRIU 4.2 all of them, since then those that were not there before the dump. Raises CommandFailed.
    """
    flags = sum(flag for name, flag in _MOUNT_FLAGS.items() if name in options)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(None, os.fsencode(folder), None, _MS_REMOUNT | _MS_BIND | flags, None) != 0:
        raise CommandFailed(
            f"The root {folder} cannot be mounted as the workload had it ({', '.join(options) or 'read-write'}): "
            f"{os.strerror(ctypes.get_errno())}.",
            "Mount what is there with the same options, or choose another path for the root.",
        )


def _preparation(bind_root: str | None, root_options: Sequence[str] | None = None) -> Callable[[], None]:
    def prepare() -> None:
        prepare_process()
        if bind_root is not None:
            bind_root_here(bind_root)
        if bind_root is not None and root_options is not None:
            set_root_options(bind_root, root_options)

    return prepare
