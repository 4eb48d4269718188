"""Reading what another policy server replies: what counts, and what it stands for."""

import json
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pexpolicy import Continue, Credentials, Reject
from pexpolicy.conformance.findings import Level, SentRequest, Topic
from pexpolicy.conformance.http_client import Reply
from pexpolicy.conformance.replies import (
    MAX_JSON,
    Disposition,
    InvalidReplyError,
    UpstreamDecision,
    judge,
    read,
)
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.testing import make_request
from tests.support import secret_canaries
from tests.support.paths import ROOT

TABLE = ROOT / "plugins" / "upstream" / "README.md"
ROOM = {"name": "Room", "service_type": "conference", "service_tag": "room"}
JSON = {"Content-Type": "application/json"}


def heard(name: str, body: Any, status: int = 200) -> UpstreamDecision:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read(name, make_request(name), Reply(0.1, status, JSON, content), by="theirs")


def success(**envelope: Any) -> dict[str, Any]:
    return {"status": "success", **envelope}


@pytest.mark.parametrize("status", [s for s in HTTPStatus if s >= 200])
def test_a_status_means_what_the_readme_says(status: int) -> None:
    listed = {number for row in TABLE.read_text().splitlines() for number in _failures(row)}
    fails = status in listed or status >= 500 or status < 400
    if status == 200:
        assert heard("service_configuration", success(result=ROOM), status).decision
    elif fails:
        with pytest.raises(InvalidReplyError, match=str(status)):
            heard("service_configuration", b"", status)
    else:
        assert heard("service_configuration", b"", status).decision is None


def _failures(row: str) -> list[int]:
    return [int(word) for word in row.split("|")[1].split(",")] if row.startswith("| 400, ") else []


@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_success_without_a_result_is_continue_on_every_endpoint(name: str) -> None:
    found = heard(name, success(action="continue"))
    assert isinstance(found.decision, Continue)
    assert found.decision.reason == "answered by theirs"


REJECTING = [name for name, endpoint in ENDPOINTS.items() if endpoint.can_reject]
REFUSED: list[dict[str, Any]] = [
    {"status": "fail", "action": "reject"},
    {"action": "reject"},
    {"status": None, "action": "reject", "result": None},
    {"status": "error", "action": "reject", "result": {}},
    {"action": "reject", "result": {"message": "no"}},
    {"status": "fail", "action": "reject", "result": ["no"]},
    {"status": "fail", "action": "reject", "result": ROOM},
    {"status": "success", "action": "reject", "result": {"foo": "bar"}},
    {"status": "success", "action": "reject", "result": "no"},
    {"status": "success", "action": "reject"},
]


@pytest.mark.parametrize("status", [404, 409, 410, 451])
@pytest.mark.parametrize("name", REJECTING)
@pytest.mark.parametrize("succeeds", ["success", "fail"])
def test_a_reject_with_an_error_is_no_abstention(status: int, name: str, succeeds: str) -> None:
    for action in ("reject", "redirect"):
        with pytest.raises(InvalidReplyError, match="not settled"):
            heard(name, {"status": succeeds, "action": action}, status)
    assert heard(name, {"status": succeeds, "action": "continue"}, status).decision is None


@pytest.mark.parametrize("name", REJECTING)
@pytest.mark.parametrize("body", REFUSED)
def test_a_reject_refuses_whatever_stands_next_to_it(name: str, body: dict[str, Any]) -> None:
    assert isinstance(heard(name, body).decision, Reject)
    asked = SentRequest(name, {})
    judged = judge(asked, Reply(0.1, 200, JSON, json.dumps(body).encode()), 5.0)
    assert judged.reading is not None
    assert judged.reading.disposition is Disposition.REJECT
    if body.get("status") != "success":
        assert any("Infinity refuses the call" in finding.text for finding in judged.findings)


@pytest.mark.parametrize(
    "result",
    [{"remote_display_name": None}, {"call_tag": "x", "reject_reason": "no"}, {"spotlight": "x"}],
)
def test_overrides_next_to_a_reject_admit_no_participant(result: dict[str, Any]) -> None:
    body = success(action="reject", result=result)
    assert isinstance(heard("participant_properties", body).decision, Reject)


@pytest.mark.parametrize("name", [name for name in ENDPOINTS if name not in REJECTING])
def test_where_no_reject_is_known_a_failure_is_no_decision(name: str) -> None:
    assert heard(name, {"status": "fail", "action": "reject"}).decision is None


@pytest.mark.parametrize("action", [None, "allow", "Reject", "", 7, ["reject"]])
@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("service_configuration", ROOM),
        ("participant_properties", {"bypass_lock": True}),
        ("registration_alias", {"username": "a", "password": "b"}),
    ],
)
def test_an_action_next_to_a_valid_result_is_ignored(
    name: str, result: dict[str, Any], action: object
) -> None:
    found = heard(name, success(action=action, result=result)).decision
    assert found is not None
    assert found.set_fields() == result


def test_a_text_boolean_is_repaired_and_the_decision_warns_of_it() -> None:
    guest = {"local_alias": "a", "remote_alias": "b", "protocol": "sip", "role": "guest"}
    invited = [{**guest, "streaming": "false"}]
    written = {**ROOM, "locked": "True", "automatic_participants": invited}
    found = heard("service_configuration", success(result=written))
    assert found.decision is not None
    assert found.decision.set_fields() == {
        **ROOM,
        "locked": True,
        "automatic_participants": [{**guest, "streaming": False}],
    }
    told = (
        "locked: write true for 'True' [reported]",
        "automatic_participants[0].streaming: write false for 'false' [reported]",
    )
    assert found.repairs == told
    assert found.decision.warnings == told


def test_a_phone_book_that_shows_nothing_stays_one() -> None:
    found = heard("directory_information", success(result=[], ignore_local=True)).decision
    assert found is not None
    assert found.set_fields() == {"entries": [], "ignore_local": True}


@pytest.mark.parametrize("name", ENDPOINTS)
@pytest.mark.parametrize("body", [{}, {"status": "fail"}, {"status": 1}, {"status": "SUCCESS"}])
def test_no_success_and_no_result_is_no_decision(name: str, body: dict[str, Any]) -> None:
    assert heard(name, body).decision is None


def test_a_result_that_is_lost_is_no_abstention() -> None:
    with pytest.raises(InvalidReplyError, match="not exactly 'success'"):
        heard("service_configuration", {"status": "SUCCESS", "result": ROOM})


def test_credentials_that_are_both_empty_are_refused() -> None:
    result = {"username": "", "password": ""}
    with pytest.raises(InvalidReplyError, match="any device could register"):
        heard("registration_alias", success(result=result))
    found = heard("registration_alias", success(result={"username": "a", "password": "b"}))
    assert isinstance(found.decision, Credentials)


def test_a_reject_keeps_its_reason_for_the_participant_and_no_other() -> None:
    said = {"reject_reason": "closed"}
    found = heard("participant_properties", success(action="reject", result=said))
    assert isinstance(found.decision, Reject)
    assert found.decision.set_fields() == said
    found = heard("service_configuration", success(action="reject", result={"x": 1}))
    assert isinstance(found.decision, Reject)
    assert found.decision.set_fields() == {}


def test_the_text_of_a_refusal_holds_no_pin() -> None:
    pin = secret_canaries.PIN * 3
    with pytest.raises(InvalidReplyError) as refused:
        heard("service_configuration", success(result={**ROOM, "pin": pin}))
    assert "pin" in str(refused.value)
    assert secret_canaries.find_canaries(str(refused.value)) == []


@pytest.mark.parametrize(
    "told", ["x", secret_canaries.PIN, 7, None, "01a21043-6653-71f5-82a5-3ad9707745b"]
)
def test_only_the_id_of_a_call_is_passed_on(told: object) -> None:
    found = heard("service_configuration", success(result=ROOM, decision_id=told))
    assert found.decision is not None
    assert found.decision.reason == "answered by theirs"
    assert found.decision_id == ""


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip"])
def test_an_unrequested_coding_is_not_decoded(coding: str) -> None:
    headers = {**JSON, "Content-Encoding": coding}
    request = make_request("service_configuration")
    with pytest.raises(InvalidReplyError, match="was not requested"):
        read("service_configuration", request, Reply(0.1, 200, headers, b"{}"))


@pytest.mark.parametrize("coding", ["", "utf-8", "UTF-8", "none", "identity, utf-8"])
def test_what_is_no_coding_changes_no_body_and_is_reported(coding: str) -> None:
    reply = Reply(
        0.1, 200, {**JSON, "Content-Encoding": coding}, json.dumps(success(result=ROOM)).encode()
    )
    request = make_request("service_configuration")
    assert read("service_configuration", request, reply).decision is not None
    judged = judge(SentRequest("service_configuration", {}), reply, 5.0)
    assert [f.level for f in judged.findings if f.topic is Topic.FRAMING] == [Level.WARNING]
    assert not judged.broken


def test_json_is_read_up_to_its_limit() -> None:
    body = json.dumps(success(result=ROOM)).encode()
    assert heard("service_configuration", body.ljust(MAX_JSON)).decision is not None
    with pytest.raises(InvalidReplyError, match="longer"):
        heard("service_configuration", body.ljust(MAX_JSON + 1))


def test_the_conformance_test_warns_of_what_is_too_long_to_relay() -> None:
    body = json.dumps(success(result=ROOM)).encode()
    for size, texts in ((MAX_JSON, []), (MAX_JSON + 1, ["longer than 131072 bytes"])):
        reply = Reply(0.1, 200, JSON, body.ljust(size))
        judged = judge(SentRequest("service_configuration", {"local_alias": "a"}), reply, 5.0)
        assert not judged.broken
        assert [f.text[12:36] for f in judged.findings] == texts


@given(st.sampled_from(sorted(ENDPOINTS)), st.integers(200, 599), st.binary(max_size=60))
def test_whatever_comes_is_a_decision_none_or_unusable(name: str, status: int, body: bytes) -> None:
    with suppress(InvalidReplyError):
        assert heard(name, body, status).decision is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(
    st.sampled_from(sorted(ENDPOINTS)),
    st.fixed_dictionaries(
        {"status": st.sampled_from(["success", "fail", None])},
        optional={
            "action": st.sampled_from(["continue", "reject", "redirect", "allow", 1]),
            "result": _json | st.just(ROOM) | st.just({"location": "Oslo"}),
            "ignore_local": st.booleans() | st.none(),
        },
    ),
)
@example("service_configuration", {"status": "success", "action": "redirect", "result": ROOM})
def test_what_was_read_is_sent_by_our_own_endpoint_as_it_came(
    name: str, envelope: dict[str, Any]
) -> None:
    try:
        found = heard(name, envelope)
    except InvalidReplyError:
        return
    if found.decision is None or isinstance(found.decision, Continue):
        return
    sent = ENDPOINTS[name].envelope(found.decision)
    # Next to a service the action has no meaning, and a reject would be a contradiction.
    redirects = name == "service_configuration" and envelope.get("result") != ROOM
    known = ("reject", "redirect") if redirects else ("reject",)
    if ENDPOINTS[name].can_reject and envelope.get("action") in known:
        assert sent["action"] == envelope["action"]
    result = json.loads(ENDPOINTS[name].reply(found.decision, "", "").body).get("result")
    if isinstance(found.decision, Reject):
        assert envelope["action"] == "reject"
        assert not result or result["reject_reason"] == envelope["result"]["reject_reason"]
        return
    assert envelope["status"] == "success"
    if result:
        assert result.items() >= envelope["result"].items() if isinstance(result, dict) else result
