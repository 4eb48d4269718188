"""Spans of OpenTelemetry: one for each call, with a child for each plugin that was asked.

OpenTelemetry, the extra ``tracing``, is imported only with the table ``[tracing]``. A span names
the endpoint, plugins and outcomes, never the caller.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from pexpolicy import __version__
from pexpolicy.config.schema.server import TracingTable
from pexpolicy.models.outcome import ANSWERED
from pexpolicy.tasks import run_in_thread

if TYPE_CHECKING:
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
        from opentelemetry.propagate import extract  # noqa: PLC0415

        self.trace, self.context, self.extract = trace, context, extract
        self.tracer = provider.get_tracer("pexpolicy", __version__)


class CallSpan:
    """The span of one call, a child of a ``traceparent`` header (W3C Trace Context).

    It is the current span until it is closed, so that plugins can propagate it.
    """

    def __init__(
        self, spans: Spans, endpoint: str, headers: Mapping[str, str], decision_id: str
    ) -> None:
        self._spans = spans
        self._started = time.time_ns()
        self._span = spans.tracer.start_span(
            endpoint,
            context=spans.extract(headers),
            kind=spans.trace.SpanKind.SERVER,
            attributes={"pexpolicy.decision_id": decision_id},
            start_time=self._started,
        )
        self._context = spans.trace.set_span_in_context(self._span)
        self._token = spans.context.attach(self._context)

    def record_answer(self, answer: Answer) -> None:
        """Record the answer of the call, with names of fields, never their values."""
        outcome, started = answer.outcome, self._started
        self._span.set_attribute("pexpolicy.decided_by", outcome.decided_by)
        self._span.set_attribute("pexpolicy.action", answer.reply.action)
        self._span.set_attribute("http.response.status_code", answer.reply.status)
        for step in outcome.steps:
            child = self._spans.tracer.start_span(step.plugin, self._context, start_time=started)
            child.set_attribute("pexpolicy.outcome", step.outcome)
            if step.hook:
                child.set_attribute("pexpolicy.hook", step.hook)
            if fields := tuple(step.changes) or step.fields:
                child.set_attribute("pexpolicy.fields", fields)
            if step.outcome not in ANSWERED:
                child.set_status(self._spans.trace.StatusCode.ERROR, step.outcome)
            started += int(step.ms * 1e6)
            child.end(started)

    def close(self) -> None:
        """End the span."""
        self._spans.context.detach(self._token)
        self._span.end()


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
        ending = run_in_thread(provider.shutdown, "pexpolicy-tracing")
        with suppress(TimeoutError):
            await asyncio.wait_for(ending, SPAN_FLUSH_TIMEOUT_S)


def _hide_secrets(record: logging.LogRecord) -> bool:
    """Replace what may be secret in the URLs of a log line by ``***``; drop its traceback, whose
    messages hold URLs too.
    """
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        text = f"{text}: {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
    record.msg, record.args = _SECRET_PARTS.sub("***", text), ()
    record.exc_info = record.exc_text = None
    return True


def _provider(table: TracingTable) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    for name in tuple(logging.root.manager.loggerDict):
        if name.startswith("opentelemetry"):
            logging.getLogger(name).addFilter(_hide_secrets)
    resource = Resource.create({"service.name": "pexpolicy", "service.version": __version__})
    resource = resource.merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=table.endpoint)))
    return provider
