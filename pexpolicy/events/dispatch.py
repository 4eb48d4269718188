"""The dispatcher of events: the one process of all that gives them to plugins."""

# ruff: noqa: S608 - the statements are made of constants

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import msgspec
from uuid_utils import uuid7

from pexpolicy.background.shared import Leases, Store
from pexpolicy.background.shared_state import SharedUnavailableError
from pexpolicy.chain.background import GIVE_UP_S, MIN_RETRY_S, Attempts, Observer, is_defect
from pexpolicy.errors import Log, PluginFailureLog, describe_error
from pexpolicy.events.nodes import MAX_NODES, Nodes, NodeState
from pexpolicy.events.receiver import INBOX, TIMEOUT_S, EventReceiver, Inbox
from pexpolicy.models.event import EVENTS, OTHER, STALE, Event, typed_event
from pexpolicy.observability import metrics
from pexpolicy.observability.telemetry import CountKey, Gauge
from pexpolicy.tasks import end_tasks, hide

T = TypeVar("T")

BATCH = 500
"""Events that are read at once."""
SLICE = 25
"""Events that are worked on before other work of the event loop goes on."""
PAUSE_S = 1.0
"""Seconds after a failure, and between two looks whether the owner is still there."""
GATHER_S = 0.01
POLL_S = 0.1
"""Seconds between two looks for events of other processes."""
LEASE_S = 5.0
"""Seconds after which another process takes over."""
OWNER = "owner"
DISPATCHED, REPEATED, DROPPED = "dispatched", "repeated", "dropped"
_READ = f"SELECT id, source, received, content FROM {INBOX} ORDER BY id LIMIT $1"
_DELETE = f"DELETE FROM {INBOX} WHERE id = $1"


class _NotOwnerError(SharedUnavailableError):
    """Another process dispatches, or another configuration."""


async def _sliced(items: Sequence[T]) -> AsyncIterator[T]:
    """Yield items; other work of the event loop goes on between them."""
    for number, item in enumerate(items, 1):
        yield item
        if not number % SLICE:
            await asyncio.sleep(0)


class EventDispatcher:
    """Gives events to plugins, while this process is the one of all that does.

    ``observers`` are those of the active policy, in their order.
    """

    nodes: Nodes | None = None
    """Those of this process while it is the owner."""
    _renewed_at = -LEASE_S

    def __init__(
        self,
        receiver: EventReceiver,
        observers: Callable[[], Sequence[Observer] | None],
        log: Log,
    ) -> None:
        self._counts: Counter[CountKey] = Counter()
        self._receiver = receiver
        self._observers = observers
        self._log = log
        self._holder = f"{os.uname().nodename}/{os.getpid()}/{uuid7()}"
        self._lease = Leases(OWNER, ttl=LEASE_S)
        self._states = Store("nodes", NodeState)
        self._states.timeout = TIMEOUT_S
        self._attempts: dict[Observer, tuple[Attempts, PluginFailureLog]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Dispatch until exit, and let another process take over."""
        task = asyncio.create_task(self._run())
        hide(task)
        try:
            yield
        finally:
            await end_tasks([task], 1.0)
            if self.nodes is not None:
                with suppress(SharedUnavailableError):
                    await self._lease.release(OWNER, self._holder)

    async def _run(self) -> None:
        while True:
            try:
                is_idle = not await self._dispatch()
            except Exception as error:  # noqa: BLE001 - it must go on
                # What was read is read again, and is not known then.
                self.nodes, is_idle = None, False
                if not isinstance(error, SharedUnavailableError):
                    summary = describe_error(error).summary
                    self._log.warning("events cannot be dispatched", error=summary)
                await asyncio.sleep(PAUSE_S)
            if is_idle:
                self._receiver.arrived.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._receiver.arrived.wait()
                # Those that come one by one are worked on together.
                await asyncio.sleep(GATHER_S)

    async def _dispatch(self) -> bool:
        """Dispatch what waits, if this process is the owner; return whether there was anything."""
        if self._observers() is None:
            await asyncio.sleep(PAUSE_S)
            return False
        tables = self._bind()
        await self._renew()
        await self._receiver.count()
        if self.nodes is None:
            self.nodes = Nodes(one for _, one in await self._states.items(limit=2 * MAX_NODES))
        rows = await tables.read(_READ, BATCH)
        events = await self._events(self.nodes, rows)
        if events:
            await self._deliver(events)
        # States come first: of events that are dispatched again, none is missed.
        states = {"\n".join(key): self.nodes.states.get(key) for key in self.nodes.changed}
        await self._states.put_all(states)
        self.nodes.changed.clear()
        if rows:
            await tables.write((_DELETE, [(row[0],) for row in rows]))
        return bool(rows)

    def _bind(self) -> Inbox:
        """Return the tables; raises ``SharedUnavailableError`` while no policy serves."""
        tables = self._receiver.tables
        self._lease.bind("server", tables.state)
        self._states.bind("server", tables.state)
        return tables

    async def _renew(self) -> None:
        """Stay the owner, or raise ``_NotOwnerError``."""
        now = time.monotonic()
        if now - self._renewed_at > LEASE_S / 3:
            if not await self._lease.acquire(OWNER, self._holder, 1):
                raise _NotOwnerError
            self._renewed_at = now

    async def _events(self, nodes: Nodes, rows: Sequence[Any]) -> list[Event]:
        """Decode rows, and return what plugins get: in the order of their time."""
        decoded = [
            typed_event(msgspec.json.decode(content), source, received)
            async for _, source, received, content in _sliced(rows)
        ]
        decoded.sort(key=lambda event: (event.time, event.seq))
        events = [*nodes.expire(time.time())]
        async for event in _sliced(decoded):
            taken = [*nodes.take(event)]
            name = event.event if event.event in EVENTS else OTHER
            if event.event != STALE:
                self._counts[metrics.EVENTS, (name, DISPATCHED if taken else REPEATED)] += 1
            events += taken
        self._counts[metrics.EVENTS_MISSING, ()] += nodes.missing
        nodes.missing = 0
        return events

    async def _deliver(self, events: Sequence[Event]) -> None:
        """Notify each plugin of the events, at the same time as others."""
        known, observers = self._attempts, self._observers() or ()
        self._attempts = {
            one: known.get(one) or (Attempts(one), PluginFailureLog(self._log, one.hook))
            for one in observers
        }
        notified = (self._notify(observer, events) for observer in observers)
        for failure in await asyncio.gather(*notified, return_exceptions=True):
            if failure is not None:
                raise failure

    async def _notify(self, observer: Observer, events: Sequence[Event]) -> None:
        found = [event for event in events if observer.observes(event.source)]
        for at in range(0, len(found), observer.batch):
            await self._attempt(observer, found[at : at + observer.batch])
            await asyncio.sleep(0)

    async def _attempt(self, observer: Observer, batch: Sequence[Event]) -> None:
        """Notify until it succeeds, has a defect, or has failed for too long."""
        attempts, log = self._attempts[observer]
        began, pause = time.monotonic(), MIN_RETRY_S
        while True:
            await self._renew()
            if observer not in (self._observers() or ()):
                raise _NotOwnerError
            if (failed := await attempts.make(batch)) is None:
                return
            _, error = failed
            now = time.monotonic()
            log.failed("plugin failed", observer.plugin, describe_error(error), now)
            if is_defect(error) and len(batch) > 1:
                for event in batch:
                    await self._attempt(observer, [event])
                return
            if is_defect(error) or now - began >= GIVE_UP_S:
                self._counts[metrics.EVENTS, (OTHER, DROPPED)] += len(batch)
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, LEASE_S / 3)

    def take_counts(self) -> Counter[CountKey]:
        """Return what was counted since the last call."""
        counts, self._counts = self._counts, Counter()
        remarks, self._receiver.remarks = self._receiver.remarks, Counter()
        return counts + Counter({(metrics.EVENT_REMARKS, (r,)): n for r, n in remarks.items()})

    def gauges(self) -> Iterator[Gauge]:
        """Yield gauges; those of nodes only while this process is the owner."""
        if self._observers() is not None:
            yield metrics.EVENTS_WAITING, (), self._receiver.waiting
        now = time.time()
        for key, state in self.nodes.states.items() if self.nodes is not None else ():
            yield metrics.EVENT_AGE, key, now - state.received
            yield metrics.EVENT_LAG, key, state.lag
            yield metrics.EVENTS_STALE, key, state.stale_since is not None

    async def report(self) -> dict[str, object] | None:
        """Return the state of all nodes for the status, if there are event sinks."""
        if self._observers() is None:
            return None
        try:
            _ = self._bind()
            await self._receiver.count(0.0)
            states = await self._states.items(limit=2 * MAX_NODES)
        except SharedUnavailableError as error:
            return {"problem": str(error), "waiting": None, "nodes": []}
        now, told = time.time(), msgspec.to_builtins
        nodes = [{**told(one), "age": now - one.received} for _, one in states]
        return {"problem": None, "waiting": self._receiver.waiting, "nodes": nodes}
