"""Observers: plugins that are notified of each decision, each from a queue of its own.

Nothing here can change or delay a reply. An observer is notified of one decision, or one batch, at
a time. One that fails is notified again, so it may see a decision twice. What does not fit into its
queue is dropped, counted and logged.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from pexpolicy.chain.failure_log import PluginFailureLog
from pexpolicy.errors import LOG_INTERVAL_S, Log, describe_error
from pexpolicy.models.hook_context import HOOK_CONTEXT
from pexpolicy.models.outcome import FAILED, TIMED_OUT, Outcome
from pexpolicy.models.withheld import withheld_values
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
"""Pause after the first failure, and the longest one; doubled each time, with 50 % of jitter."""
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


class ObserverCounts(Protocol):
    """Counters of what became of notifying observers."""

    def observed(self, plugin: str, outcome: str, count: int = 1) -> None:
        """Count decisions that were delivered or dropped, or attempts that failed."""


@dataclass(frozen=True, slots=True)
class Observer:
    """A plugin that is notified of decisions, up to ``batch`` at once. ``timeout`` in seconds.

    One that ``blocks`` runs in a thread, which nothing can interrupt.
    """

    plugin: str
    notify: Callable[[Sequence[Outcome]], Awaitable[None]]
    timeout: float
    batch: int = 1
    hook: str = "on_decision"
    blocks: bool = False


class ObserverQueue:
    """The decisions that wait for one observer, and the task that delivers them."""

    def __init__(self, observer: Observer, log: Log | None) -> None:
        self.plugin = observer.plugin
        self.successor: ObserverQueue | None = None
        """The queue of the same plugin in the next generation."""
        self.is_open = False
        self._observer = observer
        self._log = log
        self._failure_log = PluginFailureLog(log, observer.hook)
        self._waiting: deque[Outcome] = deque()
        self._bytes = 0
        self._current: list[Outcome] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._counts: ObserverCounts | None = None
        self._dropped = 0
        self._logged_at: float | None = None
        self._attempted: Sequence[Outcome] = ()
        self._attempt_task: asyncio.Task[BaseException | None] | None = None
        """The last attempt, of ``_attempted``. It may still run after its time."""

    @property
    def pending(self) -> int:
        """The number of decisions that are not delivered yet."""
        return len(self._waiting) + len(self._current)

    @property
    def is_stuck(self) -> bool:
        """True while an attempt runs, also one that ignores its cancellation."""
        return self._attempt_task is not None and not self._attempt_task.done()

    def open(self) -> None:
        """Accept decisions, and those that a predecessor could not deliver."""
        self.is_open = True

    def put(self, outcome: Outcome, counts: ObserverCounts | None) -> None:
        """Deliver a decision soon, or drop it where too many wait."""
        if counts is not None:
            self._counts = counts
        size = _size(outcome)
        full = self._bytes + size > MAX_WAITING_BYTES and self._waiting
        if len(self._waiting) >= MAX_WAITING or full:
            self._drop([outcome], "its queue is full")
            return
        self._bytes += size
        self._waiting.append(outcome)
        self._arrived.set()
        self._idle.clear()
        if not self._tasks:
            _ = start_background(self._run(), self._tasks)

    def put_back(self, outcomes: Iterable[Outcome], counts: ObserverCounts | None) -> None:
        """Deliver what a predecessor could not, before all else."""
        later = list(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        for outcome in (*outcomes, *later):
            self.put(outcome, counts)

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            # The reply leaves at the start of the next turn of the event loop.
            await asyncio.sleep(0)
            self._current = self._take()
            await self._deliver(self._current)
            self._current = []
            if not self._waiting:
                self._idle.set()

    def _take(self) -> list[Outcome]:
        batch = [self._waiting.popleft()]
        taken = _size(batch[0])
        while self._waiting and len(batch) < self._observer.batch:
            size = _size(self._waiting[0])
            if taken + size > MAX_BATCH_BYTES:
                break
            taken += size
            batch.append(self._waiting.popleft())
        self._bytes -= taken
        return batch

    async def _deliver(self, batch: list[Outcome]) -> None:
        """Notify the observer until it succeeds, has a defect, or has failed for too long."""
        loop = asyncio.get_running_loop()
        began, pause = loop.time(), MIN_RETRY_S
        while True:
            result, error = await self._attempt(batch)
            if error is None:
                self._count(DELIVERED, len(batch))
                return
            self._count(result, 1)
            self._log_failure(error, batch)
            if is_defect(error):
                self._drop(batch, "the observer failed")
                return
            if loop.time() - began >= GIVE_UP_S:
                self._drop(batch, f"the observer has failed for {GIVE_UP_S:.0f} s")
                return
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(pause * 2, MAX_RETRY_S if self.is_open else MIN_RETRY_S)

    async def _attempt(self, batch: Sequence[Outcome]) -> tuple[str, BaseException | None]:
        """Notify the observer once; return what became of it, and why it failed.

        It runs once at a time: the last attempt may block, or ignore its cancellation. If it has
        succeeded meanwhile, the batch is delivered.
        """
        limit = self._observer.timeout
        if (last := self._attempt_task) is not None:
            await asyncio.wait((last,), timeout=limit)
            if not last.done():
                return TIMED_OUT, TimeoutError("its last call still runs")
            if self._attempted is batch and not last.cancelled() and last.result() is None:
                return DELIVERED, None
        self._attempted = batch
        task = self._attempt_task = asyncio.create_task(_notify(self._observer, batch))
        await asyncio.wait((task,), timeout=limit)
        if not task.done():
            if not self._observer.blocks:
                self._cancel_attempt()
            return TIMED_OUT, TimeoutError(f"no answer within {limit:.3g} s")
        self._attempt_task = None
        if task.cancelled():
            return FAILED, asyncio.CancelledError("something in this process cancelled it")
        return FAILED, task.result()

    def _cancel_attempt(self) -> None:
        task = self._attempt_task
        if task is not None and not task.done():
            task.cancel()
            # On closing, the event loop would wait for it, and it may never end.
            hide(task)

    def _log_failure(self, error: BaseException, batch: Sequence[Outcome]) -> None:
        secrets = {secret for outcome in batch for secret in withheld_values(outcome.request)}
        report = describe_error(error, tuple(secrets))
        now = asyncio.get_running_loop().time()
        decision_id = batch[0].decision_id
        self._failure_log.failed("plugin failed", self.plugin, report, now, decision_id=decision_id)

    async def drain(self) -> None:
        """Deliver what waits within ``DRAIN_TIMEOUT_S``; pass the rest to the queue that is open.

        That of the next generation may be closed already, after reloads that follow quickly.
        """
        self.is_open = False
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), DRAIN_TIMEOUT_S)
        for task in self._tasks:
            task.cancel()
        self._cancel_attempt()
        left = [*self._current, *self._waiting]
        self._waiting.clear()
        self._current = []
        heir = self.successor
        while heir is not None and not heir.is_open:
            heir = heir.successor
        if left and heir is not None:
            heir.put_back(left, self._counts)
        elif left:
            self._drop(left, f"not delivered within {DRAIN_TIMEOUT_S:.3g} s of the end")
        self._log_dropped()
        self._failure_log.close()

    def _drop(self, outcomes: Sequence[Outcome], why: str) -> None:
        """Count decisions that are lost, and log it once an interval."""
        self._count(DROPPED, len(outcomes))
        self._dropped += len(outcomes)
        now = asyncio.get_running_loop().time()
        if self._logged_at is None or now - self._logged_at >= LOG_INTERVAL_S:
            self._logged_at = now
            self._log_dropped(why=why, decision_id=outcomes[0].decision_id)

    def _log_dropped(self, **more: str) -> None:
        if self._dropped and self._log is not None:
            event = "decisions were not delivered to an observer"
            self._log.warning(event, plugin=self.plugin, dropped=self._dropped, **more)
        self._dropped = 0

    def _count(self, outcome: str, count: int) -> None:
        if self._counts is not None:
            self._counts.observed(self.plugin, outcome, count)


async def _notify(observer: Observer, batch: Sequence[Outcome]) -> BaseException | None:
    """Return an exception as a value: SystemExit in a task would end the event loop."""
    HOOK_CONTEXT.set(((observer.plugin, observer.hook), batch[0].request))
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
