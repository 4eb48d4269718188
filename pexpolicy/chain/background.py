"""Background work after the reply: shadow plugins and observers.

Nothing here can change or delay a reply. Shadow plugins run in tasks of their own, a bounded number
of them: when they do not keep up, calls are left out instead of queued without end. Each observer
has a queue, and is notified of one decision, or one batch, at a time. One that fails is notified
again, so it may see a decision twice. What does not fit into its queue is dropped, counted and
logged.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

from pexpolicy.chain.chain import Chain
from pexpolicy.chain.hook_tasks import HookTasks
from pexpolicy.errors import ErrorReport, Log, PluginFailureLog, describe_error
from pexpolicy.models.context import HOOK_CONTEXT
from pexpolicy.models.outcome import (
    ADJUSTED,
    ANSWERED,
    DECIDED,
    DEFAULT,
    FAILED,
    TIMED_OUT,
    Outcome,
)
from pexpolicy.models.request import dry_copy, withheld_values
from pexpolicy.tasks import hide, start_background

MAX_WAITING = 10_000
"""Decisions that wait for one observer."""
MAX_WAITING_BYTES = 64 << 20
"""Bytes of audit lines, results and pictures of these decisions."""
MAX_BATCH = 100
MAX_BATCH_BYTES = 4 << 20
"""Bytes of a batch; a decision that is larger is a batch of its own."""
MIN_RETRY_S = 0.1
MAX_RETRY_S = 10.0
"""Pause after the first failure, and the longest one; doubled each time."""
GIVE_UP_S = 600.0
"""Time after which a decision that cannot be delivered is dropped."""
DRAIN_TIMEOUT_S = 2.0
"""Time to deliver what waits at a reload and at the end."""
DELIVERED = "delivered"
DROPPED = "dropped"
OBSERVER_OUTCOMES = (DELIVERED, DROPPED, FAILED, TIMED_OUT)
"""What may become of a decision; the last two are failed attempts to deliver it."""
DEFECTS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError),
    *(ValueError, NotImplementedError),
)
"""Errors in the code of an observer, which another attempt would repeat."""
_DEFECT_NAMES = {found.__name__ for base in DEFECTS for found in (base, *base.__subclasses__())}


Observed = Callable[[str, str, int], None]
"""Counts for a plugin what became of decisions, or of an attempt; the last one is their number."""
Shadowed = Callable[[Outcome, Outcome, bool | None], None]
"""Records a call, the outcome of its shadow, and whether that differs; ``None`` if it failed."""


def ignore(*_: object, **__: object) -> None:
    """Record nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Observer:
    """A plugin that is notified of decisions or events, up to ``batch`` at once. ``timeout`` in
    seconds.

    One that ``blocks`` runs in a thread, which nothing can interrupt.
    """

    plugin: str
    notify: Callable[[Sequence[Any]], Awaitable[None]]
    timeout: float
    batch: int = 1
    hook: str = "on_decision"
    blocks: bool = False
    only: Collection[str] | None = None
    """The environments of its decisions, or the sources of its events; ``None``: all."""

    def observes(self, name: str | None) -> bool:
        """Return whether it gets what is of an environment or source."""
        return not self.only or name in self.only


class Attempts:
    """The attempts to notify an observer, one at a time."""

    _attempted: Sequence[Any] = ()
    _task: asyncio.Task[BaseException | None] | None = None
    """The last attempt, of ``_attempted``. It may still run after its time."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    @property
    def is_stuck(self) -> bool:
        """True while an attempt runs, also one that ignores its cancellation."""
        return self._task is not None and not self._task.done()

    async def make(self, batch: Sequence[Any]) -> tuple[str, BaseException] | None:
        """Notify the observer once; return what failed and why, or ``None``.

        It runs once at a time: the last attempt may block, or ignore its cancellation. If it has
        succeeded meanwhile, the batch is delivered.
        """
        limit = self._observer.timeout
        if last := self._task:
            await asyncio.wait((last,), timeout=limit)
            if not last.done():
                return TIMED_OUT, TimeoutError("its last call still runs")
            if self._attempted is batch and last.result() is None:
                return None
        self._attempted = batch
        task = self._task = asyncio.create_task(_notify(self._observer, batch))
        # Nothing else may cancel it. On closing, the event loop would wait for one without an end.
        hide(task)
        await asyncio.wait((task,), timeout=limit)
        if not task.done():
            if not self._observer.blocks:
                task.cancel()
            return TIMED_OUT, TimeoutError(f"no answer within {limit:.3g} s")
        self._task = None
        error = task.result()
        return None if error is None else (FAILED, error)

    def cancel(self) -> None:
        """Cancel the attempt that runs."""
        if self._task is not None:
            self._task.cancel()


class ObserverQueue:
    """The decisions that wait for one observer, and the task that delivers them."""

    successor: ObserverQueue | None = None
    """The queue of the same plugin in the next generation."""
    is_open = False
    _bytes = 0
    _task: asyncio.Task[None] | None = None
    """Delivers until nothing waits."""

    def __init__(self, observer: Observer, log: Log | None) -> None:
        self.plugin = observer.plugin
        self.attempts = Attempts(observer)
        self._observer = observer
        self._observed: Observed = ignore
        self._failure_log = PluginFailureLog(log, observer.hook)
        self._waiting: deque[Outcome] = deque()

    @property
    def pending(self) -> int:
        """The number of decisions that are not delivered yet."""
        return len(self._waiting)

    def put(self, outcome: Outcome, observed: Observed) -> None:
        """Deliver a decision of its environments soon, or drop it where too many wait."""
        if not self._observer.observes(outcome.request.environment):
            return
        self._observed, size = observed, _size(outcome)
        waiting = len(self._waiting)
        if waiting >= MAX_WAITING or (waiting and self._bytes + size > MAX_WAITING_BYTES):
            self._drop([outcome], "its queue is full")
            return
        self._bytes += size
        self._waiting.append(outcome)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
            hide(self._task)

    async def _run(self) -> None:
        try:
            while self._waiting:
                # The reply leaves at the start of the next turn of the event loop.
                await asyncio.sleep(0)
                batch = self._next_batch()
                await self._deliver(batch)
                for outcome in batch:
                    self._waiting.popleft()
                    self._bytes -= _size(outcome)
        finally:
            self._task = None

    def _next_batch(self) -> list[Outcome]:
        batch: list[Outcome] = []
        size = 0
        for outcome in islice(self._waiting, self._observer.batch):
            size += _size(outcome)
            if batch and size > MAX_BATCH_BYTES:
                break
            batch.append(outcome)
        return batch

    async def _deliver(self, batch: list[Outcome]) -> None:
        """Notify the observer until it succeeds, has a defect, or has failed for too long."""
        loop = asyncio.get_running_loop()
        began, pause = loop.time(), MIN_RETRY_S
        while (failed := await self.attempts.make(batch)) is not None:
            result, error = failed
            self._observed(self.plugin, result, 1)
            secrets = {secret for one in batch for secret in withheld_values(one.request)}
            self._failure_log.failed(
                "plugin failed",
                self.plugin,
                describe_error(error, secrets),
                loop.time(),
                decision_id=batch[0].decision_id,
            )
            if is_defect(error) or loop.time() - began >= GIVE_UP_S:
                self._drop(batch, "the observer failed")
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_RETRY_S if self.is_open else MIN_RETRY_S)
        self._observed(self.plugin, DELIVERED, len(batch))

    async def drain(self) -> None:
        """Deliver what waits within ``DRAIN_TIMEOUT_S``; pass the rest to the queue that is open.

        That of the next generation may be closed already, after reloads that follow quickly.
        """
        self.is_open = False
        if (task := self._task) is not None:
            await asyncio.wait((task,), timeout=DRAIN_TIMEOUT_S)
            task.cancel()
        self.attempts.cancel()
        left, self._waiting = self._waiting, deque()
        heir = self.successor
        while heir is not None and not heir.is_open:
            heir = heir.successor
        if left and heir is not None:
            for outcome in left:
                heir.put(outcome, self._observed)
        elif left:
            self._drop(left, f"not delivered within {DRAIN_TIMEOUT_S:.3g} s of the end")

    def _drop(self, outcomes: Sequence[Outcome], why: str) -> None:
        """Count decisions that are lost, and log it once an interval for each reason."""
        self._observed(self.plugin, DROPPED, len(outcomes))
        self._failure_log.failed(
            "decisions were not delivered to an observer",
            self.plugin,
            ErrorReport(why, []),
            asyncio.get_running_loop().time(),
            dropped=len(outcomes),
            decision_id=outcomes[0].decision_id,
        )


async def _notify(observer: Observer, batch: Sequence[Any]) -> BaseException | None:
    """Return an exception as a value: SystemExit in a task would end the event loop."""
    HOOK_CONTEXT.set(((observer.plugin, observer.hook), getattr(batch[0], "request", None)))
    try:
        await observer.notify(batch)
    except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
        return error
    return None


def is_defect(error: BaseException) -> bool:
    """Return whether an error is one of the code of an observer, also in a worker process."""
    summary = getattr(getattr(error, "fault", None), "summary", "")
    name = summary.partition(":")[0].partition(" ")[0]
    return isinstance(error, DEFECTS) or not isinstance(error, Exception) or name in _DEFECT_NAMES


def _size(outcome: Outcome) -> int:
    image = getattr(outcome.decision, "image", b"")
    return len(outcome.audit_line) + len(outcome.decision.result) + len(image)


MAX_PENDING = 256
"""Calls whose background work may be pending at once."""


class BackgroundTasks:
    """Shadow plugins that are asked, and the observers."""

    _has_skipped = False

    def __init__(self, observers: Iterable[Observer], log: Log | None) -> None:
        self.observers = tuple(ObserverQueue(observer, log) for observer in observers)
        self._log = log
        self._pending: set[asyncio.Task[None]] = set()

    def start(
        self,
        outcome: Outcome,
        shadows: Sequence[Chain],
        tasks: HookTasks,
        observed: Observed,
        shadowed: Iterable[Shadowed],
    ) -> None:
        """Start the background work of a call; it runs after the reply has left."""
        for observer in self.observers:
            observer.put(outcome, observed)

        async def ask_shadows() -> None:
            # The reply leaves at the start of the next turn of the event loop.
            await asyncio.sleep(0)
            for chain in shadows:
                # Observers have the other one.
                own = msgspec.structs.replace(outcome, request=dry_copy(outcome.request))
                if chain.deciding:
                    shadow = await chain.ask(own.request, tasks, own.decision_id)
                elif chain.restricting == 0 or was_decided(own):
                    shadow = await chain.adjust(own, tasks)
                else:
                    continue
                differs = _differ(own, shadow, merges=chain.merges and chain.deciding > 0)
                for record in shadowed:
                    record(own, shadow, differs)

        if shadows and len(self._pending) < MAX_PENDING:
            _ = start_background(ask_shadows(), self._pending)
        elif shadows and not self._has_skipped and self._log is not None:
            self._has_skipped = True
            event = "shadow plugins do not keep up: calls are left out"
            self._log.warning(event, decision_id=outcome.decision_id)

    def open(self) -> None:
        """Accept what the observers of an earlier generation could not deliver."""
        for observer in self.observers:
            observer.is_open = True

    async def finish(self) -> None:
        """Drain the observers, wait as long for shadow plugins, and cancel the rest."""
        waits: list[Awaitable[object]] = [observer.drain() for observer in self.observers]
        if self._pending:
            waits.append(asyncio.wait(self._pending, timeout=DRAIN_TIMEOUT_S))
        await asyncio.gather(*waits)
        for task in [*self._pending]:
            task.cancel()


def was_decided(outcome: Outcome) -> bool:
    """Return true where a plugin decided, and false for the default and the reject of a failure."""
    by = outcome.decided_by
    return any(s.plugin == by and s.outcome in (DECIDED, ADJUSTED) for s in outcome.steps)


def _differ(actual: Outcome, shadow: Outcome, *, merges: bool) -> bool | None:
    """Return true when the shadow decides differently, and ``None`` when it failed.

    A shadow that abstains changes nothing. Where decisions are merged, a shadow differs by a reject
    or by a field that was not sent with the same value.
    """
    if any(step.outcome not in ANSWERED for step in shadow.steps):
        return None
    if shadow.decided_by == DEFAULT and not any(s.outcome == DECIDED for s in shadow.steps):
        return False
    would, was = shadow.decision, actual.decision
    if merges and "reject" not in (would.action, was.action):
        return not was.set_fields().items() >= would.set_fields().items()
    return would != was
