"""The workers of one plugin: who is free, who waits for one, and replacing those that end.

Memory is measured as what is resident, during a call and at its end. A limit on addresses
(RLIMIT_AS) would need no watching, but it counts what threads, mapped files and allocators only
reserve, so that no value of it means anything to an administrator, and any allocation may be what
fails then, in our own code too. Where there is no /proc, memory is not limited.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from pexpolicy.chain.thread_pool import PluginBusyError
from pexpolicy.plugins.isolation.messages import Message, Report, WorkerError
from pexpolicy.plugins.isolation.worker_process import WorkerProcess
from pexpolicy.tasks import hide, start_background

MOST_WAITING = 32
"""Calls that may wait for a worker; further ones are refused at once."""
START_LIMIT = 15.0
"""Seconds that a worker has to build the plugin in."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 30.0
"""Seconds before the next start after two workers that were never asked; doubled each time."""
WATCH = 0.1
"""Seconds between two looks at the memory."""
MIB = 1024 * 1024


class WorkerPool:
    """The workers of one plugin, ``workers``; each answers one call at a time. ``memory`` in bytes.

    ``start`` makes a worker ready once it is adopted; it raises what an operator is to read.
    """

    def __init__(
        self,
        name: str,
        workers: Iterable[WorkerProcess],
        memory: int,
        start: Callable[[WorkerProcess], Awaitable[None]],
    ) -> None:
        self.workers = set(workers)
        self._name = name
        self._size = len(self.workers)
        self._memory = memory
        self._start = start
        self._idle: list[WorkerProcess] = []
        self._waiting: deque[asyncio.Future[WorkerProcess]] = deque()
        self._renewals: set[asyncio.Task[None]] = set()
        self._pausing: list[WorkerError] = []
        self._closed = True
        self._watch: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Go on with the workers on the running event loop; raises ``WorkerError``."""
        self._closed = False
        self._watch = asyncio.create_task(self._keep_watch())
        hide(self._watch)
        await asyncio.gather(*(self._open(worker) for worker in list(self.workers)))

    async def _open(self, worker: WorkerProcess) -> None:
        await worker.adopt()
        await worker.open()
        self._release(worker)

    async def close(self) -> None:
        """End all workers; afterwards nothing of them is left."""
        self._closed = True
        self._idle.clear()
        tasks = [task for task in (*self._renewals, self._watch) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._refuse_waiting(f"the workers of {self._name} have ended")
        await asyncio.gather(*(worker.end() for worker in self.workers))
        self.workers.clear()

    async def ask(self, message: Message) -> Report:
        """What a free worker answers.

        One that fails to, or that is not waited for any more, is replaced. Raises ``WorkerError``,
        and ``PluginBusyError`` when too many calls wait.
        """
        worker = await self._take()
        worker.begun += 1
        try:
            told = await worker.call(message)
            self._check_memory(worker)
        except BaseException:
            self._replace(worker)
            raise
        self._release(worker)
        return told

    async def _take(self) -> WorkerProcess:
        if self._idle:
            return self._idle.pop()
        if len(self._pausing) == self._size:
            raise WorkerError(str(self._pausing[-1]))
        if len(self._waiting) >= MOST_WAITING:
            msg = (
                f"all {self._size} workers are taken, and {MOST_WAITING} calls wait for one already"
            )
            raise PluginBusyError(msg)
        turn: asyncio.Future[WorkerProcess] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._release(turn.result())
            raise
        finally:
            with suppress(ValueError):
                self._waiting.remove(turn)

    def _release(self, worker: WorkerProcess) -> None:
        """Give a worker to the call that waits longest, if any."""
        if worker.lost:
            self._replace(worker)
            return
        worker.on_loss = self._lost
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(worker)
                return
        self._idle.append(worker)

    def _lost(self, worker: WorkerProcess) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
            self._replace(worker)

    def _replace(self, worker: WorkerProcess) -> None:
        worker.kill()
        if worker in self.workers and not self._closed:
            _ = start_background(self._renew(worker), self._renewals)

    async def _renew(self, worker: WorkerProcess) -> None:
        """Put another worker in the place of one; slower each time when those do not last."""
        await self._end(worker)
        barren = 0 if worker.begun else worker.barren + 1
        fault = WorkerError(worker.obituary)
        while True:
            if barren > 1:
                await self._pause(FIRST_PAUSE * 2 ** min(barren - 2, 20), fault)
            try:
                fresh = await self._fresh(barren)
            except (WorkerError, OSError) as error:
                fault = WorkerError(f"{self._name} cannot be started again: {error}")
                barren += 1
            else:
                self._release(fresh)
                return

    async def _pause(self, seconds: float, fault: WorkerError) -> None:
        """Wait before the next start; calls fail at once while each worker is in such a pause."""
        self._pausing.append(fault)
        try:
            if len(self._pausing) == self._size:
                self._refuse_waiting(str(fault))
            await asyncio.sleep(min(seconds, LONGEST_PAUSE))
        finally:
            self._pausing.remove(fault)

    def _refuse_waiting(self, text: str) -> None:
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(WorkerError(text))

    async def _fresh(self, barren: int) -> WorkerProcess:
        worker = WorkerProcess(self._name, barren)
        self.workers.add(worker)
        try:
            async with asyncio.timeout(START_LIMIT):
                await worker.adopt()
                await self._start(worker)
                await worker.open()
        except Exception as error:  # noqa: BLE001 - it is tried again, whatever it was
            await self._end(worker)
            msg = str(error) or f"it did not get ready within {START_LIMIT:.3g} s"
            raise WorkerError(msg) from None
        return worker

    async def _end(self, worker: WorkerProcess) -> None:
        await worker.end(patience=0.0)
        self.workers.discard(worker)

    async def _keep_watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH)
            for worker in list(self.workers):
                try:
                    self._check_memory(worker)
                except WorkerError as fault:
                    worker.fail(fault)
                    self._lost(worker)

    def _check_memory(self, worker: WorkerProcess) -> None:
        used = worker.memory
        if used > self._memory:
            msg = (
                f"the worker process of {self._name} used {used // MIB} MiB of memory, and its "
                f"memory_mb is {self._memory // MIB}"
            )
            raise WorkerError(msg)


def end_now(workers: set[WorkerProcess]) -> None:
    """End workers where there is no event loop."""
    while workers:
        workers.pop().end_now()
