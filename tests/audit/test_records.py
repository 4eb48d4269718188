"""Audit records: a line for each answered call, complete and without secrets."""

import errno
import os
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pexpolicy import Conference, Continue, Reject
from pexpolicy.audit.records import as_json
from tests.support import wire
from tests.support.fake_plugins import Serve, always, open_audit, plugin, policy, raises, serve


def room(**fields: Any) -> Conference:
    return Conference(name="Room", service_tag="tag", **fields)


async def test_a_line_says_who_asked_who_decided_and_what_was_sent(serving: Serve) -> None:
    classes = {
        "first": plugin(service_configuration=always(None)),
        "second": plugin(service_configuration=always(room(reason="it is known"))),
    }
    began = datetime.now(UTC)
    async with serving(classes) as server:
        reply = await server.ask(
            wire.SERVICE + "?local_alias=sip:a%40b&location=Oslo&remote_display_name="
        )
        (line,) = server.lines()
    stamp = datetime.fromisoformat(line.pop("timestamp"))
    assert stamp.utcoffset() == timedelta(0)
    assert began <= stamp <= datetime.now(UTC)
    steps = line.pop("steps")
    assert [(s["plugin"], s["outcome"]) for s in steps] == [
        ("first", "abstained"),
        ("second", "decided"),
    ]
    assert all(0 <= step["ms"] < 1000 for step in steps)
    assert 0 < line.pop("ms") < 1000
    assert uuid.UUID(line["decision_id"]).version == 7
    assert len(line.pop("boot_id")) == 16
    assert len(line.pop("hash")) == 64
    assert line.pop("instance")
    assert line.pop("seq") == 1
    assert len(line.pop("policy_hash")) == 16
    assert line == {
        "event": "decision",
        "decision_id": reply.json["decision_id"],
        "endpoint": "service_configuration",
        "peer": "127.0.0.1",
        "request": {"local_alias": "sip:a@b", "location": "Oslo"},
        "decided_by": "second",
        "reason": "it is known",
        "action": "continue",
        "status": 200,
        "sent": {"name": "Room", "service_tag": "tag", "service_type": "conference"},
    }


@pytest.mark.parametrize("endpoint", list(wire.TARGETS))
async def test_each_endpoint_leaves_one_line_for_each_call(serving: Serve, endpoint: str) -> None:
    async with serving({}) as server:
        for count in range(1, 4):
            await server.ask(wire.TARGETS[endpoint])
            assert len(server.lines()) == count
        assert {line["endpoint"] for line in server.lines()} == {endpoint}


@pytest.mark.parametrize(
    ("target", "request_facts"),
    [
        (wire.REGISTRATION + "sip%3Aa%2Bb%40example.com", {"alias": "sip:a+b@example.com"}),
        (
            wire.PARTICIPANT + "?idp_attribute_g=a&idp_attribute_g=b&idp_attribute_g=c",
            {"idp_attribute_g": ["a", "b", "c"]},
        ),
    ],
)
async def test_the_line_has_the_alias_of_the_path_and_all_values_of_a_repeated_attribute(
    serving: Serve, target: str, request_facts: dict[str, Any]
) -> None:
    async with serving({}) as server:
        await server.ask(target)
        assert server.lines()[-1]["request"] == request_facts


async def test_warnings_on_a_decision_stand_in_the_line(serving: Serve) -> None:
    decision = room(pin="1234", guest_pin="1234", allow_guests=True)
    async with serving({"toy": plugin(service_configuration=always(decision))}) as server:
        await server.ask(wire.SERVICE)
        assert any("must differ" in warning for warning in server.lines()[-1]["warnings"])


@pytest.mark.parametrize("raw", [b"%FF%FE", b"%ED%B3%BF", b"a%00b", b"%0A%0D%1B[2J"])
@pytest.mark.parametrize("place", ["path", "query"])
async def test_text_that_is_no_text_leaves_a_line_of_json(
    serving: Serve, raw: bytes, place: str
) -> None:
    target = wire.REGISTRATION.encode() + raw
    if place == "query":
        target = wire.SERVICE.encode() + b"?local_alias=" + raw
    async with serving({}) as server:
        assert (await server.ask(target)).status == 200
        assert len(server.lines()) == 1
        assert len(server.audit.read_bytes().splitlines()) == 1


@pytest.mark.parametrize("text", ["a\udcffb", "\ud800", "a\u2028b\nc"])
async def test_broken_text_from_a_plugin_leaves_a_line_and_a_reply(
    serving: Serve, text: str
) -> None:
    decisions = {
        "service_configuration": Reject(reason=text),
        "participant_properties": {"call_tag": text},
        "media_location": {"location": text},
    }
    classes = {
        "toy": plugin(**{name: always(decision) for name, decision in decisions.items()}),
        "sad": plugin(registration_alias=raises(ValueError(text))),
    }
    async with serving(classes) as server:
        for name in (*decisions, "registration_alias"):
            reply = await server.ask(wire.TARGETS[name])
            assert reply.status in (200, 404)
            assert reply.json
        assert len(server.lines()) == 4


def test_lines_are_added_to_a_file_that_exists(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text("earlier\n")
    audit = open_audit(path)
    audit.refused("unauthorised", 401, None, "")
    audit.close()
    assert path.read_text().startswith("earlier\n{")


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ENOENT)):
        open_audit(tmp_path / "missing" / "audit.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
async def test_a_full_disk_costs_lines_and_no_calls(capfd: pytest.CaptureFixture[str]) -> None:
    async with serve(policy({}), Path("/dev/full")) as server:
        for _ in range(3):
            assert (await server.ask(wire.SERVICE)).status == 200
    assert capfd.readouterr().err.count("the audit cannot be written") == 1


@pytest.mark.parametrize("endpoint", list(wire.TARGETS))
@pytest.mark.parametrize("answer", [None, Continue(), Reject(reason="no"), "broken"])
async def test_sent_is_the_result_of_the_reply(
    serving: Serve, endpoint: str, answer: object
) -> None:
    hook = raises(ValueError()) if answer == "broken" else always(answer)
    classes = {"toy": plugin(**{endpoint: hook})}
    async with serving(classes, {"toy": {"on_error": "reject"}}) as server:
        reply = await server.ask(wire.TARGETS[endpoint])
        assert server.lines()[-1]["sent"] == reply.json.get("result")


async def test_control_characters_are_escaped_in_the_file(serving: Serve) -> None:
    text = "a\x9b31m\u202eb\u2028\N{LATIN SMALL LETTER AE}"
    async with serving({}) as server:
        await server.ask(f"{wire.SERVICE}?local_alias={quote(text)}")
        (line,) = server.lines()
        written = server.audit.read_text()
    assert line["request"]["local_alias"] == text
    assert not set("\x9b\u202e\u2028") & set(written)
    assert "\N{LATIN SMALL LETTER AE}" in written


def test_the_delete_character_is_escaped_in_a_line_of_ascii() -> None:
    assert as_json({"alias": "a\x7fb"}) == b'{"alias":"a\\u007fb"}'


def test_a_value_that_json_cannot_hold_costs_no_line() -> None:
    line = {"alias": "a", "annotations": {"p": {"cost": object(), "n": 1, "bad": "\ud800"}}}
    assert as_json(line) == (
        b'{"alias":"a","annotations":{"p":{"cost":"(object)","n":1,"bad":"?"}}}'
    )
