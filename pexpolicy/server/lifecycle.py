"""The lifecycle of a server process: start, run, stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractContextManager,
    asynccontextmanager,
    nullcontext,
    redirect_stdout,
    suppress,
)
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pexpolicy import __version__
from pexpolicy.access.warnings import Ports, preflight_problems
from pexpolicy.audit.audit_log import AuditLog
from pexpolicy.audit.factory import audit_of
from pexpolicy.audit.reader import recent_peers
from pexpolicy.builder import policy_from
from pexpolicy.config.problems import Problem
from pexpolicy.config.schema.server import AdminTable
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.errors import Log
from pexpolicy.observability.telemetry import (
    Readiness,
    ReadinessState,
    ReloadState,
    StateSources,
    Telemetry,
)
from pexpolicy.observability.tracing import exporter
from pexpolicy.policy import BuildContext, Policy
from pexpolicy.server import gc_tuning
from pexpolicy.server.admin import AdminEndpoint, admin_listener
from pexpolicy.server.generations import (
    Generation,
    GenerationRunner,
    GenerationSwitch,
    generation_of,
)
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.listener import Address, Listener, url_of
from pexpolicy.server.process import (
    EXIT_TIMEOUT_S,
    READY,
    SHUTDOWN_TIMEOUT_S,
    STOPPING,
    ShutdownSignal,
    force_exit_after,
    heartbeat,
    notify,
)
from pexpolicy.server.reload import Reloader
from pexpolicy.server.reload_triggers import ReloadTriggers

Leftovers = Callable[[], list[str]]
"""Returns the names of plugins and hooks that were abandoned and have not ended."""


@dataclass(frozen=True, slots=True)
class ServerContext:
    """The facts of a server that do not change while it runs.

    ``address`` and ``admin`` are those of the start, ``ports`` those of the command line, which
    override the configured ones. ``echo`` prints a line for the operator.
    """

    config: Path
    address: str
    admin: AdminTable
    log: Log
    echo: Callable[[str], None]
    ports: Ports = (None, None)
    processes: int = 1
    """Processes that accept connections on the same sockets."""
    admin_endpoint: AdminEndpoint = field(default_factory=AdminEndpoint)
    on_activation: Callable[[Policy], None] = lambda _: None
    """Called with the policy of each generation before it answers its first call."""
    build_context: BuildContext = field(default_factory=BuildContext)
    log_thread: Callable[[], AbstractContextManager[None]] = nullcontext
    """Writes the log in a thread until exit, in a process that answers calls."""

    def build(self, content: bytes | None = None) -> Policy:
        """Build the policy of ``content``, or of the present configuration file.

        Raise ``ConfigError``.
        """
        return policy_from(self.config, self._preflight, self.build_context, content=content)

    def _preflight(self, settings: Settings) -> list[Problem]:
        return preflight_problems(settings, self.address, self.admin, self.ports)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server; ``announcement`` is the line for the operator with its address."""

    reloader: Reloader
    announcement: str
    telemetry: Telemetry
    _readiness: Readiness
    _generations: GenerationSwitch

    def leftovers(self) -> list[str]:
        """Return the names of plugins and hooks that were abandoned and have not ended."""
        return self._generations.leftovers

    def limit_shutdown(self) -> None:
        """Start the timer that ends the process even if a plugin does not stop."""
        force_exit_after(SHUTDOWN_TIMEOUT_S + self._drain_delay, self.leftovers)

    async def drain(self, stop: ShutdownSignal) -> None:
        """Report "draining" at ``/readyz`` and keep answering calls for ``drain_delay``.

        Each reply closes its connection. A second signal ends the delay. The time of the shutdown
        is limited.
        """
        self.limit_shutdown()
        self._readiness.state = ReadinessState.DRAINING
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.immediate.wait(), self._drain_delay)

    @property
    def _drain_delay(self) -> float:
        return self._generations.policy.settings.server.drain_delay


async def serve(
    policy: Policy, address: Address, read_at: float, context: ServerContext
) -> Leftovers:
    """Serve in one process until a signal; return the function that names the leftovers.

    ``read_at`` is when the configuration was read, in seconds since the epoch. Raise
    ``ConfigError`` if a plugin or file cannot be opened, ``OSError`` if an address cannot be bound.
    """
    stop = ShutdownSignal()
    files = policy.files
    async with started(policy, address, stop, context) as server, heartbeat():
        # The frames of the first policy outlive it; they must not keep its rooms after a reload.
        del policy
        triggers = ReloadTriggers(
            context.config, server.reloader.reload, stop, context.log, context.echo
        )
        async with triggers.active(files, read_at):
            context.echo(server.announcement)
            notify(READY)
            await stop.requested.wait()
        notify(STOPPING)
        await server.drain(stop)
    return server.leftovers


@asynccontextmanager
async def started(
    policy: Policy, address: Address, stop: ShutdownSignal, context: ServerContext
) -> AsyncIterator[Server]:
    """Answer calls until exit, and then the calls in flight; raise the same errors as ``serve``."""
    loop = asyncio.get_running_loop()
    stop.install(loop)
    audit = _open_audit(policy.settings)
    audit.start_timer(loop)
    loop.add_signal_handler(signal.SIGUSR1, audit.reopen)
    try:
        # A plugin that does not open must not keep the server running.
        stop.on_signal = partial(_limit_start, policy)
        # Standard output belongs to the audit: output of plugins would mix with its lines.
        with redirect_stdout(sys.stderr):
            async with _answering(policy, address, audit, context) as server:
                stop.on_signal = server.limit_shutdown
                del policy
                yield server
        force_exit_after(EXIT_TIMEOUT_S, server.leftovers)
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        audit.close()


def _limit_start(policy: Policy) -> None:
    """Start the timer that ends the process although plugins are still being opened."""
    seconds = SHUTDOWN_TIMEOUT_S + policy.settings.server.drain_delay
    force_exit_after(seconds, lambda: [*policy.lifespans][-1:])


def _open_audit(settings: Settings) -> AuditLog:
    try:
        return audit_of(settings)
    except OSError as error:
        text = f"{error.filename} cannot be opened: {error.strerror}"
        raise ConfigError(settings.path, [Problem(("audit", "path"), text)]) from None


@asynccontextmanager
async def _answering(
    policy: Policy, address: Address, audit: AuditLog, context: ServerContext
) -> AsyncIterator[Server]:
    """Open the plugins, then the sockets; close them in reverse order."""
    settings, admin = policy.settings, context.admin_endpoint
    async with exporter(settings.tracing) as spans:
        first = GenerationRunner(generation_of(policy, audit))
        access, audit_path = first.generation.access, settings.audit.path
        if settings.credentials and audit_path is not None:
            access.remember(recent_peers(settings.resolve(audit_path)))
        context.on_activation(policy)
        await first.open()
        readiness, reloads = Readiness(), ReloadState()
        sources = StateSources(
            readiness=readiness,
            audit=lambda: audit.state,
            reload=lambda: reloads,
            certificate=lambda: listener.certificate,
            connections=lambda: listener.connections,
            job_runs=context.build_context.shared.locks.take_runs,
        )
        telemetry = Telemetry(sources)
        base_path = settings.server.base_path
        app = PolicyApp(first.generation, context.log, base_path, readiness, telemetry, spans)
        listener = Listener(app, address, processes=context.processes)

        def activate(generation: Generation) -> None:
            context.on_activation(generation.policy)
            app.activate(generation)

        generations = GenerationSwitch(first, activate)
        reloader = Reloader(generations, audit, context.build, reloads)
        try:
            async with (
                admin_listener(app, admin.listener),
                listener.open() as sockets,
            ):
                gc_tuning.start_serving()
                readiness.state = ReadinessState.READY
                announcement = _announcement(policy, url_of(sockets[0], app), admin)
                del policy, first
                yield Server(reloader, announcement, telemetry, readiness, generations)
        finally:
            await generations.close()
            app.refusals.end()


def _announcement(policy: Policy, url: str, admin: AdminEndpoint) -> str:
    names = ", ".join(plugin.name for plugin in policy.plugins) or "none"
    suffix = f"; admin listener: {admin.url}" if admin.url else ""
    return f"pexpolicy {__version__} answers on {url} (plugins: {names}{suffix})"
