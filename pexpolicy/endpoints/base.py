"""What an endpoint is: one question of Infinity, from the request to the reply."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from types import CoroutineType
from typing import Any, ClassVar, Generic, TypeVar, cast

import msgspec
import orjson

from pexpolicy.models.decision import Continue, Decision, Reject
from pexpolicy.models.errors import DecisionError, ValidationIssue
from pexpolicy.models.extras import NO_EXTRAS, Extras
from pexpolicy.models.request import Params, Request
from pexpolicy.text import brief

R = TypeVar("R", bound=Request)

JSON = "application/json"
JPEG = "image/jpeg"


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What leaves: HTTP status, content type and bytes; ``action`` is what it asks of Infinity."""

    status: int
    content_type: str
    body: bytes
    action: str


@dataclass(frozen=True)
class Endpoint(Generic[R]):
    """One of the six request types; ``name`` is used for it everywhere.

    ``default`` answers when no plugin does. ``refusal`` answers for a failed plugin whose
    ``on_error`` is ``reject``; where Infinity knows no reject (``can_reject`` is false) it is the
    most careful reply there is.
    """

    name: str
    path: str
    """The path behind the base path; a trailing slash means that an alias follows."""
    request: type[R]
    decisions: tuple[type[Decision], ...]
    default: Decision = field(default_factory=Continue)
    refusal: Decision = field(default_factory=Reject)
    can_reject: bool = True
    tells_reject_reason: bool = False
    """True where a reject may say why to the person who is refused; elsewhere nothing stands
    beside it.
    """

    check_may_wait: ClassVar[bool] = False
    """True where ``check_answer`` may return a coroutine."""
    consequence: ClassVar[str] = "Infinity would drop the reply and use its own database"

    def parse(self, params: Params, alias: str = "") -> R:
        """The request; ``alias`` is the text in the path, decoded once, where the path has one."""
        return self.request(params)

    def check_answer(self, answer: object, request: R) -> Decision | Coroutine[Any, Any, Decision]:
        """The decision that an answer to this request stands for, or a coroutine that gives it.

        Raises ``DecisionError`` for anything that is not a decision of this endpoint.
        """
        return self.to_decision(answer)

    def to_decision(self, answer: Any) -> Decision:
        """The decision that an answer stands for; a plain dictionary is taken for ``result``."""
        try:
            if type(answer) in self.decisions:
                return self._normalize(answer)
            return self._coerce(answer)
        except DecisionError:
            raise
        except Exception as error:  # noqa: BLE001 - an answer may raise anything when it is looked at
            name = type(error).__name__
            raise self.refuse(f"{brief(answer)} cannot be read: {name}") from None

    def _normalize(self, decision: Decision) -> Decision:
        """A decision as this endpoint sends it; ``AttributeError`` for one never put together."""
        if not decision.is_intact:
            name = type(decision).__name__
            raise self.refuse(f"{name} was changed after it was checked: make a new one")
        reason = decision.reason
        if type(decision) is Reject and decision.result != EMPTY and not self.tells_reject_reason:
            return Reject(reason=reason).with_warnings(UNTOLD)
        return decision

    def _coerce(self, answer: object) -> Decision:
        """The decision that something else stands for."""
        kind = type(answer)
        for known in self.decisions:
            if issubclass(kind, known):
                decision = cast("Decision", answer)
                same = known.from_result(Decision.set_fields(decision), reason=decision.reason)
                return self._normalize(same)
        if kind is CoroutineType:
            raise self.unexpected("a coroutine is no decision: something was not awaited")
        if issubclass(kind, type) and issubclass(cast("type", answer), Decision):
            name = cast("type", answer).__name__
            raise self.unexpected(f"{name} is a class, not a decision: answer {name}(...)")
        if not isinstance(answer, Mapping):
            raise self.unexpected(f"{brief(answer)} is not a decision of {self.name}")
        for name in ENVELOPE:
            if name in answer:
                raise self.refuse(f"{name!r} is no field of a result: {ENVELOPE[name]}")
        return self.from_result(answer)

    def from_result(self, result: Mapping[str, Any], extras: Extras = NO_EXTRAS) -> Decision:
        """The decision that a plain ``result`` stands for; raises ``DecisionError``."""
        return self.decisions[0].from_result(result, extras=extras)

    def unexpected(self, rule: str) -> DecisionError:
        """The error for an answer that is no decision of this endpoint."""
        names = ", ".join(sorted(d.__name__ for d in self.decisions if d.__name__[0] != "_"))
        return self.refuse(rule, f"expected None, a result as a dictionary, or one of {names}")

    def refuse(self, rule: str, doc: str = "", mark: str = "", source: str = "") -> DecisionError:
        """The error for an answer that breaks a rule of this endpoint."""
        return DecisionError(
            ValidationIssue(
                model=self.name,
                field="",
                value=None,
                shown=False,
                rule=rule,
                doc=doc,
                mark=mark,
                source=source,
                consequence=self.consequence,
            )
        )

    def reply(self, decision: Decision, decision_id: str, decided_by: str) -> Reply:
        """The reply that carries a decision, with who decided it and why as keys of our own."""
        return Reply(200, JSON, self.body(decision, decision_id, decided_by), decision.action)

    def body(self, decision: Decision, decision_id: str, decided_by: str) -> bytes:
        """The envelope with ``status``, ``action`` and ``result``, and our keys behind them."""
        envelope = self.envelope(decision)
        envelope["decision_id"] = decision_id
        envelope["decided_by"] = decided_by
        if decision.reason:
            envelope["reason"] = decision.reason
        return orjson.dumps(envelope)

    def envelope(self, decision: Decision) -> dict[str, Any]:
        """The keys that Infinity reads."""
        envelope: dict[str, Any] = {"status": "success", "action": decision.action}
        if (
            decision.sends_result
            and decision.result != EMPTY
            and (decision.action != "reject" or self.tells_reject_reason)
        ):
            envelope["result"] = orjson.Fragment(decision.result)
        return envelope


EMPTY = b"{}"
UNTOLD = (
    "reject_reason: shown to participants by participant properties only; it is not sent here "
    "[documented]"
)
ENVELOPE: Mapping[str, str] = {
    "status": "answer the result alone; the envelope around it is made here",
    "action": "answer the result alone, or Reject(), Continue() or Redirect(new_alias=...)",
    "result": "answer what stands in it; the envelope around it is made here",
    "reject": "Infinity knows no such field and would go on; answer Reject()",
}
"""Keys that show that an answer is no result, and what to answer instead."""


def not_found_reply(body: bytes, action: str = "continue") -> Reply:
    """A 404, which makes Infinity do what it would do without a policy server."""
    return Reply(404, JSON, body, action)
