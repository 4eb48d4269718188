"""Messages between the server and a worker.

Orders to a worker are pickled; the first one has any length, and is the plugin, its table, the
folder of both, and whether calls follow. Its reports are decoded into these few types and never
unpickled: no code of a plugin runs in the server.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
from multidict import MultiDict, MultiDictProxy

from pexpolicy.config.files import Use
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.participant_avatar import Avatar
from pexpolicy.errors import MAX_REFUSAL, ErrorReport, describe_decision_error, describe_error
from pexpolicy.models.contract import Extras
from pexpolicy.models.decision import Decision, state_of
from pexpolicy.models.errors import DecisionError, ValidationIssue
from pexpolicy.models.outcome import AdjustedStep, Step
from pexpolicy.models.request import (
    Request,
    alias_of,
    redact,
    set_call,
    set_origin,
)
from pexpolicy.models.rules import Privacy

Place = list[str | int]


Order = tuple[Any, ...]
"""A method of the worker and its arguments."""


class _OrderPickler(pickle.Pickler):
    """Pickles requests and decisions by what they are made of."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Request):
            origin = value.raw_target, value.peer, value.environment
            made = type(value), [*value.params.items()], alias_of(value), origin
            return _request, (*made, value.decision_id, value.dry_run)
        if isinstance(value, Decision):
            extras = state_of(value).extras
            return _decision, (type(value), content_of(value), value.reason, extras)
        if isinstance(value, AdjustedStep):
            # The names of the fields only, as their values may be secret.
            changed = tuple(value.changes)
            return Step, (value.plugin, value.outcome, value.ms, "", value.hook, changed)
        return NotImplemented


def _request(
    kind: type[Request],
    params: list[tuple[str, str]],
    alias: str,
    origin: tuple[str, str | None, str | None],
    decision_id: str,
    dry_run: bool,  # noqa: FBT001 - unpickled
) -> Request:
    request = kind(MultiDictProxy(MultiDict(params)), alias)
    set_origin(request, *origin)
    set_call(request, decision_id, dry_run=dry_run)
    return request


def content_of(decision: Decision) -> bytes:
    """Return what a decision is made of again: its fields as JSON, or a picture."""
    return decision.image if isinstance(decision, Avatar) else decision.result


def _decision(kind: type[Decision], content: bytes, reason: str | None, extras: Extras) -> Decision:
    if issubclass(kind, Avatar):
        return kind(content, reason=reason)
    return kind.from_result(msgspec.json.decode(content), reason=reason, extras=extras)


def encode_order(order: Order) -> bytes:
    """Pickle an order."""
    content = io.BytesIO()
    _OrderPickler(content).dump(order)
    return content.getvalue()


class Ready(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The plugin was built."""

    hooks: list[str]
    warnings: list[tuple[Place, str]]
    can_reject: bool
    tracked_files: list[str] = []
    secrets: list[tuple[str, bool]] = []
    """Files and variables that hold secrets, and whether it is a file."""
    paths: list[tuple[str, Place, Use]] = []


class Reply(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The end of an order; without a decision, a hook has abstained."""

    decision: str = ""
    """The class of a decision."""
    content: bytes = b""
    """Its fields as JSON, or the bytes of an avatar; the status of a plugin as JSON."""
    reason: str | None = None
    fault: ErrorReport | None = None
    """Of what has failed."""
    issue: ValidationIssue | None = None
    """Of an invalid answer; ``fault`` has its text."""
    annotations: list[tuple[str, str | int | float | bool | None, Privacy]] = []
    """What the hook added to the audit line: name, value and privacy."""
    is_complete: bool = True
    """False where some annotations did not fit."""
    problems: list[tuple[Place, str]] = []
    """Why the plugin cannot be built."""


Report = Ready | Reply
_report: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)
decode_report = _report.decode


class RemoteDecisionError(DecisionError):
    """Raised when a worker reports an invalid decision."""

    def __init__(self, issue: ValidationIssue, fault: ErrorReport) -> None:
        super().__init__(issue)
        text = fault.summary[:MAX_REFUSAL]
        self.args = (text,)
        self.fault = replace(fault, summary=text)


def decision_of(endpoint: Endpoint[Any], reply: Reply, extras: Extras) -> Decision:
    """Return the decision in a reply, validated again; raises ``DecisionError``."""
    made = next((d for d in endpoint.decisions if d.__name__ == reply.decision), None)
    if made is None:
        raise endpoint.refuse(f"{reply.decision} is not a decision of {endpoint.name}")
    return _decision(made, reply.content, reply.reason, extras)


def failed(error: BaseException, secrets: Sequence[str]) -> Reply:
    """Return the reply with a failure, or with an invalid answer."""
    if not isinstance(error, DecisionError):
        return Reply(fault=describe_error(error, secrets))
    issue = replace(error.refusal, value=None, shown=False)
    fault = describe_decision_error(error, secrets)
    return Reply(fault=replace(fault, summary=redact(str(error), secrets)), issue=issue)
