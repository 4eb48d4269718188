"""Worker processes that share the listening socket, and their supervisor.

The supervisor forks the workers, replaces those that end or hang, and merges their metrics. A
reload has two phases, so that all workers have the new configuration or none: each opens it, and
only if all of them could, each activates it.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkProcess
from pathlib import Path

import msgspec

from pexpolicy.config.files import read_file
from pexpolicy.config.places import grouped
from pexpolicy.config.problems import Problem
from pexpolicy.config.settings import ConfigError, PluginStartupError
from pexpolicy.isolation.child import UNLIMITED, Channel
from pexpolicy.observability.metrics import Snapshot
from pexpolicy.observability.telemetry import Telemetry
from pexpolicy.server.generations import Generation, Reloader, run_in_build_thread
from pexpolicy.server.lifecycle import ServerContext, started
from pexpolicy.server.process import (
    READY,
    SHUTDOWN_TIMEOUT_S,
    STOPPING,
    ShutdownSignal,
    notify,
    run,
)
from pexpolicy.server.reload_triggers import ReloadResult, ReloadTriggers
from pexpolicy.tasks import start_background

HEARTBEAT_S = 1.0
"""Seconds between two heartbeats of a worker, each with its snapshot."""
SILENT_S = 5
"""Seconds without a heartbeat until the server is not ready."""
HANG_TIMEOUT_S = 9
"""Seconds without a heartbeat until a worker is killed: a reload waits no longer."""
START_HANG_TIMEOUT_S = 30
"""The same at a start and a stop, when plugins may block the event loop."""
STOP_HANG_TIMEOUT_S = SHUTDOWN_TIMEOUT_S + 0.3
"""Seconds of a stop until a silent worker is killed; one that can has named its plugins by then."""
REFRESH_TIMEOUT_S = 0.5
"""Seconds for the present snapshots of the other workers, at a scrape; then the last ones count."""
SCRAPE_TIMEOUT_S = 2.0
KILL_TIMEOUT_S = 60.0 + SHUTDOWN_TIMEOUT_S + 1.0
"""Seconds from the request to stop until a worker is killed: more than ``drain_delay`` may be."""
SHORT_LIFE_S = 5.0
RESTART_DELAY_S = 1.0
"""Seconds until a worker with a shorter life than that is replaced."""
LAST_REPORT_S = 1.0
"""Seconds to read the last reports of a worker that has ended."""
EVENTS_NICE = 19
"""The priority of the process that dispatches events, so that calls need not wait for it."""
_BLOCKED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)
_fork = multiprocessing.get_context("fork")


class Message(msgspec.Struct, frozen=True):
    """A message between the supervisor and a worker.

    To a worker: ``prepare`` (build and open the generation of this content of the configuration
    file, of the present file, or of the ``kept`` ones; ``author`` asked for it), ``commit``
    (activate it), ``abandon`` (close it), ``refresh`` (report the metrics now), ``merged``, the
    metrics of all workers, and ``silent``, how many workers send no heartbeats.

    From a worker: ``alive`` (its event loop is running) and ``fresh`` (the answer to ``refresh``)
    with what it has counted, ``scrape`` (it is scraped), ``serving`` (it answers calls from the
    configuration of the result), ``prepared``, ``committed``, and ``refused`` (the configuration
    cannot be used, but perhaps later if that is ``temporary``).
    """

    kind: str
    content: bytes | None = None
    author: str = ""
    kept: str = ""
    result: ReloadResult = ReloadResult("")
    snapshot: Snapshot | None = None
    announcement: str = ""
    temporary: bool = False
    silent: int = 0


_decode = msgspec.msgpack.Decoder(Message).decode


class Worker(Channel[Message]):
    """A worker process, as the supervisor sees it; ``handle`` is called with each report."""

    limit = UNLIMITED
    process: ForkProcess
    is_first: bool
    """Whether it runs the jobs of the server."""
    is_for_events: bool
    """Whether it dispatches events, and answers no calls."""
    policy_hash = ""
    """That of its active configuration; empty before it answers calls."""
    refusal: Message | None = None
    """Why it could not start."""
    missed = 0
    """The heartbeats that it has missed."""
    is_fresh = False
    """Whether the snapshot is as new as the last scrape."""

    def __init__(self, end: socket.socket, handle: Callable[[Worker, Message], None]) -> None:
        super().__init__("a worker", end, _decode)
        self._handle = handle
        self.ended = asyncio.Event()
        self.on_end = self.ended.set
        self.started = time.monotonic()
        self.snapshot = Snapshot()

    def on_message(self, message: Message) -> None:
        """Note a report; it may be the answer to an order."""
        self.missed = 0
        self.snapshot = message.snapshot or self.snapshot
        self.is_fresh |= message.kind == "fresh"
        if message.kind in ("serving", "committed"):
            self.policy_hash = message.result.policy_hash
        if message.kind in ("prepared", "committed", "refused"):
            self.answer(message)
        self._handle(self, message)

    def signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.process.exitcode is None and self.process.pid is not None:
            os.kill(self.process.pid, number)


async def merged(scraped: Worker, workers: Collection[Worker], ended: Snapshot) -> Snapshot:
    """Return the metrics of all workers, one of which is scraped, and of those that have ended."""
    others = [worker for worker in workers if worker is not scraped]
    for worker in others:
        worker.is_fresh = False
        worker.send(Message("refresh"))
    deadline = time.monotonic() + REFRESH_TIMEOUT_S
    while not all(one.is_fresh for one in others) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.002)
    result = Snapshot()
    result.add(ended, is_running=False)
    for worker in workers:
        result.add(worker.snapshot)
    return result


@dataclass
class ReloadCoordinator:
    """Reloads all workers or none; ``workers`` returns those that answer calls.

    ``content`` is that of the configuration file when the active configuration was read: a worker
    that replaces another one starts with it. Set ``active`` when the first worker answers calls.
    """

    config: Path
    content: bytes | None
    workers: Callable[[], Collection[Worker]]
    active: ReloadResult
    kept: str = ""
    """The policy hash of the earlier configuration that is active."""

    async def reload(self, author: str = "", kept: str = "") -> ReloadResult:
        """Reload all workers from the present file, or from what is ``kept`` by a policy hash.

        Reload again for a worker that has started meanwhile with the previous configuration.
        """
        while True:
            content = content_of(self.config)
            result = await self._reload(Message("prepare", content, author, kept))
            if not result.done:
                return result
            self.content, self.active, self.kept = content, result, kept
            if all(worker.policy_hash == result.policy_hash for worker in self.workers()):
                return result

    async def _reload(self, order: Message) -> ReloadResult:
        """Reload the workers that answer calls now; one that ends meanwhile is ignored."""
        author, reports = order.author, await _ask_all(self.workers(), order)
        prepared = [worker for worker, report in reports if report.kind == "prepared"]
        refusals = [report.result for _, report in reports if report.kind == "refused"]
        if not refusals and len({report.result.policy_hash for _, report in reports}) == 1:
            for _, report in await _ask_all(prepared, Message("commit", author=author)):
                return report.result
            reports = []
        for worker in prepared:
            worker.send(Message("abandon", author=author))
        why = "a file changed while the workers read it" if reports else "no worker is left"
        texts = [text for refusal in refusals for text in refusal.problems] or [why]
        files = [file for one in (self.active, *refusals) for file in one.files]
        problems, watched = (tuple(dict.fromkeys(one)) for one in (texts, files))
        return ReloadResult(self.active.policy_hash, problems=problems, files=watched)


def content_of(config: Path) -> bytes | None:
    """Return the content of the configuration file; ``None`` leaves it to the workers to read it,
    and to say why they cannot.
    """
    try:
        return read_file(config)
    except OSError:
        return None


async def _ask_all(workers: Collection[Worker], order: Message) -> list[tuple[Worker, Message]]:
    """Send an order to all workers and return the reports of those that have not ended."""
    asked = (worker.ask(order) for worker in workers)
    pairs = zip(workers, await asyncio.gather(*asked, return_exceptions=True), strict=True)
    return [(worker, report) for worker, report in pairs if isinstance(report, Message)]


class SupervisorChannel(Channel[Message]):
    """A worker's end of the socket to the supervisor: it reports, and executes orders."""

    limit = UNLIMITED
    _telemetry: Telemetry | None = None

    def __init__(self, end: socket.socket) -> None:
        super().__init__("the supervisor", end, _decode)
        self.reloads: asyncio.Queue[Message] = asyncio.Queue()
        self._scrape = asyncio.Lock()
        self.tasks: set[asyncio.Task[None]] = set()
        """Those that end with it."""

    def on_message(self, message: Message) -> None:
        """Queue what concerns a reload, which takes time; metrics do not wait for it."""
        if message.kind == "merged":
            self.answer(message)
        elif message.kind == "refresh":
            _ = start_background(self.report("fresh"), self.tasks)
        elif message.kind == "silent":
            if self._telemetry is not None:
                self._telemetry.sources.silent_workers = message.silent
        else:
            self.reloads.put_nowait(message)

    def use(self, telemetry: Telemetry) -> None:
        """Report what is counted from now on."""
        self._telemetry = telemetry
        telemetry.merge = self._merge

    async def _merge(self, own: Snapshot) -> Snapshot:
        """Return the metrics of all workers; without an answer, those of this one."""
        async with self._scrape:
            with suppress(TimeoutError):
                answer = await self.ask(Message("scrape", snapshot=own), SCRAPE_TIMEOUT_S)
                return answer.snapshot or own
            return own

    async def beat(self) -> None:
        """Send heartbeats; without them, the supervisor would kill the worker."""
        while True:
            await self.report("alive")
            await asyncio.sleep(HEARTBEAT_S)

    async def report(self, kind: str) -> None:
        """Report what was counted, once the worker answers calls."""
        try:
            snapshot = None
            if self._telemetry is not None:
                snapshot = await self._telemetry.snapshot_in_thread()
            self.send(Message(kind, snapshot=snapshot))
        except Exception:  # noqa: BLE001 - no label of a plugin's metric may end the worker
            self.send(Message(kind))

    async def execute(self, reloader: Reloader) -> None:
        """Execute the orders of a reload one by one."""
        prepared: Generation | None = None
        while True:
            order = await self.reloads.get()
            if order.kind == "prepare":
                try:
                    prepared = await reloader.prepare(order.content, order.kept)
                except ConfigError as error:
                    self.send(Message("refused", result=reloader.refuse(error, order.author)))
                else:
                    policy_hash = prepared.policy.policy_hash
                    self.send(Message("prepared", result=ReloadResult(policy_hash)))
            elif prepared is not None:
                if order.kind == "commit":
                    self.send(Message("committed", result=reloader.commit(prepared, order.author)))
                else:
                    await reloader.abandon(prepared, order.author)
                prepared = None

    def end(self) -> None:
        """Send what was counted last, and close the socket."""
        for task in self.tasks:
            task.cancel()
        if self._telemetry is not None:
            self.send(Message("alive", snapshot=self._telemetry.snapshot()))
        self.close()


async def _serve(
    content: bytes | None,
    listener: socket.socket,
    end: socket.socket,
    context: ServerContext,
    *,
    is_first: bool,
) -> None:
    """Serve this content of the configuration file until a signal or the end of the supervisor."""
    supervisor, stop = SupervisorChannel(end), ShutdownSignal()
    # A worker without a supervisor must stop: nothing else would reload or stop it.
    supervisor.on_end = stop.request
    await supervisor.attach()
    _ = start_background(supervisor.beat(), supervisor.tasks)
    try:
        start = context.start or context.build
        policy = await run_in_build_thread(lambda: start(content))
        policy.context.shared.history.is_first_worker = is_first
        async with started(policy, listener, stop, context) as server:
            supervisor.use(server.telemetry)
            await supervisor.report("alive")
            serving = ReloadResult(policy.policy_hash, files=tuple(map(str, policy.files)))
            supervisor.send(Message("serving", result=serving, announcement=server.announcement))
            del policy
            reloads = start_background(supervisor.execute(server.reloader), supervisor.tasks)
            await stop.requested.wait()
            reloads.cancel()
    except ConfigError as error:
        result = ReloadResult("", problems=tuple(map(str, grouped(error.problems, error.path))))
        is_temporary = isinstance(error, PluginStartupError)
        supervisor.send(Message("refused", result=result, temporary=is_temporary))
    finally:
        supervisor.end()


class Supervisor:
    """Serves in ``count`` processes that share the listening socket, and dispatches events in one
    of its own if ``has_events``.

    ``content`` is that of the configuration file at ``read_at``, in seconds since the epoch.
    """

    _announced = False
    _start_at = 0.0
    """When the next worker may be started."""
    _startup_error: ConfigError | None = None

    def __init__(
        self,
        count: int,
        content: bytes | None,
        read_at: float,
        listener: socket.socket,
        context: ServerContext,
        *,
        has_events: bool,
    ) -> None:
        self._count, self._has_events = count, has_events
        self._read_at = read_at
        self._listener = listener
        self._context = context._replace(processes=count)
        self._loop = asyncio.new_event_loop()
        self._stop = ShutdownSignal()
        self._wake = asyncio.Event()
        self._workers: list[Worker] = []
        self._ended = Snapshot()
        """What the workers that have ended had counted."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._coordinator = ReloadCoordinator(
            context.config, content, self._serving, ReloadResult("")
        )
        self._triggers = ReloadTriggers(
            context.config,
            self._coordinator.reload,
            self._stop,
            context.log,
            context.echo,
            uses_threads=False,
        )

    def run(self) -> None:
        """Serve until a signal; raise ``ConfigError`` if the workers cannot start."""
        loop = self._loop
        loop.add_signal_handler(signal.SIGCHLD, self._wake.set)
        loop.add_signal_handler(signal.SIGUSR1, self._signal_all, signal.SIGUSR1)
        self._stop.install(loop)
        # Forked processes share frozen memory as long as no collection touches it.
        gc.freeze()
        gc.enable()
        self._tasks.add(loop.create_task(self._shut_down()))
        self._kill_hung()
        try:
            while self._workers or not self._stop.requested.is_set():
                # Fork while the event loop is not running: the new process runs a loop of its own.
                while (
                    len(self._workers) < self._count + self._has_events
                    and time.monotonic() >= self._start_at
                    and not self._stop.requested.is_set()
                ):
                    self._start()
                loop.run_until_complete(self._collect_ended())
            for task in self._tasks:
                task.cancel()
            loop.run_until_complete(asyncio.wait(self._tasks))
        finally:
            # Only after an internal error: the interpreter would wait for running workers.
            self._signal_all(signal.SIGKILL)
            loop.close()
        if self._startup_error is not None:
            raise self._startup_error

    def _serving(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.policy_hash and not worker.has_ended]

    def _signal_all(self, number: int, silent_s: float = 0.0) -> None:
        """Send a signal to all workers, or to those that are silent for some seconds."""
        for worker in self._workers:
            if worker.missed * HEARTBEAT_S >= silent_s:
                worker.signal(number)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        # Until the new process has reset its handlers, a signal to it would be delivered to the
        # supervisor through the shared wakeup pipe.
        signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
        worker = Worker(ours, self._on_report)
        others = self._workers
        worker.is_for_events = self._has_events and not any(one.is_for_events for one in others)
        worker.is_first = not worker.is_for_events and not any(one.is_first for one in others)
        target = partial(self._run_worker, worker, ours, theirs)
        worker.process = _fork.Process(target=target)
        try:
            worker.process.start()
        except OSError as error:
            ours.close()
            self._on_failed_start((f"cannot start a process: {error.strerror}",))
        else:
            self._workers.append(worker)
            self._loop.run_until_complete(worker.attach())
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)
            theirs.close()

    def _run_worker(self, own: Worker, ours: socket.socket, theirs: socket.socket) -> None:
        """Serve in the new process, which shares only sockets with the supervisor."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)
        # Only the supervisor notifies systemd and answers reload requests.
        os.environ.pop("NOTIFY_SOCKET", None)
        ours.close()
        for worker in self._workers:
            worker.close_copy()
        content, context = self._coordinator.content, self._context
        if self._has_events:
            context = context._replace(answers=not own.is_for_events, dispatches=own.is_for_events)
        if own.is_for_events:
            os.nice(EVENTS_NICE)
        with self._context.log_thread():
            run(_serve(content, self._listener, theirs, context, is_first=own.is_first))

    def _on_report(self, worker: Worker, report: Message) -> None:
        coordinator = self._coordinator
        if report.kind == "scrape":
            _ = start_background(self._answer_scrape(worker), self._tasks)
        elif report.kind == "refused" and not worker.policy_hash:
            worker.refusal = report
        elif report.kind == "serving" and self._announced:
            if worker.policy_hash != coordinator.active.policy_hash:
                # It started with the previous configuration, or read a file that has changed.
                _ = self._triggers.reload(kept=coordinator.kept)
        elif report.kind == "serving":
            coordinator.active = report.result
            if len(self._serving()) == self._count + self._has_events:
                self._announced = True
                serving = self._reload_until_stopped(report.announcement)
                _ = start_background(serving, self._tasks)

    async def _answer_scrape(self, worker: Worker) -> None:
        worker.send(Message("merged", snapshot=await merged(worker, self._workers, self._ended)))

    async def _reload_until_stopped(self, announcement: str) -> None:
        files = map(Path, self._coordinator.active.files)
        async with self._triggers.active(files, self._read_at):
            self._context.echo(f"{announcement}; {self._count} workers")
            notify(READY)
            await self._stop.requested.wait()

    async def _collect_ended(self) -> None:
        """Wait for a heartbeat or the end of a worker, and remove the workers that have ended."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), HEARTBEAT_S)
        self._wake.clear()
        for worker in [one for one in self._workers if one.process.exitcode is not None]:
            with suppress(TimeoutError):
                await asyncio.wait_for(worker.ended.wait(), LAST_REPORT_S)
            worker.close()
            self._workers.remove(worker)
            self._ended.add(worker.snapshot, is_running=False)
            if not self._stop.requested.is_set():
                self._on_lost(worker)

    def _on_lost(self, worker: Worker) -> None:
        code, refusal = worker.process.exitcode, worker.refusal
        if refusal is not None:
            self._on_failed_start(refusal.result.problems, is_temporary=refusal.temporary)
        elif self._announced and worker.policy_hash:
            if time.monotonic() - worker.started < SHORT_LIFE_S:
                self._start_at = time.monotonic() + RESTART_DELAY_S
            self._context.log.warning("a worker ended and is replaced", exit_code=code)
        else:
            self._on_failed_start((f"a worker ended during start-up with exit code {code}",))

    def _on_failed_start(self, problems: tuple[str, ...], *, is_temporary: bool = True) -> None:
        """Retry later; stop the server if it was not announced yet."""
        self._start_at = time.monotonic() + RESTART_DELAY_S
        if self._announced:
            self._context.log.warning("a worker cannot start yet", problems=problems)
        else:
            kind = PluginStartupError if is_temporary else ConfigError
            found = [Problem((), text) for text in problems]
            self._startup_error = kind(self._context.config, found)
            self._stop.request_immediate()

    def _kill_hung(self) -> None:
        """Kill workers that send no heartbeats; before that, tell the others how many there are.

        They get no connections: each worker accepts its own from the shared socket.
        """
        for worker in self._workers:
            worker.missed += 1
            answers = worker.policy_hash and not self._stop.requested.is_set()
            limit = HANG_TIMEOUT_S if answers else START_HANG_TIMEOUT_S
            if worker.missed * HEARTBEAT_S >= limit:
                text = f"a worker sent no heartbeat for {limit} s and is killed"
                self._context.log.warning(text, pid=worker.process.pid)
                worker.signal(signal.SIGKILL)
        answering = [one for one in self._serving() if not one.is_for_events]
        silent = sum(one.missed * HEARTBEAT_S >= SILENT_S for one in answering)
        for worker in self._workers:
            worker.send(Message("silent", silent=silent))
        self._loop.call_later(HEARTBEAT_S, self._kill_hung)

    async def _shut_down(self) -> None:
        """Stop the workers on request; on a second request, without delay."""
        await self._stop.requested.wait()
        notify(STOPPING)
        self._listener.close()
        self._loop.call_later(STOP_HANG_TIMEOUT_S, self._signal_all, signal.SIGKILL, SILENT_S)
        self._loop.call_later(KILL_TIMEOUT_S, self._signal_all, signal.SIGKILL)
        self._signal_all(signal.SIGTERM)
        await self._stop.immediate.wait()
        # Not SIGTERM again: two pending signals of the same kind are delivered as one.
        self._signal_all(signal.SIGINT)
        await asyncio.Event().wait()
