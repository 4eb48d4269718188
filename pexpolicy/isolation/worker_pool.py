"""Worker pool of one plugin: idle workers, waiting calls, and restarts.

Memory is limited by resident size, measured during a call and at its end. A limit on the address
space (RLIMIT_AS) would need no polling, but it counts what threads, mapped files and allocators
only reserve, so no value of it is meaningful to an administrator, and any allocation may fail, in
our own code too. Without /proc, memory is not limited.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from pexpolicy.chain.thread_pool import PluginBusyError
from pexpolicy.isolation.messages import Message, Report, WorkerError
from pexpolicy.isolation.process_limits import ProcessLimits
from pexpolicy.isolation.worker_process import WorkerProcess
from pexpolicy.tasks import hide, start_background

MAX_WAITING = 32
"""Calls that may wait for a worker; further ones fail at once."""
START_TIMEOUT_S = 15.0
"""Time for a worker to build the plugin."""
MIN_RESTART_DELAY_S = 0.1
MAX_RESTART_DELAY_S = 30.0
"""Delay of the next start after two workers that ended before a call; doubled each time."""
MEMORY_INTERVAL_S = 0.1
"""Interval between two memory checks."""

_log = logging.getLogger("pexpolicy.isolation")


class WorkerPool:
    """The workers of one plugin; each answers one call at a time.

    ``start`` prepares a worker after ``adopt``; its exceptions are shown to the operator.
    """

    def __init__(
        self,
        name: str,
        workers: Iterable[WorkerProcess],
        limits: ProcessLimits,
        start: Callable[[WorkerProcess], Awaitable[None]],
    ) -> None:
        self.workers = set(workers)
        self._name = name
        self._size = len(self.workers)
        self._limits = limits
        self._start = start
        self._idle: list[WorkerProcess] = []
        self._waiting: deque[asyncio.Future[WorkerProcess]] = deque()
        self._replacements: set[asyncio.Task[None]] = set()
        self._pausing: list[WorkerError] = []
        self._closed = True
        self._watch: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Attach the workers to the running event loop; raises ``WorkerError``."""
        self._closed = False
        self._watch = asyncio.create_task(self._check_workers())
        hide(self._watch)
        await asyncio.gather(*(self._open(worker) for worker in list(self.workers)))

    async def _open(self, worker: WorkerProcess) -> None:
        await worker.adopt()
        await worker.open()
        self._release(worker)

    async def close(self) -> None:
        """End all workers and wait for them."""
        self._closed = True
        self._idle.clear()
        tasks = [task for task in (*self._replacements, self._watch) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._refuse_waiting(f"the workers of {self._name} have ended")
        await asyncio.gather(*(worker.end() for worker in self.workers))
        self.workers.clear()

    async def ask(self, message: Message) -> Report:
        """Return the reply of an idle worker.

        A worker that fails, or whose call is cancelled, is replaced. Raises ``WorkerError``, and
        ``PluginBusyError`` when too many calls wait.
        """
        worker = await self._take()
        worker.calls += 1
        try:
            reply = await worker.call(message)
        except BaseException:
            self._replace(worker)
            raise
        if excess := worker.memory_excess():
            self._replace(worker)
            raise WorkerError(excess)
        self._release(worker)
        return reply

    async def _take(self) -> WorkerProcess:
        if self._idle:
            return self._idle.pop()
        if len(self._pausing) == self._size:
            raise WorkerError(str(self._pausing[-1]))
        if len(self._waiting) >= MAX_WAITING:
            msg = f"all {self._size} workers are busy, and {MAX_WAITING} calls are waiting"
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
        """Pass a worker to the call that has waited longest, or make it idle."""
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
            _ = start_background(self._renew(worker), self._replacements)

    async def _renew(self, worker: WorkerProcess) -> None:
        """Replace a worker; with a growing delay when workers end before a call."""
        await self._end(worker)
        idle_failures = 0 if worker.calls else worker.idle_failures + 1
        fault = WorkerError(worker.exit_reason)
        while True:
            if idle_failures > 1:
                await self._pause(MIN_RESTART_DELAY_S * 2 ** min(idle_failures - 2, 20), fault)
            try:
                fresh = await self._fresh(idle_failures)
            except (WorkerError, OSError) as error:
                fault = WorkerError(f"{self._name} cannot be started again: {error}")
                idle_failures += 1
            else:
                self._release(fresh)
                return

    async def _pause(self, seconds: float, fault: WorkerError) -> None:
        """Wait before the next start; calls fail at once while all workers wait."""
        self._pausing.append(fault)
        try:
            if len(self._pausing) == self._size:
                self._refuse_waiting(str(fault))
            await asyncio.sleep(min(seconds, MAX_RESTART_DELAY_S))
        finally:
            self._pausing.remove(fault)

    def _refuse_waiting(self, text: str) -> None:
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(WorkerError(text))

    async def _fresh(self, idle_failures: int) -> WorkerProcess:
        worker = WorkerProcess(self._name, self._limits, idle_failures)
        self.workers.add(worker)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await worker.adopt()
                await self._start(worker)
                await worker.open()
        except Exception as error:  # noqa: BLE001 - every failure is retried
            await self._end(worker)
            msg = str(error) or f"it was not ready within {START_TIMEOUT_S:.3g} s"
            raise WorkerError(msg) from None
        return worker

    async def _end(self, worker: WorkerProcess) -> None:
        await worker.end(grace=0.0)
        self.workers.discard(worker)

    async def _check_workers(self) -> None:
        while True:
            await asyncio.sleep(MEMORY_INTERVAL_S)
            now = time.monotonic()
            for worker in list(self.workers):
                if excess := worker.excess(now):
                    worker.fail(WorkerError(excess))
                    if worker in self._idle:
                        _log.warning("%s: it is replaced", excess)
                        self._lost(worker)


def end_now(workers: set[WorkerProcess]) -> None:
    """Kill workers without an event loop."""
    while workers:
        workers.pop().end_now()
