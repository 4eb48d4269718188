"""The disposition of a foreign reply: the effect of its status, action and result on Infinity.

The conformance test, plugins that relay the replies of other servers, and the import of stored
replies all use this one reading of section 2 of the contract. A result is repaired first where
one word means one value.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from msgspec import UnsetType

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import PROTECTIONS
from pexpolicy.endpoints.directory_information import Directory
from pexpolicy.endpoints.media_location import MediaLocation
from pexpolicy.endpoints.participant_properties import ParticipantProperties
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.contract import (
    NO_EXTRAS,
    Contract,
    Extras,
    ModelBase,
    alternatives,
    contract_of,
)
from pexpolicy.models.decision import Decision, Name, Redirect, Reject
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.rules import Confidence
from pexpolicy.text import brief

UNTAGGED = (
    "service_tag: is missing, which a transcription of Pexip's text forbids; "
    f"write an empty one [{Confidence.DISPUTED}]"
)
BOOLEANS: Mapping[str, bool] = {"true": True, "false": False}
OF_ACTIONS = {"service_configuration": "new_alias", "participant_properties": "reject_reason"}
"""The field of a result that has a meaning for one action only."""
MODELS: Mapping[str, type[ModelBase]] = {
    "participant_properties": ParticipantProperties,
    "media_location": MediaLocation,
}
_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")


def repaired(endpoint: str, body: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Return a reply with its result repaired, and a warning for each repair."""
    result = body.get("result")
    if endpoint == "directory_information":
        return _with_entries(body)
    if not isinstance(result, dict):
        return body, ()
    model = MODELS.get(endpoint)
    if endpoint == "service_configuration":
        kind = result.get("service_type")
        model = SERVICE_TYPES.get(kind) if isinstance(kind, str) else None
    if model is None:
        return body, ()
    repairs: list[str] = []
    made = _fields(contract_of(model), result, "", repairs)
    name = OF_ACTIONS.get(endpoint, "")
    if name in made and made[name] is None:
        del made[name]
        repairs.append(_unset(name))
    if endpoint == "service_configuration" and result.get("service_tag") is None:
        made["service_tag"] = ""
        repairs.append(UNTAGGED)
    return ({**body, "result": made}, tuple(repairs)) if repairs else (body, ())


def _with_entries(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Return a phone book with a text where the user name is null, and a plain ignore_local."""
    keys = {"result": "entries", "ignore_local": "ignore_local"}
    fields = {name: body[key] for key, name in keys.items() if key in body}
    repairs: list[str] = []
    made = _fields(contract_of(Directory), fields, "", repairs)
    if not repairs:
        return body, ()
    others = {key: value for key, value in body.items() if key not in keys}
    return others | {key: made[name] for key, name in keys.items() if name in made}, tuple(repairs)


def _fields(model: Contract, fields: Any, place: str, repairs: list[str]) -> Any:
    """Return fields repaired at any depth, and add a warning for each repair to ``repairs``."""
    if not isinstance(fields, dict):
        return fields
    made: dict[str, Any] = {}
    for name, value in fields.items():
        inner = model.nested_models.get(name)
        if _is_unset(model, name, value):
            kept = {name: model.constants[name]} if name in model.constants else {}
            repairs.append(_unset(place + name, value, kept.get(name)))
            made |= kept
        elif isinstance(value, str) and (meant := _meant(model, name, value)) is not None:
            made[name], word = meant
            text = f"the text {value!r} means {word}; write it without quotes"
            repairs.append(f"{place}{name}: {text} [{Confidence.REPORTED}]")
        elif isinstance(value, float) and value.is_integer() and int in _kinds(model, name):
            made[name] = int(value)
            text = f"{value} has a decimal point; write {int(value)}"
            repairs.append(f"{place}{name}: {text} [{Confidence.REPORTED}]")
        elif inner is not None and isinstance(value, list):
            made[name] = [
                _fields(inner, item, f"{place}{name}[{number}].", repairs)
                for number, item in enumerate(value)
            ]
        else:
            made[name] = (
                value if inner is None else _fields(inner, value, f"{place}{name}.", repairs)
            )
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


def _meant(model: Contract, name: str, value: str) -> tuple[bool | int, str] | None:
    """Return the boolean or number that a text means in a field of that type, and its JSON."""
    kinds = _kinds(model, name)
    if bool in kinds and value.lower() in BOOLEANS:
        return BOOLEANS[value.lower()], value.lower()
    if int in kinds and str not in kinds and _WHOLE_NUMBER.fullmatch(value):
        return int(value), value
    return None


def _kinds(model: Contract, name: str) -> list[Any]:
    kinds = alternatives(model.hints.get(name))
    return [get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in kinds]


def _unset(place: str, value: object = None, kept: object = None) -> str:
    instead = "leave it out" if kept is None else f"write {kept!r}"
    what = "null" if value is None else "an empty text"
    return f"{place}: {what} is no value of this field; {instead} [{Confidence.REPORTED}]"


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
    if wrong and not is_open(endpoint, result):
        return Reading(Disposition.DROPPED, made.get("result"), repairs, wrong)
    return Reading(Disposition.RESULT, result, text=wrong) if wrong else _without(endpoint, action)


def _without(endpoint: str, action: object) -> Reading:
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
    if is_open(endpoint, reading.result):
        return True
    if isinstance(reading.decision, ParticipantProperties):
        return not contract_of(ParticipantProperties).names.isdisjoint(reading.result)
    return reading.decision is not None


def is_open(endpoint: str, result: object) -> bool:
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
    if wrong := wrong_shape(endpoint, result):
        return wrong
    if endpoint == "participant_avatar":
        return "a JSON result is not a picture; Infinity would show a placeholder"
    if endpoint == "service_configuration" and "new_alias" in result:
        return "new_alias is not a field of a service; it needs action = 'redirect'"
    if endpoint == "participant_properties" and action != "reject" and "reject_reason" in result:
        return "reject_reason alone rejects no call; it needs action = 'reject'"
    return ""
