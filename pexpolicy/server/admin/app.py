"""The four paths of the admin listener."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import orjson
from aiohttp import hdrs, web

from pexpolicy.access.connections import Connection
from pexpolicy.access.refusals import FOREIGN_HOST, WRONG_TOKEN, RefusalLog
from pexpolicy.access.throttle import CancellableSleeps, LoginThrottle
from pexpolicy.endpoints.base import JSON
from pexpolicy.errors import Log, describe_error
from pexpolicy.observability.shared_memory import SharedCounters
from pexpolicy.observability.status import Status
from pexpolicy.observability.telemetry import Telemetry
from pexpolicy.policy import Policy
from pexpolicy.server.http.response import READABLE, TEXT, PrerenderedResponse, health, not_allowed

OPEN = ("/livez", "/readyz")
"""Paths that tell no more than yes or no, and that need no token."""
GUARDED = ("/status", "/metrics")
WITHOUT_TOKEN = b"without a token ask by an address, or by localhost\n"


class AdminApp:
    """Answers operators. Call it with a request; ``policy`` gives the policy that is in force."""

    def __init__(
        self, policy: Callable[[], Policy], telemetry: Telemetry, refusals: RefusalLog, log: Log
    ) -> None:
        self._policy = policy
        self._refusals = refusals
        self._attempts = LoginThrottle()
        self._delays = CancellableSleeps()
        self._status = Status(policy, telemetry)
        self._telemetry = telemetry
        self._log = log
        # Rendering is some milliseconds that no call has to wait for.
        self._renderer = ThreadPoolExecutor(1, thread_name_prefix="pexpolicy-metrics")

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to a request of any kind."""
        path = request.rel_url.raw_path
        if path not in (*OPEN, *GUARDED):
            paths = "\n".join((*OPEN, *GUARDED))
            return PrerenderedResponse(404, TEXT, f"here are\n{paths}\n".encode())
        if request.method not in READABLE:
            return not_allowed()
        if path in GUARDED and (refused := await self._refused(request, path)) is not None:
            return refused
        try:
            return await self._answer(path)
        except Exception as error:  # noqa: BLE001 - whoever watches must hear of it
            fault = describe_error(error)
            self._log.warning("internal fault", path=path, error=fault.summary)
            return PrerenderedResponse(500, TEXT, f"{fault.summary}\n".encode())

    async def _refused(self, request: web.BaseRequest, path: str) -> PrerenderedResponse | None:
        """Refuse who may not see a page; a wrong token ever later, as it may be a guess."""
        settings = self._policy().settings
        connection: Connection | None = getattr(request.protocol, "connection", None)
        peer = connection.peer if connection is not None else request.remote or ""
        token = settings.admin_token
        if token is None:
            host = request.headers.get(hdrs.HOST)
            if is_own_host(host, settings.admin.host):
                return None
            self._refusals.note(FOREIGN_HOST, HTTPStatus.MISDIRECTED_REQUEST, peer, path=path)
            return PrerenderedResponse(HTTPStatus.MISDIRECTED_REQUEST, TEXT, WITHOUT_TOKEN)
        given = request.headers.get(hdrs.AUTHORIZATION)
        if admits(token.get_secret_value(), given):
            return None
        self._refusals.note(WRONG_TOKEN, HTTPStatus.UNAUTHORIZED, peer, path=path)
        if given:
            now = asyncio.get_running_loop().time()
            await self._delays.wait(self._attempts.failed(peer, now))
        return PrerenderedResponse(401, "", b"", extra=b"\r\nWWW-Authenticate: Bearer")

    async def _answer(self, path: str) -> web.StreamResponse:
        if path in OPEN:
            return health(path, self._telemetry.sources.not_ready_reasons())
        self._telemetry.sampler.sample()
        if path == "/status":
            told = await self._status.document()
            return PrerenderedResponse(200, JSON, orjson.dumps(told, option=orjson.OPT_INDENT_2))
        loop = asyncio.get_running_loop()
        kind, text = await loop.run_in_executor(self._renderer, _render, self._telemetry.board)
        return PrerenderedResponse(200, kind, text)

    def close(self) -> None:
        """Answer no more."""
        self._delays.end()
        self._status.close()
        self._renderer.shutdown(wait=False, cancel_futures=True)


def _render(board: SharedCounters) -> tuple[str, bytes]:
    # What renders is imported for the first scrape: a start does not wait for it.
    from pexpolicy.observability.prometheus import CONTENT_TYPE, expose  # noqa: PLC0415

    return CONTENT_TYPE, expose(board)


def admits(token: str, header: str | None) -> bool:
    """True when an ``Authorization`` header holds the token, as RFC 6750 sends it.

    The comparison takes as long for any token of its length.
    """
    scheme, _, given = (header or "").partition(" ")
    sent = given.strip().encode("utf-8", "surrogateescape")
    return scheme.lower() == "bearer" and hmac.compare_digest(sent, token.encode())


def is_own_host(header: str | None, configured: str) -> bool:
    """True for a ``Host`` header that no page of another site can have a browser send.

    Such a page may have its own name lead to this address (DNS rebinding), but the browser still
    sends that name. Addresses, ``localhost`` and the configured name are nobody else's.
    """
    if not header:
        return True  # no browser leaves it out
    name = header.rpartition("]")[0].removeprefix("[") or header.partition(":")[0]
    if name.lower() in ("localhost", configured.lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
