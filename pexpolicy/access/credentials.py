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
from collections.abc import Iterable

from pexpolicy.access.passwords import PasswordHash
from pexpolicy.access.reading import Credential
from pexpolicy.access.turnstile import Turnstile


class Learned:
    """What a server found out about credentials: the digests of those that were verified.

    It outlives a configuration: a credential that the next one still holds needs no slow hash
    again.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self.digests: dict[Credential, bytes] = {}
        self.turnstile = Turnstile()

    def digest(self, pair: bytes) -> bytes:
        """The fast digest of a user and password; without the key it tells nothing."""
        return hashlib.blake2b(pair, key=self._key).digest()


class Credentials:
    """All that are valid at the same time."""

    def __init__(self, given: Iterable[Credential], learned: Learned | None = None) -> None:
        self._learned = learned or Learned()
        self._hashed: list[Credential] = []
        self._digests: list[bytes] = []
        for credential in given:
            secret = credential.secret
            if isinstance(secret, PasswordHash):
                self._hashed.append(credential)
            else:
                pair = f"{credential.user}:{secret.get_secret_value()}".encode()
                self._digests.append(self._learned.digest(pair))

    def recognises(self, pair: bytes) -> bool:
        """True for a user and password that are known without a slow hash."""
        digest = self._learned.digest(pair)
        known = [*self._digests, *self._verified()]
        return any(hmac.compare_digest(digest, one) for one in known)

    async def verify(self, pair: bytes, rank: int) -> bool:
        """As ``recognises``, and else by the slow hashes of credentials that nobody used yet.

        ``rank`` is how many attempts of the peer are verified now or were wrong: the lowest comes
        first. Raises ``BusyError``.
        """
        if self.recognises(pair):
            return True
        if not self._unseen():
            return False
        return await self._learned.turnstile.run(rank, lambda: self._found(pair))

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
