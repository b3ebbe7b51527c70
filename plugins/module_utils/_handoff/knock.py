# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first bytes of a connection, by which the target tells from strangers who may be the true peer, before any TLS.

Only the two hosts and the controller know the source's certificate: in TLS 1.3 it travels encrypted, and not before the
target has shown its own. So it serves as the key of a sum that costs the target some microseconds, where a handshake
costs a thousand times as much. It proves nothing that counts: who may come in is decided by TLS alone. But an address
cannot do its work, because a user of the source has the same one, and behind a tunnel everybody has the target's own.
"""

from __future__ import annotations

import hashlib
import hmac
import os

_NONCE = 16
LENGTH = _NONCE + hashlib.sha256().digest_size
_PURPOSE = b"fleet.criu knock 1"


class Knocks:
    """What the source of one handoff knocks with at its target. Both certificates are DER."""

    def __init__(self, source: bytes, target: bytes) -> None:
        self._source = source
        self._target = target
        self._used: set[bytes] = set()

    def new(self) -> bytes:
        """What to send, once."""
        nonce = os.urandom(_NONCE)
        return nonce + self._sum(nonce)

    def is_known(self, data: bytes) -> bool:
        """Whether the source has made this, and it was not heard before: whoever overhears it has nothing of it."""
        nonce, said = data[:_NONCE], data[_NONCE:]
        if not hmac.compare_digest(said, self._sum(nonce)) or nonce in self._used:
            return False
        self._used.add(nonce)
        return True

    def _sum(self, nonce: bytes) -> bytes:
        return hmac.new(self._source, _PURPOSE + nonce + self._target, hashlib.sha256).digest()
