"""Settings that cannot be used."""

from collections.abc import Callable
from typing import Any

import pytest

Complaints = Callable[[dict[str, Any]], list[str]]
URL = "http://127.0.0.1:8001"
GOOD = {"url": URL}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "write a whole URL"),
        ("policy.example.com", "write a whole URL"),
        ("ftp://policy.example.com", "write a whole URL"),
        ("https://", "URL"),
        ("https://policy.example.com:port", "write a whole URL, as in http"),
        ("https://node:secret@policy.example.com", "credentials are never in this file"),
        ("https://node@policy.example.com", "credentials are never in this file"),
        ("https://policy.example.com/?a=b", "leave out what begins with ?"),
        ("https://policy.example.com/?", "leave out what begins with ?"),
        ("https://policy.example.com/#a", "leave out what begins with ?"),
        ("https://policy.example.com/policy/v1", "leave out /policy/v1"),
        ("https://policy.example.com/a/policy/v1/x", "leave out /policy/v1"),
    ],
)
def test_what_is_no_base_url_is_refused_and_not_shown(
    complaints: Complaints, url: str, says: str
) -> None:
    (said,) = complaints({"targets": {"t": {"url": url}}})
    assert said.startswith("targets.t.url: ")
    assert says in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ({"user": "us"}, "user and a password belong together"),
        ({"password_env": "PATH"}, "user and a password belong together"),
        ({"user": "us", "password": "hunter2"}, "never in this file"),
        ({"user": "us", "password_env": "PATH", "token_env": "PATH"}, "or a token, not both"),
        ({"user": "us", "password_env": "SURELY_NOT_SET"}, "SURELY_NOT_SET is not set"),
        ({"user": "us", "password_file": "surely-not-there"}, "cannot be read"),
        ({"user": "a:b", "password_env": "PATH"}, "user"),
        ({"timeout": 0.0}, "greater than 0"),
        ({"timeout": 5}, "4.5"),
        ({"timeout": "1 s"}, "number"),
        ({"connections": 0}, "greater than or equal to 1"),
        ({"ca_file": "ca.pem"}, "ca_file is for https"),
        ({"client_cert": "ours.pem"}, "client_cert is for https"),
        ({"verify": False}, "verify is for https"),
        ({"url": "https://a.example", "client_key": "k.pem"}, "belongs to a client_cert"),
        ({"url": "https://a.example", "ca_file": "c", "verify": False}, "keep one"),
        ({"breaker": {"failures": 0}}, "breaker.failures"),
        ({"url": "https://a.example", "ca_file": 5}, "targets.t.ca_file: "),
        ({"tiemout": 1.0}, "did you mean 'timeout'"),
    ],
)
def test_a_target_that_cannot_be_asked_is_refused_with_its_key(
    complaints: Complaints, target: dict[str, Any], says: str
) -> None:
    said = " ".join(complaints({"targets": {"t": {**GOOD, **target}}}))
    assert said.startswith("targets.t")
    assert says in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("route", "says"),
    [
        ({}, "routes[0].targets: is missing"),
        ({"targets": []}, "routes[0].targets: "),
        ({"targets": ["first", "frist"]}, "routes[0].targets[1]: there is no target 'frist'; did"),
        ({"targets": ["x"]}, "routes[0].targets[0]: there is no target 'x'; there are first"),
        ({"targets": ["first"], "compare_with": "x"}, "routes[0].compare_with: there is no"),
        ({"targets": ["first"], "compare_with": "first"}, "routes[0].compare_with: is asked"),
        ({"targets": ["first"], "endpoints": ["location"]}, "routes[0].endpoints[0]: "),
        ({"targets": ["first"], "when": {"locl_alias": "a"}}, "did you mean 'local_alias'"),
        ({"targets": ["first"], "when": {"local_alias": {"regex": "("}}}, "routes[0].when"),
        ({"targets": ["first"], "override": {"name": "x"}}, "exactly one of the endpoints"),
        ({"targets": ["first"], "on_continue": "stop"}, "routes[0].on_continue: "),
    ],
)
def test_a_route_that_leads_nowhere_is_refused_with_its_key(
    complaints: Complaints, route: dict[str, Any], says: str
) -> None:
    said = complaints({"targets": {"first": GOOD}, "routes": [route]})
    assert says in " ".join(said)


@pytest.mark.parametrize(
    ("endpoint", "override", "says"),
    [
        ("directory_information", {"ignore_local": True}, "override: needs a route"),
        ("participant_avatar", {"image": "x"}, "override: needs a route"),
        ("service_configuration", {"nmae": "x"}, "override.nmae: there is no such field; did"),
        ("service_configuration", {"name": 5}, "override.name: Expected `str`, got `int`"),
        ("service_configuration", {"allow_guests": "yes"}, "override.allow_guests: Expected"),
        ("service_configuration", {"reject_reason": "x"}, "override.reject_reason: there is no"),
        ("media_location", {"overflow_locations": "Oslo"}, "overflow_locations: Expected"),
    ],
)
def test_an_override_that_no_result_can_take_is_refused(
    complaints: Complaints, endpoint: str, override: dict[str, Any], says: str
) -> None:
    route = {"targets": ["first"], "endpoints": [endpoint], "override": override}
    (said,) = complaints({"targets": {"first": GOOD}, "routes": [route]})
    assert said.startswith("routes[0].override")
    assert says in said


def test_all_mistakes_are_named_at_once(complaints: Complaints) -> None:
    targets = {
        "a": {"url": URL, "user": "us", "password_env": "SURELY_NOT_SET"},
        "b": {"url": "https://b.example", "ca_file": "surely-not-there.pem"},
    }
    said = complaints({"targets": targets, "routes": [{"targets": ["c"]}, {"targets": ["d"]}]})
    assert [line.split(": ")[0] for line in said] == [
        "targets.a.password_env",
        "targets.b.ca_file",
        "routes[0].targets[0]",
        "routes[1].targets[0]",
    ]


def test_without_a_target_there_is_nothing_to_do(complaints: Complaints) -> None:
    assert complaints({}) == ["targets: is missing: the policy servers, by names of your own"]
    assert len(complaints({"targets": {}})) == 1
