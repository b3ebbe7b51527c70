#!/usr/bin/python
# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: handoff_send
short_description: Hand a running workload over to another host
version_added: 0.1.0
description:
  - Runs on the source. Starts a sender that lives on when the module or the controller has ended, and follows it. It
    copies what is to be synced while the workload runs, freezes and dumps it, streams the images to the receiver
    (M(fleet.criu.handoff_receive)) and holds the workload until the target says that it runs there.
  - Whatever fails before that, the workload runs on here as if nothing had happened. If the link breaks in the moment
    when the target was told to run, the workload stays held until M(fleet.criu.handoff_settle) was called.
  - While it works, the play shows phase, bytes and rate about every second.
author:
  - The fleet.criu maintainers (@fleet-criu)
extends_documentation_fragment:
  - fleet.criu.attributes
  - fleet.criu.code
  - fleet.criu.engine
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: The workload has the same state afterwards, on another host.
  idempotent:
    support: full
    details: Called again with the same O(handoff), it follows what is at work or tells how it ended.
requirements:
  - CRIU 3.15 or later, openssl and, for O(copies), rsync on the source.
options:
  handoff:
    description:
      - The name of the handoff, the same on both hosts, for one attempt alone.
    type: str
    required: true
  state:
    description:
      - V(prepared) makes the certificate for this handoff. V(sent) starts the sender and follows it. V(followed) only
        follows it.
    type: str
    choices: [prepared, sent, followed]
    default: sent
  workload:
    description:
      - The name of the workload. Needed with O(state=sent), like O(source), O(target), O(address), O(port),
        O(certificate), O(pid) and O(start_time).
    type: str
  source:
    description:
      - The name of this host, for journals, hooks and messages.
    type: str
  target:
    description:
      - The name of the target, likewise.
    type: str
  pid:
    description:
      - The pid of the workload's init, as M(fleet.criu.workload_info) returned it.
    type: int
  start_time:
    description:
      - Its start time, likewise.
    type: int
  address:
    description:
      - The address or name of the target, as this host reaches it.
    type: str
  port:
    description:
      - The port that M(fleet.criu.handoff_receive) returned.
    type: int
  certificate:
    description:
      - The certificate that M(fleet.criu.handoff_receive) returned.
    type: str
  mount_map:
    description:
      - The dump map, as M(fleet.criu.mount_map) returned it.
    type: list
    elements: dict
    default: []
    suboptions:
      mountpoint:
        description: The mountpoint inside the workload.
        type: str
        required: true
      key:
        description: The key in the images.
        type: str
        required: true
      device:
        description: The block device, as CRIU writes it, if it is dumped as one.
        type: str
  copies:
    description:
      - What is to be synced, as M(fleet.criu.mount_map) returned it.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: A folder or file of this host.
        type: str
        required: true
      folder:
        description: Its name in the receiver's O(fleet.criu.handoff_receive#module:folders).
        type: str
        required: true
      file_name:
        description: For a file, its name there.
        type: str
  transport:
    description:
      - V(direct) sends the images over the network, V(shared) writes them to storage that both hosts have.
    type: str
    choices: [direct, shared]
    default: direct
  images:
    description:
      - With O(transport=shared) or O(engine), the folder for the images, as this host calls it.
    type: path
  compression:
    description:
      - Compress the images with this program, which both hosts must have. It is worth it on a slow network.
    type: str
    choices: [none, zstd, lz4]
    default: none
  bandwidth_limit:
    description:
      - At most so many bytes a second for the images and the copies. The workload is frozen while its images are sent.
    type: int
  options:
    description:
      - Options for CRIU, as M(fleet.criu.dump) has them.
    type: dict
    default: {}
  hooks:
    description:
      - Commands at named moments, as in M(fleet.criu.handoff_receive).
    type: dict
    default: {}
  hook_environment:
    description:
      - Variables for all of the hooks, as in M(fleet.criu.handoff_receive).
    type: dict
    default: {}
  pid_file:
    description:
      - A file with the workload's pid, which is removed when it does not run here any more.
    type: path
  criu_path:
    description:
      - The criu to use. By default that on the path.
    type: path
  restore_timeout:
    description:
      - How many seconds the target may need to restore. The workload is frozen meanwhile.
    type: float
    default: 300.0
  wait:
    description:
      - How many seconds to follow the sender before the module returns. V(0) is until it has ended.
    type: float
    default: 0.0
seealso:
  - module: fleet.criu.handoff_receive
  - module: fleet.criu.handoff_settle
  - module: fleet.criu.handoff_agent
"""

EXAMPLES = r"""
- name: Make a certificate for this handoff
  fleet.criu.handoff_send:
    handoff: redis-20260101T020000
    state: prepared
  become: true
  register: sender

# Then handoff_receive on the target, with sender.certificate.

- name: Hand redis over
  fleet.criu.handoff_send:
    handoff: redis-20260101T020000
    workload: redis
    source: node1
    target: node2
    pid: "{{ found.pid }}"
    start_time: "{{ found.start_time }}"
    address: 192.0.2.2
    port: "{{ receiver.port }}"
    certificate: "{{ receiver.certificate }}"
    mount_map: "{{ map.dump_map }}"
    copies: "{{ map.copies }}"
  become: true
"""

RETURN = r"""
certificate:
  description: The certificate of the sender, for M(fleet.criu.handoff_receive). It is no secret.
  returned: with O(state=prepared), not in check mode
  type: str
finished:
  description: Whether the sender has ended.
  returned: with O(state=sent) and O(state=followed), not in check mode
  type: bool
progress:
  description: Phase and bytes while it is at work.
  returned: with O(state=sent) and O(state=followed), not in check mode
  type: dict
  sample: {phase: sending, bytes: 73400320, total: 536870912}
folder:
  description: >-
    Where the sender writes C(progress.json), and at its end C(result.json). To read them costs the source less than to
    call this module, while the workload is frozen.
  returned: while it is at work
  type: str
  sample: /run/fleet.criu/handoff/redis-20260102T030405-9f3c.source
outcome:
  description: >-
    V(moved), V(back) if the workload runs on here, or V(doubt) if it is held until M(fleet.criu.handoff_settle) was
    called.
  returned: when it has finished, also on failure
  type: str
  sample: moved
pid:
  description: The pid of the workload's init on the target.
  returned: if it moved
  type: int
  sample: 2417
generation:
  description: The generation of the workload that runs on the target.
  returned: when it has finished
  type: int
  sample: 3
tidy:
  description: Whether the target has said that nothing is left there, so that nobody has to look.
  returned: when it has finished
  type: bool
image_bytes:
  description: How many bytes of images were sent, before compression.
  returned: when it has finished
  type: int
  sample: 67912345
frozen_seconds:
  description: From the start of CRIU's dump to the moment when the target said that the workload runs.
  returned: if it moved
  type: float
  sample: 0.091
copies:
  description: What was synced, with bytes and seconds of each, the live pass before the last.
  returned: when it has finished
  type: list
  elements: dict
hooks:
  description: The hooks that were run on the source, with exit status and seconds.
  returned: when it has finished
  type: list
  elements: dict
timings:
  description: >-
    The phases on both hosts, each with its start by the monotonic clock of that host and its length in seconds.
  returned: when it has finished
  type: dict
  sample:
    source: {dump: {started: 4711.2, seconds: 0.031}}
    target: {restore: {started: 815.1, seconds: 0.04}}
put_back:
  description: >-
    What CRIU has changed or left behind on either host and was put back or removed, a line for each, for people. CRIU
    takes mount options from C(/sys/fs/cgroup), unless C(manage_cgroups) is C(ignore) in O(options).
  returned: when it has finished
  type: list
  elements: str
  sample: ["node1: Put back the mount options memory_recursiveprot, nsdelegate of /sys/fs/cgroup, which CRIU took."]
reason:
  description: What went wrong.
  returned: if it did not move
  type: str
remedy:
  description: What to do about it.
  returned: on failure
  type: str
"""

from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fleet.criu.plugins.module_utils import _arguments
from ansible_collections.fleet.criu.plugins.module_utils._errors import CriuError
from ansible_collections.fleet.criu.plugins.module_utils._handoff.journal import SOURCE
from ansible_collections.fleet.criu.plugins.module_utils._handoff.request import SendRequest
from ansible_collections.fleet.criu.plugins.module_utils._handoff.start import follow_send, make_certificate, send
from ansible_collections.fleet.criu.plugins.module_utils._module import run_module
from ansible_collections.fleet.criu.plugins.module_utils._runner import SubprocessRunner

_FOREVER = 7 * 24 * 3600.0
_OTHER_NAMES = {"mount_map": "dump_map", "restore_timeout": "restore_seconds"}
_NOT_FOR_THE_AGENT = ("state", "wait", "container", "code")


def hand_over(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    handoff, state = parameters["handoff"], parameters["state"]
    if check_mode:
        return {"changed": state != "followed"}
    if state == "prepared":
        return {"changed": True, "certificate": make_certificate(handoff, SOURCE, SubprocessRunner())}
    if state == "sent":
        send(_request(parameters), parameters["code"], SubprocessRunner())
    return _followed(follow_send(handoff, parameters["wait"] or _FOREVER))


def _request(parameters: Mapping[str, Any]) -> SendRequest:
    given = {_OTHER_NAMES.get(name, name): value for name, value in parameters.items()}
    given["engine"] = _arguments.engine_of(parameters)
    return SendRequest(**{name: value for name, value in given.items() if name not in _NOT_FOR_THE_AGENT})


def _followed(state: Mapping[str, Any]) -> dict[str, Any]:
    result = state["result"]
    if result is None and not state["alive"]:
        raise CriuError(
            "The sender was killed.",
            "Find out what is true with handoff_settle.",
            {"outcome": "doubt", "finished": True},
        )
    if result is None:
        return {"finished": False, "progress": state["progress"], "folder": state["folder"]}
    if result["outcome"] != "moved":
        facts = {name: value for name, value in result.items() if name not in ("remedy", "facts")}
        raise CriuError(result["reason"], result["remedy"], {**result.get("facts", {}), **facts, "finished": True})
    return {**result, "changed": True, "finished": True, "progress": state["progress"]}


def main() -> None:
    needed = ["workload", "source", "target", "address", "port", "certificate", "pid", "start_time"]
    optional = {name: {**spec, "required": False} for name, spec in _arguments.handoff().items()}
    module = AnsibleModule(
        argument_spec={
            **optional,
            "handoff": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["prepared", "sent", "followed"], "default": "sent"},
            "pid": {"type": "int"},
            "start_time": {"type": "int"},
            "address": {"type": "str"},
            "port": {"type": "int"},
            "certificate": {"type": "str"},
            "mount_map": {**_arguments.dump_map(), "default": []},
            "copies": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "folder": {"type": "str", "required": True},
                    "file_name": {"type": "str"},
                },
            },
            "images": {"type": "path"},
            "compression": {"type": "str", "choices": ["none", "zstd", "lz4"], "default": "none"},
            "bandwidth_limit": {"type": "int"},
            "restore_timeout": {"type": "float", "default": 300.0},
            **_arguments.code(),
            "wait": {"type": "float", "default": 0.0},
        },
        required_together=[_arguments.WORKLOAD_TOGETHER],
        required_if=[("state", "sent", needed), ("transport", "shared", ["images"])],
        supports_check_mode=True,
    )
    run_module(module, hand_over)


if __name__ == "__main__":
    main()
