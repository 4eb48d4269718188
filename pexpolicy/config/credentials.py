"""Credentials of ``[auth]``, and password hashes: scrypt in the PHC string format.

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
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from pexpolicy.config.problems import Key, Problem
from pexpolicy.config.schema.server import AuthTable, PasswordTable
from pexpolicy.config.secrets import SecretError, read_secret

COST = 15
"""``ln`` of new hashes: 32 MB and about 0.1 s for each verification."""
MAX_MEMORY = 256 * 1024 * 1024
"""Bytes that one verification may take; a hash that needs more is refused."""
_PATTERN = re.compile(
    r"\$scrypt\$ln=([1-9]\d?),r=([1-9]\d?),p=([1-9]\d?)\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{43,86})"
)

_HASH = re.compile(r"(?:[^:\s]+:)?\$(?:scrypt|argon2(?:id?|d)|2[abxy]|apr1|[156y])\$[!-~]{25,}")
"""Hashes of several programs, with the user that ``htpasswd`` writes before them."""


class PasswordHashError(ValueError):
    """A text is not a password hash; the message does not repeat the text."""


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """A password hash: costs, salt and digest."""

    ln: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    @classmethod
    def create(cls, password: str, ln: int = COST) -> PasswordHash:
        """Hash a password with a random salt."""
        salt = secrets.token_bytes(16)
        return cls(ln, 8, 1, salt, _scrypt(password.encode(), salt, ln, 8, 1, 32))

    @classmethod
    def parse(cls, text: str) -> PasswordHash:
        """Parse a hash; raises ``PasswordHashError``."""
        found = _PATTERN.fullmatch(text.strip())
        if found is None:
            msg = "is not a password hash; make one with pexpolicy hash-password"
            raise PasswordHashError(msg)
        ln, r, p = (int(number) for number in found.groups()[:3])
        if _memory(ln, r, p) > MAX_MEMORY:
            msg = f"takes more than {MAX_MEMORY // 1024**2} MB to verify; use a smaller ln or r"
            raise PasswordHashError(msg)
        return cls(ln, r, p, _decode(found[4]), _decode(found[5]))

    def matches(self, password: bytes) -> bool:
        """Return whether this is the hashed password. Takes the time and the memory of scrypt."""
        size = len(self.digest)
        digest = _scrypt(password, self.salt, self.ln, self.r, self.p, size)
        return hmac.compare_digest(digest, self.digest)

    def __str__(self) -> str:
        costs = f"ln={self.ln},r={self.r},p={self.p}"
        return f"$scrypt${costs}${_encode(self.salt)}${_encode(self.digest)}"


def looks_like_hash(text: str) -> bool:
    """Return whether a text is a password hash, of any usual kind, and no password."""
    return _HASH.fullmatch(text.strip()) is not None


def _scrypt(password: bytes, salt: bytes, ln: int, r: int, p: int, size: int) -> bytes:
    memory = _memory(ln, r, p)
    return hashlib.scrypt(password, salt=salt, n=1 << ln, r=r, p=p, dklen=size, maxmem=memory)


def _memory(ln: int, r: int, p: int) -> int:
    """Return the bytes that OpenSSL needs (EVP_PBE_scrypt), with a margin."""
    return 128 * r * ((1 << ln) + p + 2) + 4096


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        msg = "is not a password hash: its salt or digest is cut off"
        raise PasswordHashError(msg) from None


@dataclass(frozen=True, slots=True)
class Credential:
    """A user with a password or a password hash."""

    user: str
    secret: SecretStr | PasswordHash = field(repr=False)


def credentials_of(auth: AuthTable, folder: Path) -> tuple[tuple[Credential, ...], list[Problem]]:
    """Return all credentials of ``[auth]``, and a problem for each that cannot be read.

    Files are relative to ``folder``.
    """
    credentials: list[Credential] = []
    problems: list[Problem] = []
    tables: list[tuple[Key, str | None, PasswordTable]] = [(("auth",), auth.user, auth)]
    named = enumerate(auth.credentials)
    tables += [(("auth", "credentials", number), one.user, one) for number, one in named]
    for key, user, table in tables:
        try:
            if user is not None:
                credentials.append(Credential(user, secret_of(table, folder)))
        except SecretError as error:
            problems.append(Problem((*key, error.key), str(error)))
    return tuple(credentials), problems


def secret_of(table: PasswordTable, folder: Path) -> SecretStr | PasswordHash:
    """Return the password or the hash of a user; raises ``SecretError``."""
    if table.password_hash is None and table.password_hash_file is None:
        source = table.secret("password")
        password = source.read(folder)
        if looks_like_hash(password):
            msg = (
                "holds a hash and no password: name it in password_hash_file, with a hash that "
                "pexpolicy hash-password prints"
            )
            raise SecretError(source.key, msg)
        return SecretStr(password)
    key = "password_hash"
    text = table.password_hash
    if text is None:
        key = "password_hash_file"
        text = read_secret("password_hash", None, table.password_hash_file, folder)
    try:
        return PasswordHash.parse(text)
    except PasswordHashError as error:
        raise SecretError(key, str(error)) from None
