# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The code of an agent, as an archive that Python imports from: that of the module may be gone when the module ends.

To compile it takes an agent longer than all else that it does before it is ready. So the compiled code is in the
archive too, and the archive is kept on the host for the next agent with the same code and the same Python.

It also takes a module longer to carry that code to the host than all else that it does. So those that start an agent
do not have it: they name it, and the module handoff_agent brings it to hosts that do not have it yet.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import marshal
import os
import shutil
import sys
import time
import zipfile
from pathlib import Path
from typing import Mapping

from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.agent import ARCHIVE, replacing
from ansible_collections.fleet.criu.plugins.module_utils._trusted import make_folder, require_trusted

# Only root may write there: what is in it is executed.
CODE_FOLDER = Path("/var/lib/fleet.criu/code")

_CODE = "ansible_collections.fleet.criu.plugins.module_utils"
_EARLIEST_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_KEPT_SECONDS = 30 * 24 * 3600.0

# PEP 552: compiled code that is not compared with its source, which is beside it and of the same making.
_UNCHECKED = (1).to_bytes(4, "little")


def keep(code: str) -> bool:
    """Keep the code of all modules of this collection that are imported now, under this name; see `place`.

    Whatever an agent needs must have been imported before. Says whether the host did not have it. Raises CriuError if
    the source of one cannot be had.
    """
    kept = kept_path(code)
    is_new = not _has(kept)
    if is_new:
        _make(kept, _sources())
    return is_new


def require(code: str) -> None:
    """Raises CriuError, with `code_missing` among its facts, if this host does not have the code of this name.

    Raises Untrusted if others could have put it there.
    """
    if not _has(kept_path(code)):
        raise CriuError(
            "The code of the agents is not on this host.",
            "Run the module handoff_agent on it.",
            {"code_missing": True},
        )


def place(code: str, folder: Path) -> Path:
    """Put the code of this name into the folder of an agent; gives the archive. Raises CriuError as `require` does."""
    require(code)
    return _copy(kept_path(code), folder)


def kept_path(code: str) -> Path:
    """Where the host has the code of this name, for the Python that runs now, if it has it."""
    # Code that one Python has compiled is of no use to another.
    text = json.dumps([sys.version, code])
    return CODE_FOLDER / f"{hashlib.sha256(text.encode('utf-8')).hexdigest()[:32]}.zip"


def install(folder: Path) -> Path:
    """Put the code of all modules of this collection that are imported now into the folder; gives the archive.

    Whatever the agent needs must have been imported before. Raises CriuError if the source of one cannot be had.
    """
    files = _sources()
    kept = kept_path(_digest(files))
    if not _has(kept):
        _make(kept, files)
    return _copy(kept, folder)


def _has(kept: Path) -> bool:
    # It is going to be executed.
    require_trusted(kept)
    return kept.exists()


def _copy(kept: Path, folder: Path) -> Path:
    archive = folder / ARCHIVE
    with replacing(archive) as stream, kept.open("rb") as original:
        shutil.copyfileobj(original, stream)
    # In use: see _remove_old.
    os.utime(str(kept))
    return archive


def _sources() -> dict[str, str]:
    files: dict[str, str] = {}
    for name in sorted(name for name in sys.modules if name == _CODE or name.startswith(f"{_CODE}.")):
        path = name.replace(".", "/")
        files[f"{path}/__init__.py" if _is_package(name) else f"{path}.py"] = _source(name)
        parts = name.split(".")
        for length in range(1, len(parts)):
            files.setdefault(f"{'/'.join(parts[:length])}/__init__.py", "")
    return files


def _digest(files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode("utf-8")).hexdigest()


def _make(kept: Path, files: Mapping[str, str]) -> None:
    make_folder(kept.parent)
    _remove_old(kept.parent)
    # Two modules may make the same at once; each has a file of its own until it is complete.
    partial = kept.with_name(f"{kept.name}.{os.getpid()}")
    with replacing(partial) as stream, zipfile.ZipFile(stream, "w") as bundle:
        for name, text in sorted(files.items()):
            source = text.encode("utf-8")
            bundle.writestr(zipfile.ZipInfo(name, _EARLIEST_ZIP_TIME), source)
            bundle.writestr(zipfile.ZipInfo(f"{name}c", _EARLIEST_ZIP_TIME), _compiled(name, source))
    partial.replace(kept)


def _compiled(name: str, source: bytes) -> bytes:
    code = compile(source, name, "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + _UNCHECKED + importlib.util.source_hash(source) + marshal.dumps(code)


def _remove_old(folder: Path) -> None:
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - _KEPT_SECONDS:
                path.unlink()


def _is_package(name: str) -> bool:
    # Ansible's own loader gives every module a path, but those that are no packages an empty one.
    return bool(getattr(sys.modules[name], "__path__", None))


def _source(name: str) -> str:
    spec = getattr(sys.modules[name], "__spec__", None)
    read = getattr(getattr(spec, "loader", None), "get_source", None)
    try:
        text = read(name) if read is not None else None
    except (ImportError, OSError):
        text = None
    if text is None and _is_package(name):
        # A package without a file of its own, whatever its loader makes of that.
        return ""
    if text is None:
        raise CriuError(
            f"The source of {name} cannot be read, so no agent can be made of it.",
            "Install the collection anew on the controller (ansible-galaxy collection install --force fleet.criu).",
            {"module": name},
        )
    # Ansible's own loader gives bytes.
    return text.decode("utf-8") if isinstance(text, bytes) else str(text)
