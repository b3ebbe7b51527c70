# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed
from ansible_collections.fleet.criu.plugins.module_utils._transfer import send as subject
from ansible_collections.fleet.criu.plugins.module_utils._transfer.receive import transfer_folder
from ansible_collections.fleet.criu.plugins.module_utils._transfer.send import Copy, Receiving, forget, make_key, send
from ansible_collections.fleet.criu.tests.unit.fakes import HOST_MOUNTS, FakeProc, FakeRunner

PUBLIC = "ssh-ed25519 AAAA fleet.criu:redis"
TARGET = Receiving("10.0.0.2", ["ssh-ed25519 AAAA root@a", "ssh-rsa BBBB"])
DONE = Completed(0, "Number of files: 3\nTotal bytes sent: 1,234,567\nTotal bytes received: 99\n")


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.fixture(autouse=True)
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    monkeypatch.setattr(os, "sync", lambda: calls.append("sync"))
    return calls


@pytest.fixture(autouse=True)
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Say what the host has mounted."""
    proc = FakeProc(tmp_path / "proc")
    monkeypatch.setattr(subject, "Proc", lambda: proc)

    def mount(mountpoint: str) -> None:
        with (proc.folder / "self" / "mountinfo").open("a") as stream:
            stream.write(f"99 21 8:9 / {mountpoint} rw - ext4 a rw\n")

    return mount


def keygen(command: Command) -> Completed:
    key = Path(list(command.argv)[-1])
    key.write_text("private")
    key.with_suffix(".pub").write_text(f"{PUBLIC}\n")
    return Completed(0)


@pytest.fixture
def prepared() -> Path:
    make_key("redis", FakeRunner({("ssh-keygen",): keygen}))
    return transfer_folder("redis")


def argv(copy: Copy, target: Receiving = TARGET, **options: Any) -> list[str]:
    runner = FakeRunner({("rsync",): DONE})
    send("redis", target, [copy], options.get("live", False), runner)
    return runner.argvs[0]


# The key


def test_a_key_is_made_for_this_transfer_and_its_public_half_told(host: Path) -> None:
    runner = FakeRunner({("ssh-keygen",): keygen})
    assert make_key("redis", runner) == PUBLIC
    key = str(host / "run" / "redis" / "id")
    assert runner.argvs == [["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "fleet.criu:redis", "-f", key]]
    assert (host / "run" / "redis").stat().st_mode & 0o777 == 0o700


def test_a_key_that_was_made_before_is_used_again(prepared: Path) -> None:
    assert make_key("redis", FakeRunner()) == PUBLIC


def test_a_key_that_cannot_be_made_is_an_error() -> None:
    with pytest.raises(CommandFailed, match="ssh-keygen failed: no entropy") as caught:
        make_key("redis", FakeRunner({("ssh-keygen",): Completed(1, "", "no entropy\n")}))
    assert caught.value.facts == {"rc": 1}


@pytest.mark.parametrize("program", ["rsync", "ssh", "ssh-keygen"])
def test_programs_that_are_needed_must_be_installed(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == program else name)
    with pytest.raises(CriuError, match=f"^{program} is not installed here"):
        make_key("redis", FakeRunner())


def test_a_name_that_could_be_more_than_a_name_is_refused() -> None:
    with pytest.raises(CriuError, match="cannot be the name"):
        make_key("../redis", FakeRunner())


# Sending


def test_a_folder_is_made_equal_with_exactly_these_words(prepared: Path) -> None:
    found = argv(Copy("/srv/data", "data"))
    (shell,) = [word for word in found if word.startswith("--rsh=")]
    assert found == [
        "rsync",
        "-aHAXS",
        "--numeric-ids",
        "--modify-window=-1",
        "--stats",
        "--delete",
        shell,
        "--",
        "/srv/data/",
        "root@10.0.0.2::data/",
    ]


def test_the_remote_shell_trusts_only_the_keys_that_were_told(prepared: Path) -> None:
    target = Receiving("h", TARGET.host_keys, port=2222, user="mover")
    (shell,) = [word for word in argv(Copy("/srv", "m"), target) if word.startswith("--rsh=")]
    words = shlex.split(shell[len("--rsh=") :])
    assert words[:5] == ["ssh", "-F", "/dev/null", "-p", "2222"]
    assert words[5::2] == ["-o"] * 12
    assert dict(word.split("=", 1) for word in words[6::2]) == {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityFile": str(prepared / "id"),
        "UserKnownHostsFile": str(prepared / "known_hosts"),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlias": "fleet.criu",
        "ConnectTimeout": "15",
        "ServerAliveInterval": "10",
        "ControlMaster": "auto",
        "ControlPath": str(prepared / "ssh"),
        "ControlPersist": "300",
    }
    assert (prepared / "known_hosts").read_text() == "fleet.criu ssh-ed25519 AAAA root@a\nfleet.criu ssh-rsa BBBB\n"


@pytest.mark.parametrize(
    ("target", "destination"),
    [
        (Receiving("10.0.0.2", [], user="mover"), "mover@10.0.0.2::m/"),
        (Receiving("fd00::2", []), "root@[fd00::2]::m/"),
        (Receiving("node.example", []), "root@node.example::m/"),
    ],
)
def test_the_destination_is_a_module_of_the_target(prepared: Path, target: Receiving, destination: str) -> None:
    assert argv(Copy("/srv", "m"), target)[-1] == destination


@pytest.mark.parametrize(
    ("path", "source"), [("/srv/data", "/srv/data/"), ("/srv/data/", "/srv/data/"), ("/", "/"), ("-x", "-x/")]
)
def test_a_folder_s_contents_are_sent_and_not_the_folder(prepared: Path, path: str, source: str) -> None:
    found = argv(Copy(path, "m"))
    assert found[found.index("--") + 1] == source


def test_a_file_is_sent_to_its_name_and_nothing_is_deleted(prepared: Path) -> None:
    found = argv(Copy("/etc/app.conf", "conf", "new.conf"))
    assert found[-2:] == ["/etc/app.conf", "root@10.0.0.2::conf/new.conf"]
    assert "--delete" not in found


def test_what_the_host_has_mounted_below_is_left_out(prepared: Path, mounted: Callable[[str], None]) -> None:
    for mountpoint in ("/srv/data/b", "/srv/data/a*[x]?/c", "/srv/data/a*[x]?/c", "/srv/data2", "/srv", "/srv/data"):
        mounted(mountpoint)
    found = argv(Copy("/srv/data", "m"))
    assert [word for word in found if word.startswith("--exclude")] == [
        r"--exclude=/a\*\[x]\?/c/**",
        "--exclude=/b/**",
    ]
    assert found.index("--exclude=/b/**") < found.index("--")


def test_what_is_mounted_below_is_found_through_a_symlink(
    prepared: Path, tmp_path: Path, mounted: Callable[[str], None]
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    mounted(f"{(tmp_path / 'real').resolve()}/sub")
    assert "--exclude=/sub/**" in argv(Copy(str(tmp_path / "link"), "m"))


def test_each_copy_is_sent_in_its_order_and_told(prepared: Path) -> None:
    runner = FakeRunner({("rsync",): DONE})
    found = send("redis", TARGET, [Copy("/b", "m1"), Copy("/a", "m2")], False, runner)
    assert [words[-1] for words in runner.argvs] == ["root@10.0.0.2::m1/", "root@10.0.0.2::m2/"]
    assert [(copy["path"], copy["bytes"]) for copy in found] == [("/b", 1234567), ("/a", 1234567)]
    assert all(0 <= copy["seconds"] < 60 for copy in found)


def test_bytes_that_rsync_did_not_tell_are_none(prepared: Path) -> None:
    assert send("redis", TARGET, [Copy("/a", "m")], False, FakeRunner({("rsync",): Completed(0)}))[0]["bytes"] == 0


def test_only_a_live_copy_writes_back_what_is_cached(prepared: Path, synced: list[str]) -> None:
    send("redis", TARGET, [Copy("/a", "m"), Copy("/b", "m")], False, FakeRunner({("rsync",): DONE}))
    assert synced == []
    send("redis", TARGET, [Copy("/a", "m"), Copy("/b", "m")], True, FakeRunner({("rsync",): DONE}))
    assert synced == ["sync"]


def test_files_that_vanish_are_an_error_unless_the_workload_runs(prepared: Path) -> None:
    vanished = FakeRunner({("rsync",): Completed(24, "Total bytes sent: 5\n", "file has vanished")})
    assert send("redis", TARGET, [Copy("/a", "m")], True, vanished)[0]["bytes"] == 5
    with pytest.raises(CommandFailed, match="exit status 24"):
        send("redis", TARGET, [Copy("/a", "m")], False, vanished)


@pytest.mark.parametrize("live", [True, False])
def test_a_copy_that_fails_ends_the_sending_with_rsync_s_last_words(prepared: Path, live: bool) -> None:
    runner = FakeRunner({("rsync",): Completed(23, "", "1\n2\n3\n4\n5\n")})
    with pytest.raises(CommandFailed) as caught:
        send("redis", TARGET, [Copy("/a", "m"), Copy("/b", "m")], live, runner)
    assert caught.value.message == "Copying /a to 10.0.0.2 failed (rsync exit status 23): 2 | 3 | 4 | 5"
    assert caught.value.facts == {"path": "/a", "rc": 23}
    assert len(runner.commands) == 1


def test_without_a_key_nothing_is_sent() -> None:
    with pytest.raises(CriuError, match="The transfer redis has no key here"):
        send("redis", TARGET, [Copy("/a", "m")], False, FakeRunner())


# Forgetting


def test_forgetting_removes_the_key(prepared: Path) -> None:
    assert forget("redis", FakeRunner()) is True
    assert not prepared.exists()
    assert forget("redis", FakeRunner()) is False


def test_forgetting_closes_a_connection_that_is_open(prepared: Path) -> None:
    (prepared / "ssh").touch()
    runner = FakeRunner({("ssh",): Completed(255)})
    assert forget("redis", runner) is True
    assert runner.argvs == [["ssh", "-o", f"ControlPath={prepared / 'ssh'}", "-O", "exit", "fleet.criu"]]
    assert not prepared.exists()


def test_forgetting_one_transfer_keeps_the_others(prepared: Path) -> None:
    make_key("other", FakeRunner({("ssh-keygen",): keygen}))
    forget("redis", FakeRunner())
    assert transfer_folder("other").exists()


def test_the_host_s_mounts_are_those_of_the_fake() -> None:
    assert subject.Proc().mountinfo("self") == HOST_MOUNTS
