"""A bounded number of slow verifications at once, in order of their rank."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

AT_ONCE = 2
"""Verifications at the same time; each takes a thread, and the memory of scrypt."""
MAX_WAITING = 64
"""Verifications that wait for their turn."""


Rank = tuple[int, ...]
"""The lower, the sooner."""


class VerificationQueueFull(Exception):
    """There are too many verifications, and those that wait come before this one."""


class VerificationPool:
    """Runs slow work in threads of its own, off the event loop.

    The lowest rank is next, and the highest one makes room where too many wait.
    """

    def __init__(self, at_once: int = AT_ONCE, waiting: int = MAX_WAITING) -> None:
        self._free = at_once
        self._size = waiting
        self._waiting: list[tuple[Rank, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="pexpolicy-verify")
        self._closed = False

    async def run(self, rank: Rank, work: Callable[[], bool]) -> bool:
        """Do ``work`` in a thread when it is its turn; raises ``VerificationQueueFull``."""
        await self._turn(rank)
        try:
            if self._closed:
                raise VerificationQueueFull
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._free += 1
            self._next()

    async def _turn(self, rank: Rank) -> None:
        if self._closed:
            raise VerificationQueueFull
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        entry = (rank, next(self._numbers), turn)
        if len(self._waiting) >= self._size:
            self._make_room(entry)
        heapq.heappush(self._waiting, entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._free += 1
                self._next()
            raise

    def _make_room(self, entry: tuple[Rank, int, asyncio.Future[None]]) -> None:
        worst = max(self._waiting)
        if entry > worst:
            raise VerificationQueueFull
        self._waiting.remove(worst)
        heapq.heapify(self._waiting)
        if not worst[2].done():
            worst[2].set_exception(VerificationQueueFull())

    def _next(self) -> None:
        while self._waiting and self._free:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                self._free -= 1
                turn.set_result(None)

    def close(self) -> None:
        """Start no further work and wait for none; a caller in the queue gets
        ``VerificationQueueFull``.
        """
        self._closed = True
        for _, _, turn in self._waiting:
            if not turn.done():
                turn.set_exception(VerificationQueueFull())
        self._waiting.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)
