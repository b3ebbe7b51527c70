# SPDX-License-Identifier: GPL-3.0-or-later
"""Write into the ledger's redis from outside of the workload, whenever it is on this host, and check each answer.

    outside_client.py NAME SOCKET FOLDER

Each connection makes a few numbers, an INCR of `outside:NAME:last` and an RPUSH to `outside:NAME` for each, and is
closed by redis before the lock on FOLDER/gate is given up. None is made while FOLDER/closed is there: CRIU cannot dump
a connection that has one end outside. A number whose two answers were right becomes a line `number visit` in
FOLDER/outside.log; `visit` counts how often redis came. A wrong answer, or none, goes to FOLDER/outside.fault.
"""

from __future__ import annotations

import fcntl
import io
import signal
import socket
import sys
import time
from pathlib import Path
from typing import IO

BATCH = 4
INTERVAL = 0.05


def main() -> None:
    name, path, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    stop: list[bool] = []
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.append(True))
    try:
        with open(folder / "gate", "w") as gate, open(folder / "outside.log", "w", buffering=1) as log:
            client = Client(name, path, log)
            while not stop:
                fcntl.flock(gate, fcntl.LOCK_SH)
                if not (folder / "closed").exists():
                    client.visit()
                fcntl.flock(gate, fcntl.LOCK_UN)
                time.sleep(INTERVAL)
    except Exception as error:
        (folder / "outside.fault").write_text(f"{error!r}\n")
        raise


class Client:
    def __init__(self, name: str, path: str, log: IO[str]) -> None:
        self._name = name
        self._path = path
        self._log = log
        self._number = 0
        self._visit = 0
        self._was_there = False

    def visit(self) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(self._path)
            except (FileNotFoundError, ConnectionRefusedError):
                self._was_there = False
                return
            if not self._was_there:
                self._was_there = True
                self._visit += 1
            with connection.makefile("rwb") as stream:
                for _turn in range(BATCH):
                    self._write_number(stream)
                ask(stream, "QUIT", b"+OK\r\n")
                if stream.read() != b"":
                    raise ValueError("redis said more than was asked")

    def _write_number(self, stream: io.BufferedRWPair) -> None:
        number = self._number + 1
        ask(stream, f"INCR outside:{self._name}:last", b":%d\r\n" % number)
        ask(stream, f"RPUSH outside:{self._name} {number}", b":%d\r\n" % number)
        self._number = number
        self._log.write(f"{number} {self._visit}\n")


def ask(stream: io.BufferedRWPair, command: str, wanted: bytes) -> None:
    stream.write(command.encode("ascii") + b"\r\n")
    stream.flush()
    answer = stream.readline()
    if answer != wanted:
        raise ValueError(f"{command} was answered {answer!r}")


main()
