"""The private key that signs checkpoints of the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAKE_PRIVATE = "make one with: openssl genpkey -algorithm ed25519"


class InvalidKeyError(ValueError):
    """What was given is no Ed25519 key in PEM, or nothing here can read one."""


def private_key(pem: str) -> Ed25519PrivateKey:
    """The key that signs, from PEM (PKCS #8) without a password; raises ``InvalidKeyError``."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - for who signs
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - the same
        Ed25519PrivateKey,
    )
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - the same
        load_pem_private_key,
    )

    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        msg = f"is no private key in PEM without a password; {MAKE_PRIVATE}"
        raise InvalidKeyError(msg) from None
    if not isinstance(key, Ed25519PrivateKey):
        msg = f"is no Ed25519 key; {MAKE_PRIVATE}"
        raise InvalidKeyError(msg)
    return key
