# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the hosts: CRIU, kernel, processor, security module, cgroups, network lock, space. Pure comparisons."""

from __future__ import annotations

from ansible_collections.fleet.criu.plugins.module_utils._criu.feature import FEATURES
from ansible_collections.fleet.criu.plugins.module_utils._criu.known_pairs import DUMP, RESTORE, numbers, stands_against
from ansible_collections.fleet.criu.plugins.module_utils._preflight.facts import (
    Facts,
    Options,
    locks_network,
)
from ansible_collections.fleet.criu.plugins.module_utils._preflight.finding import (
    Finding,
    failed,
    listed,
    not_applicable,
    passed,
    warning,
)
from ansible_collections.fleet.criu.plugins.module_utils._preflight.processor import needed_by_programs

# The modes in which CRIU leaves cgroups alone (criu(8), --manage-cgroups).
_CGROUPS_LEFT_ALONE = ("ignore", "none")
# What AppArmor and SELinux call a process that they do not confine.
_UNCONFINED = ("unconfined", "unconfined_t", "kernel_t")


def criu_version(source: Facts, target: Facts, options: Options) -> Finding:
    """Both are usable, and the target's is not older: an older CRIU may not know the images of a newer one."""
    for host in (source, target):
        if not host["criu"]["usable"]:
            reason = f"CRIU cannot be used on {host['host']}: {listed(host['criu']['problems'])}"
            return failed("criu_unusable", reason, "Install a CRIU there that is made for its kernel.")
    ours, theirs = target["criu"]["version"], source["criu"]["version"]
    if numbers(ours) < numbers(theirs):
        return failed(
            "criu_older",
            f"CRIU {ours} of {target['host']} is older than {theirs} of {source['host']}, which makes the images.",
            f"Install CRIU {theirs} or later on {target['host']}.",
        )
    return passed(f"{source['host']} has CRIU {theirs}, {target['host']} has {ours}.")


def criu_features(source: Facts, target: Facts, options: Options) -> Finding:
    """What the workload needs of CRIU and of the kernel is there on both."""
    needs = source["needs"]
    if not needs:
        return not_applicable("The workload needs no feature that is not everywhere.")
    if not (source["features"] and target["features"]):
        return not_applicable("There is no CRIU to ask for features.")
    missing = [
        f"{host['host']} lacks {name} ({FEATURES[name]})"
        for host in (source, target)
        for name in needs
        if not host["features"].get(name)
    ]
    if missing:
        reason = f"{listed(missing)}."
        return failed("feature_missing", reason, "Use a newer kernel or CRIU there; see criu check --feature NAME.")
    return passed(f"Both have {', '.join(needs)}.")


def kernel(source: Facts, target: Facts, options: Options) -> Finding:
    """The target's is not older: system calls that the workload found may be missing there."""
    ours, theirs = target["kernel"], source["kernel"]
    if numbers(ours) < numbers(theirs):
        return warning(
            "kernel_older",
            f"The kernel {ours} of {target['host']} is older than {theirs} of {source['host']}.",
            "Move to a host with the same kernel or a newer one, unless it is known to work.",
        )
    return passed(f"{source['host']} has the kernel {theirs}, {target['host']} has {ours}.")


def known_pairs(source: Facts, target: Facts, options: Options) -> Finding:
    """Neither host has a kernel on which its CRIU is known to fail at what it is to do there."""
    problems = [
        (host, pair)
        for host, operation in ((source, DUMP), (target, RESTORE))
        if host["criu"].get("version")
        for pair in stands_against(host["kernel"], host["criu"]["version"], operation)
    ]
    if problems:
        reasons = [
            f"{host['host']} has CRIU {host['criu']['version']} on the kernel {host['kernel']}, and {pair.what}"
            for host, pair in problems
        ]
        return failed(problems[0][1].code, f"{listed(reasons)}.", " ".join(pair.remedy for _host, pair in problems))
    return passed("No pair of kernel and CRIU here is known not to work.")


def architecture(source: Facts, target: Facts, options: Options) -> Finding:
    """It is the same: images hold registers and machine code."""
    ours, theirs = target["architecture"], source["architecture"]
    if ours != theirs:
        reason = f"{target['host']} is {ours}, but the workload runs on {theirs}."
        return failed("other_architecture", reason, f"Choose a target that is {theirs}.")
    return passed(f"Both are {ours}.")


def cpu(source: Facts, target: Facts, options: Options) -> Finding:
    """The target's processor can do what the source's can, since programs choose their instructions when they start."""
    ours, theirs = set(target["cpu_flags"]), set(source["cpu_flags"])
    if not ours or not theirs or source["architecture"] != target["architecture"]:
        return not_applicable("The features of the processors cannot be compared.")
    missing = sorted(theirs - ours)
    needed = needed_by_programs(missing)
    if needed:
        return failed(
            "cpu_lacks_features",
            f"The processor of {target['host']} lacks {len(needed)} of the {len(theirs)} features of {source['host']} "
            f"that programs can use: {' '.join(needed)}.",
            "Choose a target with the same processor or a newer one, or hide these features from both (CPU model of a "
            "virtual machine) and start the workload anew.",
        )
    if missing:
        return warning(
            "cpu_differs",
            f"The processor of {target['host']} lacks {' '.join(missing)}, which only kernels and hypervisors use.",
            "Nothing, unless the workload is a hypervisor.",
        )
    return passed(f"{target['host']} has all {len(theirs)} features of the processor of {source['host']}.")


def security_module(source: Facts, target: Facts, options: Options) -> Finding:
    """Both label processes in the same way, if the workload has a label to be restored."""
    ours, theirs, label = target["security_module"], source["security_module"], source["label"]
    if ours is None or theirs is None:
        unknown = target["host"] if ours is None else source["host"]
        return not_applicable(
            f"The kernel of {unknown} does not tell its security modules (securityfs is not mounted)."
        )
    if ours == theirs:
        return passed(f"Both have the security module {ours}.")
    reason = f"{source['host']} has the security module {theirs}, {target['host']} has {ours}."
    if theirs == "none" or _is_unconfined(label):
        return warning(
            "other_security_module", reason, "See that the workload is confined at the target as it must be."
        )
    return failed(
        "other_security_module",
        f"{reason} The label of the workload ({label}) cannot be restored.",
        "Use the same security module, or tell CRIU another label (extra_args: [--lsm-profile, ...]).",
    )


def cgroups(source: Facts, target: Facts, options: Options) -> Finding:
    """The layout is the same, if CRIU is to restore cgroups."""
    ours, theirs = target["cgroups"], source["cgroups"]
    if ours == theirs:
        return passed(f"Both have the cgroup layout {ours}.")
    reason = f"{source['host']} has the cgroup layout {theirs}, {target['host']} has {ours}."
    if options["manage_cgroups"] in _CGROUPS_LEFT_ALONE:
        return warning("other_cgroups", f"{reason} CRIU leaves cgroups alone.", "See that its limits are set again.")
    return failed("other_cgroups", reason, "Boot both with the same layout, or set manage_cgroups: ignore.")


def network_lock(source: Facts, target: Facts, options: Options) -> Finding:
    """Both can lock the network in the same way: the way is kept in the images and used again at restore."""
    if not locks_network(source):
        return not_applicable("It has no network namespace of its own and no connection, so nothing is locked.")
    if not (source["network_locks"] and target["network_locks"]):
        return not_applicable("There is no CRIU to ask how it can lock the network.")
    method = options["network_lock"]
    if method == "auto":
        # The choice of the module dump, and CRIU's own after it (criu(8), --network-lock).
        method = "nftables" if source["network_locks"]["nftables"] else "iptables"
    lacking = [host["host"] for host in (source, target) if not host["network_locks"][method]]
    if lacking:
        return failed(
            "no_network_lock",
            f"The network cannot be locked with {method} on {' and '.join(lacking)}.",
            "Install nftables there, with a CRIU that can use it, or iptables with network_lock: iptables.",
        )
    left = [(host["host"], name) for host in (source, target) for name in host["left_tables"]]
    if left:
        names = listed([f"{name} on {host}" for host, name in left])
        commands = listed([f"nft delete table inet {name}" for _host, name in left])
        return warning(
            "left_tables",
            f"Dumps that are over have left tables in nftables: {names}. If the workload's connections are among those "
            "that they lock, they get no packet any more.",
            f"Unless an image set with open connections is still to be restored there: {commands}.",
        )
    return passed(f"Both can lock the network with {method}.")


def disk_space(source: Facts, target: Facts, options: Options) -> Finding:
    """The images, about as large as the workload's memory, fit wherever they are kept, and nobody else gets there."""
    for host in (source, target):
        if host.get("images_problem"):
            problem = host["images_problem"]
            return failed("folder_not_trusted", f"On {host['host']}, {problem['message']}", problem["remedy"])
    needed = source["memory_bytes"]
    known = [host for host in (source, target) if host["free_bytes"] is not None]
    if not known:
        return not_applicable("No folder for the images was given.")
    short = [
        f"{mib(host['free_bytes'])} are free for {host['images']} on {host['host']}"
        for host in known
        if host["free_bytes"] < needed
    ]
    if short:
        reason = f"The images need about {mib(needed)}, but only {listed(short)}."
        return failed("too_little_space", reason, "Free some space, or use a folder on another file system.")
    free = ", ".join(f"{mib(host['free_bytes'])} are free on {host['host']}" for host in known)
    none = f"; {source['host']} keeps none" if source["free_bytes"] is None else ""
    return passed(f"The images need about {mib(needed)}; {free}{none}.")


def records(source: Facts, target: Facts, options: Options) -> Finding:
    """Both can keep their records, without which a workload could be lost or doubled."""
    problems = [f"on {host['host']} {problem}" for host in (source, target) for problem in host["folder_problems"]]
    if problems:
        remedy = "Make room there, or make it writable (df, df -i, findmnt -T FOLDER)."
        return failed("cannot_keep_records", f"No handoff could keep its records: {listed(problems)}.", remedy)
    return passed("The folders for records, locks and logs can be written on both.")


def memory(source: Facts, target: Facts, options: Options) -> Finding:
    """The target has the memory, twice if its images lie in memory too."""
    available, swap = target["memory_available"], target["swap_free"]
    if available is None:
        return not_applicable(f"The kernel of {target['host']} does not tell how much memory is available.")
    own, needed = source["memory_bytes"], source["memory_bytes"]
    what, remedy = f"The workload needs {mib(own)}", "Free some memory there."
    if target["images_in_memory"]:
        needed = 2 * own
        what += f", and its images in {target['images']}, which is memory too, as much again: {mib(needed)}"
        remedy = "Free some memory there, or use a folder on a disk for the images (criu_images)."
    reason = f"{what}; {mib(available)} are available on {target['host']}"
    if needed <= available:
        return passed(f"{reason}.")
    if needed <= available + swap:
        return warning("needs_swap", f"{reason}, and {mib(swap)} of swap.", remedy)
    return failed("too_little_memory", f"{reason}, and {mib(swap)} of swap.", remedy)


def mib(size: int) -> str:
    """A size in bytes for a person."""
    return f"{size / (1 << 20):.1f} MiB"


def _is_unconfined(label: str | None) -> bool:
    return label is None or label.split(" ")[0] in _UNCONFINED or any(part in _UNCONFINED for part in label.split(":"))
