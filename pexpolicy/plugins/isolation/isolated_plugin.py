"""A plugin in worker processes of its own: what it does wrong there ends one worker, and no more.

A hook that is late is not asked to stop, its worker is killed: that works for code that blocks, for
code that holds the interpreter and for code that swallows its cancellation. The price of a call is
the way to the worker and back; nothing is shared, so each worker has its own instance of the
plugin, built from the same settings.
"""

from __future__ import annotations

import os
import pickle
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from pexpolicy.config.problems import ConfigWarning, Problem
from pexpolicy.config.schema.plugins import PluginTable
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.models.decision import Decision
from pexpolicy.models.outcome import Outcome
from pexpolicy.models.request import Request
from pexpolicy.plugins.discovery import PluginSource
from pexpolicy.plugins.errors import PluginBuildError
from pexpolicy.plugins.isolation import messages
from pexpolicy.plugins.isolation.messages import WorkerError
from pexpolicy.plugins.isolation.worker_pool import MIB, START_LIMIT, WorkerPool, end_now
from pexpolicy.plugins.isolation.worker_process import WorkerProcess


class IsolatedPlugin:
    """One plugin in workers of its own.

    ``hooks`` are its hooks by name, to be awaited with what the plugin's own take; they answer
    between entering and leaving ``lifespan()``. They raise ``WorkerError`` for what went wrong in
    the worker or with it, ``DecisionError`` for an answer that is no decision, and
    ``PluginBusyError`` when too many calls wait.
    """

    advice: tuple[ConfigWarning, ...]
    """The plugin's ``config_warnings``; the keys are relative to its settings."""
    can_reject: bool
    """As of a plugin that is built here."""
    tracked_files: tuple[Path, ...]
    """The files that it says it was made of."""

    def __init__(
        self,
        available: PluginSource,
        table: PluginTable,
        build: messages.BuildRequest,
        workers: Iterable[WorkerProcess],
        ready: messages.Ready,
    ) -> None:
        self.available = available
        self._extras = table.extras
        self.advice = tuple(ConfigWarning(tuple(key), text) for key, text in ready.advice)
        self.can_reject = ready.can_reject
        self.tracked_files = tuple(map(Path, ready.tracked_files))
        self.hooks: Mapping[str, Callable[[Any], Awaitable[Any]]] = {
            name: partial(self._ask, ENDPOINTS[name]) for name in ready.hooks if name in ENDPOINTS
        } | {
            name: hook
            for name, hook in (("on_decision", self._tell), ("status", self._inquire))
            if name in ready.hooks
        }

        async def start(worker: WorkerProcess) -> None:
            _built(await worker.call(build))

        self._pool = WorkerPool(str(available), workers, table.memory_mb * MIB, start)
        weakref.finalize(self, end_now, self._pool.workers)

    @classmethod
    def start(cls, available: PluginSource, table: PluginTable, root: Path) -> IsolatedPlugin:
        """Start the workers, and build the plugin in each; raises ``PluginBuildError``.

        ``root`` is what relative paths in the settings are relative to.
        """
        try:
            here = table.model_copy(update={"isolation": "none"})
            plugin = pickle.dumps((available, here, root))
        except Exception as error:  # noqa: BLE001 - pickle raises what the objects do
            text = f"{available} cannot be handed to a process of its own: {error}"
            raise PluginBuildError.because(text) from None
        build = messages.BuildRequest(plugin, os.environ.get("PYTHONPATH"))
        workers: list[WorkerProcess] = []
        try:
            workers += [WorkerProcess(str(available)) for _ in range(table.processes)]
            # They start side by side, and there may be more of them than cores.
            deadline = time.monotonic() + START_LIMIT + table.processes
            for worker in workers:
                worker.post(build, deadline)
            ready = [_built(worker.await_report(deadline)) for worker in workers]
        except BaseException as error:
            end_now(set(workers))
            if isinstance(error, WorkerError | OSError):
                raise PluginBuildError.because(f"{available} cannot be built: {error}") from None
            raise
        return cls(available, table, build, workers, ready[0])

    def close(self) -> None:
        """End the workers of a policy that never served."""
        end_now(self._pool.workers)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """The plugin's own lifespan in each worker, then their end. Raises ``WorkerError``."""
        try:
            await self._pool.open()
            yield
        finally:
            await self._pool.close()

    async def _ask(self, endpoint: Endpoint[Any], request: Request) -> Decision | None:
        told = await self._pool.ask(messages.ask(endpoint.name, request))
        if isinstance(told, messages.OkReply):
            return None
        if isinstance(told, messages.Decided):
            return messages.decision_of(endpoint, told, self._extras)
        if isinstance(told, messages.InvalidReply):
            raise messages.RemoteDecisionError(told)
        raise _fault(told)

    async def _tell(self, outcome: Outcome) -> None:
        told = await self._pool.ask(messages.tell(outcome))
        if not isinstance(told, messages.OkReply):
            raise _fault(told)

    async def _inquire(self, _: object) -> Mapping[str, object]:
        """What the plugin says of itself in one of its workers."""
        told = await self._pool.ask(messages.StatusRequest())
        if not isinstance(told, messages.StatusReply):
            raise _fault(told)
        said: dict[str, object] = orjson.loads(told.status)
        return said


def _built(told: messages.Report) -> messages.Ready:
    """The report of a plugin that was built; raises ``PluginBuildError`` for one that cannot be."""
    if isinstance(told, messages.Ready):
        return told
    if isinstance(told, messages.BuildFailed):
        raise PluginBuildError(Problem(tuple(key), text) for key, text in told.problems)
    raise _fault(told)


def _fault(told: messages.Report) -> WorkerError:
    if isinstance(told, messages.HookFailed):
        return WorkerError(told.summary, told.lines)
    if isinstance(told, messages.InvalidReply):
        return WorkerError(told.text)
    return WorkerError("its worker answered something else than it was asked")
