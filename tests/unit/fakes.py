# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-ins for what the tests must not need: commands, /proc and CRIU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Callable, Mapping, Sequence, Union

from ansible_collections.fleet.criu.plugins.module_utils._criu.feature import FEATURES
from ansible_collections.fleet.criu.plugins.module_utils._mounts.pinned import Pinned
from ansible_collections.fleet.criu.plugins.module_utils._mounts.private import PrivateMounts
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed

BOOT_ID = "9d3a4c52-8bd9-4ad1-b3dc-3b2b1a7a3b0e"
BOOT_TIME = 1_700_000_000

HOST_MOUNTS = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:20 / /proc rw shared:2 - proc proc rw
23 21 0:21 / /run rw shared:3 - tmpfs tmpfs rw
"""

Answer = Union[Completed, Callable[[Command], Completed]]


class FakeRunner:
    """Answers each command by the words it begins with, the longest first, and keeps what it was asked to run."""

    def __init__(self, answers: Mapping[Sequence[str], Answer] | None = None) -> None:
        self.answers = dict(answers or {})
        self.commands: list[Command] = []

    @property
    def argvs(self) -> list[list[str]]:
        return [list(command.argv) for command in self.commands]

    def __call__(self, command: Command, while_running: Callable[[], None] | None = None) -> Completed:
        self.commands.append(command)
        argv = list(command.argv)
        for words in sorted(self.answers, key=len, reverse=True):
            if argv[: len(words)] == list(words):
                answer = self.answers[words]
                return answer if isinstance(answer, Completed) else answer(command)
        raise AssertionError(f"unexpected command: {argv}")


class FakeProc(Proc):
    """A proc file system in an ordinary folder."""

    def __init__(self, folder: Path, host_mounts: str = HOST_MOUNTS) -> None:
        super().__init__(str(folder))
        random = self.folder / "sys/kernel/random"
        random.mkdir(parents=True)
        (random / "boot_id").write_text(f"{BOOT_ID}\n")
        (self.folder / "stat").write_text(f"cpu  1 2 3\nbtime {BOOT_TIME}\nprocesses 9\n")
        self._namespaces("self", ())
        (self.folder / "self" / "mountinfo").write_text(host_mounts)

    def add(
        self,
        pid: int,
        command: Sequence[str] = ("sleep", "1000"),
        parent: int = 1,
        state: str = "S",
        start_time: int = 5000,
        comm: str = "sleep",
        mounts: str = "",
        root: Path | None = None,
        own_namespaces: Sequence[str] = ("mnt", "pid"),
        status: str = "",
        cgroup: str = "",
    ) -> None:
        folder = self.folder / str(pid)
        self._namespaces(str(pid), own_namespaces)
        after_session = " ".join(["1"] * 15)  # fields 7 to 21
        # It leads a session and a process group of its own.
        (folder / "stat").write_text(f"{pid} ({comm}) {state} {parent} {pid} {pid} {after_session} {start_time} 0 0\n")
        (folder / "cmdline").write_text("".join(f"{word}\0" for word in command))
        (folder / "mountinfo").write_text(mounts)
        (folder / "status").write_text(status)
        if cgroup:
            (folder / "cgroup").write_text(cgroup)
        if root is not None:
            (folder / "root").symlink_to(root)

    def remove(self, pid: int) -> None:
        shutil.rmtree(self.folder / str(pid))

    def _namespaces(self, pid: str, own: Sequence[str]) -> None:
        folder = self.folder / pid / "ns"
        folder.mkdir(parents=True)
        for number, name in enumerate(("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")):
            inode = 4026531830 + number + (1000 if name in own else 0)
            (folder / name).symlink_to(f"{name}:[{inode}]")


class FakePrivateMounts(PrivateMounts):
    """Notes what is bound and mounted. A place is the path itself, or has the prefix before it."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.calls: list[tuple[str, ...]] = []

    def place(self, path: str, pinned: Pinned) -> str:
        with pinned.opened(path):
            self.calls.append(("bind", path))
        return self.prefix + path

    def set_options(self, path: str, options: Sequence[str]) -> None:
        self.calls.append(("options", path, *options))

    @property
    def paths(self) -> dict[str, str]:
        return {self.prefix + path: path for call, path, *_rest in self.calls if call == "bind"}


class FakeCriu:
    """Plays CRIU: keeps each argv, writes images and a log, and really runs the action script at each stage.

    `on_dump` and `on_restore` are called at that point with the argv, before the script is asked; they give the exit
    status (None: go on). `fail_after` is the exit status with which CRIU ends although the script said yes.
    """

    def __init__(self, folder: Path, proc: FakeProc, version: str = "4.1.1") -> None:
        self.path = str(folder / "criu")
        Path(self.path).write_text("#!/bin/sh\nexit 99\n")
        os.chmod(self.path, 0o755)
        self.proc = proc
        self.version = version
        self.missing_features: set[str] = set()
        self.complaints = ""
        self.tables: list[str] = []
        self.commands: list[Command] = []
        self.images = {"inventory.img": "inventory", "pages-1.img": "memory"}
        self.log = "(00.000100) Version: 4.1.1\n"
        self.log_is_written = True
        self.dies_before = False
        self.asks = True
        self.fail_after = 0
        self.restores: Callable[[], int] = lambda: 0
        self.answers: dict[str, int] = {}

    def ran(self, word: str) -> list[Command]:
        """The commands with this subcommand."""
        return [command for command in self.commands if list(command.argv)[1] == word]

    def __call__(self, command: Command, while_running: Callable[[], None] | None = None) -> Completed:
        self.commands.append(command)
        argv = list(command.argv)
        if argv == ["nft", "-j", "list", "tables"]:
            rows = [{"table": {"family": "inet", "name": name}} for name in self.tables]
            return Completed(0, json.dumps({"nftables": rows}))
        assert argv[0] == self.path, argv
        if argv[1] == "--version":
            return Completed(0, f"Version: {self.version}\nGitID: v{self.version}\n")
        if argv[1:3] == ["check", "--feature"]:
            assert argv[3] in FEATURES, argv
            return Completed(1 if argv[3] in self.missing_features else 0)
        if argv[1:] == ["check"]:
            return Completed(1 if self.complaints else 0, "", self.complaints)
        assert while_running is not None, "nobody would answer the action script"
        return {"dump": self._dump, "restore": self._restore}[argv[1]](argv, while_running)

    def _dump(self, argv: list[str], serve: Callable[[], None]) -> Completed:
        pid, images = int(_value(argv, "--tree")), Path(_value(argv, "--images-dir"))
        if not self.log_is_written:
            return Completed(1, "", "dump: unrecognized option\n")
        (images / _value(argv, "--log-file")).write_text(self.log)
        for name, text in self.images.items():
            (images / name).write_text(text)
        if self.dies_before:
            return Completed(1)
        for stage in ("pre-dump", "network-lock", "post-dump") if self.asks else ():
            if self._ask(argv, stage, pid, images, serve) != 0:
                return Completed(1)
        if self.fail_after:
            return Completed(self.fail_after)
        (images / "stats-dump").write_text("written when all is over")
        if "--leave-running" not in argv:
            self.proc.remove(pid)
        return Completed(0)

    def _restore(self, argv: list[str], serve: Callable[[], None]) -> Completed:
        images = Path(_value(argv, "--images-dir"))
        (images / _value(argv, "--log-file")).write_text(self.log)
        if self.dies_before:
            return Completed(1)
        pid = self.restores()
        for stage in ("pre-restore", "setup-namespaces", "post-restore") if self.asks else ():
            if self._ask(argv, stage, pid, images, serve) != 0:
                self.proc.remove(pid)
                return Completed(1)
        if self.fail_after:
            self.proc.remove(pid)
            return Completed(self.fail_after)
        return Completed(0)

    def _ask(self, argv: list[str], stage: str, pid: int, images: Path, serve: Callable[[], None]) -> int:
        environment = {
            **os.environ,
            "CRTOOLS_SCRIPT_ACTION": stage,
            "CRTOOLS_IMAGE_DIR": str(images),
            "CRTOOLS_INIT_PID": str(pid),
        }
        with subprocess.Popen([_value(argv, "--action-script")], env=environment) as script:
            while script.poll() is None:
                serve()
        self.answers[stage] = script.returncode
        return script.returncode


def _value(argv: Sequence[str], option: str) -> str:
    return argv[list(argv).index(option) + 1]
