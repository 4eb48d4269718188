"""Spans of OpenTelemetry: one for each call, with a child for each plugin that was asked.

OpenTelemetry, the extra ``tracing``, is imported only with the table ``[tracing]``. A span names
the endpoint, plugins and outcomes, never the caller.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from pexpolicy import __version__
from pexpolicy.config.schema.server import TracingTable
from pexpolicy.models.outcome import ANSWERED, Step

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

    from pexpolicy.policy import Answer

SPAN_FLUSH_TIMEOUT_S = 2.0
"""Time to send the last spans when the server stops."""
_SECRET_PARTS = re.compile(r"(?<=//)[^/@\s]+(?=@)|(?<=\?)[^\s'\")]+")
"""The user and password, and the query, of a URL in a text."""


class Spans:
    """Creates the spans of calls, which ``provider`` exports."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import context, trace  # noqa: PLC0415 - an extra
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        self.trace, self.context = trace, context
        self.tracer = provider.get_tracer("pexpolicy", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, endpoint: str, headers: Mapping[str, str], decision_id: str) -> CallSpan:
        """Start the span of a call, as a child of a ``traceparent`` header (W3C Trace Context).

        It is the current span until it is closed, so that plugins can propagate it.
        """
        context = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        parent = self._propagator.extract(context) if context else None
        return CallSpan(self, endpoint, parent, decision_id)


class CallSpan:
    """The span of one call."""

    def __init__(
        self, spans: Spans, endpoint: str, parent: Context | None, decision_id: str
    ) -> None:
        self._spans = spans
        self._started = time.time_ns()
        self._span = spans.tracer.start_span(
            endpoint,
            context=parent,
            kind=spans.trace.SpanKind.SERVER,
            attributes={"pexpolicy.decision_id": decision_id},
            start_time=self._started,
        )
        self._context = spans.trace.set_span_in_context(self._span)
        self._token = spans.context.attach(self._context)

    def record_answer(self, answer: Answer) -> None:
        """Record the answer of the call."""
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
        started = self._started
        for step in outcome.steps:
            ended = started + int(step.ms * 1e6)
            child = self._spans.tracer.start_span(
                step.plugin,
                context=self._context,
                attributes=_attributes(step),
                start_time=started,
            )
            if step.outcome not in ANSWERED:
                child.set_status(self._spans.trace.StatusCode.ERROR, step.outcome)
            child.end(ended)
            started = ended

    def close(self) -> None:
        """End the span."""
        self._spans.context.detach(self._token)
        self._span.end()


def _attributes(step: Step) -> dict[str, str | Sequence[str]]:
    """Return the attributes of a step: names of fields, never their values."""
    found: dict[str, str | Sequence[str]] = {"pexpolicy.outcome": step.outcome}
    if step.hook:
        found["pexpolicy.hook"] = step.hook
    if fields := tuple(step.changes) or step.fields:
        found["pexpolicy.fields"] = fields
    return found


@asynccontextmanager
async def exporter(table: TracingTable | None) -> AsyncIterator[Spans | None]:
    """Yield the spans of a configuration, or ``None``; send the last ones at the end."""
    if table is None:
        yield None
        return
    provider = _provider(table)
    try:
        yield Spans(provider)
    finally:
        # In a thread, as an unreachable collector must not delay the shutdown.
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def end() -> None:
            provider.shutdown()
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=end, name="pexpolicy-tracing", daemon=True).start()
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), SPAN_FLUSH_TIMEOUT_S)


class SecretFilter(logging.Filter):
    """Replaces what may be secret in the URLs of log lines by ``***``; drops tracebacks, whose
    messages hold URLs too.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; return true, since it is not dropped."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text}: {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        record.msg, record.args = _SECRET_PARTS.sub("***", text), ()
        record.exc_info = record.exc_text = None
        return True


def _provider(table: TracingTable) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    for name in tuple(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        if name.startswith("opentelemetry") and not any(
            isinstance(known, SecretFilter) for known in logger.filters
        ):
            logger.addFilter(SecretFilter())
    resource = Resource.create({"service.name": "pexpolicy", "service.version": __version__})
    resource = resource.merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=table.endpoint)))
    return provider
