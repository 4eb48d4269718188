"""The HTTP service: paths, credentials and health. It knows a policy, and no plugins.

It is called by aiohttp's low-level server. An application with its router would look each path up
among patterns, and answer by itself, without an audit line, what it finds no pattern for; here are
six fixed paths.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from urllib.parse import unquote

from aiohttp import hdrs, web
from uuid_utils import uuid7

from pexpolicy.audit import Audit
from pexpolicy.chain import Log
from pexpolicy.credentials import BasicAuth
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.faults import blame
from pexpolicy.metrics.telemetry import Telemetry
from pexpolicy.parameters import Params
from pexpolicy.policy import Answer, Policy
from pexpolicy.response import TEXT, WholeResponse

READABLE = (hdrs.METH_GET, hdrs.METH_HEAD)
_ALLOW = b"\r\nAllow: GET, HEAD"
_CHALLENGE = b'\r\nWWW-Authenticate: Basic realm="pexpolicy", charset="UTF-8"'


class Service:
    """What answers: a policy that serves, the audit, and who may ask.

    Call it with a request. ``base_path`` stands in front of the six endpoints, and not of
    ``/livez`` and ``/readyz``.
    """

    def __init__(
        self,
        policy: Policy,
        audit: Audit,
        auth: BasicAuth | None,
        log: Log,
        base_path: str = "",
        telemetry: Telemetry | None = None,
    ) -> None:
        self.policy = policy
        self.audit = audit
        self.telemetry = telemetry
        self._shadows = telemetry.beside(audit) if telemetry is not None else audit
        self.auth = auth
        self.log = log
        paths = {base_path + endpoint.path: name for name, endpoint in ENDPOINTS.items()}
        self._named = {path: name for path, name in paths.items() if not path.endswith("/")}
        self._with_alias = {path: name for path, name in paths.items() if path.endswith("/")}

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to a request of any kind; the calls of nodes leave their audit line."""
        began = time.perf_counter()
        url = request.rel_url
        path = url.raw_path
        name, alias = self._named.get(path), ""
        if name is None:
            for prefix, endpoint in self._with_alias.items():
                if path.startswith(prefix) and len(path) > len(prefix):
                    name, alias = endpoint, unquote(path[len(prefix) :])
                    break
            else:
                return self._elsewhere(request, path)
        if request.method not in READABLE:
            return self._not_allowed(request)
        if self.auth is not None and not self.auth.accepts(request.headers.get(hdrs.AUTHORIZATION)):
            return self._unauthorised(request, name)
        params = url.query
        policy = self.policy
        decision_id = str(uuid7())
        try:
            answer = await policy.answer(name, params, alias, decision_id)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not cost the call
            self._report(name, error)
            if self.telemetry is not None:
                self.telemetry.fault(name)
            answer = policy.last_resort(name, params, alias, decision_id)
        recorded = self._record(policy, params, alias, answer, began, request.remote)
        if recorded is not None:
            await recorded
        policy.conclude(answer.outcome, self._shadows)
        if self.telemetry is not None:
            spent = time.perf_counter() - began
            self.telemetry.answered(answer, params, request.remote, spent)
        reply = answer.reply
        return WholeResponse(reply.status, reply.content_type, reply.body)

    def _record(
        self,
        policy: Policy,
        params: Params,
        alias: str,
        answer: Answer,
        began: float,
        peer: str | None,
    ) -> Awaitable[bool] | None:
        """Write the audit line; gives something to wait for where it is not written at once."""
        try:
            ms = (time.perf_counter() - began) * 1000
            return self.audit.decision(params, alias, answer, ms, peer, policy.config_hash)
        except Exception as error:  # noqa: BLE001 - a fault in writing about it must not cost the call
            self._report(answer.outcome.endpoint, error)
            return None

    def _report(self, name: str, error: Exception) -> None:
        fault = blame(error)
        self.log.warning(
            "internal fault", endpoint=name, error=fault.summary, traceback=fault.lines
        )

    def _unauthorised(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        self._refused("unauthorised", 401, request, endpoint=name)
        return WholeResponse(401, "", b"", extra=_CHALLENGE)

    def _not_allowed(self, request: web.BaseRequest) -> web.StreamResponse:
        self._refused("method not allowed", 405, request)
        return WholeResponse(405, "", b"", extra=_ALLOW)

    def _elsewhere(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """The response below every other path."""
        if path in ("/livez", "/readyz"):
            if request.method not in READABLE:
                return self._not_allowed(request)
            return WholeResponse(200, TEXT, b"ok\n")
        if path in self._with_alias and request.method not in READABLE:
            return self._not_allowed(request)
        self._refused("unknown path", 404, request, path=path[:200])
        return WholeResponse(404, "", b"")

    def _refused(self, why: str, status: int, request: web.BaseRequest, **facts: object) -> None:
        config_hash = self.policy.config_hash
        self.audit.refused(why, status, request.remote, config_hash, **facts)
        if self.telemetry is not None:
            self.telemetry.refused(why, request.remote)

    def malformed(self, status: int, peer: str | None) -> None:
        """Note a request that was no HTTP, or longer than allowed."""
        self.audit.refused("malformed", status, peer, self.policy.config_hash)
        if self.telemetry is not None:
            self.telemetry.refused("malformed", peer)
