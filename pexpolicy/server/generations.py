"""All that one configuration amounts to while it serves, in one object that is swapped whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from pexpolicy.access.access_control import AccessControl
from pexpolicy.audit.audit_log import AuditLog
from pexpolicy.audit.redaction import redaction_of
from pexpolicy.policy import Policy
from pexpolicy.server import gc_tuning
from pexpolicy.tasks import hide


class InFlightCalls:
    """Counts the calls that a regime has under way."""

    __slots__ = ("_none_left", "under_way")

    def __init__(self) -> None:
        self.under_way = 0
        self._none_left: asyncio.Event | None = None

    def end(self) -> None:
        """One call is answered."""
        self.under_way -= 1
        if self._none_left is not None and not self.under_way:
            self._none_left.set()

    async def finished(self) -> None:
        """Wait for the last one. No further call may begin: the regime is no longer in force."""
        if self.under_way:
            self._none_left = asyncio.Event()
            await self._none_left.wait()


@dataclass(frozen=True, slots=True)
class Generation:
    """The rules in force: who may ask, how it is decided, and what is written down of it.

    A call takes the regime once, when it begins, and keeps to it until it is answered. So no reply
    is made of two configurations, and its audit line names the one that it was made of.
    """

    policy: Policy
    gate: AccessControl
    audit: AuditLog
    calls: InFlightCalls = field(default_factory=InFlightCalls)


def generation_of(
    policy: Policy, audit: AuditLog, before: AccessControl | None = None
) -> Generation:
    """What the configuration of a policy amounts to; its lines go where those of ``audit`` go.

    ``before`` is the gate of the regime that it follows, which hands on what it has learned.
    """
    settings = policy.settings
    gate = before.for_settings(settings) if before is not None else AccessControl.of(settings)
    return Generation(policy, gate, audit.with_redaction(redaction_of(settings)))


LAST_CALL = 10.0
"""Seconds for the last calls of a regime. Their budget is shorter: it is for faults of ours."""


class GenerationRunner:
    """The life of one regime, in a task of its own.

    What a plugin opens has to be closed by the task that opened it: task groups and cancel scopes
    insist on that.
    """

    def __init__(self, regime: Generation) -> None:
        self.generation = regime
        self._over = asyncio.Event()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open what the plugins need; raises ``ConfigError`` for what does not open."""
        self._task = asyncio.get_running_loop().create_task(self._live())
        hide(self._task)
        try:
            await self._opened
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    async def _live(self) -> None:
        try:
            async with self.generation.policy.serving():
                self._opened.set_result(None)
                await self._over.wait()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.generation.calls.finished(), LAST_CALL)
        except BaseException as error:
            if self._opened.done():
                raise
            self._opened.set_exception(error)

    async def close(self) -> None:
        """Wait for the last call under way, and close what the plugins opened."""
        self._over.set()
        if self._task is not None:
            await asyncio.wait((self._task,))


class GenerationSwitch:
    """The regimes of one server, the first of which is open already.

    ``activate`` is called with each that follows, ``cleared`` after the end of each.
    """

    def __init__(
        self,
        first: GenerationRunner,
        activate: Callable[[Generation], None],
        cleared: Callable[[], None] = gc_tuning.collect_frozen,
    ) -> None:
        self._activate = activate
        self._cleared = cleared
        self._current = first
        self._leaving: dict[GenerationRunner, asyncio.Task[None]] = {}

    @property
    def policy(self) -> Policy:
        """The policy that is in force."""
        return self._current.generation.policy

    @property
    def gate(self) -> AccessControl:
        """The gate that is in force."""
        return self._current.generation.gate

    def activate(self, successor: GenerationRunner) -> None:
        """Activate a regime that is open; the one before it is closed after its last call."""
        before, self._current = self._current, successor
        gc_tuning.freeze()
        self._activate(successor.generation)
        task = asyncio.get_running_loop().create_task(self._close(before))
        hide(task)
        self._leaving[before] = task

    async def _close(self, lifetime: GenerationRunner) -> None:
        await lifetime.close()
        del self._leaving[lifetime]
        self._cleared()

    async def end(self) -> None:
        """Close every regime."""
        leaving = list(self._leaving.values())
        await self._current.close()
        if leaving:
            await asyncio.wait(leaving)

    @property
    def leftovers(self) -> list[str]:
        """Plugins and hooks that were given up, and have not come back."""
        lifetimes = (self._current, *self._leaving)
        return sorted({name for life in lifetimes for name in life.generation.policy.abandoned})
