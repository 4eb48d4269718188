"""Isolated plugin: a plugin in worker processes, where a fault ends one worker only.

The worker of a late hook is killed instead of cancelled: that works for code that blocks, that
holds the interpreter, and that swallows its cancellation. Each call costs a round trip to the
worker. Nothing is shared: each worker has its own instance of the plugin, built from the same
settings.
"""

from __future__ import annotations

import asyncio
import os
import pickle
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson

from pexpolicy.chain.chain import hooks_of
from pexpolicy.chain.hook_tasks import PluginThreadPool
from pexpolicy.config.files import NamedPath, kept_copies, track_secret
from pexpolicy.config.problems import ConfigWarning, PluginBuildError, Problem
from pexpolicy.config.schema.plugins import PluginTable
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.isolation import messages
from pexpolicy.isolation.child import (
    EXIT_TIMEOUT_S,
    START_TIMEOUT_S,
    Child,
    ChildError,
    ChildPool,
)
from pexpolicy.models.contract import NO_EXTRAS
from pexpolicy.models.decision import Decision
from pexpolicy.models.request import Request, annotations_of
from pexpolicy.plugins.discovery import PluginSource
from pexpolicy.plugins.plugin import BuiltPlugin, without_settings
from pexpolicy.tasks import start_thread

OBSERVING = ("on_decision", "on_decisions", "on_event", "on_events")
PASSED = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TZDIR", "TMPDIR"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"),
)
"""Variables that each worker gets."""
PASSED_PREFIXES = ("LC_", "PYTHON")

R = TypeVar("R", bound=messages.Report)


class WorkerProcess(Child[messages.Report]):
    """The process of one plugin, which ``order`` has."""

    def __init__(
        self,
        available: PluginSource,
        order: bytes,
        environment: Mapping[str, str],
        memory_mb: int,
    ) -> None:
        super().__init__(
            f"the worker process of {available}",
            "pexpolicy.isolation.worker_main",
            decode=messages.decode_report,
            encode=messages.encode_order,
            environment=environment,
            memory_mb=memory_mb,
        )
        self.order = order
        self.plugin = available

    async def ready(self, *, serves: bool = True) -> messages.Ready:
        """Build the plugin, and enter its lifespan if the process ``serves`` calls.

        Raises ``ChildError`` and ``PluginBuildError``.
        """
        await self.attach()
        return checked(await self.ask((self.order, serves)), messages.Ready)


class IsolatedPlugin:
    """One plugin in worker processes, which run while ``lifespan()`` is entered.

    It is built once before, to find its hooks and mistakes; relative paths in its settings are
    relative to ``root``. Raises ``PluginBuildError``.

    ``hooks`` are coroutine functions by name, with the arguments of the plugin's own. They raise
    ``ChildError`` for a failure in or of the worker, ``DecisionError`` for an invalid answer, and
    ``PluginBusyError`` when too many calls wait.
    """

    def __init__(self, available: PluginSource, table: PluginTable, root: Path) -> None:
        try:
            here = table.model_copy(update={"isolation": "none", "plugin": None})
            order = pickle.dumps((available, here, root, kept_copies()))
        except Exception as error:  # noqa: BLE001 - pickle raises what the objects do
            text = f"{available} cannot be sent to a worker process: {error}"
            raise PluginBuildError(text) from None
        make = partial(WorkerProcess, available, order, environment_of(table), table.memory_mb)
        self.available = available
        # This thread may have an event loop.
        building = start_thread(lambda: asyncio.run(_built(make)), "pexpolicy-isolation")
        self.ready = ready = building.result()
        self._extras = table.known.get("extras", NO_EXTRAS)
        self._pool = ChildPool(str(available), table.processes, make)
        for place, is_file in ready.secrets:
            track_secret(Path(place) if is_file else place)
        hooks: dict[str, Callable[..., Any]] = {
            **{name: partial(self._observe, name) for name in OBSERVING},
            "status": self._status,
        }
        for name, endpoint in ENDPOINTS.items():
            for hook in hooks_of(name):
                hooks[hook] = partial(self._ask, endpoint, hook)
        self.hooks = {name: hooks[name] for name in ready.hooks if name in hooks} | {
            "lifespan": self.lifespan,
            "config_warnings": lambda: [ConfigWarning(tuple(key), t) for key, t in ready.warnings],
            "tracked_files": lambda: ready.tracked_files,
        }

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Enter the plugin's lifespan in each worker; end the workers afterwards.

        Raises ``ChildError``.
        """
        try:
            await self._pool.open()
            yield
        finally:
            await self._pool.close(EXIT_TIMEOUT_S)

    async def _call(self, *order: Any) -> messages.Report:
        async with self._pool.borrow() as worker:
            return await worker.ask(order)

    async def _ask(
        self,
        endpoint: Endpoint[Any],
        hook: str,
        request: Request,
        decision: Decision | None = None,
    ) -> Decision | None:
        """Ask the plugin for its decision, or for its adjustment of one."""
        reply = await self._call("decide", hook, request, decision)
        if isinstance(reply, messages.Reply):
            for name, value, privacy in reply.annotations:
                request.annotate(privacy, **{name: value})
            annotations = annotations_of(request)
            if not reply.is_complete and annotations is not None:
                annotations.left_out.add(self.available.name)
            if reply.issue is not None and reply.fault is not None:
                raise messages.RemoteDecisionError(reply.issue, reply.fault)
        reply = checked(reply, messages.Reply)
        return messages.decision_of(endpoint, reply, self._extras) if reply.decision else None

    async def _observe(self, hook: str, observed: Any) -> None:
        batch = [*observed] if hook.endswith("s") else [observed]
        checked(await self._call("observe", hook, batch), messages.Reply)

    async def _status(self, _: object) -> Mapping[str, object]:
        reply = checked(await self._call("status"), messages.Reply)
        status: dict[str, object] = orjson.loads(reply.content)
        return status


async def _built(make: Callable[[], WorkerProcess]) -> messages.Ready:
    """Build the plugin in a process that ends afterwards; raises ``PluginBuildError``."""
    worker = make()
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            return await worker.ready(serves=False)
    except (ChildError, TimeoutError) as error:
        text = f"{worker.plugin} cannot be built: {str(error) or 'it was not ready in time'}"
        raise PluginBuildError(text) from None
    finally:
        await worker.end()


def build_isolated(available: PluginSource, table: PluginTable, root: Path) -> BuiltPlugin:
    """Return a plugin whose hooks call worker processes."""
    isolated = IsolatedPlugin(available, table, root)
    ready = isolated.ready
    return BuiltPlugin(
        available,
        without_settings(table),
        isolated,
        isolated.hooks,
        ready.hooks,
        ready.can_reject,
        PluginThreadPool(available.name, 1),
        is_isolated=True,
        paths=tuple(NamedPath(Path(path), tuple(key), use) for path, key, use in ready.paths),
    )


def checked(report: messages.Report, kind: type[R]) -> R:
    """Return a report of this kind without a fault; raise ``ChildError``, ``PluginBuildError``."""
    if isinstance(report, messages.Reply):
        if problems := report.problems:
            raise PluginBuildError(problems=(Problem(tuple(key), text) for key, text in problems))
        if report.fault is not None:
            raise ChildError(report.fault.summary, report.fault)
    if not isinstance(report, kind):
        raise ChildError("its worker sent a reply of another type")
    return report


def environment_of(table: PluginTable) -> dict[str, str]:
    """Return the variables that the workers of a plugin get.

    A variable that the settings name in a key such as ``token_env`` is passed on too.
    """
    allowed = {*table.env, *_named(table.settings), *PASSED}
    return {
        name: value
        for name, value in os.environ.items()
        if "*" in allowed or name in allowed or name.startswith(PASSED_PREFIXES)
    }


def _named(settings: object) -> Iterator[str]:
    """Yield the names of variables in the settings of a plugin."""
    if isinstance(settings, list):
        settings = dict(enumerate(settings))
    for key, value in settings.items() if isinstance(settings, Mapping) else ():
        if isinstance(value, str) and str(key).endswith("_env"):
            yield value
        yield from _named(value)
