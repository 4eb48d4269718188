"""The disposition of a foreign reply: the effect of its status, action and result on Infinity.

The conformance test, plugins that relay the replies of other servers, and the import of stored
replies all use this one reading of section 2 of the contract.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pexpolicy.conformance.repairs import repaired
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.directory_information import Directory
from pexpolicy.endpoints.participant_properties import ParticipantProperties
from pexpolicy.models.contract import NO_EXTRAS, Extras, contract_of
from pexpolicy.models.decision import Decision, Redirect, Reject
from pexpolicy.models.errors import DecisionError
from pexpolicy.text import brief

ACTIONS: Mapping[str, tuple[str, ...]] = {
    "service_configuration": ("continue", "reject", "redirect"),
    "participant_properties": ("continue", "reject"),
    "registration_alias": ("continue", "reject"),
}
"""The actions of each request type that has any."""
REDIRECTED_SERVICE = (
    "the result of the redirect is a service: Infinity would use it and not redirect"
)


class Disposition(enum.StrEnum):
    """The effect of a reply."""

    RESULT = "result"
    """The result is used, and the action is ignored."""
    CONTINUE = "continue"
    """Success without a result: Infinity uses its own database."""
    REJECT = "reject"
    """The call is rejected."""
    REDIRECT = "redirect"
    """The caller is redirected to another alias."""
    ABSTAIN = "abstain"
    """The server failed and rejects nothing: Infinity uses its own database."""
    DROPPED = "dropped"
    """The reply is contradictory, or its result is lost."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A disposition and its result, with text booleans repaired."""

    disposition: Disposition
    result: Any = None
    repairs: tuple[str, ...] = ()
    """Warnings about repairs of the result, such as booleans that were text."""
    text: str = ""
    """Why the reply is dropped, or why its result must not be relayed."""
    decision: Decision | None = None
    """The decision of a result that is used; without a reason."""


def read_envelope(endpoint: str, body: Mapping[str, Any], extras: Extras = NO_EXTRAS) -> Reading:
    """Return the disposition of a reply with status 200 to a request of this endpoint."""
    action, result = body.get("action"), body.get("result")
    rejects = action == "reject" and "reject" in ACTIONS.get(endpoint, ())
    if body.get("status") == "success":
        return _succeeded(endpoint, body, extras, rejects=rejects)
    if rejects:
        return _rejected(endpoint, result)
    if result:
        status = brief(body.get("status"))
        return _dropped(f"status = {status} is not exactly 'success', so the result is lost")
    return Reading(Disposition.ABSTAIN)


def _succeeded(endpoint: str, body: Mapping[str, Any], extras: Extras, *, rejects: bool) -> Reading:
    action, result = body.get("action"), body.get("result")
    made, repairs = repaired(endpoint, body)
    decision, wrong = _decision(endpoint, made, extras)
    used = Reading(Disposition.RESULT, made.get("result"), repairs, decision=decision)
    # A participant is rejected whatever the result is: the sources do not agree on it (5.4), and a
    # plugin that failed may lead to another one, which admits. So it is with a result that needs
    # repairs, as nothing proves that Infinity uses it.
    is_certain = endpoint != "participant_properties" and not repairs
    if rejects and is_certain and is_used(endpoint, used):
        return _dropped("the reject has a usable result: Infinity would use it and not reject")
    if rejects:
        return _rejected(endpoint, result)
    if action == "redirect" and decision is None and "redirect" in ACTIONS.get(endpoint, ()):
        return _redirected(result)
    if decision is not None:
        return used
    if wrong and not _is_open(endpoint, result):
        return Reading(Disposition.DROPPED, made.get("result"), repairs, wrong)
    return Reading(Disposition.RESULT, result, text=wrong) if wrong else _without(endpoint, action)


def _without(endpoint: str, action: object) -> Reading:
    """Return the disposition of a success without a result."""
    actions = ACTIONS.get(endpoint, ())
    if actions and action not in (None, "continue"):
        return _dropped(f"action = {brief(action)} is not one of {', '.join(actions)}")
    return Reading(Disposition.CONTINUE)


def _dropped(text: str) -> Reading:
    return Reading(Disposition.DROPPED, text=text)


def _rejected(endpoint: str, result: object) -> Reading:
    """Return a reject, with the reason for the participant if the endpoint sends one."""
    reason = result.get("reject_reason") if isinstance(result, Mapping) else None
    sent: dict[str, Any] = {}
    if reason is not None and ENDPOINTS[endpoint].shows_reject_reason:
        sent = {"reject_reason": reason}
    try:
        decision = Reject.from_result(sent)
    except DecisionError:
        sent, decision = {}, Reject()
    return Reading(Disposition.REJECT, sent, decision=decision)


def _redirected(result: object) -> Reading:
    given = without_null(result)
    if "service_type" in given:
        return _dropped(REDIRECTED_SERVICE)
    try:
        decision = Redirect.from_result(given)
    except DecisionError as error:
        return _dropped(str(error))
    return Reading(Disposition.REDIRECT, given, decision=decision)


def without_null(result: object) -> dict[str, Any]:
    """Return the fields of a result that are not null; typed servers send all that they know."""
    fields = result.items() if isinstance(result, Mapping) else ()
    return {name: value for name, value in fields if value is not None}


def is_used(endpoint: str, reading: Reading) -> bool:
    """Return True if Infinity would use a result although there is an action."""
    if _is_open(endpoint, reading.result):
        return True
    if isinstance(reading.decision, ParticipantProperties):
        return not contract_of(ParticipantProperties).names.isdisjoint(reading.result)
    return reading.decision is not None


def _is_open(endpoint: str, result: object) -> bool:
    """Return True for credentials that let any device register."""
    return endpoint == "registration_alias" and result == {"username": "", "password": ""}


def _decision(
    endpoint: str, body: Mapping[str, Any], extras: Extras
) -> tuple[Decision | None, str]:
    """Return the decision of a result, or why Infinity would drop it; neither without a result."""
    result: Any = body.get("result")
    listed = endpoint == "directory_information"
    if result is None or result in ({}, []):
        if not (listed and body.get("ignore_local")):
            return None, ""
        result = []
    if wrong := _unusable(endpoint, body.get("action"), result):
        return None, wrong
    try:
        if listed:
            keys = {name: body[name] for name in ("ignore_local",) if name in body}
            return Directory.from_result({"entries": result, **keys}, extras=extras), ""
        return ENDPOINTS[endpoint].from_result(result, extras), ""
    except DecisionError as error:
        return None, str(error)


def wrong_shape(endpoint: str, result: object) -> str:
    """Return why a result has the wrong type, or an empty text."""
    listed = endpoint == "directory_information"
    if isinstance(result, list if listed else Mapping):
        return ""
    wanted = "a list of entries" if listed else "an object"
    return f"result is {brief(result)}, not {wanted}: the reply is dropped"


def _unusable(endpoint: str, action: object, result: Any) -> str:
    """Return why a result cannot be used, whatever its fields are."""
    if wrong := wrong_shape(endpoint, result):
        return wrong
    if endpoint == "participant_avatar":
        return "a JSON result is not a picture; Infinity would show a placeholder"
    if endpoint == "service_configuration" and "new_alias" in result:
        return "new_alias is not a field of a service; it needs action = 'redirect'"
    if endpoint == "participant_properties" and action != "reject" and "reject_reason" in result:
        return "reject_reason alone rejects no call; it needs action = 'reject'"
    return ""
