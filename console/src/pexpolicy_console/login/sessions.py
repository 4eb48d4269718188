"""Sessions, stored in the memory of the console: they end with it."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from pexpolicy.config.schema.console import ConsoleTable
from pexpolicy_console.roles import Role

MAX_SESSIONS = 1000
MAX_SESSIONS_OF_USER = 50
"""Of both the session that was used least recently is removed first, so that one user who logs in
again and again ends no session of others.
"""
LIFETIME_S = 8 * 3600.0
IDLE_S = 3600.0
"""Time without a request after which a session ends."""


@dataclass(slots=True)
class Session:
    """A user who is logged in."""

    user: str
    role: Role
    method: str
    """How the user logged in: link, password or oidc."""
    ends: float
    used: float
    entry: object = field(repr=False)
    """What the configuration had for this login: ``entry_of``."""
    csrf_token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)


class Sessions:
    """The sessions by the hash of their cookie. ``clock`` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def create(self, user: str, role: Role, method: str, entry: object) -> tuple[str, Session]:
        """Return the value of the cookie of a new session, and the session."""
        cookie = secrets.token_urlsafe(32)
        now = self._clock()
        session = Session(user, role, method, now + LIFETIME_S, now, entry)
        who = method, user
        mine = [key for key, one in self._sessions.items() if (one.method, one.user) == who]
        if len(mine) >= MAX_SESSIONS_OF_USER:
            del self._sessions[mine[0]]
        self._sessions[_key(cookie)] = session
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return cookie, session

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
        return not self._has_ended(session) and self._sessions.get(_key(cookie)) is session

    def _has_ended(self, session: Session) -> bool:
        now = self._clock()
        return now >= session.ends or now - session.used >= IDLE_S

    def end(self, cookie: str) -> None:
        """End a session."""
        self._sessions.pop(_key(cookie), None)


def entry_of(table: ConsoleTable, method: str, user: str) -> object:
    """Return what the configuration has for a login: a session ends when that changes.

    A login link has no entry: any change of who may log in ends its session.
    """
    if method == "password":
        return next((one for one in table.users if one.user == user), None)
    if method == "oidc":
        return table.oidc
    return table.users, table.oidc


def is_current(session: Session, table: ConsoleTable) -> bool:
    """Return whether the configuration still has what let the user in, with that role."""
    return entry_of(table, session.method, session.user) == session.entry


def _key(cookie: str) -> bytes:
    # A lookup by the hash takes a time that says nothing about stored cookies.
    return hashlib.sha256(cookie.encode("utf-8", "replace")).digest()
