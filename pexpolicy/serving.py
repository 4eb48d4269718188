"""From a policy to a server that listens, and to its orderly end."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, redirect_stdout
from dataclasses import dataclass, field

from pexpolicy import __version__, gc_tuning, notify
from pexpolicy.admin.listener import Operators, watching
from pexpolicy.audit.opening import audit_of
from pexpolicy.audit.peers import recent_peers
from pexpolicy.audit.writing import Audit
from pexpolicy.config import ConfigError, Settings
from pexpolicy.draining import drain
from pexpolicy.ending import LINGERING, STOPPING
from pexpolicy.faults import Log
from pexpolicy.hidden import hide
from pexpolicy.lifetime import Lifetime
from pexpolicy.listeners import Address, Entrance, url_of
from pexpolicy.metrics.sources import Sources
from pexpolicy.metrics.telemetry import Telemetry
from pexpolicy.policy import Policy
from pexpolicy.problems import Problem
from pexpolicy.readiness import Readiness, State
from pexpolicy.regime import regime_of
from pexpolicy.reload.reloading import Build, Reloads, ReloadState
from pexpolicy.server import Service
from pexpolicy.stopping import Stop
from pexpolicy.succession import Succession
from pexpolicy.tracing import Spans, sending

Leftovers = Callable[[], list[str]]
"""Names plugins and hooks that were given up, and have not come back."""
Stopping = Callable[[float, Leftovers], None]
"""Told that the program has to have ended in so many seconds, and who may keep it from that."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a server has around it.

    ``build`` makes the policy of a later configuration, and while ``occasions`` is entered there
    may be one. ``answering`` is told the URL once calls are answered, ``stopping`` that the end has
    begun.
    """

    log: Log
    build: Build
    occasions: Callable[[Reloads, Stop], AbstractAsyncContextManager[None]]
    answering: Callable[[Policy, str], None]
    stopping: Stopping = lambda *_: None
    operators: Operators = field(default_factory=Operators)


def announcement(policy: Policy, url: str, operators: Operators) -> str:
    """What an operator reads once calls are answered."""
    names = ", ".join(plugin.name for plugin in policy.plugins) or "none"
    admin = f"; for operators: {operators.url}" if operators.url else ""
    return f"pexpolicy {__version__} answers on {url} (plugins: {names}{admin})"


async def serve(policy: Policy, address: Address, around: Surroundings) -> Leftovers:
    """Serve until SIGTERM or SIGINT; gives what tells who was left behind.

    Raises ``ConfigError`` for plugins and files that do not open, ``OSError`` for an address.
    """
    loop = asyncio.get_running_loop()
    stop = Stop()
    stop.listen(loop)
    audit = _opened(policy.settings)
    audit.begin(loop)
    loop.add_signal_handler(signal.SIGUSR1, audit.reopen)
    try:
        # Standard output is the audit's alone: what plugins print would stand between its lines.
        with redirect_stdout(sys.stderr):
            async with sending(policy.settings.tracing) as spans:
                state = ReloadState(last_success=time.time())
                succession, entrance = await _begun(policy, address, audit, around, state, spans)
                reloads = Reloads(succession, audit, around.build, state)
                try:
                    await _answer(succession, reloads, stop, entrance, around)
                finally:
                    await succession.end()
                    succession.service.refusals.end()
        around.stopping(LINGERING, lambda: succession.leftovers)
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        audit.close()
    return lambda: succession.leftovers


def _opened(settings: Settings) -> Audit:
    try:
        return audit_of(settings)
    except OSError as error:
        text = f"{error.filename} cannot be opened: {error.strerror}"
        raise ConfigError(settings.path, [Problem(("audit", "path"), text)]) from None


async def _begun(
    policy: Policy,
    address: Address,
    audit: Audit,
    around: Surroundings,
    state: ReloadState,
    spans: Spans | None,
) -> tuple[Succession, Entrance]:
    """The first regime, in force, and where calls will come in."""
    first = Lifetime(regime_of(policy, audit))
    gate, written = first.regime.gate, policy.settings.audit.path
    if gate.verifies_slowly and written is not None:
        gate.remember(recent_peers(policy.settings.resolve(written)))
    await first.open()
    readiness, base_path = Readiness(), policy.settings.server.base_path
    sources = Sources(
        readiness=readiness,
        audit=lambda: audit.state,
        reload=lambda: state,
        certificate=lambda: entrance.certificate,
        connections=lambda: entrance.connections,
        memory=lambda: entrance.memory,
    )
    telemetry = Telemetry(around.operators.board, around.operators.slot, sources)
    service = Service(first.regime, around.log, base_path, readiness, telemetry, spans)
    entrance = Entrance(service, address)
    return Succession(service, first), entrance


async def _answer(
    succession: Succession, reloads: Reloads, stop: Stop, entrance: Entrance, around: Surroundings
) -> None:
    """Answer calls until the server is told to stop, and those that are under way then."""
    service = succession.service

    def end_in_time() -> None:
        delay = succession.policy.settings.server.drain_delay
        around.stopping(STOPPING + delay, lambda: succession.leftovers)

    stop.heard = end_in_time
    async with (
        around.occasions(reloads, stop),
        watching(lambda: succession.policy, service, around.operators.bound),
        entrance.open() as sockets,
    ):
        gc_tuning.start_serving()
        service.readiness.state = State.READY
        around.answering(succession.policy, url_of(sockets[0], service))
        alive = asyncio.create_task(notify.stay_alive())
        hide(alive)
        notify.notify(notify.READY)
        await stop.asked.wait()
        notify.notify(notify.STOPPING)
        end_in_time()
        await drain(service.readiness, stop, succession.policy.settings.server.drain_delay)
        alive.cancel()
