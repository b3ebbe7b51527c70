#!/usr/bin/python
# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_info
short_description: Tell what is in an image set, and whether it is intact
version_added: 0.1.0
description:
  - Reads the images of CRIU by itself. Neither CRIU nor C(crit) need be installed.
  - Compares the files with the manifest that M(fleet.criu.dump) wrote. Differences are reported in RV(manifest); they
    are no failure. An image set without a manifest, for example one that C(criu dump) made by hand, can be read, too.
  - Fails if an image cannot be read, and names the file and the byte where it is damaged. RV(manifest) is returned
    then, too.
author:
  - The fleet.criu maintainers (@fleet-criu)
extends_documentation_fragment:
  - fleet.criu.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  images:
    description:
      - The folder of the image set on the host.
    type: path
    required: true
  compare_files:
    description:
      - Compare the SHA-256 of each file with the manifest, which reads all of them. Without it RV(manifest.intact) is
        null; missing pages of memory are noticed all the same.
    type: bool
    default: true
seealso:
  - module: fleet.criu.dump
  - module: fleet.criu.mount_info
  - name: Images of CRIU
    description: The format that is read.
    link: https://criu.org/Images
"""

EXAMPLES = r"""
- name: Read an image set
  fleet.criu.image_info:
    images: /var/lib/images/redis
  become: true
  register: redis

- name: Refuse one that is not what was dumped
  ansible.builtin.assert:
    that: redis.manifest.intact

- name: Show the keys that a restore must give a path for
  ansible.builtin.debug:
    msg: "{{ redis.mounts | selectattr('external', 'eq', 'key') | map(attribute='key') }}"

- name: Show how long the workload was frozen
  ansible.builtin.debug:
    msg: "{{ redis.statistics.dump.frozen_time / 1000 }} ms"
"""

RETURN = r"""
images:
  description: The folder.
  returned: success
  type: str
  sample: /var/lib/images/redis
manifest:
  description: The manifest, and the files compared with it.
  returned: success, and if an image cannot be read
  type: dict
  contains:
    present:
      description: Whether there is a manifest.
      type: bool
    intact:
      description: Whether every file is as the manifest says; null if there is none or with O(compare_files=false).
      type: bool
    missing:
      description: Files that the manifest lists and that are not there.
      type: list
      elements: str
    added:
      description: Images that are there and that the manifest does not list.
      type: list
      elements: str
    altered:
      description: Files of another size or digest.
      type: list
      elements: str
    told:
      description:
        - What the manifest tells of the dump, as C(workload), C(host), C(kernel), C(architecture), C(criu_version),
          C(created), C(root) and C(leave_running); null if there is none.
      type: dict
inventory:
  description: What the images say of the whole set. The version of CRIU, the host and the date are in no image.
  returned: success
  type: dict
  contains:
    version:
      description: The version of the image format, V(1) or V(2).
      type: int
    security_module:
      description: V(none), V(selinux) or V(apparmor); null in old images.
      type: str
    network_lock:
      description: V(iptables), V(nftables) or V(skip), which the restore will use again; null in old images.
      type: str
    tcp_close:
      description: Whether TCP connections were dropped, so that the restore must be told to.
      type: bool
processes:
  description: The process tree, parents first. Its ids are those inside the workload's pid namespace.
  returned: success
  type: list
  elements: dict
  contains:
    pid:
      description: The pid.
      type: int
    parent_pid:
      description: The parent's pid; V(0) for the first process.
      type: int
    process_group:
      description: The process group.
      type: int
    session:
      description: The session.
      type: int
    threads:
      description: The ids of its threads, its own among them. That of a dead process means nothing (CRIU 4.1.1).
      type: list
      elements: int
    thread_count:
      description: How many they are.
      type: int
    command_name:
      description: The name of the program, at most 15 bytes, as in C(/proc/PID/comm).
      type: str
    state:
      description: V(alive), V(stopped), or V(dead) if it had ended and its parent had not waited for it yet.
      type: str
namespaces:
  description: The namespaces that its processes are in.
  returned: success
  type: list
  elements: dict
  contains:
    type:
      description: V(pid), V(net), V(ipc), V(uts), V(mnt), V(user), V(cgroup) or V(time).
      type: str
    id:
      description: CRIU's number for it, for example the V(10) of C(mountpoints-10.img).
      type: int
    own:
      description:
        - Whether it is the workload's own. Otherwise it was that of CRIU, and so the host's, and is not in the images.
          Null if the images do not tell.
      type: bool
    key:
      description: The key of a namespace that was declared external.
      type: str
    pids:
      description: The processes in it.
      type: list
      elements: int
mounts:
  description:
    - The mounts of each mount namespace that is in the images, in the order of the image. A byte that is no UTF-8 is
      shown as C(\xNN).
  returned: success
  type: list
  elements: dict
  contains:
    namespace:
      description: The C(id) of the mount namespace.
      type: int
    mount_id:
      description: The mount's ID at the dump.
      type: int
    parent_id:
      description: The ID of the mount above.
      type: int
    major:
      description: The superblock's major device number.
      type: int
    minor:
      description: The superblock's minor device number.
      type: int
    root:
      description: The path in the file system that is this mount's root.
      type: str
    mountpoint:
      description: Where it is mounted, below the workload's root.
      type: str
    fstype:
      description: The type of the file system; V(unsupported) for those that CRIU mounts only from outside.
      type: str
    fstype_code:
      description: CRIU's number for it.
      type: int
    source:
      description:
        - The mount source. With RV(mounts[].external=auto) it is the path on the host that was baked in, with
          RV(mounts[].external=device) it is C(dev[NAME]).
      type: str
    super_options:
      description: The options of the superblock, except for flags.
      type: list
      elements: str
    flags:
      description: The flags of the mount as a number, see mount(2).
      type: int
    flag_names:
      description: The same by name, for example V(nosuid), V(ro) or V(slave). A bit without a name is hexadecimal.
      type: list
      elements: str
    superblock_flags:
      description: The flags of the superblock as a number; null in old images.
      type: int
    superblock_flag_names:
      description: The same by name.
      type: list
      elements: str
    shared:
      description: The peer group at the dump, if it was shared.
      type: int
    master:
      description: The peer group that it was a slave of.
      type: int
    internal_sharing:
      description: Whether a host's peer group becomes one of its own at the restore.
      type: bool
    external:
      description:
        - Null for a mount that CRIU makes by itself. V(key) if a restore must map RV(mounts[].key), V(auto) if it was
          detected, V(device) if a device must be given.
      type: str
    key:
      description: The key.
      type: str
    deleted:
      description: Whether the bound file or folder had been replaced or removed.
      type: bool
    with_plugin:
      description: Whether a plugin of CRIU restores it.
      type: bool
memory:
  description: The memory in the images.
  returned: success
  type: dict
  contains:
    bytes:
      description: The bytes of all pages.
      type: int
    pages:
      description: The number of pages.
      type: int
    page_size:
      description: The bytes of a page; null if there is none.
      type: int
    parent_pages:
      description: Pages that are in the image set of an earlier pre-dump.
      type: int
    remote_pages:
      description: Pages that were left at the source for a lazy restore.
      type: int
    parent:
      description: The folder of the earlier pre-dump, relative to O(images).
      type: str
statistics:
  description:
    - CRIU's own statistics under its own names. What ends in C(_time), and C(irmap_resolve), is in microseconds; the
      rest are numbers. One that the version of CRIU did not know is null.
  returned: success
  type: dict
  contains:
    dump:
      description: Of the dump, for example C(frozen_time) and C(pages_written); null if there are none.
      type: dict
    restore:
      description: Of the last restore, for example C(restore_time); null if there are none.
      type: dict
"""

from pathlib import Path
from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fleet.criu.plugins.module_utils._criu.image import read_image_set
from ansible_collections.fleet.criu.plugins.module_utils._module import run_module


def info(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    return read_image_set(Path(parameters["images"]), parameters["compare_files"]).as_dict()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "images": {"type": "path", "required": True},
            "compare_files": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    run_module(module, info)


if __name__ == "__main__":
    main()
