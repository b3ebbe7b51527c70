# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build each case's mounts, predict what CRIU will decide, let real CRIU decide, and compare.

    run_cases.py dump    CASES.json FOLDER IMAGES RESULTS.json
    run_cases.py restore CASES.json FOLDER IMAGES RESULTS.json

`dump` runs on the source; it also restores there what may not leave its host (auto detection). `restore` runs on the
target with the results of the source. FOLDER has a folder for each case, which is another on the target.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Mapping, Sequence

import workload

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import (
    DUMP_LOG,
    RESTORE_LOG,
    Options,
    dump_command,
    restore_command,
)
from ansible_collections.fleet.criu.plugins.module_utils._criu.log_lines import error_lines
from ansible_collections.fleet.criu.plugins.module_utils._criu.restore import RestoreRequest, bound
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._mounts.compare import differences
from ansible_collections.fleet.criu.plugins.module_utils._mounts.keys import check_keys
from ansible_collections.fleet.criu.plugins.module_utils._mounts.live import (
    is_device_of,
    is_same_file,
    nested_problems,
    read_mounts,
)
from ansible_collections.fleet.criu.plugins.module_utils._mounts.mount_map import mount_map
from ansible_collections.fleet.criu.plugins.module_utils._mounts.pinned import Pinned
from ansible_collections.fleet.criu.plugins.module_utils._mounts.private import PrivateMounts
from ansible_collections.fleet.criu.plugins.module_utils._mounts.table import MountRow, parse
from ansible_collections.fleet.criu.plugins.module_utils._mounts.verdict import (
    AUTO,
    DEVICE,
    EXTERNAL,
    FATAL,
    INTERNAL,
    ROOT,
    SKIPPED,
    Auto,
    Settings,
    Verdict,
    predict,
)
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Command, SubprocessRunner

# How CRIU says what we call by a word.
MESSAGES = {
    "no_proper_root": "doesn't have a proper root mount",
    "unsupported": "FS mnt .* unsupported",
    "unreachable_sharing": "has unreachable sharing",
    "stacked": "has two children with same mountpoint",
}
TEMPLATE_PROGRAMS = (workload.SLEEP, "/bin/sh", "/bin/mount", "/bin/mkdir")


def main() -> None:
    verb, cases_file, folder, images, results_file = sys.argv[1:]
    cases = json.loads(Path(cases_file).read_text())
    results = {} if verb == "dump" else json.loads(Path(results_file).read_text())
    act = {"dump": dump_case, "restore": restore_case}[verb]
    for case in cases:
        place, image_folder = Path(folder, slug(case)), Path(images, slug(case))
        try:
            results[case["name"]] = act(case, place, image_folder, results.get(case["name"], {}))
        except RuntimeError as error:
            results[case["name"]] = {**results.get(case["name"], {}), "problem": str(error)}
        finally:
            workload.unmount_below(place)
    Path(results_file).write_text(json.dumps(results, indent=1))


def slug(case: Mapping[str, Any]) -> str:
    return re.sub(r"[^a-z0-9]+", "_", case["name"].lower())


def dump_case(case: Mapping[str, Any], place: Path, images: Path, _earlier: Mapping[str, Any]) -> dict[str, Any]:
    make_root(place / "root", case.get("folders", ()))
    workload.run_commands(case, "host", place)
    pid = workload.start(case, place)
    try:
        workload.run_commands(case, "afterwards", place)
        rows = parse(Proc().mountinfo(pid))
        verdicts = predict(rows, parse(Proc().mountinfo("self")), settings(case, rows))
        nested = nested_problems(pid, Proc(), settings(case, rows))
        info = read_mounts(pid, Proc())
        images.mkdir(parents=True)
        argv = dump_command("criu", pid, str(images), str(place / "root"), dump_map(case, rows), options(case))
        completed = SubprocessRunner()(Command(argv))
    finally:
        workload.kill(pid)
    result: dict[str, Any] = {
        "predicted": sorted(
            {verdict.kind for verdict in verdicts if verdict.kind in FATAL} | {mount["verdict"] for mount in nested}
        ),
        "dumped": completed.returncode == 0,
        "errors": error_lines((images / DUMP_LOG).read_text("utf-8", "replace")),
        "mounts": [as_mount(row, verdict) for row, verdict in zip(rows, verdicts)],
        "info": info,
    }
    result["problem"] = disagreement(case, result)
    if not result["problem"] and result["dumped"] and case.get("auto") is not None:
        return restore_case(case, place, images, result)
    return result


def restore_case(case: Mapping[str, Any], place: Path, images: Path, earlier: Mapping[str, Any]) -> dict[str, Any]:
    if earlier.get("problem") or not earlier.get("dumped") or "restored" in earlier:
        return dict(earlier)
    if case.get("auto") is None:
        workload.run_commands(case, "target" if "target" in case else "host", place)
    root = str(place / "root")
    paths = {
        mountpoint: case.get("paths", {}).get(key, "$H/" + key) for mountpoint, key in case.get("keys", {}).items()
    }
    paths = {mountpoint: path.replace("$H", str(place)) for mountpoint, path in paths.items()}
    for mountpoint in case.get("devices", ()):
        paths[mountpoint] = (place / "device").read_text().strip()
    places = {key: mountpoint for mountpoint, key in reversed(list(case.get("keys", {}).items()))}
    restore_map = [
        {
            "key": key,
            "mountpoint": mountpoint,
            "path": paths[mountpoint],
            "device": mountpoint in case.get("devices", ()),
        }
        for key, mountpoint in places.items()
    ]
    missed = missed_hazard(case, earlier["info"], {"/": root, **paths})
    pid_file = images / "pid"
    pid_file.unlink(missing_ok=True)
    result = {**earlier, "restored": restores(case, images, root, restore_map, earlier["info"], pid_file)}
    expected = case.get("restore", "ok") == "ok"
    if result["restored"] != expected:
        log = error_lines((images / RESTORE_LOG).read_text("utf-8", "replace"))
        result["problem"] = f"restore {'succeeded' if result['restored'] else 'failed'}: {' | '.join(log)}"
    if result["restored"]:
        pid = int(pid_file.read_text())
        found = [] if "wrong" in case else compare(earlier["mounts"], pid, {"/": root, **paths})
        workload.run_commands(case, "at_last", place)
        try:
            workload.run_commands(case, "wrong", place, {"P": f"/proc/{pid}/root", "M": f"/proc/{pid}/mountinfo"})
        finally:
            workload.kill(pid)
        if found:
            result["problem"] = f"the restored mounts differ: {'; '.join(found)}"
    return {**result, "problem": result.get("problem") or missed}


def restores(
    case: Mapping[str, Any],
    images: Path,
    root: str,
    restore_map: Sequence[Mapping[str, Any]],
    mounts: Sequence[Mapping[str, Any]],
    pid_file: Path,
) -> bool:
    """Restore it as the collection's agents do, in a process of its own, because that gets a mount namespace."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            given = RestoreRequest(images, root, restore_map, {})
            request = bound(given, mounts, restore_map, PrivateMounts(), Pinned())
            argv = restore_command("criu", str(images), request.root, request.restore_map, options(case))
            status = SubprocessRunner()(Command([*argv, "--pidfile", str(pid_file)])).returncode
        finally:
            os._exit(1 if status else 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def missed_hazard(case: Mapping[str, Any], info: Sequence[Mapping[str, Any]], paths: Mapping[str, str]) -> str | None:
    hazard = case.get("hazard")
    if hazard is None:
        return None
    if hazard == "keys":
        try:
            check_keys(dump_map(case), info)
        except CriuError:
            return None
        return "the keys were not refused"
    found = mount_map(
        {
            "mounts": info,
            "rules": [{"mountpoint": mountpoint, "source": path} for mountpoint, path in paths.items()],
            "workload": None,
            "keep_paths": False,
            "replace_contents": False,
            "data": case.get("data", {}),
            "severities": {},
            "fail_on_gaps": False,
        }
    )
    codes = [gap["code"] for gap in (*found["gaps"], *found["hazards"])]
    return None if hazard in codes else f"{hazard} was not found, but {codes}"


def disagreement(case: Mapping[str, Any], result: Mapping[str, Any]) -> str | None:
    expected = case.get("dump", "ok")
    predicted = result["predicted"]
    if result["dumped"] == bool(predicted):
        return f"predicted {predicted or 'success'}, but CRIU says {result['errors'] or 'success'}"
    if (expected == "ok") != result["dumped"]:
        return f"the case expects {expected}, but CRIU says {result['errors'] or 'success'}"
    if predicted and not any(re.search(MESSAGES[kind], error) for kind in predicted for error in result["errors"]):
        return f"predicted {predicted}, but CRIU fails otherwise: {result['errors']}"
    if predicted and expected not in predicted:
        return f"the case expects {expected}, but {predicted} is predicted"
    return None


def compare(mounts: Sequence[Mapping[str, Any]], pid: int, paths: Mapping[str, str]) -> list[str]:
    proc = Proc()
    live = [row.as_dict() for row in parse(proc.mountinfo(pid))]
    intended = [mount for mount in mounts if mount["kind"] != SKIPPED]
    detected = {mount["mountpoint"]: mount["path"] for mount in mounts if mount["kind"] == AUTO}
    intended = [{**mount, "kind": EXTERNAL} if mount["kind"] in (AUTO, DEVICE) else mount for mount in intended]
    anew = {mount["mountpoint"] for mount in mounts if mount["kind"] == DEVICE}
    return differences(
        intended,
        live,
        {**paths, **detected},
        lambda path, mountpoint: (is_device_of if mountpoint in anew else is_same_file)(
            path, proc.root(pid, mountpoint)
        ),
    )


def as_mount(row: MountRow, verdict: Verdict) -> dict[str, Any]:
    assert verdict.kind in (ROOT, INTERNAL, EXTERNAL, AUTO, DEVICE, SKIPPED, *FATAL)
    return {**row.as_dict(), "kind": verdict.kind, "reason": verdict.reason, "path": verdict.path}


def settings(case: Mapping[str, Any], rows: Sequence[MountRow]) -> Settings:
    auto = case.get("auto")
    devices = case.get("devices", ())
    return Settings(
        keys={mountpoint: key for mountpoint, key in case.get("keys", {}).items() if mountpoint not in devices},
        devices=frozenset(row.device for row in rows if row.mountpoint in devices),
        auto=None if auto is None else Auto("s" in auto, "m" in auto),
        skipped=frozenset(case.get("skip", ())),
        enabled_file_systems=frozenset(case.get("enable_fs", ())),
    )


def options(case: Mapping[str, Any]) -> Options:
    auto = case.get("auto")
    return Options(
        external_auto=auto is not None,
        external_shared="s" in (auto or ""),
        external_masters="m" in (auto or ""),
        skip_mnt=tuple(case.get("skip", ())),
        enable_fs=tuple(case.get("enable_fs", ())),
        network_lock="nftables",
        manage_cgroups="ignore",
    )


def dump_map(case: Mapping[str, Any], rows: Sequence[MountRow] = ()) -> list[dict[str, str]]:
    numbers = {row.mountpoint: row.device.replace(":", "/") for row in rows}
    return [
        {
            "mountpoint": mountpoint,
            "key": key,
            **({"device": numbers[mountpoint]} if mountpoint in case.get("devices", ()) else {}),
        }
        for mountpoint, key in case.get("keys", {}).items()
    ]


def make_root(root: Path, folders: Sequence[str]) -> None:
    for name in ("bin", "dev", "etc", "proc", "tmp", "data", *folders):
        (root / name).mkdir(parents=True, exist_ok=True)
    for program in TEMPLATE_PROGRAMS:
        for path in [program, *libraries(program)]:
            (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, root / path.lstrip("/"))
    subprocess.run(["mknod", "-m", "666", str(root / "dev/null"), "c", "1", "3"], check=True)


def libraries(program: str) -> list[str]:
    listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return re.findall(r"(/\S+) \(0x", listed)


if __name__ == "__main__":
    main()
