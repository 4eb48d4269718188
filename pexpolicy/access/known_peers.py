"""Addresses that right credentials came from."""

from __future__ import annotations

from collections import OrderedDict

from pexpolicy.access.throttle import origin

MAX_PEERS = 4096
"""Addresses that are remembered; beyond these the one that was quiet for longest is forgotten."""


class KnownPeers:
    """Remembers them: their credentials are verified before those of strangers."""

    def __init__(self) -> None:
        self._peers: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, peer: str) -> bool:
        return origin(peer) in self._peers

    def add(self, *peers: str) -> None:
        """Remember addresses."""
        for key in map(origin, peers):
            self._peers[key] = None
            self._peers.move_to_end(key)
            if len(self._peers) > MAX_PEERS:
                self._peers.popitem(last=False)
