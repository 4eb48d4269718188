"""The aiohttp application: routes, credentials and health. It knows a policy, and no plugins."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from aiohttp import hdrs, web
from multidict import CIMultiDict
from uuid_utils import uuid7

from pexpolicy.audit import Audit
from pexpolicy.chain import Log
from pexpolicy.credentials import BasicAuth
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import JPEG, JSON
from pexpolicy.faults import blame
from pexpolicy.policy import Policy
from pexpolicy.protocol import PLAIN_HEADERS

View = Callable[[web.Request], Awaitable[web.StreamResponse]]
ALLOWED = "GET, HEAD"
HEADERS = {
    content_type: CIMultiDict({**PLAIN_HEADERS, hdrs.CONTENT_TYPE: content_type})
    for content_type in (JSON, JPEG)
}


class Service:
    """What the application answers with: a policy that serves, the audit, and who may ask."""

    def __init__(self, policy: Policy, audit: Audit, auth: BasicAuth | None, log: Log) -> None:
        self.policy = policy
        self.audit = audit
        self.auth = auth
        self.log = log

    def view(self, name: str, prefix: str) -> View:
        """The view of one endpoint; ``prefix`` is the path up to the alias where there is one."""
        start = len(prefix)
        has_alias = prefix.endswith("/")

        async def view(request: web.Request) -> web.StreamResponse:
            began = time.perf_counter()
            if self.auth is not None and not self.auth.accepts(
                request.headers.get(hdrs.AUTHORIZATION)
            ):
                return self._unauthorised(request, name)
            url = request.rel_url
            params = url.query
            alias = ""
            if has_alias:
                if not url.raw_path.startswith(prefix):
                    return self._unknown(request)
                alias = unquote(url.raw_path[start:])
            decision_id = str(uuid7())
            policy = self.policy
            try:
                answer = await policy.answer(name, params, alias, decision_id)
            except Exception as error:  # noqa: BLE001 - a fault of ours must not cost the call
                self._report(name, error)
                answer = policy.last_resort(name, params, alias, decision_id)
            reply = answer.reply
            try:
                self.audit.decision(
                    params,
                    alias,
                    answer.outcome,
                    reply,
                    time.perf_counter() - began,
                    request.remote,
                )
            except Exception as error:  # noqa: BLE001 - nor may a fault in writing about it
                self._report(name, error)
            policy.conclude(answer.outcome, self.audit)
            return web.Response(
                status=reply.status,
                body=reply.body,
                headers=CIMultiDict(HEADERS[reply.content_type]),
            )

        return view

    def _report(self, name: str, error: Exception) -> None:
        fault = blame(error)
        self.log.warning(
            "internal fault", endpoint=name, error=fault.summary, traceback=fault.lines
        )

    def _unauthorised(self, request: web.Request, name: str) -> web.StreamResponse:
        self.audit.refused("unauthorised", 401, request.remote, endpoint=name)
        return web.Response(
            status=401,
            headers={
                **PLAIN_HEADERS,
                hdrs.WWW_AUTHENTICATE: 'Basic realm="pexpolicy", charset="UTF-8"',
            },
        )

    def elsewhere(self, views: dict[str, View]) -> View:
        """The view of every other path and method: 404, and 405 where the path is a known one."""

        async def view(request: web.Request) -> web.StreamResponse:
            path = request.rel_url.raw_path
            known = path in views or any(p.endswith("/") and path.startswith(p) for p in views)
            if known and request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
                self.audit.refused("method not allowed", 405, request.remote)
                return web.Response(status=405, headers={**PLAIN_HEADERS, hdrs.ALLOW: ALLOWED})
            return self._unknown(request)

        return view

    def _unknown(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path[:200]
        self.audit.refused("unknown path", 404, request.remote, path=path)
        return web.Response(status=404, headers=PLAIN_HEADERS)

    async def expectation(self, request: web.Request) -> web.StreamResponse | None:
        """Answer an ``Expect`` header; aiohttp's own answer would repeat an unknown one."""
        if request.headers[hdrs.EXPECT].lower() == "100-continue":
            return None
        self.audit.refused("unknown expectation", 417, request.remote)
        return web.Response(status=417, headers=PLAIN_HEADERS)

    def malformed(self, status: int, peer: str | None) -> None:
        """Note a request that was no HTTP, or longer than allowed."""
        self.audit.refused("malformed", status, peer)


async def _alive(_: web.Request) -> web.StreamResponse:
    return web.Response(text="ok\n", headers=PLAIN_HEADERS)


def build_application(service: Service, base_path: str = "") -> web.Application:
    """The application with the six endpoints below ``base_path``, and ``/livez`` and
    ``/readyz``.
    """
    application = web.Application()
    router = application.router
    views: dict[str, View] = {}
    for name, endpoint in ENDPOINTS.items():
        path = base_path + endpoint.path
        views[path] = view = service.view(name, path)
        pattern = path + (r"{alias:[\s\S]+}" if path.endswith("/") else "")
        router.add_get(pattern, view, expect_handler=service.expectation)
    router.add_get("/livez", _alive, expect_handler=service.expectation)
    router.add_get("/readyz", _alive, expect_handler=service.expectation)
    anything = r"/{path:[\s\S]*}"
    router.add_route("*", anything, service.elsewhere(views), expect_handler=service.expectation)
    return application
