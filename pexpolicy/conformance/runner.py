"""The runner of the call flows of flows.toml: it sends each request, checks the reply, and learns.

A flow has the requests of a node in their order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus
from importlib import resources
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus, urlencode

import msgspec
from msgspec import Struct

from pexpolicy.conformance.findings import (
    REPORTED,
    TRANSCRIBED,
    Finding,
    SentRequest,
    Topic,
    difference,
    differing_fields,
    operation,
    violation,
    warning,
)
from pexpolicy.conformance.http_client import Wire
from pexpolicy.conformance.replies import CheckResult, judge
from pexpolicy.endpoints import ENDPOINTS

AGAIN = "the same request must get the same decision"


class Step(Struct, frozen=True, kw_only=True):
    """One request of a flow.

    ``same_as`` names an earlier step of the flow that must get the same decision; ``because`` says
    why, and ``certain`` whether Pexip documents it. ``strain`` marks a request that a server may
    refuse to read.
    """

    endpoint: str
    name: str
    query: dict[str, str | list[str]] = {}
    """Values of parameters, some with several; a value may be a placeholder, such as ``<caller>``.
    """
    only: str = ""
    """Parts of which the request consists, instead of those of its template."""
    without: tuple[str, ...] = ()
    """Parameters that are not sent."""
    caller: str = ""
    """By default the caller of the flow."""
    alias: str = ""
    """The alias in the path as it is sent; by default that of the caller."""
    blank: str = "+"
    """How a blank is sent: as a plus, or as %20."""
    same_as: str = ""
    because: str = AGAIN
    certain: bool = True
    strain: bool = False
    traces: str = ""
    """The name of texts that show a wrong decoding."""


class Flow(Struct, frozen=True):
    """The requests of one call, search or registration, in their order."""

    name: str
    steps: tuple[Step, ...]
    version: str = "v39"
    caller: str = ""


class _File(Struct):
    parts: dict[str, str]
    templates: dict[str, dict[str, str]]
    callers: dict[str, dict[str, str]]
    traces: dict[str, tuple[tuple[str, str], ...]]
    flows: tuple[Flow, ...]


_FILE = msgspec.toml.decode(
    (resources.files("pexpolicy.conformance") / "flows.toml").read_bytes(), type=_File
)
FLOWS = _FILE.flows
"""All flows, in the order in which they are sent."""
TRACES = _FILE.traces
"""What shows that a request was decoded wrongly, by the name of the text that is sent."""


def parameters_of(flow: Flow, step: Step) -> dict[str, str | list[str]]:
    """Return the parameters of a step: its parts, the values of the caller, and its own."""
    query: dict[str, str | list[str]] = {}
    for part in (step.only or _FILE.templates[step.endpoint][flow.version]).split():
        if part.startswith("-"):
            query.pop(part[1:], None)
        else:
            query |= dict(pair.split("=", 1) for pair in _FILE.parts[part].split())
    caller = _FILE.callers.get(step.caller or flow.caller, {})
    query |= {name: value for name, value in caller.items() if name in query}
    query |= step.query
    for name in step.without:
        del query[name]
    return query


class CallState(Struct):
    """The state of a node during one flow."""

    alias: str
    caller: str
    service: Mapping[str, Any] = {}
    name: str = ""
    """That of the service; empty before the first answer."""
    previous: str = ""

    def value(self, text: str) -> str:
        """Return a text, or the value of a placeholder at this point of the flow."""
        known = {
            "<alias>": self.alias,
            "<sip_alias>": sip_uri(self.alias),
            "<caller>": self.caller,
            "<service_name>": self.name or self.alias,
            "<service_tag>": str(self.service.get("service_tag", "")),
            "<previous_name>": self.previous,
            "<20 KB>": "x" * 20_000,
        }
        return known.get(text, text)

    def learn(self, service: Mapping[str, Any], asked: Mapping[str, str]) -> None:
        """Store the service of an answer.

        Without one the node uses its own service of that alias.
        """
        if asked.get("previous_service_name"):
            self.previous = self.name or self.alias
        self.service = service
        self.name = str(service.get("name") or asked.get("local_alias") or self.alias)

    def request(self, flow: Flow, step: Step) -> tuple[str, SentRequest]:
        """Return the path and query of a step, exactly as they are sent, and what they ask."""
        pairs = [
            (name, self.value(one))
            for name, value in parameters_of(flow, step).items()
            for one in ([value] if isinstance(value, str) else value)
        ]
        path = ENDPOINTS[step.endpoint].path
        if path.endswith("/"):
            path += step.alias or quote(self.caller, safe="")
        target = f"{path}?{urlencode(pairs, quote_via=quote_plus if step.blank == '+' else quote)}"
        traces = TRACES.get(step.traces, ())
        return target, SentRequest(step.endpoint, dict(reversed(pairs)), step.strain, traces)


def sip_uri(alias: str) -> str:
    """Return the full SIP URI of an alias; a bare name gets the host example.com."""
    if alias.partition(":")[0].lower() in ("sip", "sips"):
        return alias
    return f"sip:{alias}" if "@" in alias else f"sip:{alias}@example.com"


PER_PARTICIPANT = {
    "pin",
    "guest_pin",
    "host_identity_provider_group",
    "guest_identity_provider_group",
    "max_callrate_in",
    "max_callrate_out",
}
"""Fields of a service that may differ from one participant to the next."""
MAX_FAILURES = 5
"""Requests in a row without a reply after which the rest is not sent."""
HTTP_FLOW = "HTTP itself"


class UnreachableError(Exception):
    """The first request found no HTTP server at the address."""


class UnauthorizedError(Exception):
    """The first request was answered with 401."""


class StepResult(NamedTuple):
    """One step that was sent, with its findings."""

    flow: str
    step: str
    endpoint: str = ""
    target: str = ""
    status: int = 0
    seconds: float = 0.0
    findings: tuple[Finding, ...] = ()

    @property
    def fails(self) -> bool:
        """True if a finding fails the server."""
        return any(finding.level.fails for finding in self.findings)


class ConformanceTest(Struct):
    """Sends the requests of flows: ``alias`` is dialed; ``caller`` calls and registers."""

    wire: Wire
    alias: str = "meet.bob"
    caller: str = "alice@example.com"
    flows: Sequence[Flow] = FLOWS
    services: dict[str, tuple[Mapping[str, Any], str]] = {}
    """By name, each service as it was first answered, and where."""
    failures: int = 0
    """Requests in a row without a reply."""
    answered: bool = False

    async def run(self) -> AsyncIterator[StepResult]:
        """Yield the result of each step. Raises ``UnreachableError`` and ``UnauthorizedError``."""
        for flow in self.flows:
            state = CallState(self.alias, self.caller)
            judged: dict[str, CheckResult] = {}
            for step in flow.steps:
                result, judged[step.name] = await self._step(flow, step, state, judged)
                yield result
                if self.failures >= MAX_FAILURES:
                    text = f"no reply to {MAX_FAILURES} requests in a row: the rest was not sent"
                    finding = operation(Topic.CONNECTION, text)
                    yield StepResult(flow.name, "gave up", findings=(finding,))
                    return
        if self.wire.authorization is not None:  # at last the first request without credentials
            flow, step = self.flows[0], self.flows[0].steps[0]
            target, _ = CallState(self.alias, self.caller).request(flow, step)
            reply = await self.wire._replace(authorization=None).get(target)
            doubt = warning(Topic.AUTHENTICATION, "the server also answers without credentials")
            findings = (doubt,) if reply.status == HTTPStatus.OK else ()
            yield StepResult(HTTP_FLOW, "no credentials", step.endpoint, target, findings=findings)

    async def _step(
        self, flow: Flow, step: Step, state: CallState, earlier: dict[str, CheckResult]
    ) -> tuple[StepResult, CheckResult]:
        target, asked = state.request(flow, step)
        reply = await self.wire.get(target)
        if not self.answered and reply.refused:
            raise UnreachableError(reply.failure)
        if not self.answered and reply.status == HTTPStatus.UNAUTHORIZED:
            raise UnauthorizedError
        self.answered = True
        self.failures = self.failures + 1 if reply.failure else 0
        judged = judge(asked, reply, self.wire.limit)
        compared = compare(step, judged, earlier.get(step.same_as))
        if any(finding.topic is Topic.REPEATABLE for finding in compared):
            del earlier[step.same_as]  # further comparisons with it would tell the same
        consistent = self._consistent(asked, judged, f"{flow.name}: {step.name}")
        findings = (*judged.findings, *compared, *consistent)
        is_call = asked.get("call_direction") == "dial_in" and not asked.get("breakout_uuid")
        if step.endpoint == "service_configuration" and is_call:
            state.learn(judged.service, asked.query)
        facts = (step.endpoint, target, reply.status, reply.seconds, findings)
        return StepResult(flow.name, step.name, *facts), judged

    def _consistent(self, asked: SentRequest, judged: CheckResult, where: str) -> list[Finding]:
        """Return a finding if a service differs from an earlier one of the same name (rule 14)."""
        service = judged.service
        is_breakout = service.get("breakout") is True or asked.get("breakout_uuid")
        # Before dialing out only the name counts, and prefer_ipv6.
        if not service or is_breakout or asked.get("call_direction") == "dial_out":
            return []
        stable = {n: v for n, v in service.items() if n not in PER_PARTICIPANT}
        before, first = self.services.setdefault(str(service["name"]), (stable, where))
        if before == stable:
            return []
        what = f"{differing_fields(before, stable)}, first in {first}"
        # The name of a gateway must be unique for each call.
        make = warning if service["service_type"] == "gateway" else violation
        text = f"the service differs from an earlier one of the same name ({what})"
        return [make(Topic.CONSISTENT, text, TRANSCRIBED)]


def compare(step: Step, judged: CheckResult, earlier: CheckResult | None) -> list[Finding]:
    """Return a finding if a step got another decision than its earlier equivalent."""
    if earlier is None or earlier.decision is None or judged.decision is None:
        return []
    if earlier.broken or judged.broken or earlier.decision == judged.decision:
        return []
    what = difference(earlier.decision, judged.decision)
    text = f"not the same decision as “{step.same_as}” ({what}): {step.because}"
    again = step.because == AGAIN
    if judged.service.get("service_type") == "gateway" and what == "name differs":
        # It must be unique for each call.
        return [warning(Topic.REPEATABLE, text, TRANSCRIBED)] if again else []
    topic = Topic.REPEATABLE if again else Topic.CONSISTENT
    if step.certain:
        return [violation(topic, text, TRANSCRIBED)]
    return [warning(topic, text, REPORTED)]
