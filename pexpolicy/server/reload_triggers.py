"""Triggers of a reload: SIGHUP, a changed file, and ``pexpolicy reload``."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from pexpolicy.config.files import Look, stat_files
from pexpolicy.errors import Log
from pexpolicy.server import systemd
from pexpolicy.server.control_socket import ReloadResult, control_socket
from pexpolicy.server.shutdown import ShutdownSignal, Terminal
from pexpolicy.tasks import hide, run_in_thread, start_background

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


Reload = Callable[[], Awaitable[ReloadResult]]


class ReloadTriggers:
    """Calls ``reload`` at each trigger, one call at a time, and reports the result.

    Used by a server of one process and by the supervisor of several. ``echo`` prints a line for
    the operator.
    """

    def __init__(
        self,
        config: Path,
        reload: Reload,
        stop: ShutdownSignal,
        log: Log,
        echo: Callable[[str], None],
        poll: Poll = poll_in_thread,
    ) -> None:
        self._config = config
        self._reload = reload
        self._stop = stop
        self._log = log
        self._echo = echo
        self._terminal = Terminal()
        self._watcher = FileWatcher(self._on_changed_file, poll)
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[ReloadResult]] = set()
        self._listener: socket.socket | None = None

    @asynccontextmanager
    async def active(self, files: Iterable[Path], read_at: float) -> AsyncIterator[None]:
        """Reload on each trigger until exit.

        ``files`` are those of the active configuration, read at ``read_at`` or later, in seconds
        since the epoch.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        await self._watcher.watch(files, {}, read_at)
        watchers = [
            loop.create_task(work) for work in (self._watcher.run(), self._terminal.watch())
        ]
        for task in watchers:
            hide(task)
        async with control_socket(self._config, self.reload) as self._listener:
            if self._listener is None:
                self._log.warning(
                    "no folder for the control socket: pexpolicy reload is unavailable, use SIGHUP"
                )
            try:
                yield
            finally:
                loop.remove_signal_handler(signal.SIGHUP)
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
                for running in (*watchers, *self._tasks):
                    running.cancel()

    async def reload(self) -> ReloadResult:
        """Reload and return the result."""
        return await self._start()

    def request(self) -> None:
        """Start a reload without waiting for it."""
        _ = self._start()

    def close(self) -> None:
        """Close the copy of the control socket in a forked process."""
        if self._listener is not None:
            self._listener.close()

    def _start(self) -> asyncio.Task[ReloadResult]:
        """Reload in a task that is hidden from plugins and ends with the server."""
        return start_background(self._run(), self._tasks)

    def _on_hangup(self) -> None:
        """Reload, or stop if the terminal of the server was closed."""
        if self._terminal.is_closed:
            self._stop.request_immediate()
        else:
            self.request()

    def _on_changed_file(self) -> None:
        """Reload, unless a reload is running: a later change is detected by the next poll."""
        if not self._lock.locked():
            self.request()

    async def _run(self) -> ReloadResult:
        async with self._lock:
            systemd.notify(systemd.reloading())
            read_at, before = time.time(), await self._watcher.sample()
            result = await self._reload()
            await self._watcher.watch(map(Path, result.files), before, read_at)
            systemd.notify(systemd.READY)
        if result.done:
            notes = (f"warning: {note}" for note in result.notes)
            for line in (str(result), *result.changes, *notes):
                self._echo(line)
        else:
            self._log.warning("the configuration was not reloaded", problems=result.problems)
        return result
