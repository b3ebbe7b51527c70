# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CRIU says of this host: control groups, security modules, processor, kernel.

For the form of the texts see messages.py.
"""

from __future__ import annotations

from ansible_collections.fleet.criu.plugins.module_utils._criu.message import Message

HOST = (
    Message(
        "freezer",
        (
            "Neither a cgroupv1 (freezer.state) or cgroupv2 (cgroup.freeze) control file found",
            "Unknown freezer state",
            "Unable to restore freezer state",
            "Unable to freeze tasks",
            "Unable to thaw tasks",
        ),
        "the control group that the workload is frozen with cannot be used",
        "Take --freeze-cgroup out of extra_args, or give it a control group that has cgroup.freeze.",
    ),
    Message(
        "cgroup_outside",
        (
            "invalid cgroup configuration, ...",
            "CG paths mismatch",
            "shorter than path prefix",
        ),
        "processes of the workload are in control groups that do not lie below that of its first process",
        "Set manage_cgroups to ignore on both sides, or keep the workload in one control group with its own below.",
    ),
    Message(
        "cgroup_missing",
        ("Cgroup dir {thing} doesn't exist",),
        "a control group of the workload does not exist on this host, and the mode forbids to make it",
        "Set manage_cgroups to soft, or to ignore on both sides.",
    ),
    Message(
        "cgroup_exists",
        ("Abort restore of existing cgroups",),
        "a control group of the workload exists on this host, and the mode forbids to use it",
        "Set manage_cgroups to soft, or to ignore on both sides.",
    ),
    Message(
        "cgroup_refused",
        (
            "cg: Failed writing ... to {thing}:",
            "cg: Can't move ... into {thing} (",
            "cg: Can't move into {thing} (",
            "bad cgroup path: {thing}: ...",
            "Can't make cgroup dir {thing}: ...",
            "cgroupd: Can't move thread ... into {thing}",
            "Failed accessing cgroup dir {thing}: ...",
            "couldn't set cgns prefix {thing}: ...",
            "failed statting cgroup prop {thing}: ...",
            "Failed scanning {thing}: ...",
            "cg: couldn't open {thing}: ...",
            "Unable to mount the cgroup ({thing}) file system",
            "Unable to configure the cgroup ({thing}) file system",
            "Unable to create the cgroup ({thing}) file system",
            "Can't mount controller dir {thing}: ...",
            "Can't make controller dir {thing}: ...",
            "controller {thing} not found",
            "Failed opening {thing}: ...",
            "Restoring {thing} special property failed",
            "cg: Unable to mount ...",
        ),
        "the control groups of this host do not take what the images hold, or are laid out otherwise",
        "Set manage_cgroups to ignore on both sides.",
    ),
    Message(
        "security_module",
        (
            "mismatched lsm types",
            "apparmor LSM specified but apparmor not supported",
            "selinux LSM specified but selinux not supported",
            "can't write lsm profile ...",
            "failed openat ...",
            "unknown lsm {thing}",
            "can't render profile {thing} for lsmtype",
            "couldn't write policy for {thing}: ...",
            "write AA policy {thing} in ...",
            "failed to write policy in AA namespace {thing}",
            "failed to create namespace {thing}: ...",
            "failed to open aa policy {thing}: ...",
            "couldn't open apparmor load file {thing}: ...",
            "apparmor parsing failed",
            "walking AA namespace {thing} failed",
            "Unable to set the {thing} socket SELinux context",
            "Non unconfined selinux contexts not supported {thing}",
        ),
        "the security modules (AppArmor, SELinux) of the hosts differ, or this one does not have the profile "
        "that the workload had",
        "Use hosts with the same one, load the profile here, or add --lsm-profile none to extra_args.",
    ),
    Message(
        "processor",
        (
            "CPU instruction capabilities do not match",
            "CPU capabilities do not match",
            "xsave size mismatch",
            "xsave max size mismatch",
            "FPU feature required by image",
            "CPU xfeatures has unsupported bits",
            "FPU xsave area present,",
            "CPU Feature ... not supported on host",
            "missing support fxsave/restore insns",
            "Image carries unknown capability version ...",
            "Unknown cpu vendor ...",
            "CPU capabilites do not match",
            "Size of features in image mismatch",
            "Unsupported CPU vendor {thing}",
            "Image carries unknown vendor ...",
            "{pid} killed by signal 4: ...",
        ),
        "the processor of this host lacks something that the source's has, or has it otherwise",
        "Restore on a host with the same or a newer processor; compare them with criu cpuinfo.",
    ),
    Message(
        "criu_too_old_for_kernel",
        (
            "Unexpected rt vDSO area bounds",
            "Corrupted Elf",
            "Can't find vDSO/VVAR bounds",
            "VVAR and VVAR_VCLOCK entries are not subsequent",
            "two nonconsecutive vvar vma-s",
            "Got second VVAR entry",
            "Got second vDSO entry",
            "Can't find rt vDSO",
            "Not all dynamic entries are present",
            "Task had vdso, restorer doesn't",
            "Kernel reports more capabilities than this CRIU supports",
            "Failed to parse mountinfo line ...",
            "failed when initializing kerndat",
            "Could not initialize kernel features detection",
        ),
        "this CRIU is too old for this kernel, or the kernel lacks what it needs",
        "Install CRIU 4.1.1 or later, and see what criu check says.",
    ),
    Message(
        "memory_not_tracked",
        (
            "Tracking memory is not available",
            "Can't reset {pid}'s dirty memory tracker",
        ),
        "this kernel cannot tell which memory pages were written (no soft-dirty bit)",
        "Do without pre-copy and --track-mem here.",
    ),
    Message(
        "lazy_pages_unavailable",
        (
            "Lazy pages are not available",
            "Unable to open an userfaultfd descriptor",
            "Incompatible uffd API",
            "lazy-pages: register ... failed",
        ),
        "this kernel cannot fetch memory pages later (no userfaultfd for this)",
        "Do without lazy pages here.",
    ),
)
