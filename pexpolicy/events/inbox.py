"""The inbox of events in the shared state, which the processes of all servers fill."""

# ruff: noqa: S608 - the statements are made of constants

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from uuid_utils import uuid7

from pexpolicy.background.shared import SharedTables
from pexpolicy.background.shared_state import SharedState, SharedUnavailableError
from pexpolicy.tasks import start_background

MAX_WAITING = 250_000
"""Events in the inbox; further ones are answered with 503."""
MAX_ROWS = 300
"""Events that one transaction stores: others wait for the database meanwhile."""
COUNT_S = 1.0
TIMEOUT_S = 5.0
INBOX, NODES = "pexpolicy_events_inbox", "pexpolicy_events_nodes"
_COLUMNS = {
    INBOX: "id $text PRIMARY KEY, source $text, received double precision NOT NULL,"
    " content $text NOT NULL",
    NODES: "source $text, node $text, state $text NOT NULL, PRIMARY KEY (source, node)",
}
_CREATE = [f"CREATE TABLE IF NOT EXISTS {name} ({text})" for name, text in _COLUMNS.items()]
_INSERT = f"INSERT INTO {INBOX} (id, source, received, content) VALUES ($1, $2, $now, $3)"


class QueueFullError(Exception):
    """So many events wait that no more are stored."""


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
            self.waiting = int((await self.tables.read(f"SELECT count(*) FROM {INBOX}"))[0][0])
