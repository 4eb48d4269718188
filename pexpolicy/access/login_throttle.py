"""Login throttle: delays for wrong credentials, and the peers that sent right ones."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

FIRST_DELAY_S = 0.1
"""Delay of the reply to the first wrong attempt; each further attempt doubles it."""
MAX_DELAY_S = 4.0
"""Less than the 5 s after which a node gives up, so that it gets the 401."""
RESET_AFTER_S = 600.0
"""Time without a wrong attempt after which the count of a peer is reset."""
MAX_PEERS = 4096
"""Peers that are stored; the least recently used one is removed first."""


class LoginThrottle:
    """Counts the wrong attempts of each peer.

    Only replies to wrong credentials are delayed, so a node that shares an address with a guessing
    client is not slowed down.
    """

    def __init__(self, max_peers: int = MAX_PEERS) -> None:
        self._records: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """Number of wrong attempts, and when the last one was."""
        self._running: Counter[str] = Counter()
        self._max_peers = max_peers

    def __len__(self) -> int:
        return len(self._records)

    def failures(self, peer: str, now: float) -> int:
        """Return the number of wrong attempts of a peer that count at ``now`` (seconds)."""
        count, last = self._records.get(origin(peer), (0, now))
        return count if now - last < RESET_AFTER_S else 0

    @contextmanager
    def attempt(self, peer: str, now: float) -> Iterator[int]:
        """Count an attempt while it is verified; yield how many others of the peer are being
        verified or were wrong.
        """
        key = origin(peer)
        rank = self.failures(peer, now) + self._running[key]
        self._running[key] += 1
        try:
            yield rank
        finally:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key]

    def record_failure(self, peer: str, now: float) -> float:
        """Count a wrong attempt; return the delay of its reply in seconds."""
        count = self.failures(peer, now)
        key = origin(peer)
        self._records[key] = count + 1, now
        self._records.move_to_end(key)
        if len(self._records) > self._max_peers:
            self._records.popitem(last=False)
        return float(min(FIRST_DELAY_S * 2 ** min(count, 32), MAX_DELAY_S))


class KnownPeers:
    """Addresses of right credentials. Their credentials are verified first, and their TLS
    handshakes are not delayed.
    """

    def __init__(self) -> None:
        self._peers: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, peer: str) -> bool:
        return origin(peer) in self._peers

    def add(self, *peers: str) -> None:
        """Store addresses."""
        for key in map(origin, peers):
            self._peers[key] = None
            self._peers.move_to_end(key)
            if len(self._peers) > MAX_PEERS:
                self._peers.popitem(last=False)


def origin(peer: str) -> str:
    """Return the key of a peer: its IPv4 address, or the /64 of its IPv6 address."""
    packed = _packed(peer)
    return peer if packed is None else packed[:8].hex()


def network_of(peer: str) -> str:
    """Return the IPv4 address of a peer, or its IPv6 /64, as text."""
    packed = _packed(peer)
    return peer if packed is None else str(ipaddress.IPv6Network((packed[:8] + bytes(8), 64)))


def _packed(peer: str) -> bytes | None:
    if ":" not in peer:
        return None
    try:
        return ipaddress.IPv6Address(peer.partition("%")[0]).packed
    except ValueError:
        return None


class CancellableSleeps:
    """Delays that can be cancelled together. Each takes a timer and no thread."""

    def __init__(self) -> None:
        self._cancelled = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Sleep for that time, or until ``cancel``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._cancelled.wait()

    def cancel(self) -> None:
        """End all delays, now and later."""
        self._cancelled.set()
