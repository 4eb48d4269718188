"""From a policy to a server that listens, and to its orderly end."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import Callable
from contextlib import redirect_stdout

from pexpolicy.admin.listener import watching
from pexpolicy.audit import Audit, open_audit
from pexpolicy.chain import Log
from pexpolicy.config import ConfigError, Settings
from pexpolicy.draining import drain
from pexpolicy.ending import LINGERING, STOPPING
from pexpolicy.lifetime import Lifetime
from pexpolicy.listeners import Address, listening
from pexpolicy.metrics.sources import Sources
from pexpolicy.metrics.telemetry import Telemetry
from pexpolicy.policy import Policy
from pexpolicy.problems import Problem
from pexpolicy.readiness import Readiness, State
from pexpolicy.regime import regime_of
from pexpolicy.server import Service
from pexpolicy.stopping import Stop
from pexpolicy.succession import Succession
from pexpolicy.tracing import Spans, sending

Leftovers = Callable[[], list[str]]
"""Names plugins and hooks that were given up, and have not come back."""
Stopping = Callable[[float, Leftovers], None]
"""Told that the program has to have ended in so many seconds, and who may keep it from that."""


async def serve(
    policy: Policy,
    log: Log,
    address: Address,
    announce: Callable[[str], None],
    stopping: Stopping = lambda *_: None,
    admin: socket.socket | None = None,
) -> Leftovers:
    """Serve until SIGTERM or SIGINT; gives what tells who was left behind. ``announce`` is called
    with the URL once calls are answered. ``admin`` is the socket for operators.

    Raises ``ConfigError`` for plugins and files that do not open, ``OSError`` for an address.
    """
    stop = Stop()
    stop.listen(asyncio.get_running_loop())
    audit = _opened(policy.settings)
    try:
        # Standard output is the audit's alone: what plugins print would stand between its lines.
        with redirect_stdout(sys.stderr):
            async with sending(policy.settings.tracing) as spans:
                succession = await _begun(policy, audit, log, spans)
                try:
                    telemetry = succession.service.telemetry
                    async with watching(lambda: succession.policy, telemetry, log, admin):
                        await _answer(succession, stop, address, announce, stopping)
                finally:
                    await succession.end()
        stopping(LINGERING, lambda: succession.leftovers)
    finally:
        audit.close()
    return lambda: succession.leftovers


def _opened(settings: Settings) -> Audit:
    path = settings.resolve(settings.audit.path) if settings.audit.path else None
    try:
        return open_audit(path)
    except OSError as error:
        text = f"{path} cannot be opened: {error.strerror}"
        raise ConfigError(settings.path, [Problem(("audit", "path"), text)]) from None


async def _begun(policy: Policy, audit: Audit, log: Log, spans: Spans | None) -> Succession:
    """The first regime, in force."""
    first = Lifetime(regime_of(policy, audit))
    await first.open()
    readiness = Readiness()
    telemetry = Telemetry(sources=Sources(readiness=readiness))
    base_path = policy.settings.server.base_path
    service = Service(first.regime, log, base_path, readiness, telemetry, spans)
    return Succession(service, first)


async def _answer(
    succession: Succession,
    stop: Stop,
    address: Address,
    announce: Callable[[str], None],
    stopping: Stopping,
) -> None:
    """Answer calls until the server is told to stop, and those that are under way then."""
    service = succession.service
    async with listening(service, address) as sockets:
        # What was made so far lives as long as the server: the collector need not look at it.
        gc.freeze()
        gc.enable()
        service.readiness.state = State.READY
        bound = sockets[0].getsockname()
        name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        announce(f"http://{name}:{bound[1]}{service.base_path}")
        await stop.asked.wait()
        delay = succession.policy.settings.server.drain_delay
        stopping(STOPPING + delay, lambda: succession.leftovers)
        await drain(service.readiness, stop, delay)
