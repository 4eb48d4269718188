"""The OpenAPI 3.1 description of the six requests, made from the models."""

from __future__ import annotations

from typing import Any

from pexpolicy.endpoints import ENDPOINTS, schema
from pexpolicy.endpoints.base import JPEG, JSON, Endpoint
from pexpolicy.models.attribute_docs import attribute_docs
from pexpolicy.models.request import Parameter, by_prefix, header_values, parameters_of

VERSION = "3.1.1"
Document = dict[str, Any]
_NOT_FOUND = ("media_location", "participant_avatar")
"""Endpoints that reply 404 where they have nothing to say."""
_REFUSALS = {
    "400": "The request is not HTTP as a node sends it.",
    "401": "User or password are missing or wrong.",
    "403": "The address is not in the networks of [access].",
    "405": "The method is not GET.",
    "429": "Too many wrong passwords.",
    "503": "The server is starting, stopping or busy; a node tries again or goes on by itself.",
}


def openapi(version: str, base_path: str = "") -> Document:
    """Return the description; ``version`` is that of the server."""
    document = _with_references(schema.document())
    return {
        "openapi": VERSION,
        "info": {
            "title": "External policy of Pexip Infinity",
            "version": version,
            "description": "The requests that Conferencing Nodes send, and the replies that they "
            "read. Unknown parameters are ignored, and malformed ones read as unset.",
        },
        "jsonSchemaDialect": schema.DRAFT,
        "servers": [{"url": base_path or "/"}],
        "security": [{}, {"basic": []}],
        "paths": {
            endpoint.path + "{alias}" * endpoint.path.endswith("/"): {"get": _operation(endpoint)}
            for endpoint in ENDPOINTS.values()
        },
        "components": {
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
            "schemas": {
                name: model
                for name, model in document["$defs"].items()
                if not name.endswith(".request")
            },
        },
    }


def _operation(endpoint: Endpoint[Any]) -> Document:
    reply = {"$ref": f"#/components/schemas/{endpoint.name}.reply"}
    description = schema.REPLIES[endpoint.name]["description"]
    found = {"description": description, "content": {JSON: {"schema": reply}}}
    responses: Document = {"200": found}
    if endpoint.name == "participant_avatar":
        picture = {"type": "string", "contentMediaType": JPEG}
        responses["200"] = {"description": "A picture.", "content": {JPEG: {"schema": picture}}}
    if endpoint.name in _NOT_FOUND:
        responses["404"] = found
    responses |= {status: {"description": text} for status, text in _REFUSALS.items()}
    return {
        "operationId": endpoint.name,
        "summary": (endpoint.request.__doc__ or "").partition("\n")[0].replace("``", "`"),
        "parameters": _parameters(endpoint),
        "responses": responses,
    }


def _parameters(endpoint: Endpoint[Any]) -> list[Document]:
    docs = attribute_docs(endpoint.request)
    found = [
        _parameter(parameter, docs[name])
        for name, parameter in parameters_of(endpoint.request).items()
    ]
    if endpoint.path.endswith("/"):
        alias = {"type": "string", "minLength": 1}
        text = "The alias, percent-encoded."
        return [
            {"name": "alias", "in": "path", "required": True, "description": text, "schema": alias},
            *found,
        ]
    return found


def _parameter(parameter: Parameter[Any], doc: str) -> Document:
    """Return a parameter of the query; ``pattern`` and ``examples`` are what Infinity sends."""
    described = schema.parameter_schema(parameter, doc)
    shown: Document = {"name": parameter.wire, "in": "query", "description": doc}
    if parameter.read in (by_prefix, header_values):
        pattern = (
            f"^{parameter.wire}"
            if parameter.read is by_prefix
            else schema.header_pattern(parameter.wire)
        )
        values = {"type": "string"}
        return shown | {
            "style": "form",
            "explode": True,
            "schema": {
                "type": "object",
                "patternProperties": {pattern: values},
                "additionalProperties": False,
            },
        }
    text: Document = {"type": "string"}
    text |= {key: described[key] for key in ("pattern", "examples") if key in described}
    return shown | {"schema": text}


def _with_references(value: Any) -> Any:
    """Return a schema whose references lead to the components."""
    if isinstance(value, list):
        return [_with_references(item) for item in value]
    if not isinstance(value, dict):
        return value
    shown: Document = {
        key: inner.replace("#/$defs/", "#/components/schemas/")
        if key == "$ref"
        else _with_references(inner)
        for key, inner in value.items()
    }
    return shown
