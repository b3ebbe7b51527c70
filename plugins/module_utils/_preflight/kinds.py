# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a workload may hold besides its memory, and what becomes of it: one table.

What is not in it moves as it is. The verdicts are those of CRIU 4.1 and 4.2, from its sources (files.c, files-reg.c,
files-ext.c, sk-unix.c, sk-inet.c, fsnotify.c, filesystems.c, pstree.c, proc_parse.c) and from trying it.
"""

from __future__ import annotations

from dataclasses import dataclass

OPTION = "option"  # it moves with an option
LOST = "lost"  # the workload moves without it
PASSING = "passing"  # the dump fails if it is still so by then, which may not be
IMPOSSIBLE = "impossible"  # the dump, or the restore, fails


@dataclass(frozen=True)
class Kind:
    """One kind: `what` it is in words (a plural), why that matters as a clause, and what to do.

    `option` is the one that it moves with. It is set without being asked for if it is `safe`, which means that nobody
    outside the workload is touched by it. `by_engine` says that it matters also if a container engine has the
    workload: some of the others, such as its terminal, an engine takes care of.
    """

    code: str
    verdict: str
    what: str
    why: str
    remedy: str
    option: str = ""
    safe: bool = False
    by_engine: bool = True


_ANEW = "Have the workload let go of them before it is moved (in a hook at before_freeze), or start it without them."

KINDS = (
    # --- with an option ---
    Kind(
        "file_lock",
        OPTION,
        "file locks",
        "CRIU dumps a workload with locks only if it is told to, because somebody outside may wait for them",
        "Set file_locks: true in its options.",
        option="file_locks",
        safe=True,
    ),
    Kind(
        "removed_linked_file",
        OPTION,
        "open files that were removed under one name and still have another",
        "CRIU has to make a name for such a file while it dumps",
        "Set link_remap: true in its options.",
        option="link_remap",
        safe=True,
    ),
    Kind(
        "large_removed_file",
        OPTION,
        "open files that were removed and are large",
        "their contents go into the images, of which CRIU takes 1 MiB a file unless it is told otherwise",
        "Set ghost_limit in its options to at least so many bytes.",
        option="ghost_limit",
        safe=True,
    ),
    Kind(
        "watch_by_path",
        OPTION,
        "inotify or fanotify watches on file systems without file handles (overlay)",
        "CRIU has to look for the watched path, and must be told where",
        "Set extra_args: [--force-irmap, --irmap-scan-path, PATH] in its options, with the watched path in the "
        "workload for PATH (once for each).",
        option="extra_args",
        safe=True,
    ),
    Kind(
        "tcp_connection",
        OPTION,
        "TCP connections",
        "CRIU has to be told whether to keep or to close them",
        "Set tcp_established: true in its options to keep them, which needs the same address at the target, or "
        "tcp_close: true to have them closed.",
        option="tcp_established",
    ),
    Kind(
        "datagram_to_outside",
        OPTION,
        "Unix datagram sockets that are connected to one outside the workload",
        "they are connected anew at the target, if that socket has the same path there, seen from inside the workload",
        "Set ext_unix_sk: true in its options, and bind the socket at that very path in the workload.",
        option="ext_unix_sk",
    ),
    Kind(
        "foreign_session",
        OPTION,
        "sessions whose leader is outside the workload",
        "its first process is no session leader, so it may have the terminal of somebody's shell",
        "Set shell_job: true in its options, or start it in a session of its own (setsid, or as a systemd service).",
        option="shell_job",
        by_engine=False,
    ),
    # --- lost ---
    Kind(
        "queued_datagram",
        LOST,
        "UDP sockets with datagrams that were not read yet",
        "what waits in them is lost, as UDP allows",
        "",
    ),
    Kind(
        "unaccepted_connection",
        LOST,
        "Unix sockets with connections that were not accepted yet",
        "who has connected sees the connection closed",
        "",
    ),
    # --- it may pass ---
    Kind(
        "connection_in_flight",
        PASSING,
        "TCP listeners with connections that were not accepted yet",
        "CRIU does not dump them",
        "Move it again if that fails: it runs on then. extra_args: [--skip-in-flight] drops such connections.",
    ),
    Kind(
        "netlink_message",
        PASSING,
        "netlink sockets with messages that were not read yet",
        "CRIU does not dump them",
        "Move it again if that fails: it runs on then.",
    ),
    # --- impossible ---
    Kind(
        "traced",
        IMPOSSIBLE,
        "processes that are traced",
        "only one can trace a process, and CRIU has to",
        "End the tracer (a debugger, strace, or a CRIU that hangs), or wait until it is done.",
    ),
    Kind(
        "file_outside",
        IMPOSSIBLE,
        "open files on mounts that are not in the workload's mount namespace",
        "CRIU finds no path for them; often it is what the process had as standard input or output when it was started",
        "Start it with standard input, output and error of files that it can see itself, such as its own /dev/null. "
        "Or name each at both sides: extra_args: [--external, 'file[MOUNT_ID:INODE]'].",
        by_engine=False,
    ),
    Kind(
        "stream_to_outside",
        IMPOSSIBLE,
        "Unix connections to programs outside the workload",
        "one half of a connection cannot be moved, also not with ext_unix_sk",
        _ANEW + " If it is standard output or error that goes to the journal of systemd: StandardOutput=append:FILE in "
        "its unit.",
    ),
    Kind(
        "socket_unsupported",
        IMPOSSIBLE,
        "sockets of a protocol that CRIU does not know",
        "CRIU cannot dump them",
        _ANEW + " Programs written in Go listen with MPTCP unless GODEBUG=multipathtcp=0 is set.",
    ),
    Kind(
        "descriptor_unsupported",
        IMPOSSIBLE,
        "descriptors of a kind that CRIU does not know",
        "CRIU cannot dump them",
        _ANEW,
    ),
    Kind(
        "device",
        IMPOSSIBLE,
        "open devices",
        "CRIU keeps null, zero, full, random, kmsg, terminals, tun and autofs; the state of others is in the kernel",
        _ANEW + " For some devices CRIU has plugins (extra_args: [--libdir, FOLDER]).",
    ),
    Kind(
        "mapped_device",
        IMPOSSIBLE,
        "mappings of what is no regular file",
        "CRIU cannot dump them",
        _ANEW,
    ),
    Kind(
        "message_queue",
        IMPOSSIBLE,
        "POSIX message queues, or files in a file system that CRIU can only dump empty",
        "CRIU does not dump what is in them",
        "Have the workload empty and remove them (mq_unlink) before it is moved.",
    ),
    Kind(
        "missing_mountpoint",
        IMPOSSIBLE,
        "mounts over paths of /proc or /sys that the target does not have",
        "CRIU cannot mount there",
        "Load the same modules at the target, or start the workload without these mounts.",
    ),
)
