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
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import SecretStr

from pexpolicy.config.problems import Key, Problem
from pexpolicy.config.schema.server import (
    AuthTable,
    CredentialTable,
    EventSourceTable,
    PasswordTable,
)
from pexpolicy.config.secrets import SecretError, read_secret

COST = 15
"""``ln`` of new hashes: 32 MB and about 0.1 s for each verification."""
MAX_MEMORY = 256 * 1024 * 1024
"""Bytes that one verification may take; a hash that needs more is refused."""
_PATTERN = re.compile(
    r"\$scrypt\$ln=([1-9]\d?),r=([1-9]\d?),p=([1-9]\d?)\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{43,86})"
)


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
        made = cls(ln, 8, 1, secrets.token_bytes(16), bytes(32))
        return replace(made, digest=made._scrypt(password.encode()))

    @classmethod
    def parse(cls, text: str) -> PasswordHash:
        """Parse a hash; raises ``PasswordHashError``."""
        found = _PATTERN.fullmatch(text.strip())
        if found is None:
            raise PasswordHashError("is not a password hash; make one with pexpolicy hash-password")
        try:
            salt, digest = (b64decode(part + "=" * (-len(part) % 4)) for part in found.groups()[3:])
        except ValueError:
            msg = "is not a password hash: its salt or digest is cut off"
            raise PasswordHashError(msg) from None
        read = cls(int(found[1]), int(found[2]), int(found[3]), salt, digest)
        if read._memory > MAX_MEMORY:
            msg = f"takes more than {MAX_MEMORY // 1024**2} MB to verify; use a smaller ln or r"
            raise PasswordHashError(msg)
        return read

    def matches(self, password: bytes) -> bool:
        """Return whether this is the hashed password. Takes the time and the memory of scrypt."""
        return hmac.compare_digest(self._scrypt(password), self.digest)

    def __str__(self) -> str:
        salt, digest = (b64encode(part).decode().rstrip("=") for part in (self.salt, self.digest))
        return f"$scrypt$ln={self.ln},r={self.r},p={self.p}${salt}${digest}"

    @property
    def _memory(self) -> int:
        """The bytes that OpenSSL needs (EVP_PBE_scrypt), with a margin."""
        return 128 * self.r * ((1 << self.ln) + self.p + 2) + 4096

    def _scrypt(self, password: bytes) -> bytes:
        return hashlib.scrypt(
            password,
            salt=self.salt,
            n=1 << self.ln,
            r=self.r,
            p=self.p,
            dklen=len(self.digest),
            maxmem=self._memory,
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
    key, text = "password_hash", getattr(table, "password_hash", None)
    if isinstance(table, PasswordTable) and table.password_hash_file is not None:
        key = "password_hash_file"
        text = read_secret("password_hash", None, table.password_hash_file, folder)
    if text is None:
        return SecretStr(table.secret("password").read(folder))
    try:
        return PasswordHash.parse(text)
    except PasswordHashError as error:
        raise SecretError(key, str(error)) from None
