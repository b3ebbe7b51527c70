#!/usr/bin/python
# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restore
short_description: Restore a workload from an image set
version_added: 0.1.0
description:
  - Checks the manifest and the digest of every image, then revives the workload with C(criu restore).
  - The options that the image set was made with are used again; options given here override them.
  - Before the first instruction of the workload runs, its mounts are compared with those that were intended. If they
    differ, the restore is given up and nothing runs.
  - Each image set has a generation, see M(fleet.criu.dump). Just before the workload runs, this host records that the
    generation is spent, with all before it. An image set whose generation is spent is refused, because it would become
    a second copy of the workload, or one that has forgotten what was written since. A restore that fails can be
    repeated.
  - If a copy restored from this image set runs here already, or the process of O(pid_file), nothing is done.
  - The workload lives on when the connection to this host ends. Where systemd runs it lives in a unit of its own, which
    C(systemctl stop) ends and which is gone when the workload has ended; elsewhere it becomes a child of PID 1.
author:
  - The fleet.criu maintainers (@fleet-criu)
extends_documentation_fragment:
  - fleet.criu.attributes
  - fleet.criu.engine
  - fleet.criu.criu
attributes:
  check_mode:
    support: full
    details: Manifest, digests, map and paths are checked.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  root:
    description:
      - The folder on this host that becomes the workload's root.
    type: path
    required: true
  sources:
    description:
      - With O(engine), the path on this host for each mountpoint that the container's configuration binds from its
        host.
    type: dict
    default: {}
  mount_map:
    description:
      - The path for each key, see RV(fleet.criu.mount_map#module:restore_map).
    type: list
    elements: dict
    default: []
    suboptions:
      key:
        description: The key in the images.
        type: str
        required: true
      path:
        description: The path on this host.
        type: str
        required: true
      device:
        description: Whether the path is a block device, whose file system is mounted anew.
        type: bool
        default: false
  allow_auto:
    description:
      - Restore an image set that was made with auto detection on another host. The paths in it are those of that host,
        and CRIU binds whatever happens to be there on this one.
    type: bool
    default: false
  allow_copy:
    description:
      - Revive an image set although its generation is spent. That makes a second copy of the workload, or one that has
        forgotten what was written since. Never let two copies write to the same storage.
    type: bool
    default: false
  spent_generation:
    description:
      - The highest generation of the workload that is spent by the record of any other host, see
        RV(fleet.criu.workload_info#module:spent_generation). It counts like this host's own record.
    type: int
    default: 0
  pid_file:
    description:
      - A file to write the new pid to, before the workload runs. A stale one is replaced.
    type: path
  unit:
    description:
      - The systemd unit that the workload will live in, C(criu-WORKLOAD.service) by default. There must be none of this
        name here. Where no systemd runs there is no unit.
      - An empty string leaves the workload where this task runs, which is mostly the scope of an ssh session.
    type: str
seealso:
  - module: fleet.criu.dump
  - module: fleet.criu.mount_map
"""

EXAMPLES = r"""
- name: Restore redis here
  fleet.criu.restore:
    images: /var/lib/fleet.criu/images/redis
    root: "{{ map.root }}"
    mount_map: "{{ map.restore_map }}"
    pid_file: /run/workloads/redis.pid
  become: true
"""

RETURN = r"""
pid:
  description: The pid of the workload's init process, as this host sees it; not in check mode.
  returned: if it runs
  type: int
  sample: 4711
workload:
  description: The name of the workload.
  returned: always
  type: str
  sample: redis
unit:
  description: The systemd unit that the workload lives in, or would live in.
  returned: if it was restored into one, or would be
  type: str
  sample: criu-redis.service
seconds:
  description: How long CRIU ran.
  returned: always
  type: float
  sample: 0.05
generation:
  description:
    - The generation of the image set, 0 if it is an old one from before generations. Also returned if it is refused
      because it is spent.
  returned: always
  type: int
  sample: 7
spent_generation:
  description: The highest generation that is spent, by this host's record or O(spent_generation).
  returned: if the image set is refused because its generation is spent
  type: int
  sample: 7
differences:
  description: How the restored mounts differ from the intended ones.
  returned: if they do
  type: list
  elements: str
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
        - The name of the cause, for example V(mountpoint_missing). V(own_words) is a message that speaks for
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
    - code: mountpoint_missing
      what: "mnt-v2: Can't stat mountpoint /tmp/.criu.mntns.PdsvIy/mnt-0000000603/data: No such file or directory"
      where: mount /data (key data, path /srv/data/odd, ID 604)
      why: "there is nothing to mount on: the mountpoint is missing in the root, or in the path of the mount above it"
      remedy: Create it on this host (a folder for a folder, an empty file for a file), or copy the root again.
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
from ansible_collections.fleet.criu.plugins.module_utils._criu.feature import find_criu
from ansible_collections.fleet.criu.plugins.module_utils._criu.generation import Generations
from ansible_collections.fleet.criu.plugins.module_utils._criu.manifest import read_manifest
from ansible_collections.fleet.criu.plugins.module_utils._criu.restore import Restored, RestoreRequest, restore_workload
from ansible_collections.fleet.criu.plugins.module_utils._engine.transfer import Arriving, require_image_sets
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.begin import at_work, note_that_it_ran
from ansible_collections.fleet.criu.plugins.module_utils._handoff.holding import Asked
from ansible_collections.fleet.criu.plugins.module_utils._handoff.marks import Marks, container_of
from ansible_collections.fleet.criu.plugins.module_utils._handoff.reviver import revive, unit_for
from ansible_collections.fleet.criu.plugins.module_utils._module import run_module
from ansible_collections.fleet.criu.plugins.module_utils._mounts.private import PrivateMounts
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import Runner, SubprocessRunner


def restore(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    request = RestoreRequest(
        images=Path(parameters["images"]),
        root=parameters["root"],
        restore_map=parameters["mount_map"],
        options=parameters,
        pid_file=Path(parameters["pid_file"]) if parameters["pid_file"] else None,
        criu_path=parameters["criu_path"],
        allow_auto=parameters["allow_auto"],
        allow_copy=parameters["allow_copy"],
        spent_generation=parameters["spent_generation"],
    )
    proc, runner = Proc(), SubprocessRunner()
    with at_work(_asked(request, parameters), proc, runner, check_mode):
        how = _restore_workload if parameters["engine"] is None else _restore_container
        result = how(request, parameters, proc, runner, check_mode)
        if request.allow_copy and not check_mode:
            note_that_it_ran(request.images)
        return result


def _asked(request: RestoreRequest, parameters: Mapping[str, Any]) -> Asked:
    name = read_manifest(request.images).workload.name
    marks = Marks(
        name,
        container=container_of(_arguments.engine_of(parameters)),
        images=str(request.images),
        root=request.root,
        pid_file=parameters["pid_file"],
    )
    return Asked(f"The restore of {name}", marks, is_copy=request.allow_copy)


def _restore_workload(
    request: RestoreRequest,
    parameters: Mapping[str, Any],
    proc: Proc,
    runner: Runner,
    check_mode: bool,
) -> dict[str, Any]:
    generations = Generations()
    restored = restore_workload(request, proc, runner, generations, check_only=True)
    name, wanted, unit = restored.manifest.workload.name, parameters["unit"], None
    if restored.pid is None and wanted != "":
        unit = unit_for(name, wanted, runner)
    if restored.pid is None and not check_mode:
        if wanted == "":
            verified = replace(request, is_verified=True)
            restored = restore_workload(verified, proc, runner, generations, private=PrivateMounts())
        else:
            restored = revive(request, restored.manifest, unit, proc, runner)
    return _result(restored, unit)


def _restore_container(
    request: RestoreRequest, parameters: Mapping[str, Any], proc: Proc, runner: Runner, check_mode: bool
) -> dict[str, Any]:
    require_image_sets(parameters["engine"])
    wanted = {**_arguments.engine_of(parameters), "sources": parameters["sources"]}
    restored = restore_workload(request, proc, runner, Generations(), check_only=True)
    if restored.pid is None and not check_mode:
        arriving = Arriving(restored.manifest.workload.name, wanted, runner, proc)
        make_command = arriving.maker(request.images, request.root, find_criu(runner, request.criu_path))
        verified = replace(request, is_verified=True)
        try:
            restored = restore_workload(verified, proc, runner, Generations(), make_command=make_command)
        except CriuError:
            arriving.remove()
            raise
    return _result(restored, None)


def _result(restored: Restored, unit: str | None) -> dict[str, Any]:
    name = restored.manifest.workload.name
    result = {
        "changed": restored.changed,
        "workload": name,
        "generation": restored.manifest.generation,
        "seconds": round(restored.seconds, 3),
        "put_back": list(restored.put_back),
        "diff": {"before": {"running": not restored.changed}, "after": {"running": True}},
    }
    found = {"pid": restored.pid, "unit": unit}
    return {**result, **{key: value for key, value in found.items() if value is not None}}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_arguments.criu(),
            "root": {"type": "path", "required": True},
            "mount_map": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "key": {"type": "str", "required": True, "no_log": False},
                    "path": {"type": "str", "required": True},
                    "device": {"type": "bool", "default": False},
                },
            },
            "pid_file": {"type": "path"},
            **_arguments.engine(),
            "sources": {"type": "dict", "default": {}},
            "unit": {"type": "str"},
            "allow_auto": {"type": "bool", "default": False},
            "allow_copy": {"type": "bool", "default": False},
            "spent_generation": {"type": "int", "default": 0},
        },
        mutually_exclusive=[("tcp_established", "tcp_close")],
        required_together=[_arguments.WORKLOAD_TOGETHER],
        supports_check_mode=True,
    )
    run_module(module, restore)


if __name__ == "__main__":
    main()
