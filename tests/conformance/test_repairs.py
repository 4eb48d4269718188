"""Results whose meaning is clear although their types are not Pexip's: repaired, with a warning."""

import json
from typing import Any

import pytest

from pexpolicy.conformance.findings import Level, SentRequest
from pexpolicy.conformance.replies import InvalidReplyError, Reply, UpstreamDecision, judge, read
from pexpolicy.models.decision import Continue, Redirect, Reject
from pexpolicy.testing import make_request
from pexpolicy_importers.policy_router import convert_reply

SERVICE, PARTICIPANT, LOCATION, DIRECTORY = (
    "service_configuration",
    "participant_properties",
    "media_location",
    "directory_information",
)
ROOM = {"name": "Room", "service_type": "conference", "service_tag": "t"}
GUEST = {"local_alias": "a", "remote_alias": "b", "protocol": "sip", "role": "guest"}
ENTRY = {"alias": "a@example.com", "description": "A"}
TYPED = dict.fromkeys(
    ("description", "view", "crypto_mode", "participant_limit", "automatic_participants")
)
"""Fields that a typed server has not set."""
QUERY = {"call_direction": "dial_in", "local_alias": "a", "limit": "10"}


def reply(body: dict[str, Any]) -> Reply:
    return Reply(0.1, 200, {"Content-Type": "application/json"}, json.dumps(body).encode())


def relayed(endpoint: str, body: dict[str, Any]) -> UpstreamDecision:
    return read(endpoint, make_request(endpoint), reply({"status": "success", **body}))


def levels(endpoint: str, body: dict[str, Any]) -> set[Level]:
    checked = judge(SentRequest(endpoint, QUERY), reply({"status": "success", **body}), 5.0)
    return {finding.level for finding in checked.findings}


@pytest.mark.parametrize(
    ("endpoint", "written", "meant", "told"),
    [
        (SERVICE, {"participant_limit": "10"}, {"participant_limit": 10}, "write 10 for '10'"),
        (SERVICE, {"max_callrate_in": "128000"}, {"max_callrate_in": 128000}, "write 128000 for"),
        (
            SERVICE,
            {"participant_limit": 10.0},
            {"participant_limit": 10},
            "write 10 for 10.0",
        ),
        (SERVICE, TYPED, {"crypto_mode": None}, "view: null is no value of this field"),
        (SERVICE, {"new_alias": None}, {}, "new_alias: null"),
        (SERVICE, {"service_tag": None}, {"service_tag": ""}, "service_tag: is missing"),
        (
            SERVICE,
            {"automatic_participants": [{**GUEST, "description": None, "streaming": "true"}]},
            {"automatic_participants": [{**GUEST, "streaming": True}]},
            "automatic_participants[0].description: null",
        ),
        (PARTICIPANT, {"reject_reason": None, "call_tag": None}, {}, "reject_reason: null"),
        (PARTICIPANT, {"display_count": "2"}, {"display_count": 2}, "display_count: write 2"),
        (LOCATION, {"overflow_locations": None}, {}, "overflow_locations: null"),
        (SERVICE, {"ivr_theme_name": ""}, {}, "ivr_theme_name: an empty text is no value"),
        (LOCATION, {"primary_overflow_location": ""}, {}, "primary_overflow_location: an empty"),
    ],
)
def test_what_is_clear_is_repaired_and_warned_of(
    endpoint: str, written: dict[str, Any], meant: dict[str, Any], told: str
) -> None:
    rest = {SERVICE: ROOM, PARTICIPANT: {"layout_group": "g"}, LOCATION: {"location": "Oslo"}}
    result = {**rest[endpoint], **written}
    heard = relayed(endpoint, {"result": result})
    assert heard.decision is not None
    assert heard.decision.set_fields() == {**rest[endpoint], **meant}
    assert told in "\n".join(heard.repairs)
    assert levels(endpoint, {"result": result}) == {Level.WARNING}
    if endpoint in (SERVICE, PARTICIPANT):
        plain = {name: v for name, v in {**rest[endpoint], **meant}.items() if v is not None}
        text = json.dumps({"status": "success", "result": result})
        assert convert_reply(text, endpoint, [])["result"] == plain


@pytest.mark.parametrize("name", ["pin", "guest_pin", "host_identity_provider_group"])
def test_null_removes_no_protection(name: str) -> None:
    body = {"result": {**ROOM, name: None}}
    with pytest.raises(InvalidReplyError, match=name):
        relayed(SERVICE, body)
    with pytest.raises(ValueError, match=name):
        convert_reply(json.dumps({"status": "success", **body}), SERVICE, [])
    assert Level.CONTRACT in levels(SERVICE, body)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", None),
        ("name", ""),
        ("participant_limit", "ten"),
        ("participant_limit", "010"),
        ("max_callrate_in", "2048"),
        ("pin", 1234),
        ("locked", "yes"),
    ],
)
def test_what_is_not_clear_stays_a_violation(field: str, value: object) -> None:
    with pytest.raises(InvalidReplyError, match=field):
        relayed(SERVICE, {"result": {**ROOM, field: value}})
    assert Level.CONTRACT in levels(SERVICE, {"result": {**ROOM, field: value}})


@pytest.mark.parametrize(
    "result",
    [
        {**ROOM, **TYPED},
        {**ROOM, "locked": "true"},
        {"name": "Room", "service_type": "conference"},
        dict.fromkeys((*ROOM, *TYPED)),
    ],
)
def test_a_result_that_needs_repairs_undoes_no_reject(result: dict[str, Any]) -> None:
    body = {"action": "reject", "result": result}
    assert isinstance(relayed(SERVICE, body).decision, Reject)
    assert convert_reply(json.dumps({"status": "success", **body}), SERVICE, []) == {
        "action": "reject"
    }


def test_a_redirect_of_a_typed_server_is_a_redirect() -> None:
    result = {**dict.fromkeys((*ROOM, *TYPED)), "new_alias": "sip:a@example.com"}
    found = relayed(SERVICE, {"action": "redirect", "result": result}).decision
    assert isinstance(found, Redirect)
    assert found.new_alias == "sip:a@example.com"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"result": [{**ENTRY, "username": None}]}, {}),
        ({"ignore_local": None}, {}),
        ({"ignore_local": "true"}, {"ignore_local": True}),
        ({"ignore_local": "False"}, {"ignore_local": False}),
    ],
)
def test_a_phone_book_of_a_typed_server_is_shown(
    written: dict[str, Any], meant: dict[str, Any]
) -> None:
    entry = {**ENTRY, "username": ""}
    body = {"result": [entry], **written}
    heard = relayed(DIRECTORY, body)
    assert heard.decision is not None
    assert heard.decision.set_fields() == {"entries": [entry], **meant}
    assert len(heard.repairs) == 1
    assert levels(DIRECTORY, body) == {Level.WARNING}


def test_a_name_is_not_taken_away_from_a_caller_who_has_one() -> None:
    """A typed server sends null, and Infinity drops the whole result for it."""
    result = {"preauthenticated_role": "guest", "remote_display_name": None}
    for name, kept in (("Dana", {"preauthenticated_role": "guest"}), ("", result)):
        request = make_request(PARTICIPANT, remote_display_name=name)
        heard = read(PARTICIPANT, request, reply({"status": "success", "result": result}))
        assert heard.decision is not None
        assert heard.decision.set_fields() == kept
        assert len(heard.repairs) == (1 if name else 0)


@pytest.mark.parametrize("endpoint", [SERVICE, PARTICIPANT, LOCATION, "registration_alias"])
def test_an_empty_list_is_no_result(endpoint: str) -> None:
    """PHP writes an empty array as a list."""
    body = {"action": "continue", "result": []}
    assert isinstance(relayed(endpoint, body).decision, Continue)
    assert levels(endpoint, body) == {Level.WARNING}


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [
        (SERVICE, {"service_type": "conference"}),
        (PARTICIPANT, {"reject_reason": "closed"}),
        (LOCATION, {"location": "Oslo"}),
        (DIRECTORY, {"entries": [ENTRY]}),
        ("registration_alias", {"username": "a"}),
    ],
)
def test_fields_next_to_the_result_are_reported(endpoint: str, field: dict[str, Any]) -> None:
    checked = judge(SentRequest(endpoint, QUERY), reply({"status": "success", **field}), 5.0)
    assert [f.level for f in checked.findings if "is not in the result" in f.text] == [
        Level.WARNING
    ]


@pytest.mark.parametrize("more", [b'"x":NaN', b'"action":"reject"', b'"x":1e999'])
def test_json_that_parsers_read_differently_is_not_said_to_be_none(more: bytes) -> None:
    body = b'{"status":"success","action":"continue",' + more + b"}"
    odd = Reply(0.1, 200, {"Content-Type": "application/json"}, body)
    (finding,) = judge(SentRequest(SERVICE, QUERY), odd, 5.0).findings
    assert finding.level is Level.CONTRACT
    assert finding.text.startswith("parsers read this body differently: ")
    assert finding.mark == "RFC 8259"
