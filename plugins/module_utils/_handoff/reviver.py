# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reviving a workload from an image set so that it outlives whoever asked for it.

An agent restores it. Where systemd runs, the agent begins as the main process of the workload's unit and hands that
over to the workload just before it may run (owner.py); elsewhere it has a session of its own and is gone afterwards,
so that PID 1 is the workload's parent.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import tempfile
import time
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._criu.feature import find_criu
from ansible_collections.fleet.criu.plugins.module_utils._criu.generation import Generations
from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import Manifest
from ansible_collections.fleet.criu.plugins.module_utils._criu.restore import (
    Restored,
    RestoreRequest,
    recorded,
    remove_record,
    restore_workload,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.restorer import is_in_restorer
from ansible_collections.fleet.criu.plugins.module_utils._criu.stage import POST_RESTORE, given_answer
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._files import read_json, write_json
from ansible_collections.fleet.criu.plugins.module_utils._foreign import read_tail
from ansible_collections.fleet.criu.plugins.module_utils._handoff.agent import (
    LOG,
    Report,
    ask_to_stop,
    follow,
    is_alive,
    may_be_alive,
    start,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.archive import install
from ansible_collections.fleet.criu.plugins.module_utils._handoff.owner import (
    Notifier,
    has_systemd,
    properties,
    unit_name,
    unit_problem,
)
from ansible_collections.fleet.criu.plugins.module_utils._handoff.request import REQUEST
from ansible_collections.fleet.criu.plugins.module_utils._mounts.private import PrivateMounts
from ansible_collections.fleet.criu.plugins.module_utils._proc import Identity, Proc, lives, signal_tree
from ansible_collections.fleet.criu.plugins.module_utils._runner import (
    Runner,
    SubprocessRunner,
    prepare_process,
)
from ansible_collections.fleet.criu.plugins.module_utils._trusted import make_folder

RUN_FOLDER = Path("/run/fleet.criu/restore")

_STAGES = "stages"

_END_SECONDS = 2.0
_PATIENCE = 15.0
_POLL_SECONDS = 0.02
_KEPT_SECONDS = 3600.0
_LOG_TAIL = 2000
_NOT_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9._-]")


def unit_for(workload: str, wanted: str | None, runner: Runner) -> str | None:
    """The unit that a workload will live in, by default one named after it; None where no systemd runs.

    Raises CriuError if no such unit can be made here now.
    """
    unit = unit_name(workload, wanted)
    if not has_systemd():
        return None
    problem = unit_problem(unit, runner)
    if problem is not None:
        raise CriuError(f"{workload} cannot be restored into a unit of its own. {problem}", facts={"unit": unit})
    return unit


def revive(request: RestoreRequest, manifest: Manifest, unit: str | None, proc: Proc, runner: Runner) -> Restored:
    """Restore the workload of this manifest by an agent, in the unit that `unit_for` gave.

    `restore_workload` must have checked the same request just before. Raises CriuError, as `restore_workload` does;
    then no copy runs here and no process of it is left.
    """
    found = replace(request, criu_path=find_criu(runner, request.criu_path).path, is_verified=True)
    before = recorded(request.images, proc)
    with _runtime_folder(manifest.workload.name) as folder:
        write_json(folder / REQUEST, _plain(found))
        install(folder)
        start(folder, __name__, unit, properties(), runner)
        result = follow(folder, float("inf"))["result"]
        if result is None:
            return _after_death(found, manifest, unit, folder, before, proc)
    if "message" in result:
        raise CriuError(result["message"], result["remedy"], result["facts"])
    return Restored(result["pid"], result["changed"], manifest, result["seconds"], tuple(result["put_back"]))


def main(folder: str) -> int:
    """Be the agent: restore what the request in the folder says; the result is in the report. Gives the exit status."""
    place = Path(folder)
    notifier = Notifier.from_environment(os.environ)
    report = Report(place)
    try:
        result = _restore(_request_of(read_json(place / REQUEST)), place, notifier, report)
    except CriuError as error:
        result = {"message": error.message, "remedy": error.remedy, "facts": error.facts}
    except Exception as error:  # whoever waits must hear of it
        result = {
            "message": f"The restore failed: {type(error).__name__}: {error}.",
            "remedy": "Nothing was let run. What failed is in agent_log.",
            "facts": {"agent_log": traceback.format_exc()},
        }
    report.finish(result)
    return 1 if "message" in result else 0


def _restore(request: RestoreRequest, folder: Path, notifier: Notifier, report: Report) -> dict[str, Any]:
    prepare_process()
    restored = restore_workload(
        request,
        Proc(),
        SubprocessRunner(is_prepared=True),
        Generations(),
        before_run=notifier.hand_over,
        stages_folder=folder / _STAGES,
        private=PrivateMounts(),
    )
    if restored.changed and restored.pid is not None:
        try:
            notifier.confirm(restored.pid)
        except CriuError as error:
            report.log(str(error))  # it runs in the unit all the same
    return {
        "pid": restored.pid,
        "changed": restored.changed,
        "seconds": restored.seconds,
        "put_back": list(restored.put_back),
    }


def _plain(request: RestoreRequest) -> dict[str, Any]:
    # A module gives all its parameters as options.
    known = {name: value for name, value in request.options.items() if name in Options.__dataclass_fields__}
    return {
        **asdict(replace(request, options=known)),
        "images": str(request.images),
        "pid_file": str(request.pid_file) if request.pid_file else None,
    }


def _request_of(plain: Mapping[str, Any]) -> RestoreRequest:
    pid_file = Path(plain["pid_file"]) if plain["pid_file"] else None
    return RestoreRequest(**{**plain, "images": Path(plain["images"]), "pid_file": pid_file})


def _after_death(
    request: RestoreRequest,
    manifest: Manifest,
    unit: str | None,
    folder: Path,
    before: Identity | None,
    proc: Proc,
) -> Restored:
    # Without our yes CRIU undoes its work, and before the hand-over systemd kills the unit with its main process. With
    # it the workload runs in a moment, unless CRIU failed after it.
    identity = recorded(request.images, proc)
    was_told = given_answer(folder / _STAGES, POST_RESTORE) is True
    if identity is not None and identity != before:
        _wait_until(
            lambda: not lives(identity, proc) or (was_told and not is_in_restorer(identity.pid, proc)), _PATIENCE
        )
        if was_told and lives(identity, proc) and not is_in_restorer(identity.pid, proc):
            return Restored(identity.pid, True, manifest)
        signal_tree(identity, signal.SIGKILL, proc)
        remove_record(request)
    what = "and its copy ended after it had been let go" if was_told else "and nothing was let run"
    raise CriuError(
        f"The restore of {manifest.workload.name} was cut off: the agent that did it was killed, {what}.",
        f"See who killed it{f' (journalctl --unit={unit})' if unit else ''}, and restore again. If the image set is "
        "refused then because its generation is spent, and what the workload writes shows that it has not run since, "
        "set allow_copy: true.",
        {"agent_log": _tail(folder / LOG), "unit": unit},
    )


def _tail(path: Path) -> str:
    try:
        return read_tail(path, 4 * _LOG_TAIL).decode("utf-8", "replace")[-_LOG_TAIL:]
    except (OSError, ValueError):
        return ""


@contextlib.contextmanager
def _runtime_folder(workload: str) -> Iterator[Path]:
    make_folder(RUN_FOLDER)
    _remove_old_folders()
    folder = Path(tempfile.mkdtemp(prefix=f"{_NOT_IN_FILE_NAMES.sub('_', workload)[:64]}-", dir=str(RUN_FOLDER)))
    try:
        yield folder
    finally:
        # It is about to end. If it is not, because we were interrupted, nothing may come to life any more.
        if not _wait_until(lambda: not is_alive(folder), _END_SECONDS):
            ask_to_stop(folder, _END_SECONDS)
        shutil.rmtree(str(folder), ignore_errors=True)


def _remove_old_folders() -> None:
    # Of modules that were killed.
    for folder in RUN_FOLDER.iterdir():
        if folder.stat().st_mtime < time.time() - _KEPT_SECONDS and not may_be_alive(folder):
            shutil.rmtree(str(folder), ignore_errors=True)


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_SECONDS)
    return True
