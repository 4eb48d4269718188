"""The connections that are open: how many there may be, and which one makes room.

A *stranger* is a connection that no call was admitted on yet. Whoever floods a server holds
strangers, so the oldest of them makes room for a new connection, and those of nodes stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


class ConnectionLimitError(Exception):
    """No connection can be made room for: all that there may be belong to nodes."""


class Connection:
    """One accepted connection.

    ``peer`` is the address that it comes from, ``since`` the time of the event loop at which it was
    accepted, and ``admission`` the last request on it that was admitted.
    """

    __slots__ = ("_among", "admission", "close", "peer", "since")

    def __init__(self, peer: str, since: float, close: Callable[[], object]) -> None:
        self.peer = peer
        self.since = since
        self.close = close
        self.admission: AuthenticatedRequest | None = None
        self._among: Connections | None = None

    def admit(self, admission: AuthenticatedRequest) -> None:
        """Remember an admitted request; from now on the connection is no stranger."""
        if self.admission is None and self._among is not None:
            self._among.mark_authenticated(self)
        self.admission = admission

    def ended(self) -> None:
        """It is closed; count it no longer."""
        if self._among is not None:
            self._among.remove(self)

    @property
    def is_unauthenticated(self) -> bool:
        """True until a request on it was admitted."""
        return self.admission is None

    def belong(self, among: Connections | None) -> None:
        """Belong to the connections that are counted, or no longer."""
        self._among = among

    def belongs(self, among: Connections) -> bool:
        """True while it is counted there."""
        return self._among is among


@dataclass(slots=True)
class _PeerConnections:
    count: int = 0
    strangers: dict[Connection, None] = field(default_factory=dict)


class Connections:
    """Counts them, in total and for each peer."""

    def __init__(self, total: int, per_peer: int) -> None:
        self._total = total
        self._per_peer = per_peer
        self._count = 0
        self._strangers: dict[Connection, None] = {}
        self._peers: dict[str, _PeerConnections] = {}

    def __len__(self) -> int:
        return self._count

    def add(self, connection: Connection, *, shared: bool = False) -> Connection | None:
        """Count a new connection; gives the one that was closed to make room for it.

        ``shared``: the peer is a named proxy and stands for many, so only the total counts. Raises
        ``ConnectionLimitError``.
        """
        displaced = None
        peer = self._peers.get(connection.peer)
        if peer is not None and peer.count >= self._per_peer and not shared:
            displaced = self._displace(peer.strangers)
        elif self._count >= self._total:
            displaced = self._displace(self._strangers)
        of_peer = self._peers.setdefault(connection.peer, _PeerConnections())
        of_peer.count += 1
        of_peer.strangers[connection] = None
        self._strangers[connection] = None
        self._count += 1
        connection.belong(self)
        return displaced

    def displace(self, keep: int, since: float) -> list[Connection]:
        """Close strangers, the oldest first: all that were accepted before ``since``, and as many
        more as there are above ``keep``.
        """
        displaced = []
        while (oldest := next(iter(self._strangers), None)) is not None and (
            len(self._strangers) > keep or oldest.since < since
        ):
            displaced.append(self._displace(self._strangers))
        return displaced

    def _displace(self, strangers: dict[Connection, None]) -> Connection:
        oldest = next(iter(strangers), None)
        if oldest is None:
            raise ConnectionLimitError
        self.remove(oldest)
        oldest.close()
        return oldest

    @property
    def count(self) -> int:
        """How many there are."""
        return self._count

    def mark_authenticated(self, connection: Connection) -> None:
        """Take a connection off the strangers."""
        self._strangers.pop(connection, None)
        if (peer := self._peers.get(connection.peer)) is not None:
            peer.strangers.pop(connection, None)

    def remove(self, connection: Connection) -> None:
        """Count a connection no longer; a second time does nothing."""
        if not connection.belongs(self):
            return
        self.mark_authenticated(connection)
        connection.belong(None)
        self._count -= 1
        peer = self._peers[connection.peer]
        peer.count -= 1
        if not peer.count:
            del self._peers[connection.peer]


@dataclass(frozen=True, slots=True, eq=False)
class AuthenticatedRequest:
    """An admitted request: by which gate, with which headers, and whom it came from.

    ``forwarded`` is unset for a connection that is not from a named proxy.
    """

    gate: object
    authorization: bytes
    forwarded: str | None
    peer: str
