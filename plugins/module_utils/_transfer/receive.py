# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiving end of a copy by rsync over ssh: a key that is good for one move, and for these paths alone.

The key's forced command is rsync's own daemon mode with a configuration that names the paths; sshd's `restrict` and
`expiry-time` (sshd(8), AUTHORIZED_KEYS FILE FORMAT) keep it from anything else, also if nobody takes it away.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import locked, write_atomically
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Runner

RUN_FOLDER = Path("/run/fleet.criu/transfer")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_PUBLIC_KEY = re.compile(r"(ssh-[a-z0-9-]+) ([A-Za-z0-9+/=]+)")

_HEAD = """# Made for one move; removed with it.
use chroot = yes
munge symlinks = no
uid = 0
gid = 0
read only = no
write only = yes
list = no
reverse lookup = no
"""


@dataclass(frozen=True)
class Receiver:
    """What may be received: `modules` has for each name (rsync's word for a destination) the path of a folder."""

    name: str
    modules: Mapping[str, str]
    public_key: str
    user: str = "root"
    lifetime_seconds: int = 24 * 3600


def transfer_folder(name: str) -> Path:
    """The folder for what a transfer needs on a host. Raises CriuError if the name cannot be part of a path."""
    if not _NAME.match(name) or name in (".", ".."):
        raise CriuError(
            f"{name!r} cannot be the name of a transfer.",
            "Use letters, digits, '.', '_' and '-' alone.",
            {"name": name},
        )
    return RUN_FOLDER / name


def arm(receiver: Receiver, runner: Runner) -> list[str]:
    """Let the holder of the key fill the paths; make those that are missing. Gives the host's public ssh keys."""
    match = _PUBLIC_KEY.match(receiver.public_key.strip())
    if match is None:
        raise CriuError("The public key of the sender is no ssh key.", "Give what transfer_send returned.")
    if shutil.which("rsync") is None:
        raise CriuError("rsync is not installed here.", "Install the package rsync.")
    host_keys = _host_keys(runner)
    folder = transfer_folder(receiver.name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in receiver.modules.values():
        Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(folder / "rsyncd.conf", _configuration(receiver.modules))
    expiry = time.strftime("%Y%m%d%H%M", time.localtime(time.time() + receiver.lifetime_seconds))
    command = f"rsync --server --daemon --config={folder / 'rsyncd.conf'} ."
    line = f'restrict,expiry-time="{expiry}",command="{command}" {match.group(0)} {_tag(receiver.name)}'
    _rewrite_keys(receiver.user, receiver.name, line)
    return host_keys


def is_armed(name: str, user: str = "root") -> bool:
    """Whether anything of this transfer is still here."""
    return transfer_folder(name).exists() or any(_is_of(line, name) for line in _lines(_keys_file(user)))


def disarm(name: str, user: str = "root") -> None:
    """Take the key and the configuration away, as far as they are there."""
    _rewrite_keys(user, name, None)
    shutil.rmtree(str(transfer_folder(name)), ignore_errors=True)


def _host_keys(runner: Runner) -> list[str]:
    # sshd itself knows best which keys it offers; they need not be in /etc/ssh.
    sshd = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")
    if sshd is None:
        raise CriuError("sshd is not installed here.", "Install and start openssh-server.")
    configuration = runner(Command([sshd, "-T"]))
    keys = []
    for line in configuration.stdout.splitlines():
        name, _space, path = line.partition(" ")
        if name == "hostkey":
            public = runner(Command(["ssh-keygen", "-y", "-f", path]))
            keys.extend([public.stdout.strip()] if public.returncode == 0 else [])
    if not keys:
        raise CriuError(
            f"sshd has no host key that could be read here. {configuration.stderr.strip()[:300]}".strip(),
            "Start openssh-server once, so that it makes its keys.",
        )
    return keys


def _configuration(modules: Mapping[str, str]) -> str:
    sections = [_HEAD]
    for name, path in modules.items():
        if not _NAME.match(name):
            raise CriuError(f"{name!r} cannot name a folder of a transfer.", "Use letters, digits, '.', '_' and '-'.")
        if "\n" in path:
            raise CriuError(f"rsync cannot be told of the path {path!r}.", "Use a path without a newline.")
        # The last slash guards blanks and a backslash at the end of the path (rsyncd.conf(5), FILE FORMAT).
        sections.append(f"[{name}]\npath = {path.rstrip('/')}/\n")
    return "\n".join(sections)


def _tag(name: str) -> str:
    return f"fleet.criu:{name}"


def _keys_file(user: str) -> Path:
    try:
        return Path(pwd.getpwnam(user).pw_dir) / ".ssh" / "authorized_keys"
    except KeyError:
        raise CriuError(f"There is no user {user} here.", "Name the user for transfers.") from None


def _lines(path: Path) -> list[str]:
    # Only a newline parts two keys; a user's own lines must come out as they went in, whatever bytes they have.
    text = path.read_bytes().decode("utf-8", "surrogateescape") if path.is_file() else ""
    return text.split("\n")[:-1] if text.endswith("\n") else [line for line in text.split("\n") if line]


def _is_of(line: str, name: str) -> bool:
    return line.rstrip().endswith(" " + _tag(name))


def _rewrite_keys(user: str, name: str, line: str | None) -> None:
    with locked(RUN_FOLDER / ".lock"):
        _replace_line(_keys_file(user), user, name, line)


def _replace_line(path: Path, user: str, name: str, line: str | None) -> None:
    old = _lines(path)
    new = [entry for entry in old if not _is_of(entry, name)]
    if line is not None:
        new.append(line)
    if new == old:
        return
    account = pwd.getpwnam(user)
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700)
        os.chown(path.parent, account.pw_uid, account.pw_gid)
    write_atomically(path.resolve(), "".join(entry + "\n" for entry in new))
    os.chown(path, account.pw_uid, account.pw_gid)
