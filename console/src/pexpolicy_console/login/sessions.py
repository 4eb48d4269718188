"""Roles of users, their sessions, and the one-time links that begin one.

Sessions are in the memory of the console: they end with it. Links are made on the command line, and
used once in a browser.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from pexpolicy.config.files import open_own, read_own
from pexpolicy.config.schema.console import ConsoleTable

MAX_SESSIONS = 1000
MAX_SESSIONS_OF_USER = 50
"""Of both the session that was used least recently is removed first, so that one user who logs in
again and again ends no session of others.
"""
LIFETIME_S = 8 * 3600.0
IDLE_S = 3600.0
"""Time without a request after which a session ends."""
VALID_S = 900.0
"""Time in which a link can be used."""
_NAME = re.compile("[0-9a-f]{64}")


class Role(IntEnum):
    """A role; each includes those before it."""

    VIEWER = 1
    """Sees the pages."""
    OPERATOR = 2
    """Tries requests and replays the audit as well."""
    ADMIN = 3
    """Reloads the configuration as well."""

    @property
    def label(self) -> str:
        """The name in the configuration."""
        return self.name.lower()


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
    views: deque[str] = field(default_factory=lambda: deque(maxlen=50), repr=False)
    """The last filters whose newer lines were asked for."""
    csrf_token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)


class Sessions:
    """The sessions by the hash of their cookie. ``clock`` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

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
        """Return the session of a cookie if it has not ended; the use by a person prolongs it."""
        key, now = _key(cookie), self._clock()
        session = self._sessions.get(key)
        if session is None or now >= session.ends or now - session.used >= IDLE_S:
            self._sessions.pop(key, None)
            return None
        if is_use:
            session.used = now
            self._sessions.move_to_end(key)
        return session

    def end(self, cookie: str) -> bool:
        """End a session; return whether there was one."""
        return self._sessions.pop(_key(cookie), None) is not None


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


class LoginLinks:
    """Links in a folder that the console and the command line share.

    A file has the hash of a token as its name; removing it is what uses the link.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "logins"

    def create(self, user: str, role: Role) -> str:
        """Return the token of a new link. Raises ``OSError``, also where the folder is a link.

        What root makes belongs to the owner of the console's folder, which has to be there.
        """
        now = time.time()
        is_root = os.geteuid() == 0
        self._folder.mkdir(mode=0o700, parents=not is_root, exist_ok=True)
        token = secrets.token_urlsafe(32)
        content = json.dumps({"user": user, "role": role.label, "until": now + VALID_S})
        # Opened once: the owner of the folder above could replace it by a link meanwhile.
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _remove_old(folder, now)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            descriptor = open_own(_name_of(token), flags, folder=folder)
            if is_root:
                owner = self._folder.parent.stat()
                for made in (folder, descriptor):
                    os.fchown(made, owner.st_uid, owner.st_gid)
        finally:
            os.close(folder)
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
        return token

    def use(self, token: str) -> tuple[str, Role] | None:
        """Return user and role of a token, which is valid once; ``None`` for any other."""
        file = self._folder / _name_of(token)
        try:
            link = json.loads(read_own(file, 4096))
            file.unlink()  # of several that try at the same time, one succeeds
        except (OSError, ValueError):
            return None
        if link["until"] < time.time():
            return None
        return link["user"], Role[link["role"].upper()]


def _name_of(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _remove_old(folder: int, now: float) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name) is None or not entry.is_file(follow_symlinks=False):
                continue
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < now - VALID_S:
                    os.unlink(entry.name, dir_fd=folder)
