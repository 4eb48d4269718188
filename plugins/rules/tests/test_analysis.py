"""Warnings of `check` about valid rules."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from pexpolicy_rules import Rules

Warnings = Callable[..., list[str]]


def rule(
    name: str, then: Any = "continue", endpoint: Any = "service_configuration", **when: Any
) -> dict[str, Any]:
    return {"name": name, "endpoint": endpoint, "then": then, "when": when}


NIGHT = {"zone": "UTC", "between": ["18:00", "06:00"]}
DAY = {"zone": "UTC", "between": ["06:00", "18:00"]}
CONF, SECRET = {"prefix": "conf."}, "conf.secret@example.com"
NUMBERS = {"local_alias": {"prefix": "111@", "suffix": "@example.com"}}
SAME: dict[str, Any] = {"idp_attributes": {"department": {"value_of": "service_tag"}}}


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ({"local_alias": CONF}, {"local_alias": SECRET}, f"overlap: both match PATH{SECRET}, and"),
        ({"local_alias": SECRET}, {"local_alias": CONF}, ""),
        ({"local_alias": SECRET}, {}, ""),
        ({}, {"local_alias": SECRET}, "'b' never decides: rule 'a' before it matches all of its"),
        (
            {"local_alias": CONF},
            {"local_alias": CONF, "vendor": "x"},
            "matches all of its requests, such as PATHconf.x&vendor=x",
        ),
        ({"vendor": "x"}, {"vendor": "x"}, "'b' is a duplicate: rule 'a' before it has the same"),
        ({"time": NIGHT}, {"time": NIGHT}, "'b' is a duplicate"),
        ({"time": NIGHT}, {"time": DAY}, ""),
        ({"time": NIGHT}, {}, ""),
        ({}, {"time": NIGHT}, "never decides"),
        ({"none": [{"time": NIGHT}]}, {"vendor": "x"}, ""),
        (
            {"remote_address": {"in_subnet": "10.0.0.0/16"}},
            {"remote_address": {"in_subnet": "10.0.0.0/8"}},
            "",
        ),
        (
            {"local_alias": {"suffix": "@example.com"}},
            {"local_alias": {"glob": "1*@example.com"}},
            "rules 'a' and 'b' overlap: both match PATH1x@example.com, and the first of them",
        ),
        (
            {"peer": "192.0.2.7", "local_alias": {"prefix": "x"}},
            {"peer": {"in_subnet": "192.0.2.7"}, "local_alias": {"suffix": "y"}},
            "PATHxy --set peer=192.0.2.7, ",
        ),
    ],
)
def test_a_rule_after_one_that_takes_its_example(
    warnings: Warnings, first: dict[str, Any], second: dict[str, Any], says: str
) -> None:
    found = warnings([rule("a", "continue", **first), rule("b", "reject", **second)])
    if says:
        (text,) = found
        assert text.startswith("rules[1]: rule")
        assert says.replace("PATH", "/policy/v1/service/configuration?local_alias=") in text
    else:
        assert found == []
    same = [rule("a", "abstain", **first), rule("b", "abstain", **second)]
    assert not [text for text in warnings(same) if "overlap" in text]


@pytest.mark.parametrize(
    ("when", "why"),
    [
        ({"idp_attributes": {"group": "x"}}, "requests of this endpoint have no idp_attributes.g"),
        ({"any": [{"alias": "x"}, {"alias": "y"}]}, "requests of this endpoint have no alias"),
        (SAME, "requests of this endpoint have no idp_attributes.department"),
        ({"time": {"zone": "UTC", "until": "2020-01-01"}}, "its last day is over"),
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


@pytest.mark.parametrize(("zone", "over"), [("Pacific/Honolulu", False), ("Europe/Oslo", True)])
def test_a_last_day_is_over_by_the_clock_of_its_zone(
    rules: Callable[..., Rules], zone: str, *, over: bool
) -> None:
    now = datetime(2026, 1, 15, 6, tzinfo=UTC).timestamp()
    written = rule("x", time={"zone": zone, "until": "2026-01-14"})
    found = [str(warning) for warning in rules(written, now=lambda: now).config_warnings()]
    assert any("its last day is over" in text for text in found) is over


def test_warnings_of_a_decision_name_the_rule(warnings: Warnings) -> None:
    (text,) = warnings([rule("open", {"result": {"name": "X", "allow_guests": True}})])
    assert text.startswith("rules[0]: rule 'open': allow_guests")


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
