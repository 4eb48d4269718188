"""The lifecycle of a server process: start, run, stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
    redirect_stdout,
    suppress,
)
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pexpolicy import __version__
from pexpolicy.audit.audit_log import AuditLog, audit_of
from pexpolicy.audit.reader import recent_peers
from pexpolicy.config.problems import Problem
from pexpolicy.config.settings import ConfigError
from pexpolicy.errors import Log
from pexpolicy.events.dispatch import EventDispatcher
from pexpolicy.events.receiver import EventReceiver
from pexpolicy.fleet.bundle import BundleSource
from pexpolicy.observability.telemetry import ReadinessState, StateSources, Telemetry
from pexpolicy.observability.tracing import exporter
from pexpolicy.policy import Policy
from pexpolicy.server.generations import (
    Build,
    Generation,
    Reloader,
    generation_of,
)
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.listener import Listener, url_of
from pexpolicy.server.process import (
    EXIT_TIMEOUT_S,
    READY,
    SHUTDOWN_TIMEOUT_S,
    STOPPING,
    ShutdownSignal,
    force_exit_after,
    notify,
)
from pexpolicy.server.reload_triggers import ReloadTriggers
from pexpolicy.server.route_listeners import admin_listener, api_listener
from pexpolicy.tasks import end_tasks, start_background

STOP_FETCHING_S = 1.0
YOUNG_THRESHOLD = 20_000
"""Number of young objects that starts a collection: twice those of a hundred calls in flight."""
SWITCH_INTERVAL_S = 0.0005
"""Seconds after which a thread, such as one that builds or that stores events, makes way for calls;
Python's default is 0.005, and each call waits for it more than once.
"""


class ServerContext(NamedTuple):
    """The facts of a server that do not change while it runs. ``echo`` prints a line for the
    operator.
    """

    config: Path
    build: Build
    log: Log
    echo: Callable[[str], None]
    bundles: BundleSource | None = None
    admin: socket.socket | None = None
    """The socket of the admin listener."""
    api: socket.socket | None = None
    """That of ``[api]``."""
    processes: int = 1
    """Processes that accept connections on the same sockets."""
    answers: bool = True
    """Whether this process accepts any: the one for events alone does not."""
    dispatches: bool = True
    """Whether it may dispatch the events of nodes."""
    on_activation: Callable[[Policy], None] = lambda _: None
    """Called with the policy of each generation before it answers its first call."""
    log_thread: Callable[[], AbstractContextManager[None]] = nullcontext
    """Writes the log in a thread until exit, in a process that answers calls."""
    start: Build | None = None
    """Builds what a worker starts with, which may be the last good files; default: ``build``."""


class Server(NamedTuple):
    """A running server; ``announcement`` is the line for the operator with its address."""

    reloader: Reloader
    announcement: str
    telemetry: Telemetry


async def serve(
    policy: Policy, listener: socket.socket, read_at: float, context: ServerContext
) -> None:
    """Serve in one process until a signal.

    ``read_at`` is when the configuration was read, in seconds since the epoch. Raise
    ``ConfigError`` if a plugin or file cannot be opened.
    """
    stop = ShutdownSignal()
    files = policy.files
    async with started(policy, listener, stop, context) as server:
        # The frames of the first policy outlive it; they must not keep its rooms after a reload.
        del policy
        triggers = ReloadTriggers(
            context.config, server.reloader.reload, stop, context.log, context.echo
        )
        async with triggers.active(files, read_at):
            context.echo(server.announcement)
            notify(READY)
            await stop.requested.wait()


@asynccontextmanager
async def started(
    policy: Policy, listener: socket.socket, stop: ShutdownSignal, context: ServerContext
) -> AsyncIterator[Server]:
    """Answer calls until exit; raise the same errors as ``serve``.

    Then report "draining" at ``/readyz`` and keep answering calls for ``drain_delay``; each reply
    closes its connection. A second signal ends the delay. At last, answer the calls in flight.
    """
    loop = asyncio.get_running_loop()
    stop.install(loop)
    try:
        audit = audit_of(policy.settings, context.echo)
    except OSError as error:
        problem = Problem(("audit", "path"), f"{error.filename} cannot be opened: {error.strerror}")
        raise ConfigError(policy.settings.path, [problem]) from None
    audit.start_timer(loop)
    loop.add_signal_handler(signal.SIGUSR1, audit.sink.reopen)
    try:
        # A plugin that does not open must not keep the server running.
        stop.on_signal = partial(_limit, policy)
        # Standard output belongs to the audit: output of plugins would mix with its lines.
        with redirect_stdout(sys.stderr):
            async with _answering(policy, listener, audit, context) as server:
                reloader = server.reloader
                stop.on_signal = lambda: _limit(reloader.active.policy, reloader)
                del policy
                yield server
                notify(STOPPING)
                stop.on_signal()
                server.telemetry.sources.readiness = ReadinessState.DRAINING
                delay = reloader.active.policy.settings.server.drain_delay
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.immediate.wait(), delay)
        force_exit_after(EXIT_TIMEOUT_S, reloader.leftovers)
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        audit.close()


def _limit(policy: Policy, reloader: Reloader | None = None) -> None:
    """Start the timer that ends the process even if a plugin does not open or stop."""
    seconds = SHUTDOWN_TIMEOUT_S + policy.settings.server.drain_delay
    force_exit_after(seconds, reloader.leftovers if reloader else lambda: [*policy.lifespans][-1:])


def _put_calls_first() -> None:
    """Let calls wait little for collections of garbage and for other threads."""
    gc.freeze()
    gc.set_threshold(YOUNG_THRESHOLD)
    gc.enable()
    sys.setswitchinterval(SWITCH_INTERVAL_S)


@asynccontextmanager
async def _answering(
    policy: Policy, listener: socket.socket, audit: AuditLog, context: ServerContext
) -> AsyncIterator[Server]:
    """Open the plugins, then the sockets; close them in reverse order."""
    settings, log = policy.settings, context.log
    async with exporter(settings.tracing) as spans:
        first = generation_of(policy, audit)
        access, audit_path = first.access, settings.audit.path
        if settings.credentials and audit_path is not None:
            access.pool.remember(recent_peers(settings.resolve(audit_path)))
        context.on_activation(policy)
        await first.open()
        receiver = EventReceiver(lambda: app.generation.policy.shared_state)
        dispatcher = EventDispatcher(receiver, lambda: app.generation.policy.event_observers, log)
        sources = StateSources(
            readiness=ReadinessState.STARTING,
            answers=context.answers,
            audit=audit.state,
            reload=lambda: reloader.state,
            certificate=lambda: answering.certificates,
            connections=lambda: len(answering.connections),
            event_counts=dispatcher.take_counts,
            event_gauges=dispatcher.gauges,
            events=dispatcher.report,
        )
        telemetry = Telemetry(sources)
        base_path = settings.server.base_path
        app = PolicyApp(first, log, base_path, telemetry, spans, receiver)

        def activate(generation: Generation) -> None:
            context.on_activation(generation.policy)
            app.activate(generation)

        reloader = Reloader(first, context.build, activate)
        fetching: set[asyncio.Task[None]] = set()
        bundles = context.bundles
        if bundles is not None and reloader.is_of_first_worker:
            fetch = bundles.run(lambda: reloader.active.policy.settings)
            _ = start_background(fetch, fetching)
            sources.bundle_refused = lambda: bool(bundles.problem)
        reloader.keep()
        names = ", ".join(plugin.name for plugin in policy.plugins) or "none"
        for name, bound, has_tls in (
            ("admin listener", context.admin, settings.admin.tls),
            ("API", context.api, settings.tls),
        ):
            if bound is not None:
                names += f"; {name}: {url_of(bound, 'https' if has_tls else 'http')}"
        try:
            answering = Listener(app, listener, shared=context.processes > 1)
            async with AsyncExitStack() as running:
                if context.dispatches:
                    await running.enter_async_context(dispatcher.running())
                if context.answers:
                    await running.enter_async_context(admin_listener(app, context.admin))
                    await running.enter_async_context(api_listener(app, context.api, settings))
                    await running.enter_async_context(answering.open())
                _put_calls_first()
                sources.readiness = ReadinessState.READY
                url = url_of(listener, "https" if settings.tls else "http") + base_path
                announcement = f"pexpolicy {__version__} answers on {url} (plugins: {names})"
                del policy, first
                yield Server(reloader, announcement, telemetry)
        finally:
            await end_tasks(fetching, STOP_FETCHING_S)
            await reloader.close()
