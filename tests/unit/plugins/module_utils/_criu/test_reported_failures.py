# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs of CRIU as people have reported them, shortened, and others of the same kinds: code, cause and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.log import failure
from ansible_collections.fleet.criu.plugins.module_utils._runner import Completed

DUMP_FAILED = "(00.9) Error (criu/cr-dump.c:2128): Dumping FAILED."
RESTORE_FAILED = "(00.9) Error (criu/cr-restore.c:2293): Restoring FAILED."

# The log without its last line, the code, what the sentence tells, what the remedy tells.
REPORTED = [
    (
        [
            "(00.067959) irmap: Scanning /. hint",
            "(00.067968) Warn  (criu/irmap.c:105): irmap: Can't stat /no-such-path: No such file or directory",
            "(00.067971) Error (criu/fsnotify.c:284): fsnotify: \tCan't dump that handle",
            "(00.067990) Error (criu/cr-dump.c:1698): Dump files (pid: 4242) failed with -1",
        ],
        "watched_file_not_found",
        ["Process 4242", "overlay, btrfs"],
        ["--force-irmap", "--irmap-scan-path"],
    ),
    (
        [
            "(00.718011) Error (criu/sk-unix.c:710): sk unix: Can't dump half of stream unix connection.",
            "(00.72) Error (criu/cr-dump.c:1280): Dump files (pid: 4242) failed with -1",
        ],
        "external_stream",
        ["connected to a program outside it"],
        ["close the connection"],
    ),
    (
        [
            (
                "(00.2)   1205: Error (criu/sk-inet.c:759): inet: Can't connect inet socket back: Cannot assign "
                "requested address"
            ),
            "(00.21)   1205: Error (criu/files.c:1196): Unable to open fd=8 id=0x2d",
        ],
        "address_missing",
        ["for a connection", "this host does not have"],
        ["Give this host the address"],
    ),
    (
        [
            "(00.3) pie: 1: Error (criu/pie/restorer.c:166): can't write lsm profile -2",
            "(00.31) pie: 1: Error (criu/pie/restorer.c:1872): Restorer fail 1",
        ],
        "security_module",
        ["AppArmor", "profile"],
        ["--lsm-profile none"],
    ),
    (
        [
            "(00.189574)pie: 1: Error (criu/pie/restorer.c:273): Unable to restore capabilities: -1",
            "(00.19) pie: 1: Error (criu/pie/restorer.c:1500): Restorer fail 1",
        ],
        "capabilities",
        ["more capabilities than this kernel or CRIU gives"],
        ["CapBnd"],
    ),
    (
        [
            "(00.3) pie: 9843: Error (pie/restorer.c:442): Thread pid mismatch 9844/9843",
            "(00.4) pie: 9843: Error (pie/restorer.c:488): Restorer abnormal termination for 9843",
        ],
        "pid_in_use",
        ["9843", "has the number"],
        ["pid namespace of its own"],
    ),
    (
        [
            "(00.000723) Error (criu/seize.c:275): zombie found while seizing",
            "(00.101071) Error (criu/seize.c:275): zombie found while seizing",
            "(10.000000) Error (criu/seize.c:303): Timeout reached. Try to interrupt: 0",
        ],
        "process_not_stopped",
        ["traces it already", "zombie"],
        ["TracerPid"],
    ),
    (
        [
            " 69481: Error (criu/tty.c:632): tty: Unable to open dev/pts/ptmx with specified index 3",
            " 69481: Error (criu/tty.c:1033): tty: Can't open master pty 0xc (index 3)",
            " 69481: Error (criu/files.c:1196): Unable to open fd=0 id=0xc",
        ],
        "terminal_in_use",
        ["/dev/pts/ptmx", "number of a terminal", "taken"],
        ["newinstance"],
    ),
    (
        ["(00.004166)  5879: Error (criu/tty.c:1435): tty: No task found with sid 5001"],
        "terminal",
        ["session or terminal"],
        ["shell_job"],
    ),
    (
        ["(01.517694) Error (criu/tty.c:2230): tty: Unable to find a master for /19"],
        "terminal_outside",
        ["/dev/console"],
        ["without a terminal", "--external tty"],
    ),
    (
        [
            "Error (criu/namespaces.c:934): Unable to convert uid or gid",
            "Error (criu/namespaces.c:1000): One or more namespaces doesn't belong to the target user namespace",
        ],
        "user_namespace",
        ["no map for an ID", "not its own"],
        ["uid_map"],
    ),
    (
        [
            "(00.007196)      1: Error (criu/image.c:318): Unable to open netns-9.img: Permission denied",
            "(00.007374) Error (criu/cr-restore.c:1306): 10779 exited, status=1",
        ],
        "images_unreadable",
        ["Image netns-9.img", "user namespace", "mode"],
        ["setfacl"],
    ),
    (
        [
            (
                "(00.130001) Error (criu/cgroup.c:1210): cg: bad cgroup path: "
                "grp.defaultroot/prefix/oldroot/cgroup.clone_children: No such file or directory"
            ),
        ],
        "cgroup_refused",
        ["laid out otherwise"],
        ["manage_cgroups to ignore"],
    ),
    (
        [
            "(00.029858)   2117: mnt: \tMounting overlay @/tmp/.criu.mntns.v0tAIg/8-0000000000/ (0)",
            "(00.038252)   2117: mnt: Start with 0:/tmp/.criu.mntns.v0tAIg",
            (
                "(00.068846) Error (criu/mount.c:3270): mnt: Can't remove the directory /tmp/.criu.mntns.v0tAIg: "
                "Device or resource busy"
            ),
        ],
        "unknown",
        ["Mounting overlay", "Start with 0:", "Can't remove the directory"],
        [],
    ),
    (
        ["(00.009949)      1: Error (criu/mount.c:2172): mnt: New root and old root are the same"],
        "root_is_no_mountpoint",
        ["the host's own, or no mountpoint"],
        ["mount --bind"],
    ),
    (
        [
            (
                "(60.004393)      1: Error (criu/util.c:1141): Unable to mount tmpfs in /tmp/.criu.mntns.EQLivu: "
                "No such file or directory"
            ),
        ],
        "work_folder",
        ["work folder in /tmp"],
        ["mkdir -m 1777 /tmp"],
    ),
    (
        [
            (
                "(00.047739) Error (criu/files-reg.c:1790): Can't lookup mount=364 for fd=-3 "
                "path=/usr/local/apache2/bin/httpd"
            ),
            "(00.047778) Error (criu/cr-dump.c:1563): Collect mappings (pid: 4242) failed with -1",
        ],
        "file_outside",
        ["/usr/local/apache2/bin/httpd", "mount ID 364", "mapped", "process 4242"],
        ["inside"],
    ),
    (
        ["(00.007567) Error (criu/mount.c:625): mnt: FS mnt ./sys/kernel/config dev 0x23 root / unsupported id 3017"],
        "kernel_filesystem",
        ["/sys/kernel/config", "file system of the kernel's own"],
        ["Unmount it", "enable_fs"],
    ),
    (
        ["(00.121376)  17388: Error (criu/page-read.c:154): Can't read mapping page 0: No such file or directory"],
        "images_damaged",
        ["missing, cut off or damaged"],
        ["Copy the image set again"],
    ),
    (
        [
            "(46.650041) Error (criu/cr-restore.c:1567): 547 killed by signal 11: Segmentation fault",
            "(46.650302) mnt: Switching to new ns to clean ghosts",
        ],
        "process_crashed",
        ["547", "too old", "vDSO, rseq"],
        ["later CRIU"],
    ),
    (
        ["(00.006)     48: Error (criu/fsnotify.c:486): fsnotify: Can't add watch for 0x3 with 0x1: Invalid argument"],
        "watch_not_restored",
        ["inotify", "mask"],
        ["same kernel"],
    ),
    (
        [
            (
                "(00.01)      1: Error (criu/mount-v2.c:634): mnt-v2: Can't stat mountpoint "
                "/tmp/.criu.mntns.bAeDM2/mnt-0000000147/for/nested: No such file or directory"
            ),
        ],
        "mountpoint_missing",
        ["/for/nested in mount ID 147: there is nothing to mount on"],
        ["Create it"],
    ),
    (
        [
            "(00.007920)      1: Error (criu/libnetlink.c:54): -1 reported by netlink: Operation not permitted",
            "(00.007926)      1: Error (criu/net.c:1823): net: Can't restore link: -1",
            "(00.008110)      1: Error (criu/util.c:1509): Can't wait or bad status: errno=0, status=65280",
        ],
        "network_device",
        ["network namespace has a device"],
        ["Remove the device"],
    ),
    (
        ["(00.1)  67180: Error (criu/eventpoll.c:419): epoll: Can't add event on 0x00000a: Operation not permitted"],
        "epoll_not_restored",
        ["epoll", "cannot be waited for"],
        ["take it out of epoll"],
    ),
    (
        ["Error (criu/filesystems.c:650): mqueue isn't empty"],
        "filesystem_not_empty",
        ["Mqueue", "message queue with messages"],
        ["/dev/mqueue"],
    ),
    (
        [
            "Error (criu/sk-netlink.c:1): netlink: The socket has data to read",
            "Error (criu/cr-dump.c:2128): Dump files (pid: 4242) failed with -1",
        ],
        "netlink_unread",
        ["Process 4242", "netlink", "not read"],
        ["Dump again"],
    ),
    (
        [
            "Error (criu/sockets.c:1): sockets: BUG! Unknown socket collected (family 40)",
            "Error (criu/cr-dump.c:2128): Dump files (pid: 4242) failed with -1",
        ],
        "socket_unsupported",
        ["socket of this kind", "vsock"],
        ["close it"],
    ),
]

# The same kinds with other words.
ALIKE = [
    (
        ["Error (criu/seize.c:335): zombie 77 (comm sleep) found while seizing", "Error (a.c:1): Timeout reached"],
        "process_not_stopped",
        ["Process 77"],
        ["TracerPid"],
    ),
    (
        [
            "Error (criu/seize.c:635): Unable to freeze cgroup /sys/fs/cgroup/x (100 x 100ms attempts, timeout: 10s)",
            "Error (a.c:1): Timeout reached",
        ],
        "process_not_stopped",
        ["/sys/fs/cgroup/x"],
        ["TracerPid"],
    ),
    (
        [
            'Error (criu/util.c:641): execvp("iptables-restore", ...) failed: No such file or directory',
            "Error (criu/util.c:1495): exited, status=1",
            "     1: Error (criu/files-reg.c:2153): File usr/bin/x has bad build-ID",
        ],
        "file_build_differs",
        ["/usr/bin/x"],
        ["same package"],
    ),
    (
        ['Error (criu/util.c:641): execvp("ip6tables-restore", ...) failed: No such file or directory'],
        "unknown",
        ["ip6tables-restore"],
        [],
    ),
    (
        ["     1: Error (criu/sk-inet.c:1): inet: Can't bind inet socket (id 3): Operation not permitted"],
        "address_refused",
        ["cannot be bound"],
        ["end of the line"],
    ),
    (
        ["     1: Error (criu/x.c:1): Unable to frob the thing: Operation not permitted"],
        "not_permitted",
        ["Unable to frob the thing"],
        ["CRIU's words"],
    ),
    (
        ["Error (criu/cr-restore.c:1567): 547 killed by signal 9: Killed"],
        "process_killed",
        ["547 killed by signal 9"],
        ["lack of memory"],
    ),
    (
        ["Error (criu/cr-restore.c:1567): 547 killed by signal 4: Illegal instruction"],
        "processor",
        ["processor of this host"],
        ["same or a newer processor"],
    ),
    (
        ["Error (criu/cr-restore.c:1567): 547 killed by signal 31: Bad system call"],
        "seccomp_filter",
        ["seccomp"],
        ["without the filter"],
    ),
    (
        ["Error (criu/fsnotify.c:486): fsnotify: Can't add watch for 0x3 with 0x1: No space left on device"],
        "watch_limit",
        ["fewer watches"],
        ["max_user_watches"],
    ),
    (
        ["Error (criu/mount.c:724): mnt: FS mnt ./sys/fs/bpf dev 0x23 root / unsupported id 30"],
        "kernel_filesystem",
        ["/sys/fs/bpf"],
        ["enable_fs"],
    ),
    (
        ["Error (criu/mount.c:724): mnt: FS mnt ./system dev 0x23 root / unsupported id 30"],
        "filesystem_unsupported",
        ["/system"],
        ["key"],
    ),
    (
        ["     1: Error (criu/image.c:640): Unable to open pages-3.img: No such file or directory"],
        "images_damaged",
        ["Image pages-3.img"],
        ["Copy the image set again"],
    ),
    (
        ["     1: Error (criu/sk-inet.c:1): inet: Unsupported proto 262 for socket 5a"],
        "mptcp",
        ["multipath"],
        ["GODEBUG=multipathtcp=0"],
    ),
    (
        ["Error (criu/sockets.c:628): sockets: Can't get 1:77 opt: Operation not supported"],
        "socket_option_unreadable",
        ["option of a socket"],
        ["later CRIU"],
    ),
    (
        ["     1: Error (criu/files-reg.c:1): Can't link link_remap.5 -> data/x: No such file or directory"],
        "link_missing",
        ["temporary link", "link_remap.5"],
        ["link_remap.*"],
    ),
]


@pytest.mark.parametrize(("lines", "code", "cause", "remedy"), [pytest.param(*case, id=case[1]) for case in REPORTED])
def test_a_reported_failure_has_its_cause_and_remedy(
    tmp_path: Path, lines: list[str], code: str, cause: list[str], remedy: list[str]
) -> None:
    _check(tmp_path, lines, code, cause, remedy)


@pytest.mark.parametrize(("lines", "code", "cause", "remedy"), [pytest.param(*case, id=case[1]) for case in ALIKE])
def test_a_failure_of_the_same_kind_has_its_cause_and_remedy(
    tmp_path: Path, lines: list[str], code: str, cause: list[str], remedy: list[str]
) -> None:
    _check(tmp_path, lines, code, cause, remedy)


def _check(folder: Path, lines: list[str], code: str, cause: list[str], remedy: list[str]) -> None:
    for last in (DUMP_FAILED, RESTORE_FAILED):
        log = folder / "criu.log"
        log.write_text("\n".join([*lines, last, ""]))
        error = failure("It", Completed(1), log)
        # What decides is not contradicted by what comes after it.
        assert [diagnosis["code"] for diagnosis in error.facts["diagnosis"]] == [code]
        sentence = error.message.split(" CRIU says: ")[0]
        assert [words for words in cause if words not in sentence] == []
        assert [words for words in remedy if words not in error.remedy] == []
        assert bool(remedy) == bool(error.remedy)
        assert "all capabilities" not in error.remedy
