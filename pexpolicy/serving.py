"""From settings to a server that listens, and to its orderly end."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, redirect_stdout

from aiohttp import web

from pexpolicy.audit import Audit, audit_of
from pexpolicy.chain import Log
from pexpolicy.config import ConfigError
from pexpolicy.credentials import BasicAuth
from pexpolicy.ending import LINGERING, STOPPING
from pexpolicy.policy import Policy
from pexpolicy.problems import Problem
from pexpolicy.protocol import PolicyProtocol
from pexpolicy.server import Service

DRAIN = 5.0
"""Seconds that calls have to be answered in once the server was told to stop."""


@asynccontextmanager
async def listening(
    policy: Policy, audit: Audit, log: Log, host: str, port: int
) -> AsyncIterator[list[socket.socket]]:
    """Serve a policy on an address; gives the sockets, and on leaving answers the calls under
    way.
    """
    settings = policy.settings
    auth = None
    if settings.user is not None and settings.password is not None:
        auth = BasicAuth(settings.user, settings.password.get_secret_value())
    service = Service(policy, audit, auth, log, settings.server.base_path)
    loop = asyncio.get_running_loop()
    server = web.Server(service)

    def protocol() -> PolicyProtocol:
        return PolicyProtocol(server, loop=loop, malformed=service.malformed)

    listener = await loop.create_server(protocol, host, port, backlog=1024)
    try:
        yield list(listener.sockets)
    finally:
        listener.close()
        server.pre_shutdown()
        await server.shutdown(DRAIN)


async def serve(
    policy: Policy,
    log: Log,
    host: str,
    port: int,
    announce: Callable[[str], None],
    stopping: Callable[[float], None] = lambda _: None,
) -> None:
    """Serve until SIGTERM or SIGINT. ``announce`` is called with the URL once calls are
    answered, ``stopping`` with the seconds that are left until the program has to have ended.
    """
    settings = policy.settings
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        audit = audit_of(settings)
    except OSError as error:
        text = f"{error.filename} cannot be opened: {error.strerror}"
        raise ConfigError(settings.path, [Problem(("audit", "path"), text)]) from None
    audit.begin(loop)
    loop.add_signal_handler(signal.SIGUSR1, audit.reopen)
    # Standard output is the audit's alone: what plugins print would stand between its lines.
    try:
        with redirect_stdout(sys.stderr):
            await _until(stop, policy, audit, log, (host, port), announce, stopping)
        stopping(LINGERING)
    finally:
        audit.close()


async def _until(
    stop: asyncio.Event,
    policy: Policy,
    audit: Audit,
    log: Log,
    address: tuple[str, int],
    announce: Callable[[str], None],
    stopping: Callable[[float], None],
) -> None:
    async with policy.serving(), listening(policy, audit, log, *address) as sockets:
        # What was made so far lives as long as the server: the collector need not look at it.
        gc.freeze()
        gc.enable()
        bound = sockets[0].getsockname()
        name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        announce(f"http://{name}:{bound[1]}{policy.settings.server.base_path}")
        await stop.wait()
        stopping(STOPPING)
