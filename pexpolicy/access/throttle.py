"""Wrong credentials, counted for each peer: the more of them, the later the answer."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

FIRST_DELAY = 0.1
"""Seconds before the answer to the first wrong attempt; each further one doubles it."""
LONGEST_DELAY = 4.0
"""Seconds; a node with an old password hears of it before it gives up at 5."""
FORGOTTEN = 600.0
"""Seconds without a wrong attempt behind which a peer begins anew."""
MAX_PEERS = 4096
"""Peers that are remembered; beyond these the one that was quiet for longest is forgotten."""


@dataclass(slots=True)
class _PeerState:
    count: int
    last: float


class LoginThrottle:
    """How often each peer was wrong. It delays answers to wrong credentials, and no others: a node
    behind the same address as somebody who guesses is not slowed.
    """

    def __init__(self, peers: int = MAX_PEERS) -> None:
        self._records: OrderedDict[str, _PeerState] = OrderedDict()
        self._trying: Counter[str] = Counter()
        self._peers = peers

    def __len__(self) -> int:
        return len(self._records)

    def of(self, peer: str, now: float) -> int:
        """How many wrong attempts of a peer count at the time ``now`` (seconds)."""
        record = self._records.get(origin(peer))
        return record.count if record is not None and now - record.last < FORGOTTEN else 0

    @contextmanager
    def trying(self, peer: str, now: float) -> Iterator[int]:
        """While a peer is verified; gives how many others of its attempts are, or were wrong."""
        key = origin(peer)
        rank = self.of(peer, now) + self._trying[key]
        self._trying[key] += 1
        try:
            yield rank
        finally:
            self._trying[key] -= 1
            if not self._trying[key]:
                del self._trying[key]

    def failed(self, peer: str, now: float) -> float:
        """Count a wrong attempt; gives the seconds that its answer has to wait."""
        count = self.of(peer, now)
        key = origin(peer)
        self._records[key] = _PeerState(count + 1, now)
        self._records.move_to_end(key)
        if len(self._records) > self._peers:
            self._records.popitem(last=False)
        return float(min(FIRST_DELAY * 2 ** min(count, 32), LONGEST_DELAY))


def origin(peer: str) -> str:
    """What counts as one peer: an IPv4 address, or the /64 that one IPv6 host may choose from."""
    packed = _packed(peer)
    return peer if packed is None else packed[:8].hex()


def network_of(peer: str) -> str:
    """The same, as it is written."""
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
    """Waits that can be ended together. Each costs a timer, and no thread."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()
        self._ended = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, seconds: float) -> None:
        """Wait for so long, or until ``end``."""
        if self._ended:
            return
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        timer = loop.call_later(seconds, _finish, over)
        self._waiting.add(over)
        try:
            await over
        finally:
            timer.cancel()
            self._waiting.discard(over)

    def end(self) -> None:
        """Let all go on, and nobody wait any more."""
        self._ended = True
        for over in self._waiting:
            _finish(over)


def _finish(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
