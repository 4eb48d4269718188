"""The machine-readable contract, made from the models: JSON Schema (2020-12)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.directory_information import Directory, DirectoryEntry
from pexpolicy.endpoints.media_location import MediaLocation
from pexpolicy.endpoints.participant_properties import ParticipantProperties
from pexpolicy.endpoints.registration_alias import Credentials
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.attribute_docs import attribute_docs
from pexpolicy.models.contract import Contract, ModelBase, contract_of
from pexpolicy.models.decision import Redirect
from pexpolicy.models.model import Model
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
RESULTS: tuple[type[ModelBase], ...] = (
    *SERVICE_TYPES.values(),
    Redirect,
    ParticipantProperties,
    MediaLocation,
    DirectoryEntry,
    Credentials,
)
"""The models of results; nested models are added to them."""


class UnknownSchemaError(LookupError):
    """There is no schema of this name."""


def names() -> list[str]:
    """Return the names of all schemas."""
    return [f"{name}.{part}" for name in ENDPOINTS for part in ("request", "reply")]


def document(name: str = "") -> Schema:
    """Return one schema by name, or all of them; raise ``UnknownSchemaError``.

    ``name`` is ``media_location.reply``, or ``media_location`` for both schemas of that request.
    """
    parts: Schema = {}
    for known in names():
        endpoint, _, part = known.partition(".")
        if name in ("", known, endpoint):
            parts[known] = _request(ENDPOINTS[endpoint]) if part == "request" else REPLIES[endpoint]
    if not parts:
        raise UnknownSchemaError(name)
    only = parts.pop(name, {})
    return {"$schema": DRAFT, "title": name or "pexpolicy", **only, "$defs": parts | _models()}


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
    models = dict.fromkeys(part for model in RESULTS for part in _with_inner(contract_of(model)))
    wires = [model.lenient for model in models]
    _, components = msgspec.json.schema_components(wires, ref_template="#/$defs/{name}")
    for model in models:
        schema = components[model.name]
        schema["required"] = sorted({*schema.get("required", ()), *model.constants})
        schema["description"] = (model.model.__doc__ or "").partition("\n")[0]
        docs = attribute_docs(model.model)
        for name, properties in schema["properties"].items():
            properties.pop("default", None)
            properties |= {"description": docs[name], "$comment": str(model.field(name).mark)}
    return components


def _with_inner(model: Contract) -> Iterator[Contract]:
    yield model
    for inner in model.nested:
        yield from _with_inner(inner)


def _ref(*models: type[Model]) -> Schema:
    refs = [{"$ref": f"#/$defs/{model.__name__}"} for model in models]
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
_ENTRIES: Schema = {"type": "array", "items": _ref(DirectoryEntry)}

REPLIES: Mapping[str, Schema] = {
    "service_configuration": _reply(
        "The reply to a request about a service.",
        _form("A service.", "continue", _ref(*SERVICE_TYPES.values())),
        _form("Infinity's own database decides.", "continue", None),
        _form("The call is rejected.", "reject", None),
        _form("A SIP caller is redirected.", "redirect", _ref(Redirect) | {"maxProperties": 1}),
    ),
    "participant_properties": _reply(
        "The reply to a request about a participant.",
        _form("Properties that are changed.", "continue", _ref(ParticipantProperties)),
        _form("Nothing is changed.", "continue", None),
        _form("The participant is rejected.", "reject", _REJECT_REASON, required=False),
    ),
    "media_location": _reply(
        "The reply to a request for a location; with status 404, Infinity chooses it itself.",
        _form("A location.", "continue", _ref(MediaLocation)),
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
        _form("The device must present these.", "continue", _ref(Credentials)),
        _form("Infinity's own database decides.", "continue", _EMPTY),
        _form("The registration is rejected.", "reject", _EMPTY),
    ),
}
"""The schema of each reply, its envelope included."""
