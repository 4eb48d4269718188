"""The admin application: health, status, metrics, and the routes of plugins."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
from collections.abc import Callable
from http import HTTPStatus

import orjson
from aiohttp import hdrs, web

from pexpolicy.access.connections import Connection
from pexpolicy.access.login_throttle import CancellableSleeps, LoginThrottle
from pexpolicy.access.refusals import FOREIGN_HOST, WRONG_TOKEN, RefusalLog
from pexpolicy.child import readable
from pexpolicy.endpoints.base import JSON
from pexpolicy.errors import Log, describe_error
from pexpolicy.observability.snapshot import CONTENT_TYPE, expose
from pexpolicy.observability.status import Status
from pexpolicy.observability.telemetry import Telemetry
from pexpolicy.plugins.routes import PREFIX
from pexpolicy.server.admin.plugin_requests import PluginRequests
from pexpolicy.server.generations import Generation
from pexpolicy.server.http.response import READABLE, TEXT, PrerenderedResponse, health, not_allowed

PUBLIC_PATHS = ("/livez", "/readyz")
"""Health checks, which need no token."""
PROTECTED_PATHS = ("/status", "/metrics")
_HOST = re.compile(r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<plain>[^:\[\]]+))(?::\d*)?")
FOREIGN_HOST_TEXT = (
    b"without a token use an IP address or localhost in the URL, and no page of a browser\n"
)


class AdminApp:
    """The aiohttp request handler of the admin listener.

    ``generation`` returns the active generation.
    """

    def __init__(
        self,
        generation: Callable[[], Generation],
        telemetry: Telemetry,
        refusals: RefusalLog,
        log: Log,
    ) -> None:
        self._generation = generation
        self._refusals = refusals
        self._throttle = LoginThrottle()
        self._delays = CancellableSleeps()
        self._status = Status(lambda: generation().policy, telemetry)
        self._plugin_requests = PluginRequests(log)
        self._telemetry = telemetry
        self._log = log

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        path = request.rel_url.raw_path
        if path.startswith(PREFIX):
            refused = await self._refused(request, path)
            return refused or await self._plugin_requests.answer(request, self._generation())
        if path not in (*PUBLIC_PATHS, *PROTECTED_PATHS):
            paths = "\n".join((*PUBLIC_PATHS, *PROTECTED_PATHS, f"{PREFIX}NAME/"))
            return PrerenderedResponse(
                404, TEXT, f"the paths of this listener:\n{paths}\n".encode()
            )
        if request.method not in READABLE:
            return not_allowed()
        if path in PROTECTED_PATHS and (refused := await self._refused(request, path)) is not None:
            return refused
        try:
            return await self._answer(request, path)
        except Exception as error:  # noqa: BLE001 - operators must see it
            summary = describe_error(error).summary
            self._log.warning("internal fault", path=path, error=summary)
            return PrerenderedResponse(500, TEXT, f"{summary}\n".encode())

    async def _refused(self, request: web.BaseRequest, path: str) -> PrerenderedResponse | None:
        """Return the response to an unauthorized request; delay each wrong token longer."""
        settings = self._generation().policy.settings
        connection: Connection | None = getattr(request.protocol, "connection", None)
        peer = connection.peer if connection is not None else request.remote or ""
        token = settings.admin_token
        if token is None:
            host = request.headers.get(hdrs.HOST)
            # A page of another site could send a form to a plugin; browsers add Origin to that.
            if is_own_host(host, settings.admin.host) and hdrs.ORIGIN not in request.headers:
                return None
            self._refusals.note(FOREIGN_HOST, HTTPStatus.MISDIRECTED_REQUEST, peer, path=path)
            return PrerenderedResponse(HTTPStatus.MISDIRECTED_REQUEST, TEXT, FOREIGN_HOST_TEXT)
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        if is_authorized(token.get_secret_value(), authorization):
            return None
        self._refusals.note(WRONG_TOKEN, HTTPStatus.UNAUTHORIZED, peer, path=path)
        if authorization:
            now = asyncio.get_running_loop().time()
            await self._delays.wait(self._throttle.record_failure(peer, now))
        return PrerenderedResponse(401, "", b"", extra=b"\r\nWWW-Authenticate: Bearer")

    async def _reasons(self, request: web.BaseRequest, path: str) -> list[str]:
        """Return why the server is not ready; without errors and paths for a client that may not
        read ``/status``.
        """
        sources = self._telemetry.sources
        reasons = sources.not_ready_reasons()
        has_token = self._generation().policy.settings.admin_token is not None
        if (reasons and has_token and hdrs.AUTHORIZATION not in request.headers) or (
            reasons and await self._refused(request, path)
        ):
            return sources.public_reasons()
        return reasons

    async def _answer(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if path in PUBLIC_PATHS:
            return health(path, await self._reasons(request, path))
        self._telemetry.sample()
        if path == "/status":
            status = readable(await self._status.document())
            return PrerenderedResponse(200, JSON, orjson.dumps(status, option=orjson.OPT_INDENT_2))
        text = await self._telemetry.in_thread(expose, await self._telemetry.merged())
        return PrerenderedResponse(200, CONTENT_TYPE, text)

    def close(self) -> None:
        """Release delayed replies."""
        self._delays.cancel()
        self._status.close()
        self._plugin_requests.close()


def is_authorized(token: str, header: str | None) -> bool:
    """Return whether an ``Authorization`` header holds the bearer token (RFC 6750).

    The comparison takes constant time for tokens of the same length.
    """
    scheme, _, credentials = (header or "").partition(" ")
    sent = credentials.strip().encode("utf-8", "surrogateescape")
    return scheme.lower() == "bearer" and hmac.compare_digest(sent, token.encode())


def is_own_host(header: str | None, configured: str) -> bool:
    """Return whether a ``Host`` header excludes DNS rebinding.

    A page of another site can resolve its own name to this address, but the browser still sends
    that name. It cannot send an IP address, ``localhost`` or the configured name.
    """
    if not header:
        return True  # every browser sends it
    found = _HOST.fullmatch(header)
    if found is None:
        return False
    name = found["bracketed"] or found["plain"]
    if name.lower() in ("localhost", configured.lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
