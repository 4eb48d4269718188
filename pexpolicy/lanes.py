"""Running plugin code in tasks of its own, without paying for a task where it never waits.

A lane is a task that is parked, and that stands in as the current task while a coroutine runs its
first stretch. Most hooks are finished after that stretch: the lane was never woken, and goes back
to wait for the next call. A coroutine that does wait is handed to the lane and lives there from
then on, so that ``asyncio.current_task()`` is the same before and behind its first ``await``, and
everything that rests on it (``asyncio.timeout``, task groups, HTTP clients) works. Python 3.12 can
start a task eagerly, to the same effect; a parked task does it on each version, and does not have
to be created for each call.

The current task is exchanged by ``asyncio._leave_task`` and ``asyncio._enter_task``, which the
documentation of asyncio lists for this purpose ("Extending: Task lifetime support").
"""

from __future__ import annotations

import asyncio
import types
from asyncio import _enter_task, _leave_task, current_task
from collections.abc import Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any

from pexpolicy.hidden import hide

Work = Coroutine[Any, Any, None]
NOBODY = ("the server", "")


class Lane:
    """A parked task, and what was handed to it."""

    __slots__ = ("_context", "_lanes", "_running", "_waits_for", "_wake", "_work", "done", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop, lanes: Lanes) -> None:
        self._lanes = lanes
        self._running = NOBODY
        self._wake: asyncio.Future[None] = loop.create_future()
        self._work: Work | None = None
        self._context: Context | None = None
        self._waits_for: Any = None
        self.done: asyncio.Future[None] = loop.create_future()
        live = self._live()
        live.send(None)
        self.task = loop.create_task(live, name="pexpolicy-lane")
        hide(self.task)

    def take_over(self, work: Work, context: Context, waits_for: Any) -> None:
        """Go on with a coroutine that waits for the future it yielded."""
        self._work, self._context, self._waits_for = work, context, waits_for
        self._running = self._lanes.running
        if not self._wake.done():
            self._wake.set_result(None)

    async def _live(self) -> None:
        interrupted: BaseException | None = None
        try:
            # What cancels a task before its first step is thrown in here, and not before the try.
            await _begun()
            await self._wake
        except asyncio.CancelledError as error:
            if self._work is None:
                return
            interrupted = error
        try:
            await self._go_on(interrupted)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the lane decides
            if not self.done.done():
                self.done.set_exception(error)
                self.done.exception()
        else:
            if not self.done.done():
                self.done.set_result(None)

    @types.coroutine
    def _go_on(self, interrupted: BaseException | None) -> Generator[Any, Any, None]:
        """Drive the coroutine to its end, each stretch of it in the context of its first one."""
        work, context, lanes = self._work, self._context, self._lanes
        assert work is not None
        assert context is not None
        pending, value = self._waits_for, None
        try:
            if interrupted is not None:
                pending = context.run(work.throw, interrupted)
            while True:
                try:
                    value = yield pending
                except BaseException as error:  # noqa: BLE001 - it belongs to the coroutine
                    lanes.running = self._running
                    pending = context.run(work.throw, error)
                else:
                    lanes.running = self._running
                    pending = context.run(work.send, value)
                lanes.running = NOBODY
        except StopIteration:
            return


@types.coroutine
def _begun() -> Generator[None, None, None]:
    """A pause for a coroutine that was begun before it became a task."""
    yield


class Lanes:
    """The parked tasks of one event loop. Build it on that loop; ``close`` ends them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parked: list[Lane] = []
        self._leftovers: dict[Lane, str] = {}
        self.running = NOBODY
        """The plugin and the hook whose code runs, or ran last."""
        self.standing_in: asyncio.Task[None]
        """The parked task that stands in as the current one, while a coroutine runs its first
        stretch.
        """

    @property
    def leftovers(self) -> list[str]:
        """The names under which coroutines were abandoned that have not ended yet."""
        return sorted(self._leftovers.values())

    def begin(self, work: Work) -> Lane | None:
        """Run a coroutine up to its end, or to the first time that it waits.

        Returns ``None`` in the first case and else the lane in which it goes on; ``lane.done``
        tells when it has ended. What the coroutine raises before it waits is raised here.
        """
        loop, parked = self._loop, self._parked
        lane = parked.pop() if parked else Lane(loop, self)
        task = self.standing_in = lane.task
        context = copy_context()
        current = current_task(loop)
        if current is not None:
            _leave_task(loop, current)
        _enter_task(loop, task)
        try:
            waits_for = context.run(work.send, None)
        except StopIteration:
            # A task that something cancelled meanwhile cannot serve another call.
            if not task.cancelling():
                parked.append(lane)
            return None
        except BaseException:
            task.cancel()
            raise
        finally:
            _leave_task(loop, task)
            if current is not None:
                _enter_task(loop, current)
        lane.take_over(work, context, waits_for)
        return lane

    def abandon(self, lane: Lane, name: str) -> None:
        """Cancel what runs in a lane, and wait for it no longer; remember it until it has ended."""
        self._leftovers[lane] = name
        lane.done.add_done_callback(lambda _: self._leftovers.pop(lane, None))
        lane.task.cancel()

    async def close(self) -> None:
        """End the parked lanes; cancel what was abandoned once more and give it a moment to end."""
        tasks = [lane.task for lane in (*self._parked, *self._leftovers)]
        self._parked.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=0.2)
