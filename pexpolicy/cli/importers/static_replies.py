"""Replies that a policy server gives without looking at the request, as the ``then`` of a rule."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pexpolicy.conformance.replies import Disposition, read_envelope
from pexpolicy.endpoints.participant_properties import ParticipantProperties
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
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
        raise ValueError(f" is no JSON: {error}") from None
    if not isinstance(reply, dict):
        raise ValueError(" is no JSON object")  # noqa: TRY004 - of a file
    result = reply.get("result")
    reading = read_envelope(endpoint, reply)
    if reading.disposition is Disposition.DROPPED and isinstance(result, dict):
        # TOML has no null, and a field that is not there means the same.
        whole = read_envelope(endpoint, {**reply, "result": _literal(result, braces="{}")})
        reading = whole if whole.disposition is Disposition.RESULT else reading
    if reading.disposition is Disposition.REJECT:
        return {"action": "reject", **{n: _literal(v) for n, v in reading.result.items() if v}}
    if reading.disposition is Disposition.REDIRECT:
        return {"action": "redirect", "new_alias": _literal(reading.result["new_alias"])}
    if reading.disposition is Disposition.RESULT:
        remarks += reading.repairs
        return {"result": _known(reading.result, endpoint, remarks)}
    if (action := reply.get("action", "continue")) not in ("continue", None):
        hint = "write continue, reject, or redirect with a new_alias in its result"
        raise ValueError(f" has the action {brief(action)}: {hint}")
    if reading.disposition is Disposition.DROPPED:
        raise ValueError(f": {reading.text}")
    if result:
        remarks.append("its status is not success, so Infinity ignores its result")
    return {"action": "continue"}


def _known(fields: Mapping[str, Any], endpoint: str, remarks: list[str]) -> dict[str, Any]:
    """Return the fields that Infinity knows."""
    is_service = endpoint == "service_configuration"
    model = SERVICE_TYPES[fields["service_type"]] if is_service else ParticipantProperties
    kept: dict[str, Any] = {}
    for name, value in fields.items():
        if value is None:
            continue
        if name not in model.names and name != "service_type":
            remarks.append(f"{name} is left out: Infinity knows no such field")
        else:
            kept[name] = _literal(value)
    return kept


def _literal(value: Any, braces: str = "{{}}") -> Any:
    """Return a value that reads the same in a rule: no null, and each brace twice."""
    if isinstance(value, dict):
        return {key: _literal(part, braces) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_literal(part, braces) for part in value]
    if isinstance(value, str) and braces == "{{}}":
        return value.replace("{", "{{").replace("}", "}}")
    return value
