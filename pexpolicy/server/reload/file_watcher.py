"""The file watcher: notices that a file of the configuration has changed.

The files themselves are polled, twice a second. Notifications of the kernel would mean watching
their folders: it tells of each audit line that is written next to the configuration, and nothing
of what a symbolic link or a file server hides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from pexpolicy.config.file_tracking import Look, stat_files
from pexpolicy.server.reload.build_thread import run_in_thread

PAUSE = 0.5
"""Seconds between two polls. A file counts as changed once two polls saw the same new version, so
that one which is being written is left alone."""

Poll = Callable[[tuple[Path, ...]], Awaitable[Look]]
"""Sees which version of each file is there."""


async def poll_in_thread(files: tuple[Path, ...]) -> Look:
    """See which versions are there, without blocking: a file server may not answer."""
    try:
        return await run_in_thread(lambda: stat_files(files), "pexpolicy-watch")
    except RuntimeError:
        # Plugins have used up all threads.
        return stat_files(files)


async def poll_directly(files: tuple[Path, ...]) -> Look:
    """See which versions are there, for a process that forks and must have no threads."""
    return stat_files(files)


class ChangeDetector:
    """Tells from one poll to the next whether files have changed and come to rest."""

    def __init__(self) -> None:
        self._known: Look = {}
        self._latest: Look = {}

    @property
    def files(self) -> tuple[Path, ...]:
        """The files to poll."""
        return tuple(self._known)

    def expect(self, now: Look, before: Look, read_at: float) -> None:
        """Begin with files that were read since ``read_at``, in seconds since the epoch.

        ``before`` is what was seen of some of them then, ``now`` is what is seen of all. A version
        that came later may not be the one that was read: it counts as a change.
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

    def seen(self, look: Look) -> bool:
        """Note what a poll saw; true when it shows a change that the one before showed too."""
        at_rest = look == self._latest
        self._latest = look
        # Which files are watched may have changed during the poll.
        if not at_rest or look == self._known or look.keys() != self._known.keys():
            return False
        self._known = look
        return True


class FileWatcher:
    """Polls files, and calls ``changed`` when they have changed and come to rest."""

    def __init__(self, changed: Callable[[], None], poll: Poll = poll_in_thread) -> None:
        self._changed = changed
        self._poll = poll
        self._changes = ChangeDetector()

    async def look(self) -> Look:
        """See which versions of the watched files are there now."""
        return await self._poll(self._changes.files)

    async def expect(self, files: Iterable[Path], before: Look, read_at: float) -> None:
        """Watch these files from now on; see ``ChangeDetector.expect``."""
        self._changes.expect(await self._poll(tuple(files)), before, read_at)

    async def run(self) -> None:
        """Poll until it is cancelled."""
        while True:
            await asyncio.sleep(PAUSE)
            if self._changes.seen(await self.look()):
                self._changed()
