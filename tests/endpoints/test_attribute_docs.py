"""The texts that editors show for fields of requests and decisions: each has one, the right one."""

import re
from collections.abc import Iterator

import pytest

from pexpolicy import Decision
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.attribute_docs import attribute_docs
from pexpolicy.models.contract import contract_of
from pexpolicy.models.model import Model
from pexpolicy.models.request import parameters_of


def models(model: type[Model] = Model) -> Iterator[type[Model]]:
    for kind in model.__subclasses__():
        if kind.__module__.startswith("pexpolicy."):
            yield kind
            yield from models(kind)


def described(model: type[Model], name: str) -> str:
    """The sentence after a field, from the table that error messages use."""
    field = contract_of(model).fields[name]
    known_word = re.search("[_A-Z0-9]", field.doc.split()[0])
    text = field.doc if known_word else field.doc[:1].upper() + field.doc[1:]
    return f"{text}. Default: {field.default}." if field.default else f"{text}."


@pytest.mark.parametrize("model", list(models()), ids=lambda model: model.__name__)
def test_each_field_of_a_model_has_its_sentence(model: type[Model]) -> None:
    docs = attribute_docs(model)
    wrong = {
        name: described(model, name)
        for name in contract_of(model).names & contract_of(model).fields.keys()
        if docs.get(name) != described(model, name)
    }
    assert not wrong, f"write these after the fields of {model.__name__}"


def test_all_decisions_are_looked_at() -> None:
    found = set(models())
    decisions = {decision for endpoint in ENDPOINTS.values() for decision in endpoint.decisions}
    assert decisions | {Decision} <= found


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_each_parameter_of_a_request_has_a_sentence(endpoint: str) -> None:
    request = ENDPOINTS[endpoint].request
    docs = attribute_docs(request)
    for name in parameters_of(request):
        assert docs[name].endswith("."), name
