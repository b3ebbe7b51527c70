# SPDX-License-Identifier: GPL-3.0-or-later
"""Be a user without any right who wants to disturb moves and to read what they carry.

    mallory.py HOME PEER VICTIM ATTACK...

HOME is this user's folder, below which workloads have their data; PEER is the other host's address, where the same
program runs; VICTIM is a folder of root that is not to be changed. Each attack is a process of its own that goes on
until SIGTERM and keeps what it did, and what came of it, in HOME/report/ATTACK.json: `done` counts what was tried, and
`found` has what should not have been possible.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import signal
import socket
import stat
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Callable, Iterator

# What a secret looks like. In two parts, so that this program is none itself.
MARKS = (b"secret-of-" + b"the-workload", b"PRIVATE" + b" KEY-----")
OURS = ("/var/lib/fleet.criu", "/run/fleet.criu", "/var/log/fleet.criu")
# Where anybody may make files, and so where whoever comes second finds what the first one has made.
SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock")
NAMES = ("fleet.criu", "criu", "criu.images", "criu-images", ".fleet.criu", "fleet.criu/images", "fleet.criu/handoff")
RENDEZVOUS = 1666
FIRST_PORT = 1024
# The first bytes of a client that speaks TLS 1.3 and then no more.
HALF_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(40)
MOST_READ = 4 << 20
# Sockets of workloads and of systemd; and CRIU's own, which it lets everybody connect to.
OTHERS = ("/data/", "/run/user/", "/run/systemd/", "/run/dbus/")
CRIUS = "@/crtools-"
SOCKETS = 150
FILL_BYTES = 256 << 20
MOST_LEARNT = 20


def main() -> None:
    home, peer, victim, *wanted = sys.argv[1:]
    attacks: dict[str, Callable[[Notes], None]] = {
        "squat": lambda notes: squat(notes, Path(victim)),
        "locks": hold_locks,
        "swap": lambda notes: swap_paths(notes, Path(home), Path(victim)),
        "pid_files": lambda notes: write_pid_files(notes, Path(home), Path(victim)),
        "flood": lambda notes: flood(notes, peer),
        "files": read_files,
        "processes": read_processes,
        "sockets": call_sockets,
        "fill": fill,
    }
    (Path(home) / "report").mkdir(exist_ok=True)
    children = []
    for name in wanted:
        child = os.fork()
        if child == 0:
            with Notes(Path(home) / "report" / f"{name}.json") as notes:
                attacks[name](notes)
            os._exit(0)
        children.append(child)

    def stop(*_arguments: object) -> None:
        for child in children:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    for child in children:
        while True:
            with suppress(InterruptedError):
                os.waitpid(child, 0)
                break


class Notes:
    """What one attack did and found, on disk once a second."""

    def __init__(self, path: Path) -> None:
        self.done: Counter[str] = Counter()
        self.found: dict[str, str] = {}
        self._path = path
        self._written = 0.0
        self._stopping = False

    def __enter__(self) -> Notes:
        signal.signal(signal.SIGTERM, self._stop)
        self._write()
        return self

    def __exit__(self, *error: object) -> None:
        if error[1] is not None:
            self.found["the attack itself"] = repr(error[1])
        self._write()

    def until_stopped(self, pause: float) -> Iterator[None]:
        """Rounds, with a pause between them."""
        while not self._stopping:
            yield
            if time.monotonic() - self._written > 1:
                self._write()
            time.sleep(pause)

    def _stop(self, *_arguments: object) -> None:
        self._stopping = True

    def _write(self) -> None:
        self._written = time.monotonic()
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps({"done": self.done, "found": self.found}))
        draft.rename(self._path)


# --- folders that anybody may make ------------------------------------------------------------------------------------


def squat(notes: Notes, victim: Path) -> None:
    """Make what may be made later by root, and put other folders into the place of what appears there."""
    learnt: set[str] = set()
    for _round in notes.until_stopped(0.002):
        for folder in SHARED:
            for name in (*NAMES, *learnt):
                make_first(notes, Path(folder, name), victim, as_link=name in learnt)
            for path in entries(folder):
                if len(learnt) < MOST_LEARNT and path.name not in learnt and "fleet" in path.name and not is_mine(path):
                    learnt.add(path.name)
                    notes.done["names learnt"] += 1
            for taken in NAMES:
                for path in entries(Path(folder, taken)):
                    take_place(notes, path)
                    for file in entries(path):
                        take_file(notes, file)


def make_first(notes: Notes, path: Path, victim: Path, as_link: bool) -> None:
    with suppress(OSError):
        if as_link:
            path.symlink_to(victim)
        else:
            path.mkdir()
            path.chmod(0o777)
        notes.done["made first"] += 1


def take_place(notes: Notes, path: Path) -> None:
    """Move away what somebody else has made in a folder of ours, and offer them another in its place."""
    if is_mine(path) or path.name.endswith(".away"):
        return
    with suppress(OSError):
        path.rename(f"{path}.away")
        notes.found[f"{path.parent}/*"] = "made by root in a folder of mine, renamed"
        path.mkdir()
        path.chmod(0o777)


def take_file(notes: Notes, path: Path) -> None:
    """The same for a file in such a folder; what root writes to it later can be read."""
    with suppress(OSError):
        if is_mine(path):
            read(notes, str(path))
        elif path.suffix != ".away" and path.is_file():
            path.rename(f"{path}.away")
            path.touch(0o666)
            path.chmod(0o666)
            notes.found[f"{path.parent.parent}/*/*"] = "made by root in a folder of mine, renamed"


# --- locks ------------------------------------------------------------------------------------------------------------


def hold_locks(notes: Notes) -> None:
    """Lock all files and folders of root that can be opened, and never let go."""
    held: dict[str, int] = {}
    for _round in notes.until_stopped(0.05):
        for path in tree(*OURS, *(f"/dev/shm/{name}" for name in NAMES)):
            notes.done["tried"] += 1
            if path in held or is_mine(Path(path)):
                continue
            for mode in (os.O_RDWR, os.O_RDONLY):
                with suppress(OSError):
                    descriptor = os.open(path, mode | os.O_NONBLOCK | os.O_NOFOLLOW)
                    held[path] = descriptor
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    notes.found[general(path)] = "locked"
                    break


# --- paths that the workload's user may change ------------------------------------------------------------------------


def swap_paths(notes: Notes, home: Path, victim: Path) -> None:
    """Now and then there is a link to the victim's folder where a folder of a workload was."""
    for _round in notes.until_stopped(0.0):
        for name in ("data", "made"):
            swap(notes, home / name, victim)
        # Most of the time all is well, so that a plan finds nothing.
        time.sleep(random.uniform(0.005, 0.1))


def swap(notes: Notes, path: Path, victim: Path) -> None:
    aside = path.with_name(f"{path.name}.aside")
    with suppress(OSError):
        path.rename(aside)
    with suppress(OSError):
        path.symlink_to(victim)
        notes.done["swapped"] += 1
    time.sleep(random.uniform(0.0005, 0.01))
    with suppress(OSError):
        if path.is_symlink():
            path.unlink()
        aside.rename(path)


def write_pid_files(notes: Notes, home: Path, victim: Path) -> None:
    """Name processes of others in our own pid files; a link is where a host will want to write one of ours."""
    folder = home / "run"
    folder.mkdir(exist_ok=True)
    for _round in notes.until_stopped(0.05):
        own = pid_of(rb"keeper[.]py /data own")
        # On one host at a time, as if they were workloads.
        pids = {"init": 1, "sshd": pid_of(rb"^sshd: /usr/sbin/sshd"), "keeper": pid_of(rb"keeper[.]py /data keeper")}
        for name, pid in pids.items():
            write_pid(notes, folder / f"{name}.pid", pid if own else None)
        path = folder / "own.pid"
        if own is None or not is_mine(Path(f"/proc/{own}")):
            with suppress(OSError):
                path.symlink_to(victim / "first")
                notes.done["linked"] += 1
            time.sleep(random.uniform(0.0005, 0.01))
            with suppress(OSError):
                if path.is_symlink():
                    path.unlink()
        elif path.is_symlink() or not path.exists():
            with suppress(OSError):
                path.unlink()
            write_pid(notes, path, own)


def write_pid(notes: Notes, path: Path, pid: int | None) -> None:
    with suppress(OSError):
        if pid is None:
            path.unlink(missing_ok=True)
        elif not path.exists() or path.read_text() != f"{pid}\n":
            path.write_text(f"{pid}\n")
            notes.done["written"] += 1


def pid_of(pattern: bytes) -> int | None:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if re.search(pattern, path.read_bytes().replace(b"\0", b" ")):
                return int(path.parent.name)
    return None


# --- the port ---------------------------------------------------------------------------------------------------------


def flood(notes: Notes, peer: str) -> None:
    """Connect again and again to each port that is not known, here and at the peer, and say nothing or nonsense."""
    threading.Thread(target=tell_ports, daemon=True).start()
    open_sockets: list[socket.socket] = []
    kinds = [b"", HALF_HELLO, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(300), b"\0" * 5]
    asked = 0.0
    theirs: list[int] = []
    for _round in notes.until_stopped(0.01):
        if time.monotonic() - asked > 0.1:
            theirs, asked = ask_ports(peer), time.monotonic()
        places = [("127.0.0.1", port) for port in listening_ports()] + [(peer, port) for port in theirs]
        open_sockets = [one for one in open_sockets if still_open(one)]
        for place in places:
            for _time in range(4):
                if len(open_sockets) >= SOCKETS:
                    open_sockets.pop(random.randrange(len(open_sockets))).close()
                with suppress(OSError):
                    one = socket.create_connection(place, timeout=0.2)
                    one.setblocking(False)
                    one.send(random.choice(kinds))
                    open_sockets.append(one)
                    notes.done["connected"] += 1
                    notes.done["most at a time"] = max(notes.done["most at a time"], len(open_sockets))


def still_open(one: socket.socket) -> bool:
    try:
        return one.recv(4096) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def listening_ports() -> list[int]:
    ports = set()
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return sorted(port for port in ports if port >= FIRST_PORT and port != RENDEZVOUS)


def tell_ports() -> None:
    with socket.create_server(("", RENDEZVOUS)) as server:
        while True:
            with suppress(OSError):
                connection = server.accept()[0]
                with connection:
                    connection.sendall(json.dumps(listening_ports()).encode())


def ask_ports(peer: str) -> list[int]:
    try:
        with socket.create_connection((peer, RENDEZVOUS), timeout=0.2) as connection:
            return [int(port) for port in json.loads(connection.makefile("rb").read() or b"[]")]
    except (OSError, ValueError):
        return []


# --- reading ----------------------------------------------------------------------------------------------------------


def read_files(notes: Notes) -> None:
    """Open whatever can be opened of the collection's, and look for secrets there and where anybody may write."""
    for _round in notes.until_stopped(0.1):
        for path in tree(*OURS, *SHARED, "/srv", "/mnt", "/home", "/root", "/etc/workloads"):
            notes.done["tried"] += 1
            if "/report/" not in path:
                read(notes, path)
        for path in OURS:
            with suppress(OSError):
                os.listdir(path)
                notes.found[general(path)] = "listed"


def read_processes(notes: Notes) -> None:
    """The same for what /proc has of each process."""
    for _round in notes.until_stopped(0.1):
        for process in Path("/proc").glob("[0-9]*"):
            if is_mine(process):
                continue
            notes.done["tried"] += 1
            for name in ("cmdline", "environ", "maps", "mem", "stack", "auxv"):
                read(notes, str(process / name))
            for name in ("fd", "map_files", "root", "cwd"):
                with suppress(OSError):
                    for entry in os.listdir(process / name):
                        notes.found[f"/proc/N/{name}"] = f"listed, of {text_of(process / 'comm')}"
                        read(notes, str(process / name / entry))


def read(notes: Notes, path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
        if not stat.S_ISREG(mode) and not (path.startswith("/proc/") and stat.S_ISLNK(mode)):
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return
    with open(descriptor, "rb", buffering=0) as stream:
        if path.startswith(OURS):
            notes.found[general(path)] = "opened"
        with suppress(OSError):
            content = stream.read(MOST_READ) or b""
            for mark in MARKS:
                position = content.find(mark)
                if position >= 0:
                    # Enough of it for the judge to see that it is the secret.
                    notes.found[f"secret in {general(path)}"] = content[position : position + 80].decode("latin-1")


def call_sockets(notes: Notes) -> None:
    """Connect to each Unix socket that is not one of the host's own or a workload's."""
    known = {line_path(line) for line in Path("/proc/net/unix").read_text().splitlines()[1:]}
    kinds = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)
    for _round in notes.until_stopped(0.02):
        for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
            path = line_path(line)
            if not path or path in known or path.startswith((CRIUS, *OTHERS)):
                continue
            notes.done["tried"] += 1
            for kind in kinds:
                with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as one:
                    one.connect(path.replace("@", "\0", 1) if path.startswith("@") else path)
                    notes.found[f"socket {general(path)}"] = "connected"
    notes.done["sockets known"] = len(known)


def line_path(line: str) -> str:
    fields = line.split(None, 7)
    return fields[7] if len(fields) > 7 else ""


# --- filling ----------------------------------------------------------------------------------------------------------


def fill(notes: Notes) -> None:
    """Take all that is left where anybody may write; what root has made smaller before is full then."""
    files = [os.open(f"{folder}/mallory.{os.getpid()}", os.O_WRONLY | os.O_CREAT) for folder in ("/tmp", "/dev/shm")]
    block = bytes(64 << 10)
    for _round in notes.until_stopped(0.02):
        for file in files:
            with suppress(OSError):
                while os.lseek(file, 0, os.SEEK_CUR) < FILL_BYTES and os.write(file, block) == len(block):
                    notes.done["blocks"] += 1


# --- all --------------------------------------------------------------------------------------------------------------


def tree(*folders: str) -> Iterator[str]:
    """All paths below these folders, and these, as far as they can be listed. No link is followed."""
    for folder in folders:
        yield folder
        for path, folders_in, files in os.walk(folder):
            yield from (f"{path}/{name}" for name in (*folders_in, *files))


def entries(folder: str | Path) -> list[Path]:
    try:
        return list(Path(folder).iterdir())
    except OSError:
        return []


def is_mine(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.getuid()
    except OSError:
        return True


def general(path: str) -> str:
    """Without what is another in each move, so that a report stays short."""
    return re.sub(r"\d{8}T\d{6}-[0-9a-f]+", "HANDOFF", re.sub(r"^/proc/\d+", "/proc/N", path))


def text_of(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return "?"


if __name__ == "__main__":
    main()
