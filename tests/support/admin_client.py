"""Server in the test process with an admin listener, and its metrics as numbers."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from pexpolicy.observability.metrics import Snapshot, expose
from pexpolicy.observability.telemetry import StateSources, Telemetry
from pexpolicy.observability.tracing import Spans
from pexpolicy.policy import Policy
from pexpolicy.server.generations import generation_of
from pexpolicy.server.http import listener as listen
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.route_listeners import admin_listener, bind
from tests.support import fake_plugins, wire
from tests.support.fake_plugins import open_audit

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Metrics:
    """Samples by name and labels."""

    samples: Mapping[tuple[str, Labels], float]

    def __call__(self, name: str, **labels: str) -> float:
        """Return one sample; raise ``KeyError`` if there is none."""
        return self.samples[f"pexpolicy_{name}", frozenset(labels.items())]

    def nonzero(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the nonzero samples of a name by their label values."""
        return {
            tuple(value for _, value in sorted(labels)): number
            for (found, labels), number in self.samples.items()
            if found == f"pexpolicy_{name}" and number
        }


def parse(text: str) -> Metrics:
    """Parse a scrape with Prometheus' own parser."""
    return Metrics(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )


def metrics_of(snapshot: Snapshot) -> Metrics:
    """Return the metrics of a snapshot."""
    return parse(expose(snapshot).decode())


@dataclass(frozen=True)
class ServerWithAdmin:
    """A server and its admin listener."""

    server: fake_plugins.Serving
    telemetry: Telemetry
    service: PolicyApp
    admin: int

    async def ask(self, target: str | bytes, **options: Any) -> wire.Reply:
        """Send one request of a node."""
        return await self.server.ask(target, **options)

    async def operator(self, path: str, **options: Any) -> wire.Reply:
        """Send one request to the admin listener."""
        options["headers"] = {"Host": "127.0.0.1", **options.get("headers", {})}
        return await wire.ask(self.admin, path, **options)

    async def metrics(self) -> Metrics:
        """Scrape the metrics."""
        return parse((await self.operator("/metrics")).body.decode())

    async def status(self) -> Any:
        """Return the document of `/status`."""
        return (await self.operator("/status")).json


@asynccontextmanager
async def serve_with_admin(
    policy: Policy,
    folder: Path,
    *,
    sources: StateSources | None = None,
    spans: Spans | None = None,
    in_server: bool = False,
) -> AsyncIterator[ServerWithAdmin]:
    """Serve a policy with an admin listener."""
    log = fake_plugins.Log()
    audit = open_audit(folder / "audit.jsonl")
    telemetry = Telemetry(sources)
    generation = generation_of(policy, audit)
    service = PolicyApp(generation, log, "", telemetry, spans)
    bound, _ = bind(policy.settings, log, 0)
    assert bound is not None
    listener = listen.bind("127.0.0.1", 0)
    try:
        async with (
            policy.serving(in_server=in_server),
            admin_listener(service, bound),
            listen.Listener(service, listener).open(),
        ):
            server = fake_plugins.Serving(listener.getsockname()[1], folder / "audit.jsonl", log)
            yield ServerWithAdmin(server, telemetry, service, bound.getsockname()[1])
    finally:
        audit.close()
