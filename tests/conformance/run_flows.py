"""Runs of the conformance test against a server, and its findings by level."""

from pexpolicy.conformance.findings import Finding, Level
from pexpolicy.conformance.http_client import connected
from pexpolicy.conformance.runner import FLOWS, ConformanceTest, StepResult


async def run_flows(
    url: str, flows: tuple[str, ...] = (), *, limit: float = 5.0, authorization: str | None = None
) -> list[StepResult]:
    chosen = [flow for flow in FLOWS if not flows or flow.name in flows]
    async with connected(url, limit=limit, authorization=authorization) as wire:
        return [result async for result in ConformanceTest(wire, flows=chosen).run()]


FAULTS = (Level.CONTRACT, Level.OPERATION, Level.FALLBACK)


def found(steps: list[StepResult], *levels: Level) -> list[Finding]:
    """Return the findings of some levels, by default all but warnings."""
    return [f for result in steps for f in result.findings if f.level in (levels or FAULTS)]
