"""The behaviour that the shipped configuration promises, over HTTP."""

from urllib.parse import quote_plus

import pytest

from tests.support import live_server, wire

ENGINEERING = ("Engineering Room", "engineering-room")
SALES = ("Sales Room", "sales-room")


def service(alias: str, **also: str) -> str:
    given = {"call_direction": "dial_in", "local_alias": alias, **also}
    return wire.SERVICE + "?" + "&".join(f"{k}={quote_plus(v)}" for k, v in given.items())


@pytest.mark.parametrize(
    ("alias", "room"),
    [
        ("engineering", ENGINEERING),
        ("  SIP:Engineering@EXAMPLE.com:5061;transport=tls ", ENGINEERING),
        ("h323:engineering@example.com", ENGINEERING),
        ("tel:engineering", ENGINEERING),
        ("sip:sales@example.com", SALES),
    ],
)
def test_every_spelling_of_an_alias_leads_to_its_room(
    running_server: live_server.Running, alias: str, room: tuple[str, str]
) -> None:
    reply = running_server.ask(service(alias))
    assert (reply.status, reply.action, reply.json["decided_by"]) == (200, "continue", "rooms")
    name, tag = room
    assert reply.result == {"name": name, "service_tag": tag, "service_type": "conference"}


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("sip:engineering@elsewhere.example", "engineering@elsewhere.example"),
        ("tel:+47 12-34", "+471234"),
        ("fête@example.com", "fête@example.com"),
    ],
)
def test_any_other_alias_gets_a_default_room(
    running_server: live_server.Running, alias: str, name: str
) -> None:
    assert running_server.ask(service(alias)).result["name"] == f"Default Room - {name}"


@pytest.mark.parametrize(
    "target",
    [
        service("engineering", call_direction="non_dial"),
        service("marketing", call_direction="dial_out"),
        service("sip:"),
        wire.SERVICE,
        service("x" * 300),
    ],
)
def test_no_room_is_made_up_for_an_alias_without_one(
    running_server: live_server.Running, target: str
) -> None:
    reply = running_server.ask(target)
    assert (reply.status, reply.action, reply.result) == (200, "continue", None)
    assert reply.json["decided_by"] == "default"


def test_a_configured_room_may_dial_out(running_server: live_server.Running) -> None:
    target = service("engineering", call_direction="dial_out", service_name="Engineering Room")
    assert running_server.ask(target).result["name"] == "Engineering Room"


@pytest.mark.parametrize(
    ("alias", "action"),
    [
        ("SIP%3AAlice%40EXAMPLE.COM", "continue"),
        ("sips:alice@trusted.net;transport=tls", "continue"),
        ("h323:bob@trusted.net", "continue"),
        ("alice@sub.example.com", "reject"),
        ("alice@example.com.evil.example", "reject"),
        ("alice@example.com@evil.example", "reject"),
        ("h323%3A%2B4712345678", "reject"),
    ],
)
def test_devices_of_the_domains_may_register_and_no_others(
    running_server: live_server.Running, alias: str, action: str
) -> None:
    reply = running_server.ask(wire.REGISTRATION + alias)
    assert (reply.status, reply.action, reply.result) == (200, action, {})
    assert reply.json["decided_by"] == "domains"


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        (wire.PARTICIPANT, 200, {"status": "success", "action": "continue"}),
        (wire.LOCATION, 404, {"status": "fail", "action": "continue"}),
        (wire.AVATAR + "alice?width=1&height=1", 404, {"status": "fail", "action": "continue"}),
        (wire.DIRECTORY + "?q=a&limit=10", 200, {"status": "success", "result": []}),
    ],
)
def test_the_default_answers_where_no_plugin_decides(
    running_server: live_server.Running, target: str, status: int, body: dict[str, object]
) -> None:
    reply = running_server.ask(target)
    own = {"decision_id": reply.json["decision_id"], "decided_by": "default"}
    assert reply.status == status
    assert reply.json == {**body, **own}
