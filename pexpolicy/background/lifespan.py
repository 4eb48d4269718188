"""What a plugin or a source has open while it is used: its lifespan and its background work."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from contextvars import ContextVar
from functools import partial
from typing import Any, cast

from pexpolicy.background.refreshed import Refreshed
from pexpolicy.background.schedule import JobHistory, ScheduledJob, entered
from pexpolicy.background.shared import Leases
from pexpolicy.background.shared_state import SharedState
from pexpolicy.errors import Log, PluginFailureLog, describe_error
from pexpolicy.models.context import HOOK_CONTEXT
from pexpolicy.tasks import end_tasks, hide

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 2.0
RETRIEVAL_S = 0.1
"""Seconds after the end of a task in which other code may retrieve its exception."""
MAX_FAILURES = 20
"""Failures of one plugin that are remembered."""

_SUPERVISOR: ContextVar[TaskSupervisor | None] = ContextVar("supervisor", default=None)
"""The supervisor of the lifespan that runs; tasks that it starts inherit it."""
_UNRETRIEVED = "_log_traceback"
"""True while no code has retrieved the exception of a task; private, and in no public form."""
assert hasattr(asyncio.Future, _UNRETRIEVED)


class TaskSupervisor:
    """Records and logs what ends by a failure in the background of a plugin or source.

    It does not refer to the plugin: whatever was started by a lifespan refers to it, perhaps for as
    long as the process runs.
    """

    def __init__(self, name: str, log: Log | None) -> None:
        self.failures: list[str] = []
        self._name = name
        self._failure_log = PluginFailureLog(log, "lifespan")

    def check_later(self, task: asyncio.Task[Any]) -> None:
        """Record a task that has ended by an exception, if no code retrieves that."""
        if getattr(task, _UNRETRIEVED):
            task.get_loop().call_later(RETRIEVAL_S, self._check, task)

    def _check(self, task: asyncio.Task[Any]) -> None:
        if getattr(task, _UNRETRIEVED) and (error := task.exception()) is not None:
            self.record(f"its task {task.get_name()} ended", error)

    def record(self, what: str, error: BaseException) -> None:
        """Record and log a failure."""
        report = describe_error(error)
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(f"{what}: {report.summary}")
        now = asyncio.get_running_loop().time()
        self._failure_log.failed("plugin failed", self._name, report, now, what=what)


def _supervised_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    """Create a task; one that the lifespan of a plugin starts is supervised."""
    task = asyncio.Task(coroutine, loop=loop, **options)
    if (supervisor := _SUPERVISOR.get()) is not None:
        task.add_done_callback(supervisor.check_later)
    return task


class Lifespan:
    """Opens one plugin or source, and supervises what runs in the background until it is closed.

    ``context`` is entered and left in one task of its own, as a task group must be, and one that
    fails cancels only this task. A context that suppresses its cancellation is left alone, and
    closed as soon as it can be. ``name`` is that of a plugin, or ``sources.NAME``; ``timeout`` the
    seconds for one answer. Without a ``history``, in a dry run, no jobs run and no files are
    written.
    """

    has_ended = False
    """True once the context could not be opened, or has ended by a failure."""
    _loop: asyncio.AbstractEventLoop | None = None
    _task: asyncio.Task[None] | None = None

    def __init__(  # noqa: PLR0913 - they have defaults and names
        self,
        name: str,
        context: AbstractAsyncContextManager[object] | None,
        log: Log | None,
        refreshed: Sequence[Refreshed[Any]] = (),
        jobs: Sequence[ScheduledJob] = (),
        *,
        history: JobHistory | None = None,
        state: SharedState | None = None,
        timeout: float = 0.0,
    ) -> None:
        self.name = name
        self.refreshed = tuple(refreshed)
        self.jobs: list[ScheduledJob] = []
        """The jobs that run in this process."""
        self._context = context
        self._supervisor = TaskSupervisor(name, log)
        self.failures = self._supervisor.failures
        """What has ended by a failure: the lifespan, and tasks that it started."""
        # The time of an answer is longer only while a plugin is debugged without time limits.
        start = max(START_TIMEOUT_S, timeout)
        self._start_timeout = start + max((d.timeout for d in refreshed), default=0.0)
        self._closing = asyncio.Event()
        for data in refreshed:
            data.bind(name, log)
            data.keeps_file = history is not None
        for job in jobs:
            if history is not None and (history.is_first_worker or job.once_per != "server"):
                job.bind(name, log)
                job.history = history
                if job.once_per == "fleet" and state is not None:
                    turns = Leases("jobs", job.every + job.timeout)
                    turns.bind("", state)
                    job.is_turn = partial(turns.acquire, f"{name}/{job.name}", state.process, 1)
                self.jobs.append(job)

    def report(self) -> dict[str, Any]:
        """Return the state of the background work, for the status."""
        return {
            "data": {data.name: data.report() for data in self.refreshed},
            "jobs": {job.name: job.report() for job in self.jobs},
            "failures": list(self.failures),
        }

    async def open(self) -> None:
        """Enter the context and fetch the data; raise what that raises, and ``TimeoutError``."""
        if self._context is None and not self.refreshed and not self.jobs:
            return
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[BaseException | None] = self._loop.create_future()
        self._task = self._loop.create_task(self._run(opened))
        hide(self._task)
        limit = self._start_timeout + STOP_TIMEOUT_S
        try:
            await asyncio.wait((opened,), timeout=limit)
        except asyncio.CancelledError:
            await end_tasks((self._task,), STOP_TIMEOUT_S)
            raise
        if not opened.done():
            self._closing.set()
            self.has_ended = True
            raise TimeoutError(f"not open after {limit:.3g} s; {_STUBBORN}")
        if (error := opened.result()) is not None:
            raise error

    async def close(self) -> None:
        """Stop the background work and leave the lifespan; failures are logged."""
        if self._task is not None:
            self._closing.set()
            limit = 2 * STOP_TIMEOUT_S
            await asyncio.wait((self._task,), timeout=limit)
            if not self._task.done():
                late = TimeoutError(f"not closed after {limit:.3g} s; {_STUBBORN}")
                self._supervisor.record(_ENDED, late)

    def close_soon(self) -> None:
        """Do the same without waiting for it. Safe in any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._closing.set)

    async def _run(self, opened: asyncio.Future[BaseException | None]) -> None:
        loop = asyncio.get_running_loop()
        limit, text = asyncio.timeout(self._start_timeout), f"open after {self._start_timeout:.3g}"
        try:
            async with limit, AsyncExitStack() as stack:
                await self._enter(stack)
                _move(limit, None)
                opened.set_result(None)
                try:
                    await self._closing.wait()
                finally:  # a task group in the context cancels this task
                    _move(limit, loop.time() + STOP_TIMEOUT_S)
                    text = f"closed after {STOP_TIMEOUT_S:.3g}"
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            if isinstance(error, TimeoutError) and limit.expired():
                error = TimeoutError(f"not {text} s").with_traceback(error.__traceback__)
            self.has_ended = True
            if opened.done():
                self._supervisor.record(_ENDED, error)
            else:
                opened.set_result(error)

    async def _enter(self, stack: AsyncExitStack) -> None:
        _SUPERVISOR.set(self._supervisor)
        HOOK_CONTEXT.set(((self.name, "lifespan"), None))
        loop = asyncio.get_running_loop()
        if loop.get_task_factory() is None:
            loop.set_task_factory(cast("Any", _supervised_task))
        if self._context is not None:
            await stack.enter_async_context(entered(self._context))
        # A plugin that needs data in its lifespan has opened it there.
        closed = [data for data in self.refreshed if not data.is_open]
        for data in closed:
            stack.push_async_callback(data.close)
        opened = await asyncio.gather(*(d.open() for d in closed), return_exceptions=True)
        if failed := [result for result in opened if result is not None]:
            raise failed[0]
        for job in self.jobs:
            await stack.enter_async_context(job)


def _move(limit: asyncio.Timeout, when: float | None) -> None:
    if not limit.expired():  # as it is once a context has suppressed its cancellation
        limit.reschedule(when)


_ENDED = "its lifespan ended"
_STUBBORN = "it suppresses its cancellation, as by except without a class"
