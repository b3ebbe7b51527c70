# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in really runs here, as an engine would start it; what it becomes is a shell script."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._criu.stage import POST_DUMP, Stages, answer_stage
from ansible_collections.fleet.criu.plugins.module_utils._engine.stand_in import READY, make_stand_in

# CRIU's images/rpc.proto, enum criu_req_type.
DUMP, RESTORE, CHECK, VERSION = 1, 2, 3, 6
PATIENCE = 20.0

CRIU = """#!/bin/sh
echo "$0 $*" >"{folder}/book"
echo "${{CRIU_CONFIG_FILE-none}}" >>"{folder}/book"
exit 7
"""


def message(kind: int) -> bytes:
    """A request of this type, with options that the stand-in does not understand."""
    return b"\x08" + bytes([kind]) + b"\x12\x04\x18\x2a\x20\x01"


class Bench:
    """An engine with its end of the socket, the stand-in, and what plays CRIU."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.criu = folder / "real criu"
        self.criu.write_text(CRIU.format(folder=folder))
        self.criu.chmod(0o755)
        self.stand_in = folder / "stand-in"
        self.environment = dict(make_stand_in(self.stand_in, str(self.criu), "/run/action", Options()))
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def wait_with(self, stages: Stages) -> None:
        """Make it again, so that it waits."""
        self.environment = dict(make_stand_in(self.stand_in, str(self.criu), "/run/action", Options(), stages.folder))

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        words = arguments or ("swrk", str(self.theirs.fileno()))
        environment = {**os.environ, **self.environment}
        environment.pop("PYTHONPATH", None)
        return subprocess.Popen(["criu", *words], env=environment, pass_fds=[self.theirs.fileno()])

    def run(self, *arguments: str) -> int:
        return self.start(*arguments).wait(PATIENCE)

    def book(self) -> list[str]:
        """How CRIU was called, and with which configuration; nothing if it was not."""
        path = self.folder / "book"
        return path.read_text().splitlines() if path.exists() else []

    def left(self) -> bytes:
        """What CRIU would read from its socket."""
        self.theirs.setblocking(False)
        return self.theirs.recv(4096)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[Stages]:
    with Stages({READY: lambda pid: None, POST_DUMP: lambda pid: None}, tmp_path / "stages") as opened:
        yield opened


def asked(stages: Stages) -> tuple[str, int] | None:
    """What is asked within a while."""
    readable, _writable, _failed = select.select([stages], [], [], PATIENCE)
    return stages.asked() if readable else None


# What it becomes


@pytest.mark.parametrize("kind", [DUMP, RESTORE])
def test_for_a_dump_or_restore_criu_gets_our_configuration_and_the_message(bench: Bench, kind: int) -> None:
    bench.ours.send(message(kind))
    assert bench.run() == 7, "its exit status is CRIU's"
    assert bench.book() == [f"{bench.criu} swrk {bench.theirs.fileno()}", f"{bench.stand_in}/criu.conf"]
    assert bench.left() == message(kind), "it was looked at and not taken"


@pytest.mark.parametrize("kind", [CHECK, VERSION])
def test_what_is_neither_goes_straight_through(bench: Bench, stages: Stages, kind: int) -> None:
    bench.wait_with(stages)
    bench.ours.send(message(kind))
    assert bench.run() == 7
    assert bench.book() == [f"{bench.criu} swrk {bench.theirs.fileno()}", "none"]
    assert bench.left() == message(kind)
    assert stages.asked() is None


@pytest.mark.parametrize("arguments", [["--version"], ["check", "--feature", "userns"], ["swrk", "x"], ["swrk"]])
def test_other_commands_go_straight_through_and_touch_no_socket(
    bench: Bench, stages: Stages, arguments: list[str]
) -> None:
    bench.wait_with(stages)
    assert bench.run(*arguments) == 7
    assert bench.book() == [f"{bench.criu} {' '.join(arguments)}", "none"]
    assert stages.asked() is None


def test_an_engine_that_ends_without_a_word_is_criu_s_affair(bench: Bench, stages: Stages) -> None:
    bench.wait_with(stages)
    bench.ours.close()
    assert bench.run() == 7
    assert bench.book()[1] == "none"


@pytest.mark.parametrize("arguments", [["dump", "-t", "42", "-D", "/images"], ["restore", "--root", "/r"]])
def test_an_engine_may_ask_by_arguments_too(bench: Bench, stages: Stages, arguments: list[str]) -> None:
    assert bench.run(*arguments) == 7
    expected = [f"{bench.criu} {' '.join(arguments)}", f"{bench.stand_in}/criu.conf"]
    assert bench.book() == expected
    (bench.folder / "book").unlink()
    bench.wait_with(stages)
    process = bench.start(*arguments)
    assert asked(stages) == (READY, process.pid)
    assert bench.book() == []
    stages.answer(READY, True)
    assert process.wait(PATIENCE) == 7
    assert bench.book() == expected


# Waiting


@pytest.mark.parametrize("kind", [DUMP, RESTORE])
def test_criu_begins_only_when_it_was_told_to(bench: Bench, stages: Stages, kind: int) -> None:
    bench.wait_with(stages)
    bench.ours.send(message(kind))
    process = bench.start()
    assert asked(stages) == (READY, process.pid), "CRIU will have the pid of the stand-in"
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.3)
    assert (process.poll(), bench.book()) == (None, [])
    stages.answer(READY, True)
    assert process.wait(PATIENCE) == 7
    assert bench.book() == [f"{bench.criu} swrk {bench.theirs.fileno()}", f"{bench.stand_in}/criu.conf"]
    assert bench.left() == message(kind)


def test_a_refusal_ends_it_before_criu_has_begun(bench: Bench, stages: Stages) -> None:
    bench.wait_with(stages)
    bench.ours.send(message(RESTORE))
    process = bench.start()
    assert asked(stages) is not None
    stages.answer(READY, False)
    assert process.wait(PATIENCE) == 1
    assert bench.book() == []


def test_our_death_is_a_refusal(bench: Bench, tmp_path: Path) -> None:
    with Stages({READY: lambda pid: None}, tmp_path / "stages") as stages:
        bench.wait_with(stages)
        bench.ours.send(message(DUMP))
        process = bench.start()
        assert asked(stages) is not None
    assert process.wait(PATIENCE) == 1
    assert bench.book() == []


def test_an_answer_that_was_given_before_counts(bench: Bench, stages: Stages) -> None:
    bench.wait_with(stages)
    stages.answer(READY, False)
    bench.ours.send(message(RESTORE))
    assert bench.run() == 1
    assert bench.book() == []


def test_the_answer_of_another_stage_does_not_count(bench: Bench, stages: Stages) -> None:
    bench.wait_with(stages)
    answer_stage(stages.folder, POST_DUMP, True)
    bench.ours.send(message(DUMP))
    process = bench.start()
    assert asked(stages) is not None
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.3)
    assert process.poll() is None
    stages.answer(READY, False)
    assert process.wait(PATIENCE) == 1


# What is made


def test_criu_is_given_our_script_and_what_engines_know_nothing_of(tmp_path: Path) -> None:
    options = Options(
        tcp_established=True, link_remap=True, network_lock="nftables", ghost_limit=1 << 20, timeout=30, shell_job=True
    )
    make_stand_in(tmp_path / "made", "/usr/sbin/criu", "/run/stages/action", options)
    assert (tmp_path / "made" / "criu.conf").read_text().splitlines() == [
        "action-script /run/stages/action",
        "link-remap",
        "network-lock nftables",
        "ghost-limit 1048576",
        "timeout 30",
    ]


def test_criu_is_given_what_else_it_must_know(tmp_path: Path) -> None:
    make_stand_in(tmp_path / "made", "/usr/sbin/criu", "/run/action", Options(), None, ["external mnt[/a]:/a"])
    assert (tmp_path / "made" / "criu.conf").read_text() == "action-script /run/action\nexternal mnt[/a]:/a\n"


def test_what_was_not_asked_for_is_left_to_criu(bench: Bench) -> None:
    assert (bench.stand_in / "criu.conf").read_text() == "action-script /run/action\n"


def test_a_path_with_a_blank_is_quoted(tmp_path: Path) -> None:
    make_stand_in(tmp_path / "made", "/usr/sbin/criu", "/run/a b/action", Options())
    assert (tmp_path / "made" / "criu.conf").read_text() == 'action-script "/run/a b/action"\n'


def test_it_is_found_first_and_is_for_root_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    environment = make_stand_in(bench.stand_in, str(bench.criu), "/run/action", Options())
    assert environment == {"PATH": f"{bench.stand_in}:/usr/bin:/bin"}
    assert (bench.stand_in / "criu").stat().st_mode & 0o777 == 0o700
    assert bench.stand_in.stat().st_mode & 0o777 == 0o700
