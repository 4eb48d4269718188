"""The HTTP application: the six policy paths, authentication and health checks.

aiohttp's low-level server calls it. An aiohttp application with a router would match each path
against patterns and answer unknown paths without an audit line; the six paths here are fixed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from aiohttp import hdrs, web
from multidict import MultiDict, MultiDictProxy
from uuid_utils import uuid7
from yarl import URL

from pexpolicy.access.connections import AuthenticatedRequest
from pexpolicy.access.refusals import BODY, UNKNOWN_PATH, WRONG_METHOD, Refusal, RefusalLog
from pexpolicy.audit.records import DecisionRecord, with_audit_line
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import Log
from pexpolicy.events.receiver import PATH, EventReceiver, discard
from pexpolicy.models.request import CallFacts, Params, Request, set_origin
from pexpolicy.observability.telemetry import INTERNAL, UNRECORDED, ReadinessState, Telemetry
from pexpolicy.observability.tracing import CallSpan, Spans
from pexpolicy.policy import Answer
from pexpolicy.server.generations import Generation
from pexpolicy.server.http.protocol import (
    READABLE,
    PrerenderedResponse,
    health,
    log_fault,
    not_allowed,
)

_CHALLENGE = b'\r\nWWW-Authenticate: Basic realm="pexpolicy", charset="UTF-8"'
_STRAY = "a plugin or a library cancelled the task of this call; it may cancel asyncio.all_tasks()"


class _Call(CallFacts, kw_only=True):
    """A call while it is answered."""

    endpoint: str
    request: Request
    decision_id: str
    generation: Generation
    span: CallSpan | None = None
    line: DecisionRecord | None = None
    """The audit line."""


class PolicyApp:
    """The aiohttp request handler of the server.

    ``base_path`` precedes the paths of the six endpoints, but not ``/livez`` and ``/readyz``.
    """

    def __init__(
        self,
        generation: Generation,
        log: Log,
        base_path: str = "",
        telemetry: Telemetry | None = None,
        spans: Spans | None = None,
        events: EventReceiver | None = None,
    ) -> None:
        self.log = log
        self.events_path = base_path + PATH
        self.telemetry = telemetry or Telemetry()
        self.activate(generation)
        self.refusals = RefusalLog(
            self._write_refusal,
            self.telemetry.refused,
            lambda: self.generation.audit.has_room_for_refusals,
        )
        self._spans = spans
        self._events = events
        paths = {base_path + endpoint.path: name for name, endpoint in ENDPOINTS.items()}
        self._by_path = {path: name for path, name in paths.items() if not path.endswith("/")}
        self._by_prefix = {path: name for path, name in paths.items() if path.endswith("/")}

    def activate(self, generation: Generation) -> None:
        """Answer new calls from this generation."""
        self.generation = generation
        self.telemetry.use_policy(generation.policy)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; docs/architecture.md describes the eight steps of a call."""
        began = time.perf_counter()
        # 1. Look up the path and admit the request.
        url = request.rel_url
        path = url.raw_path
        endpoint, alias = self._by_path.get(path), ""
        if endpoint is None:
            if path == self.events_path:
                return await self._receive_events(request)
            endpoint, alias = self._with_alias(path)
        if endpoint is None or request.method not in READABLE:
            return await self._finish_refusal(self._other_response(request, path, endpoint))
        generation = self.generation
        admitted = generation.access.cached(request)
        if admitted is None:
            verified = await self._authenticate(request)
            if isinstance(verified, Refusal):
                return await self._finish_refusal(self._refused_response(verified, endpoint))
            # The generation that verified the credentials may have been closed meanwhile.
            admitted, generation = verified, self.generation
        # 2. Parse path and query.
        asked: Request = ENDPOINTS[endpoint].parse(query_params(url), alias)
        set_origin(asked, request.raw_path, admitted.peer, admitted.environment)
        call = _Call(
            request=asked,
            credential=admitted.credential,
            policy_hash=generation.policy.policy_hash,
            began=began,
            endpoint=endpoint,
            decision_id=str(uuid7()),
            generation=generation,
        )
        generation.in_flight += 1
        try:
            if self._spans is not None:
                call.span = CallSpan(self._spans, endpoint, request.headers, call.decision_id)
            # 3. Ask the plugins of the chain. 4. Take the first decision, or the default of the
            #    endpoint. 5. Render the reply.
            answer = await self._decide(call, request)
            # 6. Write the audit line. A line that is not awaited here may still be buffered: the
            #    reply batcher writes the buffered lines before it sends any reply.
            recorded = self._record(call, answer)
            if recorded is not None and not await self._is_recorded(call, recorded, request):
                self.telemetry.count_fallback(endpoint, UNRECORDED)
                rejects = generation.audit.rejects
                answer = generation.policy.audit_failure_answer(answer.outcome, rejects=rejects)
                call.line = None
            # 7. Send the reply: aiohttp prepares the returned response, which enters the batcher.
            reply = answer.reply
            response = PrerenderedResponse(reply.status, reply.content_type, reply.body)
            # 8. Count the call and schedule shadow plugins and observers, which run after it.
            self._run_after_reply(call, answer)
            return self._finish(response)
        finally:
            if call.span is not None:
                call.span.close()
            generation.end_call()

    async def _authenticate(self, request: web.BaseRequest) -> AuthenticatedRequest | Refusal:
        """Admit or refuse a request, also if a plugin cancels the task of the call meanwhile."""
        while True:
            try:
                return await self.generation.access.authenticate(request)
            except asyncio.CancelledError:
                if not _is_stray(request):
                    raise

    async def _decide(self, call: _Call, source: web.BaseRequest) -> Answer:
        policy = call.generation.policy
        error: BaseException
        try:
            return await policy.answer(call.request, call.decision_id)
        except asyncio.CancelledError:
            if not _is_stray(source):
                raise
            error = asyncio.CancelledError(_STRAY)
        except Exception as caught:  # noqa: BLE001 - an internal error must not leave a call unanswered
            error = caught
        log_fault(self.log, error, call.endpoint)
        self.telemetry.count_fallback(call.endpoint, INTERNAL)
        return policy.internal_error_answer(call.request, call.decision_id)

    def _record(self, call: _Call, answer: Answer) -> Awaitable[bool] | None:
        """Write the audit line; return what to await before the reply may be sent, if anything."""
        audit = call.generation.audit
        try:
            call.line = audit.record(call, answer)
            return audit.write(call.line)
        except Exception as error:  # noqa: BLE001 - nor must an internal error in the audit
            log_fault(self.log, error, call.endpoint)
            return audit.sink.lost()

    async def _is_recorded(
        self, call: _Call, recorded: Awaitable[bool], source: web.BaseRequest
    ) -> bool:
        """Wait for the audit line, also if a plugin cancels the task of the call meanwhile."""
        while isinstance(recorded, asyncio.Future) and not recorded.done():
            try:
                await asyncio.shield(recorded)
            except asyncio.CancelledError:
                if not _is_stray(source):
                    raise
                log_fault(self.log, asyncio.CancelledError(_STRAY), call.endpoint)
        return await recorded

    def _run_after_reply(self, call: _Call, answer: Answer) -> None:
        generation = call.generation
        try:
            self.telemetry.answered(call, answer)
            if call.span is not None:
                call.span.record_answer(answer)
            if generation.policy.has_background_work:
                outcome = answer.outcome
                if generation.policy.observers:
                    line = call.line or generation.audit.record(call, answer)
                    outcome = with_audit_line(outcome, line)
                policy, telemetry = generation.policy, self.telemetry
                audited = partial(generation.audit.shadow, policy.policy_hash)
                policy.run_background(outcome, telemetry.observed, (telemetry.shadowed, audited))
        except Exception as error:  # noqa: BLE001 - nor must one after the decision
            log_fault(self.log, error, call.endpoint)

    def _finish(self, response: PrerenderedResponse) -> PrerenderedResponse:
        """Close the connection after this response while the server drains."""
        if self.telemetry.sources.readiness is ReadinessState.DRAINING:
            response.force_close()
        return response

    async def _receive_events(self, request: web.BaseRequest) -> PrerenderedResponse:
        """Have the events of a message stored, and answer it."""
        settings, sinks = self.generation.policy.settings, self.generation.access.events
        if sinks is None or settings.events is None or self._events is None:
            response = self._other_response(request, request.rel_url.raw_path, None)
        elif request.method != hdrs.METH_POST:
            self.refusals.note(WRONG_METHOD, 405, sinks.peer(request))
            response = not_allowed(hdrs.METH_POST)
        elif isinstance(
            admitted := sinks.cached(request) or await sinks.authenticate(request), Refusal
        ):
            response = self._refused_response(admitted, "")
        else:
            source = [*settings.event_credentials][max(admitted.credential - 1, 0)]
            status = await self._events.receive(request, source, settings.events)
            if status not in (200, 503):
                self.refusals.note(BODY, status, admitted.peer, path=self.events_path)
            response = PrerenderedResponse(status)
        if not await discard(request):
            response.force_close()
        if response.status == HTTPStatus.OK:
            return self._finish(response)
        return await self._finish_refusal(response)

    async def _finish_refusal(self, response: PrerenderedResponse) -> PrerenderedResponse:
        """Finish a response to a client without credentials in the next turn of the event loop.

        From Python 3.12 on, all requests that arrive together on a connection would be answered in
        one turn, and strangers could take the time of the calls of nodes.
        """
        await asyncio.sleep(0)
        return self._finish(response)

    def _with_alias(self, path: str) -> tuple[str | None, str]:
        """Return the endpoint whose path ends in an alias, and the alias, percent-decoded once."""
        for prefix, endpoint in self._by_prefix.items():
            if path.startswith(prefix) and len(path) > len(prefix):
                return endpoint, unquote(path[len(prefix) :])
        return None, ""

    def _refused_response(self, refusal: Refusal, endpoint: str) -> PrerenderedResponse:
        facts = {"detail": refusal.detail} if refusal.detail else {}
        self.refusals.note(refusal.reason, refusal.status, refusal.peer, endpoint=endpoint, **facts)
        challenge = _CHALLENGE if refusal.status == HTTPStatus.UNAUTHORIZED else b""
        response = PrerenderedResponse(refusal.status, extra=challenge)
        if refusal.closes:
            response.force_close()
        return response

    def _other_response(
        self, request: web.BaseRequest, path: str, endpoint: str | None
    ) -> PrerenderedResponse:
        """Return the response to a request that is none of the six, or not read only."""
        is_health, peer = path in ("/livez", "/readyz"), self.generation.access.peer(request)
        is_known = endpoint is not None or is_health or path in self._by_prefix
        if is_known and request.method not in READABLE:
            self.refusals.note(WRONG_METHOD, 405, peer)
            return not_allowed()
        if is_health:
            return health(path, self.telemetry.sources.public_reasons())
        self.refusals.note(UNKNOWN_PATH, 404, peer, path=path)
        return PrerenderedResponse(404)

    def _write_refusal(self, reason: str, status: int, peer: str | None, **facts: object) -> None:
        generation = self.generation
        generation.audit.refused(reason, status, peer, generation.policy.policy_hash, **facts)
        self.telemetry.recorded()


def query_params(url: URL) -> Params:
    """Return the same as ``url.query``, for a tenth less processor time of a whole call.

    yarl decodes each name and each value. Here the query is decoded as a whole, which is the same
    unless an escape is left in it: one of ``&``, ``=``, ``+``, ``;`` or ``%``, or broken text.
    """
    decoded = url.query_string
    if "%" in decoded:
        return url.query
    pairs: Any = [pair.split("=", 1) for pair in decoded.split("&") if pair]
    try:
        return MultiDictProxy(MultiDict(pairs))
    except ValueError:  # a name without =
        return url.query


def _is_stray(source: web.BaseRequest) -> bool:
    """Return whether a plugin cancelled the task of this call, and undo that.

    The server cancels the task that reads from the connection, and never this one.
    """
    task = asyncio.current_task()
    if task is None or source.task.cancelling():
        return False
    task.uncancel()
    return True
