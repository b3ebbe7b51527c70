# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tells little by itself: mostly an error of the kernel at the end of a line.

For the form of the texts see messages.py.
"""

from __future__ import annotations

from ansible_collections.fleet.criu.plugins.module_utils._criu.message import Message

GENERAL = (
    Message(
        "timeout",
        ("Timeout reached",),
        "the workload could not be frozen and collected in time",
        "Raise timeout.",
        general=True,
    ),
    Message(
        "no_space",
        ("No space left on device",),
        "there is too little space",
        "The host has too little space: free some, or choose another image folder.",
        general=True,
    ),
    Message(
        "no_memory",
        ("Cannot allocate memory",),
        "there is too little memory",
        "Free some memory on this host, or choose another host.",
        general=True,
    ),
    Message(
        "too_many_files",
        ("Too many open files",),
        "CRIU may not open as many files as it needs",
        "Raise the limit of open files (NOFILE), for CRIU or on this host.",
        general=True,
    ),
    Message(
        "process_crashed",
        (
            "{pid} killed by signal 11: ...",
            "{pid} killed by signal 7: ...",
            "{pid} killed by signal 5: ...",
            "{pid} killed by signal 6: ...",
        ),
        "a process of the workload crashed while it was restored, mostly because this CRIU is too old for "
        "the kernel or the C library (vDSO, rseq)",
        "Install a later CRIU (4.2 or later), use the same kernel on both hosts, and see that no file that "
        "was mapped has changed.",
        general=True,
    ),
    Message(
        "process_killed",
        (
            "{pid} killed by signal 9: ...",
            "{pid} killed by signal ...",
        ),
        "a process of the workload was killed while it was restored",
        "Look into the kernel's log for a lack of memory, and into CRIU's for the lines before.",
        general=True,
    ),
    Message(
        "script_failed",
        (
            "Script {thing} exited with",
            "script ret code",
            "One of more action scripts failed",
            "Pre dump script failed with",
        ),
        "an action script refused to go on",
        "See what the script says.",
        general=True,
    ),
    Message(
        "read_only",
        ("Read-only file system",),
        "something that CRIU must write lies on a read-only file system",
        "Mount it writable, or choose another place; CRIU's words tell which.",
        general=True,
    ),
    Message(
        "access_denied",
        ("Permission denied",),
        "the kernel did not let CRIU open something",
        "See in CRIU's words what it was: its permissions and those of the folders above it, a security "
        "module, or a user namespace whose root may not.",
        general=True,
        vague=True,
    ),
    Message(
        "in_use",
        ("File exists",),
        "something that CRIU must make is there already",
        "A process ID or a file is in use here; see the error lines.",
        general=True,
        vague=True,
    ),
    Message(
        "not_permitted",
        ("Operation not permitted",),
        "the kernel refused something to CRIU",
        "See in CRIU's words what it was: an option of the kernel may be off, a security module or a "
        "container may forbid it, or a capability may be missing.",
        general=True,
        vague=True,
    ),
)
