"""Verification of the credentials of nodes, and delays for wrong ones.

Several credentials are valid at once, for password rotation. A hashed password is verified by its
slow hash once. After that it is compared by a fast digest under a random key of this process, as is
a password that is not hashed. Each attempt is compared with all credentials, so it takes the same
time whatever user it names.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import secrets
from bisect import insort
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

from pexpolicy.config.credentials import Credential, PasswordHash

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


MAX_PAIRS = 4096
"""Wrong pairs that are cached, and pairs whose attempts are counted; the oldest are removed."""


MAX_RUNNING = 2
"""Verifications at the same time; each takes a thread, and the memory of scrypt."""
MAX_QUEUED = 64
"""Verifications in the queue."""
Rank = tuple[int, ...]
"""Priority; the lowest is first."""


class VerificationQueueFull(Exception):
    """The queue is full of verifications with a lower rank."""


class VerificationPool:
    """Runs slow work in threads of its own.

    The lowest rank is next; when the queue is full, the highest one is dropped.
    """

    def __init__(self, max_running: int = MAX_RUNNING, max_queued: int = MAX_QUEUED) -> None:
        self._free = max_running
        self._max_queued = max_queued
        self._queue: list[tuple[Rank, int, asyncio.Future[None]]] = []
        self._numbers = count()
        self._threads = ThreadPoolExecutor(max_running, thread_name_prefix="pexpolicy-verify")
        self._closed = False

    async def run(self, rank: Rank, work: Callable[[], bool]) -> bool:
        """Run ``work`` in a thread when it is its turn; raises ``VerificationQueueFull``."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        insort(self._queue, (rank, next(self._numbers), turn))
        self._start_next()
        if len(self._queue) > self._max_queued:
            self._drop(self._queue.pop())
        try:
            await turn
            return await loop.run_in_executor(self._threads, work)
        finally:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._free += 1
                self._start_next()

    def _start_next(self) -> None:
        while self._queue and self._free and not self._closed:
            turn = self._queue.pop(0)[2]
            if not turn.done():
                self._free -= 1
                turn.set_result(None)

    def _drop(self, entry: tuple[Rank, int, asyncio.Future[None]]) -> None:
        if not entry[2].done():
            entry[2].set_exception(VerificationQueueFull())

    def close(self) -> None:
        """Start no further work and do not wait for any; callers in the queue get
        ``VerificationQueueFull``.
        """
        self._closed = True
        self._max_queued = 0
        while self._queue:
            self._drop(self._queue.pop())
        self._threads.shutdown(wait=False, cancel_futures=True)


class VerifiedDigests:
    """The digests of verified credentials.

    They are kept across a reload: a credential that is still configured needs no second slow
    hash.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self.digests: dict[Credential, bytes] = {}
        self.pool = VerificationPool()

    def digest(self, pair: bytes) -> bytes:
        """Return the fast digest of a user and password; it is useless without the key."""
        return hashlib.blake2b(pair, key=self._key).digest()


class Credentials:
    """All credentials that are valid at the same time."""

    def __init__(
        self, configured: Iterable[Credential], cache: VerifiedDigests | None = None
    ) -> None:
        self._cache = cache or VerifiedDigests()
        self._hashed: list[Credential] = []
        self._digests: list[bytes] = []
        self._attempts: OrderedDict[tuple[bytes, str], int] = OrderedDict()
        """Attempts of each peer with each pair that is not verified yet."""
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        for credential in configured:
            secret = credential.secret
            if isinstance(secret, PasswordHash):
                self._hashed.append(credential)
            else:
                pair = f"{credential.user}:{secret.get_secret_value()}".encode()
                self._digests.append(self._cache.digest(pair))

    @property
    def has_hashes(self) -> bool:
        """True if a password is hashed."""
        return bool(self._hashed)

    def is_verified(self, pair: bytes) -> bool:
        """Return whether a user and password are right, without a slow hash."""
        digest = self._cache.digest(pair)
        known = [*self._digests, *self._verified()]
        return any(hmac.compare_digest(digest, one) for one in known)

    async def verify(
        self, pair: bytes, attempts: int, *, peer: str = "", is_known: bool = False
    ) -> bool:
        """Return whether a user and password are right, by slow hashes where that is needed.

        Guesses from many addresses must not lock out a node, even if they name its user. So a peer
        that was admitted before (``is_known``) is first, and then the one with the fewest
        ``attempts`` that are being verified or were wrong. Among equals the peer that sent its pair
        most often is first: nodes repeat the same one, and a wrong one is verified once. Raises
        ``VerificationQueueFull``.
        """
        if self.is_verified(pair):
            return True
        digest = self._cache.digest(pair)
        if not self._unverified() or digest in self._wrong:
            return False
        key = digest, peer
        repeated = self._attempts[key] = self._attempts.pop(key, 0) + 1
        _bound(self._attempts)
        rank = (not is_known, attempts, -repeated)
        is_right = await self._cache.pool.run(rank, lambda: self._verify_slowly(pair, digest))
        self._attempts.pop(key, None)
        if not is_right:
            self._wrong[digest] = None
            _bound(self._wrong)
        return is_right

    def _verified(self) -> list[bytes]:
        digests = self._cache.digests
        return [digests[one] for one in self._hashed if one in digests]

    def _unverified(self) -> list[Credential]:
        return [one for one in self._hashed if one not in self._cache.digests]

    def _verify_slowly(self, pair: bytes, digest: bytes) -> bool:
        """Verify against each credential, whatever its user, so that timing reveals no user names.

        A pair that was verified while this one was queued, or was wrong, needs no slow hash.
        """
        if self.is_verified(pair):
            return True
        if digest in self._wrong:
            return False
        user, _, password = pair.partition(b":")
        for credential in self._unverified():
            secret = credential.secret
            assert isinstance(secret, PasswordHash)
            right = secret.matches(password)
            if right & hmac.compare_digest(credential.user.encode(), user):
                self._cache.digests[credential] = digest
                return True
        return False


def _bound(pairs: OrderedDict[Any, Any]) -> None:
    if len(pairs) > MAX_PAIRS:
        pairs.popitem(last=False)


def pair_of(header: str) -> bytes:
    """Return the user and password of an ``Authorization`` header, or nothing (RFC 7617)."""
    value = header.encode("utf-8", "surrogateescape").strip()
    scheme, _, encoded = value.partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        pair = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
    return pair if b":" in pair else b""
