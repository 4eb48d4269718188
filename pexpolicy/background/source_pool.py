"""The sources of a process, shared by the policies that use them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from pexpolicy.background.lifespan import Lifespan
from pexpolicy.background.refreshed import Refreshed
from pexpolicy.background.schedule import ScheduledJob
from pexpolicy.config.file_tracking import Look, stat_files


@dataclass(eq=False)
class SharedSource:
    """A driver, and the number of policies that use it."""

    name: str
    driver_name: str
    digest: bytes
    """The hash of its table."""
    driver: Any
    needs: tuple[SharedSource, ...]
    """The sources that its own settings name."""
    versions: Look
    """The files that it was built from."""
    refreshed: tuple[Refreshed[Any], ...]
    jobs: tuple[ScheduledJob, ...]
    users: int = 0
    lifespan: Lifespan | None = None
    """Set once it was opened."""

    @property
    def is_usable(self) -> bool:
        """False once it has ended by a failure, or one of its files has changed."""
        ended = self.lifespan is not None and self.lifespan.has_ended
        return not ended and stat_files(self.versions) == self.versions


class SourcePool:
    """The sources of a process. A policy is built in a thread while others are closed, so its
    methods may be called in any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shared: dict[str, SharedSource] = {}

    def acquire(self, name: str, digest: bytes, driver_class: type) -> SharedSource | None:
        """Return the source of the same table for another user, if there is one."""
        with self._lock:
            shared = self._shared.get(name)
            if shared is None or shared.digest != digest or not shared.is_usable:
                return None
            if type(shared.driver) is not driver_class:
                return None
            shared.users += 1
            return shared

    def add(self, shared: SharedSource) -> None:
        """Add a source with one user."""
        with self._lock:
            shared.users = 1
            self._shared[shared.name] = shared

    def release(self, shared: SharedSource) -> bool:
        """Remove a user; return whether it was the last one."""
        with self._lock:
            shared.users -= 1
            if not shared.users:
                self._forget(shared)
            return not shared.users

    def discard(self, shared: SharedSource) -> None:
        """Have it built again for the next user."""
        with self._lock:
            self._forget(shared)

    def _forget(self, shared: SharedSource) -> None:
        if self._shared.get(shared.name) is shared:
            del self._shared[shared.name]
