"""The credentials of the nodes, several at once, so that a password can be changed without a gap.

A password that is hashed is verified by its slow hash once. From then on it is compared by a fast
digest under a key that this process made up, as is a password that is not hashed. Each attempt
does the same work whatever user it names: it is held against all credentials.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from pexpolicy.access.verification_pool import VerificationPool
from pexpolicy.config.credentials import Credential
from pexpolicy.config.password_hash import PasswordHash

MAX_PAIRS = 4096
"""Pairs that are remembered, wrong ones and those that wait; the oldest are forgotten."""


class VerifiedDigests:
    """What a server found out about credentials: the digests of those that were verified.

    It outlives a configuration: a credential that the next one still holds needs no slow hash
    again.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self.digests: dict[Credential, bytes] = {}
        self.turnstile = VerificationPool()

    def digest(self, pair: bytes) -> bytes:
        """The fast digest of a user and password; without the key it tells nothing."""
        return hashlib.blake2b(pair, key=self._key).digest()


class Credentials:
    """All that are valid at the same time."""

    def __init__(self, given: Iterable[Credential], learned: VerifiedDigests | None = None) -> None:
        self._learned = learned or VerifiedDigests()
        self._hashed: list[Credential] = []
        self._digests: list[bytes] = []
        self._sightings: OrderedDict[bytes, int] = OrderedDict()
        """How often each pair was seen that is not verified yet."""
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        for credential in given:
            secret = credential.secret
            if isinstance(secret, PasswordHash):
                self._hashed.append(credential)
            else:
                pair = f"{credential.user}:{secret.get_secret_value()}".encode()
                self._digests.append(self._learned.digest(pair))

    @property
    def has_hashes(self) -> bool:
        """True where a password is hashed."""
        return bool(self._hashed)

    def recognises(self, pair: bytes) -> bool:
        """True for a user and password that are known without a slow hash."""
        digest = self._learned.digest(pair)
        known = [*self._digests, *self._verified()]
        return any(hmac.compare_digest(digest, one) for one in known)

    async def verify(self, pair: bytes, attempts: int, *, is_known: bool = False) -> bool:
        """As ``recognises``, and else by the slow hashes of credentials that nobody used yet.

        Guesses must not keep a node out, even where they come from more addresses than there is
        time for, and name its user. So a peer that was admitted before (``is_known``) is first, and
        then the one with the fewest ``attempts`` that are verified now or were wrong. Among equals
        it is the pair that was seen most often: nodes send the same one again and again, and a
        wrong one is never verified twice. Raises ``BusyError``.
        """
        if self.recognises(pair):
            return True
        digest = self._learned.digest(pair)
        if not self._unseen() or digest in self._wrong:
            return False
        seen = self._sightings[digest] = self._sightings.pop(digest, 0) + 1
        _bound(self._sightings)
        rank = (not is_known, attempts, -seen)
        found = await self._learned.turnstile.run(rank, lambda: self._found(pair))
        self._sightings.pop(digest, None)
        if not found:
            self._wrong[digest] = None
            _bound(self._wrong)
        return found

    def _verified(self) -> list[bytes]:
        digests = self._learned.digests
        return [digests[one] for one in self._hashed if one in digests]

    def _unseen(self) -> list[Credential]:
        return [one for one in self._hashed if one not in self._learned.digests]

    def _found(self, pair: bytes) -> bool:
        """Verify against each, whatever its user is: who times it learns nothing of the users.

        What was verified while this one waited for its turn needs no slow hash any more.
        """
        if self.recognises(pair):
            return True
        user, _, password = pair.partition(b":")
        for credential in self._unseen():
            secret = credential.secret
            assert isinstance(secret, PasswordHash)
            right = secret.matches(password)
            if right & hmac.compare_digest(credential.user.encode(), user):
                self._learned.digests[credential] = self._learned.digest(pair)
                return True
        return False


def _bound(pairs: OrderedDict[bytes, Any]) -> None:
    if len(pairs) > MAX_PAIRS:
        pairs.popitem(last=False)


def pair_of(header: str) -> bytes:
    """The user and password of an ``Authorization`` header, or nothing (RFC 7617)."""
    given = header.encode("utf-8", "surrogateescape").strip()
    scheme, _, encoded = given.partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        pair = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
    return pair if b":" in pair else b""
