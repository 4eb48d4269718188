"""Supervisor and workers: starts the processes, replaces those that end or hang, stops them, and
merges their metrics.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import TYPE_CHECKING

from pexpolicy.config.problems import Problem
from pexpolicy.config.settings import ConfigError, PluginStartupError
from pexpolicy.observability.metrics import LOOP_LAG
from pexpolicy.observability.snapshot import Snapshot
from pexpolicy.server import gc_tuning
from pexpolicy.server.lifecycle import Leftovers, ServerContext, started
from pexpolicy.server.process import (
    READY,
    SHUTDOWN_TIMEOUT_S,
    STOPPING,
    ShutdownSignal,
    force_exit,
    heartbeat,
    notify,
    run,
)
from pexpolicy.server.reload import run_in_build_thread
from pexpolicy.server.reload_triggers import ReloadTriggers, poll_directly
from pexpolicy.server.workers.reload import (
    Alive,
    Merged,
    Refresh,
    Refused,
    ReloadCoordinator,
    ReloadParticipant,
    Report,
    Scrape,
    Serving,
    SupervisorConnection,
    WorkerConnection,
)
from pexpolicy.tasks import run_in_thread, start_background

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
            snapshot = await run_in_thread(self._telemetry.snapshot, "pexpolicy-metrics")
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


HANG_TIMEOUT_S = 30
"""Seconds without a heartbeat until a worker is killed."""
KILL_TIMEOUT_S = 60.0 + SHUTDOWN_TIMEOUT_S + 1.0
"""Seconds from the request to stop until a worker is killed: more than ``drain_delay`` may be."""
RESTART_DELAY_S = 1.0
"""Seconds until a worker that could not answer calls is replaced."""
SHORT_LIFE_S = 5.0
"""Life of a worker that counts as short. From the second short one in a row on, its replacement is
delayed.
"""
MIN_DELAY_S = 0.1
MAX_DELAY_S = 2.0
"""That delay is doubled each time."""
LAST_REPORT_S = 1.0
"""Seconds to read the last reports of a worker that has ended."""
_BLOCKED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)
_fork = multiprocessing.get_context("fork")


def run_worker(
    content: bytes,
    listeners: list[socket.socket],
    connection: socket.socket,
    context: ServerContext,
) -> None:
    """Serve the configuration of this content until a signal or the end of the supervisor.

    ``connection`` is the worker's end of the socket to the supervisor.
    """
    with context.log_thread():
        leftovers = run(_serve(content, listeners, connection, context))
    if leftovers():
        force_exit(leftovers)


async def _serve(
    content: bytes,
    listeners: list[socket.socket],
    connection: socket.socket,
    context: ServerContext,
) -> Leftovers:
    supervisor = SupervisorConnection(connection)
    await supervisor.attach()
    metrics: WorkerMetrics | None = None

    async def send_heartbeats() -> None:
        while True:
            if metrics is None:
                supervisor.send(Alive())
            else:
                await metrics.send()
            await asyncio.sleep(HEARTBEAT_S)

    tasks: set[asyncio.Task[None]] = set()
    _ = start_background(send_heartbeats(), tasks)
    stop = ShutdownSignal()
    # A worker without a supervisor must stop: nothing else would reload or stop it.
    supervisor.on_end = stop.request
    try:
        policy = await run_in_build_thread(lambda: context.build(content))
        async with started(policy, listeners, stop, context) as server:
            files = tuple(map(str, policy.files))
            metrics = WorkerMetrics(server.telemetry, supervisor.send)
            supervisor.on_metrics = metrics.receive
            await metrics.send()
            supervisor.send(Serving(server.announcement, policy.config_hash, files))
            del policy
            reloads = start_background(ReloadParticipant(server.reloader, supervisor).run(), tasks)
            await stop.requested.wait()
            await server.drain(stop)
            # A generation that is activated now would not be closed.
            reloads.cancel()
    except ConfigError as error:
        problems = tuple(map(str, error.problems))
        supervisor.send(Refused(problems, isinstance(error, PluginStartupError)))
        return list
    finally:
        for task in tasks:
            task.cancel()
        if metrics is not None:
            metrics.send_last()
        supervisor.close()
    return server.leftovers


@dataclass(eq=False)
class _Worker:
    """A worker process; ``missed`` counts the heartbeats that it has missed."""

    process: ForkProcess
    connection: WorkerConnection
    listening: asyncio.Task[None]
    started: float
    """The time of the event loop."""
    refusal: Refused | None = None
    has_served: bool = False
    missed: int = 0

    def signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.process.exitcode is None and self.process.pid is not None:
            os.kill(self.process.pid, number)


class Supervisor:
    """Serves in ``count`` processes that share the listening sockets.

    ``content`` is that of the configuration file at ``read_at``, in seconds since the epoch.
    """

    def __init__(
        self,
        count: int,
        content: bytes,
        read_at: float,
        listeners: list[socket.socket],
        context: ServerContext,
    ) -> None:
        self._count = count
        self._read_at = read_at
        self._listeners = listeners
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._stop = ShutdownSignal()
        self._wake = asyncio.Event()
        self._workers: list[_Worker] = []
        self._metrics = MetricsOfWorkers()
        self._startup_refusal: Refused | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._announced = False
        self._start_at = 0.0
        self._short_lives = 0
        """Workers with a short life since the last with a longer one."""
        self._coordinator = ReloadCoordinator(context.config, content, self._serving)
        self._triggers = ReloadTriggers(
            context.config,
            self._coordinator.reload,
            self._stop,
            context.log,
            context.echo,
            poll_directly,
        )

    def run(self) -> None:
        """Serve until a signal; raise ``ConfigError`` if the workers cannot start."""
        loop = self._loop
        loop.add_signal_handler(signal.SIGCHLD, self._wake.set)
        loop.add_signal_handler(signal.SIGUSR1, self._signal_all, signal.SIGUSR1)
        self._stop.install(loop)
        # Forked processes share frozen memory as long as no collection touches it.
        gc_tuning.start_serving()
        self._start_task(self._shut_down())
        self._start_task(self._kill_hung())
        try:
            while self._workers or not self._stop.requested.is_set():
                # Fork while the event loop is not running: the new process runs a loop of its own.
                self._start_missing()
                loop.run_until_complete(self._collect_ended())
            loop.run_until_complete(self._cancel_tasks())
        finally:
            # Only after an internal error: the interpreter would wait for running workers.
            self._signal_all(signal.SIGKILL)
        loop.close()
        if self._startup_refusal is not None:
            kind = PluginStartupError if self._startup_refusal.temporary else ConfigError
            problems = [Problem((), text) for text in self._startup_refusal.problems]
            raise kind(self._context.config, problems)

    def _start_task(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.append(task)
        # A task ends before the server only because of an internal error.
        task.add_done_callback(lambda _: self._stop.requested.set())

    async def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    def _serving(self) -> list[WorkerConnection]:
        return [w.connection for w in self._workers if w.connection.config_hash]

    def _signal_all(self, number: int) -> None:
        for worker in self._workers:
            worker.signal(number)

    def _start_missing(self) -> None:
        if self._stop.requested.is_set() or self._loop.time() < self._start_at:
            return
        try:
            while len(self._workers) < self._count:
                self._workers.append(self._start())
        except OSError as error:
            self._on_failed_start(
                Refused((f"cannot start a process: {error.strerror}",), temporary=True)
            )

    def _start(self) -> _Worker:
        ours, theirs = socket.socketpair()
        process = _fork.Process(target=self._run_worker, args=(ours, theirs))
        # Until the new process has reset its handlers, a signal to it would be delivered to the
        # supervisor through the shared wakeup pipe.
        signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
        try:
            process.start()
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)
            theirs.close()
        connection = WorkerConnection(ours, lambda report: self._on_report(worker, report))
        listening = self._loop.create_task(connection.listen())
        worker = _Worker(process, connection, listening, self._loop.time())
        return worker

    def _run_worker(self, ours: socket.socket, theirs: socket.socket) -> None:
        """Serve in the new process, which shares only sockets with the supervisor."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)
        # Only the supervisor notifies systemd and answers reload requests.
        os.environ.pop("NOTIFY_SOCKET", None)
        self._triggers.close()
        ours.close()
        for worker in self._workers:
            worker.connection.close_copy()
        context = replace(self._context, processes=self._count)
        run_worker(self._coordinator.content, self._listeners, theirs, context)

    def _on_report(self, worker: _Worker, report: Report) -> None:
        worker.missed = 0
        if isinstance(report, Alive | Scrape):
            self._metrics.receive(worker.connection, report)
        if isinstance(report, Refused) and not worker.has_served:
            worker.refusal = report
        if isinstance(report, Serving):
            worker.has_served = True
            if not self._announced:
                self._coordinator.active_hash = report.config_hash
                self._coordinator.files = report.files
                self._announce(report.announcement)
            elif report.config_hash != self._coordinator.active_hash:
                # It started with the previous configuration, or read a file that has changed.
                self._triggers.request()

    def _announce(self, announcement: str) -> None:
        """Start the reload triggers and announce the server when all workers answer calls."""
        if len(self._serving()) < self._count:
            return
        self._announced = True
        self._start_task(self._reload_until_stopped(announcement))

    async def _reload_until_stopped(self, announcement: str) -> None:
        files = map(Path, self._coordinator.files)
        async with self._triggers.active(files, self._read_at):
            self._context.echo(f"{announcement}; {self._count} workers")
            notify(READY)
            await self._stop.requested.wait()

    async def _collect_ended(self) -> None:
        """Wait for a heartbeat or the end of a worker, and remove the workers that have ended."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), HEARTBEAT_S)
        self._wake.clear()
        for worker in [w for w in self._workers if w.process.exitcode is not None]:
            await asyncio.wait((worker.listening,), timeout=LAST_REPORT_S)
            worker.listening.cancel()
            self._workers.remove(worker)
            self._metrics.end(worker.connection)
            if not self._stop.requested.is_set():
                self._on_worker_lost(worker)

    def _on_worker_lost(self, worker: _Worker) -> None:
        code = worker.process.exitcode
        if self._announced and worker.has_served:
            delay = self._delay_restart(worker)
            facts = {"delay": delay} if delay else {}
            self._context.log.warning("a worker ended and is replaced", exit_code=code, **facts)
        else:
            problem = f"a worker ended during start-up with exit code {code}"
            self._on_failed_start(worker.refusal or Refused((problem,), temporary=True))

    def _delay_restart(self, worker: _Worker) -> float:
        """Delay the next start if workers keep ending soon; return the seconds."""
        now = self._loop.time()
        is_short = now - worker.started < SHORT_LIFE_S
        self._short_lives = self._short_lives + 1 if is_short else 0
        if self._short_lives <= 1:
            return 0.0
        delay: float = min(MIN_DELAY_S * 2 ** min(self._short_lives - 2, 20), MAX_DELAY_S)
        self._start_at = max(self._start_at, now + delay)
        self._loop.call_later(delay, self._wake.set)
        return delay

    def _on_failed_start(self, refused: Refused) -> None:
        """Retry later; stop the server if it was not announced yet."""
        if self._announced:
            self._context.log.warning("a worker cannot start yet", problems=refused.problems)
            self._start_at = self._loop.time() + RESTART_DELAY_S
        else:
            self._startup_refusal = refused
            self._stop.request_immediate()

    async def _kill_hung(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            for worker in self._workers:
                worker.missed += 1
                if worker.missed == HANG_TIMEOUT_S / HEARTBEAT_S:
                    text = f"a worker sent no heartbeat for {HANG_TIMEOUT_S} s and is killed"
                    self._context.log.warning(text, pid=worker.process.pid)
                    worker.signal(signal.SIGKILL)

    async def _shut_down(self) -> None:
        """Stop the workers on request; on a second request, without delay."""
        async with heartbeat():
            await self._stop.requested.wait()
            notify(STOPPING)
            for listener in self._listeners:
                listener.close()
            self._loop.call_later(KILL_TIMEOUT_S, self._signal_all, signal.SIGKILL)
            self._signal_all(signal.SIGTERM)
            await self._stop.immediate.wait()
            # Not SIGTERM again: two pending signals of the same kind are delivered as one.
            self._signal_all(signal.SIGINT)
            await asyncio.Event().wait()
