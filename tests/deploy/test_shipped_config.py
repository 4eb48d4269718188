"""The behaviour that the shipped configuration promises, over HTTP."""

from pathlib import Path
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
        ("sip:engineering@example.com", ENGINEERING),
        ("engineering", ENGINEERING),
        ("engineering@example.com", ENGINEERING),
        ("sips:engineering@example.com", ENGINEERING),
        ("sip:engineering@example.com:5060", ENGINEERING),
        ("sip:engineering@example.com:5061;transport=tls", ENGINEERING),
        ("sip:engineering@example.com;transport=tcp", ENGINEERING),
        ("SIP:Engineering@EXAMPLE.com", ENGINEERING),
        ("  sip:engineering@example.com ", ENGINEERING),
        ("h323:engineering@example.com", ENGINEERING),
        ("h323:engineering", ENGINEERING),
        ("tel:engineering", ENGINEERING),
        ("sip:engineering", ENGINEERING),
        ("sip:sales@example.com", SALES),
        ("sales", SALES),
        ("SALES", SALES),
    ],
)
def test_every_spelling_of_an_alias_leads_to_its_room(
    running_server: live_server.Running, alias: str, room: tuple[str, str]
) -> None:
    reply = running_server.ask(service(alias))
    assert reply.status == 200
    assert reply.action == "continue"
    assert reply.result == {
        "name": room[0],
        "service_tag": room[1],
        "service_type": "conference",
    }
    assert reply.json["decided_by"] == "rooms"


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("marketing", "marketing"),
        ("sip:marketing@example.com", "marketing@example.com"),
        ("sip:engineering@elsewhere.example", "engineering@elsewhere.example"),
        ("engineering2", "engineering2"),
        ("tel:+47 12-34", "+471234"),
        ("fête@example.com", "fête@example.com"),
    ],
)
def test_any_other_alias_gets_a_default_room(
    running_server: live_server.Running, alias: str, name: str
) -> None:
    reply = running_server.ask(service(alias))
    assert reply.result["name"] == f"Default Room - {name}"
    assert reply.result["service_type"] == "conference"


@pytest.mark.parametrize(
    "target",
    [
        service("marketing", call_direction="non_dial"),
        service("engineering", call_direction="non_dial"),
        service("marketing", call_direction="dial_out"),
        service(""),
        service("sip:"),
        service("   "),
        wire.SERVICE + "?call_direction=dial_in",
        wire.SERVICE,
        service("x" * 300),
    ],
)
def test_no_room_is_made_up_for_an_alias_without_one(
    running_server: live_server.Running, target: str
) -> None:
    reply = running_server.ask(target)
    assert reply.status == 200
    assert reply.action == "continue"
    assert reply.result is None
    assert reply.json["decided_by"] == "default"


def test_a_configured_room_may_dial_out(running_server: live_server.Running) -> None:
    target = service("engineering", call_direction="dial_out", service_name="Engineering Room")
    assert running_server.ask(target).result["name"] == "Engineering Room"


@pytest.mark.parametrize(
    "alias",
    [
        "alice@example.com",
        "alice%40example.com",
        "sip:alice@example.com",
        "SIP%3AAlice%40EXAMPLE.COM",
        "sips:alice@trusted.net;transport=tls",
        "bob@trusted.net",
        "h323:bob@trusted.net",
        "alice@example.com.",
    ],
)
def test_devices_of_the_domains_may_register(
    running_server: live_server.Running, alias: str
) -> None:
    reply = running_server.ask(wire.REGISTRATION + alias)
    assert (reply.status, reply.action, reply.result) == (200, "continue", {})


@pytest.mark.parametrize(
    "alias",
    [
        "alice@example.org",
        "alice@sub.example.com",
        "alice@notexample.com",
        "alice@example.com.evil.example",
        "alice",
        "example.com",
        "alice@example.com@evil.example",
        "h323%3A%2B4712345678",
    ],
)
def test_all_other_devices_are_refused(running_server: live_server.Running, alias: str) -> None:
    reply = running_server.ask(wire.REGISTRATION + alias)
    assert (reply.status, reply.action, reply.result) == (200, "reject", {})
    assert reply.json["decided_by"] == "domains"


SUBDOMAINS = """
[plugins.domains]
[plugins.domains.settings]
allowed = ["*.example.com"]
"""


def test_a_star_means_what_is_below_the_domain_and_not_the_domain(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(SUBDOMAINS)
    expected = {
        "a@x.example.com": "continue",
        "a@y.x.example.com": "continue",
        "a@example.com": "reject",
        "a@xexample.com": "reject",
        "a@x.example.com.evil.example": "reject",
    }
    with live_server.running(config) as server:
        found = {alias: server.ask(wire.REGISTRATION + alias).action for alias in expected}
    assert found == expected


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
