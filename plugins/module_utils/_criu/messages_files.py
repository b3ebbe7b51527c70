# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CRIU says of files, descriptors and terminals.

For the form of the texts see messages.py.
"""

from __future__ import annotations

from ansible_collections.fleet.criu.plugins.module_utils._criu.message import Message

FILES = (
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
        (
            "Can't open cwd",
            "Can't change cwd",
        ),
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
        (
            "Can not set flock!",
            "Can not set posix lock!",
            "Can not set ofd lock!",
            "Can't set lease",
            "Can't restore non breaking lease",
        ),
        "somebody else on this host holds a lock on a file that the workload had locked",
        "End the one that holds it: perhaps another copy of the workload runs here.",
    ),
    Message(
        "watch_limit",
        (
            "Can't add watch for ... with ...: No space left on device",
            "Can't create inotify for ...: Too many open files",
        ),
        "this host allows fewer watches of files (inotify) than the workload has",
        "Raise fs.inotify.max_user_watches and fs.inotify.max_user_instances with sysctl, as on the source.",
    ),
    Message(
        "watched_file_missing",
        ("Can't add watch for ... with ...: No such file or directory",),
        "a file that the workload watches (inotify) is missing on this host",
        "Copy the root (or the folder of that mount) from the source again.",
    ),
    Message(
        "watch_not_restored",
        (
            "Can't add watch for ... with ...: ...",
            "Adding fanotify mask ... failed",
            "Adding fanotify ignored-mask ... failed",
            "Can't init fanotify mark",
            "Can't set next inotify wd",
            "Can't find mount mnt_id ...",
        ),
        "a watch of a file (inotify, fanotify) cannot be made anew, because this kernel does not take its "
        "mask or number",
        "Use the same kernel on both hosts, or let the workload drop its watches before the dump.",
    ),
    Message(
        "watched_file_not_found",
        (
            "Can't find suitable path for handle (dev ...",
            "Can't dump that handle",
        ),
        "CRIU cannot tell the path of a file that the workload watches (inotify, fanotify): its file system "
        "(overlay, btrfs) does not resolve handles",
        "Add --force-irmap to extra_args, and --irmap-scan-path for folders that it does not search by itself.",
    ),
    Message(
        "epoll_not_restored",
        ("Can't add event on ...: Operation not permitted",),
        "the workload waits (epoll) for a descriptor that stands here for a file that cannot be waited for, "
        "such as an ordinary file",
        "Give the restore the same kind of file (pipe, socket, terminal) for each descriptor that it "
        "inherits, or let the workload take it out of epoll.",
    ),
    Message(
        "epoll_incomplete",
        (
            "Can't add event on ...: ...",
            "Escaped/closed fd descriptor {descriptor} on pid {pid}",
        ),
        "the workload waits (epoll) for a descriptor that was closed, moved or sent to another process",
        "Let the workload take closed descriptors out of epoll (EPOLL_CTL_DEL), or start it anew, and dump again.",
    ),
    Message(
        "link_missing",
        ("Can't link {file} -> ...: No such file or directory",),
        "the temporary link that the dump made for a removed open file is missing on this host",
        "Copy the root and the folders of the mounts after the dump, with the files link_remap.*.",
    ),
    Message(
        "file_not_linked",
        ("Can't link {file} -> ...: ...",),
        "a removed open file cannot be linked here to be opened",
        "See the error at the end of the line: the mount may be read-only, or the name may be taken.",
    ),
    Message(
        "root_of_process_missing",
        (
            "Can't open root",
            "Can't change root",
        ),
        "the root folder of a process is missing on this host, or cannot be entered",
        "Copy the root again, with all folders that processes of the workload use as their root.",
    ),
    Message(
        "ghost_not_made",
        (
            "The ... mount is not found for ghost",
            "Can't open ghost original file",
            "Can't transfer data to ghost file from image",
        ),
        "a file that was removed while open cannot be made anew",
        "See that the mount it was on is writable and has space, or let the workload close it before the dump.",
    ),
    Message(
        "lock_unsupported",
        (
            "Unknown file lock",
            "Unresolved lock found pid {pid} ino",
        ),
        "the workload has a lock of a kind, or from an owner, that CRIU cannot tell",
        "Let the workload release its locks before the dump; locks over NFS or of an ended process cannot be kept.",
    ),
    Message(
        "pipe_packets",
        ("The packetized mode for pipes is not supported yet",),
        "the workload uses a pipe that keeps packets apart (O_DIRECT)",
        "Let the workload close it before the dump, or use an ordinary pipe.",
    ),
    Message(
        "pipe_size",
        (
            "Can't restore pipe size",
            "Unable to set a pipe size",
        ),
        "this host does not allow a pipe as large as the workload's",
        "Raise fs.pipe-max-size and fs.pipe-user-pages-soft with sysctl, as on the source.",
    ),
    Message(
        "fifo_not_opened",
        (
            "Can't open fifo ... [{file}]: ...",
            "Can't open fake fifo ... [{file}]: ...",
        ),
        "a named pipe of the workload cannot be opened on this host",
        "Copy the root (or the folder of that mount) again, with its named pipes (rsync --specials).",
    ),
    Message(
        "memory_file_not_made",
        (
            "Can't create memfd:{thing}: ...",
            "Cannot apply seals on memfd",
            "Can't reopen memfd",
        ),
        "a file in memory (memfd) cannot be made anew on this host",
        "Set vm.memfd_noexec to 0, and give the host as many huge pages (vm.nr_hugepages) as the source has.",
    ),
    Message(
        "bpf_unsupported",
        (
            "CRIU does not currently support dumping BPF map type",
            "Can't create bpfmap",
            "Can't perform a batch lookup on BPF map",
        ),
        "the workload has a BPF map that CRIU cannot dump or make anew",
        "Let the workload close it before the dump.",
    ),
    Message(
        "process_descriptor",
        (
            "pidfd pid {pid} is not a part of process tree",
            "PIDFD_THREAD flag is currently not supported",
            "Can't create pidfd ...",
        ),
        "the workload holds a descriptor (pidfd) of a process outside it, or of a single thread",
        "Let the workload close it before the dump.",
    ),
    Message(
        "descriptor_number",
        ("Too big FD number to restore {descriptor}",),
        "the workload has a descriptor with a higher number than this host allows",
        "Raise fs.nr_open with sysctl, and the limit of open files (NOFILE) that CRIU runs with.",
    ),
    Message(
        "mapping_unsupported",
        (
            "Unsupported mapping found ...",
            "Nonlinear mapping found ...",
            "Bogus mapping ...",
            "Unexpected VMA met",
            "Can't handle non-regular mapping on {pid}'s map",
            "Strange file mapped at ... [{file}]",
        ),
        "a process has mapped something that CRIU cannot dump, such as a device",
        "Let the workload do without it (a GPU, an RDMA card or the like), or use a plugin of CRIU for that device.",
    ),
    Message(
        "mapping_not_opened",
        (
            "Can't open mapped [{file}]: ...",
            "Can't open {pid}'s mapfile link",
            "Failed to resolve mapping ... filename",
            "Can't open map_files",
            "Failed fstat on map",
            "Failed fstatat on map",
        ),
        "a file that a process has mapped cannot be opened by CRIU",
        "Run CRIU as root of the host, outside of any container or user namespace, and see that the file is "
        "there still.",
    ),
    Message(
        "asynchronous_io",
        (
            "Ring setup failed with ...",
            "Ring remap failed with ...",
            "Can't submit aio iocbs",
            "Ring size is not aligned",
        ),
        "the rings for asynchronous I/O of the workload cannot be kept",
        "Raise fs.aio-max-nr with sysctl, or configure the workload to do without asynchronous I/O.",
    ),
    Message(
        "terminal_in_use",
        (
            "Unable to open {file} with specified index",
            "Can't open master pty ... (index ...)",
            "Can't open slave pty {file}",
            "Can't open slave tty {file}",
        ),
        "the number of a terminal of the workload is taken on this host, since both use one devpts",
        "Give the workload a devpts of its own (mount -t devpts -o newinstance devpts /dev/pts), or start it "
        "without a terminal.",
    ),
    Message(
        "terminal_outside",
        (
            "Unable to find a master for {thing}",
            "The master for {thing} isn't from the root mntns",
            "Found slave peer index ... without",
            "Only one slave external peer",
            "Too many external terminals",
            "Unable to find a mount ...",
        ),
        "a terminal of the host is open in the workload or bound at its /dev/console, and its other end is outside",
        "Start the workload without a terminal, or name it with --external tty[RDEV:DEV] in extra_args at "
        "dump and --inherit-fd at restore.",
    ),
    Message(
        "terminal_not_here",
        (
            "Don't have tty to inherit session from",
            "Can't get self_stdin_fdid",
        ),
        "the images need the terminal from which CRIU is started, and Ansible gives it none",
        "Start the workload with setsid and without a terminal, and dump again.",
    ),
    Message(
        "terminal_unsupported",
        (
            "Unable to find a tty driver (",
            "Unexpected TTY type ...",
            "queued data overflow",
            "Index ... on ptmx is too big",
            "Index ... on pts is too big",
        ),
        "the workload has a terminal of a kind, with a number or with unread text that CRIU cannot keep",
        "Start the workload without a terminal, or let it read its input before the dump.",
    ),
    Message(
        "tunnel",
        (
            "Can't open tun device",
            "Net namespace is required to dump tun link",
            "No fd info for non persistent tun device {thing}",
            "Can't dump {thing} with filter on-board",
            "Unable to create tun",
            "Can't attach tunfile to device",
        ),
        "the workload has a TUN or TAP device that CRIU cannot keep like this",
        "Load the module here (modprobe tun), and give the workload a network namespace of its own that "
        "holds the device.",
    ),
)
