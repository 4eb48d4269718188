"""The triggers of a reload: SIGHUP, a changed file, and ``pexpolicy reload``."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from pexpolicy.errors import Log
from pexpolicy.server import systemd
from pexpolicy.server.reload.control_socket import control_socket
from pexpolicy.server.reload.file_watcher import FileWatcher, Poll, poll_in_thread
from pexpolicy.server.reload.result import ReloadResult
from pexpolicy.server.shutdown import ShutdownSignal, Terminal
from pexpolicy.tasks import hide, start_background

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
