"""Checks of the action and the result that a branch of a script prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pexpolicy import (
    Decision,
    DecisionError,
    MediaLocation,
    ParticipantProperties,
    Service,
)
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES, service_class
from pexpolicy.models.errors import ValidationIssue
from pexpolicy.models.extras import NO_EXTRAS, Extras
from pexpolicy.text import did_you_mean
from pexpolicy_local_policy.constants import UNKNOWN
from pexpolicy_local_policy.secrets import covered_value
from pexpolicy_local_policy.variables import Kind
from pexpolicy_local_policy.verdict import ACTIONS, brief_name

Found = tuple[str, str]
"""A level and a text."""
CheckNames = Callable[[Decision], None]
"""Raises ``DecisionError`` for a decision with a name that Infinity does not know."""
_SAMPLES = ("x", "1234", "sip:a@example.com", "00000000-0000-4000-8000-000000000000", 1, True)
_RESULT = "result"
_SEEN = ("media_playlist",)
"""Fields that scripts in use have, and that are documented nowhere."""
_MODELS: Mapping[Kind, type[Decision]] = {
    "participant": ParticipantProperties,
    "media_location": MediaLocation,
}


def check_document(
    kind: Kind, document: object, extras: Extras = NO_EXTRAS, names: CheckNames | None = None
) -> Iterator[Found]:
    """Yield what Infinity would not take, or ignore, of what a script prints.

    Values that are not known are ``UNKNOWN``. No text shows the value of a field that is a secret.
    """
    if document == UNKNOWN:
        return
    if not isinstance(document, dict):
        yield "error", "the output is no object"
        return
    actions, action = ACTIONS.get(kind, ()), document.get("action")
    if actions and action not in (*actions, UNKNOWN) and UNKNOWN not in document:
        found = f"is {covered_value(action)}, which " if "action" in document else ""
        yield "error", f"the action {found}is not one of {', '.join(actions)}"
        return
    if not actions and "action" in document:
        yield "warning", "a script for media locations has no action"
        action = None
    result = document.get(_RESULT, UNKNOWN if UNKNOWN in document else None)
    if result == UNKNOWN:
        return
    if _RESULT not in document:
        needed = kind == "media_location" or action == "redirect"
        yield "error" if needed else "warning", "there is no result"
    elif not isinstance(result, dict):
        yield "error", f"the result is {covered_value(result)}, not an object"
    else:
        yield from _check_result(kind, str(action or "continue"), result, extras, names)


def _check_result(
    kind: Kind,
    action: str,
    result: Mapping[str, Any],
    extras: Extras,
    names: CheckNames | None,
) -> Iterator[Found]:
    if action == "reject":
        known = {"reject_reason"} if kind == "participant" else set()
        text = "a reject has nothing but reject_reason" if known else "a reject has no result"
        yield from (
            ("warning", f"{_name(n)}: {text}") for n in result if n not in {*known, UNKNOWN}
        )
    elif action == "redirect":
        if "new_alias" not in result and UNKNOWN not in result:
            yield "error", "a redirect has no new_alias"
        others = [name for name in result if name not in ("new_alias", UNKNOWN)]
        yield from (("error", f"{_name(n)}: a redirect has nothing but new_alias") for n in others)
    elif action == "continue":
        if result:
            yield from _check_fields(kind, result, extras, names)
        elif kind == "media_location":
            yield "error", "the result has no location"


def _check_fields(
    kind: Kind, result: Mapping[str, Any], extras: Extras, names: CheckNames | None
) -> Iterator[Found]:
    service_type = result.get("service_type", UNKNOWN if UNKNOWN in result else None)
    if kind == "service" and service_type == UNKNOWN:
        return
    model = service_class(service_type, extras) if kind == "service" else _MODELS[kind]
    if model is None:
        given = f"{covered_value(service_type)} is not" if service_type else "is missing; it is"
        text = f"service_type: {given} one of {', '.join(SERVICE_TYPES)}"
        if result.keys() <= ParticipantProperties.names:
            text += "; is it a script for participants? Write --kind participant"
        yield "error", text
        return
    written = {name: value for name, value in result.items() if not _holds_unknown(name, value)}
    for name in written:
        if name not in {*model.names, *extras.fields, *_SEEN}:
            yield "warning", f"{_name(name)}: {_no_field(kind, model, name, service_type)}"
    for issue in _issues(model, result, written, extras):
        value = f" (and not {covered_value(issue.value)})" if issue.shown else ""
        yield "error", f"{_name(issue.field)}: {issue.text}{value}"
    if names is not None and (decision := _sample(model, written, extras)) is not None:
        try:
            names(decision)
        except DecisionError as error:
            yield "error", f"{error.refusal.field}: {error.refusal.rule}"


def _holds_unknown(name: str, value: Any) -> bool:
    """Return whether a field, or a part of its value, is known to a run of the script only."""
    if isinstance(value, dict):
        return any(_holds_unknown(*item) for item in value.items())
    if isinstance(value, list):
        return any(_holds_unknown(name, item) for item in value)
    return UNKNOWN in name or (isinstance(value, str) and UNKNOWN in value)


def _no_field(kind: Kind, model: type[Decision], name: str, service_type: object) -> str:
    if kind != "service" or not issubclass(model, Service):
        return f"a {kind} script has no such field{did_you_mean(name, model.names)}"
    hint = model.field_hint(name)
    more = f"; {hint}" if hint else did_you_mean(name, model.names)
    return f"a service of type {service_type} has no such field{more}"


def _issues(
    model: type[Decision], result: Mapping[str, Any], written: Mapping[str, Any], extras: Extras
) -> Iterator[ValidationIssue]:
    """Yield the issues of a result, those that unknown values may settle excepted."""
    for issue in model.find_issues(written, extras):
        name = str(issue.key[0]) if issue.key else ""
        if len(written) < len(result):
            alone = {name: written[name]} if name in written else {}
            if all(other.key[:1] != (name,) for other in model.find_issues(alone, extras)):
                continue
            if not alone:
                continue
        if name in model.names:
            yield issue


def _sample(model: type[Decision], written: Mapping[str, Any], extras: Extras) -> Decision | None:
    """Return a decision with these fields, and samples of others that it must have."""
    fields = dict(written)
    for _ in range(len(model.names)):
        try:
            return model.from_result(fields, extras=extras)
        except DecisionError as error:
            name = error.refusal.key[0] if error.refusal.key else ""
            if not isinstance(name, str) or name in fields:
                return None
            fits = (
                sample
                for sample in _SAMPLES
                if all(i.key[:1] != (name,) for i in model.find_issues({name: sample}, extras))
            )
            fields[name] = next(fits, "x")
    return None


def _name(name: str) -> str:
    return "a key" if UNKNOWN in name else brief_name(name)
