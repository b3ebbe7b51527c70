# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The `criu` that an engine finds first in its PATH. It makes us part of what the engine does, and then is CRIU.

An engine starts `criu swrk DESCRIPTOR` and speaks with it by messages on that socket (libcriu and go-criu do), or, as
LXC does, `criu dump` and `criu restore`. The stand-in looks at the first message without taking it. If a dump or a
restore is asked for, CRIU is given a configuration file with our action script (CRIU runs it after the engine's own one
since 3.19), and it waits until we say so. So at the target an engine can do all its own work, and fail, before anything
is frozen, and at the source we know when the freeze begins.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Mapping, Sequence

from ansible_collections.fleet.criu.plugins.module_utils._criu.command import Options
from ansible_collections.fleet.criu.plugins.module_utils._criu.image_wire import Message
from ansible_collections.fleet.criu.plugins.module_utils._criu.stage import wait_for_answer

# A stage of ours, before CRIU has begun.
READY = "engine-ready"

# Of CRIU's images/rpc.proto, enum criu_req_type.
_DUMP, _RESTORE = 1, 2
_LONGEST_MESSAGE = 1 << 20

_SCRIPT = """#!{python} -IS
import sys
sys.path[:0] = {path}
from {module} import main
main({criu!r}, {configuration!r}, {stages!r})
"""


def make_stand_in(
    folder: Path, criu: str, action: str, options: Options, stages: Path | None = None, further: Sequence[str] = ()
) -> Mapping[str, str]:
    """Put a stand-in into an empty or missing folder, which must be on a file system that allows to execute.

    `criu` is the real one and `action` the action script; those of the options that engines know nothing of are given
    to CRIU too, and so are `further` lines of its configuration. With the folder of `Stages`, CRIU begins when it was
    answered at the stage `READY` of it. Gives the environment for the engine.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    configuration = folder / "criu.conf"
    lines = [f"action-script {_quoted(action)}", *_lines(options), *further]
    configuration.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    script = folder / "criu"
    script.write_text(
        _SCRIPT.format(
            python=sys.executable,
            path=json.dumps(sys.path),
            module=__name__,
            criu=criu,
            configuration=str(configuration),
            stages=str(stages) if stages is not None else "",
        ),
        "utf-8",
    )
    script.chmod(0o700)
    return {"PATH": f"{folder}:{os.environ.get('PATH', os.defpath)}"}


def main(criu: str, configuration: str, stages: str) -> None:
    """Be the stand-in: wait if there is something to wait for, then become CRIU."""
    if _is_asked_to_act(sys.argv):
        if stages and not wait_for_answer(Path(stages), READY, os.getpid()):
            os._exit(1)
        os.environ["CRIU_CONFIG_FILE"] = configuration
    os.execv(criu, [criu, *sys.argv[1:]])


def _is_asked_to_act(argv: Sequence[str]) -> bool:
    return argv[1:2] in (["dump"], ["restore"]) or _request_type(argv) in (_DUMP, _RESTORE)


def _request_type(argv: Sequence[str]) -> int | None:
    if len(argv) < 3 or argv[1] != "swrk" or not argv[2].isdecimal():
        return None
    connection = socket.socket(fileno=int(argv[2]))
    try:
        data = connection.recv(_LONGEST_MESSAGE, socket.MSG_PEEK)
    finally:
        connection.detach()
    return Message(data, Path("rpc"), 0).number(1, "type") if data else None


def _lines(options: Options) -> list[str]:
    # Only what engines say nothing about: what they say overrides the file.
    lines = ["link-remap"] if options.link_remap else []
    for name, value in (
        ("network-lock", options.network_lock),
        ("ghost-limit", options.ghost_limit),
        ("timeout", options.timeout),
    ):
        lines += [f"{name} {value}"] if value is not None else []
    return lines


def _quoted(path: str) -> str:
    # criu(8), CONFIGURATION FILES: a value with a blank stands in double quotes.
    return f'"{path}"' if any(character.isspace() for character in path) else path
