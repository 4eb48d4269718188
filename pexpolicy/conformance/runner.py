"""The runner of the call flows of flows.toml: it sends each request, checks the reply, and learns.

A flow has the requests of a node in their order.
"""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from importlib import resources
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

from pexpolicy.conformance.check_reply import CheckResult, judge
from pexpolicy.conformance.findings import (
    REPORTED,
    TRANSCRIBED,
    DecodingMarker,
    Finding,
    SentRequest,
    Topic,
    difference,
    differing_fields,
    operation,
    violation,
    warning,
)
from pexpolicy.conformance.http_client import Wire, connected
from pexpolicy.endpoints import ENDPOINTS

Query = Mapping[str, str | list[str]]
"""Parameters, some with several values; a value may be a placeholder, such as ``<caller>``."""
AGAIN = "the same request must get the same decision"
NEWEST = "v39"
_ENDPOINTS = {
    "service": "service_configuration",
    "participant": "participant_properties",
    "location": "media_location",
    "avatar": "participant_avatar",
    "directory_avatar": "participant_avatar",
    "search": "directory_information",
    "registration": "registration_alias",
}
"""The endpoint of each template."""
_NEVER_EMPTY = ("call_direction", "node_ip", "version_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One request of a flow.

    ``same_as`` names an earlier step of the flow that must get the same decision; ``because`` says
    why, and ``certain`` whether Pexip documents it. ``strain`` marks a request that a server may
    refuse to read.
    """

    name: str
    endpoint: str
    query: Query
    alias: str = ""
    """The alias in the path: raw text as it is sent, or a placeholder."""
    blank: str = "+"
    """How a blank is sent: as a plus, or as %20."""
    same_as: str = ""
    because: str = AGAIN
    certain: bool = True
    strain: bool = False
    traces: tuple[DecodingMarker, ...] = ()


@dataclass(frozen=True, slots=True)
class Flow:
    """The requests of one call, search or registration, in their order."""

    name: str
    steps: tuple[Step, ...]


class CallState:
    """The state of a node during one flow."""

    def __init__(self, alias: str, caller: str) -> None:
        self.alias = alias
        self.caller = caller
        self.service: Mapping[str, Any] = {}
        self._name = alias
        self._previous = ""

    def value(self, text: str) -> str:
        """Return a text, or the value of a placeholder at this point of the flow."""
        known = {
            "<alias>": self.alias,
            "<sip_alias>": sip_uri(self.alias),
            "<caller>": self.caller,
            "<service_name>": self._name,
            "<service_tag>": str(self.service.get("service_tag", "")),
            "<previous_name>": self._previous,
        }
        return known.get(text, text)

    def learn(self, service: Mapping[str, Any], asked: Mapping[str, str]) -> None:
        """Store the service of an answer.

        Without one the node uses its own service of that alias.
        """
        if asked.get("previous_service_name"):
            self._previous = self._name
        self.service = service
        self._name = str(service.get("name") or asked.get("local_alias") or self.alias)

    def request(self, step: Step) -> tuple[str, SentRequest]:
        """Return the path and query of a step, exactly as they are sent, and what they ask."""
        pairs = [
            (name, self.value(one))
            for name, value in step.query.items()
            for one in ([value] if isinstance(value, str) else value)
        ]
        known = self.value(step.alias)
        alias = step.alias if known == step.alias else quote(known, safe="")
        escape = quote_plus if step.blank == "+" else quote
        target = f"{ENDPOINTS[step.endpoint].path}{alias}?{urlencode(pairs, quote_via=escape)}"
        return target, SentRequest(step.endpoint, dict(reversed(pairs)), step.strain, step.traces)


def sip_uri(alias: str) -> str:
    """Return the full SIP URI of an alias; a bare name gets the host example.com."""
    if alias.partition(":")[0].lower() in ("sip", "sips"):
        return alias
    return f"sip:{alias}" if "@" in alias else f"sip:{alias}@example.com"


_FILE = tomllib.loads(
    (resources.files("pexpolicy.conformance") / "flows.toml").read_text(encoding="utf-8")
)
TRACES: Mapping[str, tuple[DecodingMarker, ...]] = {
    name: tuple(DecodingMarker(*marker) for marker in markers)
    for name, markers in _FILE["traces"].items()
}
"""What shows that a request was decoded wrongly, by the name of the text that is sent."""


def _parameters(parts: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in parts.split():
        if part.startswith("-"):
            found.pop(part[1:], None)
        else:
            found |= dict(pair.split("=", 1) for pair in _FILE["parts"][part].split())
    return found


def _step(flow: Mapping[str, Any], table: dict[str, Any]) -> Step:
    """Return a step: a template, the values of the caller, and those of the step itself."""
    table = {"version": NEWEST, "caller": "", **flow, **table}
    kind, endpoint = table["ask"], _ENDPOINTS[table["ask"]]
    query = _parameters(table.get("only") or _FILE["templates"][kind][table["version"]])
    known = _FILE["callers"].get(table["caller"], {})
    query |= {name: value for name, value in known.items() if name in query}
    for name, value in table.get("query", {}).items():
        is_many = isinstance(value, dict)
        query[name] = [value["text"].format(n) for n in range(value["times"])] if is_many else value
    if table.get("empty"):
        query = {name: query[name] if name in _NEVER_EMPTY else "" for name in query}
    for name in table.get("without", ()):
        del query[name]
    table["traces"] = TRACES.get(table.get("traces", ""), ())
    table.setdefault("alias", "<caller>" * ENDPOINTS[endpoint].path.endswith("/"))
    table |= {"endpoint": endpoint, "query": query}
    return Step(**{name: table[name] for name in Step.__dataclass_fields__ if name in table})


FLOWS = tuple(
    Flow(flow["name"], tuple(_step(flow, table) for table in flow["steps"]))
    for flow in _FILE["flows"]
)
"""All flows, in the order in which they are sent."""

PER_PARTICIPANT = {
    *("pin", "guest_pin", "host_identity_provider_group", "guest_identity_provider_group"),
    *("max_callrate_in", "max_callrate_out"),
}
"""Fields of a service that may differ from one participant to the next."""
MAX_FAILURES = 5
"""Requests in a row without a reply after which the rest is not sent."""
HTTP_FLOW = "HTTP itself"
ANONYMOUS = "no credentials"


class UnreachableError(Exception):
    """The first request found no HTTP server at the address."""


class UnauthorizedError(Exception):
    """The first request was answered with 401."""


@dataclass(frozen=True, slots=True)
class StepResult:
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


class ConformanceTest:
    """Sends the requests of flows: ``alias`` is dialed; ``caller`` calls and registers."""

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
        self._aliases = (alias, caller)
        self._services: dict[str, tuple[Mapping[str, Any], str]] = {}
        self._failures = 0
        self._answered = False

    async def run(self) -> AsyncIterator[StepResult]:
        """Yield the result of each step. Raises ``UnreachableError`` and ``UnauthorizedError``."""
        for flow in self.flows:
            state = CallState(*self._aliases)
            judged: dict[str, CheckResult] = {}
            for step in flow.steps:
                result, judged[step.name] = await self._step(flow, step, state, judged)
                yield result
                if self._failures >= MAX_FAILURES:
                    text = f"no reply to {MAX_FAILURES} requests in a row: the rest was not sent"
                    finding = operation(Topic.CONNECTION, text)
                    yield StepResult(flow.name, "gave up", findings=(finding,))
                    return
        if self._wire.authorization is not None:
            yield await self._anonymous()

    async def _anonymous(self) -> StepResult:
        """Send the first request without credentials."""
        step = self.flows[0].steps[0]
        target, _ = CallState(*self._aliases).request(step)
        async with connected(self._wire.base, limit=self._wire.limit) as wire:
            reply = await wire.get(target)
        doubt = warning(Topic.AUTHENTICATION, "the server also answers without credentials")
        findings = (doubt,) if reply.status == HTTPStatus.OK else ()
        return StepResult(HTTP_FLOW, ANONYMOUS, step.endpoint, target, findings=findings)

    async def _step(
        self, flow: Flow, step: Step, state: CallState, earlier: dict[str, CheckResult]
    ) -> tuple[StepResult, CheckResult]:
        target, asked = state.request(step)
        reply = await self._wire.get(target)
        if not self._answered and reply.refused:
            raise UnreachableError(reply.failure)
        if not self._answered and reply.status == HTTPStatus.UNAUTHORIZED:
            raise UnauthorizedError
        self._answered = True
        self._failures = self._failures + 1 if reply.failure else 0
        judged = judge(asked, reply, self._wire.limit)
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
        if not service or service.get("breakout") is True or asked.get("breakout_uuid"):
            return []
        # Before dialing out only the name counts, and prefer_ipv6.
        if asked.get("call_direction") == "dial_out":
            return []
        stable = {n: v for n, v in service.items() if n not in PER_PARTICIPANT}
        before, first = self._services.setdefault(str(service["name"]), (stable, where))
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
        unique = "a gateway's name must be unique for each call"
        return [warning(Topic.REPEATABLE, text, unique)] if again else []
    topic = Topic.REPEATABLE if again else Topic.CONSISTENT
    if step.certain:
        return [violation(topic, text, TRANSCRIBED)]
    return [warning(topic, text, REPORTED)]
