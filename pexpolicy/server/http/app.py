"""The HTTP service: paths, credentials and health. It knows a policy, and no plugins.

It is called by aiohttp's low-level server. An application with its router would look each path up
among patterns, and answer by itself, without an audit line, what it finds no pattern for; here are
six fixed paths.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from http import HTTPStatus
from urllib.parse import unquote

from aiohttp import web
from uuid_utils import uuid7

from pexpolicy.access.refusals import Refusal, RefusalLog
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import Log, describe_error
from pexpolicy.models.request import Params
from pexpolicy.observability.counters import INTERNAL, UNRECORDED
from pexpolicy.observability.health import Readiness, ReadinessState, StateSources
from pexpolicy.observability.telemetry import Telemetry
from pexpolicy.observability.tracing import CallSpan, Spans
from pexpolicy.policy import Answer
from pexpolicy.server.generations import Generation
from pexpolicy.server.http.response import READABLE, PrerenderedResponse, health, not_allowed

_CHALLENGE = b'\r\nWWW-Authenticate: Basic realm="pexpolicy", charset="UTF-8"'


class PolicyApp:
    """What answers, by the regime that is in force.

    Call it with a request. ``base_path`` stands in front of the six endpoints, and not of
    ``/livez`` and ``/readyz``.
    """

    def __init__(
        self,
        regime: Generation,
        log: Log,
        base_path: str = "",
        readiness: Readiness | None = None,
        telemetry: Telemetry | None = None,
        spans: Spans | None = None,
    ) -> None:
        self.log = log
        self.base_path = base_path
        self.readiness = readiness or Readiness(ReadinessState.READY)
        self.telemetry = telemetry or Telemetry(sources=StateSources(readiness=self.readiness))
        self.activate(regime)
        self.refusals = RefusalLog(
            self._write_refusal,
            self.telemetry.refused,
            lambda: self.generation.audit.has_room_for_refusals,
        )
        self._spans = spans
        paths = {base_path + endpoint.path: name for name, endpoint in ENDPOINTS.items()}
        self._named = {path: name for path, name in paths.items() if not path.endswith("/")}
        self._with_alias = {path: name for path, name in paths.items() if path.endswith("/")}

    def activate(self, regime: Generation) -> None:
        """Decide the calls that begin from now on by a regime."""
        self.generation = regime
        self.telemetry.use_policy(regime.policy)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to a request of any kind; the calls of nodes leave their audit line."""
        began = time.perf_counter()
        url = request.rel_url
        path = url.raw_path
        name, alias = self._named.get(path), ""
        if name is None:
            name, alias = self._aliased(path)
            if name is None:
                return self._leaving(self._elsewhere(request, path))
        if request.method not in READABLE:
            return self._leaving(self._not_allowed(request))
        regime = self.generation
        if (peer := regime.gate.cached_peer(request)) is None:
            admitted = await regime.gate.authenticate(request)
            if isinstance(admitted, Refusal):
                return self._leaving(self._not_admitted(admitted, name))
            peer = admitted.peer
            # Meanwhile another regime may have come into force, and this one may be closed.
            regime = self.generation
        params = url.query
        regime.calls.under_way += 1
        span: CallSpan | None = None
        try:
            policy = regime.policy
            decision_id = str(uuid7())
            if self._spans is not None:
                span = self._spans.begin(name, request.headers, decision_id)
            try:
                answer = await policy.answer(
                    name, params, alias, decision_id, request.raw_path, peer
                )
            except Exception as error:  # noqa: BLE001 - a fault of ours must not cost the call
                self._report(name, error)
                self.telemetry.count_fallback(name, INTERNAL)
                answer = policy.internal_error_answer(name, params, alias, decision_id)
            recorded = self._record(regime, params, alias, answer, began, peer)
            if recorded is not None and not await recorded:
                self.telemetry.count_fallback(name, UNRECORDED)
                answer = policy.audit_failure_answer(answer.outcome, rejects=regime.audit.rejects)
            self._conclude(regime, params, answer, began, peer, span)
        finally:
            if span is not None:
                span.close()
            regime.calls.end()
        reply = answer.reply
        return self._leaving(PrerenderedResponse(reply.status, reply.content_type, reply.body))

    def _leaving(self, response: PrerenderedResponse) -> PrerenderedResponse:
        """A response that leaves now; while the server drains, the last one on its connection."""
        if self.readiness.is_draining:
            response.force_close()
        return response

    def _aliased(self, path: str) -> tuple[str | None, str]:
        """The endpoint whose path ends in an alias, and the alias, decoded once."""
        for prefix, endpoint in self._with_alias.items():
            if path.startswith(prefix) and len(path) > len(prefix):
                return endpoint, unquote(path[len(prefix) :])
        return None, ""

    def _record(
        self,
        regime: Generation,
        params: Params,
        alias: str,
        answer: Answer,
        began: float,
        peer: str | None,
    ) -> Awaitable[bool] | None:
        """Write the audit line; gives something to wait for where it is not written at once."""
        try:
            ms = (time.perf_counter() - began) * 1000
            config_hash = regime.policy.config_hash
            return regime.audit.decision(params, alias, answer, ms, peer, config_hash)
        except Exception as error:  # noqa: BLE001 - a fault in writing about it must not cost the call
            self._report(answer.outcome.endpoint, error)
            return regime.audit.not_recorded()

    def _conclude(
        self,
        regime: Generation,
        params: Params,
        answer: Answer,
        began: float,
        peer: str | None,
        span: CallSpan | None,
    ) -> None:
        """Count the call, and begin what follows it."""
        try:
            self.telemetry.answered(answer, params, peer, time.perf_counter() - began)
            if span is not None:
                span.record_answer(answer)
            if regime.policy.has_background_work:
                beside = self.telemetry.counting(regime.audit)
                regime.policy.run_background(answer.outcome, beside)
        except Exception as error:  # noqa: BLE001 - a fault behind the decision must not cost the call
            self._report(answer.outcome.endpoint, error)

    def _report(self, name: str, error: Exception) -> None:
        fault = describe_error(error)
        self.log.warning(
            "internal fault", endpoint=name, error=fault.summary, traceback=fault.lines
        )

    def _not_admitted(self, refusal: Refusal, name: str) -> PrerenderedResponse:
        facts = {"detail": refusal.detail} if refusal.detail else {}
        self.refusals.note(refusal.reason, refusal.status, refusal.peer, endpoint=name, **facts)
        challenge = _CHALLENGE if refusal.status == HTTPStatus.UNAUTHORIZED else b""
        return PrerenderedResponse(refusal.status, "", b"", extra=challenge)

    def _not_allowed(self, request: web.BaseRequest) -> PrerenderedResponse:
        self._refused("method not allowed", 405, request)
        return not_allowed()

    def _elsewhere(self, request: web.BaseRequest, path: str) -> PrerenderedResponse:
        """The response below every other path."""
        if path in ("/livez", "/readyz"):
            if request.method not in READABLE:
                return self._not_allowed(request)
            return health(path, self.telemetry.sources.not_ready_reasons())
        if path in self._with_alias and request.method not in READABLE:
            return self._not_allowed(request)
        self._refused("unknown path", 404, request, path=path)
        return PrerenderedResponse(404, "", b"")

    def _refused(self, why: str, status: int, request: web.BaseRequest, **facts: object) -> None:
        self.refusals.note(why, status, self.generation.gate.peer(request), **facts)

    def _write_refusal(self, reason: str, status: int, peer: str | None, **facts: object) -> None:
        regime = self.generation
        regime.audit.refused(reason, status, peer, regime.policy.config_hash, **facts)
        self.telemetry.recorded()
