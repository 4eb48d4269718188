"""Connection limits, in total and for each peer, and eviction.

A connection is *unauthenticated* until a call on it was admitted. A flood consists of such
connections, so the oldest of them is evicted for a new one. Connections of nodes stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


class ConnectionLimitError(Exception):
    """The limit is reached and no connection can be evicted: all of them are authenticated."""


class Connection:
    """One accepted connection.

    ``peer`` is the address that it comes from, ``since`` the time of the event loop at which it was
    accepted, and ``admission`` the last request on it that was admitted. ``not_after`` is when the
    certificate of the client expires, in seconds since the epoch, and ``is_revoked`` whether it was
    revoked.
    """

    __slots__ = ("_owner", "admission", "close", "is_revoked", "not_after", "peer", "since")

    def __init__(self, peer: str, since: float, close: Callable[[], object]) -> None:
        self.peer = peer
        self.since = since
        self.close = close
        self.admission: AuthenticatedRequest | None = None
        self.not_after: float | None = None
        self.is_revoked = False
        self._owner: Connections | None = None

    def admit(self, admission: AuthenticatedRequest) -> None:
        """Cache an admitted request; from now on the connection is authenticated."""
        if self.admission is None and self._owner is not None:
            self._owner.mark_authenticated(self)
        self.admission = admission

    def ended(self) -> None:
        """Stop counting this connection: it was closed."""
        if self._owner is not None:
            self._owner.remove(self)

    def has_expired(self, now: float) -> bool:
        """Return whether the certificate of the client has expired, at seconds since the epoch."""
        return self.not_after is not None and self.not_after < now

    def revoke(self) -> None:
        """Refuse further calls: the certificate of the client was revoked."""
        self.is_revoked = True
        self.not_after = 0.0

    def certified_by(self, certificate: bytes) -> None:
        """Store the certificate of the client (DER), to find it in later revocation lists."""
        if self._owner is not None:
            self._owner.certificates[self] = certificate

    @property
    def is_unauthenticated(self) -> bool:
        """True until a request on it was admitted."""
        return self.admission is None

    def set_owner(self, owner: Connections | None) -> None:
        """Set where this connection is counted; ``None`` for nowhere."""
        self._owner = owner

    def is_owned_by(self, owner: Connections) -> bool:
        """Return whether it is counted there."""
        return self._owner is owner


@dataclass(slots=True)
class _PeerConnections:
    count: int = 0
    unauthenticated: dict[Connection, None] = field(default_factory=dict)


class Connections:
    """Counts connections, in total and for each peer."""

    def __init__(self, total: int, per_peer: int) -> None:
        self._total = total
        self._per_peer = per_peer
        self._count = 0
        self._unauthenticated: dict[Connection, None] = {}
        self.certificates: dict[Connection, bytes] = {}
        """Certificates of clients (DER), where there are revocation lists."""
        self._peers: dict[str, _PeerConnections] = {}

    def __len__(self) -> int:
        return self._count

    def add(self, connection: Connection, *, shared: bool = False) -> Connection | None:
        """Count a new connection; return the one that was evicted for it, if any.

        ``shared``: the peer is a trusted proxy with many clients, so only the total counts. Raises
        ``ConnectionLimitError``.
        """
        evicted = None
        peer = self._peers.get(connection.peer)
        if peer is not None and peer.count >= self._per_peer and not shared:
            evicted = self._evict(peer.unauthenticated)
        elif self._count >= self._total:
            evicted = self._evict(self._unauthenticated)
        of_peer = self._peers.setdefault(connection.peer, _PeerConnections())
        of_peer.count += 1
        of_peer.unauthenticated[connection] = None
        self._unauthenticated[connection] = None
        self._count += 1
        connection.set_owner(self)
        return evicted

    def evict(self, keep: int, since: float) -> list[Connection]:
        """Close unauthenticated connections, the oldest first: all that were accepted before
        ``since``, and further ones until ``keep`` remain. Return those that were closed.
        """
        evicted = []
        while (oldest := next(iter(self._unauthenticated), None)) is not None and (
            len(self._unauthenticated) > keep or oldest.since < since
        ):
            evicted.append(self._evict(self._unauthenticated))
        return evicted

    def _evict(self, unauthenticated: dict[Connection, None]) -> Connection:
        oldest = next(iter(unauthenticated), None)
        if oldest is None:
            raise ConnectionLimitError
        self.remove(oldest)
        oldest.close()
        return oldest

    @property
    def count(self) -> int:
        """Number of connections."""
        return self._count

    def mark_authenticated(self, connection: Connection) -> None:
        """Exempt a connection from eviction."""
        self._unauthenticated.pop(connection, None)
        if (peer := self._peers.get(connection.peer)) is not None:
            peer.unauthenticated.pop(connection, None)

    def remove(self, connection: Connection) -> None:
        """Stop counting a connection; a second time does nothing."""
        if not connection.is_owned_by(self):
            return
        self.mark_authenticated(connection)
        self.certificates.pop(connection, None)
        connection.set_owner(None)
        self._count -= 1
        peer = self._peers[connection.peer]
        peer.count -= 1
        if not peer.count:
            del self._peers[connection.peer]


@dataclass(frozen=True, slots=True, eq=False)
class AuthenticatedRequest:
    """An admitted request: the access control that admitted it, its headers and its client.

    ``forwarded`` is unset for a connection that is not from a trusted proxy.
    """

    access: object
    authorization: bytes
    forwarded: str | None
    peer: str
