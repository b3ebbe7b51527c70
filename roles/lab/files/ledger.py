# SPDX-License-Identifier: GPL-3.0-or-later
"""Write consecutive numbers into a redis of its own, and check each answer.

    ledger.py REDIS_CONFIGURATION FOLDER

This is the workload's init, redis its child. Each number is an INCR of `ledger:last` and an RPUSH to `ledger`, over one
connection that is never made anew. A number whose two answers were right becomes a line `number timestamp` (nanoseconds
since 1970) in FOLDER/ledger.log; gauge_report.py reads it. A wrong answer goes to FOLDER/ledger.fault and ends all.
SIGTERM makes it wait for the last answer and end.
"""

# What the modules around these two import is not in the root of a workload.
import _signal  # type: ignore[import-not-found]
import _socket
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

REDIS = "/usr/bin/redis-server"
INTERVAL = 0.002
# So many numbers are on their way at any time: a freeze always finds answers that redis gave and nobody has read.
WINDOW = 8


def main() -> None:
    configuration, folder = sys.argv[1:]
    stop: list[bool] = []
    _signal.signal(_signal.SIGTERM, lambda _number, _frame: stop.append(True))
    if os.fork() == 0:
        os.execv(REDIS, [REDIS, configuration])
    try:
        keep_ledger(folder, stop)
    except Exception as error:
        with open(f"{folder}/ledger.fault", "w") as fault:
            fault.write(f"{error!r}\n")
        os._exit(1)
    os._exit(0)


def keep_ledger(folder: str, stop: "list[bool]") -> None:
    connection = connect(f"{folder}/redis.sock")
    answers = read_lines(connection)
    log = os.open(f"{folder}/ledger.log", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
    asked = answered = 0
    while not stop or answered < asked:
        if not stop:
            asked += 1
            connection.sendall(command(b"INCR", b"ledger:last") + command(b"RPUSH", b"ledger", b"%d" % asked))
        if stop or asked - answered >= WINDOW:
            answered += 1
            for what in ("INCR", "RPUSH"):
                answer = next(answers)
                if answer != b":%d" % answered:
                    raise ValueError(f"{what} of {answered} was answered {answer!r}")
            os.write(log, b"%d %d\n" % (answered, time.time_ns()))
        if not stop:
            time.sleep(INTERVAL)


def connect(path: str) -> _socket.socket:
    until = time.monotonic() + 10
    while True:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            connection.connect(path)
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def read_lines(connection: _socket.socket) -> "Iterator[bytes]":
    rest = b""
    while True:
        received = connection.recv(65536)
        if not received:
            raise EOFError("redis closed the connection")
        *lines, rest = (rest + received).split(b"\r\n")
        yield from lines


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


main()
