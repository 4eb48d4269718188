"""What a script of a node gets before and after our answer, and what takes effect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import TemplateSyntaxError, nodes

from pexpolicy import Continue, Decision, MediaLocation, Reject, Request, Service
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.contract import Extras
from pexpolicy_local_policy.language import parse
from pexpolicy_local_policy.variables import (
    KIND_OF,
    PARTICIPANT,
    Kind,
    ScriptInput,
    from_request,
    kind_of,
)

SUGGESTED = "suggested_media_overflow_locations"


def input_before(endpoint: str, request: Request) -> tuple[ScriptInput, tuple[str, ...]]:
    """Return the variables of a script that decides by itself, and those that are unknown.

    What Infinity has configured is known to the node only.
    """
    kind = KIND_OF[endpoint]
    unknown = ("service_config", SUGGESTED) if kind == "media_location" else ("service_config",)
    return from_request(kind, request), unknown


def input_after(
    endpoint: str,
    request: Request,
    decision: Decision,
) -> tuple[ScriptInput, tuple[str, ...]]:
    """Return the variables of a script that follows a decision, and those that are unknown."""
    kind, fields = KIND_OF[endpoint], _fields(decision)
    found = from_request(kind, request)
    changed = {**found.variables, "service_config": None}
    unknown = []
    if kind == "service" and not isinstance(decision, Continue):
        changed["service_config"] = fields if isinstance(decision, Service) else None
    else:
        unknown.append("service_config")
    if kind != "media_location":
        disposition = decision.action.upper()
        changed["call_info"] = {**found.call_info, "external_policy_disposition": disposition}
    elif isinstance(decision, MediaLocation):
        changed[SUGGESTED] = suggested(fields)
    else:
        unknown.append(SUGGESTED)
    if kind == "participant" and not isinstance(decision, Reject):
        known = {name: value for name, value in fields.items() if name in PARTICIPANT}
        changed["participant"] = {**changed["participant"], **known}
    return ScriptInput(kind, changed), tuple(unknown)


def suggested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``suggested_media_overflow_locations`` for a location that was chosen."""
    overflow = [
        *(fields.get("overflow_locations") or ()),
        *(
            fields[name]
            for name in ("primary_overflow_location", "secondary_overflow_location")
            if fields.get(name)
        ),
        *(None, None),
    ]
    return {
        "location": fields.get("location"),
        "primary_overflow_location": overflow[0],
        "secondary_overflow_location": overflow[1],
    }


def final_decision(
    endpoint: str, ours: Decision, made: Decision, extras: Extras
) -> Decision | None:
    """Return the decision that takes effect on a node, ``None`` where that is ours, unchanged.

    ``made`` is the decision of the script. It replaces a service; for participants it holds what
    changes only, and the overflow locations of external policy stay.
    """
    final = made
    if made.action == ours.action == "continue" and endpoint != "service_configuration":
        fields, before = _fields(made), _fields(ours)
        if endpoint == "media_location" and isinstance(ours, MediaLocation):
            fields = {"location": fields.get("location", before.get("location"))}
        merged = {**before, **fields}
        final = ENDPOINTS[endpoint].from_result(merged, extras) if merged else made
    is_same = final.action == ours.action and _fields(final) == _fields(ours)
    return None if is_same else final


def _fields(decision: Decision) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(decision.result or b"{}")
    return found


def told_kind(source: str) -> Kind:
    """Return the kind that the variables of a script tell; service for one that cannot be read."""
    try:
        names = {node.name for node in parse(source).find_all(nodes.Name)}
    except (TemplateSyntaxError, RecursionError):
        return "service"
    return kind_of(names) or "service"
