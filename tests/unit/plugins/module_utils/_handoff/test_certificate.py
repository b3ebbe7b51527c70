# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.certificate import Identity, destroy, make_identity
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Completed, SubprocessRunner
from ansible_collections.fleet.criu.tests.unit.fakes import FakeRunner


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "handoff" / "redis"


@pytest.fixture
def identity(folder: Path) -> Identity:
    return make_identity(folder, "redis", SubprocessRunner())


def careless(command: Command, while_running: object = None) -> Completed:
    """A runner that keeps nothing secret by itself."""
    done = subprocess.run(list(command.argv), capture_output=True, text=True, check=False)
    return Completed(done.returncode, done.stdout, done.stderr)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def shown(identity: Identity) -> str:
    command = ["openssl", "x509", "-in", str(identity.certificate), "-noout", "-text"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_certificate_has_a_new_p_256_key_and_can_sign_no_other(identity: Identity) -> None:
    text = shown(identity)
    assert "NIST CURVE: P-256" in text
    assert "CA:FALSE" in text
    assert "CA:TRUE" not in text
    assert "RSA" not in text
    assert "redis" in text
    assert identity.pem == identity.certificate.read_text()
    assert "PRIVATE" not in identity.pem


def test_only_the_owner_can_read_them_and_nothing_else_is_left(folder: Path) -> None:
    before = os.umask(0)
    try:
        folder.parent.mkdir(mode=0o755)
        folder.mkdir(mode=0o777)
        identity = make_identity(folder, "redis", careless)
    finally:
        os.umask(before)
    assert mode(folder) == 0o700
    assert mode(identity.key) == 0o600
    assert mode(identity.certificate) == 0o600
    assert set(folder.iterdir()) == {identity.key, identity.certificate}


def test_it_is_made_once(folder: Path, identity: Identity) -> None:
    key = identity.key.read_bytes()
    assert make_identity(folder, "redis", FakeRunner()) == identity
    assert identity.key.read_bytes() == key


def test_each_folder_has_its_own(tmp_path: Path, identity: Identity) -> None:
    other = make_identity(tmp_path / "other", "redis", SubprocessRunner())
    assert other.pem != identity.pem
    assert other.key.read_bytes() != identity.key.read_bytes()


@pytest.mark.parametrize("broken", ["key", "certificate"])
@pytest.mark.parametrize("how", ["absent", "empty", "of another pair"])
def test_a_pair_that_does_not_fit_is_made_anew(tmp_path: Path, folder: Path, broken: str, how: str) -> None:
    old = make_identity(folder, "redis", SubprocessRunner())
    path = getattr(old, broken)
    if how == "absent":
        path.unlink()
    elif how == "empty":
        path.write_text("")
    else:
        path.write_bytes(getattr(make_identity(tmp_path / "other", "redis", SubprocessRunner()), broken).read_bytes())
    new = make_identity(folder, "redis", SubprocessRunner())
    assert new.pem != old.pem
    assert make_identity(folder, "redis", FakeRunner()) == new


@pytest.mark.parametrize("name", ["", "a/CN=b", "a b", "-x", ".", "a\n", "a=b", "a+b", "é", "x" * 65])
def test_a_name_that_could_mean_more_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(CriuError, match="cannot be the name in a certificate"):
        make_identity(folder, name, FakeRunner())
    assert not folder.exists()


def test_the_longest_name_is_accepted(folder: Path) -> None:
    assert "x" * 64 in shown(make_identity(folder, "x" * 64, SubprocessRunner()))


def test_without_openssl_the_error_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(CriuError, match="openssl is not installed") as caught:
        make_identity(folder, "redis", SubprocessRunner())
    assert "Install" in caught.value.remedy


def test_a_failure_of_openssl_is_told_and_leaves_nothing(folder: Path) -> None:
    runner = FakeRunner()

    def fail(command: Command, while_running: object = None) -> Completed:
        runner.commands.append(command)
        return Completed(1, "", "no space\n")

    with pytest.raises(CommandFailed, match="no space") as caught:
        make_identity(folder, "redis", fail)
    assert caught.value.remedy
    assert list(folder.iterdir()) == []
    assert [argv[1:3] for argv in runner.argvs] == [["req", "-x509"]]


def test_the_configuration_of_the_host_does_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENSSL_CONF", "/nonexistent")
    assert "CA:FALSE" in shown(make_identity(folder, "redis", SubprocessRunner()))


def test_destroying_leaves_nothing_and_may_be_repeated(folder: Path, identity: Identity) -> None:
    (folder / ".new.crashed").mkdir()
    (folder / ".new.crashed" / "key.pem").write_text("secret")
    destroy(folder)
    assert not folder.exists()
    destroy(folder)


def test_destroying_keeps_what_is_not_ours(folder: Path, identity: Identity) -> None:
    (folder / "journal").write_text("")
    destroy(folder)
    assert [path.name for path in folder.iterdir()] == ["journal"]
