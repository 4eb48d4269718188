"""Isolated plugin: a plugin in worker processes, where a fault ends one worker only.

The worker of a late hook is killed instead of cancelled: that works for code that blocks, that
holds the interpreter, and that swallows its cancellation. Each call costs a round trip to the
worker. Nothing is shared: each worker has its own instance of the plugin, built from the same
settings.
"""

from __future__ import annotations

import os
import pickle
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from pexpolicy.chain.adjusters import ADJUST
from pexpolicy.config.problems import ConfigWarning, PluginBuildError, Problem
from pexpolicy.config.schema.plugins import PluginTable
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.isolation import messages
from pexpolicy.isolation.messages import WorkerError
from pexpolicy.isolation.metrics_updates import count_update
from pexpolicy.isolation.process_limits import ProcessLimits
from pexpolicy.isolation.worker_pool import START_TIMEOUT_S, WorkerPool, end_now
from pexpolicy.isolation.worker_process import WorkerProcess
from pexpolicy.models.decision import Decision
from pexpolicy.models.outcome import Outcome
from pexpolicy.models.request import Request
from pexpolicy.plugins.discovery import PluginSource
from pexpolicy.plugins.plugin import BuiltPlugin, setting_digests, without_settings


class IsolatedPlugin:
    """One plugin in worker processes.

    ``hooks`` are coroutine functions by name, with the arguments of the plugin's own; they work
    while ``lifespan()`` is entered. They raise ``WorkerError`` for a failure in or of the worker,
    ``DecisionError`` for an invalid answer, and ``PluginBusyError`` when too many calls wait.
    """

    warnings: tuple[ConfigWarning, ...]
    """The plugin's ``config_warnings``; the keys are relative to its settings."""
    can_reject: bool
    """As in ``Plugin.can_reject``."""
    tracked_files: tuple[Path, ...]
    """The plugin's ``tracked_files``."""
    implemented: tuple[str, ...]
    """The names of the plugin's own hooks."""

    def __init__(
        self,
        available: PluginSource,
        table: PluginTable,
        build: messages.BuildRequest,
        workers: Iterable[WorkerProcess],
        limits: ProcessLimits,
        ready: messages.Ready,
    ) -> None:
        self.available = available
        self._extras = table.extras
        self.warnings = tuple(ConfigWarning(tuple(key), text) for key, text in ready.warnings)
        self.can_reject = ready.can_reject
        self.tracked_files = tuple(map(Path, ready.tracked_files))
        self.implemented = tuple(ready.hooks)
        self.hooks: Mapping[str, Callable[..., Awaitable[Any]]] = {
            name: partial(self._ask, ENDPOINTS[endpoint])
            for name in ready.hooks
            if (endpoint := name.removeprefix(ADJUST)) in ENDPOINTS
        } | {
            name: hook
            for name, hook in (
                ("on_decision", self._observe),
                ("on_decisions", self._observe_all),
                ("status", self._status),
            )
            if name in ready.hooks
        }

        workers = list(workers)
        for worker in workers:
            worker.on_metrics = partial(count_update, available.name)

        async def start(worker: WorkerProcess) -> None:
            worker.on_metrics = partial(count_update, available.name)
            _check_ready(await worker.call(build))

        self._pool = WorkerPool(str(available), workers, limits, start)
        weakref.finalize(self, end_now, self._pool.workers)

    @classmethod
    def start(cls, available: PluginSource, table: PluginTable, root: Path) -> IsolatedPlugin:
        """Start the workers and build the plugin in each; raises ``PluginBuildError``.

        Relative paths in the settings are relative to ``root``.
        """
        try:
            here = table.model_copy(update={"isolation": "none", "plugin": None})
            plugin = pickle.dumps((available, here, root))
        except Exception as error:  # noqa: BLE001 - pickle raises what the objects do
            text = f"{available} cannot be sent to a worker process: {error}"
            raise PluginBuildError.because(text) from None
        limits = ProcessLimits.of(table)
        python_path = os.environ.get("PYTHONPATH")
        build = messages.BuildRequest(plugin, python_path, limits.file_bytes, limits.open_files)
        workers: list[WorkerProcess] = []
        try:
            workers += [WorkerProcess(str(available), limits) for _ in range(table.processes)]
            # They start in parallel, and there may be more of them than cores.
            deadline = time.monotonic() + START_TIMEOUT_S + table.processes
            for worker in workers:
                worker.post(build, deadline)
            ready = [_check_ready(worker.await_report(deadline)) for worker in workers]
        except BaseException as error:
            end_now(set(workers))
            if isinstance(error, WorkerError | OSError):
                raise PluginBuildError.because(f"{available} cannot be built: {error}") from None
            raise
        return cls(available, table, build, workers, limits, ready[0])

    def close(self) -> None:
        """Kill the workers of a policy that never served."""
        end_now(self._pool.workers)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Enter the plugin's lifespan in each worker; end the workers afterwards.

        Raises ``WorkerError``.
        """
        try:
            await self._pool.open()
            yield
        finally:
            await self._pool.close()

    async def _ask(
        self, endpoint: Endpoint[Any], request: Request, decision: Decision | None = None
    ) -> Decision | None:
        """Ask the plugin for its decision, or for its adjustment of one."""
        reply = await self._pool.ask(messages.decide_request(endpoint.name, request, decision))
        if isinstance(reply, messages.Annotated):
            for name, value, privacy in reply.annotations:
                request.annotate(privacy, **{name: value})
            if not reply.is_complete and request.annotations is not None:
                request.annotations.left_out.add(self.available.name)
            reply = reply.report
        if isinstance(reply, messages.OkReply):
            return None
        if isinstance(reply, messages.Decided):
            return messages.decision_of(endpoint, reply, self._extras)
        if isinstance(reply, messages.InvalidReply):
            raise messages.RemoteDecisionError(reply)
        raise _worker_error(reply)

    async def _observe(self, outcome: Outcome) -> None:
        await self._observe_all([outcome])

    async def _observe_all(self, outcomes: Sequence[Outcome]) -> None:
        observed = [messages.observed(outcome) for outcome in outcomes]
        reply = await self._pool.ask(messages.ObserveRequest(observed))
        if not isinstance(reply, messages.OkReply):
            raise _worker_error(reply)

    async def _status(self, _: object) -> Mapping[str, object]:
        """Return the status of the plugin in one of its workers."""
        reply = await self._pool.ask(messages.StatusRequest())
        if not isinstance(reply, messages.StatusReply):
            raise _worker_error(reply)
        status: dict[str, object] = orjson.loads(reply.status)
        return status


def build_isolated(available: PluginSource, table: PluginTable, root: Path) -> BuiltPlugin:
    """Start worker processes that build the plugin; its hooks call them."""
    isolated = IsolatedPlugin.start(available, table, root)
    hooks: dict[str, Callable[..., Any]] = {
        **isolated.hooks,
        "lifespan": isolated.lifespan,
        "config_warnings": lambda: isolated.warnings,
        "tracked_files": lambda: isolated.tracked_files,
    }
    return BuiltPlugin(
        available,
        without_settings(table),
        isolated,
        hooks,
        isolated.implemented,
        isolated.can_reject,
        setting_digests=setting_digests(table),
        end_workers=isolated.close,
    )


def _check_ready(reply: messages.Report) -> messages.Ready:
    """Return the report of a plugin that was built; raises ``PluginBuildError`` otherwise."""
    if isinstance(reply, messages.Ready):
        return reply
    if isinstance(reply, messages.BuildFailed):
        raise PluginBuildError(Problem(tuple(key), text) for key, text in reply.problems)
    raise _worker_error(reply)


def _worker_error(reply: messages.Report) -> WorkerError:
    if isinstance(reply, messages.HookFailed):
        return WorkerError(reply.summary, reply.lines)
    if isinstance(reply, messages.InvalidReply):
        return WorkerError(reply.text)
    return WorkerError("its worker sent a reply of another type")
