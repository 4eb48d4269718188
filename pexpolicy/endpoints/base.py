"""The endpoint: one request type of Infinity, from its parameters to the reply."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar, cast

import msgspec
import orjson

from pexpolicy.models.contract import NO_EXTRAS, Extras, contract_of
from pexpolicy.models.decision import Continue, Decision, Reject, is_intact
from pexpolicy.models.errors import DecisionError, ValidationIssue
from pexpolicy.models.request import Params, Request
from pexpolicy.text import brief

R = TypeVar("R", bound=Request)

PROTECTIONS = (
    "pin",
    "guest_pin",
    "host_identity_provider_group",
    "guest_identity_provider_group",
    "username",
    "password",
)
"""Fields of a result that protect a call; an empty one protects nothing."""
CEILINGS = ("max_callrate_in", "max_callrate_out", "participant_limit")
"""Fields that narrow a call by a lower number."""
RIGHTS: Mapping[str, tuple[object, ...]] = {
    "allow_guests": (True, False),
    "breakout_rooms": (True, False),
    "enable_chat": ("yes", "no"),
    "guests_can_present": (True, False),
    "guests_can_see_guests": ("always", "no_hosts", "never"),
    "locked": (False, True),
    "mute_all_guests": (False, True),
    "non_idp_participants": ("allow_if_trusted", "disallow_all"),
    "treat_as_trusted": (True, False),
    "bypass_lock": (True, False),
    "can_receive_personal_mix": (True, False),
    "preauthenticated_role": ("chair", "guest", None),
    "rx_presentation_policy": ("ALLOW", "DENY"),
}
"""Fields that give rights, each with its values from most to fewest."""
JSON = "application/json"
JPEG = "image/jpeg"


class Reply(msgspec.Struct, frozen=True, gc=False):
    """An HTTP status, content type and body; ``action`` is the action that Infinity reads."""

    status: int
    content_type: str
    body: bytes
    action: str


@dataclass(frozen=True)
class Endpoint(Generic[R]):
    """One of the six request types; ``name`` is used for it everywhere.

    ``default`` is the decision when no plugin decides. ``refusal`` is the decision when a plugin
    fails whose ``on_error`` is ``reject``. Where Infinity knows no reject (``can_reject`` is
    false), it is the most restrictive reply.
    """

    name: str
    path: str
    """The path after the base path; an alias follows a trailing slash."""
    request: type[R]
    decisions: tuple[type[Decision], ...]
    default: Decision = field(default_factory=Continue)
    refusal: Decision = field(default_factory=Reject)
    can_reject: bool = True
    can_merge: bool = False
    """True where the results of several plugins make one, as each field stands for itself."""
    continues_by_404: bool = False
    """True where a 404 lets Infinity continue as without a policy server."""
    shows_reject_reason: bool = False
    """True where a reject may carry a reason for the participant; elsewhere it carries nothing."""

    plain_answer: ClassVar[str] = "a result as a dictionary"
    """What a hook may answer besides decisions."""

    check_may_wait: ClassVar[bool] = False
    """True where ``check_answer`` may return a coroutine."""

    def parse(self, params: Params, alias: str = "") -> R:
        """Return the request; ``alias`` is the one in the path, decoded once."""
        return self.request(params, alias)

    def check_answer(self, answer: object, request: R) -> Decision | Coroutine[Any, Any, Decision]:
        """Return the decision of an answer to this request, or a coroutine that returns it.

        Raise ``DecisionError`` for anything that is not a decision of this endpoint.
        """
        return self.to_decision(answer)

    def to_decision(self, answer: Any) -> Decision:
        """Return the decision of an answer; a plain dictionary is a ``result``."""
        try:
            if type(answer) in self.decisions:
                return self._normalize(answer)
            return self._coerce(answer)
        except DecisionError:
            raise
        except Exception as error:  # noqa: BLE001 - an answer may raise anything when it is read
            name = type(error).__name__
            raise self.refuse(f"{brief(answer)} cannot be read: {name}") from None

    def _normalize(self, decision: Decision) -> Decision:
        """Return a decision as this endpoint sends it; ``AttributeError`` for an empty one."""
        if not is_intact(decision):
            name = type(decision).__name__
            raise self.refuse(f"{name} was changed after it was checked: make a new one")
        if type(decision) is Reject and decision.result != EMPTY and not self.shows_reject_reason:
            return Reject(reason=decision.reason).with_warnings(REASON_NOT_SENT)
        return decision

    def _coerce(self, answer: object) -> Decision:
        """Return the decision of an answer that is no instance of the endpoint's own classes."""
        kind = type(answer)
        for known in self.decisions:
            if issubclass(kind, known):
                decision = cast("Decision", answer)
                same = known.from_result(Decision.set_fields(decision), reason=decision.reason)
                return self._normalize(same)
        if not isinstance(answer, Mapping):
            names = ", ".join(sorted(d.__name__ for d in self.decisions if d.__name__[0] != "_"))
            expected = f"(expected None, {self.plain_answer}, or one of {names})"
            what = brief(answer) + " without await" * isinstance(answer, Coroutine)
            raise self.refuse(f"{what} is not a decision of {self.name} {expected}")
        for name in ENVELOPE:
            if name in answer:
                raise self.refuse(f"{name!r} is not a field of a result: {ENVELOPE[name]}")
        return self.from_result(answer)

    def from_result(self, result: Mapping[str, Any], extras: Extras = NO_EXTRAS) -> Decision:
        """Return the decision of a plain ``result``; raise ``DecisionError``."""
        return self.decisions[0].from_result(result, extras=extras)

    def refuse(self, rule: str, mark: str = "") -> DecisionError:
        """Return the error for an answer that breaks a rule of this endpoint."""
        lost = contract_of(self.decisions[0]).consequence
        return DecisionError(
            ValidationIssue(model=self.name, rule=rule, mark=mark, consequence=lost)
        )

    def reply(self, decision: Decision, decision_id: str, decided_by: str) -> Reply:
        """Return the reply of a decision: the envelope, then our extra keys."""
        envelope = self.envelope(decision)
        status = 404 if envelope["status"] == "fail" else 200
        envelope["decision_id"] = decision_id
        envelope["decided_by"] = decided_by
        if decision.reason:
            envelope["reason"] = decision.reason
        return Reply(status, JSON, orjson.dumps(envelope), decision.action)

    def envelope(self, decision: Decision) -> dict[str, Any]:
        """Return the keys that Infinity reads."""
        fails = self.continues_by_404 and isinstance(decision, Continue)
        envelope: dict[str, Any] = {
            "status": "fail" if fails else "success",
            "action": decision.action,
        }
        if (
            not isinstance(decision, Continue)
            and decision.result != EMPTY
            and (decision.action != "reject" or self.shows_reject_reason)
        ):
            envelope["result"] = orjson.Fragment(decision.result)
        return envelope


EMPTY = b"{}"
REASON_NOT_SENT = (
    "reject_reason: shown to participants by participant properties only; it is not sent here "
    "[documented]"
)
ENVELOPE: Mapping[str, str] = {
    "status": "answer the result alone; the envelope around it is made here",
    "action": "answer the result alone, or Reject(), Continue() or Redirect(new_alias=...)",
    "result": "answer its value; the envelope around it is made here",
    "reject": "Infinity has no such field and would admit the call; answer Reject()",
}
"""Keys that no result has, and what to answer instead."""
