# SPDX-License-Identifier: GPL-3.0-or-later
"""Commit consecutive numbers to a PostgreSQL of its own, and count what it has acknowledged.

    tally.py PROGRAMS FOLDER

This is the workload's init, PostgreSQL its child; PROGRAMS is the folder of its programs, its data are made in FOLDER
the first time. Each number is an INSERT that is a transaction of its own, over one connection that is never made anew.
A number that was acknowledged becomes a line `number timestamp` (nanoseconds since 1970) in FOLDER/tally.log;
gauge_report.py reads it. Whatever else is answered goes to FOLDER/tally.fault and ends all.
"""

# What the modules around this one import is not in the root of a workload.
import _socket
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Message = tuple[bytes, bytes]

INTERVAL = 0.005
# PostgreSQL, Frontend/Backend Protocol, StartupMessage: version 3.0.
PROTOCOL = 196608
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_directories": "/data",
    "shared_buffers": "8MB",
    "dynamic_shared_memory_type": "mmap",
    "max_connections": "10",
    "max_wal_size": "16MB",
    "min_wal_size": "2MB",
    "jit": "off",
}


def main() -> None:
    programs, folder = sys.argv[1:]
    try:
        start(programs, folder)
        keep_tally(folder)
    except Exception as error:
        with open(f"{folder}/tally.fault", "w") as fault:
            fault.write(f"{error!r}\n")
        os._exit(1)


def start(programs: str, folder: str) -> None:
    data = f"{folder}/postgresql"
    if not os.path.exists(data):
        options = [
            "--username=postgres",
            "--auth=trust",
            "--no-locale",
            "--encoding=UTF8",
            "--no-sync",
            "--wal-segsize=1",
        ]
        _pid, status = os.waitpid(run(folder, f"{programs}/initdb", "--pgdata", data, *options), 0)
        if status != 0:
            raise OSError(f"initdb ended with {status}, see {folder}/postgresql.log")
    settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
    run(folder, f"{programs}/postgres", "-D", data, *settings)


def run(folder: str, *argv: str) -> int:
    pid = os.fork()
    if pid == 0:
        log = os.open(f"{folder}/postgresql.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        os.execv(argv[0], argv)
    return pid


def keep_tally(folder: str) -> None:
    connection, answers = connect(f"{folder}/.s.PGSQL.5432")
    ask(connection, answers, b"CREATE TABLE tally (number bigint PRIMARY KEY)", b"CREATE TABLE")
    log = os.open(f"{folder}/tally.log", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
    number = 0
    while True:
        number += 1
        ask(connection, answers, b"INSERT INTO tally VALUES (%d)" % number, b"INSERT 0 1")
        os.write(log, b"%d %d\n" % (number, time.time_ns()))
        time.sleep(INTERVAL)


def ask(connection: _socket.socket, answers: "Iterator[list[Message]]", query: bytes, wanted: bytes) -> None:
    connection.sendall(b"Q" + number_of(5 + len(query)) + query + b"\0")
    answer = next(answers)
    if [content for kind, content in answer if kind == b"C"] != [wanted + b"\0"]:
        raise ValueError(f"{query!r} was answered {answer!r}")


def connect(path: str) -> "tuple[_socket.socket, Iterator[list[Message]]]":
    until = time.monotonic() + 30
    user = b"user\0postgres\0database\0postgres\0\0"
    while True:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            connection.connect(path)
            connection.sendall(number_of(8 + len(user)) + number_of(PROTOCOL) + user)
            answers = read_answers(connection)
            next(answers)
            return connection, answers
        except (OSError, ValueError):  # it is not there yet, or is starting up
            connection.close()
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def read_answers(connection: _socket.socket) -> "Iterator[list[Message]]":
    """All messages until the server is ready for the next query, again and again."""
    answer: list[Message] = []
    rest = b""
    while True:
        while len(rest) >= 5 and len(rest) > (length := int.from_bytes(rest[1:5], "big")):
            kind, content, rest = rest[:1], rest[5 : 1 + length], rest[1 + length :]
            answer.append((kind, content))
            if kind == b"E":
                raise ValueError(f"PostgreSQL says {content!r}")
            if kind == b"Z":
                yield answer
                answer = []
        received = connection.recv(65536)
        if not received:
            raise EOFError("PostgreSQL closed the connection")
        rest += received


def number_of(value: int) -> bytes:
    return value.to_bytes(4, "big")


main()
