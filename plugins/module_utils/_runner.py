# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How commands are run: a Protocol, so that tests can give a fake, and the real one."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from typing import IO, Callable, Mapping, Protocol, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed


@dataclass(frozen=True)
class Command:
    """What to run. `descriptors` are those that the command inherits."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
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
    CRIU's action scripts are answered. Who has called `prepare_process` before says so: a process with threads must not
    run code of its own between fork and exec, and without it a command starts sooner.
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
                preexec_fn=None if self._is_prepared else prepare_process,  # noqa: PLW1509
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
