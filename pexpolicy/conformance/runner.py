"""Playing the flows: asking, learning from each answer, and judging it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from pexpolicy.conformance.call_flows import FLOWS, breakout_room
from pexpolicy.conformance.check_reply import judge
from pexpolicy.conformance.findings import (
    CheckResult,
    Finding,
    Level,
    SentRequest,
    Topic,
    violation,
)
from pexpolicy.conformance.flow_steps import CallState, Flow, Step
from pexpolicy.conformance.http_checks import HEAD, Transport
from pexpolicy.conformance.http_client import Reply, Wire
from pexpolicy.conformance.repeatability import ServiceConsistency, compare

MAX_BREAKOUTS = 5
"""Breakout rooms of one main room that are followed."""
PATIENCE = 5
"""Requests in a row without a reply after which the probe gives up."""
TRANSPORT = "HTTP itself"


class UnreachableError(Exception):
    """Nobody answers at the address, so there is nothing to judge."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step that was played, and what was found."""

    flow: str
    step: str
    endpoint: str
    target: str
    status: int
    seconds: float
    findings: tuple[Finding, ...]
    method: str = "GET"

    @property
    def violated(self) -> bool:
        """True when a rule was broken that Pexip documents."""
        return any(finding.level is Level.VIOLATION for finding in self.findings)


class Probe:
    """Plays flows over a wire: ``alias`` is dialed; ``caller`` calls, registers and is pictured."""

    def __init__(
        self,
        wire: Wire,
        *,
        alias: str = "meet.bob",
        caller: str = "alice@example.com",
        flows: Sequence[Flow] = FLOWS,
    ) -> None:
        self.flows = flows
        self._wire = wire
        self._alias = alias
        self._caller = caller
        self._services = ServiceConsistency()
        self._transport = Transport(wire.base, wire.authorization, wire.limit)
        self._followed: set[str] = set()
        self._wavering: set[tuple[str, str]] = set()
        self._silent = 0
        self._answered = False
        self._late = False

    @property
    def length(self) -> int:
        """How many steps there are; breakout rooms that a server announces come on top."""
        return sum(len(flow.steps) for flow in self.flows) + len(self._transport.checks)

    async def play(self) -> AsyncIterator[StepResult]:
        """Each step as it was played. Raises ``UnreachableError``."""
        for flow in self.flows:
            async for played in self._flow(flow):
                yield played
                if self._silent >= PATIENCE:
                    yield _gave_up(flow)
                    if self._late:
                        return
                    break
            if self._silent >= PATIENCE:
                break
        async for played in self._http():
            yield played

    async def _flow(self, flow: Flow) -> AsyncIterator[StepResult]:
        known = CallState(self._alias, self._caller)
        judged: dict[str, CheckResult] = {}
        steps = list(flow.steps)
        while steps:
            step = steps.pop(0)
            played, judged[step.name] = await self._step(flow, step, known, judged)
            yield played
            steps[:0] = self._breakouts(step, judged[step.name])

    async def _step(
        self, flow: Flow, step: Step, known: CallState, earlier: dict[str, CheckResult]
    ) -> tuple[StepResult, CheckResult]:
        pairs = known.pairs(step.query)
        target = known.target(step, pairs)
        asked = SentRequest(
            step.endpoint, dict(reversed(pairs)), step.strain, step.breakout, step.traces
        )
        reply = await self._wire.get(target)
        self._note(reply)
        judged = judge(asked, reply, self._wire.limit)
        findings = [
            *judged.findings,
            *self._compared(flow, step, judged, earlier),
            *self._services.compare(asked, judged, f"{flow.name}: {step.name}"),
        ]
        if step.endpoint == "service_configuration" and _is_call(asked):
            known.learn(judged.service, asked.query)
        return _played(flow, step, target, reply, findings), judged

    def _compared(
        self, flow: Flow, step: Step, judged: CheckResult, earlier: dict[str, CheckResult]
    ) -> list[Finding]:
        """What the comparison with an earlier step shows; one that wavers is no measure."""
        like = (flow.name, step.same_as)
        if like in self._wavering:
            return []
        findings = compare(step, judged, earlier.get(step.same_as))
        if any(finding.topic is Topic.REPEATABLE for finding in findings):
            self._wavering.add(like)
        return findings

    def _breakouts(self, step: Step, judged: CheckResult) -> list[Step]:
        """The requests that a main room's ``breakout_uuids`` cause; each room is visited once."""
        uuids = judged.service.get("breakout_uuids") or ()
        if step.breakout or not uuids:
            return []
        name = str(judged.service["name"])
        fresh = [uuid for uuid in uuids[:MAX_BREAKOUTS] if uuid not in self._followed]
        self._followed.update(fresh)
        return [
            replace(
                step,
                name=f"{step.name}: breakout room {number}",
                query=breakout_room(step.query, name, uuid),
                breakout=uuid,
                same_as="",
            )
            for number, uuid in enumerate(fresh, 1)
        ]

    def _note(self, reply: Reply) -> None:
        if reply.refused and not self._answered:
            raise UnreachableError(reply.failure)
        self._answered = True
        self._silent = self._silent + 1 if reply.failure else 0
        self._late = reply.late

    async def _http(self) -> AsyncIterator[StepResult]:
        known = CallState(self._alias, self._caller)
        step = self.flows[0].steps[0]
        target = known.target(step, known.pairs(step.query))
        path = self._wire.path + target
        for name, check in self._transport.checks.items():
            findings = tuple(await check(path))
            method = HEAD if name == HEAD else "GET"
            yield StepResult(TRANSPORT, name, step.endpoint, target, 0, 0.0, findings, method)


def _played(
    flow: Flow, step: Step, target: str, reply: Reply, findings: list[Finding]
) -> StepResult:
    return StepResult(
        flow.name, step.name, step.endpoint, target, reply.status, reply.seconds, tuple(findings)
    )


def _is_call(asked: SentRequest) -> bool:
    """True for a request whose answer becomes the service of the call."""
    return asked.get("call_direction") == "dial_in" and not asked.get("breakout_uuid")


def _gave_up(flow: Flow) -> StepResult:
    text = f"no reply to {PATIENCE} requests in a row: the rest was not played"
    finding = violation(Topic.CONNECTION, text)
    return StepResult(flow.name, "gave up", "", "", 0, 0.0, (finding,))
