# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CRIU says of mounts.

For the form of the texts see messages.py.
"""

from __future__ import annotations

from ansible_collections.fleet.criu.plugins.module_utils._criu.message import Message

MOUNTS = (
    Message(
        "mount_without_key",
        ("{mount}:{mountpoint} doesn't have a proper root mount",),
        "this mount shows something that lies outside the workload's root, and it has no key",
        "An external mount has no key: run mount_info and mount_map again, and use the dump map that they give.",
    ),
    Message(
        "kernel_filesystem",
        ("FS mnt {kernel_mountpoint} dev ... unsupported id {mount}",),
        "this is a file system of the kernel's own (for example configfs) that CRIU does not make anew by itself",
        "Unmount it in the workload, or name its type in enable_fs, for example configfs (CRIU's "
        "--enable-fs), when you dump it.",
    ),
    Message(
        "filesystem_unsupported",
        ("FS mnt {mountpoint} dev ... unsupported id {mount}",),
        "CRIU cannot dump the content of this kind of file system",
        "Give that mountpoint a key, so that one of the target takes its place. For a block device that is "
        "mounted whole, add --external dev[MAJOR/MINOR]:NAME to extra_args.",
    ),
    Message(
        "filesystem_refused",
        ("failed to dump fs {mountpoint} (",),
        "CRIU refuses to dump this file system",
        "Give that mountpoint a key, or unmount it in the workload.",
    ),
    Message(
        "filesystem_not_empty",
        ("{thing} isn't empty",),
        "this file system holds something (a message queue with messages, a record of a crash) that CRIU does not keep",
        "Let the workload read and remove what is in it (for mqueue: /dev/mqueue, for pstore: "
        "/sys/fs/pstore), or unmount it, and dump again.",
    ),
    Message(
        "automounter",
        (
            "Autofs {mount} is alive, but unreachable",
            "doesn't have a read end of the pipe",
            "Failed to find read pipe fd",
            "autofs pipe fd {descriptor} is not empty",
            "Abandoned mount or control was delegated to child",
            "Non-catatonic mount without master",
        ),
        "an automounter (autofs) and its mounts do not lie in the workload together, or it is just at work",
        "Dump again, or stop the automounter and unmount its mountpoints in the workload.",
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
            "External slavery sharing group (...) has parent (",
            "External slavery sharing group collision (",
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
        "mounts_differ",
        (
            "have different set of mounts",
            "Unable to handle mounts under {mount}:{mountpoint}",
        ),
        "two copies of one mount have different mounts below them, which this CRIU does not support",
        "Install CRIU 3.16 or later, or unmount in the workload what is mounted below one of them alone.",
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
        "a file that is open or mapped lies on a mount outside the workload, so CRIU cannot find it again",
        "Close it before the dump (often it is standard input, output or error), or open it inside the "
        "workload. A program or library that is mapped has to be started from inside as well.",
    ),
    Message(
        "file_covered",
        (
            "Open files on overmounted mounts are not supported yet; mount={mount} fd={descriptor} path={file}",
            "Open files on overmounted mounts are not supported yet",
            "The mount {mount} is overmounted so paths are invisible",
        ),
        "an open file lies on a mount that another mount covers",
        "Unmount the cover, or close the file.",
    ),
    Message(
        "mount_namespaces_nested",
        (
            "Nested mount namespaces are not supported",
            "Can't dump nested {thing} namespace for {pid}",
        ),
        "a process of the workload has a namespace of its own of a kind that CRIU does not take twice",
        "Start that process without the namespace of its own (for example without unshare), or end it before the dump.",
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
    Message(
        "root_is_no_mountpoint",
        (
            "New root and old root are the same",
            "pivot_root(., ...) failed: Invalid argument",
        ),
        "the root that was given is the host's own, or no mountpoint that could be entered",
        "Set root to a folder of its own that is a mountpoint: mount --bind ROOT ROOT.",
    ),
    Message(
        "work_folder",
        (
            "Unable to mount tmpfs in {host_path}: ...",
            "Can't create a temporary directory",
            "Unable to create a temporary directory",
            "Can't make temp cgyard dir",
            "can't make dir for cg mounts",
            "mkdtemp failed {host_path}:",
        ),
        "CRIU cannot make its work folder in /tmp",
        "Make /tmp on this host (mkdir -m 1777 /tmp), or give it space and let root write there; without a "
        "root of its own /tmp of the workload counts too.",
    ),
    Message(
        "mount_flags",
        (
            "Unable to apply mount flags ... for {mountpoint}: ...",
            "Unable to apply bind-mount options",
            "Unable to apply root mount options",
            "Failed to restore {mount}:{mountpoint} mount flags",
        ),
        "this host does not let a mount have the flags that it had (read-only, nosuid and the like)",
        "Mount the path of the restore map here with the same flags as at the source (compare findmnt -o "
        "TARGET,OPTIONS).",
    ),
    Message(
        "mounts_in_no_order",
        ("A few mount points can't be mounted",),
        "some mounts lack what they lie on or are bound from",
        "Give each mount that the log lists after this line a key (mount_map), and dump again.",
    ),
    Message(
        "namespace_refused",
        (
            "Unable to create a new mntns",
            "Unable to unshare a mount namespace",
            "Unable create a network namespace",
            "Unable to create a new netns",
            "Can't unshare net-namespace",
            "couldn't unshare cgns",
            "Unable to create a new time namespace",
        ),
        "this host does not let CRIU make a namespace",
        "Raise user.max_mnt_namespaces and the like (sysctl user), and run CRIU as root outside of any "
        "container that forbids it.",
    ),
    Message(
        "key_without_path",
        (
            "No mapping for {mount}:... mountpoint",
            "No mapping for ... mountpoint",
        ),
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
        (
            "Can't stat mountpoint {mountpoint}: ...",
            "mnt: Can't stat on {mountpoint}: No such file or directory",
            "Failed to open real mountpoint of {mount}: No such file or directory",
        ),
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
            "Failed to make mount {mount} shared",
            "Unable to make {mount} shared",
            "Unable to make {mount} slave",
            "Failed to find {mountpoint} mountpoint",
        ),
        "its path on this host is neither shared nor slave, or one sharing group is spread over several file systems",
        "Make the path's mount shared (mount --make-shared), and keep the paths of one group on one file system.",
    ),
    Message(
        "deleted_source",
        (
            "Can't re-create deleted directory {mountpoint}:",
            "Can't re-create deleted file {mountpoint}:",
            "Can't remove deleted directory {mountpoint}:",
            "Can't unlink deleted file {mountpoint}:",
        ),
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
        (
            "Can't mount at {mountpoint}: ...",
            "Unable to mount {host_path} ... (id={mount}): ...",
            "Can't bind-mount at {mountpoint}: ...",
            "Can't bind-mount {mount}:{mountpoint} to ...",
            "Can't re-mount at {mountpoint}: ...",
            "Can't bind remount ... at {mountpoint}: ...",
            "Failed to move mount {mount} from ...",
            "Unable to move mount ... -> {mountpoint}: ...",
            "mnt: Unable to mount ...",
            "mnt-v2: Unable to mount ...",
        ),
        "this host does not let it be mounted",
        "See the error at the end of the line: the kernel may lack the file system, or a permission is missing.",
    ),
)
