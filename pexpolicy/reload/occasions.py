"""What makes a server reload: SIGHUP, a file that has changed, and ``pexpolicy reload``."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from pexpolicy import notify
from pexpolicy.faults import Log
from pexpolicy.hidden import hide
from pexpolicy.reload.desk import open_desk
from pexpolicy.reload.reloading import Reloads
from pexpolicy.reload.verdict import Verdict
from pexpolicy.reload.watching import Watch
from pexpolicy.watched import look_at


class Occasions:
    """Reloads when something asks for it, and says what came of it.

    ``read_at`` is when the policy in force began to be made, in seconds since the epoch.
    """

    def __init__(
        self, reloads: Reloads, log: Log, say: Callable[[str], None], read_at: float
    ) -> None:
        self._read_at = read_at
        self._reloads = reloads
        self._log = log
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._watch = Watch(self._seen)
        self._begun: set[asyncio.Task[Verdict]] = set()
        self._under_way = 0

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Take every occasion while inside."""
        self._loop.add_signal_handler(signal.SIGHUP, self.begin)
        self._watch.look_after(self._reloads.policy.files, {}, self._read_at)
        self._watch.start()
        try:
            async with open_desk(self._reloads.policy.settings.path, self._asked) as placed:
                if not placed:
                    self._log.warning("no folder for a control socket: SIGHUP reloads")
                yield
        finally:
            self._loop.remove_signal_handler(signal.SIGHUP)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            self._watch.stop()
            for task in self._begun:
                task.cancel()

    def _seen(self) -> None:
        """A file has changed; told by the thread that watches."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._begin_unless_under_way)

    def _begin_unless_under_way(self) -> None:
        """Reload, unless that is being done: what changed later than it began is seen again."""
        if not self._under_way:
            self.begin()

    def begin(self) -> None:
        """Reload, and let nobody wait for it."""
        _ = self._task()

    def _task(self) -> asyncio.Task[Verdict]:
        """A reload that no plugin finds, and that ends with the server."""
        task = self._loop.create_task(self._reload())
        hide(task)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return task

    async def _asked(self) -> Verdict:
        """Reload for somebody who waits for the verdict."""
        return await self._task()

    async def _reload(self) -> Verdict:
        """Reload, and say what came of it."""
        notify.notify(notify.reloading())
        read_at = time.time()
        before = look_at({*self._reloads.policy.files, *self._reloads.suspects})
        self._under_way += 1
        try:
            verdict = await self._reloads.reload()
        finally:
            self._under_way -= 1
        files = {*self._reloads.policy.files, *self._reloads.suspects}
        self._watch.look_after(files, before, read_at)
        notify.notify(notify.READY)
        if verdict.done:
            self._say(str(verdict))
            for note in verdict.notes:
                self._say(f"warning: {note}")
        else:
            self._log.warning("the configuration was not reloaded", problems=verdict.problems)
        return verdict
