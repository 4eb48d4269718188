"""Answers that wait on purpose; all of them end at once when the server does."""

from __future__ import annotations

import asyncio


class Delays:
    """Waits that can be ended together. Each costs a timer, and no thread."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()
        self._ended = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, seconds: float) -> None:
        """Wait for so long, or until ``end``."""
        if self._ended:
            return
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        timer = loop.call_later(seconds, _finish, over)
        self._waiting.add(over)
        try:
            await over
        finally:
            timer.cancel()
            self._waiting.discard(over)

    def end(self) -> None:
        """Let all go on, and nobody wait any more."""
        self._ended = True
        for over in self._waiting:
            _finish(over)


def _finish(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
