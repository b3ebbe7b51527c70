# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key and the certificate that one end makes for one handoff, and that nobody has to have signed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.fleet.criu.plugins.module_utils._errors import CommandFailed, CriuError
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, Runner
from ansible_collections.fleet.criu.plugins.module_utils._trusted import make_folder

_CERTIFICATE = "certificate.pem"
_KEY = "key.pem"
_UNFINISHED = ".new."

# A common name has at most 64 characters (RFC 5280, ub-common-name); '/' and '=' would make more than one name of it.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}\Z")

# The host's own openssl.cnf may be absent, or ask for extensions. This certificate can sign no other one.
_CONFIGURATION = """[req]
distinguished_name = name
x509_extensions = extensions
[name]
[extensions]
basicConstraints = critical,CA:FALSE
"""

# The peer does not look at the dates, see channel.py.
_DAYS = "30"


@dataclass(frozen=True)
class Identity:
    """The two files of one end, and the text of the certificate, which is for the other end."""

    certificate: Path
    key: Path
    pem: str


def make_identity(folder: Path, name: str, runner: Runner) -> Identity:
    """A new key (EC P-256) and certificate in the folder, or those that are there already.

    `name` becomes the certificate's common name; it is for people alone. Raises CriuError and CommandFailed.
    """
    if not _NAME.match(name):
        raise CriuError(
            f"{name!r} cannot be the name in a certificate.",
            "Use at most 64 letters, digits, '.', '_' and '-', the first of them no '.' and no '-'.",
            {"name": name},
        )
    make_folder(folder)
    if not _is_whole(folder):
        _make(folder, name, runner)
    return Identity(folder / _CERTIFICATE, folder / _KEY, (folder / _CERTIFICATE).read_text("ascii"))


def destroy(folder: Path) -> None:
    """Remove key and certificate, as far as they are there, and the folder if nothing else is in it."""
    for name in (_KEY, _CERTIFICATE):
        with contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()
    for unfinished in folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(str(unfinished), ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _is_whole(folder: Path) -> bool:
    try:
        # This also compares the two: a crash may have left a new key with an old certificate.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(str(folder / _CERTIFICATE), str(folder / _KEY), password="")
    except OSError:
        return False
    return True


def _make(folder: Path, name: str, runner: Runner) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        raise CriuError("openssl is not installed here.", "Install the package openssl.")
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=str(folder)) as temporary:
        new = Path(temporary)
        (new / "openssl.cnf").write_text(_CONFIGURATION, "ascii")
        completed = runner(Command(_request(openssl, new, name)))
        if completed.returncode != 0:
            raise CommandFailed(
                f"openssl could not make a certificate: {' | '.join(completed.stderr.strip().splitlines()[-3:])}",
                "Check that `openssl version` gives 1.1.1 or later and that the file system has space.",
                {"rc": completed.returncode},
            )
        for file in (_KEY, _CERTIFICATE):
            (new / file).chmod(0o600)
            os.replace(new / file, folder / file)


def _request(openssl: str, folder: Path, name: str) -> list[str]:
    return [
        openssl,
        "req",
        "-x509",
        *("-config", str(folder / "openssl.cnf")),
        *("-newkey", "ec"),
        *("-pkeyopt", "ec_paramgen_curve:P-256"),
        "-nodes",
        "-sha256",
        *("-subj", f"/CN={name}"),
        *("-days", _DAYS),
        *("-keyout", str(folder / _KEY)),
        *("-out", str(folder / _CERTIFICATE)),
    ]
