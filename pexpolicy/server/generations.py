"""Configuration generations: active, draining, closed."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from pexpolicy.access.access_control import AccessControl
from pexpolicy.audit.audit_log import AuditLog
from pexpolicy.audit.redaction import redaction_of
from pexpolicy.policy import Policy
from pexpolicy.server import gc_tuning
from pexpolicy.tasks import start_background


class InFlightCalls:
    """Counts the calls in flight of a generation."""

    __slots__ = ("_drained", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0
        self._drained: asyncio.Event | None = None

    def end(self) -> None:
        """Count a call as answered."""
        self.in_flight -= 1
        if self._drained is not None and not self.in_flight:
            self._drained.set()

    async def drained(self) -> None:
        """Wait for the last call. No call may start any more: another generation is active."""
        if self.in_flight:
            self._drained = asyncio.Event()
            await self._drained.wait()


@dataclass(frozen=True, slots=True)
class Generation:
    """The access control, policy and audit log of one configuration.

    A call uses the same generation from its start to its reply, so no reply mixes two
    configurations, and its audit line names the one that was used.
    """

    policy: Policy
    access: AccessControl
    audit: AuditLog
    calls: InFlightCalls = field(default_factory=InFlightCalls)


def generation_of(
    policy: Policy, audit: AuditLog, previous: AccessControl | None = None
) -> Generation:
    """Return the generation of a policy, which writes to the files of ``audit``.

    The access control keeps the verified credentials of the ``previous`` one.
    """
    settings = policy.settings
    access = AccessControl.of(settings) if previous is None else previous.for_settings(settings)
    return Generation(policy, access, audit.with_redaction(redaction_of(settings)))


GENERATION_DRAIN_TIMEOUT_S = 10.0
"""Seconds for the last calls of a generation; more than any budget."""
UNUSED_CLOSE_TIMEOUT_S = 4.0
"""Seconds to close a generation that was not activated when the server stops."""


class GenerationRunner:
    """Runs one generation in a task of its own.

    Task groups and cancel scopes of plugins must be closed by the task that opened them.
    """

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self._closing = asyncio.Event()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Enter the lifespans of the plugins; raise ``ConfigError`` if one fails."""
        task = start_background(self._run(), self._tasks)
        try:
            await self._opened
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def _run(self) -> None:
        try:
            async with self.generation.policy.serving(in_server=True):
                if not self._opened.done():
                    self._opened.set_result(None)
                await self._closing.wait()
                with suppress(TimeoutError):
                    await asyncio.wait_for(
                        self.generation.calls.drained(), GENERATION_DRAIN_TIMEOUT_S
                    )
        except BaseException as error:
            if self._opened.done():
                raise
            self._opened.set_exception(error)

    async def close(self) -> None:
        """Wait for the last call in flight and leave the lifespans of the plugins.

        One that is still opening is cancelled.
        """
        self._closing.set()
        for task in tuple(self._tasks):
            if not self._opened.done():
                task.cancel()
            await asyncio.wait((task,))


class GenerationSwitch:
    """The active generation of a server, those that drain, and those that are not active yet.

    ``activate`` is called with each new generation, ``collect`` after each one was closed.
    """

    def __init__(
        self,
        first: GenerationRunner,
        activate: Callable[[Generation], None],
        collect: Callable[[], None] = gc_tuning.collect_frozen,
    ) -> None:
        self._activate = activate
        self._collect = collect
        self._current = first
        self._prepared: set[GenerationRunner] = set()
        self._draining: set[GenerationRunner] = set()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def policy(self) -> Policy:
        """The active policy."""
        return self._current.generation.policy

    @property
    def access(self) -> AccessControl:
        """The active access control."""
        return self._current.generation.access

    async def open(self, runner: GenerationRunner) -> None:
        """Open a generation to activate or abandon; raise ``ConfigError`` if a plugin fails."""
        self._prepared.add(runner)
        try:
            await runner.open()
        except Exception:
            self._prepared.discard(runner)
            raise

    async def abandon(self, runner: GenerationRunner) -> None:
        """Close a generation that was opened and not activated."""
        await runner.close()
        self._prepared.discard(runner)

    def activate(self, successor: GenerationRunner) -> None:
        """Activate an open generation; the previous one is closed after its last call."""
        self._prepared.discard(successor)
        previous, self._current = self._current, successor
        gc.freeze()
        self._activate(successor.generation)
        self._draining.add(previous)
        _ = start_background(self._close(previous), self._closing)

    async def _close(self, runner: GenerationRunner) -> None:
        await runner.close()
        self._draining.discard(runner)
        self._collect()

    async def close(self) -> None:
        """Close every generation."""
        draining, unused = tuple(self._closing), set[asyncio.Task[None]]()
        for runner in self._prepared:
            _ = start_background(runner.close(), unused)
        await self._current.close()
        if draining:
            await asyncio.wait(draining)
        if unused:
            await asyncio.wait(tuple(unused), timeout=UNUSED_CLOSE_TIMEOUT_S)

    @property
    def leftovers(self) -> list[str]:
        """Plugins and hooks that were abandoned and have not ended."""
        runners = (self._current, *self._draining, *self._prepared)
        return sorted({name for runner in runners for name in runner.generation.policy.abandoned})
