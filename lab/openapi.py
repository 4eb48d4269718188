"""Schemathesis against a server whose plugins answer all six requests.

The requests are generated from the OpenAPI description, valid and invalid ones, and each reply is
compared with it: ``python -m lab.openapi EXAMPLES``.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pexpolicy import __version__
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import JPEG, JSON, Endpoint
from pexpolicy.endpoints.schema import (
    DRAFT,
    REPLIES,
    Schema,
    document,
    name_pattern,
    parameter_schema,
)
from pexpolicy.models.attribute_docs import attribute_docs
from pexpolicy.models.request import parameters_of
from tests.support import live_server

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)
"""Not those that expect a refusal of invalid parameters: they read as unset."""
CONFIG = """
[audit]
path = "audit.jsonl"

[plugins.rules]
[[plugins.rules.settings.rules]]
name = "Reject short aliases"
endpoint = "service_configuration"
when.local_alias.regex = "^.{1,2}$"
then = "reject"
[[plugins.rules.settings.rules]]
name = "Redirect"
endpoint = "service_configuration"
when.local_alias.regex = "^.{3}$"
then = { action = "redirect", new_alias = "sip:meet@example.com" }
[[plugins.rules.settings.rules]]
name = "Chairs"
endpoint = "participant_properties"
when.local_alias.regex = "^.{1,3}$"
then.result.call_tag = "short"

[plugins.rooms.settings]
default_room = "{local_alias}"
[plugins.rooms.settings.rooms."meet@example.com"]
name = "Meet"
pin = "471100"

[plugins.domains.settings]
allowed = ["@example.com"]

[plugins.locations.settings]
default = "Oslo"

[plugins.avatars.settings.initials]

[plugins.directory.settings]
entries = [{ alias = "anna@example.com", name = "Anna Berg" }]
"""


OPENAPI_VERSION = "3.1.1"
_MAY_BE_404 = ("media_location", "participant_avatar")
"""Endpoints that reply 404 where they have nothing to say."""
_REFUSALS = {
    "400": "The request is not HTTP as a node sends it.",
    "401": "User or password are missing or wrong.",
    "403": "The address is not in the networks of [access].",
    "405": "The method is not GET.",
    "429": "Too many wrong passwords.",
    "503": "The server is starting, stopping or busy; a node tries again or goes on by itself.",
}


def openapi(version: str, base_path: str = "") -> Schema:
    """Return the description; ``version`` is that of the server."""
    text = json.dumps(document()).replace("#/$defs/", "#/components/schemas/")
    described = json.loads(text)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "External policy of Pexip Infinity",
            "version": version,
            "description": "The requests of Conferencing Nodes, and the replies that they read.",
        },
        "jsonSchemaDialect": DRAFT,
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
                for name, model in described["$defs"].items()
                if not name.endswith(".request")
            },
        },
    }


def _operation(endpoint: Endpoint[Any]) -> Schema:
    reply = {"$ref": f"#/components/schemas/{endpoint.name}.reply"}
    description = REPLIES[endpoint.name]["description"]
    found = {"description": description, "content": {JSON: {"schema": reply}}}
    responses: Schema = {"200": found}
    if endpoint.name == "participant_avatar":
        picture = {"type": "string", "contentMediaType": JPEG}
        responses["200"] = {"description": "A picture.", "content": {JPEG: {"schema": picture}}}
    if endpoint.name in _MAY_BE_404:
        responses["404"] = found
    responses |= {status: {"description": text} for status, text in _REFUSALS.items()}
    return {
        "operationId": endpoint.name,
        "summary": (endpoint.request.__doc__ or "").partition("\n")[0].replace("``", "`"),
        "parameters": list(_parameters(endpoint)),
        "responses": responses,
    }


def _parameters(endpoint: Endpoint[Any]) -> Iterator[Schema]:
    """Yield the parameters; ``pattern`` and ``examples`` are what Infinity sends."""
    if endpoint.path.endswith("/"):
        alias = {"type": "string", "minLength": 1}
        shown = {"name": "alias", "in": "path", "required": True, "schema": alias}
        yield shown | {"description": "The alias, percent-encoded."}
    docs = attribute_docs(endpoint.request)
    for name, parameter in parameters_of(endpoint.request).items():
        described = parameter_schema(parameter, docs[name])
        shown = {"name": parameter.wire, "in": "query", "description": docs[name]}
        text: Schema = {"type": "string"}
        if (pattern := name_pattern(parameter)) is not None:
            shown |= {"style": "form", "explode": True}
            text = {
                "type": "object",
                "patternProperties": {pattern: text},
                "additionalProperties": False,
            }
        text |= {key: described[key] for key in ("pattern", "examples") if key in described}
        yield shown | {"schema": text}


def run(examples: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Start a server, and send it generated requests."""
    config = folder / "config.toml"
    config.write_text(CONFIG)
    description = folder / "openapi.json"
    description.write_text(json.dumps(openapi(__version__)))
    with live_server.running(config) as server:
        url = server.url.removesuffix("/")
        arguments = ("run", str(description), "--url", url, "--checks", ",".join(CHECKS))
        limits = ("--max-examples", str(examples), "--generation-deterministic")
        quiet = ("--no-color", "--warnings", "off", "--no-shrink")
        program = str(Path(sys.executable).with_name("schemathesis"))
        command = (program, *arguments, *limits, *quiet)
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=folder, timeout=3600
        )
        seen = {line["endpoint"] for line in server.lines() if line["event"] == "decision"}
    assert seen == set(ENDPOINTS), done.stdout + done.stderr
    return done


if __name__ == "__main__":
    with TemporaryDirectory() as place:
        result = run(int(sys.argv[1]) if len(sys.argv) > 1 else 2000, Path(place))
    sys.stdout.write(result.stdout + result.stderr)
    sys.exit(result.returncode)
