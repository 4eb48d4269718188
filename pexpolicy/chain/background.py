"""Background work after the reply: shadow plugins and observers.

Nothing here can change or delay a reply. The work runs in tasks of its own, a bounded number of
them: when plugins do not keep up, calls are skipped and counted instead of queued without end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pexpolicy.chain.adjusters import Adjusters, was_decided
from pexpolicy.chain.chain import Chain
from pexpolicy.chain.failure_log import PluginFailureLog
from pexpolicy.chain.hook_tasks import HookTasks
from pexpolicy.chain.merge import MergingChain
from pexpolicy.errors import Log, describe_error
from pexpolicy.models.decision import Decision
from pexpolicy.models.hook_context import HOOK_CONTEXT
from pexpolicy.models.outcome import (
    ANSWERED,
    DECIDED,
    DEFAULT,
    FAILED,
    SKIPPED,
    TIMED_OUT,
    Outcome,
)
from pexpolicy.tasks import start_background

MAX_PENDING = 256
"""Calls whose background work may be pending at once."""
BACKGROUND_TIMEOUT_S = 2.0
DELIVERED = "delivered"
OBSERVER_OUTCOMES = (DELIVERED, FAILED, TIMED_OUT, SKIPPED)
"""What may become of notifying an observer."""


class ShadowLog(Protocol):
    """The log of what shadow plugins would have decided."""

    def shadow(
        self, actual: Outcome, shadow: Outcome, config_hash: str, *, differs: bool | None
    ) -> None:
        """Write one line; ``differs`` is ``None`` for a shadow that failed."""


class ObserverCounts(Protocol):
    """Counters of what became of notifying observers."""

    def observed(self, plugin: str, outcome: str) -> None:
        """Count one notification: delivered, failed, timed out or skipped."""


@dataclass(frozen=True, slots=True)
class Observer:
    """A plugin that is notified of each decision. ``timeout`` in seconds."""

    plugin: str
    notify: Callable[[Outcome], Awaitable[None]]
    timeout: float


class BackgroundTasks:
    """The shadow chains of each endpoint, and the observers."""

    def __init__(
        self,
        shadows: Mapping[str, Sequence[Chain]],
        observers: Sequence[Observer],
        log: Log | None,
        config_hash: str = "",
        shadow_adjusters: Mapping[str, Sequence[Adjusters]] | None = None,
    ) -> None:
        self._shadows = shadows
        self._adjusters = shadow_adjusters or {}
        self.shadows = (
            *(chain for chains in shadows.values() for chain in chains),
            *(found.chain for several in self._adjusters.values() for found in several),
        )
        """All shadow chains."""
        self._observers = observers
        self._log = log
        self._failure_log = PluginFailureLog(log, "on_decision")
        self._config_hash = config_hash
        self._pending: set[asyncio.Task[None]] = set()
        self._has_skipped = False

    @property
    def is_empty(self) -> bool:
        """True where no plugin has anything to do after a reply."""
        return not self._observers and not self.shadows

    def start(
        self,
        outcome: Outcome,
        tasks: HookTasks,
        audit: ShadowLog | None,
        counts: ObserverCounts | None = None,
    ) -> None:
        """Start the background work of a call; it runs after the reply has left."""
        if len(self._pending) < MAX_PENDING:
            _ = start_background(self._run(outcome, tasks, audit, counts), self._pending)
            return
        if counts is not None:
            for observer in self._observers:
                counts.observed(observer.plugin, SKIPPED)
        if not self._has_skipped:
            self._has_skipped = True
            if self._log is not None:
                self._log.warning(
                    "shadow plugins and observers do not keep up: calls are left out",
                    decision_id=outcome.decision_id,
                )

    async def _run(
        self,
        outcome: Outcome,
        tasks: HookTasks,
        audit: ShadowLog | None,
        counts: ObserverCounts | None,
    ) -> None:
        # The reply leaves at the start of the next turn of the event loop.
        await asyncio.sleep(0)
        for chain in self._shadows.get(outcome.endpoint, ()):
            shadow = await chain.ask(outcome.request, tasks, outcome.decision_id)
            if audit is not None:
                differs = _differ(outcome, shadow, merges=isinstance(chain, MergingChain))
                audit.shadow(outcome, shadow, self._config_hash, differs=differs)
        if was_decided(outcome):
            for adjusters in self._adjusters.get(outcome.endpoint, ()):
                shadow = await adjusters.adjust(outcome, tasks, [])
                if audit is not None:
                    differs = _differ(outcome, shadow)
                    audit.shadow(outcome, shadow, self._config_hash, differs=differs)
        for observer in self._observers:
            result = await self._notify(observer, outcome)
            if counts is not None:
                counts.observed(observer.plugin, result)

    async def _notify(self, observer: Observer, outcome: Outcome) -> str:
        """Notify one observer; log a failure, and return what became of it."""
        task = asyncio.create_task(_observe(observer, outcome))
        done, _ = await asyncio.wait((task,), timeout=observer.timeout)
        now = asyncio.get_running_loop().time()
        if not done:
            task.cancel()
            error: BaseException | None = TimeoutError(f"no answer within {observer.timeout:.3g} s")
        else:
            error = task.result()
        if error is not None:
            report = describe_error(error, outcome.request.secrets())
            self._failure_log.failed(
                "plugin failed", observer.plugin, report, now, decision_id=outcome.decision_id
            )
            return FAILED if done else TIMED_OUT
        return DELIVERED

    async def finish(self) -> None:
        """Wait up to ``BACKGROUND_TIMEOUT_S`` for pending work, and cancel the rest."""
        if self._pending:
            _, late = await asyncio.wait(self._pending, timeout=BACKGROUND_TIMEOUT_S)
            for task in late:
                task.cancel()
        self._failure_log.close()


async def _observe(observer: Observer, outcome: Outcome) -> BaseException | None:
    """Return an exception as a value: SystemExit in a task would end the event loop."""
    HOOK_CONTEXT.set(((observer.plugin, "on_decision"), outcome.request))
    try:
        await observer.notify(outcome)
    except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
        return error
    return None


def _differ(actual: Outcome, shadow: Outcome, *, merges: bool = False) -> bool | None:
    """Return true when the shadow decides differently, and ``None`` when it failed.

    A shadow that abstains changes nothing. Where decisions are merged, a shadow differs by a reject
    or by a field that was not sent with the same value.
    """
    if any(step.outcome not in ANSWERED for step in shadow.steps):
        return None
    if shadow.decided_by == DEFAULT and not any(s.outcome == DECIDED for s in shadow.steps):
        return False
    would, was = shadow.decision, actual.decision
    if merges and would.action != "reject" and was.action != "reject":
        return not _contains(was, would)
    return would != was and (type(would) is not type(was) or would.set_fields() != was.set_fields())


def _contains(decision: Decision, part: Decision) -> bool:
    fields = decision.set_fields()
    return fields.items() >= part.set_fields().items()
