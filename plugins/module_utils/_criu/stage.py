# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answering CRIU's action scripts: at a named stage CRIU waits until we say whether it may go on.

At `post-dump` all images are written and the tasks still exist; at `post-restore` all is restored and nothing runs yet
(criu(8), --action-script). A refusal makes CRIU undo its work. So does our own death, because the script that CRIU runs
then finds nobody to ask.
"""

from __future__ import annotations

import select
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Callable, Mapping

POST_DUMP = "post-dump"
POST_RESTORE = "post-restore"

_GO_ON = b"0"
_REFUSE = b"1"
_WAIT = 0.02

# sh first, because CRIU runs the script at every stage and most of them need no answer.
_SCRIPT = """#!/bin/sh
case " {stages} " in *" $CRTOOLS_SCRIPT_ACTION "*) ;; *) exit 0 ;; esac
exec '{python}' -I -S '{client}' '{socket}'
"""

_CLIENT = """import os, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    stage, pid = os.environ["CRTOOLS_SCRIPT_ACTION"], os.environ.get("CRTOOLS_INIT_PID", "0")
    connection.sendall(f"{stage} {pid}\\n".encode())
    sys.exit(0 if connection.recv(1) == b"0" else 1)
"""

Answer = Callable[[int], None]


class Stages:
    """A context in which `script` may be given to CRIU as its action script.

    `answers` has for each stage a function that gets the pid of the workload's init and raises to refuse; what it
    raised is kept in `refusal`. `serve` must be called repeatedly while CRIU runs.
    """

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._answers = answers
        self.refusal: Exception | None = None

    def __enter__(self) -> Stages:
        self._folder = Path(tempfile.mkdtemp(prefix="fleet.criu."))
        path, client = self._folder / "socket", self._folder / "client.py"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.bind(str(path))
        self._socket.listen(1)
        client.write_text(_CLIENT, "utf-8")
        script = self._folder / "action"
        script.write_text(
            _SCRIPT.format(stages=" ".join(self._answers), python=sys.executable, client=client, socket=path), "utf-8"
        )
        script.chmod(0o700)
        self.script = str(script)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        shutil.rmtree(str(self._folder), ignore_errors=True)

    def serve(self) -> None:
        """Answer one waiting script, or return after a moment if there is none."""
        readable, _writable, _failed = select.select([self._socket], [], [], _WAIT)
        if readable:
            connection, _peer = self._socket.accept()
            with connection:
                connection.sendall(self._ask(connection.recv(4096).decode("ascii", "replace")))

    def _ask(self, request: str) -> bytes:
        stage, _space, pid = request.strip().partition(" ")
        try:
            self._answers[stage](int(pid))
        except Exception as error:  # whatever it is, CRIU must be told to undo its work
            self.refusal = error
            return _REFUSE
        return _GO_ON
