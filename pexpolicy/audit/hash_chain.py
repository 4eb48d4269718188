"""The seal on each line: its number, whose line it is, and the hash that chains it.

A sealed line ends in ``"boot_id":"…","seq":N,"hash":"…"``. The hash is SHA-256 over the hash of the
line before it by the same writer (in hexadecimal digits; nothing for the first one) and over the
bytes of this line up to the hash. Each start of each writer is a chain of its own, named by its
``boot_id``, so several of them share a file. The first line that a writer adds to a further file
also has ``prev``, the hash before it: what is in one file can be verified without the others.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from hashlib import sha256

import msgspec

Position = tuple[int, bytes, int, bool]
"""Where a chain stands."""


class HashChain:
    """Seals the lines of one writer, in the order in which they are written.

    ``line`` gives the sealed line and changes nothing; ``advance`` is called once it is written. So
    do ``lines`` and ``advance_to``.
    """

    def __init__(self, instance: str | None = None, boot_id: str | None = None) -> None:
        self.boot_id = boot_id or secrets.token_hex(8)
        self.seq = 0
        self.head = b""
        """The hash of the last line, in hexadecimal digits."""
        self.lost = 0
        """Lines that were given up since the last one; the next one says so."""
        self.mark = b',"boot_id":"%b","seq":' % self.boot_id.encode()
        """What is in each line of this writer, and of no other."""
        named = b'"instance":%b,' % msgspec.json.encode(instance) if instance else b""
        self._tail = b",%b%b" % (named, self.mark[1:])
        self._introduces = True
        self._next = b""

    def line(self, body: bytes) -> bytes:
        """A JSON object as the next line, with its line end."""
        tail = self._tail
        if self._introduces or self.lost:
            tail = self._remarks() + tail
        text = b"%b%b%d" % (body[:-1], tail, self.seq + 1)
        self._next = digest = sha256(self.head + text).hexdigest().encode()
        return b'%b,"hash":"%b"}\n' % (text, digest)

    def _remarks(self) -> bytes:
        prev = b',"prev":"%b"' % self.head if self._introduces and self.head else b""
        return prev + (b',"lost_count":%d' % self.lost if self.lost else b"")

    def advance(self) -> None:
        """The line that was made last stands where it belongs."""
        self.seq += 1
        self.head = self._next
        self.lost = 0
        self._introduces = False

    def lines(self, bodies: Iterable[bytes]) -> tuple[bytes, Position]:
        """JSON objects as the next lines, and where the chain stands behind them."""
        before = self._position()
        sealed = []
        try:
            for body in bodies:
                sealed.append(self.line(body))
                self.advance()
            return b"".join(sealed), self._position()
        finally:
            self.advance_to(before)

    def _position(self) -> Position:
        return self.seq, self.head, self.lost, self._introduces

    def advance_to(self, position: Position) -> None:
        """The lines up to there stand where they belong."""
        self.seq, self.head, self.lost, self._introduces = position

    def introduce(self) -> None:
        """The next line is the first one in another file."""
        self._introduces = True


class NoHashChain(HashChain):
    """For lines that somebody watches on a terminal: they are no record."""

    def line(self, body: bytes) -> bytes:
        """The line with its line end."""
        return body.rstrip(b"\n") + b"\n"
