"""Connection limits, in total and for each peer, and eviction.

A connection is *unauthenticated* until a call on it was admitted. A flood consists of such
connections, so one of them is evicted for a new one: first those whose clients show that they are
no node, and never one with a complete request whose credentials are still being verified.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from pexpolicy.access.login_throttle import origin

MANY = 8
"""Connections of one origin on which nothing was received yet; an origin with more of them loses
one before others do.
"""
INCOMPLETE_WEIGHT = 3
"""Silent connections for which one with an incomplete request counts: it was silent before, and a
node is silent for longer than its request is incomplete.
"""
MAX_LOOKS = 8
"""Connections whose unread data is looked for before one is evicted."""


class ConnectionLimitError(Exception):
    """The limit is reached and no connection can be evicted: they are authenticated or pending."""


class Stage(IntEnum):
    """What an unauthenticated connection has shown; those of the lowest stage are evicted first.

    Among silent, waiting and incomplete ones and those in a handshake it is that of most of them.
    """

    REFUSED = 0
    """Its last request was not admitted."""
    INCOMPLETE = 1
    """Part of a request was received."""
    REPEATED = 2
    """It has sent something and waits for its turn, as did another of its origin before."""
    SILENT = 3
    """Nothing was received yet."""
    WAITING = 4
    """It has sent something and waits for its turn."""
    HANDSHAKE = 5
    """Its TLS handshake has begun, and no request was received yet."""
    KNOWN = 6
    """Nothing was received yet from an address of right credentials."""
    PENDING = 7
    """It has sent its first request, or one whose credentials are being verified. Never evicted."""
    ADMITTED = 8
    """A request on it was admitted. Never evicted."""


class Connection:
    """One accepted connection.

    ``peer`` is the address that it comes from, ``origin`` that address or its IPv6 /64, ``since``
    the time of the event loop at which it was accepted, and ``admission`` the last request on it
    that was admitted. ``not_after`` is when the certificate of the client expires, in seconds since
    the epoch, and ``is_revoked`` whether it was revoked. ``has_unread`` returns whether data waits
    in the kernel. ``owner`` counts it; ``None`` when it is not counted.
    """

    __slots__ = (
        *("admission", "close", "has_unread", "is_revoked", "not_after", "origin", "owner"),
        *("peer", "since", "stage"),
    )

    def __init__(
        self,
        peer: str,
        since: float,
        close: Callable[[], object],
        has_unread: Callable[[], bool] | None = None,
    ) -> None:
        self.peer = peer
        self.origin = origin(peer)
        self.since = since
        self.close = close
        self.has_unread = has_unread or nothing_unread
        self.stage = Stage.SILENT
        self.admission: AuthenticatedRequest | None = None
        self.not_after: float | None = None
        self.is_revoked = False
        self.owner: Connections | None = None

    def admit(self, admission: AuthenticatedRequest) -> None:
        """Cache an admitted request; from now on the connection is authenticated."""
        if self.admission is None and self.owner is not None:
            self.owner.mark_authenticated(self)
        self.admission = admission

    def move_to(self, stage: Stage) -> None:
        """Set the stage, and make this the newest connection of it."""
        if self.admission is None and self.owner is not None:
            self.owner.move(self, stage)

    def received_part(self) -> None:
        """Note that a part of a request was received."""
        if self.stage in _COMPLETE:
            self.move_to(Stage.INCOMPLETE)

    def ended(self) -> None:
        """Stop counting this connection: it was closed."""
        if self.owner is not None:
            self.owner.remove(self)

    def has_expired(self, now: float) -> bool:
        """Return whether the certificate of the client has expired, at seconds since the epoch."""
        return self.not_after is not None and self.not_after < now

    def revoke(self) -> None:
        """Refuse further calls: the certificate of the client was revoked."""
        self.is_revoked = True
        self.not_after = 0.0

    def certified_by(self, certificate: bytes) -> None:
        """Store the certificate of the client (DER), to find it in later revocation lists."""
        if self.owner is not None:
            self.owner.certificates[self] = certificate


def nothing_unread() -> bool:
    """Return that no data waits in the kernel, or that it does not matter."""
    return False


_EVICTABLE = tuple(Stage)[: Stage.PENDING]
_COMPLETE = (Stage.REPEATED, Stage.SILENT, Stage.WAITING, Stage.HANDSHAKE)


def _oldest(connections: dict[Connection, None]) -> Connection | None:
    """Return the oldest connection; one whose data was not read yet is passed over, and counts as
    new.
    """
    for _ in range(min(MAX_LOOKS, len(connections))):
        oldest = next(iter(connections))
        if oldest.stage < Stage.SILENT or not oldest.has_unread():
            return oldest
        connections[oldest] = connections.pop(oldest)
    return next(iter(connections), None)


class _ByStage:
    """Unauthenticated connections by stage, the oldest first."""

    __slots__ = ("_stages",)

    def __init__(self) -> None:
        self._stages: dict[Stage, dict[Connection, None]] = {}

    def __getitem__(self, stage: Stage) -> dict[Connection, None]:
        """Return the connections of a stage."""
        return self._stages.setdefault(stage, {})

    def victim(self, before: Stage = Stage.PENDING) -> Connection | None:
        """Return the connection to evict, of a stage before this one."""
        for stage in _EVICTABLE[:before]:
            if connections := self._stages.get(stage):
                return _oldest(connections)
        return None

    def __len__(self) -> int:
        return sum(map(len, self._stages.values()))


@dataclass(slots=True)
class _PeerConnections:
    count: int = 0
    unauthenticated: _ByStage = field(default_factory=_ByStage)


class Connections:
    """Counts connections, in total and for each address."""

    def __init__(self, total: int, per_peer: int) -> None:
        self._total = total
        self._per_peer = per_peer
        self._count = 0
        self._unauthenticated = _ByStage()
        self.certificates: dict[Connection, bytes] = {}
        """Certificates of clients (DER), where there are revocation lists."""
        self._peers: dict[str, _PeerConnections] = {}
        self._silent: dict[str, dict[Connection, None]] = {}
        """Silent connections by origin: one host may have all addresses of an IPv6 /64."""
        self._with_many: dict[str, dict[Connection, None]] = {}
        """Those origins that have more than ``MANY``."""

    def __len__(self) -> int:
        return self._count

    @property
    def unauthenticated(self) -> int:
        """The number of connections that can be evicted."""
        return len(self._unauthenticated)

    def add(
        self, connection: Connection, stage: Stage = Stage.SILENT, *, shared: bool = False
    ) -> Connection | None:
        """Count a new connection; return the one that was evicted for it, if any.

        ``shared``: the peer is a trusted proxy with many clients, so only the total counts. Raises
        ``ConnectionLimitError``.
        """
        evicted = None
        peer = self._peers.get(connection.peer)
        if peer is not None and peer.count >= self._per_peer and not shared:
            evicted = self._evict(peer.unauthenticated.victim())
        elif self._count >= self._total:
            evicted = self._evict(self._victim())
        # Evicting may have removed the peer.
        if (peer := self._peers.get(connection.peer)) is None:
            peer = self._peers[connection.peer] = _PeerConnections()
        peer.count += 1
        self._count += 1
        connection.owner = self
        self._put(connection, Stage.KNOWN if shared else stage)
        return evicted

    def evict(self, keep: int, since: float) -> list[Connection]:
        """Close unauthenticated connections, those of the lowest stage first: all that were
        accepted before ``since``, and further ones until ``keep`` remain. Return them.
        """
        evicted = []
        for stage in _EVICTABLE:
            connections = self._unauthenticated[stage]
            while (oldest := next(iter(connections), None)) is not None and (
                oldest.since < since or len(self._unauthenticated) > keep
            ):
                evicted.append(self._evict(oldest))
        return evicted

    def _victim(self) -> Connection | None:
        if len(handshakes := self._unauthenticated[Stage.HANDSHAKE]) > self._total // 2:
            # One takes more memory than others.
            return _oldest(handshakes)
        if (victim := self._unauthenticated.victim(Stage.INCOMPLETE)) is not None:
            return victim
        # Most of the largest group are a flood, and a node is in each of them for a moment.
        sizes = {stage: len(self._unauthenticated[stage]) for stage in _COMPLETE[1:]}
        sizes[Stage.INCOMPLETE] = len(self._unauthenticated[Stage.INCOMPLETE]) * INCOMPLETE_WEIGHT
        largest = max(sizes, key=sizes.__getitem__)
        if largest is not Stage.INCOMPLETE:
            if repeated := self._unauthenticated[Stage.REPEATED]:
                return _oldest(repeated)
            if self._with_many:
                return _oldest(next(iter(self._with_many.values())))
        return _oldest(self._unauthenticated[largest]) or self._unauthenticated.victim()

    def _evict(self, victim: Connection | None) -> Connection:
        if victim is None:
            raise ConnectionLimitError
        self.remove(victim)
        victim.close()
        return victim

    def move(self, connection: Connection, stage: Stage) -> None:
        """Move an unauthenticated connection to the end of a stage."""
        self._take(connection)
        self._put(connection, stage)

    def _put(self, connection: Connection, stage: Stage) -> None:
        connection.stage = stage
        if stage >= Stage.PENDING:
            return
        self._unauthenticated[stage][connection] = None
        self._peers[connection.peer].unauthenticated[stage][connection] = None
        if stage is Stage.SILENT:
            silent = self._silent.setdefault(connection.origin, {})
            silent[connection] = None
            if len(silent) > MANY:
                self._with_many[connection.origin] = silent

    def _take(self, connection: Connection) -> None:
        stage = connection.stage
        if stage >= Stage.PENDING:
            return
        del self._unauthenticated[stage][connection]
        del self._peers[connection.peer].unauthenticated[stage][connection]
        if stage is Stage.SILENT:
            silent = self._silent[connection.origin]
            del silent[connection]
            if len(silent) <= MANY:
                self._with_many.pop(connection.origin, None)
            if not silent:
                del self._silent[connection.origin]

    def mark_authenticated(self, connection: Connection) -> None:
        """Exempt a connection from eviction."""
        self.move(connection, Stage.ADMITTED)

    def remove(self, connection: Connection) -> None:
        """Stop counting a connection; a second time does nothing."""
        if connection.owner is not self:
            return
        self._take(connection)
        self.certificates.pop(connection, None)
        connection.owner = None
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
