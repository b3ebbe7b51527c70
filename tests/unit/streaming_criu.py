# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that plays CRIU in a process of its own: it can be killed, and it outlives the agent that started it.

`install` puts it into a folder. The processes are folders of a fake proc file system; what is to go wrong is in
`script.json` beside the program. It speaks to a streamer as CRIU does, and really runs the action script. An engine may
call it too (`swrk`, see playing_engine.py); then its action script is in its configuration file.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any, Mapping

SCRIPT = "script.json"
TEMPLATE = "template"
MIB = 1 << 20


def install(folder: Path, proc: Path, **script: Any) -> Path:
    """Make the program `criu` in this folder, for this proc file system; gives its path.

    `script` may say: `images` (text by name; `*x9` is nine times x), `fails_at` or `dies_at` (a stage, or `stream`,
    `start`, `resume`, `end`), `hangs_at` (likewise, of a dump), `strips` (an option that the mount of control groups
    loses), `restored` (the pid that a restore makes from the folder `template`), `status` (how a restore ends that went
    well).
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SCRIPT).write_text(json.dumps({"proc": str(proc), **script}))
    program = folder / "criu"
    program.write_text(f"#!{sys.executable} -IS\n{Path(__file__).read_text()}")
    program.chmod(0o755)
    return program


def rescript(program: Path, **changes: Any) -> None:
    """Change what an installed program will do."""
    path = program.with_name(SCRIPT)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def state_of(process: Path) -> str:
    """The state of a process of the fake proc file system; empty if there is none."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def set_state(process: Path, state: str) -> None:
    """Change it, for readers in one step."""
    text = (process / "stat").read_text()
    head, _bracket, rest = text.rpartition(")")
    new = process / ".stat"
    new.write_text(f"{head}) {state} {rest.split(None, 1)[1]}")
    os.replace(new, process / "stat")


def tree(process: Path) -> list[Path]:
    """It and its children."""
    found = [process]
    for stat in process.parent.glob("[0-9]*/stat"):
        if stat.read_text().rpartition(")")[2].split()[1] == process.name:
            found.append(stat.parent)
    return found


def remove(process: Path) -> None:
    """End it, for readers in one step."""
    with contextlib.suppress(FileNotFoundError):
        os.rename(process, process.with_name(f"dead-{process.name}-{os.getpid()}"))


def run_on(process: Path) -> None:
    """What the kernel does when nobody traces it any more: a stop that was asked for meanwhile takes effect."""
    if state_of(process):
        set_state(process, "T" if (process / "stop").exists() else "S")
        (process / "ran_on").touch()


class _Criu:
    def __init__(self, arguments: list[str], script: Mapping[str, Any]) -> None:
        self._arguments = arguments
        self._script = script
        self._images = Path(self._value("--images-dir"))
        self._log = self._images / self._value("--log-file")
        pid = self._value("--tree") if arguments[0] == "dump" else script["restored"]
        self._process = Path(script["proc"]) / str(pid)
        self._home = Path(__file__).parent

    def _value(self, option: str) -> str:
        return self._arguments[self._arguments.index(option) + 1]

    def dump(self) -> int:
        self._log.write_text("(00.000100) Version: 4.1.1\n")
        self._strip()
        self._reach("start")
        for process in tree(self._process):
            set_state(process, "t")
        try:
            self._write_images()
            for stage in ("network-lock", "post-dump"):
                self._reach(stage)
                self._ask(stage)
        except (OSError, RuntimeError) as error:
            self._log.write_text(f"(00.2) Error (criu/cr-dump.c:1): {error}\n")
            self._run_on()
            return 1
        for process in tree(self._process):
            remove(process)
        return 0

    def restore(self) -> int:
        self._log.write_text("(00.000100) Version: 4.1.1\n")
        self._strip()
        try:
            self._reach("start")
            os.rename(self._home / TEMPLATE, self._process)
            for stage in ("setup-namespaces", "post-restore"):
                self._reach(stage)
                self._ask(stage)
        except (OSError, RuntimeError) as error:
            self._log.write_text(f"(00.2) Error (criu/cr-restore.c:1): {error}\n")
            remove(self._process)
            return 1
        self._reach("resume")
        (self._process / "syscall").write_text("running\n")
        (self._home / "ran").write_text("x")
        self._reach("end")
        return int(self._script.get("status", 0))

    def _strip(self) -> None:
        mountinfo = Path(self._script["proc"]) / "self" / "mountinfo"
        if self._script.get("strips"):
            mountinfo.write_text(mountinfo.read_text().replace(f",{self._script['strips']}", ""))

    def _reach(self, place: str) -> None:
        if self._script.get("fails_at") == place:
            raise RuntimeError(f"it fails at {place}")
        if self._script.get("dies_at") == place:
            if self._arguments[0] == "dump":
                self._run_on()
            os.kill(os.getpid(), signal.SIGKILL)
        if self._script.get("hangs_at") == place:
            self._run_on()  # what comes when it is killed
            signal.pause()

    def _run_on(self) -> None:
        for process in tree(self._process):
            run_on(process)

    def _write_images(self) -> None:
        with socket.socket(socket.AF_UNIX) as streamer:
            if "--stream" in self._arguments:
                streamer.connect(str(self._images / "streamer-capture.sock"))
            for name, text in self._script["images"].items():
                data = text[1:2].encode() * int(text[2:]) if text.startswith("*") else text.encode()
                if "--stream" in self._arguments:
                    self._stream(streamer, name, data)
                else:
                    (self._images / name).write_bytes(data)

    def _stream(self, streamer: socket.socket, name: str, data: bytes) -> None:
        reading, writing = os.pipe()
        request = b"\x0a" + bytes([len(name)]) + name.encode()
        streamer.sendall(struct.pack("=I", len(request)) + request)
        streamer.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", reading))])
        os.close(reading)
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            view = memoryview(data)
            while view:
                view = view[os.write(pipe.fileno(), view) :]
                self._reach("stream")

    def _ask(self, stage: str) -> None:
        environment = {
            **os.environ,
            "CRTOOLS_SCRIPT_ACTION": stage,
            "CRTOOLS_IMAGE_DIR": str(self._images),
            "CRTOOLS_INIT_PID": self._process.name,
        }
        script = self._value("--action-script")
        _pid, status = os.waitpid(os.posix_spawn(script, [script], environment), 0)
        if status != 0:
            raise RuntimeError(f"the action script refused at {stage}")


def request(kind: int, arguments: list[str]) -> bytes:
    """A message that asks for a dump (1) or a restore (2); the arguments take the place of CRIU's options."""
    data = json.dumps(arguments).encode()
    return b"\x08" + bytes([kind]) + b"\x12" + bytes([len(data) & 0x7F | 0x80, len(data) >> 7]) + data


def _arguments(argv: list[str]) -> list[str]:
    if argv[1] != "swrk":
        return argv[1:]
    with socket.socket(fileno=int(argv[2])) as connection:
        data = connection.recv(65536)
    word, _blank, action = Path(os.environ["CRIU_CONFIG_FILE"]).read_text().splitlines()[0].partition(" ")
    assert word == "action-script"
    return [*json.loads(data[5:]), "--action-script", action]


if __name__ == "__main__":
    home = Path(__file__).parent
    (home / f"pid.{os.getpid()}").touch()
    given = _arguments(sys.argv)
    playing = _Criu(given, json.loads((home / SCRIPT).read_text()))
    sys.exit(playing.dump() if given[0] == "dump" else playing.restore())
