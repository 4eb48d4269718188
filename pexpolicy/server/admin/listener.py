"""The socket for operators, and what watches a server while it serves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from pexpolicy.access.access_control import AccessControl
from pexpolicy.access.connections import Connection
from pexpolicy.config.schema.access import LimitsTable
from pexpolicy.config.settings import Settings
from pexpolicy.errors import Log, describe_network_error
from pexpolicy.observability.shared_memory import SharedCounters
from pexpolicy.policy import Policy
from pexpolicy.server.admin.app import AdminApp
from pexpolicy.server.http.acceptor import Acceptor
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.protocol import PolicyProtocol
from pexpolicy.server.http.reply_batcher import ReplyBatcher

BACKLOG = 64
LIMITS = LimitsTable(connections=64, connections_per_peer=64)
"""Limits of this listener: a connection here is never one of a node, so few of them are enough."""
LAST_REPLIES = 1.0
"""Seconds for what is under way when the server ends."""


def bind(settings: Settings, log: Log, port: int | None = None) -> socket.socket | None:
    """The socket of ``[admin]``, or ``None`` where it is switched off or cannot be had.

    A port that is taken costs the metrics, and not the calls. ``port`` stands in for the configured
    one. Workers share the socket: it is bound before they are forked.
    """
    admin = settings.admin
    if not admin.enabled:
        return None
    number = admin.port if port is None else port
    host = admin.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, number), family=family, backlog=BACKLOG)
    except OSError as error:
        text = f"cannot listen on {admin.host}:{number} (admin): {describe_network_error(error)}"
        log.warning(text, consequence="no status and no metrics; calls are answered")
        return None
    bound.settimeout(0)
    return bound


@dataclass(frozen=True, slots=True)
class AdminEndpoint(AbstractContextManager["AdminEndpoint"]):
    """How a server is seen by operators: the socket that they ask, if any, and the place of this
    process on the board of all its workers. On leaving it the socket is closed.
    """

    bound: socket.socket | None = None
    board: SharedCounters = field(default_factory=SharedCounters)
    slot: int = 0

    def __exit__(self, *_: object) -> None:
        if self.bound is not None:
            self.bound.close()

    @property
    def url(self) -> str:
        """Where they reach it, or nothing."""
        if self.bound is None:
            return ""
        host, port = self.bound.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def watching(
    policy: Callable[[], Policy], service: PolicyApp, bound: socket.socket | None
) -> AsyncIterator[None]:
    """Look at the event loop and at all that has a state, and answer operators on a socket.

    ``policy`` gives the policy that is in force.
    """
    with service.telemetry.sampler:
        if bound is None:
            yield
            return
        admin = AdminApp(policy, service.telemetry, service.refusals, service.log)
        server = web.Server(admin)
        loop = asyncio.get_running_loop()
        gate = AccessControl()
        outbox = ReplyBatcher(loop, service.log, service.generation.audit.flush)

        def protocol(connection: Connection) -> PolicyProtocol:
            return PolicyProtocol(
                server,
                loop=loop,
                connection=connection,
                refusals=service.refusals,
                limits=LIMITS,
                log=service.log,
                outbox=outbox,
            )

        door = Acceptor(protocol, lambda: gate, service.refusals, LIMITS, shares=True)
        try:
            async with door.open([bound]):
                yield
        finally:
            admin.close()
            server.pre_shutdown()
            await server.shutdown(LAST_REPLIES)
