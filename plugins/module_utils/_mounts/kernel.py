# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems whose files are the kernel's own: what they give is no data, and reading one may change the host.

Each read of /sys/class/zram-control/hot_add makes a device (the kernel's Documentation/admin-guide/blockdev/zram.rst),
others wait for ever or take away what another program is to read.
"""

from __future__ import annotations

# The types as /proc/filesystems and mountinfo name them.
KERNEL_FILE_SYSTEMS = frozenset(
    {
        "anon_inodefs",
        "apparmorfs",
        "autofs",
        "bdev",
        "binder",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "cpuset",
        "debugfs",
        "devfs",
        "devpts",
        "devtmpfs",
        "dlmfs",
        "efivarfs",
        "functionfs",
        "fusectl",
        "gadgetfs",
        "hugetlbfs",
        "ibmasmfs",
        "ipathfs",
        "mqueue",
        "nfsd",
        "nsfs",
        "ocfs2_dlmfs",
        "openpromfs",
        "oprofilefs",
        "pidfs",
        "pipefs",
        "proc",
        "pstore",
        "resctrl",
        "rpc_pipefs",
        "s390_hypfs",
        "secretmem",
        "securityfs",
        "selinuxfs",
        "smackfs",
        "sockfs",
        "spufs",
        "sysfs",
        "tracefs",
        "usbdevfs",
        "usbfs",
        "xenfs",
        # It gives a container files of /proc and /sys in another form (lxcfs(1)).
        "fuse.lxcfs",
    }
)
