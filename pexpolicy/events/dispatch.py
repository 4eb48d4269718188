"""The inbox of events, which all processes fill, and the one process that gives them to plugins."""

# ruff: noqa: S608 - the statements are made of constants

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from uuid_utils import uuid7

from pexpolicy.background.shared import Leases, SharedTables
from pexpolicy.background.shared_state import (
    SetupError,
    SharedState,
    SharedUnavailableError,
    Statement,
)
from pexpolicy.chain.background import GIVE_UP_S, MIN_RETRY_S, Attempts, Observer, is_defect
from pexpolicy.chain.failure_log import PluginFailureLog
from pexpolicy.errors import Log, describe_error
from pexpolicy.events.nodes import Nodes, NodeState
from pexpolicy.events.receiver import EventReceiver, QueueFullError
from pexpolicy.models.event import EVENTS, OTHER, STALE, Event, typed_event
from pexpolicy.observability import metrics
from pexpolicy.observability.telemetry import CountKey, Gauge
from pexpolicy.tasks import end_tasks, start_background

MAX_WAITING = 250_000
"""Events in the inbox; further ones are answered with 503."""
MAX_ROWS = 300
"""Events that one transaction stores: others wait for the database meanwhile."""
COUNT_S = 1.0
BATCH = 500
"""Events that are read at once."""
SLICE = 25
"""Events that are decoded before other work of the event loop goes on."""
PAUSE_S = 1.0
"""Seconds after a failure, and between two looks whether the owner is still there."""
POLL_S = 0.1
"""Seconds between two looks for events of other processes."""
TIMEOUT_S = 5.0
LEASE_S = 5.0
"""Seconds after which another process takes over."""
OWNER = "owner"
DISPATCHED, REPEATED, DROPPED = "dispatched", "repeated", "dropped"
_INBOX, _NODES = "pexpolicy_events_inbox", "pexpolicy_events_nodes"
_COLUMNS = {
    _INBOX: "id $text PRIMARY KEY, source $text, received double precision NOT NULL,"
    " content $text NOT NULL",
    _NODES: "source $text, node $text, state $text NOT NULL, PRIMARY KEY (source, node)",
}
_CREATE = [f"CREATE TABLE IF NOT EXISTS {name} ({text})" for name, text in _COLUMNS.items()]
_INSERT = f"INSERT INTO {_INBOX} (id, source, received, content) VALUES ($1, $2, $now, $3)"
_READ = f"SELECT id, source, received, content FROM {_INBOX} ORDER BY id LIMIT $1"
_COUNT = f"SELECT count(*) FROM {_INBOX}"
_DELETE = f"DELETE FROM {_INBOX} WHERE id = $1"
_STATES = f"SELECT state FROM {_NODES}"
_KEEP = (
    f"INSERT INTO {_NODES} (source, node, state) VALUES ($1, $2, $3)"
    " ON CONFLICT (source, node) DO UPDATE SET state = excluded.state"
)
_FORGET = f"DELETE FROM {_NODES} WHERE source = $1 AND node = $2"
_decode_state = msgspec.json.Decoder(NodeState).decode


class EventInbox:
    """Stores events in ``[shared]``; what waits is stored in one transaction.

    ``state`` returns the shared state of the active policy.
    """

    def __init__(self, state: Callable[[], SharedState | None]) -> None:
        self.waiting = 0
        """Events in the inbox when that was last counted."""
        self.arrived = asyncio.Event()
        self._state = state
        self._tables = SharedTables("events", _CREATE, TIMEOUT_S)
        self._queue: list[tuple[str, str, str]] = []
        self._stored: list[asyncio.Future[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_storing = False
        self._counted_at = -COUNT_S

    @property
    def tables(self) -> SharedTables:
        """The tables; raises ``SharedUnavailableError`` while no policy serves."""
        if (state := self._state()) is None:
            raise SharedUnavailableError("shared state is not open")
        self._tables.bind("server", state)
        return self._tables

    async def put(self, source: str, events: Sequence[str]) -> None:
        """Store events; raises ``QueueFullError``, and errors of the shared state."""
        await self.count()
        if self.waiting >= MAX_WAITING:
            raise QueueFullError
        self._queue += [(str(uuid7()), source, event) for event in events]
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stored.append(stored)
        if not self._is_storing:
            self._is_storing = True
            _ = start_background(self._store(), self._tasks)
        await stored

    async def _store(self) -> None:
        while self._stored:
            rows, self._queue = self._queue, []
            waiting, self._stored = self._stored, []
            failure: Exception | None = None
            try:
                for at in range(0, len(rows), MAX_ROWS):
                    await self.tables.write((_INSERT, rows[at : at + MAX_ROWS]))
                    self.arrived.set()
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                failure = error
            for stored in waiting:
                if not stored.done():
                    stored.set_exception(failure) if failure else stored.set_result(None)
        self._is_storing = False

    async def count(self, age: float = COUNT_S) -> None:
        """Count what is in the inbox, unless that was done less than ``age`` seconds ago."""
        now = time.monotonic()
        if now - self._counted_at >= age:
            self._counted_at = now
            self.waiting = int((await self.tables.read(_COUNT))[0][0])


class _NotOwnerError(Exception):
    """Another process dispatches."""


class _ReloadedError(Exception):
    """The plugin is one of an earlier configuration."""


class EventDispatcher:
    """Gives events to plugins, while this process is the one of all that does.

    ``observers`` are those of the active policy, in their order.
    """

    def __init__(
        self,
        inbox: EventInbox,
        receiver: EventReceiver,
        observers: Callable[[], Sequence[Observer] | None],
        log: Log,
    ) -> None:
        self.nodes: Nodes | None = None
        """Those of this process while it is the owner."""
        self._counts: Counter[CountKey] = Counter()
        self._inbox = inbox
        self._receiver = receiver
        self._observers = observers
        self._log = log
        self._holder = f"{os.uname().nodename}/{os.getpid()}/{uuid7()}"
        self._lease = Leases(OWNER, ttl=LEASE_S)
        self._renewed_at = -LEASE_S
        self._attempts: dict[str, tuple[Observer, Attempts, PluginFailureLog]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Dispatch until exit, and let another process take over."""
        tasks: set[asyncio.Task[None]] = set()
        task = start_background(self._run(), tasks)
        try:
            yield
        finally:
            await end_tasks([task], 1.0)
            if self.nodes is not None:
                with suppress(SharedUnavailableError, SetupError):
                    await self._lease.release(OWNER, self._holder)

    async def _run(self) -> None:
        while True:
            try:
                is_idle = not await self._dispatch()
            except (SharedUnavailableError, SetupError, _NotOwnerError):
                self.nodes = None
                await asyncio.sleep(PAUSE_S)
            except _ReloadedError:
                continue
            except Exception as error:  # noqa: BLE001 - it must go on
                report = describe_error(error)
                self._log.warning("events cannot be dispatched", error=report.summary)
                await asyncio.sleep(PAUSE_S)
            else:
                if is_idle:
                    self._inbox.arrived.clear()
                    wait = asyncio.ensure_future(self._inbox.arrived.wait())
                    await asyncio.wait((wait,), timeout=POLL_S)
                    wait.cancel()

    async def _dispatch(self) -> bool:
        """Dispatch what waits, if this process is the owner; return whether there was anything."""
        if self._observers() is None:
            await asyncio.sleep(PAUSE_S)
            return False
        await self._renew()
        await self._inbox.count()
        tables = self._inbox.tables
        if self.nodes is None:
            rows = await tables.read(_STATES)
            self.nodes = Nodes(_decode_state(row[0]) for row in rows)
        rows = await tables.read(_READ, BATCH)
        events = await self._events(self.nodes, rows)
        if events:
            await self._deliver(events)
        if rows or self.nodes.changed:
            await self._done(tables, self.nodes, rows)
        return bool(rows)

    async def _renew(self) -> None:
        """Stay the owner, or raise ``_NotOwnerError``."""
        now = time.monotonic()
        if now - self._renewed_at > LEASE_S / 3:
            self._lease.bind("server", self._inbox.tables.state)
            if not await self._lease.acquire(OWNER, self._holder, 1):
                raise _NotOwnerError
            self._renewed_at = now

    async def _events(self, nodes: Nodes, rows: Sequence[Any]) -> list[Event]:
        """Decode rows, and return what plugins get: in the order of their time."""
        decoded: list[Event] = []
        for number, (_, source, received, content) in enumerate(rows, 1):
            decoded.append(typed_event(msgspec.json.decode(content), source, received))
            if not number % SLICE:
                await asyncio.sleep(0)
        decoded.sort(key=lambda event: (event.time, event.seq))
        events = [*nodes.expire(time.time())]
        for event in decoded:
            taken = [*nodes.take(event)]
            name = event.event if event.event in EVENTS else OTHER
            if event.event != STALE:
                self._counts[metrics.EVENTS.name, (name, DISPATCHED if taken else REPEATED)] += 1
            events += taken
        self._counts[metrics.EVENTS_MISSING.name, ()] += nodes.missing
        nodes.missing = 0
        return events

    async def _deliver(self, events: Sequence[Event]) -> None:
        """Notify each plugin of the events, at the same time as others."""
        observers = self._observers() or ()
        notified = (self._notify(observer, events) for observer in observers)
        for failure in await asyncio.gather(*notified, return_exceptions=True):
            if failure is not None:
                raise failure

    async def _notify(self, observer: Observer, events: Sequence[Event]) -> None:
        known = self._attempts.get(observer.plugin)
        if known is None or known[0] is not observer:
            log = PluginFailureLog(self._log, observer.hook)
            known = self._attempts[observer.plugin] = observer, Attempts(observer), log
        for at in range(0, len(events), observer.batch):
            await self._attempt(known[1], known[2], observer, events[at : at + observer.batch])
            await asyncio.sleep(0)

    async def _attempt(
        self, attempts: Attempts, log: PluginFailureLog, observer: Observer, batch: Sequence[Event]
    ) -> None:
        """Notify until it succeeds, has a defect, or has failed for too long."""
        loop = asyncio.get_running_loop()
        began, pause = loop.time(), MIN_RETRY_S
        while True:
            await self._renew()
            if observer not in (self._observers() or ()):
                raise _ReloadedError
            if (failed := await attempts.make(batch)) is None:
                return
            _, error = failed
            log.failed("plugin failed", observer.plugin, describe_error(error), loop.time())
            if is_defect(error) and len(batch) > 1:
                for event in batch:
                    await self._attempt(attempts, log, observer, [event])
                return
            if is_defect(error) or loop.time() - began >= GIVE_UP_S:
                self._counts[metrics.EVENTS.name, (OTHER, DROPPED)] += len(batch)
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, LEASE_S / 3)

    async def _done(self, tables: SharedTables, nodes: Nodes, rows: Sequence[Any]) -> None:
        """Store the states of nodes, and delete what was dispatched."""
        changed = [(key, nodes.states.get(key)) for key in nodes.changed]
        kept = [(*key, msgspec.json.encode(state).decode()) for key, state in changed if state]
        gone = [key for key, state in changed if state is None]
        done = [(row[0],) for row in rows]
        parts: list[Statement] = [(_KEEP, kept), (_FORGET, gone), (_DELETE, done)]
        await tables.write(*((sql, part) for sql, part in parts if part))
        nodes.changed.clear()

    def take_counts(self) -> Counter[CountKey]:
        """Return what was counted since the last call."""
        counts, self._counts = self._counts, Counter()
        for reason, count in self._receiver.take_remarks().items():
            counts[metrics.EVENT_REMARKS.name, (reason,)] += count
        return +counts

    def gauges(self) -> Iterator[Gauge]:
        """Yield gauges; those of nodes only while this process is the owner."""
        if self._observers() is not None:
            yield metrics.EVENTS_WAITING, (), self._inbox.waiting
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
            await self._inbox.count(0.0)
            rows = await self._inbox.tables.read(_STATES)
        except (SharedUnavailableError, SetupError) as error:
            return {"problem": str(error), "waiting": None, "nodes": []}
        states, now = [_decode_state(row[0]) for row in rows], time.time()
        nodes = [{**msgspec.to_builtins(one), "age": now - one.received} for one in states]
        return {"problem": None, "waiting": self._inbox.waiting, "nodes": nodes}
