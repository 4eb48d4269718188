"""Refusals: requests and connections rejected before the policy is asked, counted and logged.

A client without credentials can be refused thousands of times a second. It must not fill the disk
or evict decisions from the rotated files. So the first refusals of a peer and reason get a line
each, further ones share a line with their number (``times``) and what is known of the last one, and
the number of all of these lines is limited.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from typing import NamedTuple

from pexpolicy.access.credentials import origin

UNAUTHORISED = "unauthorised"
"""401: no credentials, or others than those of `[auth]`."""
NOT_ALLOWED = "network not allowed"
"""0, or 403 behind a named proxy: the address is not in `[access] networks`; `detail` if the proxy
sent no client.
"""
BUSY = "too many attempts"
"""429: too many wrong credentials, so these were not checked."""
CROWDED = "too many connections"
"""0: nodes have all connections that are allowed, or 250 of one address."""
EVICTED = "connection evicted"
"""0: a connection without an admitted call was closed for a new one."""
TIMED_OUT = "request timeout"
"""408, but nothing is sent: a request was not whole within 10 s."""
WRITE_TIMEOUT = "write timeout"
"""0: the client did not take a reply within 10 s."""
HANDSHAKE_FAILED = "tls handshake failed"
"""0: no HTTPS, no good client certificate, or too slow; `detail` says which."""
MALFORMED = "malformed"
"""4xx: no HTTP, HTTP/1.1 without a `Host`, or TLS on the plain port. 505: not HTTP/1."""
TOO_LARGE = "header too large"
"""431: a head of more than 64 KiB, or of more than 100 headers."""
BODY = "request body"
"""400: the request has a body, or announces one; that of an event sink is no JSON. 413: more than
64 KiB for a plugin, or in `[api]`. 413, 415: that of an event sink is too long, or compressed.
"""
FAULT = "internal fault"
"""5xx: a fault of the server; standard error has the traceback."""
WRONG_TOKEN = "wrong token"  # noqa: S105 - a reason
"""401 of the admin listener: no token, or another than that of `[admin]`; `path` is the place. That
of `[api]`, or 429: no valid token of the plugin.
"""
FOREIGN_HOST = "foreign host"
"""421 of the admin listener without a token: a foreign host name, or a page of a browser."""
CERTIFICATE_EXPIRED = "client certificate expired"
"""403: the client certificate has expired since the handshake."""
CERTIFICATE_REVOKED = "client certificate revoked"
"""403: a revocation list that was loaded since the handshake has the client certificate."""
UNKNOWN_PATH = "unknown path"
"""404: none of the six requests, often by a `/policy/v1` too many in the profile, or a wrong
`base_path`; `path` has its first 200 characters.
"""
WRONG_METHOD = "method not allowed"
"""405: Infinity sends GET only."""
REASONS = tuple(found for name, found in globals().items() if name.isupper())
"""Every reason."""
CLOSED = 0
"""Status of a connection that was closed without a reply."""
SINGLE_LINES = 5
"""Refusals of one peer and reason that get a line each."""
INTERVAL_S = 10.0
"""Time between two shared lines. After that time without one, each refusal gets a line again."""
MAX_PEERS = 1024
"""(Reason, peer) pairs that are counted separately; further ones are logged without a peer."""
MAX_LINES = 256
"""Lines about peers after a time without refusals; one for each reason is free."""
LINES = 40
"""Those that are added in each interval: 200 MB a day at most."""


class Refusal(NamedTuple):
    """The reason and HTTP status of a refused request; ``detail`` is for the audit only.

    ``closes``: the connection is closed after the reply.
    """

    reason: str
    status: int
    peer: str
    detail: str = ""
    closes: bool = False


_Key = tuple[str, int, str | None]
"""Reason, status and peer."""


@dataclass(slots=True)
class _Group:
    """The refusals of one key: how many had a line each, and those of the next shared line."""

    lines: int = 0
    times: int = 0
    facts: Mapping[str, object] = field(default_factory=dict)
    """Those of the last one."""


@dataclass(eq=False)
class RefusalLog:
    """Counts each refusal at once, and aggregates lines by reason, status and peer. Each is logged,
    alone or within ``times``.

    ``write`` is called with the reason, status, peer and facts of a line, ``count`` with the reason
    and the peer of each. ``has_room`` returns whether a line may be written now; if not, refusals
    are only counted.
    """

    write: Callable[..., object]
    count: Callable[[str, str | None], object] = lambda *_: None
    has_room: Callable[[], bool] = lambda: True
    left: int = MAX_LINES
    """Lines about peers that may be written now."""
    _groups: dict[_Key, _Group] = field(default_factory=dict)
    _timer: asyncio.TimerHandle | None = None

    def note(self, reason: str, status: int, peer: str | None, **facts: object) -> None:
        """Count a refusal, and write a line now, or later together with others."""
        self.count(reason, peer)
        key: _Key = (reason, status, None if peer is None else origin(peer))
        is_new = key not in self._groups
        is_paid = is_new and len(self._groups) < MAX_PEERS and self._take_line()
        if is_new and not is_paid:
            key, peer, facts = (reason, status, None), None, {}
        group = self._groups.setdefault(key, _Group())
        if self._timer is None:
            self._start_timer()
        # The first line without a peer is free: there are few reasons.
        limit = 1 if peer is None else SINGLE_LINES
        is_single = not group.times and group.lines < limit and self.has_room()
        if is_single and (is_paid or peer is None or self._take_line()):
            group.lines += 1
            self.write(reason, status, peer, **facts)
        else:
            group.times += 1
            group.facts = facts

    def _take_line(self) -> bool:
        """Take one of the lines that may be written; return false if there is none."""
        has_one = self.left > 0
        self.left -= has_one
        return has_one

    def _start_timer(self) -> None:
        # In a new context, as the timer would keep that of the refused request alive.
        loop, empty = asyncio.get_running_loop(), Context()
        self._timer = loop.call_later(INTERVAL_S, self._write_shared, context=empty)

    def _write_shared(self) -> None:
        groups, self._timer = self._groups, None
        self.left = min(self.left + LINES, MAX_LINES)
        if self.has_room():
            self.end()
            # Those that go on share a line again, and others are forgotten.
            groups = {key: _Group(SINGLE_LINES) for key, group in groups.items() if group.times}
        self._groups = groups
        if groups or self.left < MAX_LINES:
            self._start_timer()

    def end(self) -> None:
        """Write the shared lines, even without room: one for each peer while lines are left, and
        one for each reason.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        others: Counter[tuple[str, int]] = Counter()
        for (reason, status, peer), group in self._groups.items():
            if group.times and peer is not None and self._take_line():
                self.write(reason, status, peer, **group.facts, **_times(group.times))
            else:
                others[reason, status] += group.times
        self._groups = {}
        for (reason, status), times in (+others).items():
            self.write(reason, status, None, **_times(times))


def _times(times: int) -> dict[str, int]:
    return {"times": times} if times > 1 else {}
