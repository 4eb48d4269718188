"""Messages between the server and a worker, in MessagePack.

A worker is not trusted: its messages are decoded into these few types and validated, never
unpickled, and a decision is made again from its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from multidict import MultiDict, MultiDictProxy

from pexpolicy.child import ChildError
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.participant_avatar import Avatar
from pexpolicy.errors import MAX_REFUSAL, ErrorReport, describe_decision_error
from pexpolicy.metrics import Definition
from pexpolicy.models.contract import NO_EXTRAS, Extras
from pexpolicy.models.decision import Decision
from pexpolicy.models.errors import DecisionError, ValidationIssue
from pexpolicy.models.outcome import AdjustedStep, Outcome, Step
from pexpolicy.models.request import Request, set_decision_id, set_origin
from pexpolicy.models.request_secrets import redact, withheld_values
from pexpolicy.models.rules import Privacy

Place = list[str | int]
EncodedAnnotation = tuple[str, str | int | float | bool | None, Privacy]
"""Name, value and privacy."""


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A message in either direction."""


class BuildRequest(Message, frozen=True):
    """First message to a worker: the plugin to build, pickled, since TOML has dates and times.

    It may have any length.
    """

    plugin: bytes


class StartRequest(Message, frozen=True):
    """To a worker: enter the plugin's lifespan."""


class DecideRequest(Message, frozen=True):
    """To a worker: one request to decide, or whose ``decision`` to adjust.

    ``params`` are in their original order, ``target`` is the raw path and query.
    """

    endpoint: str
    params: list[tuple[str, str]]
    alias: str
    target: str
    peer: str | None = None
    decision: Decided | None = None
    decision_id: str = ""


class Decided(Message, frozen=True):
    """A decision: its class, its fields as JSON, its reason, and the bytes of an avatar."""

    decision: str
    result: bytes
    reason: str | None
    image: bytes | None = None


class Observed(Message, frozen=True):
    """An outcome, for an observer."""

    request: DecideRequest
    decision_id: str
    decision: Decided
    decided_by: str
    steps: list[Step]
    audit_line: bytes = b""


class ObserveRequest(Message, frozen=True):
    """To a worker: outcomes for a plugin with ``on_decision`` or ``on_decisions``."""

    outcomes: list[Observed]


class StatusRequest(Message, frozen=True):
    """To a worker: a request for the plugin's status."""


class StatusReply(Message, frozen=True):
    """From a worker: the plugin's status as JSON."""

    status: bytes


class Ready(Message, frozen=True):
    """From a worker: the plugin was built."""

    hooks: list[str]
    warnings: list[tuple[Place, str]]
    can_reject: bool
    tracked_files: list[str] = []


class BuildFailed(Message, frozen=True):
    """From a worker: the plugin cannot be built."""

    problems: list[tuple[Place, str]]


class OkReply(Message, frozen=True):
    """From a worker: the lifespan was entered, the observer was called, or the hook abstained."""


class InvalidReply(Message, frozen=True):
    """From a worker: the hook's answer was invalid; ``text`` has the reason."""

    text: str
    issue: ValidationIssue
    fault: ErrorReport


class HookFailed(Message, frozen=True):
    """From a worker: the hook raised."""

    fault: ErrorReport


HookReport = OkReply | Decided | InvalidReply | HookFailed | StatusReply


class Annotated(Message, frozen=True):
    """From a worker: another report, and the annotations that the hook made.

    ``is_complete`` is false where some did not fit.
    """

    report: HookReport
    annotations: list[EncodedAnnotation]
    is_complete: bool = True


class MetricsUpdate(Message, frozen=True):
    """From a worker, without a request: what it did to metrics, with label values and amounts."""

    changes: list[tuple[Definition, tuple[str, ...], list[float]]]


Order = BuildRequest | StartRequest | DecideRequest | ObserveRequest | StatusRequest
Report = Ready | BuildFailed | HookReport | Annotated | MetricsUpdate


class WorkerError(ChildError):
    """A failure in or of a worker; ``fault`` has the plugin's own traceback."""

    def __init__(self, summary: str, lines: Iterable[str] = ()) -> None:
        super().__init__(summary)
        self.fault = ErrorReport(summary, list(lines))


class RemoteDecisionError(DecisionError):
    """Raised when a worker reports an invalid decision."""

    def __init__(self, reply: InvalidReply) -> None:
        super().__init__(reply.issue)
        text = reply.text[:MAX_REFUSAL]
        self.args = (text,)
        self.fault = replace(reply.fault, summary=text)


_report: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)
_order: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
decode_report, decode_order = _report.decode, _order.decode


def decide_request(
    endpoint: str, request: Request, decision: Decision | None = None
) -> DecideRequest:
    """Return the message for a request, and for the decision to adjust if there is one."""
    alias = request.__dict__.get("alias")
    origin = "" if alias is None else alias.raw, request.raw_target, request.peer
    adjusts = None if decision is None else decided(decision)
    return DecideRequest(endpoint, [*request.params.items()], *origin, adjusts, request.decision_id)


def request_of(message: DecideRequest) -> Request:
    """Return the request of a message."""
    params = MultiDictProxy(MultiDict(message.params))
    request: Request = ENDPOINTS[message.endpoint].parse(params, message.alias)
    set_origin(request, message.target, message.peer)
    set_decision_id(request, message.decision_id)
    return request


def decided(decision: Decision) -> Decided:
    """Return the message for a decision."""
    image = decision.image if isinstance(decision, Avatar) else None
    return Decided(type(decision).__name__, decision.result, decision.reason, image)


def decision_of(endpoint: Endpoint[Any], message: Decided, extras: Extras = NO_EXTRAS) -> Decision:
    """Return the decision of a message, validated again; raises ``DecisionError``."""
    made = next((d for d in endpoint.decisions if d.__name__ == message.decision), None)
    if made is None:
        raise endpoint.refuse(f"{message.decision} is not a decision of {endpoint.name}")
    if issubclass(made, Avatar):
        return made(message.image or b"", reason=message.reason)
    try:
        fields = msgspec.json.decode(message.result)
    except (msgspec.DecodeError, RecursionError):
        fields = None
    if not isinstance(fields, Mapping):
        raise endpoint.refuse("the result cannot be read")
    return made.from_result(fields, reason=message.reason, extras=extras)


def observed(outcome: Outcome) -> Observed:
    """Return the message for an outcome; an adjusted step has the names of the fields only."""
    request = decide_request(outcome.endpoint, outcome.request)
    decision = decided(outcome.decision)
    steps = [
        Step(step.plugin, step.outcome, step.ms, hook=step.hook, fields=tuple(step.changes))
        if isinstance(step, AdjustedStep)
        else step
        for step in outcome.steps
    ]
    return Observed(
        request, outcome.decision_id, decision, outcome.decided_by, steps, outcome.audit_line
    )


def outcome_of(message: Observed, extras: Extras = NO_EXTRAS) -> Outcome:
    """Return the outcome of a message."""
    asked = message.request
    decision = decision_of(ENDPOINTS[asked.endpoint], message.decision, extras)
    request = request_of(asked)
    return Outcome(
        message.decision_id,
        asked.endpoint,
        request,
        decision,
        message.decided_by,
        message.steps,
        audit_line=message.audit_line,
    )


def secrets_of(message: Message) -> list[str]:
    """Return the secrets of the request that a message to a worker carries."""
    if isinstance(message, ObserveRequest):
        return [
            secret
            for seen in message.outcomes
            for secret in withheld_values(request_of(seen.request))
        ]
    return withheld_values(request_of(message)) if isinstance(message, DecideRequest) else []


def invalid(error: DecisionError, secrets: Sequence[str] = ()) -> InvalidReply:
    """Return the message for an invalid answer."""
    issue = replace(error.refusal, value=None, shown=False)
    return InvalidReply(redact(str(error), secrets), issue, describe_decision_error(error, secrets))
