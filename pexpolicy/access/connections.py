"""Open connections: limits in total and for each address, deadlines, and eviction.

A connection *waits* until a call on it was admitted. A flood consists of such connections, so the
oldest one is evicted where a new one would exceed a limit. One with an admitted call, or whose
credentials are being verified, is never evicted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

MAX_BUFFERED = 32 << 20
"""Bytes of incomplete requests together; the oldest of them is evicted above it."""
Deadlines = dict["Connection", float]
"""When each connection is late, in order: all of them have the same time."""


class ConnectionLimits(NamedTuple):
    """The limits of a listener. All times are in seconds."""

    total: int = 10_000
    """Open connections."""
    waiting: int = 10_000
    """Those on which no call was admitted yet."""
    per_peer: int = 250
    """Those of one address; it does not apply to trusted proxies."""
    header_bytes: int = 1 << 16
    """Size of a request: the request line and all headers together."""
    body_bytes: int = 0
    """Size of a body, for the paths that begin with ``body_prefix``."""
    body_prefix: bytes = b"/"
    streamed: bytes | None = None
    """The path of requests whose bodies are given to their handler as they arrive."""
    request_seconds: float = 10.0
    """Time for a request to arrive, for a TLS handshake, and for the client to read a reply."""
    idle_seconds: float = 3600.0
    """How long a connection may be idle after an admitted call."""


class ConnectionLimitError(Exception):
    """The limit is reached, and no connection can be evicted."""


@dataclass(slots=True, eq=False)
class AuthenticatedRequest:
    """An admitted request: the access control that admitted it, its headers and its client.

    ``forwarded`` is unset for a connection that is not from a trusted proxy.
    """

    access: object
    authorization: bytes
    forwarded: str | None
    peer: str
    credential: int = 0
    """The number of its credential, if there are several."""
    environment: str | None = None
    """That of ``[environments]`` that it is of."""


def _nothing(*_: object) -> None:
    """Do nothing: a connection is not open yet, or not any more."""


@dataclass(slots=True, eq=False)
class Connection:
    """One accepted connection from the address ``peer``; ``close`` closes it at once."""

    peer: str = ""
    close: Callable[[], object] = _nothing
    expire: Callable[[bool], object] = _nothing
    """Called when a deadline has passed, with whether it is that of a reply."""
    admission: AuthenticatedRequest | None = None
    """The last request on it that was admitted."""
    not_after: float | None = None
    """When the certificate of the client expires, in seconds since the epoch."""
    is_revoked: bool = False
    _owner: Connections | None = None
    _buffered: int = 0

    def admit(self, admission: AuthenticatedRequest) -> None:
        """Store an admitted request; from now on the connection is not evicted."""
        self.hold()
        self.admission = admission

    def hold(self) -> None:
        """Exempt the connection from eviction while its credentials are verified."""
        if self._owner is not None:
            self._owner.waiting.pop(self, None)

    def wait(self) -> None:
        """Be the newest of the waiting connections: nothing was asked yet, or it was refused."""
        owner = self._owner
        if owner is not None and self.admission is None:
            owner.waiting.pop(self, None)
            owner.waiting[self] = owner.deadline()

    def received(self, size: int, *, is_new: bool = False) -> None:
        """Note how many bytes of an incomplete request are stored; ``is_new``: its first ones."""
        owner = self._owner
        if owner is None:
            return
        if is_new or not size:
            owner.incomplete.pop(self, None)
        owner.buffered += size - self._buffered
        self._buffered = size
        if size:
            owner.incomplete.setdefault(self, owner.deadline())
            if owner.buffered > MAX_BUFFERED:
                owner.evict(next(iter(owner.incomplete)))

    def sending(self) -> None:
        """Start the time in which the client has to read a reply."""
        if self._owner is not None:
            self._owner.unread[self] = self._owner.deadline()

    def sent(self) -> None:
        """End that time: the reply was read."""
        if self._owner is not None:
            self._owner.unread.pop(self, None)

    def ended(self) -> None:
        """Stop counting the connection: it was closed. A second time does nothing."""
        owner = self._owner
        if owner is not None:
            self.hold()
            self.received(0)
            self.sent()
            self._owner = None
            owner.leave(self)
        # They refer to the protocol, which refers to this.
        self.close = self.expire = _nothing

    def has_expired(self) -> bool:
        """Return whether the certificate of the client has expired."""
        return self.not_after is not None and self.not_after < time.time()


class Connections:
    """Counts connections within limits. ``on_eviction`` is called with each that is evicted."""

    buffered = 0
    """Bytes of incomplete requests."""
    _count = 0

    def __init__(
        self,
        limits: ConnectionLimits,
        on_eviction: Callable[[Connection], object] = _nothing,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._limits = limits
        self._on_eviction = on_eviction
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._peers: dict[str, dict[Connection, None]] = {}
        self.waiting: Deadlines = {}
        self.incomplete: Deadlines = {}
        """Connections from which a part of a request was received."""
        self.unread: Deadlines = {}
        """Connections whose client has not read a reply yet."""

    def __len__(self) -> int:
        return self._count

    def deadline(self) -> float:
        """Return when what begins now is late."""
        return self._clock() + self._limits.request_seconds

    def add(self, connection: Connection, *, shared: bool = False) -> None:
        """Count a new connection, and evict another one if that is needed.

        ``shared``: the peer is a trusted proxy with many clients, so only the total counts. Raises
        ``ConnectionLimitError``.
        """
        limits = self._limits
        others = self._peers.get(connection.peer, {})
        if len(others) >= limits.per_peer and not shared:
            self.evict(next((one for one in others if one in self.waiting), None))
        elif self._count >= limits.total or len(self.waiting) >= limits.waiting:
            self.evict_oldest()
        connection._owner = self  # noqa: SLF001 - of this module
        self._count += 1
        self._peers.setdefault(connection.peer, {})[connection] = None
        connection.wait()

    def evict_oldest(self) -> None:
        """Close the oldest waiting connection. Raises ``ConnectionLimitError``."""
        self.evict(next(iter(self.waiting), None))

    def evict(self, victim: Connection | None) -> None:
        """Close a connection for others. Raises ``ConnectionLimitError`` if there is none."""
        if victim is None:
            raise ConnectionLimitError
        close = victim.close
        victim.ended()
        close()
        self._on_eviction(victim)

    def expire(self) -> None:
        """Call ``expire`` of each connection whose time is over."""
        now = self._clock()
        for deadlines in (self.waiting, self.incomplete, self.unread):
            while deadlines and next(iter(deadlines.values())) <= now:
                connection = next(iter(deadlines))
                del deadlines[connection]
                connection.expire(deadlines is self.unread)

    def leave(self, connection: Connection) -> None:
        """Stop counting a connection."""
        self._count -= 1
        peers = self._peers[connection.peer]
        del peers[connection]
        if not peers:
            del self._peers[connection.peer]
