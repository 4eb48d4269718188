"""What the arbiter and its workers say to each other, over one socket for each worker."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from pexpolicy.reload.verdict import Verdict

LENGTH = 8
"""Bytes before each message that hold its length."""
AT_ONCE = 1 << 20
"""Bytes that are read in one piece."""
PATIENCE = 5.0
"""Seconds in which a worker must have taken a message."""


class Prepare(msgspec.Struct, tag=True, frozen=True):
    """To a worker: build and open the policy of this content of the configuration file."""

    content: bytes


class Commit(msgspec.Struct, tag=True, frozen=True):
    """To a worker: put in force what was prepared."""


class Abandon(msgspec.Struct, tag=True, frozen=True):
    """To a worker: close what was prepared."""


class Serving(msgspec.Struct, tag=True, frozen=True):
    """From a worker: it answers calls. ``files`` are those that its policy was made of."""

    announcement: str
    config_hash: str
    files: tuple[str, ...]


class Prepared(msgspec.Struct, tag=True, frozen=True):
    """From a worker: a policy is open and waits."""

    config_hash: str


class Refused(msgspec.Struct, tag=True, frozen=True):
    """From a worker: the configuration cannot be used."""

    problems: tuple[str, ...]
    temporary: bool = False
    """True where a plugin did not open what it needs: another attempt may succeed."""
    files: tuple[str, ...] = ()
    """Those that were read for it."""


class Committed(msgspec.Struct, tag=True, frozen=True):
    """From a worker: what was prepared is in force."""

    verdict: Verdict
    files: tuple[str, ...]


Order = Prepare | Commit | Abandon
Report = Serving | Prepared | Refused | Committed

_encode = msgspec.msgpack.Encoder().encode
_orders: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
_reports: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)


def framed(message: Order | Report) -> bytes:
    """A message with its length before it."""
    content = _encode(message)
    return len(content).to_bytes(LENGTH, "big") + content


class Link:
    """The arbiter's end of the socket to one worker."""

    def __init__(self, end: socket.socket, patience: float = PATIENCE) -> None:
        self._end = end
        self._rest = bytearray()
        end.settimeout(patience)

    def fileno(self) -> int:
        """The descriptor, for a selector."""
        return self._end.fileno()

    def send(self, order: Order) -> None:
        """Send; raises ``OSError`` for a worker that is gone or takes nothing."""
        self._end.sendall(framed(order))

    def receive(self) -> Iterator[Report]:
        """The reports that have come; raises ``EOFError`` when the worker is gone.

        Call it when there is something to read.
        """
        piece = self._end.recv(AT_ONCE)
        if not piece:
            raise EOFError
        self._rest += piece
        while len(self._rest) >= LENGTH:
            end = LENGTH + int.from_bytes(self._rest[:LENGTH], "big")
            if len(self._rest) < end:
                return
            content = bytes(self._rest[LENGTH:end])
            del self._rest[:end]
            yield _reports.decode(content)

    def break_off(self) -> None:
        """Say no more, for half a message may have been said; both ends then hear the end."""
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        self._end.close()


async def next_order(reader: asyncio.StreamReader) -> Order | None:
    """The next message of the arbiter; ``None`` when it is gone."""
    try:
        length = int.from_bytes(await reader.readexactly(LENGTH), "big")
        return _orders.decode(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
