"""Signed checkpoints: where a chain stands, in words that only the holder of the key can write.

Whoever may write the file can write a whole new chain. A checkpoint that was copied elsewhere (it
is on standard error, too) shows that, and that lines behind it were cut off.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from pexpolicy.audit.hash_chain import HashChain
from pexpolicy.config.signing_key import InvalidKeyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CHECKPOINT, END = "checkpoint", "end"
"""Events: lines will follow, or the writer has ended and none will."""
MAKE_PUBLIC = "make it of the one that signs: openssl pkey -in sign.pem -pubout -out public.pem"


class Checkpoint(msgspec.Struct):
    """The line of a checkpoint: the line ``covers`` of its writer has the hash ``head``. Its
    ``boot_id`` is in the seal.
    """

    timestamp: datetime
    event: str
    boot_id: str
    covers: int
    head: str
    signature: str


class Signer:
    """Signs after so many lines, or after so many seconds when there were any."""

    def __init__(self, key: Ed25519PrivateKey, lines: int, seconds: float) -> None:
        self._key = key
        self._lines = lines
        self._seconds = seconds
        self._covered = 0
        self._signed_at = 0.0

    def is_due(self, seal: HashChain, now: float) -> bool:
        """True when it is time for one."""
        new = seal.seq - self._covered
        return new >= self._lines or (new > 0 and now - self._signed_at >= self._seconds)

    def line(self, seal: HashChain, now: float, event: str = CHECKPOINT) -> bytes:
        """A checkpoint over the lines so far, or the end; its own line follows."""
        head = seal.head.decode()
        signature = self._key.sign(statement(event, seal.boot_id, seal.seq, head))
        self._covered, self._signed_at = seal.seq + 1, now
        line = {
            "timestamp": datetime.now(UTC),
            "event": event,
            "covers": seal.seq,
            "head": head,
            "signature": base64.b64encode(signature).decode(),
        }
        return msgspec.json.encode(line)


def unsigned_end() -> bytes:
    """The last line of a writer that has no key."""
    return msgspec.json.encode({"timestamp": datetime.now(UTC), "event": END})


def statement(event: str, boot_id: str, covers: int, head: str) -> bytes:
    """The bytes that are signed."""
    return f"pexpolicy audit {event}\n{boot_id}\n{covers}\n{head}\n".encode()


class Verifier:
    """Tells whether a checkpoint was signed with the key that belongs to a public key in PEM.

    Raises ``InvalidKeyError``.
    """

    def __init__(self, pem: bytes) -> None:
        from cryptography.exceptions import (  # noqa: PLC0415 - for who verifies
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
            msg = f"is no public key in PEM; {MAKE_PUBLIC}"
            raise InvalidKeyError(msg) from None
        if not isinstance(key, Ed25519PublicKey):
            msg = f"is no Ed25519 key; {MAKE_PUBLIC}"
            raise InvalidKeyError(msg)
        self._key = key
        self._invalid = InvalidSignature

    def holds(self, checkpoint: Checkpoint) -> bool:
        """True for a checkpoint whose signature fits."""
        signed = statement(checkpoint.event, checkpoint.boot_id, checkpoint.covers, checkpoint.head)
        try:
            self._key.verify(base64.b64decode(checkpoint.signature), signed)
        except (self._invalid, ValueError):
            return False
        return True
