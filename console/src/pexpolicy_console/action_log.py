"""The audit of the console itself: logins, views of personal data, and actions."""

from __future__ import annotations

import errno
import json
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pexpolicy.cli.for_console import as_json
from pexpolicy.config.files import open_own

MAX_BYTES = 1 << 26
"""Size of the file from which on it is renamed to ``.1``, and the older one is removed."""

MAX_READ = 1 << 20
"""Bytes of each file that are read for the page."""


class ActionLogError(OSError):
    """A line cannot be written; the message is for users."""


class ActionLog:
    """Appends JSON lines to ``actions.jsonl``; thread-safe.

    ``view``: a user was shown personal data. ``login``, ``login refused``, ``logout`` and each
    action of an operator have the user, the address and the time.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "actions.jsonl"
        self._lock = threading.Lock()

    def record(self, event: str, user: str | None, peer: str, **details: Any) -> None:
        """Append a line before what it records; raise ``ActionLogError`` if that must not be."""
        line = {
            "timestamp": datetime.now(UTC),
            "event": event,
            "user": user,
            "peer": peer,
            **{name: value for name, value in details.items() if value not in (None, "", [], {})},
        }
        content = as_json(line) + b"\n"
        try:
            with self._lock:
                self._append(content)
        except OSError as error:
            msg = f"The console's own audit cannot be written: {error.strerror or error}."
            raise ActionLogError(msg) from error

    def recent(self, user: str = "", limit: int = 200) -> list[dict[str, Any]]:
        """Return the last lines, or those of a user, the latest first; raises ``OSError``."""
        found: list[dict[str, Any]] = []
        for path in (self.path, self.path.with_name("actions.jsonl.1")):
            with suppress(FileNotFoundError), os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
                file.seek(max(os.fstat(file.fileno()).st_size - MAX_READ, 0))
                for line in reversed(file.read().splitlines()):
                    with suppress(ValueError):  # the first one may be cut
                        one = json.loads(line)
                        if user in ("", one["user"]):
                            found.append(one)
        return found[:limit]

    def _append(self, content: bytes) -> None:
        with suppress(FileNotFoundError):
            if self.path.stat().st_size > MAX_BYTES:
                self.path.replace(self.path.with_name("actions.jsonl.1"))
        descriptor = open_own(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        with os.fdopen(descriptor, "ab", buffering=0) as file:
            size = os.fstat(descriptor).st_size
            if os.write(descriptor, content) < len(content):
                file.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
