"""Background work that a plugin declares in its constructor, and its scheduled jobs."""

from __future__ import annotations

import asyncio
import inspect
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, get_args

from pexpolicy.config.problems import PluginBuildError
from pexpolicy.errors import Log, PluginFailureLog, describe_error
from pexpolicy.models.context import HOOK_CONTEXT, using
from pexpolicy.models.outcome import FAILED, TIMED_OUT
from pexpolicy.tasks import Failure, capture, end_tasks, hide

T = TypeVar("T")
D = TypeVar("D", bound="Declared")


class Declared(ABC):
    """What a plugin declares in its constructor: background work, or shared state."""

    name: str
    is_open = False
    """True while the server runs it, or keeps it."""

    @property
    def declared_as(self) -> str:
        """How a plugin makes it, such as ``schedule(...)``."""
        return f"{type(self).__name__}(...)"


_DECLARED: ContextVar[list[Declared] | None] = ContextVar("declared", default=None)
"""What is declared while a plugin is built or opened. A constructor of an author has no parameter
for it, and policies are built in several threads and tasks at a time.
"""
IMPORT = "import"
"""In place of a hook while a module is imported; a reload does not import it again."""
_MAY_DECLARE = ("", "__init__", "lifespan")
"""Hooks in which background work may be declared; the first is code outside of hooks."""
STOP_TIMEOUT_S = 0.5
"""Seconds for a run to end after its cancellation."""


class Periodic(Declared, Generic[T]):
    """Background work that the server runs at an interval, or ``async with``. Times in seconds."""

    kind: ClassVar[str]
    """The field of its name in log lines."""
    hook: ClassVar[str]
    """What stands for a hook in them."""
    problem = ""
    """Why the last run failed; empty after a success."""
    _task: asyncio.Task[None] | None = None
    _running: asyncio.Task[T | Failure] | None = None

    def __init__(
        self, function: Callable[[], Awaitable[T]], name: str, every: float, timeout: float
    ) -> None:
        if inspect.iscoroutine(function):
            function.close()
        if not callable(function):
            what, given = self.declared_as, type(function).__name__
            raise TypeError(f"{what} takes a coroutine function, without (), and not a {given}")
        if inspect.isroutine(function) and _returns_nothing(inspect.unwrap(function)):
            what, blocks = function.__name__, "await asyncio.to_thread(...) for code that blocks"
            raise TypeError(f"{what} is a plain function: write async def, and in it {blocks}")
        check_seconds(every=every, timeout=timeout)
        self.name = name
        self.every = every
        self.timeout = timeout
        self._function = function
        self.bind("", None)
        declare(self)

    async def open(self) -> None:
        """Run it at its interval until ``close``."""
        self.is_open = True
        self._task = asyncio.get_running_loop().create_task(self._run_until_closed())
        hide(self._task)

    async def close(self) -> None:
        """End the present run, and start no other one."""
        tasks, self._task, self.is_open = (self._task, self._running), None, False
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

    def bind(self, plugin: str, log: Log | None) -> None:
        """Log under the name of the plugin."""
        self._plugin = plugin
        self._failure_log = PluginFailureLog(log, self.hook)

    def _warn(self, event: str, error: BaseException, **more: object) -> None:
        now = asyncio.get_running_loop().time()
        self._failure_log.failed(
            event, self._plugin, describe_error(error), now, **{self.kind: self.name}, **more
        )


@contextmanager
def collecting_declarations() -> Iterator[list[Declared]]:
    """Yield a list to which everything is added that is declared inside."""
    declared: list[Declared] = []
    with using(_DECLARED, declared):
        yield declared


@asynccontextmanager
async def entered(context: AbstractAsyncContextManager[object]) -> AsyncIterator[None]:
    """Enter a lifespan; raise ``PluginBuildError`` for work declared meanwhile that is not open."""
    async with AsyncExitStack() as stack:
        with collecting_declarations() as declared:
            await stack.enter_async_context(context)
        for item in declared:
            if not item.is_open:
                where = f"in __init__, or async with {item.declared_as}"
                text = f"{item.declared_as} in lifespan runs nothing: write it {where}"
                raise PluginBuildError(text)
        yield


def declare(item: Declared) -> None:
    """Declare what belongs to the plugin that is being built.

    Raises ``PluginBuildError`` in a module that is being imported, and in a hook that is called.
    """
    (_, hook), _ = HOOK_CONTEXT.get()
    if hook not in _MAY_DECLARE:
        where = "outside of a class" if hook == IMPORT else f"in {hook}"
        text = f"{item.declared_as} {where} runs nothing: write it in __init__"
        raise PluginBuildError(text)
    declared = _DECLARED.get()
    if declared is not None:
        declared.append(item)


def declared_by(instance: object, declared: list[Declared], kind: type[D]) -> tuple[D, ...]:
    """Return the declarations of a kind, including attributes of an instance built elsewhere.

    Raises ``PluginBuildError`` for two of one name.
    """
    items = [*declared, *getattr(instance, "__dict__", {}).values()]
    found = tuple(dict.fromkeys(item for item in items if isinstance(item, kind)))
    for (_, name), count in Counter((type(item), item.name) for item in found).items():
        if count > 1:
            text = f"two {found[0].declared_as} have the name {name!r}: give each its own name="
            raise PluginBuildError(text)
    return found


def check_seconds(**seconds: float) -> None:
    """Raise ``TypeError`` for what is no number, and ``ValueError`` for one that is not above 0."""
    for name, value in seconds.items():
        if not isinstance(value, int | float):
            raise TypeError(f"{name} is a number of seconds, and not a {type(value).__name__}")
        if not value > 0:
            raise ValueError(f"{name} must be above 0")


def _returns_nothing(function: Callable[..., object]) -> bool:
    """Return whether a function is no coroutine function, and names no awaitable as its result."""
    result = getattr(function, "__annotations__", {}).get("return")
    is_plain = function.__name__ != "<lambda>" and not inspect.iscoroutinefunction(function)
    return is_plain and result in (None, "None")


RECHECK_S = 60.0
"""Seconds until a job looks again whether another generation interrupted its last run."""
DONE = "done"

OncePer = Literal["server", "worker", "fleet"]


JobRuns = Counter[tuple[str, str, str]]
"""Runs by plugin, job and outcome."""


def schedule(
    run: Callable[[], Awaitable[object]],
    *,
    every: float,
    timeout: float = 60.0,
    once_per: OncePer = "server",
    name: str | None = None,
) -> ScheduledJob:
    """Run a job every ``every`` seconds while the plugin is open, the first time at once.

    Call it in the constructor of a plugin. ``run`` has ``timeout`` seconds for each run; one that
    raises or is late is logged and counted, and the next one comes as usual. The job is called
    ``name``, by default like the function.

    ``once_per="server"``: only the first of the worker processes runs it. ``"worker"``: each does.
    ``"fleet"``: one process of all servers that share a database by ``[shared]``; without that, of
    one server. The interval then holds over restarts as well, and another process continues
    ``every`` and ``timeout`` seconds after the last run of one that was killed. A run that is
    interrupted may be repeated.
    """
    if once_per not in (allowed := get_args(OncePer)):
        raise ValueError(f"once_per is one of {allowed}, and not {once_per!r}")
    name = name or getattr(run, "__name__", "job").strip("_")
    job = ScheduledJob(run, name, every, timeout)
    job.once_per = once_per
    return job


@dataclass
class JobHistory:
    """When the jobs of a process ran last, over all its generations, and how the runs ended."""

    is_first_worker: bool = True
    """True in the process that runs the jobs of the server."""
    started: dict[tuple[str, str], float] = field(default_factory=dict)
    """The time of the event loop at the start of the last run, by plugin and job."""
    runs: JobRuns = field(default_factory=Counter)
    """Runs that were not added to the metrics yet."""


class ScheduledJob(Periodic[object]):
    """A job of a plugin. Without a server it is an asynchronous context manager."""

    declared_as = "schedule(...)"
    kind = "job"
    hook = "schedule"

    once_per: OncePer = "server"
    is_turn: Callable[[], Awaitable[bool]] | None = None
    """Of a job once per fleet: whether this process runs it now."""

    def __init__(self, *arguments: Any) -> None:
        self.history = JobHistory()
        super().__init__(*arguments)

    def report(self) -> dict[str, object]:
        """Return the state for the status."""
        return {
            "every": self.every,
            "once_per": self.once_per,
            "last_run_age": None if math.isinf(self._age) else self._age,
            "problem": self.problem or None,
        }

    @property
    def _age(self) -> float:
        started = self.history.started.get((self._plugin, self.name), -math.inf)
        return asyncio.get_running_loop().time() - started

    async def _run_until_closed(self) -> None:
        while True:
            pause = self.every - self._age
            try:
                if pause <= 0 and (self.is_turn is None or await self.is_turn()):
                    await self._run()
                    continue
            except Exception as error:  # noqa: BLE001 - such as SharedUnavailableError
                self._failed(error, FAILED)  # the run is left out
            await asyncio.sleep(min(pause if pause > 0 else self.every, RECHECK_S))

    async def _run(self) -> None:
        key = self._plugin, self.name
        self.history.started[key] = asyncio.get_running_loop().time()
        try:
            result = await self._run_once()
        except asyncio.CancelledError:
            # The next generation runs it again.
            self.history.started.pop(key, None)
            raise
        if isinstance(result, Failure):
            is_late = isinstance(result.error, TimeoutError)
            self._failed(result.error, TIMED_OUT if is_late else FAILED)
        else:
            self.problem = ""
            self.history.runs[*key, DONE] += 1

    def _failed(self, error: BaseException, outcome: str) -> None:
        self.problem = describe_error(error).summary
        self._warn("job failed", error)
        self.history.runs[self._plugin, self.name, outcome] += 1
