"""An asynchronous context manager in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from pexpolicy.tasks import hide

_GENERATORS = {
    "generator didn't yield": "it ended before its yield",
    "generator didn't stop": "it yields twice; a lifespan yields once",
}
"""What ``asynccontextmanager`` says of a generator, and what it means."""
_STUBBORN = "it suppresses its cancellation, as by except without a class"


class ContextTask:
    """An asynchronous context manager that is entered and left in a task of its own.

    A task group or cancel scope must be left by the task that entered it, and cancels only this
    task when it fails. ``on_failure`` is called with the exception that ended the context early, or
    that leaving it raised. Times in seconds. A context that suppresses its cancellation is left
    alone after another ``stop_timeout``, and closed as soon as it can be.
    """

    def __init__(
        self,
        context: AbstractAsyncContextManager[object],
        on_failure: Callable[[BaseException], None],
        start_timeout: float,
        stop_timeout: float,
    ) -> None:
        self._context = context
        self._on_failure = on_failure
        self._start_timeout, self._stop_timeout = start_timeout, stop_timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def open(self) -> None:
        """Enter the context; raises what entering it raises, and ``TimeoutError``."""
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[BaseException | None] = self._loop.create_future()
        self._task = self._loop.create_task(self._run(opened))
        hide(self._task)
        limit = self._start_timeout + self._stop_timeout
        try:
            await asyncio.wait((opened,), timeout=limit)
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait((self._task,), timeout=self._stop_timeout)
            raise
        if not opened.done():
            self._closing.set()
            raise TimeoutError(f"not open after {limit:.3g} s; {_STUBBORN}")
        if (error := opened.result()) is not None:
            raise error

    async def close(self) -> None:
        """Leave the context."""
        if self._task is not None:
            self._closing.set()
            limit = 2 * self._stop_timeout
            await asyncio.wait((self._task,), timeout=limit)
            if not self._task.done():
                self._on_failure(TimeoutError(f"not closed after {limit:.3g} s; {_STUBBORN}"))

    def close_soon(self) -> None:
        """Leave the context without waiting for it. Safe in any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._closing.set)

    async def _run(self, opened: asyncio.Future[BaseException | None]) -> None:
        start = asyncio.timeout(self._start_timeout)
        try:
            async with start:
                await self._context.__aenter__()
        except BaseException as error:  # noqa: BLE001 - it is raised where the opening is awaited
            opened.set_result(_named(error, start, f"not open after {self._start_timeout:.3g} s"))
            return
        opened.set_result(None)
        ended: BaseException | None = None
        try:
            await self._closing.wait()
        except BaseException as error:  # noqa: BLE001 - a task group in the context cancels this task
            ended = error
        stop = asyncio.timeout(self._stop_timeout)
        try:
            async with stop:
                await self._context.__aexit__(
                    type(ended) if ended is not None else None,
                    ended,
                    ended.__traceback__ if ended is not None else None,
                )
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            ended = _named(error, stop, f"not closed after {self._stop_timeout:.3g} s")
        if ended is not None:
            self._on_failure(ended)


def _named(error: BaseException, limit: asyncio.Timeout, text: str) -> BaseException:
    """Return an error that says what went wrong, where Python's own does not."""
    named: BaseException
    if isinstance(error, TimeoutError) and limit.expired():
        named = TimeoutError(text)
    elif type(error) is RuntimeError and str(error) in _GENERATORS:
        named = RuntimeError(_GENERATORS[str(error)])
    else:
        return error
    named.__cause__ = error
    return named
