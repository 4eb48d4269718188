"""What the server and a plugin's worker say to each other: MessagePack, its length before it.

What comes from a worker is the word of a plugin: it is read into these few types and checked again,
never unpickled, and a decision is made anew from its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from multidict import MultiDict, MultiDictProxy

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.participant_avatar import Avatar
from pexpolicy.errors import ErrorReport, describe_decision_error, redact
from pexpolicy.models.decision import Decision
from pexpolicy.models.errors import DecisionError, ValidationIssue
from pexpolicy.models.extras import NO_EXTRAS, Extras
from pexpolicy.models.outcome import Outcome, Step
from pexpolicy.models.request import Request

MAX_FRAME = 16 * 1024 * 1024
"""Bytes; more than the largest picture that is ever sent."""
LENGTH = 4
"""Bytes of the length before a frame, big-endian."""

TOLD_HOOKS = ("decided", "status")
"""Hooks of a worker beside those that decide."""
Place = list[str | int]


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """One message, in either direction."""


class BuildRequest(Message, frozen=True):
    """To a worker, first: the plugin to build, pickled, as a TOML file may hold dates and times.

    ``python_path`` is the environment variable as the server found it.
    """

    plugin: bytes
    python_path: str | None


class StartRequest(Message, frozen=True):
    """To a worker: enter the plugin's lifespan."""


class DecideRequest(Message, frozen=True):
    """To a worker: one request, by endpoint, parameters in their order, alias of the path, target
    as it was written, and who sent it.
    """

    endpoint: str
    params: list[tuple[str, str]]
    alias: str
    target: str
    peer: str | None = None


class Decided(Message, frozen=True):
    """A decision: its class, its fields in JSON, its reason; and the picture where it is one."""

    decision: str
    result: bytes
    reason: str | None
    image: bytes | None = None


class ObserveRequest(Message, frozen=True):
    """To a worker: what was decided, for a plugin that observes."""

    request: DecideRequest
    decision_id: str
    decision: Decided
    decided_by: str
    steps: list[Step]


class StatusRequest(Message, frozen=True):
    """To a worker: what the plugin says of itself."""


class StatusReply(Message, frozen=True):
    """From a worker: what the plugin says of itself, in JSON."""

    status: bytes


class Ready(Message, frozen=True):
    """From a worker: the plugin was built."""

    hooks: list[str]
    advice: list[tuple[Place, str]]
    can_reject: bool
    watched: list[str] = []


class BuildFailed(Message, frozen=True):
    """From a worker: the plugin cannot be built."""

    problems: list[tuple[Place, str]]


class OkReply(Message, frozen=True):
    """From a worker: the lifespan was entered, the observer was told, or the hook abstained."""


class InvalidReply(Message, frozen=True):
    """From a worker: the hook answered something that is no decision; ``text`` says why not."""

    text: str
    model: str
    field: str
    rule: str
    doc: str
    mark: str
    source: str
    consequence: str
    lines: list[str] = []
    place: str = ""


class HookFailed(Message, frozen=True):
    """From a worker: the hook raised."""

    summary: str
    lines: list[str]


Order = BuildRequest | StartRequest | DecideRequest | ObserveRequest | StatusRequest
Report = Ready | BuildFailed | OkReply | Decided | InvalidReply | HookFailed | StatusReply


class WorkerError(Exception):
    """What went wrong in a worker, or with it; ``fault`` has the plugin's own traceback."""

    def __init__(self, summary: str, lines: Iterable[str] = ()) -> None:
        super().__init__(summary)
        self.fault = ErrorReport(summary, list(lines))


class RemoteDecisionError(DecisionError):
    """A worker's word that the plugin's answer is no decision."""

    def __init__(self, told: InvalidReply) -> None:
        super().__init__(
            ValidationIssue(
                told.model,
                told.field,
                value=None,
                shown=False,
                rule=told.rule,
                doc=told.doc,
                mark=told.mark,
                source=told.source,
                consequence=told.consequence,
            )
        )
        self.args = (told.text,)
        self.fault = ErrorReport(told.text, told.lines, told.place)


T = TypeVar("T", bound=Message)
encode = msgspec.msgpack.Encoder().encode
_report: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)
_order: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
order = _order.decode


def report(frame: bytes) -> Report:
    """What a worker said; raises ``WorkerError`` for what is no report."""
    try:
        return _report.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"its worker sent something that cannot be read: {error}"
        raise WorkerError(msg) from None


def framed(message: Message) -> bytes:
    """A message with its length before it; raises ``WorkerError`` for one that is too long.

    Settings may be as long as they like.
    """
    frame = encode(message)
    if len(frame) > MAX_FRAME and not isinstance(message, BuildRequest):
        msg = f"{len(frame)} bytes are more than can be handed over ({MAX_FRAME})"
        raise WorkerError(msg)
    return len(frame).to_bytes(LENGTH, "big") + frame


class FrameDecoder:
    """Puts the frames, of ``limit`` bytes at most, together again out of the pieces that arrive."""

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._rest = bytearray()
        self._limit = limit

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The frames that are whole now; raises ``WorkerError`` for one that is too long."""
        rest = self._rest
        rest += piece
        while len(rest) >= LENGTH:
            end = LENGTH + int.from_bytes(rest[:LENGTH], "big")
            if end > LENGTH + self._limit:
                msg = "its worker sent a message that is too long"
                raise WorkerError(msg)
            if len(rest) < end:
                return
            frame = bytes(rest[LENGTH:end])
            del rest[:end]
            yield frame


def ask(endpoint: str, request: Request) -> DecideRequest:
    """A request on its way to a worker."""
    alias = request.__dict__.get("alias")
    called = alias.raw if alias is not None else ""
    return DecideRequest(
        endpoint, list(request.params.items()), called, request.raw_target, request.peer
    )


def request_of(message: DecideRequest) -> Request:
    """The request as the server had it."""
    params = MultiDictProxy(MultiDict(message.params))
    request: Request = ENDPOINTS[message.endpoint].parse(params, message.alias)
    request.set_origin(message.target, message.peer)
    return request


def decided(decision: Decision) -> Decided:
    """A decision on its way."""
    image = decision.image if isinstance(decision, Avatar) else None
    return Decided(type(decision).__name__, decision.result, decision.reason, image)


def decision_of(endpoint: Endpoint[Any], message: Decided, extras: Extras = NO_EXTRAS) -> Decision:
    """The decision, checked as if it were made here; raises ``DecisionError``."""
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


def tell(outcome: Outcome) -> ObserveRequest:
    """An outcome on its way to a worker."""
    request = ask(outcome.endpoint, outcome.request)
    decision = decided(outcome.decision)
    return ObserveRequest(request, outcome.decision_id, decision, outcome.decided_by, outcome.steps)


def outcome_of(message: ObserveRequest) -> Outcome:
    """The outcome as the server had it."""
    asked = message.request
    decision = decision_of(ENDPOINTS[asked.endpoint], message.decision)
    request = request_of(asked)
    return Outcome(
        message.decision_id, asked.endpoint, request, decision, message.decided_by, message.steps
    )


def secrets_of(message: Message) -> list[str]:
    """Return the secrets of the request that a message to a worker carries."""
    if isinstance(message, ObserveRequest):
        message = message.request
    return request_of(message).secrets() if isinstance(message, DecideRequest) else []


def invalid(error: DecisionError, secrets: Sequence[str] = ()) -> InvalidReply:
    """A refused answer on its way back."""
    r, fault = error.refusal, describe_decision_error(error, secrets)
    lines, place = [readable(line) for line in fault.lines], readable(fault.place)
    text = readable(redact(str(error), secrets))
    return InvalidReply(
        text, r.model, r.field, r.rule, r.doc, r.mark, r.source, r.consequence, lines, place
    )


def failed(fault: ErrorReport) -> HookFailed:
    """A fault on its way back."""
    return HookFailed(readable(fault.summary), [readable(line) for line in fault.lines])


def readable(text: str) -> str:
    """A text that UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()
