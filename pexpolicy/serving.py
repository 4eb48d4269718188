"""From a policy to a server that listens, and to its orderly end."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass

from pexpolicy import __version__, notify
from pexpolicy.audit import Audit, open_audit
from pexpolicy.chain import Log
from pexpolicy.config import ConfigError, Settings
from pexpolicy.draining import drain
from pexpolicy.ending import LINGERING, STOPPING
from pexpolicy.lifetime import Lifetime
from pexpolicy.listeners import Address, listening
from pexpolicy.policy import Policy
from pexpolicy.problems import Problem
from pexpolicy.readiness import Readiness, State
from pexpolicy.regime import regime_of
from pexpolicy.reload.occasions import Occasions
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

    ``build`` makes the policy of a later configuration. ``say`` is for what an operator wants to
    read, such as the URL once calls are answered. ``stopping`` is told when the end has begun.
    ``read_at`` is when the first policy began to be made, in seconds since the epoch.
    """

    log: Log
    build: Build
    read_at: float
    say: Callable[[str], None]
    stopping: Stopping = lambda *_: None


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
    occasions = Occasions(reloads, around.log, around.say, around.read_at)
    async with occasions.taken(), listening(service, address) as sockets:
        # What was made so far lives as long as the server: the collector need not look at it.
        gc.freeze()
        gc.enable()
        service.readiness.state = State.READY
        bound = sockets[0].getsockname()
        name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        names = ", ".join(plugin.name for plugin in succession.policy.plugins) or "none"
        url = f"http://{name}:{bound[1]}{service.base_path}"
        around.say(f"pexpolicy {__version__} answers on {url} (plugins: {names})")
        notify.notify(notify.READY)
        await stop.asked.wait()
        notify.notify(notify.STOPPING)
        delay = succession.policy.settings.server.drain_delay
        around.stopping(STOPPING + delay, lambda: succession.leftovers)
        await drain(service.readiness, stop, delay)
