"""Secrets from environment variables and files, and the key that signs the audit."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pexpolicy.config.files import EncodingError, decode_text, read_file, track_file, why_unusable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

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
    if variable is not None:
        key, place = f"{name}_env", f"the environment variable {variable}"
        written = os.environ.get(variable, "")
        if not written:
            state = "empty" if variable in os.environ else "not set"
            if not _VARIABLE.fullmatch(variable):
                # It may be the secret itself.
                text = (
                    "there is no environment variable of this name; write the name of one, such as "
                    f"PEXPOLICY_{name.upper()}, without $ and not the secret, or write {name}_file"
                )
                raise SecretError(key, text)
            raise SecretError(key, f"{place} is {state}; set it, or write {name}_file")
    else:
        if file is None:
            raise SecretError(f"{name}_env", f"is not set; write {name}_env or {name}_file")
        key, place = f"{name}_file", "the file"
        track_file(folder / file)
        try:
            written = decode_text(read_file(folder / file))
        except OSError as error:
            text = f"{folder / file} cannot be read: {why_unusable(folder / file, error)}"
            if isinstance(error, FileNotFoundError) and ";" not in text:
                text += f"; write the {name.replace('_', ' ')} into it"
            raise SecretError(key, text) from None
        except EncodingError as error:
            raise SecretError(key, f"{folder / file}: {error}") from None
    value = written.rstrip("\r\n")
    if not value:
        raise SecretError(key, f"{place} is empty: write the {name.replace('_', ' ')} into it")
    if re.search(r"[\r\n]", value) and not value.startswith("-----BEGIN "):
        raise SecretError(key, f"{place} has several lines, and a secret is one line")
    return value


MAKE_PRIVATE = "make one with: openssl genpkey -algorithm ed25519"


class InvalidKeyError(ValueError):
    """A text is not an Ed25519 key in PEM."""


def private_key(pem: str) -> Ed25519PrivateKey:
    """Parse a private key in PEM (PKCS #8) without a password; raises ``InvalidKeyError``."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - only if there is a key
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - the same
        Ed25519PrivateKey,
    )
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - the same
        load_pem_private_key,
    )

    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        msg = f"is not a private key in PEM without a password; {MAKE_PRIVATE}"
        raise InvalidKeyError(msg) from None
    if not isinstance(key, Ed25519PrivateKey):
        msg = f"is not an Ed25519 key; {MAKE_PRIVATE}"
        raise InvalidKeyError(msg)
    return key
