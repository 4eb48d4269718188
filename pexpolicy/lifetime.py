"""The life of a regime: opened, in force, out of force, and closed behind its last call."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from pexpolicy.hidden import hide
from pexpolicy.regime import Regime

LAST_CALL = 10.0
"""Seconds for the last calls of a regime. Their budget is shorter: it is for faults of ours."""


class Lifetime:
    """The life of one regime, in a task of its own.

    What a plugin opens has to be closed by the task that opened it: task groups and cancel scopes
    insist on that.
    """

    def __init__(self, regime: Regime) -> None:
        self.regime = regime
        self._over = asyncio.Event()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open what the plugins need; raises ``ConfigError`` for what does not open."""
        self._task = asyncio.get_running_loop().create_task(self._live())
        hide(self._task)
        try:
            await self._opened
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    async def _live(self) -> None:
        try:
            async with self.regime.policy.serving():
                self._opened.set_result(None)
                await self._over.wait()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.regime.calls.finished(), LAST_CALL)
        except BaseException as error:
            if self._opened.done():
                raise
            self._opened.set_exception(error)

    async def close(self) -> None:
        """Wait for the last call under way, and close what the plugins opened."""
        self._over.set()
        if self._task is not None:
            await asyncio.wait((self._task,))
