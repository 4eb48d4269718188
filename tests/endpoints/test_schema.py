"""The machine-readable contract: JSON Schema, OpenAPI, the pages, and sentences of fields."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from docs import generate_reference
from pexpolicy.cli.main import main
from pexpolicy.endpoints import ENDPOINTS, schema
from pexpolicy.models.attribute_docs import attribute_docs
from pexpolicy.models.contract import contract_of
from pexpolicy.models.decision import Model
from pexpolicy.models.request import by_prefix, header_values, parameters_of
from tests.support import live_server
from tests.support.paths import ROOT

SAMPLES = [
    json.loads(line) for line in (ROOT / "tests/data/samples.jsonl").read_text().splitlines()
]
document = cache(schema.document)


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({**document(), "$ref": f"#/$defs/{name}"})


def test_one_document_has_every_request_and_every_reply() -> None:
    Draft202012Validator.check_schema(document())
    names = {f"{name}.{part}" for name in ENDPOINTS for part in ("request", "reply")}
    assert names <= document()["$defs"].keys()


def asked(query: str) -> dict[str, str | list[str]]:
    found = parse_qs(query, keep_blank_values=True, strict_parsing=True)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


@pytest.mark.parametrize("sample", SAMPLES, ids=[s["id"] for s in SAMPLES])
def test_every_recorded_request_is_valid(sample: dict[str, str]) -> None:
    validator(f"{sample['endpoint']}.request").validate(asked(sample["query"]))


@pytest.mark.parametrize(
    "wrong", [{"remote_port": "many"}, {"registered": "yes"}, {"local_alias": 3}, []]
)
def test_a_request_that_infinity_would_not_send_is_none(wrong: Any) -> None:
    assert not validator("service_configuration.request").is_valid(wrong)


@pytest.mark.parametrize("sample", SAMPLES, ids=[s["id"] for s in SAMPLES])
def test_the_shipped_configuration_answers_what_the_schema_says(
    running_server: live_server.Running, sample: dict[str, str]
) -> None:
    reply = running_server.ask(f"{sample['path']}?{sample['query']}")
    validator(f"{sample['endpoint']}.reply").validate(reply.json)


SERVICE = {"service_type": "conference", "name": "A", "service_tag": ""}


@pytest.mark.parametrize(
    ("endpoint", "reply"),
    [
        ("service_configuration", {"status": "success", "action": "reject", "result": SERVICE}),
        ("service_configuration", {"action": "continue"}),
        ("service_configuration", {"status": "ok", "action": "continue"}),
        (
            "service_configuration",
            {"status": "success", "action": "continue", "result": {**SERVICE, "pin": "12"}},
        ),
        (
            "service_configuration",
            {"status": "success", "action": "continue", "result": {"name": "A"}},
        ),
        (
            "service_configuration",
            {"status": "success", "action": "continue", "result": {**SERVICE, "pin": 1234}},
        ),
        ("registration_alias", {"status": "success", "action": "reject"}),
        ("media_location", {"status": "success", "action": "continue", "result": {}}),
        ("directory_information", {"status": "success", "result": [{"alias": "a"}]}),
        (
            "participant_properties",
            {"status": "success", "action": "reject", "result": {"call_tag": "x"}},
        ),
    ],
)
def test_a_reply_that_infinity_would_drop_is_not_valid(endpoint: str, reply: Any) -> None:
    assert not validator(f"{endpoint}.reply").is_valid(reply)


def test_the_command_prints_what_is_asked_for() -> None:
    whole = CliRunner().invoke(main, ["config", "schema", "requests"])
    assert json.loads(whole.output) == document()
    unknown = CliRunner().invoke(main, ["config", "schema", "media_locations"])
    assert unknown.exit_code == 2


def test_the_reference_is_up_to_date() -> None:
    written = (ROOT / "docs/reference.md").read_text()
    assert written == generate_reference.page(), "run: make reference"


def test_headers_and_attributes_of_any_name_are_described() -> None:
    patterns = document()["$defs"]["participant_properties.request"]["patternProperties"]
    readers = [p.read for p in parameters_of(ENDPOINTS["participant_properties"].request).values()]
    assert len(patterns) == readers.count(header_values) + readers.count(by_prefix)
    names = ("P-Asserted-Identity", "p_Asserted-Identity", "ms-subnet", "idp_attribute_a b")
    assert all(any(re.search(p, name) for p in patterns) for name in names)


def test_a_recorded_path_is_the_one_that_is_described() -> None:
    for sample in SAMPLES:
        said = document()["$defs"][f"{sample['endpoint']}.request"]["description"]
        path = urlsplit(sample["path"]).path
        assert path.startswith(ENDPOINTS[sample["endpoint"]].path)
        assert ENDPOINTS[sample["endpoint"]].path in said


def models(model: type[Model] = Model) -> Iterator[type[Model]]:
    for kind in model.__subclasses__():
        if kind.__module__.startswith("pexpolicy."):
            yield kind
            yield from models(kind)


@pytest.mark.parametrize("model", list(models()), ids=lambda model: model.__name__)
def test_each_field_of_a_model_has_its_sentence(model: type[Model]) -> None:
    docs, contract = generate_reference.field_docs(model), contract_of(model)
    assert all(meaning.endswith(".") for meaning, _ in docs.values())
    assert contract.names <= docs.keys()
    known = set().union(*(contract_of(kind).names for kind in models()))
    assert contract.fields.keys() <= known


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_each_parameter_of_a_request_has_a_sentence(endpoint: str) -> None:
    request = ENDPOINTS[endpoint].request
    docs = attribute_docs(request)
    for name in parameters_of(request):
        assert docs[name].endswith("."), name
