"""Requests to the routes of plugins: limits, failures and the generation that answers."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import cast
from urllib.parse import unquote

from aiohttp import hdrs, web

from pexpolicy.chain.failure_log import PluginFailureLog
from pexpolicy.errors import Log, describe_error
from pexpolicy.models.context import HOOK_CONTEXT
from pexpolicy.models.outcome import BUSY, TIMED_OUT
from pexpolicy.plugins.routes import PREFIX, PluginRoutes
from pexpolicy.server.generations import GENERATION_DRAIN_TIMEOUT_S, Generation
from pexpolicy.server.http.protocol import PolicyProtocol
from pexpolicy.server.http.response import SERVER, TEXT, PrerenderedResponse

TIMEOUT_S = GENERATION_DRAIN_TIMEOUT_S - 1.0
"""For a request, until its last byte is written: it ends before its generation is closed."""
MAX_IN_FLIGHT = 16
"""Requests to one plugin that are answered at once; the listener has more connections."""


class PluginRequests:
    """Answers the requests below ``/plugins/``; a failing handler is logged once a minute."""

    def __init__(self, log: Log) -> None:
        self._failure_log = PluginFailureLog(log, "routes")

    def close(self) -> None:
        """Log the failures that were left out."""
        self._failure_log.close()

    async def answer(self, request: web.Request, generation: Generation) -> web.StreamResponse:
        """Answer a request with the plugins of a generation, which stays open meanwhile."""
        name = unquote(request.rel_url.raw_path.removeprefix(PREFIX).partition("/")[0])
        routes = generation.policy.routes.get(name)
        if routes is None:
            return PrerenderedResponse(404, TEXT, b"no active plugin of this name has routes\n")
        now = asyncio.get_running_loop().time()
        if routes.in_flight >= MAX_IN_FLIGHT:
            text = f"{MAX_IN_FLIGHT} requests are in flight"
            self._failure_log.step(name, BUSY, text, now)
            return _failure(HTTPStatus.SERVICE_UNAVAILABLE, f"{name} is busy: {text}")
        routes.in_flight += 1
        generation.calls.in_flight += 1
        try:
            return await self._answer(request, generation, routes)
        finally:
            routes.in_flight -= 1
            generation.calls.end()

    async def _answer(
        self, request: web.Request, generation: Generation, routes: PluginRoutes
    ) -> web.StreamResponse:
        protocol = cast("PolicyProtocol", request.protocol)
        protocol.flush()
        work = _Handling(request, routes)
        in_time = await generation.policy.run(work, TIMEOUT_S)
        if work.response is not None:
            return work.response
        now, plugin = asyncio.get_running_loop().time(), routes.plugin
        if not in_time:
            self._failure_log.step(plugin, TIMED_OUT, f"no answer within {TIMEOUT_S:.3g} s", now)
            status, text = HTTPStatus.GATEWAY_TIMEOUT, f"{plugin} did not answer in time"
        else:
            transport = request.transport
            if work.error is not None and transport is not None and not transport.is_closing():
                report = describe_error(work.error)
                self._failure_log.failed("plugin failed", plugin, report, now)
            status, text = HTTPStatus.INTERNAL_SERVER_ERROR, f"{plugin} failed: see the log"
        if request.writer.output_size > 0:
            # Half of its own response has been sent.
            protocol.connection.close()
        return _failure(status, text)


class _Handling:
    """The work of one request: the handler of the plugin, and the writing of its response."""

    def __init__(self, request: web.Request, routes: PluginRoutes) -> None:
        self.names = (routes.plugin, "routes")
        self.response: web.StreamResponse | None = None
        self.error: BaseException | None = None
        self._request = request
        self._app = routes.app

    async def run(self) -> None:
        HOOK_CONTEXT.set((self.names, None))
        try:
            self.response = await self._respond()
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            self.error = error

    async def _respond(self) -> web.StreamResponse:
        try:
            response = await self._app._handle(self._request)  # noqa: SLF001 - it has no public way
        except web.HTTPException as raised:
            response = raised
        if not isinstance(response, web.StreamResponse):
            raise TypeError(f"the handler returned {type(response).__name__}, not a response")
        if not response.prepared:
            if self._request.writer.output_size > 0:
                raise TypeError("the handler returned another response than the one it has sent")
            response.headers.setdefault(hdrs.SERVER, SERVER)
        # Written here and not by aiohttp, where a failure would be one of the server.
        await response.prepare(self._request)
        await response.write_eof()
        return response


def _failure(status: HTTPStatus, text: str) -> PrerenderedResponse:
    """Return the response of a failed request; a late handler may still write, so it closes."""
    response = PrerenderedResponse(status, TEXT, f"{text}\n".encode())
    response.force_close()
    return response
