"""One-time login links: made on the command line, used once in a browser."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

from pexpolicy_console.roles import Role

VALID_S = 900.0
"""Time in which a link can be used."""


class LoginLinks:
    """Links in a folder that the console and the command line share.

    A file has the hash of a token as its name; removing it is what uses the link.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "logins"

    def create(self, user: str, role: Role, now: float | None = None) -> str:
        """Return the token of a new link. Raises ``OSError``."""
        now = time.time() if now is None else now
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._remove_old(now)
        token = secrets.token_urlsafe(32)
        content = json.dumps({"user": user, "role": role.label, "until": now + VALID_S})
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(self._file(token), flags, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
        return token

    def use(self, token: str, now: float | None = None) -> tuple[str, Role] | None:
        """Return user and role of a token, which is valid once; ``None`` for any other."""
        file = self._file(token)
        try:
            link = json.loads(file.read_text())
            file.unlink()  # of several that try at the same time, one succeeds
        except (OSError, ValueError):
            return None
        if link["until"] < (time.time() if now is None else now):
            return None
        return link["user"], Role[link["role"].upper()]

    def _file(self, token: str) -> Path:
        return self._folder / hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()

    def _remove_old(self, now: float) -> None:
        for file in self._folder.iterdir():
            with suppress(OSError):
                if file.stat().st_mtime < now - VALID_S:
                    file.unlink()
