# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest

from ansible_collections.fleet.criu.plugins.module_utils._criu.log_lines import error_lines
from ansible_collections.fleet.criu.plugins.module_utils._criu.message import Message
from ansible_collections.fleet.criu.plugins.module_utils._criu.messages import (
    MESSAGES,
    OWN_WORDS,
    find,
    find_own_words,
    is_cause,
)
from ansible_collections.fleet.criu.tests.unit import criu_lines

DIR = "/tmp/.criu.mntns.PdsvIy/mnt-0000000603"

# For each text of each row a line as CRIU writes it and what is found in it. Those with an x in front were printed by
# CRIU 4.1.1 on a test host, the others follow its sources. criu_lines.py has more.
FIRST_LINES = {
    "mount_without_key": [
        # x
        ("Error (criu/mount.c:753): mnt: 604:./data doesn't have a proper root mount", "604 ./data"),
    ],
    "filesystem_unsupported": [
        ("Error (criu/mount.c:724): mnt: FS mnt ./x dev 0x800001 root / unsupported id 31", "./x 31"),
    ],
    "filesystem_refused": [
        ("Error (criu/filesystems.c:663): failed to dump fs ./x (rpc_pipefs): always fail", "./x"),
    ],
    "content_not_copied": [
        ("Error (criu/mount.c:1805): mnt: Unable to dump a file system for 31:./tmp", "31 ./tmp"),
        ("Error (criu/filesystems.c:426): Can't dump tmpfs content", ""),
        ("Error (criu/filesystems.c:460): Can't restore tmpfs content", ""),
    ],
    "unreachable_sharing": [
        (
            (
                "Error (criu/mount.c:1088): mnt: Mount 31 ./x (master_id: 2 shared_id: 0) has unreachable sharing. "
                "Try --enable-external-masters."
            ),
            "31 ./x",
        ),
        (
            (
                "Error (criu/mount-v2.c:197): mnt-v2: Sharing group (0, 2) has unreachable sharing. Try "
                "--enable-external-masters."
            ),
            "",
        ),
    ],
    "parent_mount_missing": [
        ("Error (criu/mount.c:381): mnt: No parent found for mountpoint 31 (@./x)", "31 ./x"),
    ],
    "stacked_mounts": [
        ("Error (criu/mount.c:687): mnt: Mount 30 has two children with same mountpoint: 31 32", "32"),
    ],
    "fuse_without_key": [
        ("Error (criu/filesystems.c:552): ./x y is a fuse mount but not external", "./x y"),
    ],
    "file_outside": [
        # x
        (
            "Error (criu/files-reg.c:1790): Can't lookup mount=571 for fd=50 path=/srv/outside.txt",
            "571 50 /srv/outside.txt",
        ),
    ],
    "file_covered": [
        (
            (
                "Error (criu/files-reg.c:1796): Open files on overmounted mounts are not supported yet; mount=31 fd=3 "
                "path=/x"
            ),
            "31 3 /x",
        ),
    ],
    "chroot": [
        # x
        (
            "Error (criu/mount.c:3865): mnt: The root task has another root than mntns: /srv/roots/gauge",
            "/srv/roots/gauge",
        ),
    ],
    "root_not_given": [
        ("Error (criu/mount.c:2742): mnt: The --root option is required to restore a mount namespace", ""),
    ],
    "key_without_path": [
        # x
        ("Error (criu/mount.c:3130): mnt: No mapping for 604:(null) mountpoint", "604"),
        ("Error (criu/mount.c:3130): mnt: No mapping for ID:(null) mountpoint", ""),
    ],
    "detected_mount": [
        (
            (
                'Error (criu/mount.c:3109): mnt: Mount 31:(null) is autodetected external mount. Try "--ext-mount-map '
                'auto" to allow them.'
            ),
            "31",
        ),
    ],
    "path_missing": [
        # x
        (
            "     1: Error (criu/mount-v2.c:319): mnt-v2: Failed to open_tree /srv/none: No such file or directory",
            "/srv/none",
        ),
    ],
    "path_is_no_folder": [
        # x
        ("     1: Error (criu/mount-v2.c:319): mnt-v2: Failed to open_tree /srv/log/: Not a directory", "/srv/log/"),
    ],
    "path_not_opened": [
        ("     1: Error (criu/mount-v2.c:319): mnt-v2: Failed to open_tree /srv/x: Permission denied", "/srv/x"),
    ],
    "path_of_wrong_type": [
        # x
        (
            (
                "     1: Error (criu/mount-v2.c:324): mnt-v2: Failed to move_mount from /srv/log to "
                "/tmp/.criu.mntns.MKwizK/mnt-0000000604: Invalid argument"
            ),
            "/srv/log /tmp/.criu.mntns.MKwizK/mnt-0000000604",
        ),
    ],
    "mountpoint_missing": [
        # x
        (
            f"     1: Error (criu/mount-v2.c:628): mnt-v2: Can't stat mountpoint {DIR}/data: No such file or directory",
            f"{DIR}/data",
        ),
        (
            (
                "     1: Error (a.c:1): mnt: Can't stat on /tmp/.criu.mntns.a/9-0000000000/data: No such file "
                "or directory"
            ),
            "/tmp/.criu.mntns.a/9-0000000000/data",
        ),
    ],
    "sharing_not_restored": [
        (
            "     1: Error (criu/mount-v2.c:961): mnt-v2: Failed to copy sharing from source /srv/x to 31",
            "/srv/x 31",
        ),
        (
            "     1: Error (mount-v2.c:891): mnt-v2: Failed to copy sharing from -1:/srv/x to 12: Invalid argument",
            "/srv/x",
        ),
        (
            "     1: Error (criu/mount-v2.c:891): mnt-v2: Failed to copy sharing from 7:<none> to 12: Invalid argument",
            "",
        ),
        ("     1: Error (criu/mount-v2.c:949): mnt-v2: Failed to copy sharing from 30 to 31", "31"),
        ("     1: Error (criu/mount-v2.c:1037): mnt-v2: Can't copy sharing from 30[/a] to 31[/b]", "31"),
        ("     1: Error (criu/mount-v2.c:977): mnt-v2: Failed to make mount 31 slave: Invalid argument", "31"),
    ],
    "deleted_source": [
        (
            f"     1: Error (criu/mount-v2.c:390): mnt-v2: Can't re-create deleted directory {DIR}/x: File exists",
            f"{DIR}/x",
        ),
        (f"     1: Error (criu/mount-v2.c:396): mnt-v2: Can't re-create deleted file {DIR}/x: File exists", f"{DIR}/x"),
    ],
    "root_missing": [
        # x
        (
            (f"     1: Error (a.c:1): mnt-v2: Unable to mount /srv/none {DIR} (id=603): No such file or directory"),
            "/srv/none 603",
        ),
    ],
    "mount_refused": [
        (f"     1: Error (criu/mount-v2.c:265): mnt-v2: Can't mount at {DIR}: No such device", DIR),
        (
            f"     1: Error (criu/mount-v2.c:464): mnt-v2: Unable to mount /srv/x {DIR} (id=603): Permission denied",
            "/srv/x 603",
        ),
    ],
    "file_missing": [
        # x
        (
            "     1: Error (files-reg.c:2353): Can't open file usr/bin/python3 on restore: No such file or directory",
            "usr/bin/python3",
        ),
        # x
        (
            "     1: Error (criu/files-reg.c:2267): Can't open file usr/bin/python3: No such file or directory",
            "usr/bin/python3",
        ),
    ],
    "file_not_opened": [
        ("     1: Error (criu/files-reg.c:2353): Can't open file data/x on restore: Permission denied", "data/x"),
    ],
    "working_folder_missing": [
        ("     1: Error (criu/files.c:1400): Can't open cwd", ""),
        ("     1: Error (criu/files.c:1426): Can't change cwd: No such file or directory", ""),
    ],
    "file_size_differs": [
        # x
        (
            "     1: Error (criu/files-reg.c:2175): File usr/bin/python3 has bad size 6832786 (expect 6832784)",
            "usr/bin/python3",
        ),
    ],
    "file_build_differs": [
        ("     1: Error (criu/files-reg.c:2153): File usr/bin/python3 has bad build-ID", "usr/bin/python3"),
    ],
    "file_mode_differs": [
        # x
        (
            "     1: Error (criu/files-reg.c:2294): File usr/bin/python3 has bad mode 0100600 (expect 0100755)",
            "usr/bin/python3",
        ),
    ],
    "ghost_too_large": [
        # x
        (
            "Error (criu/files-reg.c:1031): Can't dump ghost file /data/removed.bin of 2097152 size, increase limit",
            "/data/removed.bin",
        ),
    ],
    "removed_file_with_links": [
        # x
        (
            "Error (criu/files-reg.c:1122): Can't create link remap for /data/removed.bin. Use link-remap option.",
            "/data/removed.bin",
        ),
    ],
    "link_not_made": [
        ("Error (criu/files-reg.c:1159): Can't link remap to /data/x: Read-only file system", "/data/x"),
    ],
    "io_uring": [
        (
            "Error (criu/files-ext.c:94): Can't dump file 5 of that type [600] (unknown anon_inode:[io_uring])",
            "5",
        ),
    ],
    "file_type_unsupported": [
        (
            "Error (criu/files-ext.c:94): Can't dump file 5 of that type [20666] (chr 10:232 /dev/kvm)",
            "5 chr 10:232 /dev/kvm",
        ),
    ],
    "path_unsupported": [("Error (criu/files-reg.c:1812): The path [memfd:x] is not supported", "memfd:x")],
    "path_leads_elsewhere": [("Error (criu/files-reg.c:1444): Unaccessible path opened 1:2, need 1:3", "")],
    "file_locks": [
        # x
        (
            ("Error (a.c:1): Some file locks are hold by dumping tasks! You can try --file-locks to dump them."),
            "",
        ),
    ],
    "lock_not_restored": [
        ("     1: Error (criu/file-lock.c:628): Can not set flock!", ""),
        ("     1: Error (criu/file-lock.c:647): Can not set posix lock!", ""),
        ("     1: Error (criu/file-lock.c:661): Can not set ofd lock!", ""),
    ],
    "watched_file_not_found": [
        (
            "Error (criu/fsnotify.c:263): fsnotify: Can't find suitable path for handle (dev 0x3a ino 0x5): -2",
            "",
        ),
    ],
    "session_outside": [
        # x
        ("Error (criu/cr-dump.c:1664): A session leader of 202(1) is outside of its pid namespace", "202 1"),
        (
            "Error (criu/cr-dump.c:1402): A session leader of zombie process 203(2) is outside of its pid namespace",
            "203 2",
        ),
    ],
    "terminal": [
        (
            "Error (criu/pstree.c:300): The root process 77 is not a session leader. Consider using --shell-job option",
            "77",
        ),
        (
            "Error (criu/tty.c:1819): tty: Found dangling tty with sid 5 pgid 5 (pts) on peer fd 0.",
            "",
        ),
    ],
    "session_in_use": [
        ("Error (criu/pstree.c:382): Current sid 77 intersects with pid (1) in images", "77"),
        ("Error (criu/pstree.c:414): Current gid 77 intersects with pid (1) in images", "77"),
    ],
    "pid_in_use": [
        ("    78: Error (criu/cr-restore.c:1539): Pid 78 do not match expected 77", "77"),
        ("Error (criu/cr-restore.c:1230): Can't fork for 77: File exists", "77"),
    ],
    "pid_namespace_needed": [
        ("Error (criu/cr-restore.c:2034): This process tree can only be restored in a new pid namespace.", ""),
    ],
    "criu_inside": [("Error (compel/src/lib/infect.c:261): The criu itself is within dumped tree.", "")],
    "process_not_stopped": [
        ("Error (compel/src/lib/infect.c:263): Unseizable non-zombie 77 found, state t, err -1/1", "77"),
    ],
    "rseq_unsupported": [("Error (criu/cr-dump.c:210): 77 has rseq but kernel lacks get_rseq_conf feature", "77")],
    "shared_memory_outside": [
        ("Error (criu/cr-dump.c:460): Task 77 with SysVIPC shmem map @7f00 doesn't live in IPC ns", "77"),
    ],
    "timeout": [("Error (criu/cr-dump.c:1791): Timeout reached. Try to interrupt: 0", "")],
    "criu_too_old_for_sockets": [
        # x
        ("Error (criu/sockets.c:628): sockets: Can't get 1:16 opt: Operation not supported", ""),
        # x
        ("Error (criu/sockets.c:628): sockets: Can't get 1:34 opt: Operation not supported", ""),
    ],
    "connected": [
        (
            "Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.",
            "",
        ),
        ("     1: Error (criu/sk-inet.c:903): inet: Connected TCP socket in image", ""),
    ],
    "connections_closed": [("Error (criu/image.c:94): Need to set the --tcp-close options.", "")],
    "connection_half_open": [("Error (criu/sk-inet.c:176): inet: In-flight connection (l) for 5a", "")],
    "address_missing": [
        (
            "     1: Error (criu/sk-inet.c:1049): inet: Can't bind inet socket (id 3): Cannot assign requested address",
            "",
        ),
    ],
    "address_in_use": [
        ("     1: Error (criu/sk-inet.c:1049): inet: Can't bind inet socket (id 3): Address already in use", ""),
    ],
    "address_refused": [
        ("     1: Error (criu/sk-inet.c:1049): inet: Can't bind inet socket (id 3): Permission denied", ""),
    ],
    "external_socket": [
        # x
        (
            "Error (criu/sk-unix.c:874): unix: External socket is used. Consider using --ext-unix-sk option.",
            "",
        ),
        (
            (
                "Error (criu/sk-unix.c:1899): unix: External socket found in image. Consider using the --ext-unix-sk "
                "option to allow restoring it."
            ),
            "",
        ),
    ],
    "external_stream": [
        (
            (
                "Error (criu/sk-unix.c:881): unix: Can't dump half of stream unix connection. name: /run/a; peer name: "
                "/run/log.socket"
            ),
            "/run/a; peer name: /run/log.socket",
        ),
        ("Error (criu/sk-unix.c:888): unix: Can't dump name-less external socket.", ""),
    ],
    "socket_peer_missing": [
        ("     1: Error (criu/sk-unix.c:1406): unix: Can't connect 5 socket: No such file or directory", ""),
        ("     1: Error (criu/sk-unix.c:1406): unix: Can't connect 5 socket: Connection refused", ""),
    ],
    "socket_unsupported": [
        ("Error (criu/sk-inet.c:130): inet: Unsupported proto 132 for socket 5a", ""),
        (
            "Error (criu/sk-inet.c:158): inet: Can't dump 5 inet socket 5a. Only stream, dgram and raw are supported.",
            "",
        ),
        ("Error (criu/sk-inet.c:271): inet: Unsupported socket family: 40", ""),
    ],
    "nftables_missing": [("Error (criu/net.c:3261): net: CRIU was built without libnftables support", "")],
    "nftables_lock": [("Error (criu/net.c:3256): net: Locking network failed using nftables", "")],
    "network_lock": [
        # x
        (
            (
                "Error (a.c:1): net: Locking network failed: iptables-restore returned -1. This may be connected "
                "to disabled CONFIG_NETFILTER_XT_MARK kernel build config option."
            ),
            "",
        ),
    ],
    "network_device": [
        ("Error (criu/net.c:650): net: Unsupported link 5 (type 1 kind wireguard)", "wireguard"),
    ],
    "namespace_not_given": [
        ("Error (criu/net.c:2792): net: Unable to find an external netns: extNet", "extNet"),
        ("Error (criu/cr-restore.c:1157): Unable to find an external pidns: extPid", "extPid"),
    ],
    "cgroup_missing": [("Error (criu/cgroup.c:1800): cg: Cgroup dir cpu/x doesn't exist", "cpu/x")],
    "cgroup_exists": [("Error (criu/cgroup.c:1823): cg: Abort restore of existing cgroups", "")],
    "cgroup_refused": [
        (
            "Error (criu/cgroup.c:1490): cg: Failed writing 1 to cpuset//x/cpuset.cpu_exclusive: Permission denied",
            "cpuset//x/cpuset.cpu_exclusive",
        ),
        (
            "Error (cgroup.c:1140): cg: Can't move 77 into unified/x/cgroup.procs (-1/7): No such file or directory",
            "unified/x/cgroup.procs",
        ),
        (
            "Error (criu/cgroup.c:1249): cg: Can't move into unified/x/tasks (-1/7): No such file or directory",
            "unified/x/tasks",
        ),
    ],
    "security_module": [
        ("Error (criu/lsm.c:358): mismatched lsm types and lsm profile specified", ""),
        ("Error (criu/lsm.c:404): apparmor LSM specified but apparmor not supported by kernel", ""),
        ("Error (criu/lsm.c:411): selinux LSM specified but selinux not supported by kernel", ""),
    ],
    "processor": [
        ("Error (criu/arch/x86/cpu.c:223): cpu: CPU instruction capabilities do not match run time", ""),
        ("Error (criu/arch/x86/cpu.c:297): cpu: CPU capabilities do not match run time", ""),
        ("Error (criu/arch/x86/cpu.c:274): cpu: CPU xsave size mismatch (2696/832)", ""),
        ("Error (criu/arch/x86/cpu.c:278): cpu: CPU xsave max size mismatch (2696/832)", ""),
        ("Error (criu/arch/x86/cpu.c:247): cpu: FPU feature required by image is not supported on host", ""),
        ("Error (criu/arch/x86/cpu.c:262): cpu: CPU xfeatures has unsupported bits (0x2e7)", ""),
    ],
    "criu_too_old_for_kernel": [("Error (criu/vdso.c:642): vdso: Unexpected rt vDSO area bounds", "")],
    "memory_not_tracked": [
        (
            "Error (criu/config.c:1128): Tracking memory is not available. Consider omitting --track-mem option.",
            "",
        ),
    ],
    "lazy_pages_unavailable": [("Error (criu/kerndat.c:1345): Lazy pages are not available", "")],
    "stale_pid_file": [
        # x
        ("Error (criu/log.c:406): pidfile: Can't open /tmp/i/stale.pid: File exists", "/tmp/i/stale.pid"),
    ],
    "images_damaged": [
        ("Error (criu/image.c:558): Magic doesn't match for core-1.img", "core-1.img"),
        ("Error (criu/image.c:549): Head magic doesn't match for core-1.img", "core-1.img"),
        # x
        ("Error (criu/image.c:882): Unexpected EOF", ""),
        ("Error (criu/image.c:866): Img trimmed 5/9", ""),
        # x
        ("pie: 1: Error (criu/pie/restorer.c:1835): Can't read pages data (-9)", ""),
        ("Error (criu/cr-restore.c:2481): Image corrupted on pid 1", "1"),
    ],
    "images_of_other_version": [
        ("Error (criu/image.c:89): Not supported images version 7", ""),
        ("Error (criu/image.c:52): Too old image, no longer supported", ""),
    ],
    "plugin_missing": [("Error (criu/image.c:193): Missing required plugin: cuda_plugin", "cuda_plugin")],
    "option_unknown": [
        ("Error (criu/a.c:1): criu: unrecognized option '--gremlin'", "--gremlin"),
        ("Error (criu/a.c:1): unknown option `--gremlin'", "--gremlin"),
    ],
    "no_space": [("Error (criu/image.c:840): Can't write img file: No space left on device", "")],
    "no_memory": [("     1: Error (criu/a.c:1): Can't map: Cannot allocate memory", "")],
    "too_many_files": [
        ("Error (criu/page-pipe.c:101): page-pipe: Can't make pipe for page-pipe: Too many open files", ""),
    ],
    "script_failed": [
        # x
        ("Error (criu/action-scripts.c:94): Script exit 3 exited with -1", "exit 3"),
        # x
        ("Error (criu/cr-restore.c:2005): Aborting restore due to pre-restore script ret code -1", ""),
    ],
    "in_use": [("Error (criu/a.c:1): Can't make x: File exists", "")],
    "not_permitted": [("Error (criu/a.c:1): Can't do x: Operation not permitted", "")],
}

LINES = {
    message.code: [*FIRST_LINES.get(message.code, []), *criu_lines.LINES.get(message.code, [])] for message in MESSAGES
}

EACH = [
    pytest.param(message, text, *line, id=f"{message.code}: {text}")
    for message in MESSAGES
    for text, line in zip(message.texts, LINES[message.code])
]

# A row may have several texts for one cause.
DISTINCT = {text for message in MESSAGES for text in message.texts} | set(OWN_WORDS)


def test_each_text_of_the_table_has_a_line_and_each_line_a_text() -> None:
    assert {message.code: len(message.texts) for message in MESSAGES} == {
        code: len(lines) for code, lines in LINES.items()
    }
    assert set(FIRST_LINES) | set(criu_lines.LINES) == set(LINES)
    assert list(criu_lines.OWN) == list(OWN_WORDS)


def test_at_least_a_hundred_and_fifty_messages_are_covered() -> None:
    assert len(DISTINCT) == sum(len(message.texts) for message in MESSAGES) + len(OWN_WORDS)
    assert len(DISTINCT) >= 150


@pytest.mark.parametrize(("text", "line", "found"), [(text, *line) for text, line in criu_lines.OWN.items()])
def test_each_text_that_speaks_for_itself_is_found_by_itself(text: str, line: str, found: str) -> None:
    (error,) = error_lines(f"{line}\n")
    fitting = [own for own in OWN_WORDS if re.search(_as_pattern(own), error)]
    assert text in fitting
    places = find_own_words(error)
    assert places is not None
    assert sorted(" ".join(places.values()).split()) == sorted(found.split())
    assert is_cause(error)
    match = find(error)
    assert match is None or match.message.general


@pytest.mark.parametrize("text", OWN_WORDS)
def test_no_text_that_speaks_for_itself_is_there_in_vain(text: str) -> None:
    # Without it its line would not be found, or be found by another text with fewer words.
    (error,) = error_lines(f"{criu_lines.OWN[text][0]}\n")
    assert next(own for own in OWN_WORDS if re.search(_as_pattern(own), error)) == text


def _as_pattern(text: str) -> str:
    parts = re.split(r"\{[a-z_]+\}|\.\.\.", text)
    return ".*".join(map(re.escape, parts))


@pytest.mark.parametrize("time", ["", "(00.012345) "], ids=["without time", "with time"])
@pytest.mark.parametrize(("message", "text", "line", "found"), EACH)
def test_each_text_is_found_with_what_it_says_of_the_place(
    time: str, message: Message, text: str, line: str, found: str
) -> None:
    (error,) = error_lines(f"{time}{line}\n")
    match = find(error)
    assert match is not None
    assert (match.message, match.text) == (message, text)
    assert sorted(" ".join(match.places.values()).split()) == sorted(found.split())
    assert is_cause(error)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.code)
def test_each_row_says_why_and_what_to_do(message: Message) -> None:
    assert message.why[0].islower() or message.why.startswith("CRIU")
    assert not message.why.endswith(".")
    assert message.remedy[0].isupper()
    assert message.remedy.endswith(".")


def test_codes_are_unique() -> None:
    assert len({message.code for message in MESSAGES}) == len(MESSAGES)


def test_the_table_has_at_least_the_forty_that_were_asked_for() -> None:
    assert len(MESSAGES) >= 40


@pytest.mark.parametrize(
    "line",
    [
        "rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted",
        "cg: cgroupd: recv req error: Operation not permitted",
        "Dumping FAILED.",
        "Restoring FAILED.",
        "mnt: Can't remove the directory /tmp/.criu.mntns.PdsvIy: Device or resource busy",
        "mnt: Can't remove the directory /tmp/.criu.mntns.PdsvIy: No such file or directory",
        "exited, status=1",
        "460 exited, status=1",
        "`- Can't open vma",
        "Unable to open fd=3 id=0x8",
        "Restorer fail 1",
        "Dump files (pid: 236) failed with -1",
        "mnt: Unable to get the root file descriptor of pid 227",
        "Can't write pidfile: File exists",
        "`- couldn't log 236's stack",
        "stack 236#0: [<0>] do_wait+0x1",
        "Restorer abnormal termination for 1",
        "Can't infect (pid: 236) with parasite",
        "Can't dump sigactions (pid: 236) with parasite",
        "Can't fixup vdso VMAs (pid: 236)",
        "Failed to check aio rings (pid: 236)",
        "Pre-dumping files failed (pid: 236)",
        "Can't make FILES id for 236",
        "cg: dumping known properties failed",
        "mnt: Can't restore ext mount (-1)",
        "Can't sent fd 5 to 236",
        "77 exited with non-zero code (1,0)",
        "net: Can't wait or bad status: errno=0, status=65280",
        "-1 reported by netlink: Operation not permitted",
        'execvp("iptables-restore", ...) failed: No such file or directory',
        'execvp("ip6tables-restore", ...) failed: No such file or directory',
        "iptables-restore -V failed",
        "Unable to read ip6tables-restore -V output: Success",
        "sockets: Diag module missing (-2)",
        "Couldn't save /run/criu.kdat: No such file or directory",
    ],
)
def test_what_follows_from_a_failure_is_no_cause(line: str) -> None:
    assert not is_cause(line)


@pytest.mark.parametrize("line", ["gremlins", "", "Dumping", "604 doesn't have a root", "Failed to open_tree"])
def test_other_lines_are_not_in_the_table(line: str) -> None:
    assert find(line) is None
