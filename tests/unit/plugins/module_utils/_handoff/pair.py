# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A source and a target on this machine: the real agents in processes of their own, speaking TLS over loopback.

What is not real: CRIU (streaming_criu.py), the workload (folders of a fake proc file system, with pids that no real
process can have), and the signals that it gets.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import time
import traceback
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence, Union

from ansible_collections.fleet.criu.plugins.module_utils._criu.generation import Generations
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json, write_json
from ansible_collections.fleet.criu.plugins.module_utils._handoff import channel, receiver, sender
from ansible_collections.fleet.criu.plugins.module_utils._handoff.agent import PROGRESS, RESULT
from ansible_collections.fleet.criu.plugins.module_utils._handoff.certificate import Identity
from ansible_collections.fleet.criu.plugins.module_utils._handoff.messages import Message
from ansible_collections.fleet.criu.plugins.module_utils._handoff.request import REQUEST, ReceiveRequest, SendRequest
from ansible_collections.fleet.criu.plugins.module_utils._handoff.settle import Peer, Settled, settle
from ansible_collections.fleet.criu.plugins.module_utils._handoff.states import Outcome
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity as ProcIdentity
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed, SubprocessRunner
from ansible_collections.fleet.criu.tests.unit import streaming_criu
from ansible_collections.fleet.criu.tests.unit.fakes import HOST_MOUNTS, FakePrivateMounts, FakeProc
from ansible_collections.fleet.criu.tests.unit.redirection import HANDOFFS, redirect
from ansible_collections.fleet.criu.tests.unit.streaming_criu import state_of

HANDOFF = "redis-1"
SOURCE, TARGET = "source", "target"
# Above the highest that the kernel gives (proc(5), /proc/sys/kernel/pid_max).
PID, CHILD, RESTORED = 5_000_042, 5_000_043, 5_000_077
START, RESTORED_START = 5000, 9000
IMAGES = {"inventory.img": "inventory", "core-1.img": "registers", "pages-1.img": "*m300000", "ids-1.img": ""}
CGROUP_OPTION = "nsdelegate"
PATIENCE = 40.0

Setup = Callable[[], None]


class NoStandby:
    """In the place of standby.Standby: it never gets ready."""

    is_ready = False
    has_died = False

    def __init__(self, *_arguments: Any) -> None:
        pass

    def wait(self, seconds: float) -> None:
        """There is nothing to wait for."""

    def close(self) -> None:
        """There is nothing to close."""


Requests = Union[SendRequest, ReceiveRequest]

_real_kill = os.kill
_MAPS = "10000-20000 r-xp 00000000 00:00 0 \n20000-30000 r-xp 00000000 08:01 7 /usr/bin/redis\n"
_IN_RESTORER = "202 0x0 0x0 0x0 0x0 0x0 0x0 0x7ffc 0x10008\n"
_ALL_SIGNALS_BLOCKED = "SigBlk:\tfffffffffffbfeff\n"


class Host:
    """One of the two: its folders, processes and CRIU."""

    def __init__(self, side: str, folder: Path) -> None:
        self.side = side
        self.folder = folder
        self.here = folder / "host"
        self.runtime = self.here / HANDOFFS / f"{HANDOFF}.{side}"
        self.box, self.data = folder / "box", folder / "data"
        for path in (self.runtime, self.box, self.data, self.here / "lib"):
            path.mkdir(parents=True)
        (self.box / "data").symlink_to(self.data)
        self.proc = FakeProc(folder / "proc")
        self.criu = streaming_criu.install(folder / "criu", self.proc.folder, images=IMAGES, restored=RESTORED)
        self.mounts = "\n".join(
            [
                f"100 90 8:1 {self.box} / rw - ext4 /dev/sda1 rw",
                f"101 100 8:1 {self.data} /data rw - ext4 /dev/sda1 rw",
                "102 100 0:50 / /proc rw - proc proc rw",
            ]
        )
        self.setups: list[Setup] = []
        # How long it waits in the end for a peer that may have nothing more to say.
        self.end_seconds = 10.0

    def __call__(self, command: Command, while_running: Callable[[], None] | None = None) -> Completed:
        """Run a command here; what only tells CRIU's version is answered without one."""
        argv = list(command.argv)
        if argv == [str(self.criu), "--version"]:
            return Completed(0, "Version: 4.1.1\n")
        if argv[:3] == [str(self.criu), "check", "--feature"]:
            return Completed(0)
        if argv[:3] == ["mount", "-o", f"remount,{CGROUP_OPTION}"]:
            self.mount_control_groups()
            return Completed(0)
        if argv[0] == "nft":
            return self._nft(argv[1:])
        if argv[0] == str(self.criu):
            with (self.folder / "argv").open("a") as stream:
                stream.write(json.dumps(argv) + "\n")
        return SubprocessRunner(is_prepared=True)(command, while_running)

    def mount_control_groups(self) -> None:
        """With an option that CRIU takes, if it is told so."""
        row = f"30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,{CGROUP_OPTION}\n"
        (self.proc.folder / "self" / "mountinfo").write_text(HOST_MOUNTS + row)

    def has_control_groups(self) -> bool:
        """Whether they are mounted with that option."""
        return f",{CGROUP_OPTION}" in self.proc.mountinfo("self")

    def nft_tables(self) -> list[str]:
        """The names of the tables that nftables has here."""
        return sorted(path.name for path in (self.folder / "nft").glob("*"))

    def add_nft_table(self, name: str, *connections: Sequence[object]) -> None:
        """Each connection is an address and a port, and those of the other end."""
        rows = [{"set": {"name": "conns4", "elem": [{"concat": list(one)} for one in connections]}}]
        (self.folder / "nft").mkdir(exist_ok=True)
        (self.folder / "nft" / name).write_text(json.dumps({"nftables": rows}))

    def _nft(self, words: list[str]) -> Completed:
        if words == ["-j", "list", "tables"]:
            listed = [{"table": {"family": "inet", "name": name}} for name in self.nft_tables()]
            return Completed(0, json.dumps({"nftables": [{"metainfo": {}}, *listed]}))
        if words[:4] == ["-j", "list", "table", "inet"]:
            return Completed(0, (self.folder / "nft" / words[4]).read_text())
        assert words[:3] == ["delete", "table", "inet"]
        (self.folder / "nft" / words[3]).unlink()
        return Completed(0)

    def enter(self) -> None:
        """Let the collection keep its things in this host's folder. For a process of the host's own."""
        redirect(self.here)

    def start_workload(self) -> None:
        for pid, parent in ((PID, 1), (CHILD, PID)):
            self.proc.add(
                pid,
                ["redis-server"],
                parent,
                start_time=START,
                mounts=self.mounts,
                root=self.box,
                status="RssAnon:\t 300 kB\n",
            )

    def make_template(self) -> None:
        """What a restore will bring to life."""
        self.proc.add(RESTORED, ["redis-server"], start_time=RESTORED_START, mounts=self.mounts, root=self.box)
        process = self.proc.folder / str(RESTORED)
        (process / "maps").write_text(_MAPS)
        (process / "syscall").write_text(_IN_RESTORER)
        (process / "status").write_text(_ALL_SIGNALS_BLOCKED)
        process.rename(self.criu.with_name(streaming_criu.TEMPLATE))

    def state(self, pid: int) -> str:
        """The state of a process; empty if there is none."""
        return state_of(self.proc.folder / str(pid))

    def argvs(self, word: str) -> list[list[str]]:
        """How CRIU was called with this subcommand."""
        path = self.folder / "argv"
        calls = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [call for call in calls if call[1] == word]

    def steps(self) -> list[str]:
        """What the journal says."""
        path = self.here / "lib" / "handoffs" / f"{HANDOFF}.{self.side}.jsonl"
        if not path.exists():
            return []
        return [json.loads(line)["step"] for line in path.read_text().splitlines()]

    def result(self) -> dict[str, Any]:
        """What the agent left for whoever waits."""
        return dict(read_json(self.runtime / RESULT))

    def log(self) -> str:
        return (self.runtime / "agent.log").read_text()

    def generations(self) -> Generations:
        return Generations(self.here / "lib" / "generations.json")

    def kill_criu(self) -> None:
        """Kill what plays CRIU here; the kernel lets go what it traced."""
        for mark in self.criu.parent.glob("pid.*"):
            pid = int(mark.suffix[1:])
            if _is_criu(pid, self.criu):
                _real_kill(pid, signal.SIGKILL)
                while _is_criu(pid, self.criu):
                    time.sleep(0.002)
        for pid in (PID, CHILD):
            streaming_criu.run_on(self.proc.folder / str(pid))

    def end_workload(self) -> None:
        """The restored copy ends."""
        streaming_criu.remove(self.proc.folder / str(RESTORED))

    def end_criu(self) -> None:
        """End what plays CRIU here and still waits."""
        for hold in (self.runtime / "stages").glob("hold"):
            hold.unlink()
        until = time.monotonic() + 1.0
        for mark in self.criu.parent.glob("pid.*"):
            pid = int(mark.suffix[1:])
            while _is_criu(pid, self.criu) and time.monotonic() < until:
                time.sleep(0.01)
            if _is_criu(pid, self.criu):
                _real_kill(pid, signal.SIGKILL)


class Pair:
    """Both hosts, and one handoff between them."""

    def __init__(self, folder: Path, identities: Mapping[str, Identity]) -> None:
        self.folder = folder
        self.source, self.target = Host(SOURCE, folder / SOURCE), Host(TARGET, folder / TARGET)
        self.hosts = {SOURCE: self.source, TARGET: self.target}
        for host in self.hosts.values():
            identity = host.runtime / "identity"
            identity.mkdir(mode=0o700)
            for path in (identities[host.side].certificate, identities[host.side].key):
                shutil.copy(path, identity)
        self.source.start_workload()
        self.target.make_template()
        self.images = folder / "images"
        self.send = SendRequest(
            HANDOFF,
            "redis",
            PID,
            START,
            "node1",
            "node2",
            "127.0.0.1",
            0,
            identities[TARGET].pem,
            [{"mountpoint": "/data", "key": "/data"}],
            criu_path=str(self.source.criu),
            pid_file=str(self.source.folder / "redis.pid"),
        )
        self.receive = ReceiveRequest(
            HANDOFF,
            "redis",
            "node1",
            "node2",
            identities[SOURCE].pem,
            str(self.images),
            str(self.target.box),
            [{"key": "/data", "path": str(self.target.data)}],
            address="127.0.0.1",
            criu_path=str(self.target.criu),
            pid_file=str(self.target.folder / "redis.pid"),
        )
        Path(self.send.pid_file or "").write_text(f"{PID}\n")
        # The played CRIU knows the command line alone; the other way is tested in test_standby.py and by Molecule.
        self.set(TARGET, receiver, "Standby", NoStandby)
        self.agents: dict[str, int] = {}
        self.statuses: dict[str, int] = {}

    def ask(self, side: str, **changes: Any) -> None:
        """Change what one side is asked to do."""
        if side == SOURCE:
            self.send = replace(self.send, **changes)
        else:
            self.receive = replace(self.receive, **changes)

    def hook(self, side: str, moment: str, *command: str, required: bool = True) -> None:
        """Have a command run at a moment, after those that were given before."""
        request: Requests = self.send if side == SOURCE else self.receive
        listed = [*request.hooks.get(moment, ()), {"command": list(command), "required": required}]
        self.ask(side, hooks={**request.hooks, moment: listed})

    def cut(self, side: str, kind: str, after: bool, count: int = 1, lasts: bool = False) -> None:
        """Cut the link when this side says a message of this kind for the `count`-th time, before or after it.

        If it `lasts`, the same becomes of each one after it.
        """
        self.hosts[side].setups.append(lambda: _cut_at(kind, after, count, lasts))

    def set(self, side: str, target: Any, name: str, value: Any) -> None:
        """Change an attribute in the process of one side alone."""
        self.hosts[side].setups.append(lambda: setattr(target, name, value))

    def run(self) -> None:
        """The whole handoff, until both agents have ended."""
        self.arm()
        self.start(SOURCE, sender.main, self.send)
        self.wait()

    def arm(self) -> None:
        """Start the target and wait until it listens."""
        self.start(TARGET, receiver.main, self.receive)
        until = time.monotonic() + PATIENCE
        port = None
        while port is None and not self._has_ended(TARGET):
            assert time.monotonic() < until, "the target does not listen"
            time.sleep(0.002)
            progress = self.target.runtime / PROGRESS
            port = read_json(progress).get("port") if progress.exists() else None
        self.send = replace(self.send, port=port or 1)

    def start(self, side: str, main: Callable[[str], int], request: Requests) -> None:
        """Fork an agent."""
        host = self.hosts[side]
        write_json(host.runtime / REQUEST, asdict(request))
        with warnings.catch_warnings():
            # Other tests may have left threads behind; the child needs none of them.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _be_agent(host, main)
        self.agents[side] = pid

    def stop(self, side: str, number: int = signal.SIGTERM) -> None:
        """Send a signal to an agent."""
        _real_kill(self.agents[side], number)

    def wait(self) -> None:
        """Wait until all agents have ended."""
        until = time.monotonic() + PATIENCE
        while self.agents:
            for side in list(self.agents):
                self._has_ended(side)
            if time.monotonic() > until:
                self.kill()
                raise AssertionError(f"the agents hang: {self.source.log()}\n---\n{self.target.log()}")
            time.sleep(0.002)
        for host in self.hosts.values():
            crash = host.folder / "crash"
            assert not crash.exists(), crash.read_text()

    def kill(self) -> None:
        """End whatever is left."""
        for side, pid in self.agents.items():
            _real_kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self.statuses[side] = -signal.SIGKILL
        self.agents.clear()
        for host in self.hosts.values():
            host.end_criu()

    def settle(
        self,
        side: str,
        peer: Outcome = Outcome.UNKNOWN,
        check_only: bool = False,
        journal: Mapping[str, Any] | None = None,
        copy: ProcIdentity | None = None,
    ) -> Settled:
        """Settle one side, in a process of its own like the module. Without a `journal` it is a person's word."""
        host, known = self.hosts[side], Peer(peer, journal, copy)
        return settle_here(host, lambda: settle(HANDOFF, side, known, 0.1, host.proc, host, check_only))

    def settle_both(self) -> tuple[Outcome, Outcome]:
        """As the role does it: the target, the source, the target again. Gives the outcomes of source and target."""
        target = self.settle(TARGET)
        journal = target.record.identity if target.record else {}
        source = self.settle(SOURCE, target.outcome, journal=journal, copy=ProcIdentity(PID, START))
        return source.outcome, self.settle(TARGET, source.outcome).outcome

    def lives(self) -> tuple[str, str]:
        """The states of the copies at source and target."""
        return self.source.state(PID), self.target.state(RESTORED)

    def _has_ended(self, side: str) -> bool:
        if side in self.agents:
            pid, status = os.waitpid(self.agents[side], os.WNOHANG)
            if pid:
                self.statuses[side] = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
                del self.agents[side]
        return side not in self.agents


def settle_here(host: Host, work: Callable[[], Settled]) -> Settled:
    """Do something in this process as if it were on that host."""
    saved: list[tuple[Any, str, Any]] = []

    def replace_attribute(target: Any, name: str, value: Any) -> None:
        saved.append((target, name, getattr(target, name)))
        setattr(target, name, value)

    redirect(host.here, replace_attribute)
    replace_attribute(os, "kill", _kill_on(host))
    try:
        return work()
    finally:
        for target, name, value in reversed(saved):
            setattr(target, name, value)


def _be_agent(host: Host, main: Callable[[str], int]) -> None:
    status = 70
    try:
        host.enter()
        os.environ.pop("NOTIFY_SOCKET", None)
        os.kill = _kill_on(host)
        for module in (sender, receiver):
            module.SubprocessRunner = lambda is_prepared: host
            module.Proc = lambda: host.proc
            module._END_SECONDS = host.end_seconds
        receiver.PrivateMounts = FakePrivateMounts
        for setup in host.setups:
            setup()
        status = main(str(host.runtime))
    except BaseException:
        (host.folder / "crash").write_text(traceback.format_exc())
    finally:
        os._exit(status)


def _kill_on(host: Host) -> Callable[[int, int], None]:
    def kill(pid: int, number: int) -> None:
        assert pid > 1, "nobody may signal whole groups"
        if pid < PID:
            _real_kill(pid, number)
            return
        process = host.proc.folder / str(pid)
        state = state_of(process)
        if not state:
            raise ProcessLookupError
        if number == signal.SIGKILL:
            streaming_criu.remove(process)
        elif number == signal.SIGSTOP:
            (process / "stop").touch()
            if state != "t":
                streaming_criu.set_state(process, "T")
        elif number == signal.SIGCONT:
            if (process / "stop").exists():
                (process / "stop").unlink()
            if state == "T":
                streaming_criu.set_state(process, "S")
        else:
            raise AssertionError(f"nobody should send signal {number}")

    return kill


def _cut_at(kind: str, after: bool, count: int, lasts: bool) -> None:
    send = channel.Channel.send_until
    left = count
    links: list[socket.socket] = []

    def send_and_cut(self: channel.Channel, message: Message, deadline: float | None) -> None:
        nonlocal left
        links.append(self._socket)
        left -= message.kind == kind
        cuts = message.kind == kind and (left == 0 or (lasts and left < 0))
        if cuts and not after:
            _cut(links)
        send(self, message, deadline)
        if cuts and after:
            _cut(links)

    channel.Channel.send_until = send_and_cut  # type: ignore[method-assign]


def _cut(links: Sequence[socket.socket]) -> None:
    for link in links:
        with contextlib.suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)


def _is_criu(pid: int, program: Path) -> bool:
    try:
        return os.fsencode(program) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
