"""What makes a server reload: SIGHUP, a changed file, and ``pexpolicy reload``."""

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
from pexpolicy.server.reload import control_socket
from pexpolicy.server.reload.file_watcher import FileWatcher, Poll, poll_in_thread
from pexpolicy.server.reload.result import ReloadResult
from pexpolicy.server.shutdown import ShutdownSignal, Terminal
from pexpolicy.tasks import hide, start_background

Reload = Callable[[], Awaitable[ReloadResult]]


class ReloadTriggers:
    """Calls ``reload`` when something asks for it, once at a time, and reports the result.

    The same for a server that is one process, and for the supervisor of several. ``say`` prints a
    line for the operator.
    """

    def __init__(
        self,
        config: Path,
        reload: Reload,
        stop: ShutdownSignal,
        log: Log,
        say: Callable[[str], None],
        poll: Poll = poll_in_thread,
    ) -> None:
        self._config = config
        self._reload = reload
        self._stop = stop
        self._log = log
        self._say = say
        self._terminal = Terminal()
        self._watcher = FileWatcher(self._on_changed_file, poll)
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[ReloadResult]] = set()
        self._listener: socket.socket | None = None

    @asynccontextmanager
    async def active(self, files: Iterable[Path], read_at: float) -> AsyncIterator[None]:
        """Reload on each trigger while inside.

        ``files`` are those that the active configuration was made of since ``read_at``, in seconds
        since the epoch.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        await self._watcher.expect(files, {}, read_at)
        watching = [
            loop.create_task(work) for work in (self._watcher.run(), self._terminal.forget())
        ]
        for watch in watching:
            hide(watch)
        async with control_socket.answering(self._config, self.reload) as self._listener:
            if self._listener is None:
                self._log.warning("no folder for a control socket: SIGHUP reloads")
            try:
                yield
            finally:
                loop.remove_signal_handler(signal.SIGHUP)
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
                for task in (*watching, *self._tasks):
                    task.cancel()

    async def reload(self) -> ReloadResult:
        """Reload, and wait for the result."""
        return await self._begin()

    def request(self) -> None:
        """Reload, without waiting for the result."""
        _ = self._begin()

    def close(self) -> None:
        """Close what a forked process got a copy of."""
        if self._listener is not None:
            self._listener.close()

    def _begin(self) -> asyncio.Task[ReloadResult]:
        """Reload in a task that no plugin finds, and that ends with the server."""
        return start_background(self._run(), self._tasks)

    def _on_hangup(self) -> None:
        """Reload, or stop where SIGHUP says that the terminal of the server was closed."""
        if self._terminal.is_closed:
            self._stop.hurry()
        else:
            self.request()

    def _on_changed_file(self) -> None:
        """Reload, unless that is under way: what changed after its beginning is seen again."""
        if not self._one_at_a_time.locked():
            self.request()

    async def _run(self) -> ReloadResult:
        async with self._one_at_a_time:
            systemd.notify(systemd.reloading())
            read_at, before = time.time(), await self._watcher.look()
            result = await self._reload()
            await self._watcher.expect(map(Path, result.files), before, read_at)
            systemd.notify(systemd.READY)
        if result.done:
            for line in (str(result), *(f"warning: {note}" for note in result.notes)):
                self._say(line)
        else:
            self._log.warning("the configuration was not reloaded", problems=result.problems)
        return result
