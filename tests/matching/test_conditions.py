"""Conditions: explanations, captures, parts of aliases, times, and invalid settings."""

import json
import math
import time
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pydantic
import pytest
from multidict import MultiDict

from pexpolicy import RegistrationAliasRequest, ServiceConfigurationRequest
from pexpolicy.config.problems import problems_of
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.matching import (
    UnknownSubjectError,
    When,
    captures,
    compile_when,
    group_names,
    subject,
)
from pexpolicy.models.context import DryRunClock, using_wall_clock, wall_clock
from pexpolicy.models.request import parameters_of, set_origin
from tests.matching.strategies import compiled

CALL = ServiceConfigurationRequest(
    MultiDict(
        local_alias="sip:Team.Blue@Example.com:5060;transport=tls",
        remote_alias="bob@example.org",
        vendor="TANDBERG/520",
        remote_address="10.1.2.3",
        third_party_passcode="4321",
        new="perhaps a secret",
    )
)


@pytest.mark.parametrize(
    ("when", "why"),
    [
        (
            {"local_alias": {"prefix": "conf"}},
            "local_alias.prefix = 'conf': no match for 'team.blue@example.com'",
        ),
        ({"local_alias.host": "x"}, None),
        (
            {"local_alias": {"host": {"one_of": ["a.com", "b.com"]}}},
            "local_alias.host.equals = 'a.com' or 'b.com': no match for 'example.com'",
        ),
        (
            {"vendor": {"not_contains": "tandberg"}},
            "vendor.not_contains = 'tandberg': no match for",
        ),
        (
            {"vendor": {"regex": [r"x\d+\.y", r"\d" * 40]}},
            r"vendor.regex = 'x\d+\.y' or '" + r"\d" * 40 + "': no match for",
        ),
        (
            {"service_name": "x"},
            "service_name.equals = 'x': no match, the request has no service_name",
        ),
        (
            {"third_party_passcode": "1111"},
            "third_party_passcode.equals: no match for a hidden value",
        ),
        (
            {"params": {"third_party_passcode": "1111"}},
            "params.third_party_passcode.equals: no match for a hidden value",
        ),
        ({"params": {"new": "x"}}, "params.new.equals = 'x': no match for a hidden value"),
        (
            {"any": [{"vendor": "x"}, {"protocol": "sip"}]},
            "no condition of any matches: vendor.equals = 'x': no match for 'TANDBERG/520'; protoc",
        ),
        ({"none": [{"vendor": {"prefix": "tand"}}]}, "none[0] matches: vendor.prefix = 'tand'"),
        ({"all": [{"vendor": {"prefix": "tand"}}, {"registered": True}]}, "registered.equals = "),
    ],
)
def test_an_explanation_names_the_condition_and_the_value(
    when: dict[str, Any], why: str | None
) -> None:
    if why is None:
        with pytest.raises(pydantic.ValidationError):
            When.model_validate(when)
        return
    condition = compiled(when)
    assert not condition.matches(CALL)
    assert condition.why(CALL).startswith(why)


def test_parts_of_an_alias_are_compared_each_in_its_form() -> None:
    for table in [
        "Team.Blue@Example.com",
        "sips:team.blue@example.com:5061",
        {"user": "team.blue", "host": {"suffix": "example.com"}, "scheme": "sip"},
        {"raw": {"contains": ";transport=TLS"}},
        {"raw": {"contains": "Team.Blue", "case_sensitive": True}},
    ]:
        assert compiled({"local_alias": table}).matches(CALL), table
    assert not compiled(
        {"local_alias": {"raw": {"contains": "team.blue", "case_sensitive": True}}}
    ).matches(CALL)


def test_the_alias_of_a_path_and_the_peer_can_be_tested() -> None:
    request = RegistrationAliasRequest(MultiDict(), "sip:Desk@Example.com")
    set_origin(request, "", "192.0.2.7")
    when = {"alias": {"host": "example.com"}, "peer": {"in_subnet": "192.0.2.0/24"}}
    assert compiled(when).matches(request)
    assert not compiled(when).matches(CALL)


def test_groups_are_counted_through_all_patterns() -> None:
    condition = compiled(
        {
            "local_alias": {"regex": r"team\.(?P<team>\w+)@.*"},
            "remote_alias": {"glob": "*@*"},
            "any": [{"vendor": {"glob": "x*"}}, {"vendor": {"regex": r"(?P<make>\w+)/(\d+)"}}],
        }
    )
    assert condition.matches(CALL)
    assert captures(condition, CALL) == {
        "1": "TANDBERG",
        "make": "TANDBERG",
        "2": "520",
        "3": "blue",
        "team": "blue",
        "4": "bob",
        "5": "example.org",
    }
    assert group_names(condition) == {"1", "2", "3", "4", "5", "team", "make"}


def test_a_negated_pattern_captures_nothing() -> None:
    condition = compiled({"vendor": {"not_regex": "(x).*"}, "none": [{"vendor": {"glob": "x*"}}]})
    assert captures(condition, CALL) == {}
    assert group_names(condition) == frozenset()


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ({"local_alais": "x"}, "local_alais: unknown key; did you mean 'local_alias'?"),
        ({"local_alias": {"prefux": "x"}}, "local_alias.prefux: unknown key; did you mean 'pre"),
        ({"local_alias": {}}, "local_alias: is empty; write a value"),
        ({"local_alias": {"prefix": "sip:conf"}}, "the normal form of an alias has no scheme"),
        (
            {"local_alias": {"prefix": "x", "case_sensitive": True}},
            "lower case; write it below raw",
        ),
        ({"local_alias": {"regex": "a(?=b)"}}, "local_alias.regex: 'a(?=b)' is not a regular"),
        ({"vendor": {"prefix": ["a", ""]}}, "vendor.prefix[1]: "),
        ({"vendor": 3}, "vendor.equals: should be text, not 3"),
        ({"registered": "yes"}, "registered.equals: should be true or false, not 'yes'"),
        ({"bandwidth": {"greater": "5"}}, "bandwidth.greater"),
        ({"bandwidth": {"greater": math.inf}}, "bandwidth.greater"),
        ({"vendor": {"less": math.nan}}, "vendor.less"),
        ({"vendor": {"less": 10**400}}, "vendor.less"),
        ({"remote_address": {"in_subnet": "10.0.0.1/8"}}, "has host bits set; write 10"),
        ({"any": []}, "any: should have at least 1"),
        ({"any": [{"vendor": {"prefx": "x"}}]}, "any[0].vendor.prefx: unknown key; did you mean"),
        ({"idp_attributes": {"a": {"values": "most", "equals": "x"}}}, "idp_attributes.a.values"),
        ({"time": {"zone": "Europe/Olso"}}, "did you mean 'Europe/Oslo'?"),
        ({"time": {"zone": "UTC"}}, "time: is empty; add between"),
        (
            {"time": {"zone": "UTC", "between": ["8:00", "17"]}},
            "time.between[0]: should be in a time format",
        ),
        (
            {"time": {"zone": "UTC", "between": ["08:00", "08:00"]}},
            "takes two different local times",
        ),
        ({"time": {"zone": "UTC", "weekdays": ["mon"]}}, "time.weekdays[0]: "),
        (
            {"time": {"zone": "UTC", "since": "2026-02-01", "until": "2026-01-01"}},
            "until is before since",
        ),
    ],
)
def test_a_mistake_is_named_with_its_key(when: dict[str, Any], says: str) -> None:
    with pytest.raises(pydantic.ValidationError) as refused:
        When.model_validate_json(json.dumps(when))
    told = [str(problem) for problem in problems_of(refused.value, When)]
    assert any(says in line for line in told), told


@pytest.mark.parametrize(
    ("table", "moment", "inside"),
    [
        ({"between": ["18:00", "07:00"]}, "2026-01-15 18:00", True),
        ({"between": ["18:00", "07:00"]}, "2026-01-15 06:59", True),
        ({"between": ["18:00", "07:00"]}, "2026-01-15 07:00", False),
        ({"between": ["08:00", "17:00"]}, "2026-07-15 08:00", True),
        ({"between": ["08:00", "17:00"]}, "2026-07-15 17:00", False),
        ({"weekdays": ["saturday", "sunday"]}, "2026-01-17 00:00", True),
        ({"weekdays": ["saturday", "sunday"]}, "2026-01-19 00:00", False),
        ({"dates": ["2026-12-24"]}, "2026-12-24 23:59", True),
        ({"dates": ["2026-12-24"]}, "2026-12-25 00:00", False),
        ({"since": "2026-03-01", "until": "2026-03-31"}, "2026-03-31 23:59", True),
        ({"since": "2026-03-01", "until": "2026-03-31"}, "2026-02-28 23:59", False),
        # The night in which the clock goes forward has no 02:30, and that in October has two.
        ({"between": ["02:00", "03:00"]}, "2026-10-25 02:30", True),
    ],
)
def test_times_are_those_of_the_zone(table: dict[str, Any], moment: str, *, inside: bool) -> None:
    now = datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo("Europe/Oslo")).timestamp()
    when = When.model_validate_json(json.dumps({"time": {"zone": "Europe/Oslo", **table}}))
    condition = compile_when(when, clock=lambda: now)
    assert condition.matches(CALL) is inside
    assert bool(condition.why(CALL)) is not inside


def test_the_clock_goes_on_and_the_condition_with_it() -> None:
    now = 0.0
    when = When.model_validate_json(
        json.dumps({"time": {"zone": "UTC", "between": ["00:00", "01:00"]}})
    )
    condition = compile_when(when, clock=lambda: now)
    assert condition.matches(CALL)
    now = 3600.0
    assert not condition.matches(CALL)
    assert (
        condition.why(CALL) == "the time is not 00:00 to 01:00 UTC; it is Thursday 1970-01-01 01:00"
    )


def test_the_clock_is_that_of_the_policy_that_is_being_built() -> None:
    when = When.model_validate_json(json.dumps({"time": {"zone": "UTC", "until": "1970-01-01"}}))
    clock = DryRunClock(at=3600.0)
    with using_wall_clock(clock):
        condition = compile_when(when)
    assert condition.matches(CALL)
    clock.at = None
    assert not condition.matches(CALL)
    assert wall_clock() is time.time


def test_every_parameter_of_every_request_can_be_tested() -> None:
    for endpoint in ENDPOINTS.values():
        assert parameters_of(endpoint.request).keys() <= When.model_fields.keys()


@pytest.mark.parametrize("key", ["local_alias.port", "vendor.user", "nothing", "idp_attributes"])
def test_a_subject_that_there_is_not_is_refused(key: str) -> None:
    with pytest.raises(UnknownSubjectError):
        subject(key)
