"""Credentials of ``[auth]``, and password hashes: scrypt in the PHC string format.

``$scrypt$ln=15,r=8,p=1$SALT$DIGEST``, salt and digest in base64 without its padding. The format is
that of the password hashing competition (github.com/P-H-C/phc-string-format); ``ln`` is the
logarithm of the cost.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from pexpolicy.config.problems import Key, Problem
from pexpolicy.config.schema.server import (
    AuthTable,
    CredentialTable,
    EventSourceTable,
    PasswordTable,
)
from pexpolicy.config.secrets import SecretError

COST = 15
"""``ln`` of new hashes: 32 MB and about 0.1 s for each verification."""
MAX_MEMORY = 256 * 1024 * 1024
"""Bytes that one verification may take; a hash that needs more is refused."""
_PATTERN = re.compile(
    r"\$scrypt\$ln=([1-9]\d?),r=([1-9]\d?),p=([1-9]\d?)\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{43,86})"
)


class PasswordHash(NamedTuple):
    """A password hash: costs, salt and digest."""

    ln: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    @classmethod
    def create(cls, password: str, ln: int = COST) -> PasswordHash:
        """Hash a password with a random salt."""
        made = cls(ln, 8, 1, secrets.token_bytes(16), bytes(32))
        return made._replace(digest=made._scrypt(password.encode()))

    @classmethod
    def parse(cls, text: str, key: str = "password_hash") -> PasswordHash:
        """Parse a hash; raises ``SecretError`` with the key, which does not repeat the text."""
        wrong = "is not a password hash; make one with pexpolicy hash-password"
        if (found := _PATTERN.fullmatch(text.strip())) is None:
            raise SecretError(key, wrong)
        ln, r, p, *parts = found.groups()
        try:
            salt, digest = (b64decode(part + "=" * (-len(part) % 4)) for part in parts)
        except ValueError:
            raise SecretError(key, wrong) from None
        read = cls(int(ln), int(r), int(p), salt, digest)
        if 128 * read.r << read.ln >= MAX_MEMORY:
            most = f"{MAX_MEMORY // 1024**2} MB"
            raise SecretError(key, f"takes more than {most} to verify; use a smaller ln or r")
        return read

    def matches(self, password: bytes) -> bool:
        """Return whether this is the hashed password. Takes the time and the memory of scrypt."""
        return hmac.compare_digest(self._scrypt(password), self.digest)

    def __str__(self) -> str:
        salt, digest = (b64encode(part).decode().rstrip("=") for part in (self.salt, self.digest))
        return f"$scrypt$ln={self.ln},r={self.r},p={self.p}${salt}${digest}"

    def _scrypt(self, password: bytes) -> bytes:
        return hashlib.scrypt(
            password,
            salt=self.salt,
            n=1 << self.ln,
            r=self.r,
            p=self.p,
            dklen=len(self.digest),
            maxmem=2 * MAX_MEMORY,  # OpenSSL needs a little more
        )


@dataclass(frozen=True, slots=True)
class Credential:
    """A user with a password or a password hash."""

    user: str
    secret: SecretStr | PasswordHash = field(repr=False)


def credentials_of(
    tables: Mapping[Key, AuthTable | CredentialTable | EventSourceTable], folder: Path
) -> tuple[dict[Key, Credential], list[Problem]]:
    """Return the credential of each table by its key, and a problem for each that cannot be read.

    Files are relative to ``folder``.
    """
    found: dict[Key, Credential] = {}
    problems: list[Problem] = []
    for key, table in tables.items():
        try:
            found[key] = Credential(table.user or "", secret_of(table, folder))
        except SecretError as error:
            problems.append(Problem((*key, error.key), str(error)))
    return found, problems


def secret_of(table: PasswordTable | EventSourceTable, folder: Path) -> SecretStr | PasswordHash:
    """Return the password or the hash of a user; raises ``SecretError``."""
    if (source := table.secret("password_hash")).places:
        return PasswordHash.parse(source.read(folder), source.key)
    if isinstance(table, PasswordTable) and table.password_hash is not None:
        return PasswordHash.parse(table.password_hash)
    return SecretStr(table.secret("password").read(folder))
