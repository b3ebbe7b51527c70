# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way from the source to the target, as far as it is known without a port to connect to."""

from __future__ import annotations

import socket
from typing import Any

from ansible_collections.fleet.criu.plugins.module_utils._preflight.sockets import is_local, local_networks
from ansible_collections.fleet.criu.plugins.module_utils._proc import Proc

# Discard (RFC 863). It is never used: see `_own_end`.
_SOME_PORT = 9


def route_to(address: str, proc: Proc) -> dict[str, Any]:
    """The route from here to an address or name: nothing is sent but what the resolver asks.

    `resolved` are its addresses, `reached` the first of them that there is a route to, `own_end` our address on that
    route, `is_own` whether `reached` is an address of this host itself, `problem` what the system says where there is
    none. What is not found is null or empty.
    """
    found: dict[str, Any] = {"address": address, "resolved": [], "reached": None, "own_end": None}
    found.update(is_own=False, problem=None)
    try:
        places = socket.getaddrinfo(address, _SOME_PORT, type=socket.SOCK_DGRAM)
    except (OSError, ValueError) as error:  # ValueError: no name of a host looks like this
        return {**found, "problem": _said(error)}
    for family, kind, protocol, _name, place in places:
        found["resolved"].append(str(place[0]))
        try:
            own_end = _own_end(family, kind, protocol, place)
        except OSError as error:
            found["problem"] = found["problem"] or _said(error)
            continue
        if found["reached"] is None:
            is_own = is_local(str(place[0]).partition("%")[0], local_networks(proc))
            found.update(reached=str(place[0]), own_end=own_end, is_own=is_own)
    return found if found["reached"] is None else {**found, "problem": None}


def _own_end(family: int, kind: int, protocol: int, place: Any) -> str:
    # To connect such a socket looks the route up and sends no packet (udp(7)).
    with socket.socket(family, kind, protocol) as connected:
        connected.connect(place)
        return str(connected.getsockname()[0])


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
