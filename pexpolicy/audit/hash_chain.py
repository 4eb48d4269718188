"""The hash chain: the number and the hash at the end of each line.

A chained line ends in ``"boot_id":"…","seq":N,"hash":"…"``. The hash is SHA-256 over the hash of
the previous line of the same writer (hexadecimal digits; empty for the first line) and over the
bytes of this line up to the hash. Each start of each writer is a chain of its own, identified by
its ``boot_id``, so several chains share a file. The first line that a writer adds to a file has
``after``, the line of any writer before it, or in an empty file ``previous_file``, the last line of
the file before it, so that no chain or file can be moved or removed. In a further file it also has
``prev``, the hash of the line before it in its chain, so that one file can be verified alone. With
a key, this line is a signed checkpoint.
"""

from __future__ import annotations

import base64
import math
import re
import secrets
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from pexpolicy.audit.records import encode, line_of
from pexpolicy.config.secrets import is_signed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

_TAIL = rb',"boot_id":"([0-9a-f]{16})","seq":(\d{1,18}),"hash":"([0-9a-f]{64})"\}'
TAIL, _LINE_END = re.compile(_TAIL + rb"\Z"), re.compile(_TAIL + rb"\n")
"""The end of a chained line: ``boot_id``, ``seq`` and ``hash``."""

Position = tuple[int, bytes, int, bool]
"""A position in a chain: ``seq`` and ``head`` of the last line, the lines lost since then, and
whether the next line starts a file.
"""


class HashChain:
    """Chains the lines of one writer, in the order in which they are written.

    ``chain_lines`` changes nothing; pass its position to ``commit`` after the lines are written.
    """

    def __init__(self, instance: str | None = None) -> None:
        self.boot_id = secrets.token_hex(8)
        self.seq = 0
        self.signer: Signer | None = None
        self.head = b""
        """Hash of the last line, in hexadecimal digits."""
        self.lost = 0
        """Lines lost since the last one; the next line has the number."""
        self.mark = b',"boot_id":"%b","seq":' % self.boot_id.encode()
        """Bytes that occur in each line of this writer, and of no other."""
        named = b'"instance":%b,' % msgspec.json.encode(instance) if instance else b""
        self._tail = b",%b%b" % (named, self.mark[1:])
        self.starts_file = True
        """Whether the next line is the first one in a file."""

    def chain_lines(
        self, *bodies: bytes, before: bytes = b"", is_mark: bool = False
    ) -> tuple[bytes, Position]:
        """Return JSON objects as the next lines, with their line ends, and the position after.

        ``before``: what names the line before, as JSON. ``is_mark``: the object is signed itself.
        """
        seq, head, lost, starts_file = self.seq, self.head, self.lost, self.starts_file
        if starts_file and self.signer is not None and not is_mark:
            bodies = self.signer.line(self), *bodies
        lines = []
        for body in bodies:
            tail = self._tail
            if starts_file or lost:
                prev = b',"prev":"%b"' % head if starts_file and head else b""
                prev += before if starts_file else b""
                tail = prev + (b',"lost_count":%d' % lost if lost else b"") + tail
                starts_file, lost = False, 0
            seq += 1
            text = b"%b%b%d" % (body[:-1], tail, seq)
            head = sha256(head + text).hexdigest().encode()
            lines.append(b'%b,"hash":"%b"}\n' % (text, head))
        return b"".join(lines), (seq, head, lost, starts_file)

    def commit(self, position: Position) -> None:
        """Record that the lines up to ``position`` are written."""
        self.seq, self.head, self.lost, self.starts_file = position


def last_position(content: bytes) -> bytes:
    """Return the last line of a chain as ``BOOT_ID:SEQ:HASH``; empty if there is none."""
    while (at := content.rfind(b',"boot_id":"')) >= 0:
        if match := _LINE_END.match(content, at):
            return b":".join(match.groups())
        content = content[:at]
    return b""


CHECKPOINT_LINES = 10_000
"""Lines between two checkpoints."""
CHECKPOINT_INTERVAL_S = 60.0
"""Between two checkpoints, when there are lines to sign."""
CHECKPOINT, END = "checkpoint", "end"
"""Events: further lines may follow, or the writer has ended and none may."""


class Signer:
    """Signs after ``lines`` new lines, or a while after the last time if there is one."""

    def __init__(self, key: Ed25519PrivateKey, lines: int = CHECKPOINT_LINES) -> None:
        self._key = key
        self._lines = lines
        self._covered = 0
        self._signed_at = -math.inf

    def is_due(self, chain: HashChain, now: float) -> bool:
        """Return whether a checkpoint is due."""
        new = chain.seq - self._covered
        return new >= self._lines or (new > 0 and now - self._signed_at >= CHECKPOINT_INTERVAL_S)

    def line(self, chain: HashChain, event: str = CHECKPOINT) -> bytes:
        """Return a checkpoint, or the end, for the lines so far; write it as the next line."""
        head = chain.head.decode()
        signature = self._key.sign(statement(event, chain.boot_id, chain.seq, head))
        signed = base64.b64encode(signature).decode()
        return encode(line_of(event, covers=chain.seq, head=head, signature=signed))

    def wrote(self, chain: HashChain, now: float) -> None:
        """Record that the last line of the chain is a checkpoint."""
        self._covered, self._signed_at = chain.seq, now


def statement(event: str, boot_id: str, covers: int, head: str) -> bytes:
    """Return the signed bytes: line ``covers`` of the chain ``boot_id`` has the hash ``head``."""
    return f"pexpolicy audit {event}\n{boot_id}\n{covers}\n{head}\n".encode()


def is_valid(signature: str, signed: bytes, key: Ed25519PublicKey) -> bool:
    """Return whether the signature of a checkpoint is valid."""
    try:
        return is_signed(key, signed, base64.b64decode(signature))
    except ValueError:
        return False
