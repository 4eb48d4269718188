"""Repairs of foreign results that are clear in meaning, but not written with Pexip's types.

Typed servers send null for what is not set, and others write booleans and numbers as text. It is
not proven what Infinity makes of them, so each repair is a warning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from msgspec import UnsetType

from pexpolicy.endpoints.base import PROTECTIONS
from pexpolicy.endpoints.directory_information import DirectoryEntry
from pexpolicy.endpoints.media_location import MediaLocation
from pexpolicy.endpoints.participant_properties import ParticipantProperties
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.contract import Contract, ModelBase, alternatives, contract_of
from pexpolicy.models.rules import Confidence

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
        repairs.append(_null(name))
    if endpoint == "service_configuration" and result.get("service_tag") is None:
        made["service_tag"] = ""
        repairs.append(UNTAGGED)
    return ({**body, "result": made}, tuple(repairs)) if repairs else (body, ())


def _with_entries(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Return a phone book with a text where the user name is null, and a plain ignore_local."""
    made, repairs = dict(body), list[str]()
    entries, ignored = body.get("result"), body.get("ignore_local")
    if "ignore_local" in body and ignored is None:
        del made["ignore_local"]
        repairs.append(_null("ignore_local"))
    elif isinstance(ignored, str) and ignored.lower() in BOOLEANS:
        made["ignore_local"] = BOOLEANS[ignored.lower()]
        repairs.append(_text("ignore_local", ignored, ignored.lower()))
    if isinstance(entries, list):
        made["result"] = [
            _fields(contract_of(DirectoryEntry), entry, f"entries[{number}].", repairs)
            for number, entry in enumerate(entries)
        ]
    return (made, tuple(repairs)) if repairs else (body, ())


def _fields(model: Contract, fields: Any, place: str, repairs: list[str]) -> Any:
    """Return fields repaired at any depth, and add a warning for each repair to ``repairs``."""
    if not isinstance(fields, dict):
        return fields
    made: dict[str, Any] = {}
    for name, value in fields.items():
        inner = model.nested_models.get(name)
        if value is None and _is_optional(model, name):
            kept = {name: model.constants[name]} if name in model.constants else {}
            repairs.append(_null(place + name, kept.get(name)))
            made |= kept
        elif isinstance(value, str) and (meant := _meant(model, name, value)) is not None:
            made[name], word = meant
            repairs.append(_text(place + name, value, word))
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


def _is_optional(model: Contract, name: str) -> bool:
    """Return True for a field that null may leave out: it protects nothing and has no null."""
    hint = model.hints.get(name)
    is_unset = UnsetType in get_args(hint) and NoneType not in get_args(hint)
    return name in model.constants or (is_unset and name not in PROTECTIONS)


def _meant(model: Contract, name: str, value: str) -> tuple[bool | int, str] | None:
    """Return the boolean or number that a text means in a field of that type, and its JSON."""
    kinds = _kinds(model, name)
    if bool in kinds and value.lower() in BOOLEANS:
        return BOOLEANS[value.lower()], value.lower()
    if int in kinds and str not in kinds and _WHOLE_NUMBER.fullmatch(value):
        return int(value), value
    return None


def _kinds(model: Contract, name: str) -> list[Any]:
    """Return the plain types of a field."""
    kinds = alternatives(model.hints.get(name))
    return [get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in kinds]


def _text(place: str, value: str, word: str) -> str:
    text = f"the text {value!r} means {word}; write it without quotes"
    return f"{place}: {text} [{Confidence.REPORTED}]"


def _null(place: str, kept: object = None) -> str:
    instead = "leave it out" if kept is None else f"write {kept!r}"
    return f"{place}: null is no value of this field; {instead} [{Confidence.REPORTED}]"
