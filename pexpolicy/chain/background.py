"""Background work after the reply: shadow plugins and observers.

Nothing here can change or delay a reply. Shadow plugins run in tasks of their own, a bounded number
of them: when they do not keep up, calls are left out instead of queued without end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from pexpolicy.chain.chain import Chain
from pexpolicy.chain.fold import adjust, was_decided
from pexpolicy.chain.hook_tasks import HookTasks
from pexpolicy.chain.observers import DRAIN_TIMEOUT_S, Observer, ObserverCounts, ObserverQueue
from pexpolicy.errors import Log
from pexpolicy.models.decision import Decision
from pexpolicy.models.outcome import (
    ANSWERED,
    DECIDED,
    DEFAULT,
    Outcome,
)
from pexpolicy.tasks import start_background

MAX_PENDING = 256
"""Calls whose background work may be pending at once."""


class ShadowLog(Protocol):
    """The log of what shadow plugins would have decided."""

    def shadow(
        self, actual: Outcome, shadow: Outcome, config_hash: str, *, differs: bool | None
    ) -> None:
        """Write one line; ``differs`` is ``None`` for a shadow that failed."""


class BackgroundTasks:
    """The shadow chains of each endpoint, and the observers."""

    def __init__(
        self,
        shadows: Mapping[str, Sequence[Chain]],
        observers: Sequence[Observer],
        log: Log | None,
        config_hash: str = "",
        shadow_adjusters: Mapping[str, Sequence[Chain]] | None = None,
    ) -> None:
        self._shadows = shadows
        self._adjusters = shadow_adjusters or {}
        self.shadows = (
            *(chain for chains in shadows.values() for chain in chains),
            *(chain for chains in self._adjusters.values() for chain in chains),
        )
        """All shadow chains."""
        self.observers = tuple(ObserverQueue(observer, log) for observer in observers)
        self._log = log
        self._config_hash = config_hash
        self._pending: set[asyncio.Task[None]] = set()
        self._has_skipped = False

    @property
    def is_empty(self) -> bool:
        """True where no plugin has anything to do after a reply."""
        return not self.observers and not self.shadows

    def start(
        self,
        outcome: Outcome,
        tasks: HookTasks,
        audit: ShadowLog | None,
        counts: ObserverCounts | None = None,
    ) -> None:
        """Start the background work of a call; it runs after the reply has left."""
        for observer in self.observers:
            observer.put(outcome, counts)
        if not self.shadows:
            return
        if len(self._pending) < MAX_PENDING:
            _ = start_background(self._run(outcome, tasks, audit), self._pending)
        elif not self._has_skipped:
            self._has_skipped = True
            if self._log is not None:
                self._log.warning(
                    "shadow plugins do not keep up: calls are left out",
                    decision_id=outcome.decision_id,
                )

    async def _run(
        self,
        outcome: Outcome,
        tasks: HookTasks,
        audit: ShadowLog | None,
    ) -> None:
        # The reply leaves at the start of the next turn of the event loop.
        await asyncio.sleep(0)
        for chain in self._shadows.get(outcome.endpoint, ()):
            shadow = await chain.ask(outcome.request, tasks, outcome.decision_id)
            if audit is not None:
                differs = _differ(outcome, shadow, merges=chain.merges)
                audit.shadow(outcome, shadow, self._config_hash, differs=differs)
        if was_decided(outcome):
            for adjusters in self._adjusters.get(outcome.endpoint, ()):
                shadow = await adjust(adjusters, outcome, tasks)
                if audit is not None:
                    differs = _differ(outcome, shadow)
                    audit.shadow(outcome, shadow, self._config_hash, differs=differs)

    def open(self) -> None:
        """Accept decisions for the observers."""
        for observer in self.observers:
            observer.open()

    async def finish(self) -> None:
        """Drain the observers, wait as long for shadow plugins, and cancel the rest."""
        drained = (observer.drain() for observer in self.observers)
        await asyncio.gather(self._finish_shadows(), *drained)

    async def _finish_shadows(self) -> None:
        if self._pending:
            _, late = await asyncio.wait(self._pending, timeout=DRAIN_TIMEOUT_S)
            for task in late:
                task.cancel()


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
