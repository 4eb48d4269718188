"""Replies that a policy server gives without looking at the request, as the ``then`` of a rule."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pexpolicy.contract.rendering import Rendered
from pexpolicy.endpoints.participant_properties import ParticipantProperties
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.importing.predecessor import corrected
from pexpolicy.text import brief

Then = dict[str, Any]


def decision_in(written: str, endpoint: str, remarks: list[str]) -> Then:
    """Return what Infinity makes of a whole reply in JSON; an empty one is ``continue``.

    What Infinity ignores is left out and remarked on. Raises ``ValueError`` for a reply that no
    rule can give.
    """
    try:
        reply = json.loads(written) if written else {}
    except ValueError as error:
        raise ValueError(f"is no JSON: {error}") from None
    if not isinstance(reply, dict):
        raise ValueError("is no JSON object")  # noqa: TRY004 - of a file
    result = reply.get("result")
    fields = result if isinstance(result, dict) else {}
    if reply.get("action") == "reject":
        return _reject(fields, endpoint)
    if reply.get("action") == "redirect" and isinstance(fields.get("new_alias"), str):
        return {"action": "redirect", "new_alias": _literal(fields["new_alias"])}
    if reply and fields and reply.get("status") == "success":
        return {"result": _known(fields, endpoint, remarks)}
    if (action := reply.get("action", "continue")) not in ("continue", None):
        hint = "write continue, reject, or redirect with a new_alias in its result"
        raise ValueError(f"has the action {brief(action)}: {hint}")
    if fields:
        remarks.append("its status is not success, so Infinity ignores its result")
    return {"action": "continue"}


def _reject(fields: Mapping[str, Any], endpoint: str) -> Then:
    """A reject refuses the call whatever is said next to it."""
    reason = fields.get("reject_reason")
    if isinstance(reason, str) and reason and endpoint == "participant_properties":
        return {"action": "reject", "reject_reason": _literal(reason)}
    return {"action": "reject"}


def _known(fields: Mapping[str, Any], endpoint: str, remarks: list[str]) -> dict[str, Any]:
    """Return the fields that Infinity knows, in the types that it wants."""
    model = _service(fields) if endpoint == "service_configuration" else ParticipantProperties
    kept: dict[str, Any] = {}
    for name, value in fields.items():
        if value is None:
            continue
        if name == "service_type" and endpoint == "service_configuration":
            kept[name] = value
        elif name not in model.names:
            remarks.append(f"{name} is left out: Infinity knows no such field")
        elif (right := corrected(model.hints[name], value)) is None:
            remarks.append(f"{name} is left out: it is empty")
        else:
            kept[name] = _literal(right)
    return kept


def _service(fields: Mapping[str, Any]) -> type[Rendered]:
    kind = fields.get("service_type")
    if isinstance(kind, str) and kind in SERVICE_TYPES:
        return SERVICE_TYPES[kind]
    said = "has no service_type" if kind is None else f"has the service_type {brief(kind)}"
    raise ValueError(f"{said}, so Infinity drops it; write one of {', '.join(SERVICE_TYPES)}")


def _literal(value: Any) -> Any:
    """Return a value that reads the same in a rule: no null, and each brace twice."""
    if isinstance(value, dict):
        return {key: _literal(part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_literal(part) for part in value]
    if isinstance(value, str):
        return value.replace("{", "{{").replace("}", "}}")
    return value
