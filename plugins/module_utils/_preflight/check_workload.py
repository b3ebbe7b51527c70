# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what the workload has and needs: names, addresses, files, users, and what CRIU cannot dump. Pure."""

from __future__ import annotations

from typing import Any, Callable, Mapping

from ansible_collections.fleet.criu.plugins.module_utils._criu.known_pairs import SOCKETS, known_problems
from ansible_collections.fleet.criu.plugins.module_utils._mounts.paths import is_below, join
from ansible_collections.fleet.criu.plugins.module_utils._preflight.contents import Difference, differences
from ansible_collections.fleet.criu.plugins.module_utils._preflight.facts import Facts, Options
from ansible_collections.fleet.criu.plugins.module_utils._preflight.finding import (
    Finding,
    failed,
    listed,
    not_applicable,
    passed,
    warning,
)

_DIFFER = "contents_differ"
_OTHER_TIMES = "times_differ"
_UNFINISHED = "contents_unfinished"
_UNKNOWN_PATHS = "contents_paths_unknown"
_SHOWN = 10
# What can be found about contents, the worst first: code, how bad it is, what it means, what to do.
_CONTENTS_NOTES: tuple[tuple[str, Callable[[str, str, str], Finding], str, str], ...] = (
    (
        _DIFFER,
        failed,
        "What should be at the target already (data: present) is not the same there",
        "Bring the same contents there, have them copied (data: sync), or name those that matter in contents_paths.",
    ),
    (
        _OTHER_TIMES,
        warning,
        "Sizes are the same but modification times are not, and large files were not read",
        "Ask for contents: full to be sure.",
    ),
    (
        _UNFINISHED,
        warning,
        "Not everything was looked at; what was is the same",
        "Raise contents_max_files.",
    ),
    (
        _UNKNOWN_PATHS,
        warning,
        "contents_paths names what is on no mount whose contents are compared (data: present)",
        "Correct it.",
    ),
)


def pids(source: Facts, target: Facts, options: Options) -> Finding:
    """Each pid is free at the target, unless the workload has a pid namespace of its own."""
    if "pid" in source["namespaces"]:
        return not_applicable("The workload has a pid namespace of its own.")
    remedy = "End what has them there, choose another target, or start the workload in a pid namespace of its own."
    if target["taken_pids"]:
        reason = f"{len(target['taken_pids'])} of its {len(source['pids'])} pids are taken on {target['host']}: "
        return failed("pid_taken", f"{reason}{listed(target['taken_pids'])}.", remedy)
    highest = max(source["pids"])
    if target["pid_max"] and highest >= target["pid_max"]:
        reason = f"Its pid {highest} is too high for {target['host']}, where kernel.pid_max is {target['pid_max']}."
        return failed("pid_too_high", reason, f"Raise kernel.pid_max on {target['host']}.")
    return passed(f"Its {len(source['pids'])} pids are free on {target['host']}.")


def pid_file(source: Facts, target: Facts, options: Options) -> Finding:
    """The target's pid file is not there, or is left from a process that is gone."""
    found = target["pid_file"]
    if not found:
        return not_applicable("It has no pid file.")
    path, text = found["path"], found["text"]
    if text is None:
        return passed(f"{path} does not exist on {target['host']}.")
    if found["process"]:
        return failed(
            "pid_file_in_use",
            f"{path} on {target['host']} is that of {found['process']}.",
            "End that process or give this workload another pid file; remove the file if the pid was used again since.",
        )
    if not text.isdecimal():
        reason = f"{path} on {target['host']} does not hold a pid but {text!r}."
        return failed("pid_file_malformed", reason, "Correct or remove the file.")
    return passed(f"{path} on {target['host']} is left from process {text}, which is gone; it will be replaced.")


def name(source: Facts, target: Facts, options: Options) -> Finding:
    """No copy of the workload lives at the target."""
    if target["live_copies"]:
        return failed(
            "name_in_use",
            f"The workload seems to run on {target['host']} already: {listed(target['live_copies'])}.",
            "Find out which copy is the right one and end the other, or choose another root.",
        )
    return passed(f"No copy of it was found on {target['host']}.")


def addresses(source: Facts, target: Facts, options: Options) -> Finding:
    """The target has the addresses of its sockets, and nobody else has their ports."""
    if "net" in source["namespaces"]:
        return not_applicable("The workload has a network namespace of its own.")
    if not source["sockets"]:
        return not_applicable("The workload has no TCP or UDP socket.")
    absent, taken = target["absent_addresses"], target["listeners"]
    problems = []
    if taken:
        problems.append(f"{len(taken)} of its addresses are in use on {target['host']}: {listed(taken)}.")
    if absent:
        problems.append(
            f"{target['host']} does not have the address of {len(absent)} of its sockets: {listed(absent)}."
        )
    if problems:
        return failed(
            "address_in_use" if taken else "address_absent",
            " ".join(problems),
            "End what has them there, or give the target this address too before the move (a floating address).",
        )
    return passed(
        f"{target['host']} has the addresses of its {len(source['sockets'])} sockets, and their ports are free."
    )


def mapped_files(source: Facts, target: Facts, options: Options) -> Finding:
    """Programs, libraries and other mapped files are the same by size and build-ID, which is what CRIU goes by."""
    here = target["mapped_files"]
    if here is None:
        return not_applicable("No mount map was given.")
    if not here:
        return not_applicable("None of its mapped files has to be there already: they are copied, or in the images.")
    there = {file["path"]: file for file in source["mapped_files"]}
    different = [text for text in (_compare_file(there[file["path"]], file) for file in here) if text]
    if different:
        reason = f"{len(different)} of {len(here)} mapped files differ on {target['host']}: {listed(different)}."
        return failed("file_differs", reason, "Install the same files there, or have them copied (data: sync).")
    return passed(f"All {len(here)} mapped files that must be on {target['host']} have the same size and build-ID.")


def contents(source: Facts, target: Facts, options: Options) -> Finding:
    """What should be at the target already is the same as at the source."""
    if source["contents"] is None or target["contents"] is None:
        return not_applicable("No mount map was given on both sides.")
    if not target["contents"]:
        return not_applicable("None of its external mounts has its contents at the target already (data: present).")
    whole, below = _left_out(source["contents"], target["contents"])
    compared = {mountpoint: there for mountpoint, there in source["contents"].items() if mountpoint not in whole}
    said = _not_looked_at(whole, {path: why for path, why in below.items() if path not in compared})
    notes = [
        _compare_contents(mountpoint, there, target["contents"].get(mountpoint), source, target)
        for mountpoint, there in compared.items()
    ]
    notes.extend((_UNKNOWN_PATHS, path) for path in _on_no_mount(source))
    for code, weigh, reason, remedy in _CONTENTS_NOTES:
        texts = [text for found, text in notes if found == code]
        if texts:
            return weigh(code, f"{reason}: {listed(texts)}.{said}", remedy)
    return passed(f"{_summary(compared)}{said}")


def id_maps(source: Facts, target: Facts, options: Options) -> Finding:
    """The users of the workload's user namespace exist at the target."""
    maps = source["id_maps"]
    if maps is None:
        return not_applicable("The workload has no user namespace of its own.")
    rootless = [kind for kind, rows in maps.items() if not any(inside == 0 for inside, _first, _count in rows)]
    if rootless:
        reason = f"The user namespace of the workload has no root ({listed(rootless)} maps no ID to 0), so that CRIU"
        return failed("no_root_in_map", f"{reason} cannot restore it.", "Start the workload with a map for ID 0.")
    if target["max_user_namespaces"] == 0:
        reason = f"No user namespace may be made on {target['host']} (user.max_user_namespaces is 0)."
        return failed("no_user_namespaces", reason, "Raise user.max_user_namespaces there.")
    outside = [
        f"{kind} {first} to {first + count - 1}"
        for kind, rows in maps.items()
        for _inside, first, count in rows
        if not _is_covered(first, count, target["id_maps"][kind])
    ]
    if outside:
        return failed(
            "ids_not_mapped",
            f"{target['host']} does not have all IDs of the workload's user namespace: {listed(outside)}.",
            "Choose a target whose own user namespace has them.",
        )
    return passed(f"{target['host']} has all IDs of the workload's user namespace.")


def sockets(source: Facts, target: Facts, options: Options) -> Finding:
    """CRIU can dump the TCP and UDP sockets of the workload."""
    count = len(source["sockets"])
    if not count:
        return passed("The workload has no TCP or UDP socket.")
    version, release = source["criu"].get("version"), source["kernel"]
    if version is None:
        return not_applicable(f"{source['host']} has no CRIU.")
    known = next((pair for pair in known_problems(release, version) if pair.needs == SOCKETS), None)
    if known is not None:
        return failed(
            known.code,
            f"CRIU {version} cannot dump the {count} TCP and UDP sockets of the workload on the kernel {release}.",
            f"{known.remedy} Or let the workload use Unix sockets alone.",
        )
    return passed(f"CRIU {version} can dump its {count} TCP and UDP sockets on the kernel {release}.")


def io_uring(source: Facts, target: Facts, options: Options) -> Finding:
    """The workload does not use io_uring, which CRIU cannot dump."""
    if source["io_uring"]:
        return failed(
            "io_uring",
            f"The workload has {len(source['io_uring'])} io_uring descriptors, which CRIU cannot dump: "
            f"{listed(source['io_uring'])}.",
            "Configure the workload not to use io_uring, and start it anew.",
        )
    return passed("The workload has no io_uring descriptor.")


def _compare_file(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    found = here["found"]
    if found is None:
        return f"{here['host_path']} is missing"
    if found["size"] != there["size"]:
        return f"{here['host_path']} has {found['size']} bytes, not {there['size']}"
    if found["build_id"] != there["build_id"]:
        return f"{here['host_path']} has the build-ID {_short(found['build_id'])}, not {_short(there['build_id'])}"
    return None


def _short(build_id: str | None) -> str:
    return build_id[:12] if build_id else "(none)"


def _left_out(
    there: Mapping[str, Facts | None], here: Mapping[str, Facts | None]
) -> tuple[dict[str, str], dict[str, str]]:
    # Why, by the path in the workload: mounts of which nothing was looked at on one of both hosts, and parts of mounts.
    whole: dict[str, str] = {}
    below: dict[str, str] = {}
    for host in (here, there):
        for mountpoint, found in host.items():
            for name, why in (found.get("left_out") or {}).items() if found is not None else ():
                (below if name else whole)[join(mountpoint, name)] = why
    return whole, below


def _not_looked_at(whole: Mapping[str, str], below: Mapping[str, str]) -> str:
    texts = [f"{path} ({why})" for path, why in (*whole.items(), *below.items())]
    return f" Not looked at: {listed(texts, len(whole) + _SHOWN)}." if texts else ""


def _compare_contents(
    mountpoint: str, there: Facts | None, here: Facts | None, source: Facts, target: Facts
) -> tuple[str, str]:
    if there is None or here is None:
        return _DIFFER, f"{mountpoint} is missing on {source['host'] if there is None else target['host']}"
    found = differences(there, here, mountpoint)
    absent = [
        Difference(f"{join(mountpoint, name)} is on neither host")
        for name in there.get("absent") or ()
        if name in (here.get("absent") or ())
    ]
    firm = [difference.text for difference in (*absent, *(found or ())) if not difference.is_time]
    if firm:
        return _DIFFER, f"{mountpoint}: {listed(firm, _SHOWN)}"
    if found is None and (there["shape"] != here["shape"] or there["hashes"] != here["hashes"]):
        return _DIFFER, f"{mountpoint}: {_how_contents_differ(there, here)}"
    if found or (found is None and there["times"] != here["times"]):
        named = f", of which {listed([each.text for each in found], _SHOWN)}" if found else ""
        return _OTHER_TIMES, f"{mountpoint} has {there['timed']} large files{named}"
    if not there["complete"] or not here["complete"]:
        return _UNFINISHED, f"{mountpoint} has more than {there['files']} entries"
    return "ok", mountpoint


def _on_no_mount(source: Facts) -> list[str]:
    return [
        path
        for path in source.get("contents_paths") or ()
        if not any(is_below(path, mountpoint) or is_below(mountpoint, path) for mountpoint in source["contents"])
    ]


def _how_contents_differ(there: Facts, here: Facts) -> str:
    # Of very many entries the names are not kept.
    if there["shape"] != here["shape"]:
        return (
            f"names, sizes, modes or owners ({there['files']} entries with {there['bytes']} bytes on the source, "
            f"{here['files']} with {here['bytes']} on the target)"
        )
    return f"some of {there['files']} entries have other contents"


def _summary(found: Mapping[str, Mapping[str, Any]]) -> str:
    if not found:
        return "Nothing of its external mounts is compared."
    files = sum(entry["files"] for entry in found.values())
    timed = sum(entry["timed"] for entry in found.values())
    how = f"; {timed} large ones by size and time alone" if timed else ""
    return f"{files} entries of {len(found)} mounts are the same on both{how}."


def _is_covered(first: int, count: int, rows: Any) -> bool:
    return any(start <= first and first + count <= start + length for start, _outside, length in rows)
