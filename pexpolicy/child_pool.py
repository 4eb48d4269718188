"""Pool of child processes: children that wait, calls that wait, and restarts with a delay."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Generic, TypeVar

from pexpolicy.child import Child, ChildError
from pexpolicy.tasks import run_in_thread, start_background

START_TIMEOUT_S = 15.0
"""Time for a child of a pool to become ready."""
MIN_RESTART_DELAY_S = 0.1
MAX_RESTART_DELAY_S = 30.0
"""Delay of the next start after two children that ended before a call; doubled each time."""
MEMORY_INTERVAL_S = 0.1
"""Interval between two memory checks."""

_log = logging.getLogger("pexpolicy.child_pool")


class PoolBusyError(Exception):
    """All children of a pool are busy, and too many calls wait."""


C = TypeVar("C", bound=Child[Any])


class ChildPool(Generic[C]):
    """Children with one call at a time each; one that fails is killed and replaced.

    ``make`` starts a process. Further calls wait, ``max_waiting`` of them at most.
    """

    def __init__(self, name: str, size: int, make: Callable[[], C], max_waiting: int = 32) -> None:
        self.children: set[C] = set()
        self.restarts = 0
        """The number of children that were replaced."""
        self._name = name
        self._size = size
        self._make = make
        self._max_waiting = max_waiting
        self._idle: list[C] = []
        self._waiting: deque[asyncio.Future[C]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pausing: list[Exception] = []
        self._is_closed = True

    def start(self) -> None:
        """Start the processes; this needs no event loop."""
        while len(self.children) < self._size:
            _ = self._add()

    def _add(self) -> C:
        child = self._make()
        self.children.add(child)
        child.on_end = partial(self._lost, child)
        return child

    async def open(self) -> None:
        """Get all children ready; raises what the first one raises that does not get ready."""
        self._is_closed = False
        self.start()
        _ = start_background(self._check_memory(), self._tasks)

        async def admit(child: C) -> None:
            await child.ready()
            self._release(child)

        await asyncio.gather(*map(admit, [*self.children]))

    async def close(self, grace: float = 0.0) -> None:
        """End all children, each within ``grace`` seconds, and wait for them."""
        self._is_closed = True
        self._idle.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._refuse_waiting(ChildError(f"the processes of {self._name} have ended"))
        await asyncio.gather(*(child.end(grace) for child in self.children))
        self.children.clear()

    def end_now(self) -> None:
        """Kill all children without an event loop."""
        while self.children:
            self.children.pop().end_now()

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[C]:
        """Wait for a child that is ready; raises ``ChildError`` and ``PoolBusyError``.

        It is replaced where the block raises, or where it uses too much memory at its end.
        """
        child = self._idle.pop() if self._idle else await self._next()
        child.calls += 1
        try:
            yield child
            if excess := child.excess():
                raise ChildError(excess)  # noqa: TRY301 - replaced as for other errors
        except BaseException:
            self._replace(child)
            raise
        self._release(child)

    async def ask(self, message: object) -> Any:
        """Return the answer of a child; as ``borrow``."""
        async with self.borrow() as child:
            return await child.ask(message)

    async def _next(self) -> C:
        """Wait for a child that is busy."""
        if len(self._pausing) == self._size:
            raise ChildError(str(self._pausing[-1]))
        if len(self._waiting) >= self._max_waiting:
            msg = f"all {self._size} workers are busy, and {self._max_waiting} calls are waiting"
            raise PoolBusyError(msg)
        turn: asyncio.Future[C] = asyncio.get_running_loop().create_future()
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

    def _release(self, child: C) -> None:
        """Pass a child to the call that has waited longest, or make it idle."""
        if child.has_ended:
            self._replace(child)
            return
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(child)
                return
        self._idle.append(child)

    def _lost(self, child: C) -> None:
        if child in self._idle:
            self._idle.remove(child)
            self._replace(child)

    def _replace(self, child: C) -> None:
        child.kill()
        if child in self.children and not self._is_closed:
            self.restarts += 1
            _ = start_background(self._renew(child), self._tasks)

    async def _renew(self, child: C) -> None:
        """Replace a child; with a growing delay when children end before a call."""
        await child.end()
        self.children.discard(child)
        failures = 0 if child.calls else child.idle_failures + 1
        error: Exception = ChildError(child.exit_reason)
        while True:
            if failures > 1:
                await self._pause(MIN_RESTART_DELAY_S * 2 ** min(failures - 2, 20), error)
            fresh: C | None = None
            try:
                fresh = self._add()
                async with asyncio.timeout(START_TIMEOUT_S):
                    await fresh.ready()
            except Exception as problem:  # noqa: BLE001 - every failure is retried
                if fresh is not None:
                    await fresh.end()
                    self.children.discard(fresh)
                text = str(problem) or "it was not ready in time"
                error = ChildError(f"{self._name} cannot be started again: {text}")
                failures += 1
            else:
                fresh.idle_failures = failures
                self._release(fresh)
                return

    async def _pause(self, seconds: float, error: Exception) -> None:
        """Wait before the next start; calls fail at once while all children wait."""
        self._pausing.append(error)
        try:
            if len(self._pausing) == self._size:
                self._refuse_waiting(error)
            await asyncio.sleep(min(seconds, MAX_RESTART_DELAY_S))
        finally:
            self._pausing.remove(error)

    def _refuse_waiting(self, error: Exception) -> None:
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(ChildError(str(error)))

    async def _check_memory(self) -> None:
        """Fail the calls of children that use too much memory, and replace idle ones."""
        while any(child.memory_mb for child in self.children):
            await asyncio.sleep(MEMORY_INTERVAL_S)
            # Not on the event loop, which could have to free the memory of a process that ends.
            with suppress(RuntimeError):  # plugins have used up all threads
                found = await run_in_thread(
                    lambda: [(child, child.excess()) for child in [*self.children]],
                    "pexpolicy-memory",
                )
                for child, excess in found:
                    if excess:
                        child.fail(ChildError(excess))
                    if excess and child in self._idle:
                        _log.warning("%s: it is replaced", excess)
                        self._lost(child)
