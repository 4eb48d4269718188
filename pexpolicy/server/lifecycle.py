"""From a policy to a server that listens, and to its orderly end."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from pexpolicy import __version__
from pexpolicy.audit.audit_log import AuditLog
from pexpolicy.audit.factory import audit_of
from pexpolicy.audit.peers import recent_peers
from pexpolicy.builder import policy_from
from pexpolicy.config.problems import Problem
from pexpolicy.config.schema.server import AdminTable
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.errors import Log
from pexpolicy.observability.health import Readiness, ReadinessState, ReloadState, StateSources
from pexpolicy.observability.telemetry import Telemetry
from pexpolicy.observability.tracing import exporter
from pexpolicy.policy import Policy
from pexpolicy.server import gc_tuning, systemd
from pexpolicy.server.admin.listener import AdminEndpoint, watching
from pexpolicy.server.generations import GenerationRunner, GenerationSwitch, generation_of
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.listener import Address, Listener, url_of
from pexpolicy.server.preflight import Ports, preflight_problems
from pexpolicy.server.reload.reloader import Reloader
from pexpolicy.server.reload.triggers import ReloadTriggers
from pexpolicy.server.shutdown import LINGERING, STOPPING, ShutdownSignal, drain, force_exit_after

Leftovers = Callable[[], list[str]]
"""Names plugins and hooks that were given up, and have not come back."""


@dataclass(frozen=True, slots=True)
class ServerContext:
    """The place where a server serves, which does not change while it runs.

    Its address and the table of the admin listener are those of the start, ``ports`` the
    ones that the command line gave instead of the configured ones. ``say`` prints a line for the
    operator.
    """

    config: Path
    address: str
    admin: AdminTable
    log: Log
    say: Callable[[str], None]
    ports: Ports = (None, None)
    operators: AdminEndpoint = field(default_factory=AdminEndpoint)

    def build(self, content: bytes | None = None) -> Policy:
        """Build the policy of a later configuration: of ``content``, or of the file as it is now.

        Raises ``ConfigError``.
        """
        return policy_from(self.config, self._preflight, log=self.log, content=content)

    def _preflight(self, settings: Settings) -> list[Problem]:
        return preflight_problems(settings, self.address, self.admin, self.ports)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers calls; ``announcement`` says where."""

    reloader: Reloader
    announcement: str
    _readiness: Readiness
    _succession: GenerationSwitch

    def leftovers(self) -> list[str]:
        """Name plugins and hooks that were given up, and have not come back."""
        return self._succession.leftovers

    def leave_in_time(self) -> None:
        """Begin the time after which the process ends, whatever plugins do."""
        force_exit_after(STOPPING + self._drain_delay, self.leftovers)

    async def drain(self, stop: ShutdownSignal) -> None:
        """Answer for ``drain_delay`` more, and then end in time."""
        self.leave_in_time()
        await drain(self._readiness, stop, self._drain_delay)

    @property
    def _drain_delay(self) -> float:
        return self._succession.policy.settings.server.drain_delay


async def serve(
    policy: Policy, address: Address, read_at: float, context: ServerContext
) -> Leftovers:
    """Serve in this one process until a signal ends it; gives what names the leftovers.

    ``read_at`` is when the configuration was read, in seconds since the epoch. Raises
    ``ConfigError`` for plugins and files that do not open, ``OSError`` for an address.
    """
    stop = ShutdownSignal()
    async with started(policy, address, stop, context) as server, systemd.alive():
        triggers = ReloadTriggers(
            context.config, server.reloader.reload, stop, context.log, context.say
        )
        async with triggers.active(policy.files, read_at):
            context.say(server.announcement)
            systemd.notify(systemd.READY)
            await stop.asked.wait()
        systemd.notify(systemd.STOPPING)
        await server.drain(stop)
    return server.leftovers


@asynccontextmanager
async def started(
    policy: Policy, address: Address, stop: ShutdownSignal, context: ServerContext
) -> AsyncIterator[Server]:
    """Answer calls while inside, and at its end those that are under way then.

    Raises the same as ``serve``.
    """
    loop = asyncio.get_running_loop()
    stop.listen(loop)
    audit = _opened(policy.settings)
    audit.begin(loop)
    loop.add_signal_handler(signal.SIGUSR1, audit.reopen)
    try:
        # Standard output is the audit's alone: what plugins print would stand between its lines.
        with redirect_stdout(sys.stderr):
            async with _answering(policy, address, audit, context) as server:
                stop.heard = server.leave_in_time
                yield server
        force_exit_after(LINGERING, server.leftovers)
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        audit.close()


def _opened(settings: Settings) -> AuditLog:
    try:
        return audit_of(settings)
    except OSError as error:
        text = f"{error.filename} cannot be opened: {error.strerror}"
        raise ConfigError(settings.path, [Problem(("audit", "path"), text)]) from None


@asynccontextmanager
async def _answering(
    policy: Policy, address: Address, audit: AuditLog, context: ServerContext
) -> AsyncIterator[Server]:
    """Open the plugins, then the sockets; close both in the other order."""
    settings, operators = policy.settings, context.operators
    async with exporter(settings.tracing) as spans:
        first = GenerationRunner(generation_of(policy, audit))
        gate, written = first.generation.gate, settings.audit.path
        if gate.verifies_slowly and written is not None:
            gate.remember(recent_peers(settings.resolve(written)))
        await first.open()
        readiness, reloads = Readiness(), ReloadState()
        sources = StateSources(
            readiness=readiness,
            audit=lambda: audit.state,
            reload=lambda: reloads,
            certificate=lambda: entrance.certificate,
            connections=lambda: entrance.connections,
            memory=lambda: entrance.memory,
        )
        telemetry = Telemetry(operators.board, operators.slot, sources)
        base_path = settings.server.base_path
        service = PolicyApp(first.generation, context.log, base_path, readiness, telemetry, spans)
        entrance = Listener(service, address)
        succession = GenerationSwitch(first, service.activate)
        reloader = Reloader(succession, audit, context.build, reloads)
        try:
            async with (
                watching(lambda: succession.policy, service, operators.bound),
                entrance.open() as sockets,
            ):
                gc_tuning.start_serving()
                readiness.state = ReadinessState.READY
                told = _announcement(policy, url_of(sockets[0], service), operators)
                yield Server(reloader, told, readiness, succession)
        finally:
            await succession.end()
            service.refusals.end()


def _announcement(policy: Policy, url: str, operators: AdminEndpoint) -> str:
    """Say what an operator reads once calls are answered."""
    names = ", ".join(plugin.name for plugin in policy.plugins) or "none"
    admin = f"; admin: {operators.url}" if operators.url else ""
    return f"pexpolicy {__version__} answers on {url} (plugins: {names}{admin})"
