"""The OpenAPI description names the requests, parameters and replies of the models."""

import json
import re
from typing import Any

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.schema import openapi
from pexpolicy.models.request import parameters_of

DOCUMENT = openapi("1.2.3", "/base")
OPERATIONS = {
    operation["get"]["operationId"]: (path, operation["get"])
    for path, operation in DOCUMENT["paths"].items()
}


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return found.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("name", ENDPOINTS)
def test_each_request_has_its_path_and_all_its_parameters(name: str) -> None:
    endpoint = ENDPOINTS[name]
    path, operation = OPERATIONS[name]
    assert path.removesuffix("{alias}") == endpoint.path
    named = {(one["name"], one["in"]) for one in operation["parameters"]}
    wires = {parameter.wire for parameter in parameters_of(endpoint.request).values()}
    alias = {("alias", "path")} if path.endswith("{alias}") else set()
    assert named == {(wire, "query") for wire in wires} | alias
    assert all(one["description"] for one in operation["parameters"])


def test_all_references_lead_somewhere() -> None:
    prefix = "#/components/schemas/"
    found = references(DOCUMENT)
    assert found
    assert {ref.removeprefix(prefix) for ref in found} <= set(DOCUMENT["components"]["schemas"])
    names = "|".join(DOCUMENT["components"]["schemas"])
    assert re.fullmatch(r"[\w.|-]+", names)


def test_the_command_prints_it_for_its_version() -> None:
    done = CliRunner().invoke(main, ["config", "schema", "openapi"])
    document = json.loads(done.stdout)
    assert document["openapi"].startswith("3.1.")
    assert document["paths"].keys() == DOCUMENT["paths"].keys()
