"""Hashed passwords as they are written down: scrypt, in the PHC string format.

``$scrypt$ln=15,r=8,p=1$SALT$DIGEST``, salt and digest in base64 without its padding. The format is
that of the password hashing competition (github.com/P-H-C/phc-string-format); ``ln`` is the
logarithm of the cost.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

COST = 15
"""``ln`` of what is made here: 32 MB and about 0.1 s a verification."""
MAX_MEMORY = 256 * 1024 * 1024
"""Bytes that one verification may take; a written hash that asks for more is refused."""
_WRITTEN = re.compile(
    r"\$scrypt\$ln=([1-9]\d?),r=([1-9]\d?),p=([1-9]\d?)\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{43,86})"
)


class PasswordHashError(ValueError):
    """A text is no password hash; it does not show the text."""


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """One hashed password: the costs, the salt and the digest."""

    ln: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    @classmethod
    def made(cls, password: str, ln: int = COST) -> PasswordHash:
        """Hash a password with a salt of its own."""
        salt = secrets.token_bytes(16)
        return cls(ln, 8, 1, salt, _scrypt(password.encode(), salt, ln, 8, 1, 32))

    @classmethod
    def read(cls, written: str) -> PasswordHash:
        """The hash in a text; raises ``PasswordHashError``."""
        found = _WRITTEN.fullmatch(written.strip())
        if found is None:
            msg = "is no password hash; pexpolicy hash-password makes one"
            raise PasswordHashError(msg)
        ln, r, p = (int(number) for number in found.groups()[:3])
        if _memory(ln, r, p) > MAX_MEMORY:
            msg = f"takes more than {MAX_MEMORY // 1024**2} MB to verify; take a smaller ln or r"
            raise PasswordHashError(msg)
        return cls(ln, r, p, _decoded(found[4]), _decoded(found[5]))

    def matches(self, password: bytes) -> bool:
        """True for the password that was hashed. Takes the time and the memory of scrypt."""
        size = len(self.digest)
        found = _scrypt(password, self.salt, self.ln, self.r, self.p, size)
        return hmac.compare_digest(found, self.digest)

    def __str__(self) -> str:
        costs = f"ln={self.ln},r={self.r},p={self.p}"
        return f"$scrypt${costs}${_encoded(self.salt)}${_encoded(self.digest)}"


def _scrypt(password: bytes, salt: bytes, ln: int, r: int, p: int, size: int) -> bytes:
    room = _memory(ln, r, p)
    return hashlib.scrypt(password, salt=salt, n=1 << ln, r=r, p=p, dklen=size, maxmem=room)


def _memory(ln: int, r: int, p: int) -> int:
    """Bytes that OpenSSL reckons with (EVP_PBE_scrypt), and some to spare."""
    return 128 * r * ((1 << ln) + p + 2) + 4096


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        msg = "is no password hash: its salt or digest is cut off"
        raise PasswordHashError(msg) from None
