"""Spans of OpenTelemetry: one for each call, with one below it for each plugin that was asked.

Nothing of OpenTelemetry is imported unless ``[tracing]`` of the configuration asks for it; it is
the extra ``tracing``. A span names endpoint, plugins and outcomes, and nobody who calls.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pexpolicy import __version__
from pexpolicy.config.problems import Problem
from pexpolicy.config.schema.server import TracingTable
from pexpolicy.models.outcome import ABSTAINED, DECIDED

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

    from pexpolicy.policy import Answer

SHUTDOWN_TIMEOUT_S = 2.0
"""Seconds for the last spans to leave when the server ends."""
_NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def missing() -> list[Problem]:
    """What keeps spans from being sent here: the extra is not installed."""
    if all(_is_there(module) for module in _NEEDED):
        return []
    text = "needs the extra: install pexpolicy[tracing], or leave the table out"
    return [Problem(("tracing",), text)]


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


class Spans:
    """Makes the spans of calls; ``provider`` says what becomes of them."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import context, trace  # noqa: PLC0415 - an extra
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        self.trace, self.context = trace, context
        self.tracer = provider.get_tracer("pexpolicy", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, endpoint: str, headers: Mapping[str, str], decision_id: str) -> CallSpan:
        """Begin the span of a call, below the one that a ``traceparent`` header names (W3C Trace
        Context). Until it is closed it is the current one, for plugins that ask others.
        """
        given = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        above = self._propagator.extract(given) if given else None
        return CallSpan(self, endpoint, above, decision_id)


class CallSpan:
    """The span of one call."""

    def __init__(
        self, spans: Spans, endpoint: str, above: Context | None, decision_id: str
    ) -> None:
        self._spans = spans
        self._began = time.time_ns()
        self._span = spans.tracer.start_span(
            endpoint,
            context=above,
            kind=spans.trace.SpanKind.SERVER,
            attributes={"pexpolicy.decision_id": decision_id},
            start_time=self._began,
        )
        self._context = spans.trace.set_span_in_context(self._span)
        self._token = spans.context.attach(self._context)

    def record_answer(self, answer: Answer) -> None:
        """Say what became of the call."""
        span, outcome = self._span, answer.outcome
        if not span.is_recording():
            return
        span.set_attributes(
            {
                "pexpolicy.decided_by": outcome.decided_by,
                "pexpolicy.action": answer.reply.action,
                "http.response.status_code": answer.reply.status,
            }
        )
        began = self._began
        for step in outcome.steps:
            ended = began + int(step.ms * 1e6)
            below = self._spans.tracer.start_span(
                step.plugin,
                context=self._context,
                attributes={"pexpolicy.outcome": step.outcome},
                start_time=began,
            )
            if step.outcome not in (DECIDED, ABSTAINED):
                below.set_status(self._spans.trace.StatusCode.ERROR, step.outcome)
            below.end(ended)
            began = ended

    def close(self) -> None:
        """End the span, whatever became of the call."""
        self._spans.context.detach(self._token)
        self._span.end()


@asynccontextmanager
async def exporter(table: TracingTable | None) -> AsyncIterator[Spans | None]:
    """The spans that a configuration asks for, or ``None``; on leaving, the last ones are sent."""
    if table is None:
        yield None
        return
    provider = _provider(table)
    try:
        yield Spans(provider)
    finally:
        # A collector that does not answer must not keep the server from its end.
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def end() -> None:
            provider.shutdown()
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=end, name="pexpolicy-tracing", daemon=True).start()
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), SHUTDOWN_TIMEOUT_S)


def _provider(table: TracingTable) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415

    resource = Resource.create({"service.name": table.service_name, "service.version": __version__})
    sampler = ParentBased(TraceIdRatioBased(table.sample))
    provider = TracerProvider(resource=resource, sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=table.endpoint)))
    return provider
