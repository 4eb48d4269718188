"""Filters of placeholders: text, numbers and booleans that are made of the values of a request."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import pytest
from multidict import MultiDict

from pexpolicy import Outcome, ServiceConfigurationRequest
from pexpolicy.testing import decide_sync, make_request
from pexpolicy_rules import Rules
from pexpolicy_rules.settings import Settings

Problems = Callable[..., list[str]]


def rule(result: dict[str, Any], **when: Any) -> dict[str, Any]:
    result = {"name": "Room", "service_tag": "x", **result}
    return {
        "name": "filled",
        "endpoint": "service_configuration",
        "when": when,
        "then": {"result": result},
    }


def asked(
    result: dict[str, Any], request: dict[str, Any], secret: Path | None = None, **when: Any
) -> Outcome:
    document: dict[str, Any] = {"rules": [rule(result, **when)]}
    if secret is not None:
        document["hash_secret_file"] = str(secret)
    plugin = Rules(Settings.model_validate(document))
    return decide_sync(plugin, ServiceConfigurationRequest(MultiDict(request)))


def fields(result: dict[str, Any], request: dict[str, Any], **options: Any) -> dict[str, Any]:
    outcome = asked(result, request, **options)
    assert outcome.steps[0].outcome == "decided", outcome.steps[0].detail
    return outcome.decision.set_fields()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{call_tag | upper}", "ABC-0123"),
        ("{ call_tag|lower }", "abc-0123"),
        ("{call_tag | head(3)}!", "aBc!"),
        ("{call_tag | tail(4) | head(2)}", "01"),
        ("{call_tag | tail(99)}", "aBc-0123"),
        ("{call_tag | replace('[^0-9]', '')}", "0123"),
        ("{call_tag | replace('([A-Z])c-0*', \"<\\1\\\\>\")}", "a<B\\>123"),
        ("{call_tag | replace('[0-9]{2}', '{}')}", "aBc-{}{}"),
        ("{params.none | default('none, {really}')}", "none, {really}"),
        ("{call_tag | default('none')}", "aBc-0123"),
        ("{call_tag | uuid}", str(uuid5(NAMESPACE_OID, "aBc-0123"))),
        ("{{{call_tag}}}", "{aBc-0123}"),
    ],
)
def test_a_filter_changes_the_value(text: str, value: str) -> None:
    assert fields({"name": text}, {"call_tag": "aBc-0123"})["name"] == value


def test_a_hash_is_that_of_the_local_policy_of_infinity(tmp_path: Path) -> None:
    # Both values were calculated by implementations of others.
    secret = tmp_path / "secret"
    secret.write_text("mysecretkey\n")
    pin = {"pin": "{call_tag | hash | head(7)}"}
    assert fields(pin, {"call_tag": "0000001"}, secret=secret)["pin"] == "3998472"
    whole = fields({"name": "{call_tag | hash}"}, {"call_tag": "0000001mysecretkey"})["name"]
    assert whole.startswith("7470125694")
    assert int(whole) == int(hashlib.sha256(b"0000001mysecretkey").hexdigest(), 16)


def test_a_guessable_pin_is_a_warning(warnings: Callable[..., list[str]]) -> None:
    (found,) = warnings([rule({"pin": "{local_alias.user | hash | head(6)}"})])
    assert found == (
        "rules[0]: rule 'filled': pin is a hash without a secret, which a caller can calculate: "
        "write hash_secret_file"
    )


def test_a_missing_secret_is_an_error(problems: Problems, tmp_path: Path) -> None:
    document = {"rules": [rule({"pin": "{1 | hash | head(6)}"}, local_alias={"glob": "*"})]}
    (found,) = problems({**document, "hash_secret_file": "none"}, tmp_path)
    assert found.startswith("hash_secret_file: ")


def test_numbers_and_booleans_are_of_their_type() -> None:
    result = {
        "participant_limit": "{params.limit | integer}",
        "allow_guests": "{params.guests | default('no') | boolean}",
        "description": "limit {params.limit | integer}",
    }
    found = fields(result, {"limit": "012"})
    assert (found["participant_limit"], found["allow_guests"]) == (12, False)
    assert found["description"] == "limit 12"
    assert fields(result, {"limit": "1", "guests": "True"})["allow_guests"] is True


@pytest.mark.parametrize(
    ("text", "request_", "detail"),
    [
        ("{params.limit | integer}", {"limit": "ten"}, "the value is not a whole number"),
        ("{params.limit | integer}", {"limit": "9" * 30}, "the value is not a whole number"),
        ("{params.limit | integer}", {}, "an empty value is not a whole number"),
        ("{params.limit | boolean}", {"limit": "maybe"}, "the value is not true or false"),
        ("{params.limit | replace('a', 'b')}", {"limit": "a" * 1001}, "the value is longer than"),
        ("{params.limit | replace('a', 'b')}", {"limit": "a" * 251}, "the value has more than 250"),
    ],
)
def test_a_value_that_cannot_be_used_is_a_failed_step(
    text: str, request_: dict[str, Any], detail: str
) -> None:
    key = "participant_limit" if "integer" in text else "locked"
    key = "description" if "replace" in text else key
    outcome = asked({key: text}, request_)
    assert outcome.steps[0].outcome == "invalid"
    assert f"{text}: {detail}" in outcome.steps[0].detail


@pytest.mark.parametrize("filters", ["hash | head(6)", "upper", "replace('^$', '1234')", "tail(4)"])
def test_a_filter_never_makes_a_pin_of_an_empty_value(filters: str) -> None:
    outcome = asked({"pin": f"{{params.none | {filters}}}"}, {})
    assert outcome.steps[0].outcome == "invalid"
    assert "Conference" in outcome.steps[0].detail or "then.pin" in outcome.steps[0].detail


def test_the_decision_id_makes_a_gateway_name_unique() -> None:
    gateway = {
        "name": "gw:{decision_id}",
        "service_type": "gateway",
        "local_alias": "a@example.com",
        "outgoing_protocol": "sip",
        "called_device_type": "external",
        "remote_alias": "b@example.com",
    }
    request = make_request("service_configuration", call_tag="x")
    plugin = Rules(Settings.model_validate({"rules": [rule(gateway)]}))
    outcome = decide_sync(plugin, request)
    assert outcome.decision.set_fields()["name"] == f"gw:{outcome.decision_id}"
    assert outcome.decision_id


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{1 | uper}", "there is no filter 'uper'; did you mean 'upper'?"),
        ("{1 | head}", "head is written head(4), the first 4 characters"),
        ("{1 | head('4')}", "head is written head(4), the first 4 characters"),
        ("{1 | upper(1)}", "upper is written upper"),
        ("{1 | head(a)}", "head(a): an argument is a number, or a text in quotes"),
        ("{1 | replace('(', '')}", "the pattern '(' is not a regular expression of RE2: "),
        ("{1 | replace('a', '\\1')}", "the pattern 'a' has no group 1: it has 0"),
        ("{1 | integer | upper}", "after integer is no filter: '| upper'"),
        ("{1 |}", "here is no filter: '|'"),
        ("{1 | upper lower}", "here is no filter: 'lower'"),
        ("{nothing | upper}", "there is no 'nothing'"),
    ],
)
def test_a_wrong_filter_is_an_error(problems: Problems, text: str, problem: str) -> None:
    (found,) = problems({"rules": [rule({"name": text}, local_alias={"glob": "*"})]})
    assert found.startswith("rules[0].then.result.name: ")
    assert problem in found


def test_a_type_that_does_not_fit_is_an_error(problems: Problems) -> None:
    (found,) = problems({"rules": [rule({"pin": "{1 | integer}"}, local_alias={"glob": "*"})]})
    assert found.startswith("rules[0].then.result.pin: ")
