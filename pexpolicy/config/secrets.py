"""Secrets: from environment variables and files, password hashes, and keys that sign."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from pydantic import SecretStr

from pexpolicy.config.files import EncodingError, decode_text, read_file, track_secret, why_unusable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
"""Names that a message repeats."""


class SecretError(Exception):
    """A secret could not be read; ``key`` is the configuration key that names its source."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True, slots=True)
class SecretSource:
    """The source of a secret: the key ``NAME_env`` (a variable) or ``NAME_file`` (a path)."""

    name: str
    variable: str | None
    file: str | None

    @property
    def places(self) -> int:
        """Number of the two keys that are set."""
        return (self.variable is not None) + (self.file is not None)

    @property
    def key(self) -> str:
        """The key that is set."""
        return f"{self.name}_{'env' if self.variable is not None else 'file'}"

    @property
    def keys(self) -> str:
        """Both keys, for messages."""
        return f"{self.name}_env (a variable) or {self.name}_file (a path)"

    def read(self, folder: Path) -> str:
        """Return the secret; raises ``SecretError``."""
        return read_secret(self.name, self.variable, self.file, folder)


def read_secret(name: str, variable: str | None, file: str | None, folder: Path) -> str:
    """Return a secret from an environment variable, else from a file relative to ``folder``.

    A line end after it is removed. Raises ``SecretError``, also for an empty one.
    """
    source = SecretSource(name, variable, file)
    if variable is not None:
        track_secret(variable)
        place, written = f"the environment variable {variable}", os.environ.get(variable)
        if written is None:
            # Another name may be the secret itself.
            other = f"is not a name: write one, such as PEXPOLICY_{name.upper()}, without $"
            text = f"{place} is not set: set it" if _VARIABLE.fullmatch(variable) else other
            raise SecretError(source.key, f"{text}, or write {name}_file")
    elif file is not None:
        path, place = folder / file, "the file"
        track_secret(path)
        try:
            written = decode_text(read_file(path))
        except OSError as error:
            text = f"{path} cannot be read: {why_unusable(path, error)}"
            raise SecretError(source.key, text) from None
        except EncodingError as error:
            raise SecretError(source.key, f"{path}: {error}") from None
    else:
        raise SecretError(f"{name}_env", f"is not set; write {source.keys}")
    value = written.rstrip("\r\n")
    if not value:
        raise SecretError(source.key, f"{place} is empty: write the {name} into it")
    if re.search(r"[\r\n]", value) and not value.startswith("-----BEGIN "):
        raise SecretError(source.key, f"{place} has several lines, and a secret is one line")
    return value


def revealed(secret: SecretStr | None) -> str:
    """Return the text of a secret; it is empty without one."""
    return "" if secret is None else secret.get_secret_value()


COST = 15
"""``ln`` of new hashes: 32 MB and about 0.1 s for each verification."""
MAX_MEMORY = 256 * 1024 * 1024
"""Bytes that one verification may take; a hash that needs more is refused."""
_PASSWORD_HASH = re.compile(
    r"\$scrypt\$ln=([1-9]\d?),r=([1-9]\d?),p=([1-9]\d?)\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{43,86})"
)


class PasswordHash(NamedTuple):
    """A password hash: costs, salt and digest.

    It is written in the PHC string format (github.com/P-H-C/phc-string-format), salt and digest in
    base64 without its padding: ``$scrypt$ln=15,r=8,p=1$SALT$DIGEST``; ``ln`` is the logarithm of
    the cost.
    """

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
        if (found := _PASSWORD_HASH.fullmatch(text.strip())) is None:
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


MAKE_PRIVATE = "make one with: openssl genpkey -algorithm ed25519"


class InvalidKeyError(ValueError):
    """A text is not an Ed25519 key in PEM."""


def private_key(pem: str) -> Ed25519PrivateKey:
    """Parse a private key in PEM (PKCS #8) without a password; raises ``InvalidKeyError``."""
    if (found := _ed25519("private", pem.encode(), None)) is None:
        raise InvalidKeyError(f"is not an Ed25519 key in PEM without a password; {MAKE_PRIVATE}")
    return cast("Ed25519PrivateKey", found)


def public_key(pem: bytes) -> Ed25519PublicKey:
    """Parse a public key in PEM; raises ``InvalidKeyError``."""
    if (found := _ed25519("public", pem)) is None:
        raise InvalidKeyError("is not an Ed25519 public key in PEM")
    return cast("Ed25519PublicKey", found)


def _ed25519(kind: str, *given: bytes | None) -> object:
    """Return a key of the kind private or public; ``None`` for anything else."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - only if there is a key
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - the same
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - the same

    try:
        found: object = getattr(serialization, f"load_pem_{kind}_key")(*given)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return found if isinstance(found, getattr(ed25519, f"Ed25519{kind.title()}Key")) else None


def is_signed(key: Ed25519PublicKey, content: bytes, signature: bytes) -> bool:
    """Return whether a signature of the content was made with the other half of a key."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - only if there is a key

    with suppress(InvalidSignature):
        key.verify(signature, content)
        return True
    return False
