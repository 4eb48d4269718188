"""Pitfalls of conditions: what is valid, matches nothing, and is reported with what to write."""

from typing import Any

import pytest

from pexpolicy.matching import When, compile_when, pitfalls


def found(when: dict[str, Any]) -> list[str]:
    return list(pitfalls(compile_when(When.model_validate(when))))


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ({"remote_address": "10.1.0.0/16"}, "by in_subnet"),
        ({"peer": ["10.1.0.0/16", "10.2.0.1"]}, "by in_subnet"),
        ({"node_ip": {"not_equals": "10.1.2.3/16"}}, "always matches"),
        ({"local_alias": {"regex": "sip:.*"}}, "write local_alias.raw.regex"),
        ({"local_alias": {"not_regex": "^(?:sips?|h323):.*"}}, "local_alias.raw.not_regex"),
        ({"any": [{"remote_alias": {"regex": "SIP:.*@a"}}]}, "remote_alias.raw.regex"),
        ({"local_alias": "*@example.com"}, "write local_alias = { glob = '*@example.com' }"),
        ({"remote_alias": {"not_equals": "conf*"}}, "remote_alias = { not_glob = 'conf*' }"),
        ({"local_alias": {"host": "*.example.com"}}, "local_alias.host = { glob ="),
        ({"remote_alias": {"host": "example.com "}}, "write 'example.com'"),
        ({"remote_alias": "+47*"}, "write remote_alias = { glob = '+47*' }"),
        ({"remote_alias": "@spam.example"}, "compare remote_alias.host"),
        ({"remote_alias": ["a@x", "a@x or b@x"]}, "several in a list"),
        ({"local_alias": "Raum 12"}, "has a blank"),
        ({"registration_alias": "a@x;b@x"}, "';b@'"),
        ({"local_alias": {"suffix": ["@a.example", "@b.example "]}}, "'x@b.example'"),
        ({"remote_alias": {"prefix": "@spam"}}, "nothing before the @"),
        ({"local_alias": {"glob": "*@a.example or *@b.example"}}, "more than one @"),
        ({"remote_alias": {"host": "@spam.example"}}, "write 'spam.example'"),
        ({"local_alias": {"user": "a@example.com"}}, "is no user of an alias"),
        ({"local_alias": {"scheme": ["sip", "https"]}}, "there are sip, sips, h323, tel"),
        ({"protocol": {"not_one_of": ["sip", "sipp"]}}, "always matches"),
        ({"call_direction": "inbound"}, "there are dial_in"),
        ({"node_ip": "2001:DB8:0::1"}, "'2001:db8::1'"),
        ({"location": "Berlin "}, "write 'Berlin'"),
    ],
)
def test_a_condition_that_matches_nothing_is_reported(when: dict[str, Any], words: str) -> None:
    (text,) = found(when)
    assert words in text


@pytest.mark.parametrize(
    "when",
    [
        {"remote_address": {"in_subnet": "10.1.0.0/16"}, "service_tag": "a/b"},
        {"local_alias": {"raw": {"regex": "sip:.*"}, "regex": "sipping.*|tel.*"}},
        {"local_alias": {"regex": ".*sip:.*"}},
        {"local_alias": {"suffix": ["@example.com", ".example.com", "01"], "glob": "example.com"}},
        {"vendor": {"suffix": "example.com"}, "local_alias": {"host": {"glob": "*.example.com"}}},
        {"local_alias": ["*97", "*21*1234#", "meet.one", "a+b@example.com", "price$"]},
        {"protocol": ["SIP", "h323"], "trigger": "invite", "vendor": "*", "service_tag": "^a"},
        {"local_alias": ["sip:a@example.com", "tel:+47 22", "a@x;transport=tls"]},
        {"remote_alias": ["Anna Berg (Oslo)"], "location": "Berlin HQ", "trigger": "INVITE"},
        {"remote_alias": {"user": "Anna Berg", "contains": [" ", "@"]}, "call_tag": "a "},
        {"third_party_passcode": "1 ", "registered": True, "remote_port": 5060},
        {"local_alias": {"glob": ["my.*", "*@10.example", "12??"], "host": "10.0.0.1"}},
        {"time": {"zone": "Europe/Oslo", "weekdays": ["monday"]}},
    ],
)
def test_other_conditions_are_not_reported(when: dict[str, Any]) -> None:
    assert found(when) == []
