"""The inbox of events, which all processes fill, and the one process that gives them to plugins."""

# ruff: noqa: S608 - the statements are made of constants

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
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
from pexpolicy.events.message import Incoming
from pexpolicy.events.nodes import Nodes, NodeState
from pexpolicy.events.receiver import QueueFullError
from pexpolicy.models.event import EVENTS, STALE, Event, SourceStale, typed_event
from pexpolicy.tasks import end_tasks, start_background

MAX_WAITING = 250_000
"""Events in the inbox; further ones are answered with 503."""
MAX_ROWS, MAX_ROWS_BYTES = 300, 4 << 20
"""Events and bytes that one transaction stores."""
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
        self._bound: SharedState | None = None
        self._tables = SharedTables("events", _CREATE, TIMEOUT_S)
        self._queue: list[tuple[list[tuple[str, str, str]], asyncio.Future[None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_storing = False
        self._counted_at = 0.0

    @property
    def tables(self) -> SharedTables:
        """The tables; raises ``SharedUnavailableError`` while no policy serves."""
        state = self._state()
        if state is None:
            raise SharedUnavailableError("shared state is not open")
        if state is not self._bound:
            self._tables.bind("server", state)
            self._bound = state
        return self._tables

    async def put(self, source: str, events: Sequence[Incoming]) -> None:
        """Store events. Raises ``QueueFullError``, also while the shared state fails."""
        if self.waiting >= MAX_WAITING:
            await self.count()
            if self.waiting >= MAX_WAITING:
                raise QueueFullError
        rows = [(str(uuid7()), source, event.content) for event in events]
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((rows, stored))
        if not self._is_storing:
            self._is_storing = True
            _ = start_background(self._store(), self._tasks)
        await stored

    async def _store(self) -> None:
        while self._queue:
            queue, self._queue = self._queue, []
            rows = [row for part, _ in queue for row in part]
            failure: Exception | None = None
            try:
                while rows:
                    taken = size = 0
                    while taken < min(MAX_ROWS, len(rows)) and size < MAX_ROWS_BYTES:
                        size += len(rows[taken][2])
                        taken += 1
                    await self.tables.write((_INSERT, rows[:taken]))
                    self.arrived.set()
                    del rows[:taken]
                if time.monotonic() - self._counted_at > 1.0:
                    await self.count()
            except (SharedUnavailableError, SetupError) as error:
                failure = QueueFullError(str(error))
            except Exception as error:  # noqa: BLE001 - whoever waits must get an answer
                failure = error
            for _, stored in queue:
                if not stored.done():
                    stored.set_exception(failure) if failure else stored.set_result(None)
        self._is_storing = False

    async def count(self) -> None:
        """Count what is in the inbox."""
        self._counted_at = time.monotonic()
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
        self, inbox: EventInbox, observers: Callable[[], Sequence[Observer] | None], log: Log
    ) -> None:
        self.nodes: Nodes | None = None
        """Those of this process while it is the owner."""
        self.results: Counter[tuple[str, str]] = Counter()
        """Events by name and result."""
        self._inbox = inbox
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
            envelope = msgspec.json.decode(content)
            if isinstance(envelope, str):
                decoded.append(_marker(source, received, envelope))
            else:
                decoded.append(typed_event(envelope, source, received))
            if not number % SLICE:
                await asyncio.sleep(0)
        decoded.sort(key=lambda event: (event.time, event.seq))
        events = [*nodes.expire(time.time())]
        for event in decoded:
            taken = [*nodes.take(event)]
            name = event.event if event.event in EVENTS else "other"
            if event.event != STALE:
                self.results[name, "dispatched" if taken else "duplicate"] += 1
            events += taken
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
                self.results["other", "dropped"] += len(batch)
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


def _marker(source: str, received: float, why: str) -> Event:
    return SourceStale(
        source=source, node="", seq=0, time=received, received=received, event=STALE, why=why
    )
