"""What happens after the reply has left: shadow plugins are asked, and observers are told.

Nothing here can change or delay a reply. It runs in tasks of its own, a bounded number of them:
when plugins do not keep up, calls are left out and counted, rather than queued without end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pexpolicy.chain.chain import Chain
from pexpolicy.chain.hook_tasks import HookTasks
from pexpolicy.errors import Log, describe_error
from pexpolicy.models.outcome import ABSTAINED, DECIDED, DEFAULT, Outcome
from pexpolicy.tasks import hide

MOST_PENDING = 256
"""Calls whose aftermath may be under way at once."""


class ShadowLog(Protocol):
    """Where it is written what a shadow plugin would have decided."""

    def shadow(
        self, actual: Outcome, shadow: Outcome, config_hash: str, *, differs: bool | None
    ) -> None:
        """Write one line; ``differs`` is ``None`` for a shadow that failed."""


@dataclass(frozen=True, slots=True)
class Observer:
    """A plugin that is told what was decided. ``timeout`` in seconds."""

    plugin: str
    tell: Callable[[Outcome], Awaitable[None]]
    timeout: float


class BackgroundTasks:
    """The shadow chains of each endpoint, and the observers."""

    def __init__(
        self,
        shadows: Mapping[str, Sequence[Chain]],
        observers: Sequence[Observer],
        log: Log | None,
        config_hash: str = "",
    ) -> None:
        self._shadows = shadows
        self.shadows = tuple(chain for chains in shadows.values() for chain in chains)
        """All shadow chains."""
        self._observers = observers
        self._log = log
        self._config_hash = config_hash
        self._pending: set[asyncio.Task[None]] = set()
        self.left_out = 0

    @property
    def is_empty(self) -> bool:
        """True where no plugin has anything to do after a reply."""
        return not self._observers and not self.shadows

    def begin(self, outcome: Outcome, tasks: HookTasks, audit: ShadowLog | None) -> None:
        """Start what follows a call; it runs once the reply has left."""
        if len(self._pending) >= MOST_PENDING:
            self.left_out += 1
            if self.left_out == 1 and self._log is not None:
                self._log.warning("shadow plugins and observers do not keep up: calls are left out")
            return
        task = asyncio.get_running_loop().create_task(self._run(outcome, tasks, audit))
        hide(task)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _run(self, outcome: Outcome, tasks: HookTasks, audit: ShadowLog | None) -> None:
        # The reply leaves at the beginning of the next turn: the one behind that comes after it.
        await asyncio.sleep(0)
        for chain in self._shadows.get(outcome.endpoint, ()):
            shadow = await chain.ask(outcome.request, tasks, outcome.decision_id)
            if audit is not None:
                differs = _differ(outcome, shadow)
                audit.shadow(outcome, shadow, self._config_hash, differs=differs)
        for observer in self._observers:
            await self._tell(observer, outcome)

    async def _tell(self, observer: Observer, outcome: Outcome) -> None:
        task = asyncio.create_task(_told(observer, outcome))
        done, _ = await asyncio.wait((task,), timeout=observer.timeout)
        if not done:
            task.cancel()
            self._warn(observer, f"no answer within {observer.timeout:.3g} s")
        elif (error := task.result()) is not None:
            self._warn(observer, describe_error(error).summary)

    def _warn(self, observer: Observer, error: str) -> None:
        if self._log is not None:
            self._log.warning(
                "plugin failed", plugin=observer.plugin, hook="on_decision", error=error
            )

    async def finish(self, limit: float = 2.0) -> None:
        """Give what is under way up to ``limit`` seconds, and cancel the rest."""
        if self._pending:
            _, late = await asyncio.wait(self._pending, timeout=limit)
            for task in late:
                task.cancel()


async def _told(observer: Observer, outcome: Outcome) -> BaseException | None:
    """An exception as a value: the event loop would end by SystemExit in a task."""
    try:
        await observer.tell(outcome)
    except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
        return error
    return None


def _differ(actual: Outcome, shadow: Outcome) -> bool | None:
    """True when the shadow decides something else, and ``None`` when it failed.

    A shadow that abstains changes nothing.
    """
    if any(step.outcome not in (DECIDED, ABSTAINED) for step in shadow.steps):
        return None
    if shadow.decided_by == DEFAULT and not any(s.outcome == DECIDED for s in shadow.steps):
        return False
    would, was = shadow.decision, actual.decision
    return would != was and (type(would) is not type(was) or would.set_fields() != was.set_fields())
