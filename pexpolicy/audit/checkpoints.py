"""Signed checkpoints: the position of a chain, signed with a private key.

A process that may write the file can replace the whole chain. A checkpoint that was copied to
another machine (it is on standard error too) proves that, and that lines after it were removed.
"""

from __future__ import annotations

import base64
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from pexpolicy.audit.hash_chain import HashChain
from pexpolicy.config.signing_key import InvalidKeyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CHECKPOINT, END = "checkpoint", "end"
"""Events: further lines may follow, or the writer has ended and none may."""
MAKE_PUBLIC = "make it from the signing key: openssl pkey -in sign.pem -pubout -out public.pem"


class Checkpoint(msgspec.Struct):
    """The line of a checkpoint: line ``covers`` of the chain ``boot_id`` has the hash ``head``."""

    timestamp: datetime
    event: str
    boot_id: str
    covers: int
    head: str
    signature: str


class Signer:
    """Signs after ``lines`` new lines, or ``seconds`` after the last time if there is one."""

    def __init__(self, key: Ed25519PrivateKey, lines: int, seconds: float) -> None:
        self._key = key
        self._lines = lines
        self._seconds = seconds
        self._covered = 0
        self._signed_at = -math.inf

    def is_due(self, chain: HashChain, now: float) -> bool:
        """Return whether a checkpoint is due."""
        new = chain.seq - self._covered
        return new >= self._lines or (new > 0 and now - self._signed_at >= self._seconds)

    def line(self, chain: HashChain, event: str = CHECKPOINT) -> bytes:
        """Return a checkpoint, or the end, for the lines so far; write it as the next line."""
        head = chain.head.decode()
        signature = self._key.sign(statement(event, chain.boot_id, chain.seq, head))
        line = {
            "timestamp": datetime.now(UTC),
            "event": event,
            "covers": chain.seq,
            "head": head,
            "signature": base64.b64encode(signature).decode(),
        }
        return msgspec.json.encode(line)

    def wrote(self, chain: HashChain, now: float) -> None:
        """Record that the last line of the chain is a checkpoint."""
        self._covered, self._signed_at = chain.seq, now


def unsigned_end() -> bytes:
    """Return the last line of a writer without a key."""
    return msgspec.json.encode({"timestamp": datetime.now(UTC), "event": END})


def statement(event: str, boot_id: str, covers: int, head: str) -> bytes:
    """Return the signed bytes."""
    return f"pexpolicy audit {event}\n{boot_id}\n{covers}\n{head}\n".encode()


class Verifier:
    """Verifies the signatures of checkpoints with a public key in PEM.

    Raises ``InvalidKeyError``.
    """

    def __init__(self, pem: bytes) -> None:
        from cryptography.exceptions import (  # noqa: PLC0415 - only verify needs it
            InvalidSignature,
            UnsupportedAlgorithm,
        )
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - the same
            Ed25519PublicKey,
        )
        from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - the same
            load_pem_public_key,
        )

        try:
            key = load_pem_public_key(pem)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            msg = f"is not a public key in PEM; {MAKE_PUBLIC}"
            raise InvalidKeyError(msg) from None
        if not isinstance(key, Ed25519PublicKey):
            msg = f"is not an Ed25519 key; {MAKE_PUBLIC}"
            raise InvalidKeyError(msg)
        self._key = key
        self._invalid = InvalidSignature

    def is_valid(self, checkpoint: Checkpoint) -> bool:
        """Return whether the signature of a checkpoint is valid."""
        signed = statement(checkpoint.event, checkpoint.boot_id, checkpoint.covers, checkpoint.head)
        try:
            self._key.verify(base64.b64decode(checkpoint.signature), signed)
        except (self._invalid, ValueError):
            return False
        return True
