"""The disposition of a foreign reply: the effect of its status, action and result on Infinity.

The conformance test, plugins that relay the replies of other servers, and the import of stored
replies all use this one reading of section 2 of the contract, and its findings. A result is
repaired first where one word means one value.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from msgspec import Struct, UnsetType, structs

from pexpolicy.conformance.findings import (
    DISPUTED,
    DOCUMENTED,
    REPORTED,
    TRANSCRIBED,
    Finding,
    Topic,
    fallback,
    of_issue,
    of_warning,
    violation,
    warning,
)
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import PROTECTIONS
from pexpolicy.endpoints.service_configuration import service_class
from pexpolicy.models.contract import NO_EXTRAS, Contract, Extras, alternatives, contract_of
from pexpolicy.models.decision import Decision, Name, Redirect, Reject
from pexpolicy.models.errors import DecisionError
from pexpolicy.text import brief

UNTAGGED = (
    "service_tag: is missing, which a transcription of Pexip's text forbids; "
    f"write an empty one [{DISPUTED}]"
)
BOOLEANS: Mapping[str, bool] = {"true": True, "false": False}
OF_ACTIONS = ("new_alias", "reject_reason")
"""Fields of a result that have a meaning for one action only."""
_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")


def _repaired(model: Contract, fields: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the fields of a result repaired, and a warning for each repair."""
    repairs: list[str] = []
    made = _fields(model, fields, repairs)
    for name in OF_ACTIONS:
        if name in made and made[name] is None:
            del made[name]
            repairs.append(_unset(name))
    if "service_tag" in model.names and fields.get("service_tag") is None:
        made["service_tag"] = ""
        repairs.append(UNTAGGED)
    return made, tuple(repairs)


def _fields(model: Contract, fields: Any, repairs: list[str], place: str = "") -> Any:
    """Return fields repaired at any depth, and add a warning for each repair to ``repairs``."""
    if isinstance(fields, list):
        return [_fields(model, item, repairs, f"{place}[{n}]") for n, item in enumerate(fields)]
    if not isinstance(fields, dict):
        return fields
    made: dict[str, Any] = {}
    for name, value in fields.items():
        at = f"{place}.{name}" if place else name
        if _is_unset(model, name, value):
            if (kept := model.constants.get(name)) is not None:
                made[name] = kept
            repairs.append(_unset(at, value, kept))
        elif (meant := _meant(model, name, value)) is not None:
            made[name] = meant
            repairs.append(f"{at}: write {str(meant).lower()} for {value!r} [{REPORTED}]")
        else:
            inner = model.nested_models.get(name)
            made[name] = value if inner is None else _fields(inner, value, repairs, at)
    return made


def _is_unset(model: Contract, name: str, value: object) -> bool:
    """Return True for null, and for an empty name, in a field that may be left out: it protects
    nothing, and the value has no meaning of its own.
    """
    kinds = get_args(model.hints.get(name))
    if value is not None and not (value == "" and Name in kinds):
        return False
    is_optional = UnsetType in kinds and (value == "" or NoneType not in kinds)
    return name in model.constants or (is_optional and name not in PROTECTIONS)


def _meant(model: Contract, name: str, value: object) -> bool | int | None:
    """Return the boolean or number that is meant in a field of that type."""
    kinds = alternatives(model.hints.get(name))
    types = [get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in kinds]
    if isinstance(value, float) and value.is_integer() and int in types:
        return int(value)
    if not isinstance(value, str):
        return None
    if bool in types:
        return BOOLEANS.get(value.lower())
    is_number = int in types and str not in types and _WHOLE_NUMBER.fullmatch(value)
    return int(value) if is_number else None


def _unset(place: str, value: object = None, kept: object = None) -> str:
    instead = "leave it out" if kept is None else f"write {kept!r}"
    what = "null" if value is None else "an empty text"
    return f"{place}: {what} is no value of this field; {instead} [{REPORTED}]"


FAILED = ("fail", "failed", "failure", "error")
"""Values of ``status`` of a server that has no decision."""
OUTSIDE: Mapping[str, tuple[str, ...]] = {
    "service_configuration": ("service_type",),
    "participant_properties": ("preauthenticated_role", "bypass_lock", "reject_reason"),
    "media_location": ("location",),
    "directory_information": ("entries", "contacts"),
    "registration_alias": ("username", "password"),
}
"""Fields that belong to the result, and have no other meaning in a reply."""
ACTIONS: Mapping[str, tuple[str, ...]] = {
    "service_configuration": ("continue", "reject", "redirect"),
    "participant_properties": ("continue", "reject"),
    "registration_alias": ("continue", "reject"),
}
"""The actions of each request type that has any."""
OPEN = {"username": "", "password": ""}
"""Credentials that let any device register."""
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


class Reading(Struct, frozen=True):
    """A disposition and its findings; the result has text booleans repaired."""

    disposition: Disposition
    findings: list[Finding] = []
    result: Any = None
    """The fields of the decision, those of a phone book included."""
    repairs: tuple[str, ...] = ()
    """Warnings about repairs of the result, such as booleans that were text."""
    text: str = ""
    """Why the reply is dropped, or why its result must not be relayed."""
    decision: Decision | None = None
    """The decision of a result that is used; without a reason."""


def read_envelope(endpoint: str, body: Mapping[str, Any], extras: Extras = NO_EXTRAS) -> Reading:
    """Return how Infinity reads a reply with status 200 to a request of this endpoint."""
    rejects = body.get("action") == "reject" and "reject" in ACTIONS.get(endpoint, ())
    if body.get("status") == "success":
        reading = _succeeded(endpoint, body, extras, rejects=rejects)
    else:
        reading = _failed(endpoint, body, rejects=rejects)
    reading.findings.extend(_action(endpoint, body.get("action"), reading))
    lost = next((name for name in OUTSIDE.get(endpoint, ()) if name in body), "")
    if lost and reading.disposition is Disposition.CONTINUE:
        text = f"{brief(lost)} is not in the result, so Infinity ignores it"
        reading.findings.append(warning(Topic.RESULT, text, DOCUMENTED))
    return reading


def _failed(endpoint: str, body: Mapping[str, Any], *, rejects: bool) -> Reading:
    """Read a reply without success: its result is lost, and a reject still counts."""
    status, result = body.get("status"), body.get("result")
    if result and not rejects:
        text = f"status = {brief(status)} is not exactly 'success', so the result is lost"
        return _dropped(violation(Topic.ENVELOPE, text, DOCUMENTED))
    text = f"status = {brief(status)}" if "status" in body else "there is no status"
    text += "; only the exact text 'success' counts, "
    if not rejects:
        text += "so Infinity uses its own database. If that is meant, a 404 is clearer"
        return Reading(Disposition.ABSTAIN, [fallback(Topic.ENVELOPE, text, DOCUMENTED)])
    text += "and action = 'reject' still counts: Infinity refuses the call"
    finding = (warning if status in FAILED else violation)(Topic.ENVELOPE, text, DOCUMENTED)
    return structs.replace(_rejected(endpoint, result), findings=[finding])


def _succeeded(endpoint: str, body: Mapping[str, Any], extras: Extras, *, rejects: bool) -> Reading:
    reading = _result(endpoint, body, extras)
    redirects = body.get("action") == "redirect" and "redirect" in ACTIONS.get(endpoint, ())
    # A participant is rejected whatever the result is: the sources do not agree on it (5.4), and a
    # plugin that failed may lead to another one, which admits. So it is with a result that needs
    # repairs, as nothing proves that Infinity uses it.
    is_certain = endpoint != "participant_properties" and not reading.repairs
    if rejects and is_certain and reading.disposition is Disposition.RESULT:
        text = "the reject has a usable result: Infinity would use it and not reject"
        return _dropped(violation(Topic.REJECT, text, DOCUMENTED))
    if rejects:
        reading = _rejected(endpoint, body.get("result"))
        reading.findings.extend(_next_to_reject(endpoint, body))
    elif redirects and reading.decision is None:
        return _redirected(body.get("result"))
    elif redirects:
        reading.findings.append(violation(Topic.REDIRECT, REDIRECTED_SERVICE, DOCUMENTED))
    return reading


def _dropped(finding: Finding, result: Any = None) -> Reading:
    return Reading(Disposition.DROPPED, [finding], result, text=finding.text)


def _action(endpoint: str, action: Any, reading: Reading) -> Iterator[Finding]:
    allowed = ACTIONS.get(endpoint, ())
    if action in (None, "continue", *allowed):
        return
    if allowed:
        decision = reading.decision
        is_ignored = reading.disposition is Disposition.RESULT and (
            decision is None or not contract_of(type(decision)).names.isdisjoint(reading.result)
        )
        text = f"action = {brief(action)} is not one of {', '.join(allowed)}"
        text += "; it is ignored next to a valid result" * is_ignored
        yield (warning if is_ignored else violation)(Topic.ACTION, text, DOCUMENTED)
    elif action in ("reject", "redirect"):
        text = f"this request has no action {action}: Infinity would ignore it"
        yield violation(Topic.ACTION, text, TRANSCRIBED)
    else:
        text = f"this request has no action; {brief(action)} is ignored"
        yield warning(Topic.ACTION, text, REPORTED)


def _result(endpoint: str, body: Mapping[str, Any], extras: Extras) -> Reading:
    """Read the result of a success, whatever its action is."""
    result: Any = body.get("result")
    listed = endpoint == "directory_information"
    is_empty = result is None or result in ({}, [])
    if not is_empty and (wrong := _misplaced(endpoint, body.get("action"), result)) is not None:
        return _dropped(wrong, result)
    if is_empty and not (listed and body.get("ignore_local")):
        return _without_result(endpoint, body)
    fields, topic = result, Topic.RESULT
    if listed:
        fields, topic = {"entries": result or []}, Topic.DIRECTORY
        if "ignore_local" in body:
            fields["ignore_local"] = body["ignore_local"]
    model: type[Decision] = ENDPOINTS[endpoint].decisions[0]
    if endpoint == "service_configuration":
        try:
            model = service_class(fields.get("service_type"), extras)
        except DecisionError as error:
            return _dropped(of_issue(error.refusal, topic), fields)
    fields, repairs = _repaired(contract_of(model), fields)
    found = [of_warning(text, topic) for text in repairs]
    if not fields:  # all of it was null
        reading = _without_result(endpoint, body)
        reading.findings.extend(found)
        return reading
    try:
        decision = ENDPOINTS[endpoint].from_result(fields, extras)
    except DecisionError as error:
        if is_open := endpoint == "registration_alias" and fields == OPEN:
            text = "user name and password are both empty: any device may register under this alias"
            found.append(warning(Topic.CREDENTIALS, text, TRANSCRIBED))
        else:
            # Infinity appears to ignore unknown fields.
            issues = model.find_issues(fields, extras, known_only=False)
            found += [of_issue(issue, topic) for issue in issues or [error.refusal]]
        disposition = Disposition.RESULT if is_open else Disposition.DROPPED
        return Reading(disposition, found, fields, repairs, str(error))
    found += [of_warning(text, topic) for text in decision.warnings]
    return Reading(Disposition.RESULT, found, fields, repairs, decision=decision)


def _misplaced(endpoint: str, action: Any, result: Any) -> Finding | None:
    """Return what is no result of this request and action, whatever its values are."""
    listed = endpoint == "directory_information"
    has_type: bool = isinstance(result, list if listed else dict)
    if not has_type:
        wanted = "a list of entries" if listed else "an object"
        text = f"result is {brief(result)}, not {wanted}: the reply is dropped"
        return violation(Topic.RESULT, text, TRANSCRIBED)
    if endpoint == "participant_avatar":
        text = "a JSON result is not a picture; Infinity would show a placeholder"
        return violation(Topic.AVATAR, text, TRANSCRIBED)
    if endpoint == "service_configuration" and result.get("new_alias") is not None:
        text = "new_alias is not a field of a service; it needs action = 'redirect'"
        return violation(Topic.REDIRECT, text, TRANSCRIBED)
    is_participant = endpoint == "participant_properties"
    if is_participant and action != "reject" and result.get("reject_reason") is not None:
        text = "reject_reason alone rejects no call; it needs action = 'reject'"
        return violation(Topic.RESULT, text, TRANSCRIBED)
    return None


def _without_result(endpoint: str, body: Mapping[str, Any]) -> Reading:
    result, actions = body.get("result"), ACTIONS.get(endpoint, ())
    if actions and (action := body.get("action")) not in (None, "continue"):
        text = f"action = {brief(action)} is not one of {', '.join(actions)}"
        return Reading(Disposition.DROPPED, text=text)
    text, mark, topic = "", REPORTED, Topic.RESULT
    usual: Any = [] if endpoint == "directory_information" else {}
    if endpoint == "participant_avatar":
        text, mark, topic = "if there is no picture, answer 404", DOCUMENTED, Topic.AVATAR
    elif "result" in body and not result and result != usual:
        text = f"the empty result is {brief(result)}, which is of another type; leave it out"
    elif endpoint == "media_location":
        text, mark = "a success without a location may count as invalid; a 404 is safer", DISPUTED
    return Reading(Disposition.CONTINUE, [warning(topic, text, mark)] if text else [])


def _rejected(endpoint: str, result: object) -> Reading:
    """Return a reject, with the reason for the participant if the endpoint sends one."""
    reason = result.get("reject_reason") if isinstance(result, Mapping) else None
    is_sent = reason is not None and ENDPOINTS[endpoint].shows_reject_reason
    sent = {"reject_reason": reason} if is_sent else {}
    try:
        return Reading(Disposition.REJECT, [], sent, decision=Reject.from_result(sent))
    except DecisionError as error:
        found = [of_issue(error.refusal, Topic.REJECT)]
        return Reading(Disposition.REJECT, found, {}, decision=Reject())


def _next_to_reject(endpoint: str, body: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong with the result of a reject: nothing but a reason may be in it."""
    result = body.get("result")
    is_odd = bool(result) and not isinstance(result, Mapping)
    if endpoint == "registration_alias" and "result" not in body:
        text = "a reject of a registration needs an empty result"
        yield violation(Topic.REJECT, text, TRANSCRIBED)
    elif is_odd or (endpoint == "participant_properties" and {*(result or ())} - {"reject_reason"}):
        text = "the result of a reject is an object with nothing but reject_reason"
        yield violation(Topic.REJECT, text, TRANSCRIBED)
    elif result and endpoint != "participant_properties":
        text = "Infinity drops the result of a reject, or uses it and does not reject; leave it out"
        yield warning(Topic.REJECT, text, REPORTED)


def _redirected(result: object) -> Reading:
    # Typed servers send all fields that they know.
    fields = result.items() if isinstance(result, Mapping) else ()
    given = {name: value for name, value in fields if value is not None}
    if "service_type" in given:
        return _dropped(violation(Topic.REDIRECT, REDIRECTED_SERVICE, DOCUMENTED))
    try:
        decision = Redirect.from_result(given)
    except DecisionError as error:
        found = [of_issue(error.refusal, Topic.REDIRECT)]
        return Reading(Disposition.DROPPED, found, text=str(error))
    found = [of_warning(text, Topic.REDIRECT) for text in decision.warnings]
    return Reading(Disposition.REDIRECT, found, given, decision=decision)
