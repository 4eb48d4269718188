"""One-time login links: made on the command line, used once in a browser."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

from pexpolicy.config.files import open_own, read_own
from pexpolicy_console.roles import Role

VALID_S = 900.0
"""Time in which a link can be used."""
_NAME = re.compile("[0-9a-f]{64}")


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
            descriptor = open_own(_name(token), flags, folder=folder)
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
        file = self._folder / _name(token)
        try:
            link = json.loads(read_own(file, 4096))
            file.unlink()  # of several that try at the same time, one succeeds
        except (OSError, ValueError):
            return None
        if link["until"] < time.time():
            return None
        return link["user"], Role[link["role"].upper()]


def _name(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _remove_old(folder: int, now: float) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name) is None or not entry.is_file(follow_symlinks=False):
                continue
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < now - VALID_S:
                    os.unlink(entry.name, dir_fd=folder)
