"""Comparisons of two values of a request."""

from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from pexpolicy import ParticipantPropertiesRequest
from pexpolicy.config.problems import problems_of
from pexpolicy.matching import When, captures, compile_when
from tests.matching.strategies import compiled

CALL = ParticipantPropertiesRequest(
    MultiDict(
        [
            ("idp_attribute_department", "Sales"),
            ("idp_attribute_groups", "staff"),
            ("idp_attribute_groups", "Board"),
            ("idp_attribute_mail", "sip:Ada@Example.com"),
            ("idp_attribute_clearance", "3"),
            ("service_tag", "dept:SALES;level:4"),
            ("call_tag", "board"),
            ("service_name", "sales"),
            ("remote_alias", "ada@example.com"),
            ("remote_display_name", "Ada"),
            ("bandwidth", "3"),
            ("third_party_passcode", "4321"),
            ("new", "perhaps a secret"),
        ]
    )
)


@pytest.mark.parametrize(
    ("key", "operators", "matches"),
    [
        ("department", {"equals": {"value_of": "service_name"}}, True),
        ("department", {"value_of": "service_name"}, True),
        ("department", {"equals": {"value_of": "service_name"}, "case_sensitive": True}, False),
        ("department", {"not_equals": {"value_of": "service_name"}}, False),
        ("department", {"value_of": "service_tag"}, False),
        ("department", {"value_of": "service_tag", "regex": "dept:([a-z]+).*"}, True),
        ("department", {"value_of": "service_tag", "regex": "other:([a-z]+).*"}, False),
        ("department", {"not_equals": {"value_of": "service_tag", "regex": "x(.)"}}, True),
        ("groups", {"value_of": "call_tag"}, True),
        ("groups", {"equals": {"value_of": "call_tag"}, "values": "all"}, False),
        ("groups", {"equals": {"value_of": "idp_attributes.groups"}, "values": "all"}, True),
        ("none", {"value_of": "vendor"}, False),
        ("none", {"not_equals": {"value_of": "vendor"}}, True),
        ("mail", {"value_of": "remote_alias"}, True),
        ("clearance", {"value_of": "bandwidth"}, True),
        ("clearance", {"less": {"value_of": "service_tag", "regex": ".*level:([0-9]+)"}}, True),
        ("clearance", {"not_less": {"value_of": "service_tag", "regex": ".*l:([0-9]+)"}}, False),
        ("clearance", {"greater": {"value_of": "bandwidth"}}, False),
        ("clearance", {"less": {"value_of": "service_name"}}, False),
        ("clearance", {"greater": 2, "less": {"value_of": "bandwidth"}}, False),
    ],
)
def test_a_value_is_compared_with_another(
    key: str, operators: dict[str, Any], matches: bool
) -> None:
    condition = compiled({"idp_attributes": {key: operators}})
    assert condition.matches(CALL) is matches
    assert (condition.why(CALL) == "") is matches


def test_aliases_and_numbers_compare_with_others() -> None:
    assert compiled({"remote_alias": {"value_of": "idp_attributes.mail"}}).matches(CALL)
    assert compiled({"remote_alias": {"user": {"value_of": "remote_display_name"}}}).matches(CALL)
    assert compiled({"bandwidth": {"value_of": "idp_attributes.clearance"}}).matches(CALL)
    assert not compiled({"bandwidth": {"less": {"value_of": "service_tag"}}}).matches(CALL)
    captured = compiled({"call_tag": {"value_of": "idp_attributes.groups", "regex": "(.*)"}})
    assert captures(captured, CALL) == {}


@pytest.mark.parametrize(
    ("when", "why"),
    [
        (
            {"idp_attributes": {"department": {"value_of": "service_tag", "regex": "dept:(.).*"}}},
            (
                "idp_attributes.department.equals = the value of service_tag by 'dept:(.).*': "
                "no match for 'Sales' and 'S'"
            ),
        ),
        (
            {"vendor": {"value_of": "service_tag"}},
            "vendor.equals = the value of service_tag: no match, the request has no vendor",
        ),
        (
            {"params": {"new": {"not_equals": {"value_of": "params.new"}}}},
            (
                "params.new.not_equals = the value of params.new: no match for a hidden value and "
                "a hidden value"
            ),
        ),
    ],
)
def test_an_explanation_has_both_values_but_no_hidden_ones(when: Any, why: str) -> None:
    assert compiled(when).why(CALL) == why


@pytest.mark.parametrize(
    ("when", "problem"),
    [
        (
            {"vendor": {"value_of": "servicetag"}},
            "vendor.equals.value_of: there is no 'servicetag'",
        ),
        (
            {"vendor": {"value_of": "idp_attributes"}},
            "vendor.equals.value_of: 'idp_attributes' has",
        ),
        (
            {"vendor": {"equals": {"value_of": "vendor", "regex": "a"}}},
            "vendor.equals.regex: 'a' has",
        ),
        (
            {"vendor": {"equals": {"value_of": "vendor", "regex": "("}}},
            "vendor.equals.regex: '(' is",
        ),
        ({"vendor": {"equals": {"valueof": "vendor"}}}, "vendor.equals.value_of: is missing"),
        ({"vendor": {"equals": {"regex": "a"}}}, "vendor.equals.value_of: is missing"),
        ({"vendor": {"equals": 5}}, "vendor.equals: should be"),
        ({"bandwidth": {"less": "x"}}, "bandwidth.less"),
        ({"registered": {"equals": {"value_of": "vendor"}}}, "registered.equals: should be"),
        ({"vendor": {"in_source": "x"}}, "vendor.in_source: works in rules only"),
    ],
)
def test_an_error_names_its_key(when: Any, problem: str) -> None:
    with pytest.raises(pydantic.ValidationError) as refused:
        When.model_validate(when)
    assert str(problems_of(refused.value, When)[0]).startswith(problem)


@given(st.text(max_size=30), st.text(max_size=30))
def test_the_comparison_is_that_of_the_operator(one: str, other: str) -> None:
    request = ParticipantPropertiesRequest(MultiDict(call_tag=one, service_tag=other))
    compared = compile_when(When.model_validate({"call_tag": {"value_of": "service_tag"}}))
    values = request.call_tag, request.service_tag
    expected = bool(values[1]) and compiled({"call_tag": {"equals": values[1]}}).matches(request)
    assert compared.matches(request) is expected
