"""Frames of the messages between the server and a worker: a length, and the message."""

from __future__ import annotations

from collections.abc import Iterator

from pexpolicy.isolation.messages import BuildRequest, Message, WorkerError, encode

MAX_FRAME = 16 * 1024 * 1024
"""Bytes; more than the largest picture."""
LENGTH = 4
"""Bytes of the length before a frame, big-endian."""


def framed(message: Message) -> bytes:
    """Encode a message with its length prefix; raises ``WorkerError`` for one that is too long.

    A ``BuildRequest`` has no limit.
    """
    frame = encode(message)
    if len(frame) > MAX_FRAME and not isinstance(message, BuildRequest):
        msg = f"{len(frame)} bytes exceed the limit of a message ({MAX_FRAME})"
        raise WorkerError(msg)
    return len(frame).to_bytes(LENGTH, "big") + frame


class FrameDecoder:
    """Decoder of frames, of ``limit`` bytes at most, from the chunks that arrive."""

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._rest = bytearray()
        self._limit = limit

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the complete frames; raises ``WorkerError`` for one that is too long."""
        rest = self._rest
        rest += piece
        while len(rest) >= LENGTH:
            end = LENGTH + int.from_bytes(rest[:LENGTH], "big")
            if end > LENGTH + self._limit:
                msg = "its worker sent a message that is too long"
                raise WorkerError(msg)
            if len(rest) < end:
                return
            frame = bytes(rest[LENGTH:end])
            del rest[:end]
            yield frame
