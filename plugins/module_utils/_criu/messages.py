# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The error messages of CRIU that we can explain: one table.

A text is what CRIU 4.1.1 prints (its sources; many were seen by provoking them), where `...` stands for anything and a
name in braces for something that tells the place: see `_PLACES`. A row may have several texts for one cause.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Mapping, Pattern

from ansible_collections.fleet.criu.plugins.module_utils._criu.log_lines import says_nothing

# What a name in a text may look like. A file or mountpoint is as the workload sees it, a host path as this host does.
_PLACES = {
    "mount": r"[0-9]+",
    "mountpoint": r"\.?/.*?",
    "file": r".+?",
    "host_path": r"/.*?",
    "root": r"/.*?",
    "descriptor": r"[0-9]+",
    "pid": r"[0-9]+",
    "inner_pid": r"[0-9]+",
    "thing": r".+?",
}
_ANYTHING = "..."
_PARTS = re.compile(r"(\{[a-z_]+\}|\.\.\.)")


@dataclass(frozen=True)
class Message:
    """One cause. `general` ones tell little by themselves: any other cause in the same log goes before them."""

    code: str
    texts: tuple[str, ...]
    why: str
    remedy: str
    general: bool = False


@dataclass(frozen=True)
class Match:
    """An error line that the table knows, and what the line says of the place."""

    message: Message
    text: str
    places: Mapping[str, str]


def find(line: str) -> Match | None:
    """The first row of the table with a text that is in the error line."""
    for message, text, pattern in _patterns():
        match = pattern.search(line)
        if match is not None:
            return Match(message, text, match.groupdict())
    return None


def is_cause(line: str) -> bool:
    """Whether the line can tell a cause, and does not merely follow from another one."""
    return not says_nothing(line) and not any(pattern.search(line) for pattern in _FOLLOWS)


def _pattern(text: str) -> Pattern[str]:
    parts = _PARTS.split(text)
    body = "".join(map(_part, parts))
    # A lazy group at the very end would take one character alone.
    return re.compile(body + "$" if parts[-1] == "" and parts[-2] != _ANYTHING else body)


def _part(part: str) -> str:
    if part == _ANYTHING:
        return ".*?"
    if part.startswith("{"):
        name = part[1:-1]
        return f"(?P<{name}>{_PLACES[name]})"
    return re.escape(part)


@lru_cache(maxsize=None)
def _patterns() -> tuple[tuple[Message, str, Pattern[str]], ...]:
    # Not before the first failure: to compile them takes longer than all else that is imported here.
    return tuple((message, text, _pattern(text)) for message in MESSAGES for text in message.texts)


_FOLLOWS = tuple(
    map(
        re.compile,
        (
            r"Can't remove the directory /tmp/\.criu\.mntns\.",
            r"^(exited|[0-9]+ exited), status=",
            r"`- Can't open vma",
            r"^Unable to open fd=[0-9]+ id=",
            r"^Restorer fail [0-9]+",
            r"\(pid: [0-9]+\) failed with -?[0-9]+",
            r"Unable to get the root file descriptor of pid [0-9]+",
            r"^Can't write pidfile: File exists",
        ),
    )
)

MESSAGES = (
    # --- mounts at dump ---
    Message(
        "mount_without_key",
        ("{mount}:{mountpoint} doesn't have a proper root mount",),
        "this mount shows something that lies outside the workload's root, and it has no key",
        "An external mount has no key: run mount_info and mount_map again, and use the dump map that they give.",
    ),
    Message(
        "filesystem_unsupported",
        ("FS mnt {mountpoint} dev ... unsupported id {mount}",),
        "CRIU cannot dump the content of this kind of file system",
        "Give that mountpoint a key, so that one of the target takes its place. For a block device that is mounted "
        "whole, add --external dev[MAJOR/MINOR]:NAME to extra_args.",
    ),
    Message(
        "filesystem_refused",
        ("failed to dump fs {mountpoint} (",),
        "CRIU refuses to dump this file system",
        "Give that mountpoint a key, or unmount it in the workload.",
    ),
    Message(
        "content_not_copied",
        (
            "Unable to dump a file system for {mount}:{mountpoint}",
            "Can't dump tmpfs content",
            "Can't restore tmpfs content",
        ),
        "the content of a tmpfs of the workload could not be archived or unpacked",
        "CRIU needs tar and space for it: install tar, look for space in the image folder, or give the mount a key.",
    ),
    Message(
        "unreachable_sharing",
        (
            "Mount {mount} {mountpoint} (master_id: ... has unreachable sharing",
            "Sharing group (...) has unreachable sharing",
        ),
        "this mount receives mounts from a peer group outside the workload",
        "Give that mountpoint a key of its own. The option that CRIU names acts only with auto detection.",
    ),
    Message(
        "parent_mount_missing",
        ("No parent found for mountpoint {mount} (@{mountpoint})",),
        "the mount above it cannot be seen: it was skipped, or CRIU itself runs in a plain chroot",
        "Do not skip a mount that others lie on, and run CRIU in the host's own root.",
    ),
    Message(
        "stacked_mounts",
        ("Mount ... has two children with same mountpoint: ... {mount}",),
        "two mounts lie on one mountpoint, which CRIU does not support",
        "Unmount one of the two in the workload.",
    ),
    Message(
        "fuse_without_key",
        ("{mountpoint} is a fuse mount but not external",),
        "a FUSE file system is served by a program that CRIU does not move",
        "Give that mountpoint a key, and mount the same on the target.",
    ),
    Message(
        "file_outside",
        ("Can't lookup mount={mount} for fd={descriptor} path={file}",),
        "an open file lies on a mount outside the workload, so CRIU cannot find it again",
        "Close it before the dump (often it is standard input, output or error), or open it inside the workload.",
    ),
    Message(
        "file_covered",
        ("Open files on overmounted mounts are not supported yet; mount={mount} fd={descriptor} path={file}",),
        "an open file lies on a mount that another mount covers",
        "Unmount the cover, or close the file.",
    ),
    Message(
        "chroot",
        ("The root task has another root than mntns: {root}",),
        "the workload was put into its root with chroot, and its mount namespace goes on outside",
        "Start it with pivot_root instead of chroot.",
    ),
    Message(
        "root_not_given",
        ("The --root option is required to restore a mount namespace",),
        "the workload has mounts of its own, but no root for them was given",
        "Set root.",
    ),
    # --- mounts at restore ---
    Message(
        "key_without_path",
        ("No mapping for {mount}:... mountpoint", "No mapping for ... mountpoint"),
        "the restore map has no path for this mount's key",
        "Add the key to the restore map, best by mount_map for this host.",
    ),
    Message(
        "detected_mount",
        ("Mount {mount}:... is autodetected external mount",),
        "the images were made with auto detection, and hold a path of the source host instead of a key",
        "Add --external mnt[] to extra_args at restore, or dump with explicit keys.",
    ),
    Message(
        "path_missing",
        ("Failed to open_tree {host_path}: No such file or directory",),
        "this path, or a folder below it that the images need, is missing on this host",
        "A path of the restore map is missing here: create it, mount it, or correct the map.",
    ),
    Message(
        "path_is_no_folder",
        ("Failed to open_tree {host_path}: Not a directory",),
        "a part of this path that must be a folder is a file",
        "Take the trailing slash off if it is meant to be a file, or correct the restore map.",
    ),
    Message(
        "path_not_opened",
        ("Failed to open_tree {host_path}: ...",),
        "this path cannot be mounted from",
        "A path of the restore map cannot be used: see the error at the end of the line.",
    ),
    Message(
        "path_of_wrong_type",
        ("Failed to move_mount from {host_path} to {mountpoint}: Invalid argument",),
        "the path is a file where a folder is needed, a folder where a file is, or a symbolic link",
        "Correct the restore map: same type as at dump, and with symbolic links resolved.",
    ),
    Message(
        "mountpoint_missing",
        ("Can't stat mountpoint {mountpoint}: ...", "Can't stat on {mountpoint}: No such file or directory"),
        "there is nothing to mount on: the mountpoint is missing in the root, or in the path of the mount above it",
        "Create it on this host (a folder for a folder, an empty file for a file), or copy the root again.",
    ),
    Message(
        "sharing_not_restored",
        (
            "Failed to copy sharing from source {host_path} to {mount}",
            "Failed to copy sharing from -1:{host_path} to ...",
            "Failed to copy sharing from ...:<none> to ...",
            "Failed to copy sharing from ... to {mount}",
            "Can't copy sharing from ... to {mount}[",
            "Failed to make mount {mount} slave",
        ),
        "its path on this host is neither shared nor slave, or one sharing group is spread over several file systems",
        "Make the path's mount shared (mount --make-shared), and keep the paths of one group on one file system.",
    ),
    Message(
        "deleted_source",
        ("Can't re-create deleted directory {mountpoint}:", "Can't re-create deleted file {mountpoint}:"),
        "what was bound there had been removed or replaced (by rename) before the dump",
        "Mount it anew in the workload and dump again; replace bound files in place, never by rename.",
    ),
    Message(
        "root_missing",
        ("Unable to mount {host_path} ... (id={mount}): No such file or directory",),
        "the workload's root is missing on this host",
        "Copy the root to this host, or correct the path.",
    ),
    Message(
        "mount_refused",
        ("Can't mount at {mountpoint}: ...", "Unable to mount {host_path} ... (id={mount}): ..."),
        "this host does not let it be mounted",
        "See the error at the end of the line: the kernel may lack the file system, or a permission is missing.",
    ),
    # --- files ---
    Message(
        "file_missing",
        (
            "Can't open file {file} on restore: No such file or directory",
            "Can't open file {file}: No such file or directory",
        ),
        "the workload has it open or mapped, and it is missing on this host",
        "Copy the root (or the folder of that mount) from the source again.",
    ),
    Message(
        "file_not_opened",
        ("Can't open file {file} on restore: ...",),
        "the workload has it open or mapped, and it cannot be opened on this host",
        "See the error at the end of the line; look at the file's permissions and type, and at the mount it is on.",
    ),
    Message(
        "working_folder_missing",
        ("Can't open cwd", "Can't change cwd"),
        "the working folder of a process is missing on this host",
        "Create it, or copy the root (or the folder of that mount) again.",
    ),
    Message(
        "file_size_differs",
        ("File {file} has bad size ...",),
        "it has another size than at dump, so its content differs",
        "Copy it again from the source, after the dump. Only files opened for appending may grow.",
    ),
    Message(
        "file_build_differs",
        ("File {file} has bad build-ID",),
        "this program or library is another build than the one at dump",
        "Install the same package as on the source, or copy the file from there.",
    ),
    Message(
        "file_mode_differs",
        ("File {file} has bad mode ...",),
        "it has other permissions than at dump",
        "Copy it again with its permissions, or add --skip-file-rwx-check to extra_args.",
    ),
    Message(
        "ghost_too_large",
        ("Can't dump ghost file {file} of ... size, increase limit",),
        "it was removed while open, and is too large to be kept in the images",
        "Raise ghost_limit above its size in bytes, or let the workload close it.",
    ),
    Message(
        "removed_file_with_links",
        ("Can't create link remap for {file}. Use ",),
        "this name was removed while the file was open, and the file has other names",
        "Set link_remap, which makes a temporary link beside it.",
    ),
    Message(
        "link_not_made",
        ("Can't link remap to {file}: ...",),
        "the temporary link for a removed open file cannot be made there",
        "Let the workload close the file, or make the mount writable.",
    ),
    Message(
        "io_uring",
        ("Can't dump file {descriptor} of that type ... anon_inode:[io_uring]",),
        "the workload uses io_uring, which CRIU does not support",
        "Configure the workload to do without io_uring.",
    ),
    Message(
        "file_type_unsupported",
        ("Can't dump file {descriptor} of that type [...] ({thing})",),
        "CRIU cannot dump files of this type (devices, and descriptors that stand for kernel objects)",
        "Let the workload close it before the dump, or do without it.",
    ),
    Message(
        "path_unsupported",
        ("The path [{file}] is not supported",),
        "an open file has no path that could be opened again",
        "Let the workload close it before the dump.",
    ),
    Message(
        "path_leads_elsewhere",
        ("Unaccessible path opened",),
        "the path of an open file now leads to another file: it was replaced or is covered by a mount",
        "Let the workload open it anew, or uncover it.",
    ),
    Message(
        "file_locks",
        ("Some file locks are hold by dumping tasks",),
        "the workload holds file locks",
        "Set file_locks at dump and restore, if nobody outside the workload needs them.",
    ),
    Message(
        "lock_not_restored",
        ("Can not set flock!", "Can not set posix lock!", "Can not set ofd lock!"),
        "somebody else on this host holds a lock on a file that the workload had locked",
        "End the one that holds it: perhaps another copy of the workload runs here.",
    ),
    Message(
        "watched_file_not_found",
        ("Can't find suitable path for handle (dev ...",),
        "CRIU cannot tell the path of a file that the workload watches (inotify, fanotify)",
        "Add --force-irmap to extra_args, and --irmap-scan-path for folders that it does not search by itself.",
    ),
    # --- processes ---
    Message(
        "session_outside",
        (
            "A session leader of {pid}({inner_pid}) is outside of its pid namespace",
            "A session leader of zombie process {pid}({inner_pid}) is outside of its pid namespace",
        ),
        "the process belongs to a session that was begun outside the workload's pid namespace",
        "Start the workload with setsid inside its pid namespace.",
    ),
    Message(
        "terminal",
        ("The root process {inner_pid} is not a session leader", "Found dangling tty"),
        "the workload was started from a shell and shares its session or terminal",
        "Set shell_job, or start the workload with setsid and without a terminal.",
    ),
    Message(
        "session_in_use",
        ("Current sid {pid} intersects with", "Current gid {pid} intersects with"),
        "the session or group that CRIU runs in has a number that the workload needs",
        "Restore again (the number changes), or run the workload in a pid namespace of its own.",
    ),
    Message(
        "pid_in_use",
        ("Pid ... do not match expected {inner_pid}", "Can't fork for {inner_pid}: File exists"),
        "a process of this host has the number that the workload needs",
        "Run the workload in a pid namespace of its own.",
    ),
    Message(
        "pid_namespace_needed",
        ("This process tree can only be restored in a new pid namespace",),
        "the images hold a whole pid namespace, and the options ask to restore without one",
        "Take the options about namespaces out of extra_args.",
    ),
    Message(
        "criu_inside",
        ("The criu itself is within dumped tree",),
        "the dump was started from inside the workload",
        "Start it from outside the process tree that is dumped.",
    ),
    Message(
        "process_not_stopped",
        ("Unseizable non-zombie {pid} found",),
        "the process cannot be traced, because something traces it already or it is going away",
        "End the debugger (see TracerPid in /proc/PID/status), and dump again.",
    ),
    Message(
        "rseq_unsupported",
        ("{pid} has rseq but kernel lacks get_rseq_conf feature",),
        "the C library of the workload uses restartable sequences, which this kernel does not let CRIU read",
        "Use kernel 5.13 or later, or set GLIBC_TUNABLES=glibc.pthread.rseq=0 for the workload.",
    ),
    Message(
        "shared_memory_outside",
        ("Task {pid} with SysVIPC shmem map @... doesn't live in IPC ns",),
        "it uses System V shared memory of the host",
        "Start the workload in an IPC namespace of its own.",
    ),
    Message(
        "timeout",
        ("Timeout reached",),
        "the workload could not be frozen and collected in time",
        "Raise timeout.",
    ),
    # --- sockets and network ---
    Message(
        "criu_too_old_for_sockets",
        ("Can't get 1:16 opt: ", "Can't get 1:34 opt: "),
        "this CRIU asks TCP and UDP sockets for options that the kernel knows no more (from 6.16 on)",
        "Install CRIU 4.2 or later.",
    ),
    Message(
        "connected",
        ("Connected TCP socket, consider using", "Connected TCP socket in image"),
        "the workload has open TCP connections",
        "Set tcp_established (keep the connections) or tcp_close (drop them), at dump and restore.",
    ),
    Message(
        "connections_closed",
        ("Need to set the --tcp-close options",),
        "the dump dropped the TCP connections, and the restore was not told",
        "Set tcp_close at restore as well.",
    ),
    Message(
        "connection_half_open",
        ("In-flight connection (l) for",),
        "somebody is just connecting to a TCP socket of the workload",
        "Dump again, or add --skip-in-flight to extra_args: who connects then tries again.",
    ),
    Message(
        "address_missing",
        ("Can't bind inet socket (id ...): Cannot assign requested address",),
        "the workload listens on an IP address that this host does not have",
        "Give this host the address, or let the workload listen on one that both hosts have.",
    ),
    Message(
        "address_in_use",
        ("Can't bind inet socket (id ...): Address already in use",),
        "another program on this host listens on the workload's address and port",
        "Stop it: see who listens there with ss -lntup.",
    ),
    Message(
        "address_refused",
        ("Can't bind inet socket (id ...): ...",),
        "a socket of the workload cannot be bound to its address on this host",
        "See the error at the end of the line.",
    ),
    Message(
        "external_socket",
        ("External socket is used", "External socket found in image"),
        "a Unix socket of the workload is connected to a program outside it",
        "Set ext_unix_sk at dump and restore; the program must listen on the target as well.",
    ),
    Message(
        "external_stream",
        ("Can't dump half of stream unix connection. name: {thing}", "Can't dump name-less external socket"),
        "a Unix socket of the workload is connected to a program outside it, and cannot be connected anew",
        "Let the workload close the connection before the dump.",
    ),
    Message(
        "socket_peer_missing",
        ("Can't connect ... socket: No such file or directory", "Can't connect ... socket: Connection refused"),
        "nobody listens on this host on the Unix socket that the workload was connected to",
        "Start that program here first.",
    ),
    Message(
        "socket_unsupported",
        (
            "Unsupported proto ... for socket",
            "Only stream, dgram and raw are supported",
            "Unsupported socket family: ...",
        ),
        "CRIU cannot dump a socket of this kind",
        "Let the workload close it before the dump.",
    ),
    Message(
        "nftables_missing",
        ("CRIU was built without libnftables support",),
        "this CRIU cannot use nftables",
        "Set network_lock to iptables and install iptables, or install a CRIU with nftables.",
    ),
    Message(
        "nftables_lock",
        ("Locking network failed using nftables",),
        "the network could not be locked with nftables",
        "The kernel may lack nf_tables: load the module, or install iptables and set network_lock to iptables.",
    ),
    Message(
        "network_lock",
        ("Locking network failed", 'execvp("iptables-restore"', 'execvp("ip6tables-restore"'),
        "the network could not be locked, because iptables is missing or does not work",
        "Set network_lock to nftables (or auto), or install iptables.",
    ),
    Message(
        "network_device",
        ("Unsupported link ... (type ... kind {thing})",),
        "the workload's network namespace has a device that CRIU cannot dump",
        "Remove the device before the dump, or keep the network namespace outside the images.",
    ),
    Message(
        "namespace_not_given",
        ("Unable to find an external netns: {thing}", "Unable to find an external pidns: {thing}"),
        "the dump left a namespace outside the images, and the restore was not given one",
        "Give it with --inherit-fd in extra_args.",
    ),
    # --- control groups, security, processor ---
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
        ("cg: Failed writing ... to {thing}:", "cg: Can't move ... into {thing} (", "cg: Can't move into {thing} ("),
        "the control groups of this host do not take what the images hold",
        "Set manage_cgroups to ignore on both sides.",
    ),
    Message(
        "security_module",
        (
            "mismatched lsm types",
            "apparmor LSM specified but apparmor not supported",
            "selinux LSM specified but selinux not supported",
        ),
        "the hosts have different security modules (AppArmor, SELinux)",
        "Use hosts with the same one, or add --lsm-profile none to extra_args.",
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
        ),
        "the processor of this host lacks something that the source's has, or has it otherwise",
        "Restore on a host with the same or a newer processor; compare them with criu cpuinfo.",
    ),
    Message(
        "criu_too_old_for_kernel",
        ("Unexpected rt vDSO area bounds",),
        "this CRIU is too old for this kernel",
        "Install CRIU 4.1.1 or later.",
    ),
    Message(
        "memory_not_tracked",
        ("Tracking memory is not available",),
        "this kernel cannot tell which memory pages were written (no soft-dirty bit)",
        "Do without pre-copy and --track-mem here.",
    ),
    Message(
        "lazy_pages_unavailable",
        ("Lazy pages are not available",),
        "this kernel cannot fetch memory pages later (no userfaultfd for this)",
        "Do without lazy pages here.",
    ),
    # --- images and calls ---
    Message(
        "stale_pid_file",
        ("pidfile: Can't open {host_path}: File exists",),
        "the pid file is there already, left by an earlier run",
        "Remove it, if the process that it names is not the workload.",
    ),
    Message(
        "images_damaged",
        (
            "Magic doesn't match for {thing}",
            "Head magic doesn't match for {thing}",
            "Unexpected EOF",
            "Img trimmed ...",
            "Can't read pages data",
            "Image corrupted on pid {inner_pid}",
        ),
        "an image is missing, cut off or damaged",
        "Copy the image set again from where it was dumped.",
    ),
    Message(
        "images_of_other_version",
        ("Not supported images version ...", "Too old image, no longer supported"),
        "the images were written by a CRIU that this one does not understand",
        "Use the same version of CRIU on both hosts.",
    ),
    Message(
        "plugin_missing",
        ("Missing required plugin: {thing}",),
        "the images need a plugin of CRIU that is not installed here",
        "Install the same plugins as on the source.",
    ),
    Message(
        "option_unknown",
        ("unrecognized option '{thing}'", "unknown option `{thing}'"),
        "this CRIU does not know the option",
        "Take it out of extra_args, or install a later CRIU.",
    ),
    # --- what tells little by itself ---
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
        "process_killed",
        ("{pid} killed by signal",),
        "a process of the workload was killed while it was restored",
        "Look into the kernel's log for a lack of memory, and into CRIU's for the lines before.",
        general=True,
    ),
    Message(
        "script_failed",
        ("Script {thing} exited with", "script ret code"),
        "an action script refused to go on",
        "See what the script says.",
        general=True,
    ),
    Message(
        "in_use",
        ("File exists",),
        "something that CRIU must make is there already",
        "A process ID or a file is in use here; see the error lines.",
        general=True,
    ),
    Message(
        "not_permitted",
        ("Operation not permitted",),
        "CRIU lacks a permission",
        "Use a host that gives root all capabilities, and no security module that forbids it.",
        general=True,
    ),
)
