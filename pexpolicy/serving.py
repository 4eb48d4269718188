"""From a policy to a server that listens, and to its orderly end."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, redirect_stdout
from dataclasses import dataclass

from pexpolicy import __version__, notify
from pexpolicy.audit import Audit, open_audit
from pexpolicy.chain import Log
from pexpolicy.config import ConfigError, Settings
from pexpolicy.draining import drain
from pexpolicy.ending import LINGERING, STOPPING
from pexpolicy.hidden import hide
from pexpolicy.lifetime import Lifetime
from pexpolicy.listeners import Address, listening, url_of
from pexpolicy.policy import Policy
from pexpolicy.problems import Problem
from pexpolicy.readiness import Readiness, State
from pexpolicy.regime import regime_of
from pexpolicy.reload.reloading import Build, Reloads
from pexpolicy.server import Service
from pexpolicy.stopping import Stop
from pexpolicy.succession import Succession

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


def announcement(policy: Policy, url: str) -> str:
    """What an operator reads once calls are answered."""
    names = ", ".join(plugin.name for plugin in policy.plugins) or "none"
    return f"pexpolicy {__version__} answers on {url} (plugins: {names})"


async def serve(policy: Policy, address: Address, around: Surroundings) -> Leftovers:
    """Serve until SIGTERM or SIGINT; gives what tells who was left behind.

    Raises ``ConfigError`` for plugins and files that do not open, ``OSError`` for an address.
    """
    stop = Stop()
    stop.listen(asyncio.get_running_loop())
    audit = _opened(policy.settings)
    try:
        # Standard output is the audit's alone: what plugins print would stand between its lines.
        with redirect_stdout(sys.stderr):
            succession = await _begun(policy, audit, around.log)
            reloads = Reloads(succession, audit, around.build)
            try:
                await _answer(succession, reloads, stop, address, around)
            finally:
                await succession.end()
        around.stopping(LINGERING, lambda: succession.leftovers)
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


async def _begun(policy: Policy, audit: Audit, log: Log) -> Succession:
    """The first regime, in force."""
    first = Lifetime(regime_of(policy, audit))
    await first.open()
    service = Service(first.regime, log, policy.settings.server.base_path, Readiness())
    return Succession(service, first)


async def _answer(
    succession: Succession, reloads: Reloads, stop: Stop, address: Address, around: Surroundings
) -> None:
    """Answer calls until the server is told to stop, and those that are under way then."""
    service = succession.service
    async with around.occasions(reloads, stop), listening(service, address) as sockets:
        # What was made so far lives as long as the server: the collector need not look at it.
        gc.freeze()
        gc.enable()
        service.readiness.state = State.READY
        secure = succession.policy.settings.tls is not None
        url = url_of(sockets[0], service.base_path, secure=secure)
        around.answering(succession.policy, url)
        alive = asyncio.create_task(notify.stay_alive())
        hide(alive)
        notify.notify(notify.READY)
        await stop.asked.wait()
        notify.notify(notify.STOPPING)
        delay = succession.policy.settings.server.drain_delay
        around.stopping(STOPPING + delay, lambda: succession.leftovers)
        await drain(service.readiness, stop, delay)
        alive.cancel()
