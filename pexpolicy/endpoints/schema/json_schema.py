"""JSON Schema (draft 2020-12) of each request and each reply, made from the models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.directory_information import DirectoryEntry
from pexpolicy.endpoints.media_location import MediaLocation
from pexpolicy.endpoints.participant_properties import ParticipantProperties
from pexpolicy.endpoints.registration_alias import Credentials
from pexpolicy.endpoints.schema.replies import REPLIES, Schema
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.decision import Redirect
from pexpolicy.models.request import Parameter, Request, by_prefix, flag, header_values, integer
from pexpolicy.models.rules import Field
from pexpolicy.models.serialization import ModelBase
from pexpolicy.models.struct_types import lenient

DRAFT = "https://json-schema.org/draft/2020-12/schema"
RESULTS: tuple[type[ModelBase], ...] = (
    *SERVICE_TYPES.values(),
    Redirect,
    ParticipantProperties,
    MediaLocation,
    DirectoryEntry,
    Credentials,
)
"""What a result can be; the models inside them come with them."""
VALUES: Mapping[str, Any] = {"false": False, "true": True, "null": None, "0": 0}
BEHAVIOURS = ("DNS", "automatic", "nobody")
"""What Infinity does without a field, where that is no value of the field."""


class UnknownSchemaError(LookupError):
    """There is no schema of this name."""


def names() -> list[str]:
    """The names of the schemas that there are."""
    return [f"{name}.{part}" for name in ENDPOINTS for part in ("request", "reply")]


def document(name: str = "") -> Schema:
    """One schema by name, or all of them; raises ``UnknownSchemaError``.

    ``name`` is ``media_location.reply``, or ``media_location`` for both schemas of that request.
    """
    chosen = [known for known in names() if name in ("", known, known.partition(".")[0])]
    if not chosen:
        raise UnknownSchemaError(name)
    parts = {
        known: _request(ENDPOINTS[known.partition(".")[0]])
        if known.endswith(".request")
        else REPLIES[known.partition(".")[0]]
        for known in chosen
    }
    models = _named_in(parts, _models())
    if len(parts) == 1:
        ((title, only),) = parts.items()
        return {"$schema": DRAFT, "title": title, **only, "$defs": models}
    return {"$schema": DRAFT, "title": name or "pexpolicy", "$defs": parts | models}


def _named_in(schema: Any, models: Schema) -> Schema:
    """The models that a schema refers to, and those that they refer to."""
    if isinstance(schema, list):
        return {k: v for item in schema for k, v in _named_in(item, models).items()}
    if not isinstance(schema, dict):
        return {}
    found = _named_in(list(schema.values()), models)
    if (ref := schema.get("$ref")) is not None:
        model = ref.rpartition("/")[2]
        found |= {model: models[model], **_named_in(models[model], models)}
    return found


def _request(endpoint: Endpoint[Any]) -> Schema:
    """The query parameters by name; new ones come with each version, so others are allowed."""
    request: type[Request] = endpoint.request
    patterns: Schema = {}
    properties: Schema = {}
    for parameter in request.parameters().values():
        if parameter.read is header_values:
            patterns[_header_pattern(parameter.wire)] = _parameter(parameter)
        elif parameter.read is by_prefix:
            patterns[f"^{parameter.wire}"] = _parameter(parameter)
        else:
            properties[parameter.wire] = _parameter(parameter)
    path = endpoint.path + ("<alias>" if endpoint.path.endswith("/") else "")
    return {
        "description": f"The query parameters of GET {path}; a list where one is repeated.",
        "type": "object",
        "properties": properties,
        "patternProperties": patterns,
        "additionalProperties": True,
    }


def _parameter(parameter: Parameter[Any]) -> Schema:
    schema: Schema = {
        "description": parameter.doc,
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


def _header_pattern(name: str) -> str:
    letters = (f"[{c.lower()}{c.upper()}]" if c.isalpha() else "[-_]" for c in name)
    return f"^{''.join(letters)}$"


def _models() -> Schema:
    """The schema of each model, with what the contract says of its fields."""
    models = dict.fromkeys(RESULTS)
    for model in RESULTS:
        models |= dict.fromkeys(_inside(model))
    wires = [lenient(model) for model in models]
    _, components = msgspec.json.schema_components(wires, ref_template="#/$defs/{name}")
    for model in models:
        schema = components[model.__name__]
        schema["required"] = sorted({*schema.get("required", ()), *model.constants})
        schema["description"] = (model.__doc__ or "").partition("\n")[0]
        for name in model.hints:
            said = schema["properties"][name]
            said.pop("default", None)
            said.update(_said(model.fields[name]))
    return components


def _inside(model: type[ModelBase]) -> Iterable[type[ModelBase]]:
    for inner in model.nested:
        yield inner
        yield from _inside(inner)


def _said(field: Field) -> Schema:
    said: Schema = {"description": field.doc, "$comment": str(field.mark)}
    if field.default in BEHAVIOURS:
        said["description"] += f"; left out: {field.default}"
    elif field.default:
        said["default"] = VALUES.get(field.default, field.default)
    return said
