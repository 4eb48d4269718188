"""The supervisor: starts the workers, replaces those that die or hang, and ends them."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.context import ForkProcess
from pathlib import Path

from pexpolicy.config.problems import Problem
from pexpolicy.config.settings import ConfigError, PluginStartupError
from pexpolicy.observability.shared_memory import SharedCounters
from pexpolicy.server import gc_tuning, systemd
from pexpolicy.server.lifecycle import ServerContext
from pexpolicy.server.reload.file_watcher import poll_directly
from pexpolicy.server.reload.triggers import ReloadTriggers
from pexpolicy.server.shutdown import STOPPING, ShutdownSignal
from pexpolicy.server.workers.messages import Refused, Report, Serving, WorkerConnection
from pexpolicy.server.workers.reload_coordinator import ReloadCoordinator
from pexpolicy.server.workers.worker import BEAT, run_worker

HUNG = 30
"""Seconds without a sign of life until a worker is replaced."""
LONGEST_END = 60.0 + STOPPING + 1.0
"""Seconds until a worker is killed that was told to stop: more than the longest ``drain_delay``."""
RETRY = 1.0
"""Seconds until a worker is started in the place of one that could not serve."""
LAST_WORDS = 1.0
"""Seconds to read what a worker reported before it died."""
_HELD = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)
_fork = multiprocessing.get_context("fork")


@dataclass(eq=False)
class _Worker:
    """A worker process; ``silent`` counts the beats that it has missed."""

    process: ForkProcess
    connection: WorkerConnection
    listening: asyncio.Task[None]
    slot: int | None
    refusal: Refused | None = None
    has_served: bool = False
    silent: int = 0

    def signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.process.exitcode is None and self.process.pid is not None:
            os.kill(self.process.pid, number)


class Supervisor:
    """Serves by ``count`` processes, on sockets that they share.

    ``content`` is what the configuration file held at ``read_at``, in seconds since the epoch.
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
        self._refusal: Refused | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._announced = False
        self._start_at = 0.0
        self._coordinator = ReloadCoordinator(context.config, content, self._serving)
        self._triggers = ReloadTriggers(
            context.config,
            self._coordinator.reload,
            self._stop,
            context.log,
            context.say,
            poll_directly,
        )

    def run(self) -> None:
        """Serve until a signal ends it; raises ``ConfigError`` where that is impossible."""
        loop = self._loop
        loop.add_signal_handler(signal.SIGCHLD, self._wake.set)
        loop.add_signal_handler(signal.SIGUSR1, self._signal_all, signal.SIGUSR1)
        self._stop.listen(loop)
        # A fork shares what is frozen, as long as no collector touches it.
        gc_tuning.start_serving()
        self._begin(self._shut_down())
        self._begin(self._kill_hung())
        try:
            while self._workers or not self._stop.asked.is_set():
                # Forked while the event loop is at rest, as the new process has a loop of its own.
                self._start_missing()
                loop.run_until_complete(self._next_end())
            loop.run_until_complete(self._end())
        finally:
            # After a fault of ours there may be some, and the interpreter would wait for them.
            self._signal_all(signal.SIGKILL)
        loop.close()
        if self._refusal is not None:
            kind = PluginStartupError if self._refusal.temporary else ConfigError
            problems = [Problem((), text) for text in self._refusal.problems]
            raise kind(self._context.config, problems)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.append(task)
        # None ends before the server but by a fault of ours.
        task.add_done_callback(lambda _: self._stop.asked.set())

    async def _end(self) -> None:
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
        if self._stop.asked.is_set() or self._loop.time() < self._start_at:
            return
        try:
            while len(self._workers) < self._count:
                self._workers.append(self._start())
        except OSError as error:
            self._on_failed_start(Refused((f"no process: {error.strerror}",), temporary=True))

    def _start(self) -> _Worker:
        board = self._context.operators.board
        ours, theirs = socket.socketpair()
        slot = board.reserve()
        process = _fork.Process(target=self._be_worker, args=(ours, theirs, slot))
        # A signal that reached the new process before it lets go of the handlers would be noted by
        # the supervisor as one of its own.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
        try:
            process.start()
        except OSError:
            ours.close()
            if slot is not None:
                board.release(slot, os.getpid())
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
            theirs.close()
        connection = WorkerConnection(ours, lambda report: self._on_report(worker, report))
        worker = _Worker(process, connection, self._loop.create_task(connection.listen()), slot)
        return worker

    def _be_worker(self, ours: socket.socket, theirs: socket.socket, slot: int | None) -> None:
        """Serve in the new process, which shares nothing with the supervisor but sockets."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
        # The supervisor tells systemd, and it alone is asked to reload.
        os.environ.pop("NOTIFY_SOCKET", None)
        self._triggers.close()
        ours.close()
        for worker in self._workers:
            worker.connection.close()
        operators = self._context.operators
        # Without a slot on the board a worker is not counted with the others, and answers calls.
        place = (
            replace(operators, board=SharedCounters())
            if slot is None
            else replace(operators, slot=slot)
        )
        context = replace(self._context, operators=place)
        run_worker(self._coordinator.content, self._listeners, theirs, context)

    def _on_report(self, worker: _Worker, report: Report) -> None:
        worker.silent = 0
        if isinstance(report, Refused) and not worker.has_served:
            worker.refusal = report
        if isinstance(report, Serving):
            worker.has_served = True
            if not self._announced:
                self._coordinator.active_hash = report.config_hash
                self._coordinator.files = report.files
                self._announce(report.announcement)
            elif report.config_hash != self._coordinator.active_hash:
                # It was started with what was active then, or read a file that has changed.
                self._triggers.request()

    def _announce(self, announcement: str) -> None:
        """Begin to reload, and tell the operator, once all workers serve."""
        if len(self._serving()) < self._count:
            return
        self._announced = True
        self._begin(self._reload_until_stopped(announcement))

    async def _reload_until_stopped(self, announcement: str) -> None:
        files = map(Path, self._coordinator.files)
        async with self._triggers.active(files, self._read_at):
            self._context.say(f"{announcement}; {self._count} workers")
            systemd.notify(systemd.READY)
            await self._stop.asked.wait()

    async def _next_end(self) -> None:
        """Wait a beat, or until a worker has ended, and note which have."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), BEAT)
        self._wake.clear()
        for worker in [w for w in self._workers if w.process.exitcode is not None]:
            await asyncio.wait((worker.listening,), timeout=LAST_WORDS)
            worker.listening.cancel()
            self._workers.remove(worker)
            if worker.slot is not None and worker.process.pid is not None:
                self._context.operators.board.release(worker.slot, worker.process.pid)
            if not self._stop.asked.is_set():
                self._on_end(worker)

    def _on_end(self, worker: _Worker) -> None:
        """Replace a worker that has ended."""
        code = worker.process.exitcode
        if self._announced and worker.has_served:
            self._context.log.warning("a worker ended and is replaced", exit_code=code)
        else:
            early = (f"a worker ended at its start, with exit code {code}",)
            self._on_failed_start(worker.refusal or Refused(early, temporary=True))

    def _on_failed_start(self, refused: Refused) -> None:
        """Try again later; before the server is announced, end it."""
        if self._announced:
            self._context.log.warning("a worker cannot serve yet", problems=refused.problems)
            self._start_at = self._loop.time() + RETRY
        else:
            self._refusal = refused
            self._stop.hurry()

    async def _kill_hung(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            for worker in self._workers:
                worker.silent += 1
                if worker.silent == HUNG / BEAT:
                    text = f"a worker gave no sign of life for {HUNG} s and is killed"
                    self._context.log.warning(text, pid=worker.process.pid)
                    worker.signal(signal.SIGKILL)

    async def _shut_down(self) -> None:
        """Stop the workers when that is asked for; at the second time, without delay."""
        async with systemd.alive():
            await self._stop.asked.wait()
            systemd.notify(systemd.STOPPING)
            for listener in self._listeners:
                listener.close()
            self._loop.call_later(LONGEST_END, self._signal_all, signal.SIGKILL)
            self._signal_all(signal.SIGTERM)
            await self._stop.hurried.wait()
            # Another signal than the first: two of the same kind may be delivered as one.
            self._signal_all(signal.SIGINT)
            await asyncio.Event().wait()
