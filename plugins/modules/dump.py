#!/usr/bin/python
# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dump
short_description: Dump a workload into an image set
version_added: 0.1.0
description:
  - Freezes a workload, writes it into images with C(criu dump), and lets it go.
  - Each external mount gets an explicit key; one without a key, or a key that matches nothing, is an error before the
    freeze.
  - A manifest (V(manifest.json)) is written last, when all images are there and before the workload is let go.
    Without it an image set is incomplete. A dump that fails or is interrupted leaves the workload running.
  - A dump that lets the workload go begins a generation of it, a number that M(fleet.criu.restore) uses to revive each
    image set only once. With O(leave_running=true) the image set has the generation of the workload that lives on, and
    so it can only be revived as a copy.
  - If O(images) already has the image set of this workload from this boot of this host, and the workload is gone,
    nothing is done.
  - A container is dumped by its engine. Its configuration, which may hold secrets, is kept in the image set. Podman has
    more of a container than an image set, and is refused.
author:
  - The fleet.criu maintainers (@fleet-criu)
extends_documentation_fragment:
  - fleet.criu.attributes
  - fleet.criu.engine
  - fleet.criu.criu
attributes:
  check_mode:
    support: full
    details: All that can be checked without freezing the workload is checked.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: With O(leave_running=true) each run needs an image folder of its own.
options:
  name:
    description:
      - The name of the workload.
    type: str
    required: true
  pid:
    description:
      - The pid of the workload's init process, see M(fleet.criu.workload_info).
    type: int
    required: true
  start_time:
    description:
      - When that process started. If given, a process that has the pid but started at another time is refused.
    type: int
  mount_map:
    description:
      - The key for each external mount, see RV(fleet.criu.mount_map#module:dump_map).
      - The default gives each external mount its mountpoint as key.
    type: list
    elements: dict
    suboptions:
      mountpoint:
        description: The mountpoint, exactly as in mountinfo.
        type: str
        required: true
      key:
        description: The key in the images.
        type: str
        required: true
      device:
        description: The device number, V(MAJOR/MINOR), of a whole file system that is mounted anew from a block device.
        type: str
  replace:
    description:
      - Remove the images that are in O(images) already. For a folder that is named after this very process, where only
        an attempt that was cut off can have left anything.
    type: bool
    default: false
  external:
    description:
      - With V(explicit) every external mount has a key. With V(auto), CRIU finds external mounts by itself and writes
        the paths of B(this) host into the images, so they cannot be restored at another path. Use it only for image
        sets that stay on their host; the restore refuses them elsewhere.
    type: str
    choices: [explicit, auto]
    default: explicit
  external_shared:
    description:
      - Let auto detection take shared mounts (flag C(s)).
    type: bool
    default: false
  external_masters:
    description:
      - Let auto detection take slave mounts (flag C(m)).
    type: bool
    default: false
  skip_mnt:
    description:
      - Mountpoints that are left out of the images. A workload with an open file there cannot be restored.
    type: list
    elements: str
    default: []
  enable_fs:
    description:
      - Further file systems that CRIU may mount anew.
    type: list
    elements: str
    default: []
  mntns_compat_mode:
    description:
      - Restore mounts with CRIU's older engine. It drops a lost master without a word.
    type: bool
    default: false
  leave_running:
    description:
      - Let the workload run on after the dump. Never let both copies write to the same storage.
    type: bool
    default: false
  link_remap:
    description:
      - Allow open files that were removed and have other links.
    type: bool
  ghost_limit:
    description:
      - The largest size in bytes of an open file without a link that is put into the images.
    type: int
  network_lock:
    description:
      - How the network is locked meanwhile. V(auto) locks none where there is none to lock (the workload is in the
        host's network namespace, and no connections are to be kept or closed); otherwise it takes V(nftables) if CRIU
        and the kernel have it, and leaves the choice to CRIU if not.
    type: str
    choices: [auto, nftables, iptables]
    default: auto
  at_least_generation:
    description:
      - The highest generation of the workload that any other host knows, see
        RV(fleet.criu.workload_info#module:generation). The new one is greater.
    type: int
    default: 0
  timeout:
    description:
      - Give up if the workload cannot be frozen and collected within this many seconds.
    type: int
seealso:
  - module: fleet.criu.restore
  - module: fleet.criu.mount_map
"""

EXAMPLES = r"""
- name: Dump redis
  fleet.criu.dump:
    name: redis
    pid: "{{ redis.pid }}"
    start_time: "{{ redis.start_time }}"
    images: /var/lib/fleet.criu/images/redis
    mount_map: "{{ map.dump_map }}"
    tcp_established: true
  become: true
"""

RETURN = r"""
images:
  description: The folder of the image set.
  returned: always
  type: str
  sample: /var/lib/fleet.criu/images/redis
manifest:
  description: The manifest; in check mode what it would be, without files and time.
  returned: always
  type: dict
  contains:
    workload:
      description: Name, pid, start time and command line.
      type: dict
    host:
      description: The host it was dumped on.
      type: str
    kernel:
      description: The release of that host's kernel.
      type: str
    criu_version:
      description: The version of CRIU.
      type: str
    mount_map:
      description: The key of each external mount.
      type: list
      elements: dict
    files:
      description: SHA-256 and size in bytes of each image.
      type: dict
    created:
      description: When it was written, in UTC.
      type: str
    generation:
      description: See RV(generation).
      type: int
generation:
  description:
    - The generation of the image set; in check mode what it would be. 0 in an old image set, from before generations.
  returned: always
  type: int
  sample: 7
size:
  description: The bytes of all images.
  returned: always
  type: int
  sample: 1234567
seconds:
  description: How long CRIU ran, including the digests of the images.
  returned: always
  type: float
  sample: 0.12
put_back:
  description: >-
    What CRIU has changed on the host and was put back, a line for each, for people. CRIU takes mount options from
    C(/sys/fs/cgroup), unless O(manage_cgroups=ignore).
  returned: always; on failure if there was any
  type: list
  elements: str
  sample: ["Put back the mount options memory_recursiveprot, nsdelegate of /sys/fs/cgroup, which CRIU took."]
criu_errors:
  description: CRIU's own error lines.
  returned: if CRIU failed
  type: list
  elements: str
diagnosis:
  description:
    - What CRIU's error lines mean, never empty. The first one is the cause, as far as the log tells it.
  returned: if CRIU failed
  type: list
  elements: dict
  contains:
    code:
      description:
        - The name of the cause, for example V(file_outside). V(own_words) is a message that speaks for
          itself, V(unknown) one that the collection cannot explain, V(silent) a failure without one, V(crashed) the
          end of CRIU itself by a signal.
      type: str
    what:
      description: What failed, in CRIU's words, without time and source position.
      type: str
    where:
      description:
        - The mount, file, path, descriptor or process, with IDs resolved to mountpoint and key; empty if CRIU does not
          say it.
      type: str
    why:
      description: The reason. For an unknown message, the last lines of the log and those just before it.
      type: str
    remedy:
      description: What to do about it; empty if that is not known.
      type: str
  sample:
    - code: file_outside
      what: Can't lookup mount=571 for fd=50 path=/srv/outside.txt
      where: file /srv/outside.txt, mount ID 571, which is none of the workload's, descriptor 50 of process 236
      why: an open file lies on a mount outside the workload, so CRIU cannot find it again
      remedy: Close it before the dump (often it is standard input, output or error), or open it inside the workload.
log:
  description: Where CRIU's log is on the host; it outlives the image folder.
  returned: if CRIU failed
  type: str
rc:
  description: CRIU's exit status; negative if a signal ended it.
  returned: if CRIU failed
  type: int
  sample: 1
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fleet.criu.plugins.module_utils import _arguments
from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._criu.dump import Dumped, DumpRequest, dump_workload
from ansible_collections.fleet.criu.plugins.module_utils._criu.feature import find_criu
from ansible_collections.fleet.criu.plugins.module_utils._criu.generation import Generations
from ansible_collections.fleet.criu.plugins.module_utils._engine.transfer import ENGINE, Leaving, require_image_sets
from ansible_collections.fleet.criu.plugins.module_utils._errors import EngineMissing, WorkloadNotFound
from ansible_collections.fleet.criu.plugins.module_utils._handoff.begin import at_work
from ansible_collections.fleet.criu.plugins.module_utils._handoff.holding import Asked
from ansible_collections.fleet.criu.plugins.module_utils._handoff.marks import Marks, container_of, family
from ansible_collections.fleet.criu.plugins.module_utils._module import run_module
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Runner, SubprocessRunner


def dump(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    request = DumpRequest(
        name=parameters["name"],
        pid=parameters["pid"],
        start_time=parameters["start_time"],
        images=Path(parameters["images"]),
        dump_map=parameters["mount_map"],
        options=Options.from_dict({**parameters, "external_auto": parameters["external"] == "auto"}),
        leave_running=parameters["leave_running"],
        replace=parameters["replace"],
        criu_path=parameters["criu_path"],
        at_least_generation=parameters["at_least_generation"],
    )
    proc, runner = Proc(), SubprocessRunner()
    engine = _arguments.engine_of(parameters)
    with at_work(_asked(request, engine, proc), proc, runner, check_mode):
        if engine:
            dumped = _dump_container(request, engine, proc, runner, check_mode)
        else:
            dumped = dump_workload(request, proc, runner, Generations(), check_mode)
    running = {"running": True, "images": None}
    after = {"running": request.leave_running, "images": str(request.images)}
    return {
        "changed": dumped.changed,
        "diff": {"before": running if dumped.changed else after, "after": after},
        "images": str(request.images),
        "manifest": dumped.manifest.as_dict(),
        "generation": dumped.manifest.generation,
        "size": dumped.manifest.size,
        "seconds": round(dumped.seconds, 3),
        "put_back": list(dumped.put_back),
    }


def _asked(request: DumpRequest, engine: Mapping[str, Any], proc: Proc) -> Asked:
    marks = Marks(request.name, family(request.pid, proc), container_of(engine), images=str(request.images))
    return Asked(f"The dump of {request.name}", marks)


def _dump_container(
    request: DumpRequest, wanted: Mapping[str, Any], proc: Proc, runner: Runner, check_mode: bool
) -> Dumped:
    require_image_sets(wanted["name"])
    try:
        leaving = Leaving(wanted, request.pid, runner, proc)
    except EngineMissing:  # which took no dump
        raise
    except WorkloadNotFound:  # an earlier dump may have taken it
        return dump_workload(request, proc, runner, Generations(), check_mode)
    criu = find_criu(runner, request.criu_path)
    dumped = dump_workload(
        replace(request, own_mountpoints=leaving.own_mountpoints),
        proc,
        runner,
        Generations(),
        check_mode,
        lambda options, stages: leaving.command(
            request.images, options, criu, stages, waits=False, leave_running=request.leave_running
        ),
        {ENGINE: leaving.configuration()},
    )
    if dumped.changed and not request.leave_running and not check_mode:
        # Else the engine might start it anew beside the one that will be restored, or refuse that for its name.
        leaving.remove()
    return dumped


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_arguments.criu(),
            "name": {"type": "str", "required": True},
            "pid": {"type": "int", "required": True},
            "start_time": {"type": "int"},
            **_arguments.external(),
            "mount_map": _arguments.dump_map(),
            "mntns_compat_mode": {"type": "bool", "default": False},
            "leave_running": {"type": "bool", "default": False},
            "replace": {"type": "bool", "default": False},
            "link_remap": {"type": "bool"},
            "ghost_limit": {"type": "int"},
            "network_lock": {
                "type": "str",
                "choices": ["auto", "nftables", "iptables"],
                "default": "auto",
            },
            "at_least_generation": {"type": "int", "default": 0},
            "timeout": {"type": "int"},
            **_arguments.engine(),
        },
        required_together=[_arguments.WORKLOAD_TOGETHER],
        mutually_exclusive=[("tcp_established", "tcp_close")],
        supports_check_mode=True,
    )
    run_module(module, dump)


if __name__ == "__main__":
    main()
