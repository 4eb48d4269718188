"""The machine-readable contract, made from the models: JSON Schema (2020-12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.directory_information import Directory
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.attribute_docs import attribute_docs
from pexpolicy.models.contract import contract_of
from pexpolicy.models.request import (
    Parameter,
    Request,
    by_prefix,
    flag,
    header_values,
    integer,
    parameters_of,
)
from pexpolicy.models.validation import MAX_TEXT

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def document() -> Schema:
    """Return the schema of all requests and replies, such as ``media_location.reply``."""
    parts = _models()
    for name, endpoint in ENDPOINTS.items():
        parts |= {f"{name}.request": _request(endpoint), f"{name}.reply": REPLIES[name]}
    return {"$schema": DRAFT, "title": "pexpolicy", "$defs": parts}


def _request(endpoint: Endpoint[Any]) -> Schema:
    """Return the schema of the query parameters; others are allowed, as versions add new ones."""
    request: type[Request] = endpoint.request
    patterns: Schema = {}
    properties: Schema = {}
    docs = attribute_docs(request)
    for name, parameter in parameters_of(request).items():
        pattern = name_pattern(parameter)
        described = properties if pattern is None else patterns
        described[pattern or parameter.wire] = parameter_schema(parameter, docs[name])
    path = endpoint.path + ("<alias>" if endpoint.path.endswith("/") else "")
    return {
        "description": f"The query parameters of GET {path}; a list where one is repeated.",
        "type": "object",
        "properties": properties,
        "patternProperties": patterns,
        "additionalProperties": True,
    }


def parameter_schema(parameter: Parameter[Any], doc: str) -> Schema:
    """Return the schema of a query parameter; a list where it is repeated."""
    schema: Schema = {
        "description": doc,
        "type": ["string", "array"],
        "items": {"type": "string"},
        "$comment": " ".join(filter(None, (parameter.mark, parameter.since))),
    }
    if parameter.read is integer:
        schema["pattern"] = "^-?[0-9]*$"
    elif parameter.read is flag:
        schema["pattern"] = "^([Tt]rue|[Ff]alse)?$"
    if parameter.values:
        schema["examples"] = list(parameter.values)
    return schema


def name_pattern(parameter: Parameter[Any]) -> str | None:
    """Return the pattern of the names of a parameter that has several."""
    if parameter.read is by_prefix:
        return f"^{parameter.wire}"
    if parameter.read is not header_values:
        return None
    letters = (f"[{c.lower()}{c.upper()}]" if c.isalpha() else "[-_]" for c in parameter.wire)
    return f"^{''.join(letters)}$"


def _models() -> Schema:
    decisions = (decision for endpoint in ENDPOINTS.values() for decision in endpoint.decisions)
    public = (contract_of(one) for one in decisions if not one.__name__.startswith("_"))
    models = dict.fromkeys(part for model in public for part in (model, *model.nested))
    wires = [model.lenient for model in models]
    _, components = msgspec.json.schema_components(wires, ref_template="#/$defs/{name}")
    for model in models:
        schema = components[model.name]
        schema["required"] = sorted(n for n, one in model.defaults.items() if one is not UNSET)
        schema["description"] = (model.model.__doc__ or "").partition("\n")[0]
        docs = attribute_docs(model.model)
        for name, properties in schema["properties"].items():
            properties.pop("default", None)
            properties |= {"description": docs[name], "$comment": str(model.field(name).mark)}
    return components


def _ref(*models: str) -> Schema:
    refs = [{"$ref": f"#/$defs/{model}"} for model in models]
    return refs[0] if len(refs) == 1 else {"anyOf": refs}


def _reply(description: str, *forms: Schema, **properties: Schema) -> Schema:
    """Return the schema of an envelope: ``status``, one of the forms, and our extra keys."""
    return {
        "description": description,
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": {"const": "success"},
            "decision_id": {"type": "string"},
            "decided_by": {"type": "string"},
            "reason": {"type": "string", "maxLength": MAX_TEXT},
            **properties,
        },
        "anyOf": list(forms),
    }


def _form(description: str, action: str, result: Schema | None, *, required: bool = True) -> Schema:
    """Return one form of a reply; without a schema for its result, it has no result."""
    form: Schema = {
        "description": description,
        "properties": {"action": {"const": action}},
        "required": ["action", *(["result"] if result and required else [])],
    }
    if result is None:
        return form | {"not": {"required": ["result"]}}
    form["properties"]["result"] = result
    return form


_EMPTY: Schema = {"type": "object", "maxProperties": 0}
_REJECT_REASON: Schema = {
    "type": "object",
    "properties": {"reject_reason": {"type": "string", "maxLength": MAX_TEXT}},
    "additionalProperties": False,
}
_NOT_FOUND: Schema = {
    "properties": {"status": {"const": "fail"}, "action": {"const": "continue"}},
    "not": {"required": ["result"]},
}
_ANY_STATUS: Schema = {"enum": ["success", "fail"]}
_ENTRIES: Schema = {"type": "array", "items": _ref("DirectoryEntry")}

REPLIES: Mapping[str, Schema] = {
    "service_configuration": _reply(
        "The reply to a request about a service.",
        _form("A service.", "continue", _ref(*(one.__name__ for one in SERVICE_TYPES.values()))),
        _form("Infinity's own database decides.", "continue", None),
        _form("The call is rejected.", "reject", None),
        _form("A SIP caller is redirected.", "redirect", _ref("Redirect") | {"maxProperties": 1}),
    ),
    "participant_properties": _reply(
        "The reply to a request about a participant.",
        _form("Properties that are changed.", "continue", _ref("ParticipantProperties")),
        _form("Nothing is changed.", "continue", None),
        _form("The participant is rejected.", "reject", _REJECT_REASON, required=False),
    ),
    "media_location": _reply(
        "The reply to a request for a location; with status 404, Infinity chooses it itself.",
        _form("A location.", "continue", _ref("MediaLocation")),
        _NOT_FOUND,
        status=_ANY_STATUS,
    ),
    "participant_avatar": _reply(
        "The body of a 404: no picture. A picture is a 200 with a JPEG (image/jpeg).",
        _NOT_FOUND,
        status={"const": "fail"},
    ),
    "directory_information": _reply(
        "The reply to a search in the phone book.",
        {"properties": {"result": _ENTRIES}, "required": ["result"]},
        ignore_local={
            "type": "boolean",
            "description": attribute_docs(Directory)["ignore_local"],
            "default": False,
        },
    ),
    "registration_alias": _reply(
        "The reply to a request about a device that registers.",
        _form("The device must present these.", "continue", _ref("Credentials")),
        _form("Infinity's own database decides.", "continue", _EMPTY),
        _form("The registration is rejected.", "reject", _EMPTY),
    ),
}
"""The schema of each reply, its envelope included."""
