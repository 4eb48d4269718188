"""The file watcher: detects changes of the configuration files by polling twice a second.

Kernel notifications would require watching the folders. They fire for each audit line that is
written there, and miss changes on file servers and of the targets of symbolic links.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from pexpolicy.config.file_tracking import Look, stat_files
from pexpolicy.tasks import run_in_thread

FILE_POLL_INTERVAL_S = 0.5
"""Seconds between two polls. A file counts as changed after two polls saw the same new version, so
a file that is being written is not read."""

Poll = Callable[[tuple[Path, ...]], Awaitable[Look]]
"""Returns the present version of each file."""


async def poll_in_thread(files: tuple[Path, ...]) -> Look:
    """Return the present versions without blocking; a file server may hang."""
    try:
        return await run_in_thread(lambda: stat_files(files), "pexpolicy-watch")
    except RuntimeError:
        # No thread can be started: plugins have used them all up.
        return stat_files(files)


async def poll_directly(files: tuple[Path, ...]) -> Look:
    """Return the present versions, in a process that forks and therefore must not use threads."""
    return stat_files(files)


class ChangeDetector:
    """Detects files that have changed and are no longer being written."""

    def __init__(self) -> None:
        self._known: Look = {}
        self._latest: Look = {}

    @property
    def files(self) -> tuple[Path, ...]:
        """The files to poll."""
        return tuple(self._known)

    def start(self, now: Look, before: Look, read_at: float) -> None:
        """Start with files that were read at ``read_at`` or later, in seconds since the epoch.

        ``before`` holds the versions of some of them at that time, ``now`` the versions of all. A
        version that is newer than ``read_at`` may not be the one that was read, so it counts as a
        change.
        """
        self._known = {
            file: before[file]
            if file in before
            else version
            if version is not None and version.is_older_than(read_at)
            else None
            for file, version in now.items()
        }
        self._latest = {}

    def is_changed(self, versions: Look) -> bool:
        """Return whether a poll and the one before it saw the same change."""
        settled = versions == self._latest
        self._latest = versions
        # The set of watched files may have changed during the poll.
        if not settled or versions == self._known or versions.keys() != self._known.keys():
            return False
        self._known = versions
        return True


class FileWatcher:
    """Polls files and calls ``changed`` after a change."""

    def __init__(self, changed: Callable[[], None], poll: Poll = poll_in_thread) -> None:
        self._changed = changed
        self._poll = poll
        self._changes = ChangeDetector()

    async def sample(self) -> Look:
        """Return the present versions of the watched files."""
        return await self._poll(self._changes.files)

    async def watch(self, files: Iterable[Path], before: Look, read_at: float) -> None:
        """Watch these files instead; see ``ChangeDetector.start``."""
        self._changes.start(await self._poll(tuple(files)), before, read_at)

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await asyncio.sleep(FILE_POLL_INTERVAL_S)
            if self._changes.is_changed(await self.sample()):
                self._changed()
