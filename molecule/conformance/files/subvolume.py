# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make subvolumes of a btrfs on a host that has no btrfs tools: subvolume.py PATH..."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from pathlib import Path

# BTRFS_IOC_SUBVOL_CREATE and its argument, struct btrfs_ioctl_vol_args, in <linux/btrfs.h>.
SUBVOL_CREATE = 0x5000940E
ARGUMENT = "q4088s"

for path in map(Path, sys.argv[1:]):
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    # A bytearray, because an argument as long as this one is not taken otherwise.
    fcntl.ioctl(folder, SUBVOL_CREATE, bytearray(struct.pack(ARGUMENT, 0, path.name.encode())))
    os.close(folder)
