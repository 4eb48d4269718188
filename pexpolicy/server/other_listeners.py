"""Listeners in addition to that for nodes, and their requests to routes of plugins."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from aiohttp import hdrs, web

from pexpolicy.access.access_control import AccessControl
from pexpolicy.access.connections import ConnectionLimits
from pexpolicy.chain.failure_log import PluginFailureLog
from pexpolicy.config.settings import Settings
from pexpolicy.errors import Log, describe_error, describe_network_error
from pexpolicy.models.context import CHANGES, HOOK_CONTEXT, Changes
from pexpolicy.models.outcome import TIMED_OUT
from pexpolicy.plugins.binding import PluginRoutes
from pexpolicy.server.generations import GENERATION_DRAIN_TIMEOUT_S, Generation
from pexpolicy.server.http import listener
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.protocol import SERVER, TEXT, PolicyProtocol, PrerenderedResponse

TIMEOUT_S = GENERATION_DRAIN_TIMEOUT_S - 1.0
"""For a request to a plugin, until its last byte is written: it ends before its generation is
closed.
"""
MAX_BODY = 1 << 16
DRAIN_TIMEOUT_S = 1.0
"""Seconds to answer the requests in flight on shutdown."""


def bind(name: str, host: str, port: int, log: Log, lost: str) -> socket.socket | None:
    """Return the socket of a listener.

    If the port is in use, the server logs a warning with what is ``lost``, and runs without.
    Workers share the socket, so it is bound before they are forked.
    """
    try:
        return listener.bind(host, port)
    except OSError as error:
        problem = describe_network_error(error)
        text = f"{name}: cannot listen on {host}:{port}: {problem}"
        log.warning(text, consequence=f"{lost}; calls are answered")
        return None


@asynccontextmanager
async def opened(
    app: PolicyApp,
    bound: socket.socket | None,
    answer: Any,
    settings: Settings,
    *,
    access: AccessControl,
    limits: ConnectionLimits,
    kind: type[PolicyProtocol],
) -> AsyncIterator[None]:
    """Answer requests on a socket if there is one, with the certificate of ``settings`` if any.

    ``answer`` is called with each request, and closed at the end.
    """
    if bound is None:
        yield
        return
    # A request that an application of a plugin can route.
    loop = asyncio.get_running_loop()
    request = partial(web.Request, loop=loop, client_max_size=MAX_BODY)
    # Clients have a token, and no certificate of a node.
    tls = settings.tls and settings.tls.model_copy(update={"client_ca": None, "client_crl": None})
    answering = listener.Listener(
        app,
        bound,
        server=web.Server(answer, request_factory=request),
        access=access,
        limits=limits,
        shared=True,
        settings=settings.model_copy(update={"tls": tls}),
        kind=kind,
    )
    async with answering.open(DRAIN_TIMEOUT_S):
        try:
            yield
        finally:
            answer.close()


class PluginCaller:
    """Has requests answered by plugins of the active generation, which stays open meanwhile."""

    def __init__(self, app: PolicyApp, hook: str) -> None:
        self._app = app
        self._hook = hook
        self._failure_log = PluginFailureLog(app.log, hook)
        self.close = self._failure_log.close
        """Log the failures that were left out."""

    async def ask(
        self,
        request: web.Request,
        generation: Generation,
        routes: PluginRoutes,
        withheld: int | None = None,
    ) -> web.StreamResponse:
        """Return the response of a plugin, which was sent, or what is sent instead.

        A response with the status ``withheld`` was not sent.
        """
        name, now = routes.plugin, asyncio.get_running_loop().time
        protocol = cast("PolicyProtocol", request.protocol)
        protocol.flush()
        work = _RouteCall(request, routes.app, generation, (name, self._hook), withheld)
        generation.in_flight += 1
        try:
            in_time = await generation.policy.run(work, TIMEOUT_S)
        finally:
            generation.end_call()
        if work.response is not None:
            return work.response
        if request.writer.output_size > 0:
            # Half of its own response has been sent.
            protocol.connection.close()
        if not in_time:
            self._failure_log.step(name, TIMED_OUT, f"no answer within {TIMEOUT_S:.3g} s", now())
            return _failure(504, f"{name} did not answer in time")
        if work.error is not None and request.transport is not None:
            self._failure_log.failed("plugin failed", name, describe_error(work.error), now())
        return _failure(500, f"{name} failed: see the log")


@dataclass(eq=False)
class _RouteCall:
    """The work of one request: the handler of the plugin, and the writing of its response."""

    request: web.Request
    app: web.Application
    generation: Generation
    names: tuple[str, str]
    withheld: int | None
    response: web.StreamResponse | None = None
    error: BaseException | None = None

    async def run(self) -> None:
        HOOK_CONTEXT.set((self.names, None))
        try:
            self.response = await self._respond()
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            self.error = error

    async def _respond(self) -> web.StreamResponse:
        request, changes = self.request, Changes()
        CHANGES.set(changes)
        try:
            response = await self.app._handle(request)  # noqa: SLF001 - it has no public way
        except web.HTTPException as raised:
            response = raised
        if not isinstance(response, web.StreamResponse):
            raise TypeError(f"the handler returned {type(response).__name__}, not a response")
        for facts in changes:
            await self._record(facts)
        if not response.prepared:
            if request.writer.output_size > 0:
                raise TypeError("the handler returned another response than the one it has sent")
            if response.status == self.withheld:
                return response
            response.headers.setdefault(hdrs.SERVER, SERVER)
        # Written here and not by aiohttp, where a failure would be one of the server.
        await response.prepare(request)
        await response.write_eof()
        return response

    async def _record(self, facts: Mapping[str, object]) -> None:
        """Write the line of a change before its reply; it was made, so nothing undoes it."""
        peer = cast("PolicyProtocol", self.request.protocol).connection.peer
        audit, policy_hash = self.generation.audit, self.generation.policy.policy_hash
        recorded = audit.changed(self.names[0], peer, policy_hash, facts)
        if recorded is not None:
            await recorded
        audit.flush()


def _failure(status: int, text: str) -> PrerenderedResponse:
    """Return the response of a failed request; a late handler may still write, so it closes."""
    response = PrerenderedResponse(status, TEXT, f"{text}\n".encode())
    response.force_close()
    return response
