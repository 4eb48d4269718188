"""HTTP Basic authentication of the nodes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets


class BasicAuth:
    """One user and password. The comparison takes as long for a wrong user as for a wrong
    password.
    """

    def __init__(self, user: str, password: str) -> None:
        self._key = secrets.token_bytes(32)
        pair = f"{user}:{password}".encode()
        self._header = b"Basic " + base64.b64encode(pair)
        self._digest = self._of(pair)

    def accepts(self, header: str | None) -> bool:
        """True when an ``Authorization`` header holds the credentials."""
        if header is None:
            return False
        given = header.encode("utf-8", "surrogateescape")
        if hmac.compare_digest(given, self._header):
            return True
        return hmac.compare_digest(self._of(_pair(given)), self._digest)

    def _of(self, pair: bytes) -> bytes:
        return hashlib.blake2b(pair, key=self._key).digest()


def _pair(header: bytes) -> bytes:
    """The user and password of a header in another spelling, or nothing."""
    scheme, _, encoded = header.strip().partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
