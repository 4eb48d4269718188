"""Background work that a plugin declares in its constructor, and its scheduled jobs.

A job runs at an interval, in one worker process of the server or in each.
"""

from __future__ import annotations

import asyncio
import fcntl
import inspect
import os
import re
import struct
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

from pexpolicy.chain.failure_log import PluginFailureLog
from pexpolicy.config.problems import PluginBuildError
from pexpolicy.errors import Log, describe_error
from pexpolicy.models.context import HOOK_CONTEXT, hook_context
from pexpolicy.models.outcome import FAILED, TIMED_OUT
from pexpolicy.tasks import Failure, capture, end_tasks, hide

T = TypeVar("T")
P = TypeVar("P", bound="Periodic[Any]")

_DECLARED: ContextVar[list[Periodic[Any]] | None] = ContextVar("declared", default=None)
"""What is declared while a plugin is built or opened. A constructor of an author has no parameter
for it, and policies are built in several threads and tasks at a time.
"""
_AWAITABLE = re.compile("Any|Awaitable|Coroutine|Future|Task")
"""In the annotation of a plain function that returns what can be awaited."""
_IMPORT = "import"
_MAY_DECLARE = ("", "__init__", "lifespan")
"""Hooks in which background work may be declared; the first is code outside of hooks."""
STOP_TIMEOUT_S = 0.5
"""Seconds for a run to end after its cancellation."""


class DeclarationError(PluginBuildError):
    """Background work was declared where the server would never run it."""


class Periodic(ABC, Generic[T]):
    """Background work that the server runs at an interval, or ``async with``. Times in seconds."""

    declared_as: ClassVar[str]
    """How a plugin makes it, such as ``schedule(...)``."""
    kind: ClassVar[str]
    """The field of its name in log lines."""

    def __init__(
        self, function: Callable[[], Awaitable[T]], name: str, every: float, timeout: float
    ) -> None:
        _check_function(function, self.declared_as.partition("(")[0])
        check_seconds(every=every, timeout=timeout)
        self.name = name
        self.every = every
        self.timeout = timeout
        self.problem = ""
        """Why the last run failed; empty after a success."""
        self._function = function
        self._plugin = ""
        self._failure_log = PluginFailureLog(None, "")
        self._task: asyncio.Task[None] | None = None
        self._running: asyncio.Task[T | Failure] | None = None
        _declare(self)

    @property
    def is_open(self) -> bool:
        """True until ``close``."""
        return self._task is not None

    async def open(self) -> None:
        """Run it at its interval until ``close``."""
        self._task = asyncio.get_running_loop().create_task(self._run_until_closed())
        hide(self._task)

    async def close(self) -> None:
        """End the present run, and start no other one."""
        tasks, self._task = (self._task, self._running), None
        if not await end_tasks(tasks, STOP_TIMEOUT_S):
            self._warn("a run did not end", TimeoutError("it suppresses its cancellation"))

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @abstractmethod
    async def _run_until_closed(self) -> None:
        """Run it at its interval."""

    async def _run_once(self) -> T | Failure:
        """Return what the function returns, or why it failed.

        One that is late may take a while to end, or for ever: until then it is not called again.
        """
        if self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().create_task(capture(self._function))
        task = self._running
        await asyncio.wait((task,), timeout=self.timeout)
        if task.done():
            return task.result()
        task.cancel()
        return Failure(TimeoutError(f"no answer within {self.timeout:.3g} s"))

    def _bind(self, plugin: str, log: Log | None, kind: str) -> None:
        """Log failures under the name of the plugin."""
        self._plugin = plugin
        self._failure_log = PluginFailureLog(log, kind)

    def _warn(self, event: str, error: BaseException, **more: object) -> None:
        now = asyncio.get_running_loop().time()
        report = describe_error(error)
        self._failure_log.failed(event, self._plugin, report, now, **{self.kind: self.name}, **more)


@contextmanager
def collecting_declarations() -> Iterator[list[Periodic[Any]]]:
    """Yield a list to which everything is added that is declared inside."""
    declared: list[Periodic[Any]] = []
    token = _DECLARED.set(declared)
    try:
        yield declared
    finally:
        _DECLARED.reset(token)


@asynccontextmanager
async def entered(context: AbstractAsyncContextManager[object]) -> AsyncIterator[None]:
    """Enter a lifespan; raise ``DeclarationError`` for work declared meanwhile that is not open."""
    async with AsyncExitStack() as stack:
        with collecting_declarations() as declared:
            await stack.enter_async_context(context)
        for item in declared:
            if not item.is_open:
                where = f"in __init__, or async with {item.declared_as}"
                text = f"{item.declared_as} in lifespan runs nothing: write it {where}"
                raise DeclarationError.because(text)
        yield


def importing(name: str) -> AbstractContextManager[None]:
    """Refuse declarations while a module is imported: a reload does not import it again."""
    return hook_context(name, _IMPORT)


def _declare(item: Periodic[Any]) -> None:
    """Declare background work of the plugin that is being built.

    Raises ``DeclarationError`` in a module that is being imported, and in a hook that is called.
    """
    (_, hook), _ = HOOK_CONTEXT.get()
    if hook not in _MAY_DECLARE:
        where = "outside of a class" if hook == _IMPORT else f"in {hook}"
        text = f"{item.declared_as} {where} runs nothing: write it in __init__"
        raise DeclarationError.because(text)
    declared = _DECLARED.get()
    if declared is not None:
        declared.append(item)


def declared_by(instance: object, declared: list[Periodic[Any]], kind: type[P]) -> tuple[P, ...]:
    """Return the declarations of a kind, including attributes of an instance built elsewhere.

    Raises ``DeclarationError`` for two of one name.
    """
    items = [*declared, *getattr(instance, "__dict__", {}).values()]
    found = tuple({id(item): item for item in items if isinstance(item, kind)}.values())
    for name, count in Counter(item.name for item in found).items():
        if count > 1:
            text = f"two {found[0].declared_as} have the name {name!r}: give each its own name="
            raise DeclarationError.because(text)
    return found


def _check_function(function: object, what: str) -> None:
    """Raise ``TypeError`` for what is no coroutine function that takes no arguments.

    A plain function is accepted where it may return an awaitable: a lambda, one that is annotated
    so, and a callable of another kind.
    """
    wanted = f"{what} takes a coroutine function"
    if inspect.iscoroutine(function):
        function.close()
        raise TypeError(f"{wanted} itself: write {function.__name__}, without ()")
    if not callable(function):
        raise TypeError(f"{wanted}, and not {type(function).__name__}")
    inner = function.func if isinstance(function, partial) else function
    name = getattr(inner, "__name__", "the function")
    inner = inspect.unwrap(inner)
    if inspect.isasyncgenfunction(inner):
        raise TypeError(f"{wanted}, and {name} yields: write return")
    if (
        inspect.isroutine(inner)
        and not inspect.iscoroutinefunction(inner)
        and name != "<lambda>"
        and not _AWAITABLE.search(str(getattr(inner, "__annotations__", {}).get("return", "")))
    ):
        raise TypeError(f"{wanted}, and {name} is not asynchronous: write async def")
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise TypeError(f"{what} calls {name} without arguments: {error}") from None
    except ValueError:
        pass  # some callables have no signature


def check_seconds(**seconds: float) -> None:
    """Raise ``TypeError`` for what is no number, and ``ValueError`` for one that is not above 0."""
    for name, value in seconds.items():
        if not isinstance(value, int | float):
            raise TypeError(f"{name} is a number of seconds, and not a {type(value).__name__}")
        if not value > 0:
            raise ValueError(f"{name} must be above 0")


TAKE_OVER_S = 1.0
"""Seconds between two attempts to take over a job, at most its interval."""
INTERRUPTED_S = 60.0
"""Seconds after the start of a run that was interrupted until the next one, at most the interval: a
job that ends its worker must not end them all."""
DONE = "done"

JobRuns = Counter[tuple[str, str, str]]
"""Runs by plugin, job and outcome."""


def schedule(
    run: Callable[[], Awaitable[object]],
    *,
    every: float,
    timeout: float = 60.0,
    once_per: Literal["server", "worker"] = "server",
    name: str | None = None,
) -> ScheduledJob:
    """Run a job every ``every`` seconds while the plugin is open, the first time at once.

    Call it in the constructor of a plugin. ``run`` has ``timeout`` seconds for each run; one that
    raises or is late is logged and counted, and the next one comes as usual. The job is called
    ``name``, by default like the function.

    ``once_per="server"``: only one of the worker processes runs it. If that one ends, another one
    takes over. ``"worker"``: each runs it.
    """
    name = name or getattr(run, "__name__", "job").strip("_")
    return ScheduledJob(run, name, every, timeout, once_per)


class ScheduledJob(Periodic[object]):
    """A job of a plugin. Without a server it is an asynchronous context manager."""

    declared_as: ClassVar[str] = "schedule(...)"
    kind: ClassVar[str] = "job"

    def __init__(
        self,
        run: Callable[[], Awaitable[object]],
        name: str,
        every: float,
        timeout: float,
        once_per: Literal["server", "worker"],
    ) -> None:
        if once_per not in ("server", "worker"):
            raise ValueError(f"once_per is 'server' or 'worker', and not {once_per!r}")
        self._once_per = once_per
        self._locks = JobLocks()
        self._runs = self._locks.runs
        super().__init__(run, name, every, timeout)

    def bind(self, plugin: str, log: Log | None, locks: JobLocks) -> None:
        """Log and count runs under the name of the plugin, and share the locks of the server."""
        self._bind(plugin, log, "schedule")
        self._runs = locks.runs
        self._locks = locks if self._once_per == "server" else locks.of_this_process

    def report(self) -> dict[str, object]:
        """Return the state for the status."""
        last = self._locks.last_run(self._key)
        return {
            "every": self.every,
            "once_per": self._once_per,
            "last_run_age": last.age if last is not None else None,
            "problem": self.problem or None,
        }

    async def close(self) -> None:
        """Cancel a run, and leave the job to others."""
        await super().close()
        self._locks.release(self._key, self)

    async def _run_until_closed(self) -> None:
        while True:
            if not self._locks.acquire(self._key, self):
                await asyncio.sleep(min(TAKE_OVER_S, self.every))
            elif (pause := self._pause) > 0:
                await asyncio.sleep(pause)
            else:
                await self._run()

    @property
    def _key(self) -> str:
        return f"{self._plugin}\n{self.name}"

    @property
    def _pause(self) -> float:
        """Seconds until the next run."""
        last = self._locks.last_run(self._key)
        if last is None:
            return 0.0
        return (self.every if last.has_ended else min(self.every, INTERRUPTED_S)) - last.age

    async def _run(self) -> None:
        self._locks.record_start(self._key)
        result = await self._run_once()
        outcome, self.problem = DONE, ""
        if isinstance(result, Failure):
            is_late = self._running is not None and not self._running.done()
            outcome = TIMED_OUT if is_late else FAILED
            self.problem = describe_error(result.error).summary
            self._warn("job failed", result.error)
        self._runs[self._plugin, self.name, outcome] += 1
        self._locks.record_end(self._key)


_CELL = struct.Struct("=dq")
"""When the last run started, in seconds of the clock, and 1 if it has ended."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last run of a job; ``age`` in seconds since its start."""

    age: float
    has_ended: bool


class JobLocks:
    """The locks of a server, and when each job ran last.

    ``across_processes``: make it before the worker processes are forked, which then share it. The
    kernel releases the locks of a process that ends. All processes need the same ``clock``.
    """

    def __init__(
        self, *, across_processes: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._held: dict[str, object] = {}
        self._runs: dict[str, bytes] = {}
        self._file: int | None = None
        self.runs: JobRuns = Counter()
        """Runs that were not added to the metrics yet."""
        self.of_this_process = JobLocks(clock=clock) if across_processes else self
        """Locks with a holder in each process."""
        if across_processes:
            self._file = _unnamed_file()
            weakref.finalize(self, os.close, self._file)

    def take_runs(self) -> JobRuns:
        """Return the runs since the last call."""
        runs: JobRuns = Counter(self.runs)
        self.runs.clear()
        return runs

    def acquire(self, job: str, holder: object) -> bool:
        """Return whether ``holder`` has the lock of a job, which it takes if it is free."""
        if self._held.setdefault(job, holder) is not holder:
            return False
        if self._file is not None:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, _CELL.size, _offset(job))
            except OSError:
                del self._held[job]
                return False
        return True

    def release(self, job: str, holder: object) -> None:
        """Release the lock, if ``holder`` has it."""
        if self._held.get(job) is holder:
            del self._held[job]
            if self._file is not None:
                fcntl.lockf(self._file, fcntl.LOCK_UN, _CELL.size, _offset(job))

    def last_run(self, job: str) -> LastRun | None:
        """Return the last run of a job in any process; ``None`` before the first."""
        cell = self._runs.get(job, b"")
        if self._file is not None:
            cell = os.pread(self._file, _CELL.size, _offset(job))
        if len(cell) < _CELL.size:
            return None
        started, has_ended = _CELL.unpack(cell)
        return LastRun(self._clock() - started, bool(has_ended)) if started else None

    def record_start(self, job: str) -> None:
        """Record that a run starts now."""
        self._record(job, self._clock(), has_ended=False)

    def record_end(self, job: str) -> None:
        """Record that the last run has ended."""
        if (last := self.last_run(job)) is not None:
            self._record(job, self._clock() - last.age, has_ended=True)

    def _record(self, job: str, started: float, *, has_ended: bool) -> None:
        cell = _CELL.pack(started, has_ended)
        if self._file is None:
            self._runs[job] = cell
        else:
            os.pwrite(self._file, cell, _offset(job))


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pexpolicy-jobs")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _offset(job: str) -> int:
    """Return the place of a job in the file, which is sparse."""
    digest = blake2b(job.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "big") * _CELL.size
