# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pwd
import shutil
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed
from ansible_collections.fleet.criu.plugins.module_utils._transfer.receive import (
    Receiver,
    arm,
    disarm,
    is_armed,
    transfer_folder,
)
from ansible_collections.fleet.criu.tests.unit.fakes import FakeRunner

KEY = "ssh-ed25519 AAAAC3Nza+/=="
SSHD = "/usr/sbin/sshd"
OTHERS = '# comment\n\nssh-rsa AAAAB3 me@redis\ncommand="x" ssh-rsa AAAA fleet.criu:older\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of the user that receives; it is ourselves whatever its name."""
    folder = tmp_path / "home"
    folder.mkdir()

    def account(name: str) -> Any:
        if name == "nobody-here":
            raise KeyError(name)
        return pwd.struct_passwd((name, "x", os.getuid(), os.getgid(), "", str(folder), "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwnam", account)
    monkeypatch.setattr(shutil, "which", programs("rsync", "sshd"))
    return folder


def programs(*installed: str) -> Callable[..., str | None]:
    return lambda name, **options: f"/usr/sbin/{name}" if name in installed else None


@pytest.fixture
def keys(home: Path) -> Path:
    folder = home / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "authorized_keys").write_text(OTHERS)
    return folder / "authorized_keys"


@pytest.fixture
def sshd() -> FakeRunner:
    return FakeRunner(
        {
            (SSHD, "-T"): Completed(
                0, "port 22\nhostkey /etc/a key\nhostkeyalgorithms x\nhostkey /etc/b\nhostkey /etc/c\n"
            ),
            ("ssh-keygen", "-y", "-f", "/etc/a key"): Completed(0, "ssh-ed25519 AAAA root@a\n"),
            ("ssh-keygen", "-y", "-f", "/etc/b"): Completed(255, "", "no such file"),
            ("ssh-keygen", "-y", "-f", "/etc/c"): Completed(0, "ssh-rsa BBBB\n"),
        }
    )


def receiver(folder: Path, **changes: Any) -> Receiver:
    return Receiver(**{"name": "redis", "modules": {"data": str(folder / "in")}, "public_key": KEY, **changes})


def lines(keys: Path) -> list[str]:
    return keys.read_text().splitlines()


# Names


@pytest.mark.parametrize("name", ["redis", "redis-7.2_a", "A", "_"])
def test_a_transfer_has_a_folder_of_its_name(host: Path, name: str) -> None:
    assert transfer_folder(name) == host / "run" / name


@pytest.mark.parametrize("name", ["", ".", "..", "...", ".lock", "a/b", "../a", "a b", "a\n", 'a"', "é", "$(x)", "a,b"])
def test_a_name_that_could_be_more_than_a_name_is_refused(name: str) -> None:
    with pytest.raises(CriuError, match="cannot be the name of a transfer"):
        transfer_folder(name)


# Arming


def test_arming_gives_the_host_keys_that_sshd_offers_and_can_be_read(
    keys: Path, sshd: FakeRunner, tmp_path: Path
) -> None:
    assert arm(receiver(tmp_path), sshd) == ["ssh-ed25519 AAAA root@a", "ssh-rsa BBBB"]


def test_the_key_may_do_nothing_but_fill_these_paths_and_only_for_a_time(
    keys: Path, sshd: FakeRunner, tmp_path: Path, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    arm(receiver(tmp_path, public_key=f" {KEY} fleet.criu:redis\n", lifetime_seconds=3600), sshd)
    expiry = time.strftime("%Y%m%d%H%M", time.localtime(1_700_003_600))
    command = f"rsync --server --daemon --config={host}/run/redis/rsyncd.conf ."
    assert lines(keys) == [
        *OTHERS.splitlines(),
        f'restrict,expiry-time="{expiry}",command="{command}" {KEY} fleet.criu:redis',
    ]


def test_a_comment_of_the_key_is_left_out(keys: Path, sshd: FakeRunner, tmp_path: Path) -> None:
    arm(receiver(tmp_path, public_key=f"{KEY} evil\nssh-rsa AAAA second"), sshd)
    assert len(lines(keys)) == len(OTHERS.splitlines()) + 1
    assert lines(keys)[-1].endswith(f"{KEY} fleet.criu:redis")


def test_arming_again_replaces_the_own_line_alone(keys: Path, sshd: FakeRunner, tmp_path: Path) -> None:
    arm(receiver(tmp_path), sshd)
    arm(receiver(tmp_path, public_key="ssh-ed25519 NEW"), sshd)
    assert lines(keys)[:-1] == OTHERS.splitlines()
    assert "ssh-ed25519 NEW fleet.criu:redis" in lines(keys)[-1]


def test_two_transfers_have_a_line_each(keys: Path, sshd: FakeRunner, tmp_path: Path) -> None:
    arm(receiver(tmp_path, name="x-redis"), sshd)
    arm(receiver(tmp_path), sshd)
    assert [line.rpartition(" ")[2] for line in lines(keys)[-2:]] == ["fleet.criu:x-redis", "fleet.criu:redis"]


def test_a_user_without_keys_gets_a_folder_and_file_for_himself_alone(
    home: Path, sshd: FakeRunner, tmp_path: Path
) -> None:
    arm(receiver(tmp_path), sshd)
    assert (home / ".ssh").stat().st_mode & 0o777 == 0o700
    assert (home / ".ssh" / "authorized_keys").stat().st_mode & 0o777 == 0o600
    assert len(lines(home / ".ssh" / "authorized_keys")) == 1


def test_folder_and_file_are_the_user_s(
    home: Path, sshd: FakeRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned: list[tuple[Path, int, int]] = []
    monkeypatch.setattr(os, "chown", lambda path, user, group: owned.append((Path(path), user, group)))
    arm(receiver(tmp_path), sshd)
    us = (os.getuid(), os.getgid())
    assert owned == [(home / ".ssh", *us), (home / ".ssh" / "authorized_keys", *us)]


def test_a_symlinked_file_stays_a_symlink(home: Path, keys: Path, sshd: FakeRunner, tmp_path: Path) -> None:
    real = home / "real_keys"
    keys.rename(real)
    keys.symlink_to(real)
    arm(receiver(tmp_path), sshd)
    assert keys.is_symlink()
    assert len(lines(real)) == len(OTHERS.splitlines()) + 1


def test_other_lines_are_kept_byte_by_byte(keys: Path, sshd: FakeRunner, tmp_path: Path) -> None:
    others = b"ssh-rsa AAAA caf\xe9\n"
    keys.write_bytes(others)
    arm(receiver(tmp_path), sshd)
    assert keys.read_bytes().startswith(others)


@pytest.mark.parametrize("character", ["\x0c", "\x0b", "\x85", "\u2028", "\x1c"])
def test_other_lines_are_parted_at_newlines_alone(keys: Path, sshd: FakeRunner, tmp_path: Path, character: str) -> None:
    others = f"ssh-rsa AAAA a{character}b\n"
    keys.write_text(others, "utf-8")
    arm(receiver(tmp_path), sshd)
    assert keys.read_text("utf-8").startswith(others)


def test_the_configuration_names_the_paths_and_nothing_else(
    keys: Path, sshd: FakeRunner, tmp_path: Path, host: Path
) -> None:
    modules = {"data": f"{tmp_path}/in", "root": f"{tmp_path}/a b [c] \\", "slash": f"{tmp_path}/s/"}
    arm(receiver(tmp_path, modules=modules), sshd)
    configuration = host / "run" / "redis" / "rsyncd.conf"
    assert configuration.stat().st_mode & 0o777 == 0o600
    assert configuration.parent.stat().st_mode & 0o777 == 0o700
    head, *sections = configuration.read_text().split("\n\n[")
    assert head.splitlines()[1:] == [
        "use chroot = yes",
        "munge symlinks = no",
        "uid = 0",
        "gid = 0",
        "read only = no",
        "write only = yes",
        "list = no",
        "reverse lookup = no",
    ]
    assert [section.strip("\n") for section in sections] == [
        f"data]\npath = {tmp_path}/in/",
        f"root]\npath = {tmp_path}/a b [c] \\/",
        f"slash]\npath = {tmp_path}/s/",
    ]


def test_paths_that_are_missing_are_made_for_their_owner_alone(keys: Path, sshd: FakeRunner, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    (tmp_path / "there" / "file").touch()
    arm(receiver(tmp_path, modules={"a": f"{tmp_path}/new/deep", "b": f"{tmp_path}/there"}), sshd)
    assert (tmp_path / "new" / "deep").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "there" / "file").exists()


def test_a_path_that_rsync_cannot_be_told_of_is_refused_before_the_key_is_written(
    keys: Path, sshd: FakeRunner, tmp_path: Path
) -> None:
    with pytest.raises(CriuError, match="rsync cannot be told of the path"):
        arm(receiver(tmp_path, modules={"a": f"{tmp_path}/a\n[all]"}), sshd)
    assert keys.read_text() == OTHERS


@pytest.mark.parametrize("key", ["", "rsa AAAA", "ssh-ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----", 'x" ssh-rsa A'])
def test_what_is_no_public_key_is_refused(keys: Path, sshd: FakeRunner, tmp_path: Path, key: str) -> None:
    with pytest.raises(CriuError, match="is no ssh key"):
        arm(receiver(tmp_path, public_key=key), sshd)
    assert keys.read_text() == OTHERS


def test_rsync_and_sshd_must_be_installed(
    keys: Path, sshd: FakeRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", programs("sshd"))
    with pytest.raises(CriuError, match="rsync is not installed here"):
        arm(receiver(tmp_path), sshd)
    monkeypatch.setattr(shutil, "which", programs("rsync"))
    with pytest.raises(CriuError, match="sshd is not installed here"):
        arm(receiver(tmp_path), sshd)


@pytest.mark.parametrize("output", ["", "port 22\n", "hostkey /etc/b\n"])
def test_an_sshd_without_host_key_is_refused(keys: Path, sshd: FakeRunner, tmp_path: Path, output: str) -> None:
    sshd.answers[(SSHD, "-T")] = Completed(1, output, "sshd: no hostkeys available -- exiting.\n")
    with pytest.raises(CriuError, match=r"no host key that could be read here\. sshd: no hostkeys available"):
        arm(receiver(tmp_path), sshd)
    assert keys.read_text() == OTHERS


def test_a_user_that_does_not_exist_is_refused(home: Path, sshd: FakeRunner, tmp_path: Path) -> None:
    with pytest.raises(CriuError, match="There is no user nobody-here here"):
        arm(receiver(tmp_path, user="nobody-here"), sshd)


# Disarming


def test_disarming_takes_the_own_line_and_the_folder_away_and_keeps_the_rest(
    keys: Path, sshd: FakeRunner, tmp_path: Path, host: Path
) -> None:
    arm(receiver(tmp_path), sshd)
    arm(receiver(tmp_path, name="other"), sshd)
    disarm("redis")
    assert not is_armed("redis")
    assert lines(keys)[:-1] == OTHERS.splitlines()
    assert lines(keys)[-1].endswith(" fleet.criu:other")
    assert sorted(path.name for path in (host / "run").iterdir() if path.is_dir()) == ["other"]
    assert (tmp_path / "in").is_dir()


def test_disarming_again_changes_nothing(keys: Path, sshd: FakeRunner, tmp_path: Path) -> None:
    arm(receiver(tmp_path), sshd)
    disarm("redis")
    before = keys.stat().st_ino
    disarm("redis")
    assert keys.stat().st_ino == before
    assert keys.read_text() == OTHERS


def test_what_is_armed_is_told_by_the_key_or_the_folder(keys: Path, sshd: FakeRunner, tmp_path: Path) -> None:
    assert not is_armed("redis9")
    arm(receiver(tmp_path, name="redis9"), sshd)
    assert is_armed("redis9")
    shutil.rmtree(transfer_folder("redis9"))
    assert is_armed("redis9")
    keys.unlink()
    assert not is_armed("redis9")
    transfer_folder("redis9").mkdir()
    assert is_armed("redis9")


def test_a_transfer_whose_name_begins_alike_is_another(keys: Path, sshd: FakeRunner, tmp_path: Path) -> None:
    arm(receiver(tmp_path, name="redis2"), sshd)
    assert not is_armed("redis")


def test_disarming_keeps_the_lines_of_transfers_and_keys_with_a_name_that_is_like_it(
    keys: Path, sshd: FakeRunner, tmp_path: Path
) -> None:
    keys.write_text("ssh-rsa AAAAB3 xfleet.criu:redis\n")
    arm(receiver(tmp_path, name="redis2"), sshd)
    arm(receiver(tmp_path, name="redis"), sshd)
    disarm("redis")
    assert [line.rpartition(" ")[2] for line in lines(keys)] == ["xfleet.criu:redis", "fleet.criu:redis2"]


def test_without_any_keys_nothing_is_armed_and_disarming_makes_none(home: Path) -> None:
    assert not is_armed("redis")
    disarm("redis")
    assert not (home / ".ssh").exists()
