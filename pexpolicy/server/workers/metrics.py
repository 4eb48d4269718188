"""The metrics of all workers: the supervisor keeps the last snapshot of each, and merges them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pexpolicy.observability.metrics import LOOP_LAG
from pexpolicy.observability.snapshot import Snapshot
from pexpolicy.server.workers.reload import Alive, Merged, Refresh, Report, Scrape
from pexpolicy.tasks import start_background

if TYPE_CHECKING:
    from pexpolicy.observability.telemetry import Telemetry
    from pexpolicy.server.workers.reload import Participant

HEARTBEAT_S = 1.0
"""Seconds between two heartbeats of a worker, each with its snapshot."""
REFRESH_TIMEOUT_S = 0.5
"""Seconds for the present snapshots of the other workers, at a scrape; then the last ones count."""
SCRAPE_TIMEOUT_S = 2.0


class MetricsOfWorkers:
    """The last snapshot of each worker, and the counters of those that have ended."""

    def __init__(self) -> None:
        self._last: dict[Participant, tuple[float, Snapshot]] = {}
        self._ended = Snapshot()
        self._refreshes: dict[Participant, list[asyncio.Future[None]]] = {}
        self._scrapes: set[asyncio.Task[None]] = set()

    def receive(self, worker: Participant, report: Alive | Scrape) -> None:
        """Keep the snapshot of a worker; send it those of all if it is scraped."""
        if report.snapshot is not None:
            self._last[worker] = time.monotonic(), report.snapshot
        if isinstance(report, Scrape):
            _ = start_background(self._answer(worker), self._scrapes)
        elif report.is_refreshed:
            self._release(worker)

    def end(self, worker: Participant) -> None:
        """Keep the counters of a worker that has ended."""
        _, snapshot = self._last.pop(worker, (0.0, Snapshot()))
        self._ended.add(snapshot, is_running=False)
        self._release(worker)

    def _release(self, worker: Participant) -> None:
        for refreshed in self._refreshes.pop(worker, ()):
            if not refreshed.done():
                refreshed.set_result(None)

    async def _answer(self, scraped: Participant) -> None:
        refreshes = []
        for worker in self._last:
            if worker is not scraped:
                refreshed = asyncio.get_running_loop().create_future()
                self._refreshes.setdefault(worker, []).append(refreshed)
                refreshes.append(refreshed)
                worker.send(Refresh())
        if refreshes:
            await asyncio.wait(refreshes, timeout=REFRESH_TIMEOUT_S)
        scraped.send(Merged(self._merged()))

    def _merged(self) -> Snapshot:
        result, now = Snapshot(), time.monotonic()
        result.add(self._ended, is_running=False)
        for received, snapshot in self._last.values():
            result.add(snapshot)
            # A blocked event loop cannot report its own lag.
            silent = max(now - received - HEARTBEAT_S, 0.0)
            result.families[LOOP_LAG.name].add((LOOP_LAG.name,), silent)
        return result


class WorkerMetrics:
    """The metrics of one worker, which it reports to the supervisor."""

    def __init__(self, telemetry: Telemetry, report: Callable[[Report], None]) -> None:
        self._telemetry = telemetry
        self._report = report
        self._merged: asyncio.Future[Snapshot] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        telemetry.merge = self._ask

    def receive(self, order: Refresh | Merged) -> None:
        """Send a snapshot, or return that of all workers where it is awaited."""
        if isinstance(order, Refresh):
            _ = start_background(self.send(is_refreshed=True), self._tasks)
        elif self._merged is not None and not self._merged.done():
            self._merged.set_result(order.snapshot)

    async def send(self, *, is_refreshed: bool = False) -> None:
        """Send a heartbeat with a snapshot; without one, the supervisor would kill the worker."""
        try:
            snapshot = await self._telemetry.in_thread(self._telemetry.snapshot)
            self._report(Alive(snapshot, is_refreshed))
        except Exception:  # noqa: BLE001 - no label of a plugin's metric may end the worker
            self._report(Alive(None, is_refreshed))

    def send_last(self) -> None:
        """Send the snapshot of a worker that ends."""
        self._report(Alive(self._telemetry.snapshot()))

    async def _ask(self, own: Snapshot) -> Snapshot:
        """Return the snapshot of all workers; without an answer, that of this one."""
        if self._merged is None or self._merged.done():
            self._merged = asyncio.get_running_loop().create_future()
        self._report(Scrape(own))
        try:
            return await asyncio.wait_for(asyncio.shield(self._merged), SCRAPE_TIMEOUT_S)
        except TimeoutError:
            return own
