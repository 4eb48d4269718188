"""Spans of calls, as a collector receives them."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pexpolicy.access.warnings import preflight_problems
from pexpolicy.config.schema.server import TracingTable
from pexpolicy.observability import tracing
from pexpolicy.observability.tracing import Spans
from tests.support import fake_plugins, forked, live_server, secret_canaries, wire
from tests.support.admin_client import serve_with_admin
from tests.support.fake_plugins import plugin, policy

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """An OTLP collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        collector = self

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.received.append(body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Receiver)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}/v1/traces"

    def spans(self) -> list[tuple[dict[str, str], Span]]:
        """The spans, each with the attributes of the service that sent it."""
        found = []
        for body in self.received:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = {a.key: a.value.string_value for a in resource.resource.attributes}
                for scope in resource.scope_spans:
                    found += [(service, span) for span in scope.spans]
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def in_memory() -> tuple[InMemorySpanExporter, Spans]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter, Spans(provider)


def attributes(span: Span) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


def traced(folder: Path, table: str) -> Path:
    config = live_server.with_audit(live_server.SHIPPED, folder, f"[tracing]\n{table}")
    assert "[tracing]" in config.read_text()
    return config


def test_a_collector_receives_a_span_for_a_call_and_one_for_each_plugin(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "policy-oslo")
    config = traced(tmp_path, f'endpoint = "{collector.endpoint}"\n')
    query = f"local_alias=engineering&{secret_canaries.query('service_configuration')}"
    given = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
    with live_server.running(config) as server:
        server.ask(f"{wire.SERVICE}?{query}", headers=given)
        server.ask(wire.REGISTRATION + "mallory@example.net")
        call, _ = server.lines()
    # The last spans leave when the server ends.
    spans = {span.name: (service, span) for service, span in collector.spans()}
    assert set(spans) == {"service_configuration", "rooms", "registration_alias", "domains"}
    service, above = spans["service_configuration"]
    _, below = spans["rooms"]
    assert service["service.name"] == "policy-oslo"
    assert (above.trace_id.hex(), above.parent_span_id.hex()) == (TRACE, PARENT)
    assert above.kind == Span.SPAN_KIND_SERVER
    assert (below.trace_id, below.parent_span_id) == (above.trace_id, above.span_id)
    assert attributes(above) == {
        "pexpolicy.decision_id": call["decision_id"],
        "pexpolicy.decided_by": "rooms",
        "pexpolicy.action": "continue",
        "http.response.status_code": 200,
    }
    assert attributes(below) == {"pexpolicy.outcome": "decided"}
    assert above.start_time_unix_nano <= below.start_time_unix_nano
    assert below.start_time_unix_nano < below.end_time_unix_nano <= above.end_time_unix_nano
    _, other = spans["registration_alias"]
    assert other.trace_id != above.trace_id
    sent = b"".join(collector.received)
    assert not secret_canaries.find_canaries(sent.decode("latin-1"))
    assert b"mallory" not in sent


def test_a_part_of_the_calls_is_traced_where_that_is_asked_for(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.0")
    with live_server.running(traced(tmp_path, f'endpoint = "{collector.endpoint}"\n')) as server:
        server.ask(wire.SERVICE)
        server.ask(wire.LOCATION, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    # The caller may have chosen this call for tracing.
    assert [span.name for _, span in collector.spans()] == ["media_location"]


async def test_a_plugin_sees_the_span_and_one_that_fails_marks_its_own(tmp_path: Path) -> None:
    seen: list[int] = []

    async def asks(_: object) -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)
        raise ValueError

    exporter, spans = in_memory()
    made = policy({"toy": plugin(service_configuration=asks)})
    async with serve_with_admin(made, tmp_path, spans=spans) as server:
        await server.ask(wire.SERVICE)
    below, above = exporter.get_finished_spans()
    assert above.context is not None
    assert seen == [above.context.span_id]
    assert below.status.status_code is trace.StatusCode.ERROR
    assert below.status.description == "failed"
    assert not trace.get_current_span().get_span_context().is_valid
    assert trace.StatusCode.ERROR.value == Status.STATUS_CODE_ERROR


async def test_the_endpoint_is_named_without_its_secrets(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = "http://user:hunter2@127.0.0.1:9/v1/traces?api_key=hunter3"
    async with tracing.exporter(TracingTable(endpoint=endpoint)) as spans:
        assert spans is not None
        spans.tracer.start_span("call").end()
    assert "/v1/traces?***" in caplog.text
    assert "hunter" not in caplog.text


def test_without_the_table_nothing_of_it_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys\nimport pexpolicy.cli.serve\n"
        "late = [m for m in sys.modules if m.startswith(('opentelemetry', 'prometheus_client'))]\n"
        "sys.exit(str(late) if late else 0)"
    )
    with forked.Process(program=program) as process:
        assert process.stderr.read() == ""
    assert process.wait() == 0


def test_the_table_without_the_extra_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = fake_plugins.settings(tracing={})
    assert not [*preflight_problems(settings)]
    monkeypatch.setattr("pexpolicy.access.warnings.TRACING", "opentelemetry_that_is_not_there.sdk")
    (problem,) = preflight_problems(settings)
    assert str(problem).startswith("tracing: needs the extra: install pexpolicy[tracing]")
