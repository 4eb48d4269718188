"""Warnings of `check` about valid rules."""

from collections.abc import Callable
from typing import Any

import pytest

from pexpolicy.testing import decide_sync, make_request
from pexpolicy_rules import Rules
from pexpolicy_rules.settings import Settings

Warnings = Callable[..., list[str]]


def rule(
    name: str, then: Any = "continue", endpoint: Any = "service_configuration", **when: Any
) -> dict[str, Any]:
    return {"name": name, "endpoint": endpoint, "then": then, "when": when}


def test_a_special_case_before_the_general_one_is_nothing_to_warn_of(warnings: Warnings) -> None:
    assert (
        warnings(
            [
                rule("one", "reject", local_alias="conf.secret@example.com"),
                rule("all", local_alias={"prefix": "conf."}),
                rule("rest", "reject"),
            ]
        )
        == []
    )


def test_a_rule_after_a_more_general_one_never_decides(warnings: Warnings) -> None:
    (text,) = warnings(
        [
            rule("all", local_alias={"prefix": "conf."}),
            rule("one", "reject", local_alias="conf.secret@example.com"),
        ]
    )
    assert text == (
        "rules[1]: rule 'one' never decides: rule 'all' before it matches all of its requests, "
        "such as /policy/v1/service/configuration?local_alias=conf.secret@example.com"
    )


def test_a_duplicate_is_named(warnings: Warnings) -> None:
    (text,) = warnings([rule("a", vendor="x"), rule("b", "reject", vendor="x")])
    assert text.startswith("rules[1]: rule 'b' is a duplicate: rule 'a' before it has the same")
    assert text.endswith("/policy/v1/service/configuration?vendor=x")


def test_an_overlap_is_named_with_a_call_that_both_match(warnings: Warnings) -> None:
    (text,) = warnings(
        [
            rule("ours", local_alias={"suffix": "@example.com"}),
            rule("numbers", "reject", local_alias={"regex": "[0-9]{3}@example\\.(com|org)"}),
        ]
    )
    assert text == (
        "rules[1]: rules 'ours' and 'numbers' overlap: both match "
        "/policy/v1/service/configuration?local_alias=000@example.com, and the first of them "
        "decides; ignore this if it is intended"
    )


def test_rules_that_decide_the_same_may_overlap(warnings: Warnings) -> None:
    rules = [
        rule("numbers", "abstain", local_alias={"regex": "[0-9]{3}@[a-z.]+"}),
        rule("ours", "abstain", local_alias={"prefix": "111@", "suffix": "@example.com"}),
    ]
    assert warnings(rules) == []


def test_rules_of_different_hours_do_not_overlap(warnings: Warnings) -> None:
    night = {"zone": "UTC", "between": ["18:00", "06:00"]}
    day = {"zone": "UTC", "between": ["06:00", "18:00"]}
    assert warnings([rule("n", "reject", time=night), rule("d", time=day)]) == []


@pytest.mark.parametrize(
    ("when", "why"),
    [
        ({"idp_attributes": {"group": "x"}}, "requests of this endpoint have no idp_attributes.g"),
        ({"local_alias": {"equals": "a@b.com", "host": "c.com"}}, "never match together"),
        ({"time": {"zone": "UTC", "until": "2020-01-01"}}, "its last day is over"),
        ({"vendor": "x", "none": [{"vendor": {"prefix": "x"}}]}, "a condition of none is required"),
    ],
)
def test_a_rule_that_can_never_match_is_named(warnings: Warnings, when: Any, why: str) -> None:
    (text,) = warnings([rule("odd", **when)])
    assert text.startswith("rules[0]: rule 'odd' can never match at service_configuration: ")
    assert why in text


def test_a_rule_is_analysed_for_each_of_its_endpoints(warnings: Warnings) -> None:
    both = ["service_configuration", "participant_properties"]
    (text,) = warnings([rule("x", endpoint=both, participant_type="api")])
    assert "at service_configuration" in text


def test_many_findings_are_cut_short(warnings: Warnings) -> None:
    messages = warnings(
        [rule("all"), *(rule(f"r{n}", "reject", vendor=f"v{n}") for n in range(100))]
    )
    assert len(messages) == 21
    assert messages[-1].endswith(
        "there are more such warnings for the rules of service_configuration"
    )


def test_the_example_of_a_warning_has_the_client(warnings: Warnings) -> None:
    peer = {"in_subnet": "192.0.2.7"}
    (text,) = warnings(
        [
            rule("first", "reject", peer="192.0.2.7", local_alias={"prefix": "x"}),
            rule("second", peer=peer, local_alias={"suffix": "y"}),
        ]
    )
    assert "?local_alias=xy --set peer=192.0.2.7, " in text


def test_warnings_of_a_decision_name_the_rule(warnings: Warnings) -> None:
    (text,) = warnings([rule("open", {"result": {"name": "X", "allow_guests": True}})])
    assert text.startswith("rules[0]: rule 'open': allow_guests")


def test_an_explanation_goes_through_the_rules_up_to_the_one_that_matches() -> None:
    plugin = Rules(
        Settings.model_validate(
            {
                "rules": [
                    rule("first", local_alias={"prefix": "conf"}),
                    rule("second", vendor="x"),
                    rule("third", "reject"),
                    rule("fourth"),
                ]
            }
        )
    )
    request = make_request("service_configuration", local_alias="lobby", vendor="TANDBERG")
    notes = request.enable_notes()
    plugin_notes = list(plugin._chains["service_configuration"].explain(request))
    assert plugin_notes == [
        "rule 'first': local_alias.prefix = 'conf': no match for 'lobby'",
        "rule 'second': vendor.equals = 'x': no match for 'TANDBERG'",
        "rule 'third': matches",
    ]
    assert decide_sync(plugin, request).decision.action == "reject"
    assert notes == plugin_notes


def test_a_duplicate_at_the_same_hours_is_named(warnings: Warnings) -> None:
    night = {"zone": "UTC", "between": ["18:00", "06:00"]}
    (text,) = warnings([rule("a", time=night), rule("b", "reject", time=night)])
    assert text.startswith("rules[1]: rule 'b' is a duplicate: rule 'a' before it has the same")


def test_a_value_that_looks_like_a_placeholder_is_reported(warnings: Warnings) -> None:
    rule = {
        "name": "other department",
        "endpoint": "participant_properties",
        "when": {
            "idp_attributes": {"department": "{service_tag}"},
            "local_alias": {"regex": "[0-9]{4}"},
        },
        "then": "reject",
    }
    (messages,) = [text for text in warnings([rule]) if "literally" in text]
    assert "when.idp_attributes.department = '{service_tag}'" in messages
    assert 'write { value_of = "service_tag" }' in messages


def test_nothing_is_claimed_about_a_comparison_of_two_values(warnings: Warnings) -> None:
    same: dict[str, Any] = {"idp_attributes": {"department": {"value_of": "service_tag"}}}
    rules: list[dict[str, Any]] = [
        {"name": "same", "endpoint": "participant_properties", "when": same, "then": "reject"},
        {"name": "rest", "endpoint": "participant_properties", "then": "continue"},
        {"name": "never", "endpoint": "service_configuration", "when": same, "then": "reject"},
    ]
    (found,) = warnings(rules)
    assert "rule 'never' can never match at service_configuration" in found
    assert "requests of this endpoint have no idp_attributes.department" in found
    duplicates = [{**rules[0], "name": name} for name in ("one", "two")]
    assert not [text for text in warnings(duplicates) if "overlap" in text]
