"""The admin listener: health, status, metrics, and the routes of plugins."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import msgspec
import orjson
from aiohttp import hdrs, web

from pexpolicy.access.access_control import connection_of
from pexpolicy.access.connections import ConnectionLimits
from pexpolicy.access.refusals import FOREIGN_HOST
from pexpolicy.endpoints.base import JSON
from pexpolicy.fleet.members import Member, ask_all, document_of
from pexpolicy.fleet.policy_hash import own_token
from pexpolicy.observability.metrics import CONTENT_TYPE, expose
from pexpolicy.observability.status import PluginStatuses, document
from pexpolicy.plugins.binding import PREFIX
from pexpolicy.server.api import MAX_BODY, RoutesApp
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.protocol import (
    READABLE,
    TEXT,
    PrerenderedResponse,
    health,
    not_allowed,
)
from pexpolicy.server.reload_triggers import ask_for_reload
from pexpolicy.tasks import run_in_thread, start_background
from pexpolicy.text import printable, readable

FLEET_KEPT_S = 2.0
LIMITS = ConnectionLimits(total=64, per_peer=64, body_bytes=MAX_BODY, body_prefix=PREFIX.encode())
"""Limits of this listener, which nodes never call."""
ACTIVATE = "/activate/"
"""What the policy hash of a kept configuration follows."""
DISCONNECT = "/disconnect/"
"""What the id of a participant follows."""
ACTIONS = (ACTIVATE, DISCONNECT)
_HASH = re.compile("[0-9a-f]{16}")
_HOST = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+))(?::\d*)?")
FOREIGN_HOST_TEXT = (
    b"without a token use an IP address or localhost in the URL, and no page of a browser\n"
)


class AdminApp(RoutesApp):
    """The aiohttp request handler of the admin listener."""

    def __init__(self, app: PolicyApp) -> None:
        super().__init__(app, "routes")
        self._reports = PluginStatuses()
        self._fleet: tuple[float, asyncio.Task[list[Member]]] | None = None
        self._pages = {
            "/livez": self._health,
            "/readyz": self._health,
            "/status": self._show_status,
            "/fleet": self._show_fleet,
            "/metrics": self._show_metrics,
        }

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer a request; the health checks need no token."""
        path = request.rel_url.raw_path
        answer = self._pages.get(path)
        if answer is None and path.startswith(PREFIX):
            answer = self._ask_plugin
        elif answer is None and path.startswith(ACTIONS):
            if request.method != hdrs.METH_POST:
                return not_allowed(hdrs.METH_POST)
            answer = self._activate if path.startswith(ACTIVATE) else self._disconnect
        elif answer is None:
            paths = "\n".join(
                (*self._pages, f"{PREFIX}NAME/", f"{ACTIVATE}HASH", f"{DISCONNECT}ID")
            )
            text = f"the paths of this listener:\n{paths}\n"
            return PrerenderedResponse(404, TEXT, text.encode())
        elif request.method not in READABLE:
            return not_allowed()
        if answer != self._health and (refused := await self._refused(request)) is not None:
            return refused
        return await answer(request)

    async def _refused(self, request: web.Request) -> PrerenderedResponse | None:
        """Return the response to an unauthorized request; delay each wrong token longer."""
        settings = self._app.generation.policy.settings
        path = request.rel_url.raw_path
        token = None if settings.admin_token is None else settings.admin_token.get_secret_value()
        if token is None and path.startswith(ACTIONS):
            # Other users of this machine may not.
            token = await run_in_thread(lambda: own_token(settings), "pexpolicy-key")
        if token is None:
            host = request.headers.get(hdrs.HOST)
            # A page of another site could send a form to a plugin; browsers add Origin to that.
            if is_own_host(host, settings.admin.host) and hdrs.ORIGIN not in request.headers:
                return None
            status, peer = HTTPStatus.MISDIRECTED_REQUEST, connection_of(request).peer
            self._app.refusals.note(FOREIGN_HOST, status, peer, path=path)
            return PrerenderedResponse(status, TEXT, FOREIGN_HOST_TEXT)
        authorization = request.headers.get(hdrs.AUTHORIZATION, "")
        scheme, _, sent = authorization.partition(" ")
        credentials = sent.strip().encode("utf-8", "surrogateescape")
        is_right = hmac.compare_digest(credentials, token.encode())
        if token and is_right and scheme.lower() == "bearer":  # RFC 6750
            return None
        await self._note_wrong_token(request)
        return PrerenderedResponse(401, extra=b"\r\nWWW-Authenticate: Bearer")

    async def _health(self, request: web.Request) -> web.StreamResponse:
        """Answer with why the server is not ready, without errors and paths for a client that may
        not read ``/status``.
        """
        sources = self._app.telemetry.sources
        reasons = sources.not_ready_reasons()
        has_token = self._app.generation.policy.settings.admin_token is not None
        is_public = has_token and hdrs.AUTHORIZATION not in request.headers
        if reasons and (is_public or await self._refused(request)):
            reasons = sources.public_reasons()
        return health(request.rel_url.raw_path, reasons)

    async def _show_status(self, _: web.Request) -> web.StreamResponse:
        app = self._app
        return _json(await document(app.generation.policy, app.telemetry, self._reports))

    async def _show_fleet(self, _: web.Request) -> web.StreamResponse:
        """Answer with what was asked of the servers in the last seconds, once for all clients."""
        now = asyncio.get_running_loop().time()
        if self._fleet is None or now - self._fleet[0] > FLEET_KEPT_S:
            self._fleet = now, asyncio.create_task(ask_all(self._app.generation.policy.settings))
        return _json(document_of(await asyncio.shield(self._fleet[1])))

    async def _activate(self, request: web.Request) -> web.StreamResponse:
        """Go back to a kept configuration, in all processes of this server."""
        kept = request.rel_url.raw_path.removeprefix(ACTIVATE)
        if not _HASH.fullmatch(kept):
            return PrerenderedResponse(404, TEXT, b"write the policy hash: 16 hexadecimal digits\n")
        author = printable(request.query.get("author", "")) or "admin listener"
        config = self._app.generation.policy.settings.path
        # Another process may be the one that reloads.
        results = await run_in_thread(
            lambda: ask_for_reload(config, author, kept), "pexpolicy-activate"
        )
        is_done = all(one is not None and one.done for one in results)
        found = {"results": msgspec.to_builtins(results)}
        return _json(found, (200 if is_done else 409) if results else 503)

    async def _disconnect(self, request: web.Request) -> web.StreamResponse:
        """End the call of a participant by a command of its platform."""
        participant = unquote(request.rel_url.raw_path.removeprefix(DISCONNECT))
        policy, author = self._app.generation.policy, printable(request.query.get("author", ""))
        source = request.query.get("source", "") or next(iter(policy.platforms), "")
        if (platform := policy.platforms.get(source)) is None:
            return _json({"result": "[infinity] source names no platform with commands"}, 409)
        result = await platform.command("participant/disconnect", participant_id=participant)
        self._app.log.warning("disconnected", participant=participant, author=author, result=result)
        return _json({"result": result}, {"done": 200, "gone": 404}.get(result, 502))

    async def _show_metrics(self, _: web.Request) -> web.StreamResponse:
        merged = await self._app.telemetry.merged()
        text = await run_in_thread(lambda: expose(merged), "pexpolicy-metrics")
        return PrerenderedResponse(200, CONTENT_TYPE, text)

    async def _ask_plugin(self, request: web.Request) -> web.StreamResponse:
        generation = self._app.generation
        name = unquote(request.rel_url.raw_path.removeprefix(PREFIX).partition("/")[0])
        routes = generation.policy.routes.get(name)
        if routes is None:
            return PrerenderedResponse(404, TEXT, b"no active plugin of this name has routes\n")
        return await self._ask(request, generation, routes)

    def close(self) -> None:
        """Stop asking other servers and plugins."""
        super().close()
        self._reports.close()
        if self._fleet is not None:
            self._fleet[1].cancel()


def _json(content: dict[str, Any], status: int = 200) -> PrerenderedResponse:
    text = orjson.dumps(readable(content), option=orjson.OPT_INDENT_2)
    return PrerenderedResponse(status, JSON, text)


def is_own_host(header: str | None, configured: str) -> bool:
    """Return whether a ``Host`` header excludes DNS rebinding.

    A page of another site can resolve its own name to this address, but the browser still sends
    that name. It cannot send an IP address, ``localhost`` or the configured name. Every browser
    sends the header.
    """
    found = _HOST.fullmatch(header or "localhost")
    name = (found[1] or found[2]).lower() if found is not None else ""
    with suppress(ValueError):
        return name in ("localhost", configured.lower()) or bool(ipaddress.ip_address(name))
    return False


@asynccontextmanager
async def admin_listener(app: PolicyApp, bound: socket.socket | None) -> AsyncIterator[None]:
    """Measure the lag of the event loop, and answer operators on a socket if there is one."""
    settings = app.generation.policy.settings
    tls = settings.tls if settings.admin.tls else None
    measuring = start_background(app.telemetry.measure_lag(), set())
    try:
        async with AdminApp(app).serving(bound, tls, LIMITS):
            yield
    finally:
        measuring.cancel()
