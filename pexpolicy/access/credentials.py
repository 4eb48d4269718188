"""Verification of the credentials of nodes, and delays for wrong ones.

Several credentials are valid at once, for password rotation. A hashed password is verified by its
slow hash once. After that it is compared by a fast digest under a random key of this process, as is
a password that is not hashed. Each attempt is compared with all credentials, so it takes the same
time whatever user it names.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

from pexpolicy.config.secrets import Credential, PasswordHash

FIRST_DELAY_S = 0.1
"""Delay of the reply to the first wrong attempt; each further attempt doubles it."""
MAX_DELAY_S = 4.0
"""Less than the 5 s after which a node gives up, so that it gets the 401."""
RESET_AFTER_S = 600.0
"""Time without a wrong attempt after which the count of a peer is reset."""
MAX_KEPT = 4096
"""Peers, wrong pairs and attempts that are stored; the least recent one is removed first."""
MAX_RUNNING = 2
"""Verifications at the same time; each takes a thread, and the memory of scrypt."""
MAX_QUEUED = 64
"""Verifications in a queue."""
MAX_FIRST = 16
"""Those in a queue from which on only a pair that its peer has sent before is queued: a node sends
the same one again.
"""


K = TypeVar("K")
T = TypeVar("T")
V = TypeVar("V")


class LoginThrottle:
    """Counts the wrong attempts of each peer.

    Only replies to wrong credentials are delayed, so a node that shares an address with a guessing
    client is not slowed down.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._records: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """Number of wrong attempts, and when the last one was."""
        self._running: Counter[str] = Counter()
        self._is_cancelled = asyncio.Event()

    def failures(self, peer: str) -> int:
        """Return the number of wrong attempts of a peer that count now."""
        count, last = self._records.get(origin(peer), (0, 0.0))
        return count if self._clock() - last < RESET_AFTER_S else 0

    @contextmanager
    def attempt(self, peer: str) -> Iterator[int]:
        """Count an attempt while it is verified; yield how many others of the peer are being
        verified or were wrong.
        """
        key = origin(peer)
        self._running[key] += 1
        try:
            yield self.failures(peer) + self._running[key] - 1
        finally:
            self._running -= Counter((key,))

    def record_failure(self, peer: str) -> float:
        """Count a wrong attempt; return the delay of its reply in seconds."""
        count = self.failures(peer)
        store_recent(self._records, origin(peer), (count + 1, self._clock()))
        return float(min(FIRST_DELAY_S * 2 ** min(count, 32), MAX_DELAY_S))

    async def delay(self, seconds: float) -> None:
        """Sleep for that time, or until ``cancel``; it takes a timer and no thread."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_cancelled.wait()

    def cancel(self) -> None:
        """End all delays, now and later."""
        self._is_cancelled.set()


def store_recent(table: OrderedDict[K, V], key: K, value: V) -> None:
    """Store a value as the last one; the first of more than ``MAX_KEPT`` goes."""
    table[key] = value
    table.move_to_end(key)
    if len(table) > MAX_KEPT:
        table.popitem(last=False)


def origin(peer: str) -> str:
    """Return the key of a peer: its IPv4 address, or the /64 of its IPv6 address."""
    if ":" not in peer:
        return peer
    try:
        return str(ipaddress.IPv6Network((peer.partition("%")[0], 64), strict=False))
    except ValueError:
        return peer


class VerificationQueueFull(Exception):
    """Too many verifications are queued."""


class VerificationPool:
    """Verifies credentials in threads, and remembers the right ones and where they came from.

    Guesses from many addresses must not lock out a client, even if they name its user. So peers
    whose credentials were right have a queue of their own, and a full one still takes what a peer
    sends again. It is kept across a reload.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[str, None] = OrderedDict()
        """Peers of right credentials."""
        self._sent: OrderedDict[tuple[bytes, str], None] = OrderedDict()
        """Pairs that were not verified yet, with the peer that sent them."""
        self._threads = [
            ThreadPoolExecutor(1, thread_name_prefix="pexpolicy-verify") for _ in range(MAX_RUNNING)
        ]
        """One for known peers, which guesses from others must not delay, and one for others."""
        self._queued = [0] * MAX_RUNNING
        self._is_closed = False
        self.digests: dict[Credential, bytes] = {}
        """Those of passwords that are not hashed, and of verified ones."""

    def remember(self, peers: Iterable[str]) -> None:
        """Prefer these peers: right credentials came from them."""
        for peer in peers:
            store_recent(self._known, origin(peer), None)

    def is_known(self, peer: str) -> bool:
        """Return whether right credentials came from a peer."""
        return origin(peer) in self._known

    def digest(self, pair: bytes) -> bytes:
        """Return the fast digest of a user and password; it is useless without the key."""
        return hashlib.blake2b(pair, key=self._key).digest()

    async def run(self, work: Callable[[], T], pair: bytes, peer: str) -> T:
        """Return what the slow verification of a pair returns; raises ``VerificationQueueFull``."""
        number, sent = int(self.is_known(peer)), (self.digest(pair), peer)
        limit = MAX_QUEUED if sent in self._sent else MAX_FIRST
        store_recent(self._sent, sent, None)
        if self._is_closed or self._queued[number] >= limit:
            raise VerificationQueueFull
        self._queued[number] += 1
        try:
            result = await asyncio.wrap_future(self._threads[number].submit(work))
        except asyncio.CancelledError:
            if self._is_closed:
                raise VerificationQueueFull from None
            raise
        finally:
            self._queued[number] -= 1
        self._sent.pop(sent, None)
        return result

    def close(self) -> None:
        """Verify nothing more; callers in the queue get ``VerificationQueueFull``."""
        self._is_closed = True
        for thread in self._threads:
            thread.shutdown(wait=False, cancel_futures=True)


class Credentials:
    """All credentials that are valid at the same time."""

    def __init__(
        self, configured: Iterable[Credential], pool: VerificationPool | None = None
    ) -> None:
        self._pool = pool or VerificationPool()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._configured = tuple(configured)
        self._hashed: dict[Credential, PasswordHash] = {}
        for credential in self._configured:
            if isinstance(credential.secret, PasswordHash):
                self._hashed[credential] = credential.secret
            else:
                pair = f"{credential.user}:{credential.secret.get_secret_value()}".encode()
                self._pool.digests[credential] = self._pool.digest(pair)

    def is_verified(self, pair: bytes) -> bool:
        """Return whether a user and password are right, without a slow hash."""
        return self._place_of(pair) > 0

    def number(self, pair: bytes) -> int:
        """Return which of several credentials a verified pair is, from 1; 0 for the only one."""
        return self._place_of(pair) if len(self._configured) > 1 else 0

    def _place_of(self, pair: bytes) -> int:
        digest, known, found = self._pool.digest(pair), self._pool.digests, 0
        for number, one in enumerate(self._configured, 1):
            found = found or number * hmac.compare_digest(digest, known.get(one, b""))
        return found

    async def verify(self, pair: bytes, peer: str = "") -> bool:
        """Return whether a user and password are right, by slow hashes where that is needed.

        Raises ``VerificationQueueFull``.
        """
        if self.is_verified(pair):
            return True
        digest = self._pool.digest(pair)
        if self._hashed.keys() <= self._pool.digests.keys() or digest in self._wrong:
            return False
        is_right = await self._pool.run(partial(self._verify_slowly, pair, digest), pair, peer)
        if not is_right:
            store_recent(self._wrong, digest, None)
        return is_right

    def _verify_slowly(self, pair: bytes, digest: bytes) -> bool:
        """Verify against each credential, whatever its user, so that timing reveals no user names.

        A pair that was verified while this one was queued, or was wrong, needs no slow hash.
        """
        if self.is_verified(pair):
            return True
        if digest in self._wrong:
            return False
        user, _, password = pair.partition(b":")
        for credential, secret in self._hashed.items():
            if credential not in self._pool.digests:
                right = secret.matches(password)
                if right & hmac.compare_digest(credential.user.encode(), user):
                    self._pool.digests[credential] = digest
                    return True
        return False


def pair_of(header: bytes) -> bytes:
    """Return the user and password of an ``Authorization`` header, or nothing (RFC 7617)."""
    scheme, _, encoded = header.strip().partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        pair = base64.b64decode(encoded.strip(), validate=True)
    except ValueError:
        return b""
    return pair if b":" in pair else b""
