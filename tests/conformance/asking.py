"""Playing the probe against a server, and sorting what it found."""

from pexpolicy.conformance.call_flows import FLOWS
from pexpolicy.conformance.findings import Finding, Level
from pexpolicy.conformance.http_client import connected
from pexpolicy.conformance.runner import Probe, StepResult


async def play(
    url: str,
    flows: tuple[str, ...] = (),
    *,
    limit: float = 5.0,
    authorization: str | None = None,
) -> list[StepResult]:
    chosen = [flow for flow in FLOWS if not flows or flow.name in flows]
    async with connected(url, limit=limit, authorization=authorization) as wire:
        return [played async for played in Probe(wire, flows=chosen).play()]


def found(steps: list[StepResult], level: Level = Level.VIOLATION) -> list[Finding]:
    return [f for played in steps for f in played.findings if f.level is level]
