#!/usr/bin/python
# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Check a target against the source before a workload is moved
version_added: 0.1.0
description:
  - Finds out before the freeze what would make the move fail, or go wrong silently. It changes nothing on either host.
  - Takes two calls. With O(state=describe) on the source it gathers facts about the host and the workload; with
    O(state=check) on the target it compares them with what is there.
  - Each check has a name by which it can be skipped, and says what it found in a sentence with the figures, and what to
    do about it. All checks are done, also after one has failed.
  - V(criu_version) - CRIU works on both, and the target's is not older.
  - V(criu_features) - both have the features that the workload needs (user and time namespaces, seccomp filters, file
    locks, shared and slave mounts, and others).
  - V(kernel) - the target's is not older; this is a warning.
  - V(known_pairs) - neither host has a kernel on which its CRIU is known to fail at what it is to do there.
  - V(architecture) - it is the same.
  - V(cpu) - the target's processor has all features in C(/proc/cpuinfo) that programs can use and that the source has.
  - V(security_module) - both have AppArmor, SELinux or neither; a warning if the workload is not confined.
  - V(cgroups) - both have the layout v1, v2 or hybrid; a warning if O(manage_cgroups) leaves cgroups alone.
  - V(network_lock) - both can lock the network in the same way, if the workload has a network namespace of its own or
    connections; a warning if dumps that are over have left tables of CRIU in nftables, which might lock them for ever.
  - V(disk_space) - the images fit into O(images), which nobody but root may write, nor any folder above it. A source
    that sends them while CRIU writes them keeps none; leave O(images) out there.
  - V(records) - both hosts can keep their records, locks and logs in C(/var/lib/fleet.criu), C(/run/fleet.criu) and
    C(/var/log/fleet.criu), which are not read-only and have some room. It is found out without writing anything.
  - V(memory) - the target has the memory, twice if O(images) is in memory (C(/run/fleet.criu/images)), because restored
    memory and images are there at the same time; a warning if it takes swap.
  - V(sockets) - CRIU before 4.2 cannot dump TCP and UDP sockets on Linux 6.16 or later.
  - V(io_uring) - CRIU cannot dump io_uring.
  - V(holdings) - all that the workload holds besides its memory moves with it, with the CRIU options in O(options) and
    those in RV(options), which are taken without being asked for. It fails for file locks, removed files, connections,
    watches, terminals and sessions that need another option, and for what CRIU cannot dump or restore whatever the
    options (a tracer, connections to programs outside, files of the host that are open, devices, protocols and
    descriptors that CRIU does not know, message queues, mounts over paths of C(/proc) that the target lacks); a warning
    for what is lost or may pass.
  - V(pids) - the workload's pids are free at the target, unless it has a pid namespace of its own.
  - V(pid_file) - O(pid_file) is not that of a process that lives.
  - V(name) - no process has its root in O(root), and no copy that was restored from images beside O(images) lives.
  - V(addresses) - the target has the addresses of the workload's TCP and UDP sockets, and nobody listens at their
    ports, unless the workload has a network namespace of its own.
  - V(mapped_files) - programs, libraries and other mapped files have the same size and build-ID, except where they are
    copied (data V(sync)) or in the images.
  - V(contents) - the external mounts with data V(present) have the same contents on both, or what O(contents_paths)
    names of them. The first ten differences are named. It says what it did not look at - file systems that are the
    kernel's own (C(sysfs), C(proc), C(cgroup2), C(devtmpfs) and others, in which reading a file may change the host),
    what the host has mounted below a folder, which the workload does not see there, and the collection's own folders
    with O(images). Devices, FIFOs and sockets are passed over.
  - V(id_maps) - the target has the IDs of the workload's user namespace.
  - V(container) - the engine of the workload, if it has one, can let the container go, nothing of it is bound to its
    host.
  - V(engine) - the same engine is at the target, with the container's runtime and image and the same storage driver,
    and it has no container of that name.
  - V(programs) - both have what the handoff runs, C(openssl); C(rsync) if a mount is copied (data
    V(sync)), and the program of O(compression).
  - V(streaming) - CRIU on the source is 3.15 or later, which can send images while it writes them, unless O(transport)
    is V(shared).
  - V(supervisor) - systemd would not start the workload anew when it is killed at the source, as it would with
    C(Restart=always).
  - V(owner_unit) - the systemd unit O(unit) is free at the target.
  - V(route) - the source can resolve O(address) and has a route to it; a warning if it is an address of the source
    itself. Nothing is sent there, so a firewall is not seen.
author:
  - The fleet.criu maintainers (@fleet-criu)
extends_documentation_fragment:
  - fleet.criu.attributes
  - fleet.criu.engine
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  state:
    description:
      - V(describe) gathers the facts of the source, V(check) compares the target with them.
    type: str
    choices: [describe, check]
    required: true
  pid:
    description:
      - The pid of the workload's init process, as the source sees it. Required if O(state=describe).
    type: int
  source:
    description:
      - What O(state=describe) returned as RV(facts). Required if O(state=check).
    type: dict
  host:
    description:
      - What this host is called in RV(checks), for example its name in the inventory. By default its own name.
    type: str
  images:
    description:
      - The folder that the image set will have on this host. Leave it out on a host that keeps no images.
    type: path
  criu_path:
    description:
      - The path of the C(criu) program. The default looks in E(PATH) and the usual folders.
    type: path
  map_entries:
    description:
      - The RV(fleet.criu.mount_map#module:entries) of the mount map for the target.
      - Needed in both calls for V(contents), and with O(state=check) for V(mapped_files).
    type: list
    elements: dict
  mounts:
    description:
      - The RV(fleet.criu.mount_info#module:mounts) of the workload, for RV(way_back) with O(state=describe).
    type: list
    elements: dict
  options:
    description:
      - What will be asked of CRIU, with the names of the options of M(fleet.criu.dump), for V(holdings).
    type: dict
  contents:
    description:
      - How V(contents) looks at files. V(quick) compares size, mode, owner and, up to 1 MiB, SHA-256; of larger files
        it takes the modification time, and only warns if that is another. V(full) takes the SHA-256 of all.
      - For O(state=describe). The target does as the source did, which also holds for the limits below.
    type: str
    choices: [quick, full]
    default: quick
  contents_paths:
    description:
      - The files and folders that V(contents) compares, as the workload sees them, for example the programs and
        libraries of C(/usr) that it needs. A mount is compared as a whole if it or a folder above it is named, and not
        at all if nothing of it is. By default everything is compared.
      - For O(state=describe). What is mapped when it is described V(mapped_files) compares in any case.
    type: list
    elements: str
  contents_max_files:
    description:
      - The most files and folders that are looked at in one mount. If there are more, V(contents) warns.
    type: int
    default: 10000
  contents_max_bytes:
    description:
      - The most bytes that are hashed in one mount. The modification time stands in for the rest.
    type: int
    default: 17179869184
  root:
    description:
      - The folder on the target that will be the workload's root.
    type: path
  pid_file:
    description:
      - The file on the target that will hold the pid of the workload's init process.
    type: path
  workload:
    description:
      - The name of the workload.
    type: str
  network_lock:
    description:
      - How the network will be locked; see M(fleet.criu.dump).
    type: str
    choices: [auto, nftables, iptables]
    default: auto
  manage_cgroups:
    description:
      - What will be done about cgroups; see M(fleet.criu.dump).
    type: str
    choices: [none, props, soft, full, strict, ignore]
  transport:
    description:
      - How the images will get to the target; V(direct) and V(relay) stream them, V(shared) writes them to storage that
        both hosts have. Needed with O(state=check).
    type: str
    choices: [direct, relay, shared]
    default: direct
  compression:
    description:
      - What the images will be compressed with on the way; see M(fleet.criu.handoff_send). Needed with O(state=check).
    type: str
    choices: [none, zstd, lz4]
    default: none
  address:
    description:
      - The target's address or name, as the source will connect to it. Needed with O(state=describe) for V(route).
    type: str
  unit:
    description:
      - The systemd unit on the target that the workload is to live in; see M(fleet.criu.handoff_receive). By default it
        is C(criu-WORKLOAD.service), by O(workload). Needed with O(state=check) for V(owner_unit).
    type: str
  skip:
    description:
      - The names of checks that are not to be done.
    type: list
    elements: str
    default: []
  fail_on_problems:
    description:
      - Fail if a check failed. Otherwise look at RV(failures).
    type: bool
    default: true
requirements:
  - Root on the host (C(become)).
seealso:
  - module: fleet.criu.mount_map
  - module: fleet.criu.criu_info
"""

EXAMPLES = r"""
- name: Describe redis and its host
  fleet.criu.preflight:
    state: describe
    pid: "{{ redis.pid }}"
    map_entries: "{{ map.entries }}"
    mounts: "{{ mounts.mounts }}"
    # Of /usr these alone: its other files may differ.
    contents_paths: [/usr/bin/redis-server, /usr/lib/x86_64-linux-gnu, /etc/redis]
    address: node2.example.org
  become: true
  register: described

- name: Check the target against it
  fleet.criu.preflight:
    state: check
    source: "{{ described.facts }}"
    map_entries: "{{ map.entries }}"
    root: "{{ map.root }}"
    images: /run/fleet.criu/images/redis
    pid_file: /run/workloads/redis.pid
    workload: redis
    skip: [cpu]
    fail_on_problems: false
  become: true
  delegate_to: node2
  register: preflight

- name: Show what was found
  ansible.builtin.debug:
    msg: "{{ preflight.checks | fleet.criu.columns(['name', 'result', 'reason', 'remedy']) }}"
"""

RETURN = r"""
facts:
  description: What O(source) of the other call needs, as it is. It may change from version to version.
  returned: if O(state=describe)
  type: dict
way_back:
  description: >-
    What keeps the workload from coming back here with the paths that its mounts have now, like the
    RV(fleet.criu.mount_map#module:gaps) of M(fleet.criu.mount_map).
  returned: if O(state=describe) and O(mounts) is given
  type: list
  elements: dict
checks:
  description: Every check in a fixed order.
  returned: if O(state=check)
  type: list
  elements: dict
  contains:
    name:
      description: The name of the check, for O(skip).
      type: str
    code:
      description: What was found, in a word for playbooks. V(ok) if it passed.
      type: str
    result:
      description: >-
        V(passed), V(failed), V(warning), or V(skipped) if it was not done, because O(skip) names it (code V(asked)) or
        because there is nothing to check (code V(not_applicable)).
      type: str
    reason:
      description: The same in sentences with the figures.
      type: str
    remedy:
      description: What to do about it. Empty if there is nothing to do.
      type: str
  sample:
    - name: kernel
      code: kernel_older
      result: warning
      reason: The kernel 6.1.0 of node2 is older than 6.12.0 of node1.
      remedy: Move to a host with the same kernel or a newer one, unless it is known to work.
options:
  description:
    - Options of CRIU that V(holdings) counts on and that O(options) does not have. What they keep concerns nobody but
      the workload. To be added to O(options) at dump and restore.
  returned: if O(state=check)
  type: dict
  sample:
    file_locks: true
failures:
  description: Those of RV(checks) that failed.
  returned: if O(state=check)
  type: list
  elements: dict
  sample: []
"""

from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fleet.criu.plugins.module_utils import _arguments
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._module import run_module
from ansible_collections.fleet.criu.plugins.module_utils._preflight.check_holdings import taken_options
from ansible_collections.fleet.criu.plugins.module_utils._preflight.checks import (
    describe_failures,
    failures,
    require_known,
    run_checks,
)
from ansible_collections.fleet.criu.plugins.module_utils._preflight.facts import source_facts, target_facts
from ansible_collections.fleet.criu.plugins.module_utils._preflight.way_back import way_back
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc
from ansible_collections.fleet.criu.plugins.module_utils._runner import SubprocessRunner


def preflight(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    require_known(parameters["skip"])
    if parameters["state"] == "describe":
        return _described(parameters)
    target = target_facts(parameters["source"], parameters, Proc(), SubprocessRunner())
    findings = run_checks(parameters["source"], target, parameters, parameters["skip"])
    failed = failures(findings)
    result = {
        "checks": [finding.as_dict() for finding in findings],
        "failures": [finding.as_dict() for finding in failed],
        "options": taken_options(parameters["source"], parameters),
    }
    if failed and parameters["fail_on_problems"]:
        raise CriuError(describe_failures(failed), facts=result)
    return result


def _described(parameters: Mapping[str, Any]) -> dict[str, Any]:
    facts = source_facts(parameters, Proc(), SubprocessRunner())
    if parameters["mounts"] is None:
        return {"facts": facts}
    gaps = way_back(parameters["mounts"], parameters["map_entries"] or [], parameters["workload"])
    return {"facts": facts, "way_back": gaps}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["describe", "check"], "required": True},
            "pid": {"type": "int"},
            "source": {"type": "dict"},
            "host": {"type": "str"},
            "images": {"type": "path"},
            "criu_path": {"type": "path"},
            "map_entries": {"type": "list", "elements": "dict"},
            "mounts": {"type": "list", "elements": "dict"},
            "options": {"type": "dict"},
            "contents": {"type": "str", "choices": ["quick", "full"], "default": "quick"},
            "contents_paths": {"type": "list", "elements": "str"},
            "contents_max_files": {"type": "int", "default": 10000},
            "contents_max_bytes": {"type": "int", "default": 1 << 34},
            "root": {"type": "path"},
            "pid_file": {"type": "path"},
            "workload": {"type": "str"},
            "network_lock": {"type": "str", "choices": ["auto", "nftables", "iptables"], "default": "auto"},
            "manage_cgroups": {"type": "str", "choices": ["none", "props", "soft", "full", "strict", "ignore"]},
            "transport": {"type": "str", "choices": ["direct", "relay", "shared"], "default": "direct"},
            "compression": {"type": "str", "choices": ["none", "zstd", "lz4"], "default": "none"},
            "address": {"type": "str"},
            "unit": {"type": "str"},
            **_arguments.engine(),
            "skip": {"type": "list", "elements": "str", "default": []},
            "fail_on_problems": {"type": "bool", "default": True},
        },
        required_together=[_arguments.WORKLOAD_TOGETHER],
        required_if=[("state", "describe", ["pid"]), ("state", "check", ["source"])],
        supports_check_mode=True,
    )
    run_module(module, preflight)


if __name__ == "__main__":
    main()
