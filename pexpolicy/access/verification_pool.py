"""Bounded priority queue and threads for slow password verification."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

MAX_RUNNING = 2
"""Verifications at the same time; each takes a thread, and the memory of scrypt."""
MAX_QUEUED = 64
"""Verifications in the queue."""

Rank = tuple[int, ...]
"""Priority; the lowest is first."""


class VerificationQueueFull(Exception):
    """The queue is full of verifications with a lower rank."""


class VerificationPool:
    """Runs slow work in threads of its own.

    The entry with the lowest rank is next. When the queue is full, the one with the highest rank is
    dropped.
    """

    def __init__(self, max_running: int = MAX_RUNNING, max_queued: int = MAX_QUEUED) -> None:
        self._free = max_running
        self._max_queued = max_queued
        self._queue: list[tuple[Rank, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._threads = ThreadPoolExecutor(max_running, thread_name_prefix="pexpolicy-verify")
        self._closed = False

    async def run(self, rank: Rank, work: Callable[[], bool]) -> bool:
        """Run ``work`` in a thread when it is its turn; raises ``VerificationQueueFull``."""
        await self._wait_for_turn(rank)
        try:
            if self._closed:
                raise VerificationQueueFull
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._free += 1
            self._start_next()

    async def _wait_for_turn(self, rank: Rank) -> None:
        if self._closed:
            raise VerificationQueueFull
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        entry = (rank, next(self._numbers), turn)
        if len(self._queue) >= self._max_queued:
            self._drop_last(entry)
        heapq.heappush(self._queue, entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._free += 1
                self._start_next()
            raise

    def _drop_last(self, entry: tuple[Rank, int, asyncio.Future[None]]) -> None:
        worst = max(self._queue)
        if entry > worst:
            raise VerificationQueueFull
        self._queue.remove(worst)
        heapq.heapify(self._queue)
        if not worst[2].done():
            worst[2].set_exception(VerificationQueueFull())

    def _start_next(self) -> None:
        while self._queue and self._free:
            turn = heapq.heappop(self._queue)[2]
            if not turn.done():
                self._free -= 1
                turn.set_result(None)

    def close(self) -> None:
        """Start no further work and do not wait for any; callers in the queue get
        ``VerificationQueueFull``.
        """
        self._closed = True
        for _, _, turn in self._queue:
            if not turn.done():
                turn.set_exception(VerificationQueueFull())
        self._queue.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)
