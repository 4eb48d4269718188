"""Text that is filled in: values go in as they are, and nothing in them is read again."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pexpolicy import Outcome
from pexpolicy.testing import ConfigError, decide_sync, make_policy, make_request
from pexpolicy_rules import Rules
from pexpolicy_rules.settings import Settings

Build = Callable[..., Rules]
Problems = Callable[..., list[str]]


def asked(name: str, when: dict[str, Any], **request: Any) -> Outcome:
    rule = {
        "name": "filled",
        "endpoint": "service_configuration",
        "when": when,
        "then": {"result": {"name": name, "service_tag": "x"}},
    }
    plugin = Rules(Settings.model_validate({"rules": [rule]}))
    return decide_sync(plugin, make_request("service_configuration", **request))


def named(name: str, when: dict[str, Any], **request: Any) -> str:
    outcome = asked(name, when, **request)
    assert outcome.steps[0].outcome == "decided", outcome.steps[0].detail
    result: str = outcome.decision.set_fields()["name"]
    return result


def test_groups_and_fields_are_filled_in() -> None:
    when = {"local_alias": {"regex": r"team-(?P<team>\w+)\.(\d+)@.*"}}
    assert (
        named(
            "Team {team} {2} of {1}, from {remote_alias.host} ({bandwidth}) {{as is}}",
            when,
            local_alias="sip:team-blue.7@example.com",
            remote_alias="sip:ada@partner.example",
            bandwidth=512,
        )
        == "Team blue 7 of blue, from partner.example (512) {as is}"
    )


def test_what_is_unset_is_empty() -> None:
    assert named("Room {vendor}.", {}, vendor=None) == "Room ."


# The machine may be busy: how long an example takes says nothing.
@settings(deadline=None)
@given(st.text("{}ab1 \\$%[]@", min_size=1, max_size=20))
def test_a_value_is_never_read_as_a_template(value: str) -> None:
    assert named("Of {remote_display_name}", {}, remote_display_name=value) == f"Of {value}"


def test_a_reject_stays_one_whatever_its_text_is_filled_with() -> None:
    """A caller with a long name was admitted."""
    then = {"action": "reject", "reject_reason": "Sorry, {remote_display_name}"}
    rule = {"name": "no", "endpoint": "participant_properties", "then": then}
    plugin = Rules(Settings.model_validate({"rules": [rule]}))
    request = make_request("participant_properties", remote_display_name="x" * 300)
    decision = decide_sync(plugin, request).decision
    assert (decision.action, decision.reason, decision.set_fields()) == ("reject", "rule no", {})
    assert decision.warnings[0].startswith("reject_reason: is left out: ")


def test_a_value_that_makes_the_decision_unsound_is_an_invalid_step() -> None:
    outcome = asked("Of {remote_display_name}", {}, remote_display_name="x" * 300)
    assert outcome.decided_by == "default"
    assert outcome.steps[0].outcome == "invalid"
    assert "250" in outcome.steps[0].detail


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{1}", "{1} is not a group: the patterns of this rule have no groups"),
        ("{local_alais}", "there is no 'local_alais'; did you mean 'local_alias'?"),
        ("{local_alias.port}", "local_alias has no part 'port'; an alias has user, host, scheme"),
        ("{idp_attributes}", "name one, as in idp_attributes.department"),
        ("{third_party_passcode}", "is a secret, which a decision cannot use"),
        ("{}", "there is no ''"),
        ("a { b", "a single { has no meaning; write {{ for the brace itself"),
        ("a } b", "a single } has no meaning; write }}"),
        ("{{x}", "a single }"),
        ("{a{b}}", "a single {"),
    ],
)
def test_a_placeholder_that_means_nothing_is_refused(
    problems: Problems, text: str, message: str
) -> None:
    rule = {"name": "x", "endpoint": "service_configuration", "then": {"result": {"name": text}}}
    (text,) = problems({"rules": [rule]})
    assert text.startswith("rules[0].then.result.name: ")
    assert message in text


@pytest.mark.parametrize(
    "when",
    [
        {"third_party_passcode": {"regex": "(?P<code>.*)"}},
        {"third_party_passcode": {"glob": "*"}},
        {"params": {"third_party_passcode": {"regex": "(?P<code>.*)"}}},
        {"any": [{"third_party_passcode": {"regex": "(?P<code>.*)"}}, {"vendor": "x"}]},
    ],
    ids=str,
)
@pytest.mark.parametrize("text", ["{1}", "{code}", "{1 | hash}"])
def test_a_group_of_a_secret_is_refused(
    problems: Problems, when: dict[str, Any], text: str
) -> None:
    then = {"result": {"name": text, "service_tag": "x"}}
    rule = {"name": "x", "endpoint": "service_configuration", "when": when, "then": then}
    (message,) = problems({"rules": [rule]})
    assert message.startswith("rules[0].then.result.name: ")


def test_a_secret_takes_no_number_of_the_other_groups() -> None:
    when = {"third_party_passcode": {"regex": "(.)(.*)"}, "local_alias": {"regex": "room-(.*)"}}
    request = {"third_party_passcode": "4711", "local_alias": "room-7"}
    assert named("Room {1}", when, **request) == "Room 7"


def test_a_group_beyond_the_last_is_named(problems: Problems) -> None:
    rule = {
        "name": "x",
        "endpoint": "service_configuration",
        "when": {"local_alias": {"glob": "a*b*"}},
        "then": {"result": {"name": "{3}"}},
    }
    (text,) = problems({"rules": [rule]})
    assert "have groups up to {2}" in text


def decided(endpoint: str, result: dict[str, Any], when: dict[str, Any], **request: Any) -> Outcome:
    rule = {"name": "r", "endpoint": endpoint, "when": when, "then": {"result": result}}
    plugin = Rules(Settings.model_validate({"rules": [rule]}))
    if endpoint == "registration_alias":
        request["alias"] = "user@example.com"
    return decide_sync(plugin, make_request(endpoint, **request))


BOARD = {"local_alias": {"regex": "board(?:[.]([0-9]{4}))?"}}
ROOM = {"name": "Board", "service_tag": "b"}


@pytest.mark.parametrize(
    ("endpoint", "result"),
    [
        ("service_configuration", {**ROOM, "pin": "{1}"}),
        ("service_configuration", {**ROOM, "pin": "1234", "guest_pin": "{1}"}),
        ("service_configuration", {**ROOM, "host_identity_provider_group": "{params.group}"}),
        ("service_configuration", {**ROOM, "guest_identity_provider_group": " {params.group}"}),
        ("registration_alias", {"username": "{alias.user}", "password": "{params.proof}"}),
        ("registration_alias", {"username": "{params.proof}", "password": "x"}),
    ],
)
def test_an_empty_fill_in_takes_no_protection_away(endpoint: str, result: dict[str, Any]) -> None:
    called = endpoint == "service_configuration"
    request = {"local_alias": "board"} if called else {}
    outcome = decided(endpoint, result, BOARD if called else {}, **request)
    assert outcome.decided_by == "default"
    assert outcome.steps[0].outcome == "invalid"
    assert "is empty, as its placeholder has no value" in outcome.steps[0].detail


def test_a_protection_that_is_filled_in_is_sent() -> None:
    result = {**ROOM, "pin": "{1}"}
    outcome = decided("service_configuration", result, BOARD, local_alias="board.1234")
    assert outcome.decision.set_fields()["pin"] == "1234"


@pytest.mark.parametrize(("asked", "warned"), [("", True), ("7f3c", False)])
def test_the_name_of_a_gateway_that_is_not_unique_is_warned_of(asked: str, warned: bool) -> None:
    gateway = {
        "service_type": "gateway",
        "name": "gw:{request_id}",
        "local_alias": "a",
        "remote_alias": "b",
        "outgoing_protocol": "sip",
    }
    outcome = decided("service_configuration", gateway, {}, request_id=asked)
    assert outcome.decided_by != "default"
    assert any("unique" in text for text in outcome.decision.warnings) is warned


@pytest.mark.parametrize(
    ("theme", "wrong"),
    [("Company", False), ("Compny", True), ("{service_tag}", False), ("Comp-{service_tag}", False)],
)
def test_what_has_no_placeholder_is_compared_with_the_names_of_infinity(
    theme: str, wrong: bool, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[infinity]\nthemes = ["Company"]\n'
        '[[plugins.rules.settings.rules]]\nname = "Any"\nendpoint = "service_configuration"\n'
        "[plugins.rules.settings.rules.then.result]\n"
        f'name = "{{local_alias.user}}"\npin = "{{call_tag}}"\nivr_theme_name = "{theme}"\n'
    )
    error = pytest.raises(ConfigError, match=r"then\.result\.ivr_theme_name")
    with error if wrong else nullcontext():
        make_policy(config).close()
