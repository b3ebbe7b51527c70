# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare what redis has on disk with what its clients have written down, and print both as JSON.

    check_ledger.py DATA LUA KEYS LEDGER_LOG NAME=OUTSIDE_LOG...

DATA is redis's folder, LUA the script that made its first KEYS keys. One redis loads a copy of DATA, another one is
empty and gets the keys and each number of the logs, in their order. No redis may run on DATA.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    data, lua, keys, ledger_log, *others = sys.argv[1:]
    logs = {"ledger": numbers(ledger_log)}
    for other in others:
        name, _equals, path = other.partition("=")
        logs[f"outside:{name}"] = numbers(path)
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(data, f"{place}/found", ignore=shutil.ignore_patterns("*.sock"))
        Path(place, "replayed").mkdir()
        with Redis(f"{place}/found") as found, Redis(f"{place}/replayed") as replayed:
            replayed.call("EVAL", Path(lua).read_text(), "0", keys)
            for key, logged in logs.items():
                replayed.write(key, logged)
            result = {
                "digest": found.call("DEBUG", "DIGEST"),
                "replayed_digest": replayed.call("DEBUG", "DIGEST"),
                "counts": {key: len(logged) for key, logged in logs.items()},
                "differing": [key for key, logged in logs.items() if not has_each_once(found, key, logged)],
            }
    sys.stdout.write(json.dumps(result) + "\n")


def numbers(path: str) -> list[int]:
    return [int(line.split()[0]) for line in Path(path).read_text().splitlines()]


def has_each_once(redis: Redis, key: str, logged: list[int]) -> bool:
    in_redis = [int(number) for number in redis.call("LRANGE", key, "0", "-1").split()]
    last = int(redis.call("GET", f"{key}:last") or 0)
    return logged == in_redis == list(range(1, last + 1))


class Redis:
    """A server of our own on a folder, for as long as the context."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._socket = f"{folder}/check.sock"

    def __enter__(self) -> Redis:
        options = (
            f"--port 0 --unixsocket {self._socket} --dir {self._folder} --appendonly yes --enable-debug-command local"
        )
        self._server = subprocess.Popen(["redis-server", *options.split(), "--save", ""], stdout=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while subprocess.run(self._client("PING"), capture_output=True, text=True, check=False).stdout != "PONG\n":
            if time.monotonic() > until:
                sys.exit(f"check_ledger: no redis starts on {self._folder}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.kill()
        self._server.wait()

    def call(self, *words: str) -> str:
        return subprocess.run(self._client("-e", *words), capture_output=True, text=True, check=True).stdout.strip()

    def write(self, key: str, written: list[int]) -> None:
        commands = "".join(f"INCR {key}:last\r\nRPUSH {key} {number}\r\n" for number in written)
        subprocess.run(self._client("--pipe"), input=commands, stdout=subprocess.DEVNULL, text=True, check=True)

    def _client(self, *words: str) -> list[str]:
        return ["redis-cli", "-s", self._socket, *words]


if __name__ == "__main__":
    main()
