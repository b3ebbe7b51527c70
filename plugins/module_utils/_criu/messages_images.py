# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CRIU says of images, pages, plugins and how it was called.

For the form of the texts see messages.py.
"""

from __future__ import annotations

from ansible_collections.fleet.criu.plugins.module_utils._criu.message import Message

IMAGES = (
    Message(
        "stale_pid_file",
        ("pidfile: Can't open {host_path}: File exists",),
        "the pid file is there already, left by an earlier run",
        "Remove it, if the process that it names is not the workload.",
    ),
    Message(
        "images_unreadable",
        ("Unable to open {image}: Permission denied",),
        "the root of the workload's user namespace may not read it, for the mode of the file or of a folder above",
        "Let that user read it: setfacl -m u:UID:rX on the image folder, the folders above and the files, "
        "UID as in uid_map.",
    ),
    Message(
        "parent_images",
        (
            "Missing ... in parent pagemap",
            "No parent for snapshot pagemap",
            "Can't open parent path",
            "No parent image found, though parent directory is set",
            "Invalid parent image directory",
            "not found in parent",
            "Can't link parent snapshot",
            "Pid-reuse detection failed: no parent inventory",
        ),
        "the images of an earlier pre-dump, on which these build, are missing or damaged",
        "Copy the whole image set with its parent folders, or dump anew without pre-copy.",
    ),
    Message(
        "image_folder",
        (
            "Can't open dir {host_path}: ...",
            "Couldn't open image dir {host_path}",
        ),
        "the image folder is missing on this host, or cannot be opened",
        "Correct images, or copy the image set to this host.",
    ),
    Message(
        "page_server",
        (
            "Remote side closed connection",
            "The page server doesn't answer",
            "Can't write to page server",
            "Can't write pages to socket",
            "Can't read pagemap from socket",
            "Can't send PSI ... to server",
            "A pipe was closed unexpectedly",
            "Error reading data from page server",
            "connect to {thing} failed",
            "A socket was closed unexpectedly",
            "Can't connect to server",
            "Can't accept connection to server",
        ),
        "the connection that memory pages go over has ended, or cannot be made",
        "See that the page server or the lazy-pages daemon runs on the other side, and that no firewall is between.",
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
            "Can't read mapping page ...",
            "Reached EOF unexpectedly while reading page from image",
            "Unable to open {image}: No such file or directory",
            "Can't read async pr bytes",
            "Page read err ...",
            "Can't open core data for {inner_pid}",
            "Corrupted ghost image",
            "No entry for reg-file-ID ...",
            "Corrupted root cgset",
            "Image corruption on kIDs data",
            "No kIDs provided, image corruption",
            "Images corrupted or too old criu was used for dump",
            "Core info data missed for non-zombie",
            "Corrupted master peer ...",
            "Corrupted slave peer ...",
            "VMA-s are not sorted in the image file",
            "The image file was truncated",
            "Images currupted or too old criu was used for dump",
            "Failed unpacking object ... from {thing}",
            "Read ... bytes while ... expected",
            "Can't read ... bytes from file {thing}: ...",
            "Parent missed on non-root task",
            "Can't find regfile for",
            "Can't read core data for thread {inner_pid}",
            "Core task state data missed",
            "Core IDS data missed for non-zombie",
            "No IDS for root task",
            "seccomp: Corrupted filter",
        ),
        "an image is missing, cut off or damaged",
        "Copy the image set again from where it was dumped.",
    ),
    Message(
        "images_of_other_version",
        (
            "Not supported images version ...",
            "Too old image, no longer supported",
            "Unknown image format",
            "Core march mismatch ...",
        ),
        "the images were written by a CRIU, or on a kind of processor, that this one does not understand",
        "Use the same version of CRIU and the same architecture on both hosts.",
    ),
    Message(
        "plugin_failed",
        (
            "Can't load plugin {thing}",
            "Corrupted plugin {thing}",
            "Unable to load {thing}: ...",
            'Failed in init(...) of "{thing}"',
        ),
        "a plugin of CRIU cannot be loaded",
        "Install the plugin of the same version as CRIU with the libraries that it needs, or take it away if "
        "nothing needs it.",
    ),
    Message(
        "plugin_missing",
        ("Missing required plugin: {thing}",),
        "the images need a plugin of CRIU that is not installed here",
        "Install the same plugins as on the source.",
    ),
    Message(
        "option_refused",
        (
            "Unknown cgroups mode `{thing}' selected",
            "Invalid value for --network-lock: {thing}",
            "invalid argument for -{thing}: ...",
            "Deprecated functionality ({thing}) rejected",
            "Invalid inherit fd argument: {thing}",
            "invalid argument {thing} for --lsm-profile",
            "Failed while parsing --enable-fs option: {thing}",
            "--inherit-fd is restore-only option",
            "Unknown FPU mode `{thing}' selected",
            "Option --mntns-compat-mode is only valid on restore",
            "Can't fstat inherit fd {descriptor}: ...",
        ),
        "CRIU does not take the value of an option, or not for this command",
        "Correct the option, or take it out of extra_args.",
    ),
    Message(
        "not_root",
        ("You need to be root to run this command",),
        "CRIU was not started as root",
        "Set become: true.",
    ),
    Message(
        "option_unknown",
        (
            "unrecognized option '{thing}'",
            "unknown option `{thing}'",
        ),
        "this CRIU does not know the option",
        "Take it out of extra_args, or install a later CRIU.",
    ),
)
