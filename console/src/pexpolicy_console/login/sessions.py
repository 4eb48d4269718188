"""Sessions, stored in the memory of the console: they end with it."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from pexpolicy_console.roles import Role

MAX_SESSIONS = 1000
"""The session that was used least recently is removed first."""
IDLE_S = 3600.0
"""Time without a request after which a session ends."""


@dataclass(slots=True)
class Session:
    """A user who is logged in."""

    user: str
    role: Role
    method: str
    """How the user logged in: link, password, oidc or proxy."""
    ends: float
    used: float
    streams: int = 0
    """Open streams."""
    csrf_token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)


class Sessions:
    """The sessions by the hash of their cookie. ``clock`` counts seconds."""

    def __init__(self, lifetime_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._of_proxy: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def create(self, user: str, role: Role, method: str) -> tuple[str, Session]:
        """Return the value of the cookie of a new session, and the session."""
        cookie = secrets.token_urlsafe(32)
        session = self._new(user, role, method)
        self._sessions[_key(cookie)] = session
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return cookie, session

    def of_proxy(self, user: str, role: Role) -> tuple[Session, bool]:
        """Return the session of a user whom a proxy names in each request, and whether it is new.

        It has no cookie, and the proxy decides when it ends.
        """
        session = self._of_proxy.get(user)
        is_new = session is None or self._clock() >= session.ends
        if session is None or is_new:
            session = self._of_proxy[user] = self._new(user, role, "proxy")
            if len(self._of_proxy) > MAX_SESSIONS:
                self._of_proxy.popitem(last=False)
        session.role = role
        return session, is_new

    def _new(self, user: str, role: Role, method: str) -> Session:
        now = self._clock()
        return Session(user, role, method, now + self._lifetime_s, now)

    def find(self, cookie: str, *, is_use: bool = True) -> Session | None:
        """Return the session of a cookie if it has not ended.

        Requests that are no use by a person do not prolong it.
        """
        key = _key(cookie)
        session = self._sessions.get(key)
        if session is None:
            return None
        if self._has_ended(session):
            del self._sessions[key]
            return None
        if is_use:
            session.used = self._clock()
            self._sessions.move_to_end(key)
        return session

    def is_open(self, session: Session, cookie: str) -> bool:
        """Return whether a session that a request had has not ended meanwhile."""
        if session.method == "proxy":
            return self._clock() < session.ends
        return not self._has_ended(session) and self._sessions.get(_key(cookie)) is session

    def _has_ended(self, session: Session) -> bool:
        now = self._clock()
        return now >= session.ends or now - session.used >= IDLE_S

    def end(self, cookie: str) -> None:
        """End a session."""
        self._sessions.pop(_key(cookie), None)


def _key(cookie: str) -> bytes:
    # A lookup by the hash takes a time that says nothing about stored cookies.
    return hashlib.sha256(cookie.encode("utf-8", "replace")).digest()
