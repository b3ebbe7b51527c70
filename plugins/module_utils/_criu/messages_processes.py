# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CRIU says of processes, their memory and their namespaces.

For the form of the texts see messages.py.
"""

from __future__ import annotations

from ansible_collections.fleet.criu.plugins.module_utils._criu.message import Message

PROCESSES = (
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
        (
            "The root process {inner_pid} is not a session leader",
            "Found dangling tty",
            "No task found with sid ...",
            "ctty inheritance detected sid/pgrp",
        ),
        "the workload was started from a shell and shares its session or terminal",
        "Set shell_job, or start the workload with setsid and without a terminal.",
    ),
    Message(
        "session_in_use",
        (
            "Current sid {pid} intersects with",
            "Current gid {pid} intersects with",
        ),
        "the session or group that CRIU runs in has a number that the workload needs",
        "Restore again (the number changes), or run the workload in a pid namespace of its own.",
    ),
    Message(
        "pid_in_use",
        (
            "Pid ... do not match expected {inner_pid}",
            "Can't fork for {inner_pid}: File exists",
            "Thread pid mismatch .../{inner_pid}",
            "Unable to create a thread: -17",
        ),
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
        (
            "Unseizable non-zombie {pid} found",
            "zombie found while seizing",
            "zombie {pid} (comm ...) found while seizing",
            "SEIZE {pid}: ",
            "Unable to interrupt the process",
            "Unexpected error for pid {pid} (comm",
            "Unexpected exit code ... of {pid}: ...",
            "Task {pid} is in unexpected state",
            "Unable to freeze cgroup {thing} (",
            "Individually stopped threads not supported",
        ),
        "the process cannot be stopped, because something traces it already or it is going away (a zombie, "
        "or it is just ending)",
        "End the debugger (see TracerPid in /proc/PID/status), or let the parent collect its zombies, and dump again.",
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
        "zombie_threads",
        (
            "Zombie thread not supported",
            "Zombies with threads are not supported",
            "Zombie with children",
        ),
        "a thread or a process with threads has ended, and nobody has collected it",
        "Let its parent collect it, or end the program, and dump again.",
    ),
    Message(
        "root_process_ended",
        ("A root task is dead",),
        "the process that was to be dumped has ended already",
        "Start the workload again, and give the process ID that it has now.",
    ),
    Message(
        "program_of_32_bits",
        (
            "Can't dump task {pid} running in 32-bit mode",
            "Can't dump task {pid} with LDT descriptors",
        ),
        "a process runs in 32-bit mode or with segments of its own (as under Wine), which this CRIU does not support",
        "Use a CRIU that is built for 32-bit programs (criu check --feature compat_cr), or let the workload "
        "do without them.",
    ),
    Message(
        "shadow_stack",
        (
            "shstk: ",
            "Failed to ... shadow stack",
            "Shadow stack address mismatch",
            "Cannot unlock CET for {pid} task",
        ),
        "the shadow stack of a process (protection of the processor for return addresses) cannot be read or made anew",
        "Install a later CRIU, or start the workload with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off.",
    ),
    Message(
        "seccomp_not_suspended",
        (
            "suspending seccomp failed",
            "failed to suspend seccomp",
        ),
        "the seccomp filters of the workload cannot be suspended, so that CRIU's code could not run in it",
        "Run CRIU as root of the host (CAP_SYS_ADMIN), itself without a seccomp filter; compare criu check "
        "--feature seccomp_suspend.",
    ),
    Message(
        "seccomp_filter",
        (
            "seccomp: SECCOMP_SET_MODE_FILTER returned",
            "seccomp: PR_SET_SECCOMP returned",
            "seccomp: SECCOMP_MODE_STRICT returned",
            "sys_seccomp() returned",
            "couldn't dump seccomp filter",
            "Can't fetch filter on tid_real {pid} ",
            "Can't fetch seccomp metadata on tid_real {pid} ",
            "{pid} killed by signal 31: ...",
        ),
        "the seccomp filters of the workload cannot be read or set, or forbid what CRIU has to do in it",
        "Use a kernel with seccomp filters as on the source (criu check --feature seccomp_filters), or start "
        "the workload without the filter.",
    ),
    Message(
        "parasite",
        (
            "Can't inject syscall blob (pid: {pid})",
            "Can't allocate memory for parasite blob (pid: {pid})",
            "Can't run parasite at {pid}: ...",
            "Can't switch parasite {pid} to daemon mode",
            "{pid} was killed by ... unexpectedly",
            "{pid} exited with ... unexpectedly",
            "{pid} was stopped by ... unexpectedly",
            "Unable to connect a transport socket",
            "Can't accept connection to the transport socket",
            "Task signaled with ...: ...",
            "Command ... for daemon failed with",
            "Failed to read ack",
            "remote mmap() failed",
            "Can't map remote parasite map",
            "Can't create memfd in victim",
            "Can't init thread in parasite {pid}",
            "The task is not in parasite code",
            "Parasite exited with",
            "Can't dump the {pid} thread with a pending SIGTRAP",
        ),
        "CRIU's own code cannot run inside this process",
        "Look into the kernel's log for what stopped it (a security module, a seccomp filter, a lack of "
        "memory); else install a later CRIU.",
    ),
    Message(
        "user_namespace",
        (
            "Unable to convert uid or gid",
            "One or more namespaces doesn't belong to the target user namespace",
            "The user/group mappings buffer truncated",
            "Unable to parse extents",
        ),
        "the user namespace of the workload has no map for an ID that it uses, or other namespaces of the "
        "workload are not its own",
        "Start the workload so that its user namespace has uid_map and gid_map, and is made first (unshare "
        "--user --map-root-user with all others in one call).",
    ),
    Message(
        "user_refused",
        (
            "Can't setgroups([",
            "Unable to set real, effective and saved",
            "Unable to set fsuid",
            "Unable to set fsgid",
            "Unable to drop supplementary groups",
            "Can't setup supplementary group IDs",
            "setgid failed while joining userns",
            "setuid failed while joining userns",
            "Unable to set user ID",
            "Unable to set group ID",
        ),
        "a process cannot become the user or group that it was",
        "Restore as root of the host; in a user namespace map the IDs of the workload (uid_map, gid_map) as "
        "on the source.",
    ),
    Message(
        "capabilities",
        (
            "Unable to restore capabilities: ...",
            "Unable to drop capability ...: ...",
            "Unable to raise ambient capability ...",
            "Unable to set PR_SET_SECUREBITS",
        ),
        "the images hold more capabilities than this kernel or CRIU gives",
        "Run CRIU with the full set (see CapBnd in /proc/self/status), on a kernel and with a CRIU not older "
        "than the source's.",
    ),
    Message(
        "pid_namespace_without_init",
        (
            "Can't dump a pid namespace without the process init",
            "Can't restore pid namespace without the process init",
        ),
        "the tree to dump has a pid namespace, and its first process is not in the tree",
        "Dump from the first process of the pid namespace (the one that is 1 inside it).",
    ),
    Message(
        "pid_not_set",
        (
            "Can't set last_pid",
            "Failed to write ... to /proc/sys/kernel/ns_last_pid: ...",
            "Setting PID failed",
            "Can't set kernel pid_max=",
            "Unable to restore into an empty PID namespace",
            "Unable to enter existing PID namespace",
        ),
        "CRIU cannot choose the process ID that the workload needs",
        "Restore as root of the host with CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN, and /proc/sys writable.",
    ),
    Message(
        "pid_too_large",
        ("Can't fork for {inner_pid}: Invalid argument",),
        "the workload needs a process ID that this host does not give",
        "Raise kernel.pid_max with sysctl to that of the source, or run the workload in a pid namespace of its own.",
    ),
    Message(
        "process_limit",
        (
            "Can't fork for {inner_pid}: Resource temporarily unavailable",
            "Unable to create a thread: -11",
            "Can't fork: Resource temporarily unavailable",
        ),
        "this host allows fewer processes than the workload has",
        "Raise the limits: NPROC (ulimit -u), pids.max of the control group, kernel.threads-max.",
    ),
    Message(
        "session_not_restored",
        (
            "Requested sid {inner_pid} doesn't match inherited",
            "Can't restore sid (",
            "Can't restore pgid (",
            "Can't find a session leader for {inner_pid}",
            "Can't figure out which sid",
        ),
        "the session or process group of a process cannot be made anew",
        "Set shell_job at dump and restore, or start the workload with setsid so that its session begins "
        "with its first process.",
    ),
    Message(
        "rseq_not_restored",
        (
            "failed sys_rseq(",
            "rseq: can't restore as kernel doesn't support it",
            "unsupported RSEQ ABI version",
            "fail to read rseq struct",
            "PTRACE_GET_RSEQ_CONFIGURATION",
        ),
        "restartable sequences (rseq) of the C library cannot be kept on this kernel",
        "Use a kernel as new as the source's and a later CRIU, or set GLIBC_TUNABLES=glibc.pthread.rseq=0 "
        "for the workload.",
    ),
    Message(
        "login_user",
        (
            "Setting loginuid for CT init task failed",
            "Setting loginuid for ... task failed",
            "Restore original /proc/self/loginuid failed",
        ),
        "the login user ID (audit) cannot be set on this host",
        "Run CRIU with CAP_AUDIT_CONTROL, from a service rather than from a login.",
    ),
    Message(
        "out_of_memory_score",
        ("to /proc/self/oom_score_adj failed",),
        "the workload is protected from a lack of memory more than CRIU may set here",
        "Restore with CAP_SYS_RESOURCE, or raise oom_score_adj of the workload before the dump.",
    ),
    Message(
        "timers",
        (
            "Can't create posix timer - ...",
            "Can't create timers, kernel don't give them consequently",
            "Can't restore posix timers",
            "Can't restore timerfd",
            "Unexpected timer id ...",
        ),
        "timers of the workload cannot be made anew with the numbers that they had",
        "Install CRIU 4.2 or later, and use the same kernel as on the source.",
    ),
    Message(
        "clock",
        (
            "Unable to set a boottime clock offset",
            "Unable to set a monotonic clock offset",
            "Unable to open ns/time_for_children",
        ),
        "the clocks of the workload cannot be set on this host, which needs a time namespace",
        "Use a kernel with time namespaces (5.6 or later, CONFIG_TIME_NS); compare criu check --feature timens.",
    ),
    Message(
        "ipc_number_in_use",
        (
            "Failed to set desired IPC",
            "Failed to restore msg id",
            "Failed to restore sem id",
            "Failed to restore shm id",
            "Failed to create shm set",
            "Failed to create sem set",
            "Failed to create msg set",
            "Failed to prepare IPC namespace variables",
            "Failed to prepare shm segment",
            "Failed to prepare semaphores set",
            "Failed to prepare messages queue",
            "Failed to attach shm",
        ),
        "the System V memory, semaphores or queues of the workload cannot be made anew: their numbers are "
        "taken, or a limit is too low",
        "Run the workload in an IPC namespace of its own, and raise kernel.shmmax, kernel.shmall, kernel.sem "
        "and kernel.msgmax as on the source.",
    ),
    Message(
        "shared_memory_in_part",
        (
            "Sysv shmem ... with a hole not supported",
            "Sysv shmem ... with misordered attach chunks",
            "Sysv shmem ... with tail hole not supported",
            "points to anon vma",
        ),
        "the workload has mapped System V shared memory in part alone",
        "Let the workload attach it whole, or detach it before the dump.",
    ),
    Message(
        "address_space",
        (
            "Can't dump high memory region",
            "Can't restore high memory region",
        ),
        "the workload uses addresses above those that this kernel gives (five levels of page tables)",
        "Restore on a host whose processor and kernel have five levels too, or start the workload on one "
        "that has four.",
    ),
    Message(
        "uprobes",
        (
            "PID {pid} has uprobes vma",
            "Dumped with --allow-uprobes",
        ),
        "somebody traces the workload with uprobes",
        "End the tracing, or add --allow-uprobes to extra_args at dump and restore.",
    ),
    Message(
        "memory_map_refused",
        (
            "sys_prctl(PR_SET_MM, PR_SET_MM_MAP) failed",
            "Can't restore EXE link",
            "prctl failed @...",
        ),
        "the kernel does not let CRIU describe the memory of a process as it was",
        "Restore with CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN on a kernel with CONFIG_CHECKPOINT_RESTORE.",
    ),
    Message(
        "memory_not_laid_out",
        (
            "Unable to reserve memory (",
            "Unable to remap a private vma",
            "Unable to map ANON_VMA",
            "Can't restore ... mapping with ...",
            "Unable to remap ... -> ...",
            "No suitable area for task_restore bootstrap",
            "Can't mmap section for restore code",
            "Unable to map a guard page",
        ),
        "the memory of a process cannot be laid out here as it was",
        "Free memory, and set vm.overcommit_memory, vm.max_map_count and the memory limit of the control "
        "group as on the source.",
    ),
    Message(
        "shared_memory_not_made",
        (
            "Can't mmap shmem",
            "Can't resize shmem",
            "Can't restore shmem content",
            "Can't map shmem ...",
            "Can't mmap shmid=...",
        ),
        "shared memory of the workload cannot be made anew",
        "Free memory and space in /dev/shm on this host, and raise the memory limit of the control group.",
    ),
    Message(
        "vdso_differs",
        (
            "Failed to proxify dumpee contents",
            "vDSO isn't provided by kernel, but exists in images",
            "Can't find vDSO area in image",
            "Compatible mode without vdso map support",
            "Failed to map vdso",
        ),
        "the kernel's part of each process (vDSO) differs too much from the source's",
        "Use a later CRIU, and a kernel of the same kind on both hosts, started without vdso=0.",
    ),
)
