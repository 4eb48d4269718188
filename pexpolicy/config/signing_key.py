"""Ed25519 key that signs checkpoints of the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

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
