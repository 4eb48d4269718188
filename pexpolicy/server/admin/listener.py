"""The admin listener: its socket, and the sampling of the server that it reports on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from aiohttp import web

from pexpolicy.access.access_control import AccessControl
from pexpolicy.access.connections import ConnectionLimits
from pexpolicy.config.settings import Settings
from pexpolicy.errors import Log, describe_network_error
from pexpolicy.plugins.routes import PREFIX
from pexpolicy.server.admin.app import AdminApp
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.bounded_handler import BodyLimit
from pexpolicy.server.http.endpoint import Endpoint
from pexpolicy.server.http.protocol import PolicyProtocol

BACKLOG = 64
LIMITS = ConnectionLimits(total=64, per_peer=64)
"""Limits of this listener, which nodes never call."""
ADMIN_DRAIN_TIMEOUT_S = 1.0
"""Seconds to answer the requests in flight on shutdown."""
BODIES = BodyLimit(PREFIX, 1 << 16)
"""The bodies of requests to plugins."""


class _AdminProtocol(PolicyProtocol):
    __slots__ = ()

    bodies = BODIES


def bind(settings: Settings, log: Log, port: int | None = None) -> socket.socket | None:
    """Return the socket of ``[admin]``; ``None`` if it is disabled or cannot be bound.

    If the port is in use, the server logs a warning and runs without metrics. ``port`` overrides
    the configured one. Workers share the socket, so it is bound before they are forked.
    """
    admin = settings.admin
    if not admin.enabled:
        return None
    number = admin.port if port is None else port
    family = socket.AF_INET6 if ":" in admin.host else socket.AF_INET
    try:
        listener = socket.create_server((admin.host, number), family=family, backlog=BACKLOG)
    except OSError as error:
        problem = describe_network_error(error)
        text = f"admin listener: cannot listen on {admin.host}:{number}: {problem}"
        log.warning(text, consequence="no status and no metrics; calls are answered")
        return None
    listener.settimeout(0)
    return listener


@dataclass(frozen=True, slots=True)
class AdminEndpoint(AbstractContextManager["AdminEndpoint"]):
    """The admin socket, if any; leaving it closes the socket."""

    listener: socket.socket | None = None

    def __exit__(self, *_: object) -> None:
        if self.listener is not None:
            self.listener.close()

    @property
    def url(self) -> str:
        """The base URL of the admin listener; empty without one."""
        if self.listener is None:
            return ""
        host, port = self.listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def admin_listener(app: PolicyApp, listener: socket.socket | None) -> AsyncIterator[None]:
    """Sample the gauges, and answer operators on a socket if there is one."""
    with app.telemetry:
        if listener is None:
            yield
            return
        admin = AdminApp(lambda: app.generation, app.telemetry, app.refusals, app.log)
        # A request that an application of a plugin can route.
        loop = asyncio.get_running_loop()
        request = partial(web.Request, loop=loop, client_max_size=BODIES.size)
        server = web.Server(cast("Any", admin), request_factory=request)
        access = AccessControl()
        endpoint = Endpoint(
            server,
            access=lambda: access,
            refusals=app.refusals,
            limits=LIMITS,
            log=app.log,
            flush_audit=app.generation.audit.flush,
            shared=True,
            kind=_AdminProtocol,
        )
        try:
            async with endpoint.open([listener]):
                yield
        finally:
            admin.close()
            server.pre_shutdown()
            await server.shutdown(ADMIN_DRAIN_TIMEOUT_S)
