# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Error lines in the form of the sources of CRIU 4.2 (a few: of older ones), with values put in, for test_messages.py.

Each has what is found in it of the place. LINES are by row of the table; OWN are those that speak for themselves, by
their text.
"""

from __future__ import annotations

from typing import Mapping, Sequence

LINES: Mapping[str, Sequence[tuple[str, str]]] = {
    "kernel_filesystem": [
        (
            (
                "Error (criu/mount.c:724): mnt: FS mnt ./sys/kernel/config dev 0x1f root ./sys/kernel/config "
                "unsupported id 77"
            ),
            "./sys/kernel/config 77",
        ),
    ],
    "filesystem_not_empty": [
        ("Error (criu/filesystems.c:650): ./data isn't empty", "./data"),
    ],
    "automounter": [
        ("Error (criu/autofs.c:507): Autofs 77 is alive, but unreachable.", "77"),
        ("Error (criu/autofs.c:217): Master 77 doesn't have a read end of the pipe with inode 77 opened", ""),
        ("Error (criu/autofs.c:210): Failed to find read pipe fd (ino 77) in process 77", ""),
        ("Error (criu/autofs.c:230): Process 77 autofs pipe fd 77 is not empty.", "77"),
        ("Error (criu/autofs.c:220): Abandoned mount or control was delegated to child?", ""),
        ("Error (criu/autofs.c:527): Non-catatonic mount without master?", ""),
    ],
    "unreachable_sharing": [
        ("Error (criu/mount-v2.c:137): mnt-v2: External slavery sharing group (77, 77) has parent (77, 77)", ""),
        ("Error (criu/mount-v2.c:175): mnt-v2: External slavery sharing group collision (77, 77) (77, 77)", ""),
    ],
    "mounts_differ": [
        ("Error (criu/mount.c:606): mnt: 77:./data and 77:./data have different set of mounts", ""),
        ("Error (criu/mount.c:744): mnt: Unable to handle mounts under 77:./data", "77 ./data"),
    ],
    "file_covered": [
        ("Error (criu/files-reg.c:1715): Open files on overmounted mounts are not supported yet", ""),
        ("Error (criu/mount.c:4156): mnt: The mount 77 is overmounted so paths are invisible", "77"),
    ],
    "mount_namespaces_nested": [
        ("Error (criu/mount.c:4048): mnt: Nested mount namespaces are not supported without mnt_id in fdinfo", ""),
        ("Error (criu/namespaces.c:460): Can't dump nested ./data namespace for 77", "./data 77"),
    ],
    "root_is_no_mountpoint": [
        ("Error (criu/mount.c:3417): mnt: New root and old root are the same", ""),
        ("Error (criu/mount.c:2972): mnt: pivot_root(., ./data) failed: Invalid argument", ""),
    ],
    "work_folder": [
        ("Error (criu/mount.c:2962): mnt: Unable to mount tmpfs in /srv/x: No such file or directory", "/srv/x"),
        ("Error (criu/mount.c:2955): mnt: Can't create a temporary directory: No such file or directory", ""),
        ("Error (criu/mount.c:2366): mnt: Unable to create a temporary directory: No such file or directory", ""),
        ("Error (criu/cgroup.c:1884): cg: Can't make temp cgyard dir: No such file or directory", ""),
        ("Error (criu/cgroup.c:643): cg: can't make dir for cg mounts: No such file or directory", ""),
        ("Error (criu/cr-restore.c:1433): mkdtemp failed /srv/x: No such file or directory", "/srv/x"),
    ],
    "mount_flags": [
        (
            (
                "Error (criu/mount-v2.c:293): mnt-v2: Unable to apply mount flags 77 for ./data: No such file "
                "or directory"
            ),
            "./data",
        ),
        ("Error (criu/mount-v2.c:301): mnt-v2: Unable to apply bind-mount options: No such file or directory", ""),
        ("Error (criu/mount-v2.c:482): mnt-v2: Unable to apply root mount options: No such file or directory", ""),
        (
            "Error (criu/mount.c:4209): mnt: Failed to restore 77:./data mount flags 1f: No such file or directory",
            "77 ./data",
        ),
    ],
    "mounts_in_no_order": [
        ("Error (criu/mount.c:1996): mnt: A few mount points can't be mounted", ""),
    ],
    "namespace_refused": [
        ("Error (criu/mount-v2.c:1149): mnt-v2: Unable to create a new mntns: No such file or directory", ""),
        ("Error (criu/mount.c:1526): mnt: Unable to unshare a mount namespace: No such file or directory", ""),
        ("Error (criu/kerndat.c:1601): Unable create a network namespace: No such file or directory", ""),
        ("Error (criu/net.c:3041): net: Unable to create a new netns: No such file or directory", ""),
        ("Error (criu/cr-restore.c:1559): Can't unshare net-namespace: No such file or directory", ""),
        ("Error (criu/cgroup.c:1205): cg: couldn't unshare cgns: No such file or directory", ""),
        ("Error (criu/timens.c:80): Unable to create a new time namespace: No such file or directory", ""),
    ],
    "mountpoint_missing": [
        ("Error (criu/mount-v2.c:795): mnt-v2: Failed to open real mountpoint of 77: No such file or directory", "77"),
    ],
    "sharing_not_restored": [
        ("Error (criu/mount-v2.c:991): mnt-v2: Failed to make mount 77 shared: No such file or directory", "77"),
        ("Error (criu/mount.c:2086): mnt: Unable to make 77 shared: No such file or directory", "77"),
        ("Error (criu/mount.c:2082): mnt: Unable to make 77 slave: No such file or directory", "77"),
        ("Error (criu/mount-v2.c:878): mnt-v2: Failed to find ./data mountpoint", "./data"),
    ],
    "deleted_source": [
        (
            "Error (criu/mount-v2.c:1109): mnt-v2: Can't remove deleted directory ./data: No such file or directory",
            "./data",
        ),
        (
            "Error (criu/mount-v2.c:1114): mnt-v2: Can't unlink deleted file ./data: No such file or directory",
            "./data",
        ),
    ],
    "mount_refused": [
        ("Error (criu/mount.c:2511): mnt: Can't bind-mount at ./data: No such file or directory", "./data"),
        (
            "Error (criu/mount.c:1272): mnt: Can't bind-mount 77:./data to ./data: No such file or directory",
            "77 ./data",
        ),
        ("Error (criu/mount.c:2518): mnt: Can't re-mount at ./data: No such file or directory", "./data"),
        (
            "Error (criu/mount-v2.c:420): mnt-v2: Can't bind remount 0x1f at ./data: No such file or directory",
            "./data",
        ),
        (
            (
                "Error (criu/mount-v2.c:808): mnt-v2: Failed to move mount 77 from ./data to ./data: No such "
                "file or directory"
            ),
            "77",
        ),
        ("Error (criu/mount.c:2922): mnt: Unable to move mount ./data -> ./data: No such file or directory", "./data"),
        ("Error (criu/mount.c:1761): mnt: Unable to mount ./data ./data ./data: No such file or directory", ""),
        ("Error (criu/mount-v2.c:458): mnt-v2: Unable to mount ./data", ""),
    ],
    "lock_not_restored": [
        ("Error (criu/file-lock.c:320): Can't set lease (fd 77): No such file or directory", ""),
        ("Error (criu/file-lock.c:599): Can't restore non breaking lease: No such file or directory", ""),
    ],
    "watch_limit": [
        ("Error (criu/fsnotify.c:565): fsnotify: Can't add watch for 0x1f with 0x1f: No space left on device", ""),
        ("Error (criu/fsnotify.c:664): fsnotify: Can't create inotify for 0x1f: Too many open files", ""),
    ],
    "watched_file_missing": [
        ("Error (criu/fsnotify.c:565): fsnotify: Can't add watch for 0x1f with 0x1f: No such file or directory", ""),
    ],
    "watch_not_restored": [
        ("Error (criu/fsnotify.c:565): fsnotify: Can't add watch for 0x1f with 0x1f: Operation not permitted", ""),
        ("Error (criu/fsnotify.c:635): fsnotify: Adding fanotify mask 0x1f on 0x1f/./data failed (77)", ""),
        ("Error (criu/fsnotify.c:643): fsnotify: Adding fanotify ignored-mask 0x1f on 0x1f/./data failed (77)", ""),
        ("Error (criu/fsnotify.c:701): fsnotify: Can't init fanotify mark (77): No such file or directory", ""),
        ("Error (criu/fsnotify.c:555): fsnotify: Can't set next inotify wd: No such file or directory", ""),
        ("Error (criu/fsnotify.c:602): fsnotify: Can't find mount mnt_id 0x1f", ""),
    ],
    "watched_file_not_found": [
        ("Error (criu/fsnotify.c:284): fsnotify: Can't dump that handle", ""),
    ],
    "epoll_not_restored": [
        ("Error (criu/eventpoll.c:417): epoll: Can't add event on 0x1f: Operation not permitted", ""),
    ],
    "epoll_incomplete": [
        ("Error (criu/eventpoll.c:417): epoll: Can't add event on 0x1f: No such file or directory", ""),
        ("Error (criu/eventpoll.c:322): epoll: Escaped/closed fd descriptor 77 on pid 77", "77 77"),
    ],
    "link_missing": [
        ("Error (criu/files-reg.c:1931): Can't link ./data -> ./data: No such file or directory", "./data"),
    ],
    "file_not_linked": [
        ("Error (criu/files-reg.c:1931): Can't link ./data -> ./data: Operation not permitted", "./data"),
    ],
    "root_of_process_missing": [
        ("Error (criu/files.c:1393): Can't open root", ""),
        ("Error (criu/files.c:1418): Can't change root: No such file or directory", ""),
    ],
    "ghost_not_made": [
        ("Error (criu/files-reg.c:503): The 77 mount is not found for ghost", ""),
        ("Error (criu/files-reg.c:980): Can't open ghost original file: No such file or directory", ""),
        ("Error (criu/util.c:458): Can't transfer data to ghost file from image: No such file or directory", ""),
    ],
    "lock_unsupported": [
        ("Error (criu/file-lock.c:672): Unknown file lock style!", ""),
        ("Error (criu/file-lock.c:102): Unresolved lock found pid 77 ino 77", "77"),
    ],
    "pipe_packets": [
        ("Error (criu/pipes.c:490): The packetized mode for pipes is not supported yet", ""),
    ],
    "pipe_size": [
        ("Error (criu/pipes.c:165): Can't restore pipe size: No such file or directory", ""),
        ("Error (criu/pipes.c:436): Unable to set a pipe size: No such file or directory", ""),
    ],
    "fifo_not_opened": [
        ("Error (criu/fifo.c:104): Can't open fifo 0x1f [./data]: No such file or directory", "./data"),
        ("Error (criu/fifo.c:98): Can't open fake fifo 0x1f [./data]: No such file or directory", "./data"),
    ],
    "memory_file_not_made": [
        ("Error (criu/memfd.c:279): Can't create memfd:./data: No such file or directory", "./data"),
        ("Error (criu/memfd.c:486): Cannot apply seals on memfd: No such file or directory", ""),
        ("Error (criu/memfd.c:372): Can't reopen memfd id=77: No such file or directory", ""),
    ],
    "bpf_unsupported": [
        ("Error (criu/bpfmap.c:262): CRIU does not currently support dumping BPF map type 77!", ""),
        ("Error (criu/bpfmap.c:316): Can't create bpfmap 0x1f: No such file or directory", ""),
        ("Error (criu/bpfmap.c:184): Can't perform a batch lookup on BPF map: No such file or directory", ""),
    ],
    "process_descriptor": [
        ("Error (criu/pidfd.c:97): pidfd: pidfd pid 77 is not a part of process tree..", "77"),
        ("Error (criu/pidfd.c:88): pidfd: PIDFD_THREAD flag is currently not supported", ""),
        ("Error (criu/pidfd.c:253): pidfd: Can't create pidfd 0x1f NSpid: 77 flags: 77", ""),
    ],
    "descriptor_number": [
        ("Error (criu/files.c:923): Too big FD number to restore 77", "77"),
    ],
    "mapping_unsupported": [
        ("Error (criu/proc_parse.c:760): Unsupported mapping found 1f-1f", ""),
        ("Error (criu/proc_parse.c:753): Nonlinear mapping found 1f-1f", ""),
        ("Error (criu/proc_parse.c:733): Bogus mapping 0x1f-0x1f (flags: 0x1f vm_file_fd: 77)", ""),
        ("Error (criu/proc_parse.c:903): Unexpected VMA met (t)", ""),
        ("Error (criu/proc_parse.c:663): Can't handle non-regular mapping on 77's map 1f", "77"),
        ("Error (criu/proc_parse.c:334): Strange file mapped at 1f [./data]:77.77.77", "./data"),
    ],
    "mapping_not_opened": [
        ("Error (criu/proc_parse.c:376): Can't open mapped [./data]: No such file or directory", "./data"),
        ("Error (criu/proc_parse.c:738): Can't open 77's mapfile link 1f: No such file or directory", "77"),
        ("Error (criu/proc_parse.c:415): Failed to resolve mapping 1f filename", ""),
        ("Error (criu/proc_parse.c:509): Can't open map_files: No such file or directory", ""),
        ("Error (criu/proc_parse.c:303): Failed fstat on map 1f: No such file or directory", ""),
        ("Error (criu/proc_parse.c:258): Failed fstatat on map 1f: No such file or directory", ""),
    ],
    "asynchronous_io": [
        ("Error (criu/pie/restorer.c:944): Ring setup failed with 77", ""),
        ("Error (criu/pie/restorer.c:1045): Ring remap failed with 77", ""),
        ("Error (criu/pie/restorer.c:1006): Can't submit aio iocbs: ret=77", ""),
        ("Error (criu/aio.c:61): Ring size is not aligned", ""),
    ],
    "terminal_in_use": [
        ("Error (criu/tty.c:625): tty: Unable to open ./data with specified index 77", "./data"),
        ("Error (criu/tty.c:991): tty: Can't open master pty 1f (index 77)", ""),
        ("Error (criu/tty.c:1001): tty: Can't open slave pty ./data", "./data"),
        ("Error (criu/tty.c:725): tty: Can't open slave tty ./data", "./data"),
    ],
    "terminal_outside": [
        ("Error (criu/tty.c:2399): tty: Unable to find a master for ./data", "./data"),
        ("Error (criu/tty.c:2414): tty: The master for ./data isn't from the root mntns", "./data"),
        ("Error (criu/tty.c:410): tty: Found slave peer index 77 without correspond master peer", ""),
        ("Error (criu/tty.c:419): tty: Only one slave external peer is allowed (index 77)", ""),
        ("Error (criu/tty.c:201): tty: Too many external terminals", ""),
        ("Error (criu/tty.c:2409): tty: Unable to find a mount 77", ""),
    ],
    "terminal_not_here": [
        ("Error (criu/tty.c:1010): tty: Don't have tty to inherit session from, aborting", ""),
        ("Error (criu/tty.c:1016): tty: Can't get self_stdin_fdid", ""),
    ],
    "terminal_unsupported": [
        ("Error (criu/tty.c:1658): tty: Unable to find a tty driver (rdev 0x1f dev 0x1f)", ""),
        ("Error (criu/tty.c:1652): tty: Unexpected TTY type 77 (id 0x1f)", ""),
        ("Error (criu/tty.c:2140): tty: The tty (./data 0x1f) queued data overflow 77 bytes limit", ""),
        ("Error (criu/tty.c:182): tty: Index 77 on ptmx is too big", ""),
        ("Error (criu/tty.c:271): tty: Index 77 on pts is too big", ""),
    ],
    "tunnel": [
        ("Error (criu/tun.c:231): tun: Can't open tun device: No such file or directory", ""),
        ("Error (criu/tun.c:306): tun: Net namespace is required to dump tun link", ""),
        ("Error (criu/tun.c:275): tun: No fd info for non persistent tun device ./data", "./data"),
        ("Error (criu/tun.c:185): tun: Can't dump ./data with filter on-board", "./data"),
        ("Error (criu/tun.c:85): tun: Unable to create tun: No such file or directory", ""),
        ("Error (criu/tun.c:400): tun: Can't attach tunfile to device: No such file or directory", ""),
    ],
    "terminal": [
        ("Error (criu/tty.c:1453): tty: No task found with sid 77", ""),
        ("Error (criu/tty.c:2281): tty: ctty inheritance detected sid/pgrp 77, no PTY peer with sid/pgrp needed", ""),
    ],
    "pid_in_use": [
        ("Error (criu/pie/restorer.c:755): Thread pid mismatch 77/77", "77"),
        ("pie: 1: Error (criu/pie/restorer.c:1880): Unable to create a thread: -17", ""),
    ],
    "process_not_stopped": [
        ("Error (criu/seize.c:275): zombie found while seizing", ""),
        ("Error (criu/seize.c:335): zombie 77 (comm ./data) found while seizing", "77"),
        ("Error (compel/src/lib/infect.c:181): SEIZE 77: can't wait task: No such file or directory", "77"),
        ("Error (compel/src/lib/infect.c:1405): Unable to interrupt the process: No such file or directory", ""),
        ("Error (criu/seize.c:312): Unexpected error for pid 77 (comm ./data): No such file or directory", "77"),
        ("Error (criu/seize.c:806): Unexpected exit code 77 of 77: ./data", "77"),
        ("Error (compel/src/lib/infect.c:1628): Task 77 is in unexpected state: 1f", "77"),
        ("Error (criu/seize.c:635): Unable to freeze cgroup ./data (77 x 77ms attempts, timeout: 77s)", "./data"),
        ("Error (criu/seize.c:952): Individually stopped threads not supported", ""),
    ],
    "zombie_threads": [
        ("Error (criu/seize.c:939): Zombie thread not supported", ""),
        ("Error (criu/seize.c:882): Zombies with threads are not supported", ""),
        ("Error (criu/seize.c:1012): Zombie with children?! O_o Run, run, run!", ""),
    ],
    "root_process_ended": [
        ("Error (criu/cr-dump.c:1403): A root task is dead", ""),
    ],
    "program_of_32_bits": [
        ("Error (compel/arch/x86/src/lib/infect.c:612): Can't dump task 77 running in 32-bit mode", "77"),
        ("Error (compel/arch/x86/src/lib/infect.c:617): Can't dump task 77 with LDT descriptors", "77"),
    ],
    "shadow_stack": [
        (
            (
                "Error (compel/arch/x86/src/lib/infect.c:284): shstk: can't get shadow stack status for 77: No "
                "such file or directory"
            ),
            "",
        ),
        ("Error (criu/arch/x86/include/asm/shstk.h:106): Failed to map shadow stack at 1f: 77", ""),
        ("Error (criu/arch/x86/include/asm/shstk.h:111): Shadow stack address mismatch: need 1f, got 1f", ""),
        ("Error (criu/arch/x86/shstk.c:126): Cannot unlock CET for 77 task: No such file or directory", "77"),
    ],
    "seccomp_not_suspended": [
        ("Error (compel/src/lib/ptrace.c:27): suspending seccomp failed: No such file or directory", ""),
        ("Error (criu/cr-restore.c:1764): failed to suspend seccomp, restore will probably fail...", ""),
    ],
    "seccomp_filter": [
        ("Error (criu/pie/restorer.c:546): seccomp: SECCOMP_SET_MODE_FILTER returned 77 on tid 77", ""),
        ("Error (criu/pie/restorer.c:542): seccomp: PR_SET_SECCOMP returned 77 on tid 77", ""),
        ("Error (criu/pie/restorer.c:585): seccomp: SECCOMP_MODE_STRICT returned 77 on tid 77", ""),
        ("Error (criu/pie/restorer.c:416): sys_seccomp() returned 77", ""),
        ("Error (criu/seccomp.c:70): couldn't dump seccomp filter: No such file or directory", ""),
        (
            "Error (criu/seccomp.c:149): seccomp: Can't fetch filter on tid_real 77 i 77: No such file or directory",
            "77",
        ),
        (
            (
                "Error (criu/seccomp.c:162): seccomp: Can't fetch seccomp metadata on tid_real 77 pos 77: No "
                "such file or directory"
            ),
            "77",
        ),
        ("Error (criu/cr-restore.c:1262): 77 killed by signal 31: Bad system call", "77"),
    ],
    "parasite": [
        ("Error (compel/src/lib/infect.c:635): Can't inject syscall blob (pid: 77)", "77"),
        ("Error (compel/src/lib/infect.c:776): Can't allocate memory for parasite blob (pid: 77)", "77"),
        ("Error (compel/src/lib/infect.c:535): Can't run parasite at 77: No such file or directory", "77"),
        ("Error (compel/src/lib/infect.c:724): Can't switch parasite 77 to daemon mode 77", "77"),
        ("Error (compel/src/lib/infect.c:1298): 77 was killed by 77 unexpectedly: ./data", "77"),
        ("Error (compel/src/lib/infect.c:1296): 77 exited with 77 unexpectedly", "77"),
        ("Error (compel/src/lib/infect.c:1300): 77 was stopped by 77 unexpectedly", "77"),
        ("Error (compel/src/lib/infect.c:711): Unable to connect a transport socket: No such file or directory", ""),
        (
            (
                "Error (compel/src/lib/infect.c:669): Can't accept connection to the transport socket: No such "
                "file or directory"
            ),
            "",
        ),
        ("Error (compel/src/lib/infect.c:1632): Task signaled with 77: ./data", ""),
        ("Error (compel/src/lib/infect-rpc.c:68): Command 77 for daemon failed with 77", ""),
        ("Error (compel/src/lib/infect-rpc.c:41): Failed to read ack: No such file or directory", ""),
        ("Error (compel/arch/x86/src/lib/infect.c:540): remote mmap() failed: ./data", ""),
        ("Error (compel/src/lib/infect.c:792): Can't map remote parasite map: No such file or directory", ""),
        ("Error (compel/src/lib/infect.c:847): Can't create memfd in victim: No such file or directory", ""),
        ("Error (criu/parasite-syscall.c:219): Can't init thread in parasite 77", "77"),
        ("Error (compel/src/lib/infect.c:1428): The task is not in parasite code", ""),
        ("Error (compel/src/lib/infect.c:1559): Parasite exited with 77", ""),
        ("Error (compel/src/lib/infect.c:322): Can't dump the 77 thread with a pending SIGTRAP.", "77"),
    ],
    "user_namespace": [
        ("Error (criu/namespaces.c:931): Unable to convert uid or gid", ""),
        ("Error (criu/namespaces.c:997): One or more namespaces doesn't belong to the target user namespace", ""),
        ("Error (criu/namespaces.c:1193): The user/group mappings buffer truncated", ""),
        ("Error (criu/namespaces.c:854): Unable to parse extents: 77: No such file or directory", ""),
    ],
    "user_refused": [
        ("Error (criu/pie/restorer.c:226): Can't setgroups([77 gids]): 77", ""),
        ("Error (criu/pie/restorer.c:265): Unable to set real, effective and saved user ID: 77", ""),
        ("Error (criu/pie/restorer.c:271): Unable to set fsuid", ""),
        ("Error (criu/pie/restorer.c:283): Unable to set fsgid", ""),
        ("Error (criu/namespaces.c:946): Unable to drop supplementary groups: No such file or directory", ""),
        ("Error (criu/pie/restorer.c:204): Can't setup supplementary group IDs: 77", ""),
        ("Error (criu/namespaces.c:1730): setgid failed while joining userns: No such file or directory", ""),
        ("Error (criu/namespaces.c:1726): setuid failed while joining userns: No such file or directory", ""),
        ("Error (criu/namespaces.c:951): Unable to set user ID: No such file or directory", ""),
        ("Error (criu/namespaces.c:941): Unable to set group ID: No such file or directory", ""),
    ],
    "capabilities": [
        ("Error (criu/pie/restorer.c:347): Unable to restore capabilities: 77", ""),
        ("Error (criu/pie/restorer.c:317): Unable to drop capability 77: 77", ""),
        ("Error (criu/pie/restorer.c:361): Unable to raise ambient capability 77: 77", ""),
        ("Error (criu/pie/restorer.c:296): Unable to set PR_SET_SECUREBITS: 77", ""),
    ],
    "pid_namespace_without_init": [
        ("Error (criu/namespaces.c:1117): Can't dump a pid namespace without the process init", ""),
        ("Error (criu/cr-restore.c:2050): Can't restore pid namespace without the process init", ""),
    ],
    "pid_not_set": [
        ("Error (criu/pie/restorer.c:2169): Can't set last_pid 77/./data", ""),
        ("Error (criu/cr-restore.c:1240): Failed to write 76 to /proc/sys/kernel/ns_last_pid: Permission denied", ""),
        ("Error (criu/cr-restore.c:1194): Setting PID failed", ""),
        ("Error (criu/pstree.c:1032): Can't set kernel pid_max=./data: No such file or directory", ""),
        ("Error (criu/cr-restore.c:1151): Unable to restore into an empty PID namespace", ""),
        ("Error (criu/cr-restore.c:1164): Unable to enter existing PID namespace", ""),
    ],
    "pid_too_large": [
        ("Error (criu/cr-restore.c:1230): Can't fork for 77: Invalid argument", "77"),
    ],
    "process_limit": [
        ("Error (criu/cr-restore.c:1230): Can't fork for 77: Resource temporarily unavailable", "77"),
        ("pie: 1: Error (criu/pie/restorer.c:1880): Unable to create a thread: -11", ""),
        ("Error (criu/cr-service.c:932): Can't fork: Resource temporarily unavailable", ""),
    ],
    "session_not_restored": [
        ("Error (criu/cr-restore.c:1375): Requested sid 77 doesn't match inherited 77", "77"),
        ("Error (criu/cr-restore.c:1366): Can't restore sid (77): No such file or directory", ""),
        ("Error (criu/cr-restore.c:1419): Can't restore pgid (77/77->77): No such file or directory", ""),
        ("Error (criu/pstree.c:801): Can't find a session leader for 77", "77"),
        ("Error (criu/pstree.c:790): Can't figure out which sid (77 or 77)the process 77 was born with", ""),
    ],
    "rseq_not_restored": [
        ("Error (criu/pie/restorer.c:514): failed sys_rseq(1f, 1f, 1f, 1f) = 77", ""),
        ("Error (criu/cr-restore.c:2636): rseq: can't restore as kernel doesn't support it", ""),
        ("Error (criu/cr-dump.c:931): unsupported RSEQ ABI version = 77", ""),
        ("Error (criu/cr-dump.c:1170): ptrace_peek_area(77, 1f, 1f, 1f): fail to read rseq struct", ""),
        ("Error (criu/cr-dump.c:1213): ptrace(PTRACE_GET_RSEQ_CONFIGURATION, 77) = 77: No such file or directory", ""),
    ],
    "login_user": [
        ("Error (criu/cr-restore.c:1953): Setting loginuid for CT init task failed, CAP_AUDIT_CONTROL?", ""),
        ("Error (criu/cr-restore.c:614): Setting loginuid for 77 task failed", ""),
        ("Error (criu/cr-restore.c:1966): Restore original /proc/self/loginuid failed", ""),
    ],
    "out_of_memory_score": [
        (
            (
                "Error (criu/cr-restore.c:592): Write ./data to /proc/self/oom_score_adj failed: No such file "
                "or directory"
            ),
            "",
        ),
    ],
    "timers": [
        ("Error (criu/pie/restorer.c:1293): Can't create posix timer - 77: 77", ""),
        ("Error (criu/pie/restorer.c:1312): Can't create timers, kernel don't give them consequently", ""),
        ("Error (criu/pie/restorer.c:2201): Can't restore posix timers 77", ""),
        ("Error (criu/pie/restorer.c:2207): Can't restore timerfd 77", ""),
        ("Error (criu/pie/restorer.c:1297): Unexpected timer id 77 (expected 77)", ""),
    ],
    "clock": [
        ("Error (criu/timens.c:116): Unable to set a boottime clock offset: No such file or directory", ""),
        ("Error (criu/timens.c:101): Unable to set a monotonic clock offset: No such file or directory", ""),
        ("Error (criu/timens.c:125): Unable to open ns/time_for_children: No such file or directory", ""),
    ],
    "ipc_number_in_use": [
        ("Error (criu/ipc_ns.c:584): Failed to set desired IPC sem ID", ""),
        ("Error (criu/ipc_ns.c:728): Failed to restore msg id (77 instead of 77)", ""),
        ("Error (criu/ipc_ns.c:595): Failed to restore sem id (77 instead of 77)", ""),
        ("Error (criu/ipc_ns.c:872): Failed to restore shm id (77 instead of 77)", ""),
        ("Error (criu/ipc_ns.c:867): Failed to create shm set: No such file or directory", ""),
        ("Error (criu/ipc_ns.c:590): Failed to create sem set: No such file or directory", ""),
        ("Error (criu/ipc_ns.c:723): Failed to create msg set: No such file or directory", ""),
        ("Error (criu/ipc_ns.c:961): Failed to prepare IPC namespace variables", ""),
        ("Error (criu/ipc_ns.c:927): Failed to prepare shm segment", ""),
        ("Error (criu/ipc_ns.c:649): Failed to prepare semaphores set", ""),
        ("Error (criu/ipc_ns.c:783): Failed to prepare messages queue", ""),
        ("Error (criu/ipc_ns.c:372): Failed to attach shm: No such file or directory", ""),
    ],
    "shared_memory_in_part": [
        ("Error (criu/shmem.c:355): Sysv shmem 1f with a hole not supported", ""),
        ("Error (criu/shmem.c:359): Sysv shmem 1f with misordered attach chunks", ""),
        ("Error (criu/shmem.c:282): Sysv shmem 1f with tail hole not supported", ""),
        ("Error (criu/shmem.c:311): SysV shmem vma 0x1f points to anon vma 1f", ""),
    ],
    "address_space": [
        (
            (
                "Error (criu/proc_parse.c:800): Can't dump high memory region 1f-1f of task 77 because kernel "
                "commit ee71d16d22bb is missing"
            ),
            "",
        ),
        (
            (
                "Error (criu/mem.c:1048): Can't restore high memory region 1f-1f because kernel does only "
                "support vmas up to 1f"
            ),
            "",
        ),
    ],
    "uprobes": [
        ("Error (criu/proc_parse.c:614): PID 77 has uprobes vma. Consider using --allow-uprobes.", "77"),
        ("Error (criu/image.c:99): Dumped with --allow-uprobes. Need to set it on restore as well.", ""),
    ],
    "memory_map_refused": [
        ("Error (criu/pie/restorer.c:2080): sys_prctl(PR_SET_MM, PR_SET_MM_MAP) failed with 77", ""),
        ("Error (criu/pie/restorer.c:843): Can't restore EXE link (77)", ""),
        ("Error (criu/pie/restorer.c:89): prctl failed @77 with 77", ""),
    ],
    "memory_not_laid_out": [
        ("Error (criu/mem.c:1363): Unable to reserve memory (77 bytes): No such file or directory", ""),
        ("Error (criu/mem.c:983): Unable to remap a private vma: No such file or directory", ""),
        ("Error (criu/mem.c:964): Unable to map ANON_VMA: No such file or directory", ""),
        ("Error (criu/pie/restorer.c:1883): Can't restore 1f mapping with 1f", ""),
        ("Error (criu/pie/parasite-vdso.c:37): vdso: Unable to remap 1f -> 1f 1f", ""),
        ("Error (criu/cr-restore.c:3232): No suitable area for task_restore bootstrap (77K)", ""),
        ("Error (criu/cr-restore.c:3255): Can't mmap section for restore code: No such file or directory", ""),
        ("Error (criu/pie/restorer.c:1170): Unable to map a guard page 1f (1f)", ""),
    ],
    "shared_memory_not_made": [
        ("Error (criu/shmem.c:526): Can't mmap shmem 0x1f size=77: No such file or directory", ""),
        ("Error (criu/shmem.c:520): Can't resize shmem 0x1f size=77: No such file or directory", ""),
        ("Error (criu/shmem.c:534): Can't restore shmem content", ""),
        ("Error (criu/shmem.c:831): Can't map shmem 0x1f (0x1f-0x1f): No such file or directory", ""),
        ("Error (criu/shmem.c:620): Can't mmap shmid=0x1f size=77: No such file or directory", ""),
    ],
    "vdso_differs": [
        ("Error (criu/pie/parasite-vdso.c:257): vdso: Failed to proxify dumpee contents", ""),
        ("Error (criu/pie/parasite-vdso.c:309): vdso: vDSO isn't provided by kernel, but exists in images", ""),
        ("Error (criu/pie/parasite-vdso.c:297): vdso: Can't find vDSO area in image", ""),
        ("Error (criu/pie/restorer.c:1790): Compatible mode without vdso map support", ""),
        ("Error (criu/pie/restorer.c:1538): Failed to map vdso 77", ""),
    ],
    "mptcp": [
        ("Error (criu/sk-inet.c:103): inet: Unsupported proto 262 for socket 5a", ""),
        (
            (
                'Error (criu/sk-inet.c:139): inet: For Go programs, consider using "GODEBUG=multipathtcp=0" to '
                "disable MPTCP"
            ),
            "",
        ),
    ],
    "socket_option_unreadable": [
        ("Error (criu/sockets.c:640): sockets: Can't get 77:77 opt: No such file or directory", ""),
        ("Error (criu/sockets.c:645): sockets: Len mismatch on 77:77 : 77, want 77", ""),
    ],
    "address_missing": [
        ("Error (criu/sk-inet.c:1085): inet: Can't connect inet socket back: Cannot assign requested address", ""),
        ("Error (soccr/soccr.c:499): Can't bind inet socket back: Cannot assign requested address", ""),
    ],
    "address_in_use": [
        ("Error (soccr/soccr.c:499): Can't bind inet socket back: Address already in use", ""),
        ("Error (criu/sk-inet.c:944): inet: Can't listen on a socket: Address already in use", ""),
    ],
    "address_refused": [
        ("Error (soccr/soccr.c:499): Can't bind inet socket back: No such file or directory", ""),
    ],
    "network_unreachable": [
        ("Error (criu/sk-inet.c:1085): inet: Can't connect inet socket back: Network is unreachable", ""),
        ("Error (criu/sk-inet.c:1085): inet: Can't connect inet socket back: No route to host", ""),
        ("Error (soccr/soccr.c:682): Unable to send a fin packet: ./data", ""),
    ],
    "connection_refused": [
        ("Error (criu/sk-inet.c:1085): inet: Can't connect inet socket back: No such file or directory", ""),
    ],
    "connection_not_kept": [
        ("Error (criu/cr-check.c:1056): Can't turn TCP repair mode ON: No such file or directory", ""),
        ("Error (criu/sk-tcp.c:81): tcp: Failed to lock TCP connection 1f", ""),
        ("Error (criu/sk-tcp.c:147): tcp: libsoccr_save() failed with 77", ""),
        (
            (
                "Error (criu/include/sk-inet.h:80): Failed to turn off repair mode on socket 77: No such file "
                "or directory"
            ),
            "",
        ),
        ("Error (criu/cr-check.c:1103): Unable to set TCP_REPAIR: No such file or directory", ""),
        ("Error (soccr/soccr.c:453): Can't set repair queue: No such file or directory", ""),
        ("Error (soccr/soccr.c:458): Can't set queue seq: No such file or directory", ""),
        ("Error (soccr/soccr.c:567): Can't repair options: No such file or directory", ""),
        ("Error (soccr/soccr.c:573): Can't set timestamp: No such file or directory", ""),
    ],
    "connection_data": [
        (
            (
                "Error (soccr/soccr.c:819): Can't restore ./data queue data (77), want (77-77:77:77): No such "
                "file or directory"
            ),
            "",
        ),
        (
            (
                "Error (criu/sockets.c:495): sockets: Unable to set socket SO_SNDBUFFORCE/SO_RCVBUFFORCE: No "
                "such file or directory"
            ),
            "",
        ),
        (
            (
                "Error (criu/sockets.c:491): sockets: Unable to set socket SO_SNDBUF/SO_RCVBUF: No such file or "
                "directory"
            ),
            "",
        ),
    ],
    "listening_not_restored": [
        ("Error (criu/sk-inet.c:944): inet: Can't listen on a socket: No such file or directory", ""),
        ("Error (criu/sk-inet.c:938): inet: Wrong socket in listen state 77", ""),
    ],
    "interface_missing": [
        ("Error (criu/sk-inet.c:1030): inet: couldn't find ifindex for ./data", "./data"),
        ("Error (criu/sk-inet.c:566): inet: couldn't find ifname for 77, can't bind", ""),
        (
            "Error (criu/sk-packet.c:447): packet: Can't bind packet socket to ./data: No such file or directory",
            "./data",
        ),
        ("Error (criu/sockets.c:309): sockets: Can't get bound dev: No such file or directory", ""),
        ("Error (criu/net.c:3788): net: Can't get index of ./data: No such file or directory", "./data"),
    ],
    "corked": [
        ("Error (criu/sk-inet.c:153): inet: Can't dump corked dgram socket 1f", ""),
    ],
    "socket_not_listed": [
        ("Error (criu/sockets.c:448): sockets: Sockets (family 77 proto 77) are not collected", ""),
    ],
    "netlink_unread": [
        ("Error (criu/sk-netlink.c:77): netlink: The socket has data to read", ""),
    ],
    "unix_connecting": [
        ("Error (criu/sk-unix.c:525): unix: Found a closed in-flight socket to 0x1f", ""),
        ("Error (criu/sk-unix.c:506): unix: Non-empty write queue on an in-flight socket 0x1f", ""),
        ("Error (criu/sk-unix.c:494): unix: In-flight connection on non-listening socket 77", ""),
    ],
    "unix_messages": [
        ("Error (criu/sk-queue.c:144): skqueue: Control messages in queue, not supported", ""),
        ("Error (criu/sk-queue.c:55): skqueue: More than 1 SCM is not possible", ""),
        ("Error (criu/sk-queue.c:133): skqueue: Unexpected 2nd SCM_RIGHTS from the kernel", ""),
        ("Error (criu/sk-queue.c:386): skqueue: Unsupported scm 77 in image", ""),
        ("Error (criu/sk-unix.c:1105): unix: Can't find sender for 0x1f", ""),
    ],
    "unix_address_in_use": [
        ("Error (criu/sk-unix.c:1651): unix: Can't bind id 0x1f ino 77 addr ./data: Address already in use", "./data"),
        (
            (
                "Error (criu/sk-unix.c:1541): unix: ghost: Can't bind on socket id 0x1f ino 77 addr ./data: "
                "Address already in use"
            ),
            "./data",
        ),
    ],
    "unix_address_refused": [
        (
            "Error (criu/sk-unix.c:1651): unix: Can't bind id 0x1f ino 77 addr ./data: No such file or directory",
            "./data",
        ),
        (
            (
                "Error (criu/sk-unix.c:1541): unix: ghost: Can't bind on socket id 0x1f ino 77 addr ./data: No "
                "such file or directory"
            ),
            "./data",
        ),
        (
            (
                "Error (criu/sk-unix.c:1498): unix: ghost: Can't access ./data for socket id 0x1f ino 77 name "
                "./data: No such file or directory"
            ),
            "",
        ),
        ("Error (criu/sk-unix.c:1511): unix: ghost: Can't create /srv/x: No such file or directory", "/srv/x"),
        ("Error (criu/sk-unix.c:1328): unix: Can't change working dir /srv/x: No such file or directory", "/srv/x"),
        (
            (
                "Error (criu/sk-unix.c:1531): unix: ghost: Can't rename id 0x1f ino 77 addr ./data -> ./data: "
                "No such file or directory"
            ),
            "",
        ),
    ],
    "external_stream": [
        ("Error (criu/sk-unix.c:871): unix: Can't dump half of stream unix connection.", ""),
        ("Error (criu/sk-unix.c:418): unix: Unix socket 77 without peer 77", ""),
        ("Error (criu/sk-unix.c:428): unix: Unix socket 77 with unreachable peer 77 (77)", ""),
    ],
    "socket_peer_refused": [
        ("Error (criu/sk-unix.c:1406): unix: Can't connect 77 socket: Protocol wrong type for socket", ""),
        ("Error (criu/sk-unix.c:1406): unix: Can't connect 77 socket: Permission denied", ""),
    ],
    "socket_unsupported": [
        ("Error (criu/sk-unix.c:156): unix: Unsupported type (77) on socket 77.", ""),
        ("Error (criu/sockets.c:767): sockets: BUG! Unknown socket collected (family 77)", ""),
        ("Error (criu/sockets.c:182): sockets: Unknown pair family 77 proto 77", ""),
        ("Error (criu/sk-netlink.c:218): netlink: Groups above 32 are not supported yet", ""),
        ("Error (criu/sk-netlink.c:134): netlink: The netlink socket 0x1f has more than 32 groups", ""),
        ("Error (criu/sk-inet.c:874): inet: Unsupported socket type: 77", ""),
        ("Error (criu/netfilter.c:84): Unknown socket family 77", ""),
    ],
    "nftables_rules": [
        ("Error (criu/net.c:2653): net: Unable to restore nftables. CRIU was built without libnftables support", ""),
        ("Error (criu/net.c:2618): net: nft command error:", ""),
        ("Error (criu/net.c:2601): net: Failed to create nft context object", ""),
    ],
    "iptables_rules": [
        ("Error (criu/net.c:2540): net: Can't restore iptables dump - no legacy version present", ""),
        ("Error (criu/net.c:2563): net: Can't restore ip6tables dump - no legacy version present", ""),
        ("Error (criu/net.c:3210): net: Unable to write iptables configugration: No such file or directory", ""),
    ],
    "nftables_lock": [
        ("Error (criu/kerndat.c:1563): Can't create nftables table", ""),
        ("Error (criu/netfilter.c:321): Cannot generate CRIU's nftables table name", ""),
        ("Error (criu/netfilter.c:276): Locking connection failed using nftables", ""),
    ],
    "network_lock": [
        ("Error (criu/netfilter.c:105): Iptables configuration failed", ""),
    ],
    "ip_tool": [
        ("Error (criu/net.c:1969): net: IP tool failed on ./data ./data ./data ./data", ""),
    ],
    "network_device": [
        ("Error (criu/net.c:1775): net: Unsupported link type 77", ""),
        ("Error (criu/net.c:1823): net: Can't restore link: 77", ""),
        ("Error (criu/net.c:4047): net: Unable to create a veth pair: 77", ""),
        ("Error (criu/net.c:1617): net: a macvlan parent for ./data is required", "./data"),
        ("Error (criu/net.c:1644): net: couldn't restore macvlan interface ./data via usernsd", "./data"),
        ("Error (criu/net.c:1898): net: Unable to find the 77 master", ""),
        ("Error (criu/net.c:1469): net: Unknown peer net namespace", ""),
        ("Error (criu/net.c:547): dumping bridges with attached slaves not supported currently", ""),
        ("Error (criu/net.c:3514): net: can't get ifindex of ./data: No such file or directory", "./data"),
        (
            "Error (criu/net.c:3795): net: Can't add interface ./data to bridge ./data: No such file or directory",
            "./data",
        ),
        ("Error (criu/net.c:1947): net: Unable to restore network links", ""),
    ],
    "kernel_setting": [
        ("Error (criu/sysctl.c:220): Can't open sysctl dir: No such file or directory", "dir"),
        ("Error (criu/net.c:398): net: Failed to write net/ipv4/conf/eth0/<confs>", ""),
        ("Error (criu/net.c:512): net: ipv4: Failed to read net/ipv4/<sysctls>", ""),
        ("Error (criu/sysctl.c:86): Can't write net/ipv4/x: No such file or directory", "ipv4/x"),
    ],
    "socket_of_other_namespace": [
        ("Error (criu/net.c:3718): net: Unable to dump a socket from an external network namespace", ""),
        ("Error (criu/net.c:2905): net: Unable to dump more than one netns if the --emptyns is set", ""),
    ],
    "freezer": [
        (
            (
                "Error (criu/seize.c:1043): Neither a cgroupv1 (freezer.state) or cgroupv2 (cgroup.freeze) "
                "control file found."
            ),
            "",
        ),
        ("Error (criu/seize.c:125): Unknown freezer state: ./data", ""),
        ("Error (criu/cr-restore.c:2274): Unable to restore freezer state", ""),
        ("Error (criu/seize.c:89): Unable to freeze tasks: No such file or directory", ""),
        ("Error (criu/seize.c:665): Unable to thaw tasks: No such file or directory", ""),
    ],
    "cgroup_outside": [
        ("Error (criu/proc_parse.c:2722): invalid cgroup configuration, ./data is not a suffix of ./data", ""),
        ("Error (criu/cgroup.c:2214): cg: CG paths mismatch: ./data ./data", ""),
        ("Error (criu/cgroup.c:810): cg: cg ./data shorter than path prefix 77?", ""),
    ],
    "cgroup_refused": [
        ("Error (criu/cgroup.c:1438): cg: bad cgroup path: ./data: No such file or directory", "./data"),
        ("Error (criu/cgroup.c:1805): cg: Can't make cgroup dir ./data: No such file or directory", "./data"),
        ("Error (criu/cgroup.c:2048): cg: cgroupd: Can't move thread 77 into ./data/./data", "./data/./data"),
        ("Error (criu/cgroup.c:1795): cg: Failed accessing cgroup dir ./data: No such file or directory", "./data"),
        ("Error (criu/cgroup.c:1196): cg: couldn't set cgns prefix ./data: No such file or directory", "./data"),
        ("Error (criu/cgroup.c:296): cg: failed statting cgroup prop ./data: No such file or directory", "./data"),
        ("Error (criu/cgroup.c:321): cg: Failed scanning ./data: No such file or directory", "./data"),
        ("Error (criu/cgroup.c:717): cg: couldn't open ./data: No such file or directory", "./data"),
        (
            (
                "Error (criu/cgroup.c:617): cg: Unable to mount the cgroup (./data) file system: No such file "
                "or directory"
            ),
            "./data",
        ),
        (
            (
                "Error (criu/cgroup.c:592): cg: Unable to configure the cgroup (./data) file system: No such "
                "file or directory"
            ),
            "./data",
        ),
        (
            (
                "Error (criu/cgroup.c:610): cg: Unable to create the cgroup (./data) file system: No such file "
                "or directory"
            ),
            "./data",
        ),
        ("Error (criu/cgroup.c:1936): cg: Can't mount controller dir ./data: No such file or directory", "./data"),
        ("Error (criu/cgroup.c:1932): cg: Can't make controller dir ./data: No such file or directory", "./data"),
        ("Error (criu/cgroup.c:686): cg: controller ./data not found", "./data"),
        ("Error (criu/cgroup.c:291): cg: Failed opening ./data: No such file or directory", "./data"),
        ("Error (criu/cgroup.c:1756): cg: Restoring ./data special property failed", "./data"),
        ("Error (criu/cgroup.c:648): cg: Unable to mount ./data ./data: No such file or directory", ""),
    ],
    "security_module": [
        ("Error (criu/pie/restorer.c:196): can't write lsm profile 77", ""),
        ("Error (criu/pie/restorer.c:186): failed openat 77", ""),
        ("Error (criu/lsm.c:422): unknown lsm ./data", "./data"),
        ("Error (criu/lsm.c:381): can't render profile ./data for lsmtype 77", "./data"),
        ("Error (criu/apparmor.c:436): couldn't write policy for ./data: No such file or directory", "./data"),
        ("Error (criu/apparmor.c:588): write AA policy ./data in ./data failed: No such file or directory", "./data"),
        ("Error (criu/apparmor.c:604): failed to write policy in AA namespace ./data", "./data"),
        ("Error (criu/apparmor.c:544): failed to create namespace ./data: No such file or directory", "./data"),
        ("Error (criu/apparmor.c:130): failed to open aa policy ./data: No such file or directory", "./data"),
        ("Error (criu/apparmor.c:567): couldn't open apparmor load file ./data: No such file or directory", "./data"),
        ("Error (criu/apparmor.c:442): apparmor parsing failed 77", ""),
        ("Error (criu/apparmor.c:340): walking AA namespace ./data failed", "./data"),
        (
            "Error (criu/lsm.c:182): Unable to set the ./data socket SELinux context: No such file or directory",
            "./data",
        ),
        ("Error (criu/lsm.c:94): Non unconfined selinux contexts not supported ./data", "./data"),
    ],
    "processor": [
        ("Error (criu/arch/x86/crtools.c:395): x86: FPU xsave area present, but host cpu doesn't support it", ""),
        ("Error (criu/arch/x86/cpu.c:200): cpu: CPU Feature 4/1f not supported on host", ""),
        ("Error (criu/arch/x86/cpu.c:52): cpu: missing support fxsave/restore insns", ""),
        ("Error (criu/arch/x86/cpu.c:339): cpu: Image carries unknown capability version 77", ""),
        ("Error (criu/arch/x86/cpu.c:429): cpu: Unknown cpu vendor 77", ""),
        ("Error (criu/arch/x86/cpu.c:297): cpu: CPU capabilites do not match run time", ""),
        (
            (
                "Error (criu/arch/x86/cpu.c:209): cpu: Size of features in image mismatch one provided by run "
                "time CPU (77:77)"
            ),
            "",
        ),
        ("Error (compel/arch/x86/src/lib/cpu.c:257): cpu: Unsupported CPU vendor ./data", "./data"),
        ("Error (criu/arch/x86/cpu.c:323): cpu: Image carries unknown vendor 77", ""),
        ("Error (criu/cr-restore.c:1262): 77 killed by signal 4: Illegal instruction", "77"),
    ],
    "criu_too_old_for_kernel": [
        ("Error (criu/pie/util-vdso.c:191): vdso: Corrupted Elf phdr", ""),
        ("Error (criu/vdso.c:343): vdso: Can't find vDSO/VVAR bounds", ""),
        ("Error (criu/vdso.c:364): vdso: VVAR and VVAR_VCLOCK entries are not subsequent", ""),
        ("Error (criu/proc_parse.c:855): two nonconsecutive vvar vma-s: 1f-1f 1f-1f", ""),
        ("Error (criu/vdso.c:356): vdso: Got second VVAR entry", ""),
        ("Error (criu/vdso.c:349): vdso: Got second vDSO entry", ""),
        ("Error (criu/vdso.c:406): vdso: Can't find rt vDSO", ""),
        ("Error (criu/pie/util-vdso.c:273): vdso: Not all dynamic entries are present", ""),
        ("Error (criu/pie/restorer.c:1498): Task had vdso, restorer doesn't", ""),
        ("Error (criu/kerndat.c:519): Kernel reports more capabilities than this CRIU supports: 77 > 77", ""),
        ("Error (criu/proc_parse.c:1643): Failed to parse mountinfo line ./data", ""),
        ("Error (criu/kerndat.c:1878): kerndat_has_ptrace_get_rseq_conf failed when initializing kerndat.", ""),
        ("Error (criu/crtools.c:280): Could not initialize kernel features detection.", ""),
    ],
    "memory_not_tracked": [
        ("Error (criu/mem.c:69): Can't reset 77's dirty memory tracker: No such file or directory", "77"),
    ],
    "lazy_pages_unavailable": [
        ("Error (criu/uffd.c:314): uffd: Unable to open an userfaultfd descriptor: No such file or directory", ""),
        ("Error (criu/uffd.c:284): uffd: Incompatible uffd API: expected 77, got 77", ""),
        ("Error (criu/pie/restorer.c:1093): lazy-pages: register 1f failed: rc:77,", ""),
    ],
    "images_unreadable": [
        ("Error (criu/fsnotify.c:510): fsnotify: Unable to open core-1.img: Permission denied", "core-1.img"),
    ],
    "parent_images": [
        ("Error (criu/page-xfer.c:299): page-xfer: Missing 1f in parent pagemap", ""),
        ("Error (criu/pagemap.c:185): No parent for snapshot pagemap", ""),
        ("Error (criu/image.c:784): Can't open parent path: No such file or directory", ""),
        (
            (
                "Error (criu/page-xfer.c:410): page-xfer: No parent image found, though parent directory is "
                "set: No such file or directory"
            ),
            "",
        ),
        ("Error (criu/image.c:742): Invalid parent image directory provided: No such file or directory", ""),
        ("Error (criu/page-xfer.c:344): page-xfer: Hole 0x7f00 - 0x7f00 not found in parent", ""),
        ("Error (criu/image.c:748): Can't link parent snapshot: No such file or directory", ""),
        (
            (
                "Error (criu/mem.c:386): Pid-reuse detection failed: no parent inventory, check warnings in "
                "get_parent_inventory"
            ),
            "",
        ),
    ],
    "image_folder": [
        ("Error (criu/image.c:726): Can't open dir /srv/x: No such file or directory", "/srv/x"),
        ("Error (criu/crtools.c:259): Couldn't open image dir /srv/x", "/srv/x"),
    ],
    "page_server": [
        ("Error (criu/page-xfer.c:1660): page-xfer: Remote side closed connection", ""),
        ("Error (criu/page-xfer.c:244): page-xfer: The page server doesn't answer: No such file or directory", ""),
        ("Error (criu/page-xfer.c:236): page-xfer: Can't write to page server: No such file or directory", ""),
        ("Error (criu/page-xfer.c:191): page-xfer: Can't write pages to socket: No such file or directory", ""),
        ("Error (criu/page-xfer.c:1223): page-xfer: Can't read pagemap from socket: No such file or directory", ""),
        ("Error (criu/page-xfer.c:150): page-xfer: Can't send PSI 77 to server: No such file or directory", ""),
        ("Error (criu/page-xfer.c:267): page-xfer: A pipe was closed unexpectedly", ""),
        (
            (
                "Error (criu/page-xfer.c:1623): page-xfer: Error reading data from page server: No such file or "
                "directory"
            ),
            "",
        ),
        ("Error (criu/uffd.c:349): uffd: connect to ./data failed: No such file or directory", "./data"),
        ("Error (criu/page-xfer.c:1124): page-xfer: A socket was closed unexpectedly", ""),
        ("Error (criu/util.c:1265): Can't connect to server: No such file or directory", ""),
        ("Error (criu/util.c:1305): Can't accept connection to server: No such file or directory", ""),
    ],
    "images_damaged": [
        ("Error (criu/pagemap.c:256): Can't read mapping page 77: No such file or directory", ""),
        ("Error (criu/pagemap.c:426): Reached EOF unexpectedly while reading page from image", ""),
        ("Error (criu/fsnotify.c:510): fsnotify: Unable to open core-1.img: No such file or directory", "core-1.img"),
        ("Error (criu/pagemap.c:557): Can't read async pr bytes (77 / 77 read, 77 off, 77 iovs)", ""),
        ("Error (criu/pagemap.c:174): Page read err 1f:1f vs 1f:1f", ""),
        ("Error (criu/cr-restore.c:510): Can't open core data for 77", "77"),
        ("Error (criu/files-reg.c:372): Corrupted ghost image -> no size", ""),
        ("Error (criu/files-reg.c:2592): No entry for reg-file-ID 0x1f", ""),
        ("Error (criu/image.c:68): Corrupted root cgset", ""),
        ("Error (criu/pstree.c:923): Image corruption on kIDs data", ""),
        ("Error (criu/pstree.c:907): No kIDs provided, image corruption", ""),
        ("Error (criu/pstree.c:891): Images corrupted or too old criu was used for dump.", ""),
        ("Error (criu/cr-restore.c:870): Core info data missed for non-zombie", ""),
        ("Error (criu/tty.c:1607): tty: Corrupted master peer 0x1f", ""),
        ("Error (criu/tty.c:1610): tty: Corrupted slave peer 0x1f", ""),
        ("Error (criu/mem.c:1075): VMA-s are not sorted in the image file", ""),
        ("Error (criu/net.c:1048): net: The image file was truncated", ""),
        ("Error (criu/pstree.c:838): Images currupted or too old criu was used for dump.", ""),
        ("Error (criu/protobuf.c:101): Failed unpacking object 0x7f00 from ./data", "./data"),
        ("Error (criu/protobuf.c:76): Read 77 bytes while 77 expected on ./data: No such file or directory", ""),
        ("Error (criu/protobuf.c:90): Can't read 77 bytes from file ./data: No such file or directory", "./data"),
        ("Error (criu/pstree.c:590): Parent missed on non-root task with pid 77, image corruption!", ""),
        ("Error (criu/files-reg.c:2405): Can't find regfile for 0x1f", ""),
        ("Error (criu/cr-restore.c:3403): Can't read core data for thread 77", "77"),
        ("Error (criu/cr-restore.c:859): Core task state data missed", ""),
        ("Error (criu/cr-restore.c:865): Core IDS data missed for non-zombie", ""),
        ("Error (criu/pstree.c:890): No IDS for root task.", ""),
        ("Error (criu/seccomp.c:436): seccomp: Corrupted filter index on tid 77 (77 > 77)", ""),
    ],
    "images_of_other_version": [
        ("Error (criu/cr-restore.c:2792): Unknown image format", ""),
        ("Error (criu/cr-restore.c:854): Core march mismatch 77", ""),
    ],
    "plugin_failed": [
        ("Error (criu/plugin.c:128): Can't load plugin ./data", "./data"),
        ("Error (criu/plugin.c:139): Corrupted plugin ./data", "./data"),
        ("Error (criu/plugin.c:114): Unable to load ./data: ./data", "./data"),
        ('Error (criu/plugin.c:154): Failed in init(77) of "./data"', "./data"),
    ],
    "option_refused": [
        ("Error (criu/config.c:535): Unknown cgroups mode `./data' selected", "./data"),
        ("Error (criu/config.c:1044): Invalid value for --network-lock: ./data", "./data"),
        ("Error (criu/config.c:1070): invalid argument for -t: ./data", "t"),
        ("Error (criu/config.c:442): Deprecated functionality (./data) rejected.", "./data"),
        ("Error (criu/files.c:1570): Invalid inherit fd argument: ./data", "./data"),
        ("Error (criu/lsm.c:397): invalid argument ./data for --lsm-profile", "./data"),
        ("Error (criu/config.c:919): Failed while parsing --enable-fs option: ./data", "./data"),
        ("Error (criu/crtools.c:292): --inherit-fd is restore-only option", ""),
        ("Error (criu/config.c:506): Unknown FPU mode `./data' selected", "./data"),
        ("Error (criu/config.c:1120): Option --mntns-compat-mode is only valid on restore", ""),
        ("Error (criu/files.c:1597): Can't fstat inherit fd 77: No such file or directory", "77"),
    ],
    "not_root": [
        ("Error (criu/util.c:810): You need to be root to run this command", ""),
    ],
    "process_crashed": [
        ("Error (criu/cr-restore.c:1262): 77 killed by signal 11: Segmentation fault", "77"),
        ("Error (criu/cr-restore.c:1262): 77 killed by signal 7: Bus error", "77"),
        ("Error (criu/cr-restore.c:1262): 77 killed by signal 5: Trace/breakpoint trap", "77"),
        ("Error (criu/cr-restore.c:1262): 77 killed by signal 6: Aborted", "77"),
    ],
    "process_killed": [
        ("Error (criu/cr-restore.c:1262): 77 killed by signal 9: Killed", "77"),
        ("Error (criu/cr-restore.c:1262): 77 killed by signal 15: Terminated", "77"),
    ],
    "script_failed": [
        ("Error (criu/action-scripts.c:156): One of more action scripts failed", ""),
        ("Error (criu/cr-dump.c:2164): Pre dump script failed with 77!", ""),
    ],
    "read_only": [
        ("Error (compel/arch/x86/src/lib/infect.c:236): Can't obtain FPU registers for 77: Read-only file system", ""),
    ],
    "access_denied": [
        ("Error (compel/arch/x86/src/lib/infect.c:236): Can't obtain FPU registers for 77: Permission denied", ""),
    ],
}

OWN: Mapping[str, tuple[str, str]] = {
    "Can't find mount namespace ...": ("Error (criu/mount.c:3490): mnt: Can't find mount namespace 77", ""),
    "The file system ... is inaccessible": (
        "Error (criu/mount.c:1200): mnt: The file system 0x1f 0x1f (0x1f) ./data ./data is inaccessible",
        "",
    ),
    "Failed to remount {mount}:{mountpoint} writable": (
        "Error (criu/mount.c:4134): mnt: Failed to remount 77:./data writable: No such file or directory",
        "77 ./data",
    ),
    "Can't parse {pid}'s mountinfo": ("Error (criu/mount.c:1895): mnt: Can't parse 77's mountinfo", "77"),
    "Failed to set mount {mount} unbindable": (
        "Error (criu/mount-v2.c:544): mnt-v2: Failed to set mount 77 unbindable: No such file or directory",
        "77",
    ),
    "FATAL: Peer ... unresolved for ...": ("Error (criu/sk-unix.c:2285): unix: FATAL: Peer 77 unresolved for 77", ""),
    "in established state": ("Error (criu/sk-unix.c:1814): unix: Non-stream socket 77 in established state", ""),
    "Wrong shutdown/peer state for ...": ("Error (criu/sk-unix.c:1855): unix: Wrong shutdown/peer state for 77", ""),
    "Can't create inotify for ...: ...": (
        "Error (criu/fsnotify.c:664): fsnotify: Can't create inotify for 0x1f: No such file or directory",
        "",
    ),
    "Unable to create a thread: ...": ("Error (criu/pie/restorer.c:2185): Unable to create a thread: 77", ""),
    "{pid} stopped by signal ...": ("Error (criu/cr-restore.c:1274): 77 stopped by signal 77: ./data", "77"),
    "process_vm_readv failed": (
        "Error (criu/page-xfer.c:742): page-xfer: process_vm_readv failed: No such file or directory",
        "",
    ),
    "Unable to spice data": (
        "Error (criu/page-xfer.c:263): page-xfer: Unable to spice data: No such file or directory",
        "",
    ),
    "Unable to specify ifindex in the target namespace": (
        "Error (criu/net.c:1367): net: Unable to specify ifindex in the target namespace.",
        "",
    ),
    "join-ns pid namespace not supported": ("Error (criu/namespaces.c:169): join-ns pid namespace not supported", ""),
    "failed to start usernsd": ("Error (criu/namespaces.c:1501): failed to start usernsd", ""),
    "Can't read {pid}'s pagemap file: ...": (
        "Error (criu/pagemap-cache.c:217): pagemap-cache: Can't read 77's pagemap file: No such file or directory",
        "77",
    ),
    "Can't push pipe data: ...": ("Error (criu/pipes.c:462): Can't push pipe data: No such file or directory", ""),
    "Can't restore ticks/time for timerfd": (
        "Error (criu/pie/restorer.c:1247): Can't restore ticks/time for timerfd - 77",
        "",
    ),
    "No device for {mountpoint}({mount}) mount": (
        "Error (criu/mount.c:2047): mnt: No device for ./data(77) mount",
        "./data 77",
    ),
    "The mount {mount} has readonly sb": ("Error (criu/mount.c:4162): mnt: The mount 77 has readonly sb", "77"),
    "Second binfmt_misc superblock": ("Error (criu/filesystems.c:147): Second binfmt_misc superblock", ""),
    "binfmt_misc: ...": (
        "Error (criu/filesystems.c:94): binfmt_misc: unsupported feature ./data: No such file or directory",
        "",
    ),
    "invalid btrfs options, no subvol argument": (
        "Error (criu/filesystems.c:617): invalid btrfs options, no subvol argument",
        "",
    ),
    "Resolving over invalid device for ...": (
        "Error (criu/mount.c:1184): mnt: Resolving over invalid device for 0x1f ./data ./data",
        "",
    ),
    "Unsupported st_mode ... deleted root {mountpoint}": (
        "Error (criu/mount.c:2505): mnt: Unsupported st_mode 00100600 deleted root ./data",
        "./data",
    ),
    "Failed to find root for {mount} in our supposed bind ...": (
        "Error (criu/mount-v2.c:360): mnt-v2: Failed to find root for 77 in our supposed bind 77",
        "77",
    ),
    "Child-parent mountpoint mismatch {mount}:...": (
        "Error (criu/mount-v2.c:626): mnt-v2: Child-parent mountpoint mismatch 77:./data 77:./data",
        "77",
    ),
    "Parent mount ... of {mount} should be mounted": (
        "Error (criu/mount-v2.c:620): mnt-v2: Parent mount 77 of 77 should be mounted",
        "77",
    ),
    "Unable to create mountpoint {mountpoint}: ...": (
        "Error (criu/mount-v2.c:662): mnt-v2: Unable to create mountpoint ./data: No such file or directory",
        "./data",
    ),
    "Unable to mkdir mountpoint {mountpoint}: ...": (
        "Error (criu/mount-v2.c:654): mnt-v2: Unable to mkdir mountpoint ./data: No such file or directory",
        "./data",
    ),
    "Unable to statfs {mountpoint}: ...": (
        "Error (criu/mount-v2.c:756): mnt-v2: Unable to statfs ./data: No such file or directory",
        "./data",
    ),
    "Can't umount at {mountpoint}: ...": (
        "Error (criu/mount.c:2820): mnt: Can't umount at ./data: No such file or directory",
        "./data",
    ),
    "Can't open mount ...": ("Error (criu/mount.c:1254): mnt: Can't open mount 0x1f", ""),
    "Build-ID (For validation) could not be obtained for file {file} because": (
        (
            "Error (criu/files-reg.c:1709): Build-ID (For validation) could not be obtained for file ./data "
            "because can't open the file"
        ),
        "./data",
    ),
    "Can't create dir: {file} AT ...": (
        "Error (criu/files-reg.c:2024): Can't create dir: ./data AT 77: No such file or directory",
        "./data",
    ),
    "Failed to clenaup {file} link remap": (
        "Error (criu/files-reg.c:1075): Failed to clenaup ./data link remap",
        "./data",
    ),
    "Ghost symlink target is NULL for {file}": (
        "Error (criu/files-reg.c:390): Ghost symlink target is NULL for ./data. Image from old CRIU?",
        "./data. Image from old CRIU?",
    ),
    "symlink({thing}) failed": (
        "Error (criu/files-reg.c:400): symlink(./data, ./data) failed: No such file or directory",
        "./data, ./data",
    ),
    "Can't make file size": ("Error (criu/files-reg.c:343): Can't make file size: No such file or directory", ""),
    "Can't restore file pos": ("Error (criu/files-reg.c:2379): Can't restore file pos: No such file or directory", ""),
    "Can't setup ... file owner pid": (
        "Error (criu/files.c:766): Can't setup 77 file owner pid: No such file or directory",
        "",
    ),
    "Unable to set file descriptor flags": (
        "Error (criu/files.c:1081): Unable to set file descriptor flags: No such file or directory",
        "",
    ),
    "Can't dup local fd ...": ("Error (criu/files.c:1076): Can't dup local fd 77 -> 77: No such file or directory", ""),
    "Can't create epoll ...": (
        "Error (criu/eventpoll.c:371): epoll: Can't create epoll 0x1f: No such file or directory",
        "",
    ),
    "Can't create eventfd ...": (
        "Error (criu/eventfd.c:78): eventfd: Can't create eventfd 0x1f: No such file or directory",
        "",
    ),
    "Can't create signalfd ...": (
        "Error (criu/signalfd.c:76): Can't create signalfd 0x1f: No such file or directory",
        "",
    ),
    "timerfd_create failed": (
        "Error (criu/timerfd.c:46): timerfd: timerfd_create failed: No such file or directory",
        "",
    ),
    "No timerfd support for c/r": (
        "Error (criu/timerfd.c:52): timerfd: No timerfd support for c/r: No such file or directory",
        "",
    ),
    "Can't get file description": ("Error (criu/file-lock.c:549): Can't get file description", ""),
    "Bogus lock test result": ("Error (criu/file-lock.c:194): Bogus lock test result 77", ""),
    "Can't get tty params on ...": (
        "Error (criu/tty.c:1963): tty: Can't get tty params on 0x1f: No such file or directory",
        "",
    ),
    "Can't set tty params on ...": (
        "Error (criu/tty.c:850): tty: Can't set tty params on 0x1f: No such file or directory",
        "",
    ),
    "Can't set sid on terminal fd ...": (
        "Error (criu/tty.c:679): tty: Can't set sid on terminal fd 77: No such file or directory",
        "",
    ),
    "Failed to set group ... on ...": (
        "Error (criu/tty.c:689): tty: Failed to set group 77 on 77: No such file or directory",
        "",
    ),
    "Unexpected format on path {file}": ("Error (criu/tty.c:265): tty: Unexpected format on path ./data", "./data"),
    "Restored ... bytes while ... expected": ("Error (criu/tty.c:915): tty: Restored 77 bytes while 77 expected", ""),
    "Can't steal fd ... using pidfd_getfd": (
        "Error (criu/pidfd-store.c:62): Can't steal fd 77 using pidfd_getfd: No such file or directory",
        "",
    ),
    "Error splicing data": ("Error (criu/pipes.c:184): 0x1f: Error splicing data: No such file or directory", ""),
    "Can't bind netlink socket: ...": (
        "Error (criu/sk-netlink.c:233): netlink: Can't bind netlink socket: No such file or directory",
        "",
    ),
    "Can't connect netlink socket: ...": (
        "Error (criu/sk-netlink.c:245): netlink: Can't connect netlink socket: No such file or directory",
        "",
    ),
    "Can't create netlink sock: ...": (
        "Error (criu/sk-netlink.c:210): netlink: Can't create netlink sock: No such file or directory",
        "",
    ),
    "The netlink socket ... is bound to groups but not to portid": (
        "Error (criu/sk-netlink.c:138): netlink: The netlink socket 0x1f is bound to groups but not to portid",
        "",
    ),
    "Multiple MC membership not supported": (
        "Error (criu/sk-packet.c:71): packet: Multiple MC membership not supported (but can be)",
        "",
    ),
    "Can't bind packet socket: ...": (
        "Error (criu/sk-packet.c:495): packet: Can't bind packet socket: No such file or directory",
        "",
    ),
    "Can't create packet sock...": (
        "Error (criu/sk-packet.c:423): packet: Can't create packet socket: No such file or directory",
        "",
    ),
    "Can't create inet socket: ...": (
        "Error (criu/sk-inet.c:889): inet: Can't create inet socket: No such file or directory",
        "",
    ),
    "Can't make unix socket: ...": (
        "Error (criu/sk-unix.c:1919): unix: Can't make unix socket: No such file or directory",
        "",
    ),
    "Can't create socketpair: ...": (
        "Error (criu/sk-unix.c:1841): unix: Can't create socketpair: No such file or directory",
        "",
    ),
    "Can't shutdown unix socket: ...": (
        "Error (criu/sk-unix.c:1209): unix: Can't shutdown unix socket: No such file or directory",
        "",
    ),
    "Can't shutdown socket into ...": (
        "Error (criu/sk-inet.c:972): inet: Can't shutdown socket into 77: No such file or directory",
        "",
    ),
    "Can't set ...:... (len ...): ...": (
        "Error (criu/sockets.c:474): sockets: Can't set 77:77 (len 77): No such file or directory",
        "",
    ),
    "Can't restore filter": ("Error (criu/sockets.c:420): sockets: Can't restore filter", ""),
    "Dangling connection ...": ("Error (criu/sk-unix.c:479): unix: Dangling connection 77", ""),
    "The file name is too long": ("Error (criu/sk-unix.c:1441): unix: The file name is too long", ""),
    "Unix socket ... not found": ("Error (criu/sk-unix.c:351): unix: Unix socket 77 not found", ""),
    "Unable to find the ... mount": ("Error (criu/sk-unix.c:1281): unix: Unable to find the 77 mount", ""),
    "This libsocr is not supported": ("Error (criu/sk-tcp.c:151): tcp: This libsocr is not supported (77 vs 77)", ""),
    "Socket state ... obtained but expected ...": (
        "Error (criu/sk-inet.c:322): inet: Socket state 77 obtained but expected 77",
        "",
    ),
    "Failed to enable std/err output buffering": (
        "Error (criu/net.c:2606): net: Failed to enable std/err output buffering",
        "",
    ),
    "Can't create sock diag socket: ...": (
        "Error (criu/net.c:3547): net: Can't create sock diag socket: No such file or directory",
        "",
    ),
    "Can't open rtnl sock for net dump: ...": (
        "Error (criu/net.c:1021): net: Can't open rtnl sock for net dump: No such file or directory",
        "",
    ),
    "Unknown namespace flag ...": ("Error (criu/namespaces.c:1077): Unknown namespace flag 1f", ""),
    "Failed to setns when join-ns {thing}: ...": (
        "Error (criu/namespaces.c:1693): Failed to setns when join-ns ./data:./data: No such file or directory",
        "./data:./data",
    ),
    "Can't access join-ns file {host_path}: ...": (
        "Error (criu/namespaces.c:105): Can't access join-ns file /srv/x: No such file or directory",
        "/srv/x",
    ),
    "Conflicting flags: --join-ns and --empty-ns": (
        "Error (criu/namespaces.c:51): Conflicting flags: --join-ns and --empty-ns",
        "",
    ),
    "Can't setns .../{thing}: ...": (
        "Error (criu/namespaces.c:258): Can't setns 77/./data: No such file or directory",
        "./data",
    ),
    "Unable to write into {thing}: ...": (
        "Error (criu/namespaces.c:1203): Unable to write into ./data: No such file or directory",
        "./data",
    ),
    "Can't obtain regs for thread {pid}": (
        "Error (compel/src/lib/infect.c:749): Can't obtain regs for thread 77",
        "77",
    ),
    "Can't get thread area of {pid}": ("Error (compel/src/lib/infect.c:754): Can't get thread area of 77", "77"),
    "Can't obtain registers (pid: {pid}): ...": (
        "Error (compel/src/lib/infect.c:600): Can't obtain registers (pid: 77): No such file or directory",
        "77",
    ),
    "Task pid reused while suspending (...": (
        "Error (compel/src/lib/infect.c:273): Task pid reused while suspending (77: 77 -> 77)",
        "",
    ),
    "Can't attach to init: ...": (
        "Error (criu/cr-restore.c:2081): Can't attach to init: No such file or directory",
        "",
    ),
    "Can't attach to {pid}: ...": (
        "Error (criu/cr-restore.c:1736): Can't attach to 77: No such file or directory",
        "77",
    ),
    "First PID in a PID namespace needs to be ...": (
        "Error (criu/cr-restore.c:1201): First PID in a PID namespace needs to be 77 and not 77",
        "",
    ),
    "pstree item has invalid pid {pid}": ("Error (criu/cr-restore.c:1908): pstree item has invalid pid 77", "77"),
    "Can't find a parent for {inner_pid}": ("Error (criu/pstree.c:603): Can't find a parent for 77", "77"),
    "Unexpected task ... in a tree ...": ("Error (criu/pstree.c:629): Unexpected task 77 in a tree 77", ""),
    "Conflict with a dead task with the same PID as of this thread": (
        (
            "Error (criu/files-reg.c:1217): Conflict with a dead task with the same PID as of this thread "
            "(virt 77, real 77)."
        ),
        "",
    ),
    "Child {pid} died too early": ("Error (criu/cr-restore.c:948): Child 77 died too early", "77"),
    "Inconsistent sched params received": (
        "Error (criu/cr-restore.c:2618): Inconsistent sched params received (77.77.77)",
        "",
    ),
    "Pdeath signal is too big": ("Error (criu/cr-restore.c:3429): Pdeath signal is too big", ""),
    "Can't restore cur > max for ...": ("Error (criu/cr-restore.c:2716): Can't restore cur > max for 77.77", ""),
    "Can't restore membarrier(": (
        "Error (criu/pie/restorer.c:1679): Can't restore membarrier(1 << 77) registration: 77",
        "",
    ),
    "Cannot restore THP_DISABLE=...": ("Error (criu/pie/restorer.c:1854): Cannot restore THP_DISABLE=77 flag: 77", ""),
    "Unable to set a thread name: ...": ("Error (criu/pie/restorer.c:796): Unable to set a thread name: 77", ""),
    "Unable to set no_new_privs=...": ("Error (criu/pie/restorer.c:385): Unable to set no_new_privs=77: 77", ""),
    "Unable to set PR_SET_CHILD_SUBREAPER(": (
        "Error (criu/pie/restorer.c:1524): Unable to set PR_SET_CHILD_SUBREAPER(77): 77",
        "",
    ),
    "Unable to set PR_SET_PDEATHSIG(": ("Error (criu/pie/restorer.c:408): Unable to set PR_SET_PDEATHSIG(77): 77", ""),
    "Unable to set PR_SET_DUMPABLE: ...": (
        "Error (criu/cr-check.c:1920): Unable to set PR_SET_DUMPABLE: No such file or directory",
        "",
    ),
    "Unable to set SECURE_NO_SETUID_FIXUP: ...": (
        "Error (criu/pie/restorer.c:252): Unable to set SECURE_NO_SETUID_FIXUP: 77",
        "",
    ),
    "Failed to recover futex robust list: ...": (
        "Error (criu/pie/restorer.c:627): Failed to recover futex robust list: 77",
        "",
    ),
    "Failed obtaining futex robust list on {pid}": (
        "Error (criu/cr-dump.c:624): Failed obtaining futex robust list on 77",
        "77",
    ),
    "Unable to prepare shadow stack vma for remap": (
        "Error (criu/pie/restorer.c:1124): Unable to prepare shadow stack vma for remap 1f -> 1f",
        "",
    ),
    "Restorer stack smash detected": ("Error (criu/pie/restorer.c:2343): Restorer stack smash detected 77", ""),
    "madvise(...) failed with": (
        "Error (criu/pie/restorer.c:1700): madvise(1f, 77, MADV_GUARD_INSTALL) failed with 77",
        "",
    ),
    "Can't restore sigaction: ...": (
        "Error (criu/sigact.c:143): Can't restore sigaction: No such file or directory",
        "",
    ),
    "Bad number of sigactions in the image": (
        "Error (criu/sigact.c:161): Bad number of sigactions in the image (77, want 77)",
        "",
    ),
    "Can't get sched param for {pid}: ...": (
        "Error (criu/cr-dump.c:187): Can't get sched param for 77: No such file or directory",
        "77",
    ),
    "Can't get rlimit ...": ("Error (criu/cr-dump.c:388): Can't get rlimit 77: No such file or directory", ""),
    "Error reading {pid}'s auxv": (
        "Error (criu/cr-dump.c:495): Error reading 77's auxv: No such file or directory",
        "77",
    ),
    "Too many groups in task": ("Error (criu/pie/parasite.c:363): Too many groups in task 77", ""),
    "Unable to get capabilities: ...": ("Error (criu/pie/parasite.c:313): Unable to get capabilities: 77", ""),
    "can't dump unprivileged task whose /proc doesn't belong to it": (
        "Error (criu/pie/parasite.c:641): can't dump unprivileged task whose /proc doesn't belong to it",
        "",
    ),
    "Can't splice pages to pipe (": ("Error (criu/pie/parasite.c:92): Can't splice pages to pipe (77/77/77)", ""),
    "mprotect(...) failed with code": ("Error (criu/pie/parasite.c:58): mprotect(1f, 77) failed with code 77", ""),
    "tty: Can't fetch params: err = ...": ("Error (criu/pie/parasite.c:775): tty: Can't fetch params: err = 77", ""),
    "Unsupported message size: ...": ("Error (criu/ipc_ns.c:682): Unsupported message size: 77 (MAX: 77)", ""),
    "Failed to collect ... (only ... succeeded)": (
        "Error (criu/ipc_ns.c:155): Failed to collect 77 (only 77 succeeded)",
        "",
    ),
    "Can't dump page with parasite": ("Error (criu/mem.c:718): Can't dump page with parasite", ""),
    "Page entry address ... outside of VMA": (
        "Error (criu/mem.c:1313): Page entry address 1f outside of VMA 1f-1f",
        "",
    ),
    "PAGEMAP_SCAN: ...": ("Error (criu/mem.c:1581): PAGEMAP_SCAN: No such file or directory", ""),
    "Can't read img file: ...": ("Error (criu/image.c:869): Can't read img file: No such file or directory", ""),
    "Can't write img file: ...": ("Error (criu/image.c:845): Can't write img file: No such file or directory", ""),
    "Unable to open {image}: ...": (
        "Error (criu/fsnotify.c:510): fsnotify: Unable to open core-1.img: Operation not permitted",
        "core-1.img",
    ),
    "Not enough space to replace ...": ("Error (criu/files.c:309): Not enough space to replace ./data", ""),
    "Parsing {pid}'s stat failed": (
        "Error (criu/proc_parse.c:986): Parsing 77's stat failed (#fields do not match)",
        "77",
    ),
    "Bad format in {pid} mountinfo": ("Error (criu/proc_parse.c:1704): Bad format in 77 mountinfo: './data'", "77"),
    "No records of type ... found in fdinfo file": (
        "Error (criu/proc_parse.c:2269): No records of type 77 found in fdinfo file",
        "",
    ),
    "Invalid selinux context {thing}": ("Error (criu/lsm.c:114): Invalid selinux context ./data", "./data"),
    "getting selinux profile failed": (
        "Error (criu/lsm.c:109): getting selinux profile failed: No such file or directory",
        "",
    ),
    "Invalid value for ifpriomap": ("Error (criu/cgroup.c:1569): cg: Invalid value for ifpriomap: `./data'", ""),
    "Expecting root_task to restore cgroup namespace": (
        "Error (criu/cgroup.c:1265): cg: Expecting root_task to restore cgroup namespace",
        "",
    ),
    "write to cgroup.subtree_control: ...": (
        "Error (criu/cgroup.c:1397): cg: write to cgroup.subtree_control: No such file or directory",
        "",
    ),
    "Can't change directory to {host_path}: ...": (
        "Error (criu/crtools.c:272): Can't change directory to /srv/x: No such file or directory",
        "/srv/x",
    ),
    "unknown command: {thing}": ("Error (criu/crtools.c:124): unknown command: ./data", "./data"),
    "pid not specified": ("Error (criu/crtools.c:583): pid not specified", ""),
    "Fail to make dir {host_path}: ...": (
        "Error (criu/kerndat.c:1087): Fail to make dir /srv/x: No such file or directory",
        "/srv/x",
    ),
    "Restored skb trimmed to ...": ("Error (criu/sk-queue.c:315): skqueue: Restored skb trimmed to 77/77", ""),
    "sys_recvmsg failed: truncated": ("Error (criu/sk-queue.c:243): skqueue: sys_recvmsg failed: truncated", ""),
    "Unsupported ELF class: ...": ("Error (criu/pie/util-vdso.c:114): vdso: Unsupported ELF class: 77", ""),
    "Can't get pidfd of pid {pid}: ...": (
        "Error (criu/pidfd-store.c:275): Can't get pidfd of pid 77: No such file or directory",
        "77",
    ),
    "handle_device_vma plugin failed": (
        "Error (criu/proc_parse.c:118): handle_device_vma plugin failed: No such file or directory",
        "",
    ),
    "Can't open ns file {host_path}: ...": (
        "Error (criu/namespaces.c:1660): Can't open ns file /srv/x: No such file or directory",
        "/srv/x",
    ),
    "uns: Async call failed. Exiting": ("Error (criu/namespaces.c:1341): uns: Async call failed. Exiting", ""),
    'Invalid server address "{thing}"': (
        'Error (criu/util.c:1198): Invalid server address "./data". The address must be in IPv4 or IPv6 format.',
        "./data",
    ),
    "CRIU was built without TLS support": ("Error (criu/config.c:1114): CRIU was built without TLS support", ""),
}
